"""What is looked for. A snapshot's row answers what it can; the rest is asked of the message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from atlas_async.errors import UsageError
from atlas_async.model.message import sender_address
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import JsonObject
from atlas_async.search.mail import BODY, RECIPIENT, REPLY_TO, SENDER, Fields, Texts, texts_of
from atlas_async.search.words import Phrase

MOST_TEXTS: Final = 64
"""Texts of one query."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a message must have. All of it must hold together; sizes are bytes.

    Each text is words that must follow one another, the last of which may be a beginning; in double
    quotes it too must be whole.

    Args:
        words: In subject, names and addresses, names of attachments, or body.
        sender: In the sender's name or address; a text with ``@``: in the address.
        recipient: In a name or address of To, Cc or Bcc.
        subject: In the subject.
        body: In the body's text.
        attachment: In an attachment's name.
        larger: At least so large with its attachments.
        smaller: Smaller than that.
        has_attachment: With an attachment that is not part of the body.
        limit: At most so many, the newest.
    """

    words: tuple[str, ...] = ()
    sender: tuple[str, ...] = ()
    recipient: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    attachment: tuple[str, ...] = ()
    larger: int | None = None
    smaller: int | None = None
    has_attachment: bool = False
    limit: int | None = None


class Place(Enum):
    """Where a text is looked for."""

    ANYWHERE = auto()
    SENDER = auto()
    RECIPIENT = auto()
    SUBJECT = auto()
    BODY = auto()
    ATTACHMENT = auto()


INDEXED: Final = {
    Place.ANYWHERE: (BODY, SENDER, RECIPIENT, REPLY_TO),
    Place.SENDER: (SENDER,),
    Place.RECIPIENT: (RECIPIENT,),
    Place.SUBJECT: (),
    Place.BODY: (BODY,),
    Place.ATTACHMENT: (),
}
"""Under which tags the index has the texts of a place; none where rows tell all of it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A text and where it must stand. ``address`` means the sender's address alone."""

    place: Place
    phrase: Phrase
    address: bool = False

    @property
    def tags(self) -> tuple[str, ...]:
        """The index's tags for it."""
        return INDEXED[self.place]

    def holds(self, texts: Texts) -> bool:
        """Tell whether one of the texts has it."""
        return any(self.phrase.is_in(words) for words in texts)


class Conditions:
    """A query, ready to be asked of many messages.

    Raises:
        UsageError: A text has nothing to look for, there are too many, or a number excludes all.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        given = (
            (Place.ANYWHERE, query.words),
            (Place.SENDER, query.sender),
            (Place.RECIPIENT, query.recipient),
            (Place.SUBJECT, query.subject),
            (Place.BODY, query.body),
            (Place.ATTACHMENT, query.attachment),
        )
        self.texts = tuple(
            Condition(place, Phrase.parse(text), place is Place.SENDER and "@" in text)
            for place, texts in given
            for text in texts
        )
        if len(self.texts) > MOST_TEXTS:
            msg = f"a query has at most {MOST_TEXTS} texts"
            raise UsageError(msg)
        if query.limit is not None and query.limit < 1:
            raise UsageError("a limit is at least 1")
        low, high = query.larger, query.smaller
        if min(low or 0, high or 0) < 0 or (high is not None and high <= (low or 0)):
            msg = "no message has such a size"
            raise UsageError(msg, hint="sizes are at least 0, and --smaller is above --larger")

    @property
    def needs_messages(self) -> bool:
        """Whether there is a text that rows alone cannot answer."""
        return any(condition.tags for condition in self.texts)

    def open_for(self, record: MessageRecord) -> tuple[int, ...] | None:
        """Return the numbers of the texts that the row leaves open; None when it says no.

        What the row has no room for is open: recipients, bodies, names of senders. So is what a
        row of Atlas's lacks.
        """
        if not self._fits(record):
            return None
        subject = texts_of(record["subject"])
        names = texts_of(*(item["name"] for item in record.get("attachments", ())))
        sender = texts_of(record["sender"])
        left: list[int] = []
        for number, condition in enumerate(self.texts):
            answer = _by_row(condition, subject, names, sender)
            if answer is False:
                return None
            if answer is None:
                left.append(number)
        return tuple(left)

    def _fits(self, record: MessageRecord) -> bool:
        query = self._query
        if query.has_attachment and not _has_attachment(record):
            return False
        if query.larger is None and query.smaller is None:
            return True
        size = size_of(record)
        return (query.larger or 0) <= size and (query.smaller is None or size < query.smaller)

    def hold(self, numbers: tuple[int, ...], resource: JsonObject) -> bool:
        """Tell whether a message has the texts that its row left open."""
        fields = Fields.of(resource)
        return all(self._holds(self.texts[number], fields, resource) for number in numbers)

    def _holds(self, condition: Condition, fields: Fields, resource: JsonObject) -> bool:
        match condition.place:
            case Place.SENDER if condition.address:
                return condition.holds(texts_of(sender_address(resource)))
            case Place.SENDER:
                return condition.holds(fields.senders)
            case Place.RECIPIENT:
                return condition.holds(fields.recipients)
            case Place.BODY:
                return condition.holds(fields.body)
            case _:
                people = fields.senders + fields.recipients + fields.reply_to
                return condition.holds(people) or condition.holds(fields.body)


def _by_row(condition: Condition, subject: Texts, names: Texts, sender: Texts) -> bool | None:
    """Return what a row says of a text: yes, no, or None where only the message knows."""
    match condition.place:
        case Place.SUBJECT:
            return condition.holds(subject)
        case Place.ATTACHMENT:
            return condition.holds(names)
        case Place.SENDER:
            if condition.holds(sender):
                return True
            return False if condition.address and sender else None
        case Place.ANYWHERE:
            found = condition.holds(subject) or condition.holds(names) or condition.holds(sender)
            return True if found else None
        case _:
            return None


def size_of(record: MessageRecord) -> int:
    """Return the bytes of a message with its attachments."""
    attachments = record.get("attachments", ())
    return record["size_bytes"] + sum(
        item["content_bytes"] or item["size_bytes"] for item in attachments
    )


def _has_attachment(record: MessageRecord) -> bool:
    return record["has_attachments"] or any(
        not item["is_inline"] for item in record.get("attachments", ())
    )
