"""The parts of a message that are searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from atlas_async.model.source import JsonObject
from atlas_async.search.plain_text import text_of_html
from atlas_async.search.words import terms_of, words_of

SENDER: Final = "f"
RECIPIENT: Final = "t"
REPLY_TO: Final = "r"
BODY: Final = "b"
"""A term of the index begins with one of these: where in a message it stands."""

MOST_TERMS: Final = 4_096
"""Terms of one message that the index holds. One with more is opened by every search."""

Texts = tuple[tuple[str, ...], ...]
"""Several texts, each as its words."""


@dataclass(frozen=True, slots=True)
class Fields:
    """A message's texts as words. Names and addresses are texts of their own."""

    senders: Texts
    recipients: Texts
    reply_to: Texts
    body: Texts

    @classmethod
    def of(cls, resource: JsonObject) -> Fields:
        """Take a message resource apart; what is not of the form that Graph gives is left out."""
        return cls(
            senders=_people(resource, "from", "sender"),
            recipients=_people(resource, "toRecipients", "ccRecipients", "bccRecipients"),
            reply_to=_people(resource, "replyTo"),
            body=_body(resource),
        )

    def terms(self) -> frozenset[str] | None:
        """Return what the index holds of the message; None when that is too much."""
        found: set[str] = set()
        for tag, texts in (
            (SENDER, self.senders),
            (RECIPIENT, self.recipients),
            (REPLY_TO, self.reply_to),
            (BODY, self.body),
        ):
            for text in texts:
                found.update(tag + term for term in set(terms_of(text)))
        return frozenset(found) if len(found) <= MOST_TERMS else None


def texts_of(*texts: str) -> Texts:
    """Return texts as their words, those without any left out."""
    return tuple(words for text in texts if (words := tuple(words_of(text))))


def _people(resource: JsonObject, *names: str) -> Texts:
    return texts_of(*dict.fromkeys(_named(resource, names)))


def _named(resource: JsonObject, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value: Any = resource.get(name)
        for person in value if isinstance(value, list) else (value,):
            inner = person.get("emailAddress") if isinstance(person, dict) else None
            if isinstance(inner, dict):
                yield from (text for text in inner.values() if isinstance(text, str))


def _body(resource: JsonObject) -> Texts:
    body: Any = resource.get("body")
    if not isinstance(body, dict) or not isinstance(content := body.get("content"), str):
        return ()
    is_html = str(body.get("contentType") or "").lower() == "html"
    return texts_of(text_of_html(content) if is_html else content)
