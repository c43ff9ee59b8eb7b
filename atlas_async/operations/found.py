"""What a search for messages gives: matches, and a report of what was and was not searched."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from atlas_async.errors import AtlasError, IntegrityError
from atlas_async.model.record import MessageRecord
from atlas_async.search.query import size_of

SHOWN: Final = 1_000
"""Messages that could not be searched which a report lists; all are counted."""


class IndexMode(Enum):
    """What a search does with the index of words."""

    AUTO = auto()
    """It is used where rows do not suffice, and brought up to date where that pays."""
    NONE = auto()
    """It is neither read nor written: every message in question is opened."""
    UPDATE = auto()
    """It is brought up to date in any case."""


@dataclass(frozen=True, slots=True)
class Match:
    """A message that was found.

    ``snapshot_id`` is the newest of the snapshots searched that has it, made at ``last_seen``;
    ``is_in_newest`` tells whether the mailbox's newest one has it too. ``size_bytes`` is with
    attachments.
    """

    mailbox_id: str
    snapshot_id: str
    last_seen: str
    record: MessageRecord
    folder: tuple[str, ...]
    is_in_newest: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of the message with its attachments."""
        return size_of(self.record)

    @property
    def attachments(self) -> tuple[str, ...]:
        """Names of its attachments."""
        return tuple(item["name"] for item in self.record.get("attachments", ()))


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A message, or with an empty ``object_id`` a mailbox, that could not be searched."""

    mailbox_id: str
    object_id: str
    reason: str
    hint: str = ""


@dataclass(slots=True)
class IndexReport:
    """What became of the index of words: sizes are bytes, over all mailboxes.

    ``used`` counts mailboxes that were searched with it, ``updated`` messages that were added,
    ``documents`` those that it covers.
    """

    used: int = 0
    updated: int = 0
    documents: int = 0
    size: int = 0
    message_bytes: int = 0

    def add(self, other: IndexReport) -> None:
        """Add what became of other mailboxes' indexes."""
        self.used += other.used
        self.updated += other.updated
        self.documents += other.documents
        self.size += other.size
        self.message_bytes += other.message_bytes


@dataclass(slots=True)
class FindReport:
    """What a search came to.

    ``searched`` counts messages of the snapshots, ``opened`` those that were read for it.
    ``matches`` is empty where they were handed on as they were found. ``unsearched`` lists the
    first of ``not_searched``.
    """

    matches: list[Match] = field(default_factory=list)
    found: int = 0
    mailboxes: int = 0
    searched: int = 0
    opened: int = 0
    not_searched: int = 0
    unsearched: list[Unsearched] = field(default_factory=list)
    index: IndexReport = field(default_factory=IndexReport)
    notices: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """130 when it was interrupted, 16 when something could not be searched, else 0."""
        if self.interrupted:
            return 130
        return IntegrityError.exit_code if self.not_searched else 0

    def add(self, other: FindReport) -> None:
        """Add what a search of other mailboxes came to."""
        self.matches += other.matches
        self.found += other.found
        self.mailboxes += other.mailboxes
        self.searched += other.searched
        self.opened += other.opened
        self.not_searched += other.not_searched
        self.unsearched += other.unsearched[: SHOWN - len(self.unsearched)]
        self.index.add(other.index)
        self.notices += other.notices

    def leave_out(self, mailbox_id: str, object_id: str, error: AtlasError) -> None:
        """Note what could not be searched."""
        self.not_searched += 1
        if len(self.unsearched) < SHOWN:
            entry = Unsearched(mailbox_id, object_id, str(error), error.hint)
            self.unsearched.append(entry)


Take = Callable[[Match], Awaitable[None]]


class Newest:
    """The newest matches so far, at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[tuple[str, str, str], Match]] = []

    def excludes(self, mailbox_id: str, record: MessageRecord) -> bool:
        """Tell whether a message would not be among them, whatever it says."""
        if len(self._heap) < self._most or not record["received"]:
            return False
        return _age(mailbox_id, record) <= self._heap[0][0]

    async def take(self, match: Match) -> None:
        """Take a match, and drop the oldest where there are too many."""
        heapq.heappush(self._heap, (_age(match.mailbox_id, match.record), match))
        if len(self._heap) > self._most:
            heapq.heappop(self._heap)

    def in_order(self) -> list[Match]:
        """Return them, newest first."""
        return newest_first(match for _, match in self._heap)


def newest_first(matches: Iterable[Match]) -> list[Match]:
    """Return matches by time, the newest first. Of one moment, names decide: always the same."""
    return sorted(matches, key=lambda match: _age(match.mailbox_id, match.record), reverse=True)


def _age(mailbox_id: str, record: MessageRecord) -> tuple[str, str, str]:
    return record["received"], mailbox_id, record["object_id"]
