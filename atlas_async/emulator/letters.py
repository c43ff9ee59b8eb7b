"""Generated messages: everything about message ``index`` of a folder follows from the seed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from atlas_async.emulator.dice import Dice
from atlas_async.emulator.enclosures import Enclosures
from atlas_async.emulator.parts import Part, graph_time
from atlas_async.emulator.people import Person
from atlas_async.emulator.text import Phrasebook
from atlas_async.emulator.tree import INBOX
from atlas_async.emulator.vocabulary import CATEGORIES, FIRST_NAMES, LAST_NAMES

NEWEST: Final = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
_STEP: Final = 1_511
"""Seconds between neighbours; a million messages reach back 48 years, which Exchange allows."""
_INDEX_BITS: Final = 40
_CREATED: Final = 1 << 62
_BODY_TOP: Final = 2_000_000
_KEY_DIGITS: Final = 16


def generated_key(folder: int, index: int) -> int:
    """Return the key of message ``index`` generated for ``folder``."""
    return (folder << _INDEX_BITS) | index


def created_key(serial: int) -> int:
    """Return the key of the ``serial``-th message that a client created."""
    return _CREATED | serial


def is_generated(key: int) -> bool:
    """Whether the key belongs to the generated corpus."""
    return key < _CREATED


def origin_of(key: int) -> tuple[int, int]:
    """Return (folder, index) of a generated key."""
    return key >> _INDEX_BITS, key & ((1 << _INDEX_BITS) - 1)


def received_at(index: int) -> datetime:
    """Return when message ``index`` of any folder arrived; greater indexes are older."""
    return NEWEST - timedelta(seconds=index * _STEP)


def index_after(moment: datetime) -> int:
    """Return how many generated indexes lie strictly after ``moment``."""
    seconds = (NEWEST - moment).total_seconds()
    return max(0, -int(-seconds // _STEP)) if seconds > 0 else 0


@dataclass(frozen=True, slots=True)
class LetterShape:
    """Sizes and shares that the corpus options fix for messages."""

    body_bytes: int
    body_median: float
    body_sigma: float
    odd_share: float
    text_share: float
    unread_every: int


class Letters:
    """Generates the messages of one mailbox.

    Args:
        seed: The mailbox's own seed.
        owner: Whose mailbox it is.
        phrases: The shared pool of text.
        shape: Sizes and shares.
        enclosures: Generates the attachments.
    """

    def __init__(
        self,
        seed: int,
        owner: Person,
        phrases: Phrasebook,
        shape: LetterShape,
        enclosures: Enclosures,
    ) -> None:
        self._seed = seed
        self._owner = owner
        self._phrases = phrases
        self._shape = shape
        self._enclosures = enclosures

    def is_read(self, key: int) -> bool:
        """Whether the message is read; regular, so that unread items can be counted."""
        return origin_of(key)[1] % self._shape.unread_every != 0

    def unread_among(self, count: int) -> int:
        """Return how many of the first ``count`` messages of a folder are unread."""
        return -(-count // self._shape.unread_every)

    def parts(self, key: int) -> tuple[Part, ...]:
        """Return the generated attachments."""
        folder, index = origin_of(key)
        return self._enclosures.parts(key, received_at(index), first=folder == INBOX, index=index)

    def internet_message_id(self, key: int) -> str:
        """Return the Message-ID, from which the key can be read back."""
        return f"<{self._seed:016x}.{key:016x}@mail.{self._owner.upn.rpartition('@')[2]}>"

    def key_of(self, internet_message_id: str) -> int | None:
        """Return the key that the Message-ID names, or None for a foreign one."""
        start, dot, rest = internet_message_id.strip("<>").partition(".")
        digits = rest.partition("@")[0]
        if not dot or start != f"{self._seed:016x}" or len(digits) != _KEY_DIGITS:
            return None
        key = int(digits, 16) if all(c in "0123456789abcdef" for c in digits) else -1
        return key if key >= 0 and self.internet_message_id(key) == internet_message_id else None

    def resource(self, key: int, *, with_body: bool) -> dict[str, Any]:
        """Return the message's properties that do not depend on where it is.

        ``with_body`` False leaves out ``body``, which is most of the work.
        """
        folder, index = origin_of(key)
        dice = Dice(self._seed, folder, index)
        parts = self.parts(key)
        received = received_at(index)
        sender = _contact(dice)
        me = _recipient(self._owner.display_name, self._owner.mail or self._owner.upn)
        sent = folder in _OUTGOING
        flagged = dice.chance(0.05)
        message: dict[str, Any] = {
            "createdDateTime": graph_time(received),
            "lastModifiedDateTime": graph_time(received + timedelta(seconds=dice.below(600))),
            "categories": [dice.pick(CATEGORIES)] if dice.chance(0.08) else [],
            "receivedDateTime": graph_time(received),
            "sentDateTime": graph_time(received - timedelta(seconds=1 + dice.below(20))),
            "hasAttachments": any(part.counts_as_attachment() for part in parts),
            "internetMessageId": self.internet_message_id(key),
            "subject": self._phrases.subject(dice, odd_share=self._shape.odd_share),
            "bodyPreview": self._phrases.preview(dice),
            "importance": "high" if dice.chance(0.06) else "normal",
            "conversationId": f"AAQkA{uuid.UUID(int=(dice.word() << 64) | dice.word()).hex}AQA=",
            "conversationIndex": "AQHa" + f"{dice.word():016x}",
            "isDeliveryReceiptRequested": None,
            "isReadReceiptRequested": False,
            "isRead": self.is_read(key),
            "isDraft": folder == _DRAFTS,
            "inferenceClassification": "other" if dice.chance(0.2) else "focused",
            "sender": me if sent else sender,
            "from": me if sent else sender,
            "toRecipients": [sender] if sent else [me],
            "ccRecipients": [_contact(dice) for _ in range(dice.below(3))],
            "bccRecipients": [_contact(dice)] if sent and dice.chance(0.1) else [],
            "replyTo": [_contact(dice)] if dice.chance(0.05) else [],
            "flag": _flag(received) if flagged else {"flagStatus": "notFlagged"},
        }
        if with_body:
            message["body"] = self._body(parts, dice)
        return message

    def _body(self, parts: tuple[Part, ...], dice: Dice) -> dict[str, str]:
        shape = self._shape
        size = shape.body_bytes or dice.log_normal(
            shape.body_median, shape.body_sigma, top=_BODY_TOP
        )
        images = "".join(
            f'<p><img src="cid:{part.content_id}" alt=""></p>\r\n'
            for part in parts
            if part.inline and part.content_id
        )
        if not images and dice.chance(shape.text_share):
            return {"contentType": "text", "content": self._phrases.preview(dice) + "\r\n"}
        return {"contentType": "html", "content": self._phrases.html_body(dice, size, extra=images)}


_DRAFTS: Final = 3
_OUTGOING: Final = frozenset({_DRAFTS, 4, 7})


def _recipient(name: str, address: str) -> dict[str, Any]:
    return {"emailAddress": {"name": name, "address": address}}


def _contact(dice: Dice) -> dict[str, Any]:
    number = dice.below(4096)
    name = f"{FIRST_NAMES[number % 16]} {LAST_NAMES[number // 16 % 16]}"
    return _recipient(name, f"contact{number}@partner{number % 7}.example")


def _flag(received: datetime) -> dict[str, Any]:
    start = received.strftime("%Y-%m-%dT00:00:00.0000000")
    return {
        "flagStatus": "flagged",
        "dueDateTime": {"dateTime": start, "timeZone": "UTC"},
        "startDateTime": {"dateTime": start, "timeZone": "UTC"},
    }
