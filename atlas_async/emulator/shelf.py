"""The contents of one folder: generated messages by index, arrivals, departures, and a change log.

A shelf of a million untouched messages costs a few numbers; only what changed is stored.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from atlas_async.emulator.letters import generated_key, index_after, is_generated, origin_of


class ChangeKind(StrEnum):
    """What happened to a message, seen from one folder."""

    CREATED = "created"
    UPDATED = "updated"
    ARRIVED = "arrived"
    LEFT = "left"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One entry of a folder's log. ``moves`` dates the default id that was valid then."""

    seq: int
    key: int
    kind: ChangeKind = field(compare=False)
    folder: int = field(compare=False, default=0)
    moves: int = field(compare=False, default=0)


class Shelf:
    """What one folder holds and what happened to it.

    Args:
        folder: The folder's number.
        generated: How many messages the corpus generates for it.
    """

    def __init__(self, folder: int, generated: int) -> None:
        self.folder = folder
        self.generated = generated
        self.log: list[Change] = []
        self.last: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.born: dict[int, int] = {}
        self._departed: list[int] = []
        self._arrivals: dict[int, int] = {}
        self._arrival_log: list[tuple[int, int]] = []
        self._order: tuple[list[int], list[int]] | None = None

    def __len__(self) -> int:
        return self.generated - len(self._departed) + len(self._arrivals)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, int):
            return False
        return key in self._arrivals or self._holds_generated(key)

    def note(self, change: Change) -> None:
        """Append to the log, without moving anything."""
        self.log.append(change)
        self.last[change.key] = change.seq
        if change.kind in {ChangeKind.CREATED, ChangeKind.ARRIVED}:
            self.born[change.key] = change.seq
        elif change.kind in {ChangeKind.LEFT, ChangeKind.DELETED}:
            self.left[change.key] = change.seq
        self._order = None

    def put(self, change: Change) -> None:
        """Take a message in and log it."""
        self._arrivals[change.key] = change.seq
        self._arrival_log.append((change.seq, change.key))
        self.note(change)

    def take(self, change: Change) -> None:
        """Remove a message and log it."""
        if self._arrivals.pop(change.key, None) is None and self._holds_generated(change.key):
            insort(self._departed, origin_of(change.key)[1])
        self.note(change)

    def generated_from(self, index: int) -> Iterator[tuple[int, int]]:
        """Yield (index, key) of the generated messages still here, from ``index`` on."""
        gone = set(self._departed)
        for at in range(index, self.generated):
            if at not in gone:
                yield at, generated_key(self.folder, at)

    def arrived_after(self, seq: int, *, until: int) -> Iterator[tuple[int, int]]:
        """Yield (seq, key) of arrivals still here with ``seq`` < their number <= ``until``."""
        at = bisect_right(self._arrival_log, (seq, 1 << 63))
        for arrived, key in self._arrival_log[at:]:
            if arrived > until:
                return
            if self._arrivals.get(key) == arrived:
                yield arrived, key

    def changed_after(self, seq: int, *, until: int) -> Iterator[Change]:
        """Yield each key's newest change with ``seq`` < number <= ``until``, oldest first."""
        at = bisect_right(self.log, seq, key=lambda change: change.seq)
        seen_later = {c.key: c.seq for c in self.log[at:] if c.seq <= until}
        for change in self.log[at:]:
            if change.seq > until:
                return
            if seen_later[change.key] == change.seq:
                yield change

    def keys(
        self, received: Callable[[int], datetime], start: int, *, newest_first: bool = True
    ) -> Iterator[int]:
        """Yield keys by received time from position ``start`` on, without generating messages."""
        arrivals, places = self._ordered(received)
        total = len(self)
        for position in range(start, total):
            place = position if newest_first else total - 1 - position
            before = bisect_left(places, place)
            if before < len(places) and places[before] == place:
                yield arrivals[before]
            else:
                yield generated_key(self.folder, self._nth_live(place - before))

    def _ordered(self, received: Callable[[int], datetime]) -> tuple[list[int], list[int]]:
        """Return the arrivals newest first, and the position each has among all messages."""
        if self._order is None:
            dated = sorted(
                ((received(key), key) for key in self._arrivals), key=lambda d: (d[0], -d[1])
            )
            dated.reverse()
            places = [
                self._live_before(index_after(moment)) + rank
                for rank, (moment, _) in enumerate(dated)
            ]
            self._order = [key for _, key in dated], places
        return self._order

    def _live_before(self, index: int) -> int:
        bounded = min(index, self.generated)
        return bounded - bisect_left(self._departed, bounded)

    def _nth_live(self, number: int) -> int:
        index = number
        while True:
            moved = number + bisect_right(self._departed, index)
            if moved == index:
                return index
            index = moved

    def _holds_generated(self, key: int) -> bool:
        if not is_generated(key):
            return False
        folder, index = origin_of(key)
        if folder != self.folder or index >= self.generated:
            return False
        at = bisect_left(self._departed, index)
        return at == len(self._departed) or self._departed[at] != index
