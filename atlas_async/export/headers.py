"""The headers of a message, from its resource: those it came with, or what Graph tells of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from atlas_async.export.addresses import address_tokens, people
from atlas_async.export.header_grammar import is_address_list, is_date, is_message_id
from atlas_async.export.words import (
    LONGEST_LINE,
    encoded_words,
    folded,
    is_plain,
    listed,
    one_line,
    phrase,
    tokens_of,
    unstructured,
    well_formed,
)
from atlas_async.model.source import JsonObject

_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
_TOKEN: Final = re.compile(r" *[^ ]+")
_LONGEST_WORD: Final = LONGEST_LINE - 80
_ID_DIGITS: Final = 32
_ORIGINAL: Final = "X-Original-"
"""Stands before the name of a header that is kept though no program may read it as one."""
_OWN: Final = frozenset({"mime-version", "status", "x-status", "x-mozilla-status", "x-uidl"})
"""Headers that are not taken over: the body is built anew, and mailbox files keep state in some."""
_ADDRESSES: Final = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-to", "resent-cc"}
)
_DATES: Final = frozenset({"date", "resent-date"})
_OLDEST_YEAR: Final = 1900
"""RFC 5322, section 3.3; Graph writes year 1 where there is no date."""
_PRIORITY: Final = {"high": "1", "low": "5"}
NOBODY: Final = "unknown-sender"


def message_headers(resource: JsonObject, *, fallback_id: str) -> bytes:
    """Return the headers of a message but for those that describe its body, with their line ends.

    Where the resource has ``internetMessageHeaders``, these come first in their order, and only
    what lacks among them is made from the other properties.

    Args:
        resource: The message.
        fallback_id: What names the message, for a message id where it has none that can be used.
    """
    parts: list[bytes] = []
    known: set[str] = set()
    for name, tokens in _known(resource):
        known.add(name.lower())
        parts.append(folded(name, tokens))
    for name, header in _derived(resource, fallback_id, known=bool(known)):
        if name.lower() not in known:
            parts.append(header)
    return b"".join(parts)


def _known(resource: JsonObject) -> Iterator[tuple[str, list[str]]]:
    """Yield names and tokens of the headers that a message came with.

    What every program reads alike is taken over; of what some cannot read, the text is kept beside.
    """
    headers = resource.get("internetMessageHeaders")
    seen: set[str] = set()
    for header in headers if isinstance(headers, list) else ():
        if not isinstance(header, dict):
            continue
        name, value = header.get("name"), header.get("value")
        if not (isinstance(name, str) and isinstance(value, str) and _NAME.fullmatch(name)):
            continue
        lower, clean = name.lower(), one_line(value)
        if lower in _OWN or lower.startswith("content-") or not clean:
            continue
        once = lower in _ADDRESSES or lower in {"subject", "date", "message-id"}
        if once and lower in seen:
            continue
        if lower == "message-id" and not is_message_id(clean):
            continue  # the resource has it too, and says what becomes of it
        if _is_readable(lower, clean):
            seen.add(lower)
            yield name, _taken_over(name, clean)
        else:
            yield f"{_ORIGINAL}{name}", _shown(f"{_ORIGINAL}{name}", clean)


def _is_readable(lower: str, value: str) -> bool:
    """Tell whether a header may stand as it came; of most there is nothing that could be wrong."""
    if lower in _DATES:
        return is_date(value)
    if lower in _ADDRESSES:
        # An address cannot be folded within, nor encoded as text can.
        fits = all(len(word) <= _LONGEST_WORD for word in value.split(" "))
        return fits and is_address_list(value, single=lower == "sender")
    return True


def _taken_over(name: str, value: str) -> list[str]:
    """Return the tokens of a header that came with the message. What is ASCII stays as it is.

    White space is put together where a line of nothing else would be too long.
    """
    if not value.isascii():
        return encoded_words(value, room=len(name) + 2)
    if max(map(len, _TOKEN.findall(value))) > _LONGEST_WORD:
        value = re.sub(" +", " ", value)
        if max(map(len, value.split(" "))) > _LONGEST_WORD:
            return encoded_words(value, room=len(name) + 2)
    first, *others = _TOKEN.findall(value)
    return [first, *(word[1:] for word in others)]


def _derived(resource: JsonObject, fallback_id: str, *, known: bool) -> Iterator[tuple[str, bytes]]:
    sender = resource.get("from") or resource.get("sender")
    yield "From", folded("From", address_tokens(sender, room=6) or [f"{NOBODY}:;"])
    if resource.get("sender") and list(people(resource["sender"])) != list(people(sender)):
        yield from _addressed("Sender", resource["sender"])
    yield from _addressed("Reply-To", resource.get("replyTo"))
    yield from _addressed("To", resource.get("toRecipients"))
    yield from _addressed("Cc", resource.get("ccRecipients"))
    yield from _addressed("Bcc", resource.get("bccRecipients"))
    yield "Subject", unstructured("Subject", _text(resource.get("subject")))
    sent, received = sent_at(resource), moment(resource.get("receivedDateTime"))
    yield "Date", folded("Date", format_datetime(sent or datetime.fromtimestamp(0, UTC)).split())
    yield "Message-ID", _message_id(resource, fallback_id)
    if not known and received and received != sent and not resource.get("isDraft"):
        yield "Delivery-Date", folded("Delivery-Date", format_datetime(received).split())
    yield from _marks(resource)


def _marks(resource: JsonObject) -> Iterator[tuple[str, bytes]]:
    """Yield what Outlook shows beside a message and mail has headers for."""
    importance = _text(resource.get("importance")).lower()
    if importance in _PRIORITY:
        yield "Importance", folded("Importance", [importance])
        yield "X-Priority", folded("X-Priority", [_PRIORITY[importance]])
    categories = resource.get("categories")
    names = [one_line(_text(c)) for c in categories] if isinstance(categories, list) else []
    if any(names):
        yield "Keywords", folded("Keywords", listed(phrase(name) for name in names if name))
    if resource.get("isDraft"):
        yield "X-Unsent", folded("X-Unsent", ["1"])


def _addressed(name: str, recipients: object) -> Iterator[tuple[str, bytes]]:
    tokens = address_tokens(recipients, room=len(name) + 2)
    if tokens:
        yield name, folded(name, tokens)


def _message_id(resource: JsonObject, fallback_id: str) -> bytes:
    given = one_line(_text(resource.get("internetMessageId")))
    if is_message_id(given) and len(given) <= LONGEST_LINE - 20:
        return folded("Message-ID", [given])
    digest = hashlib.sha256(fallback_id.encode("utf-8", "surrogatepass")).hexdigest()
    # So many digits tell messages apart, and the line has less than 78 characters.
    made = folded("Message-ID", [f"<{digest[:_ID_DIGITS]}@atlas-async.invalid>"])
    if not given:
        return made
    name = f"{_ORIGINAL}Message-ID"
    return made + folded(name, _shown(name, given))


def _shown(name: str, value: str) -> list[str]:
    """Return the tokens of a header whose value is text, whatever it was before."""
    room = len(name) + 2
    return tokens_of(value, room=room) if is_plain(value) else encoded_words(value, room=room)


def sent_at(resource: JsonObject) -> datetime | None:
    """Return when a message was sent, else received, made or changed; None where nothing tells."""
    names = ("sentDateTime", "receivedDateTime", "createdDateTime", "lastModifiedDateTime")
    return next((found for name in names if (found := moment(resource.get(name)))), None)


def received_at(resource: JsonObject) -> datetime | None:
    """Return when a message was received, else sent, made or changed."""
    return moment(resource.get("receivedDateTime")) or sent_at(resource)


def moment(value: object) -> datetime | None:
    """Return a time of Graph's, to the second, or None where it is none."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is None:
            return None
        whole = found.replace(microsecond=0)
        found = whole.replace(tzinfo=UTC) if whole.tzinfo is None else whole.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if found.year >= _OLDEST_YEAR else None


def _text(value: object) -> str:
    return well_formed(value) if isinstance(value, str) else ""
