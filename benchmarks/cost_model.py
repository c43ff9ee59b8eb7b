"""How many requests a run makes of the store, for the layout as it is and for one with packs.

The rules are the engine's own: constants and the rule for merging runs are imported from it, and a
test compares the counts with those of a real run. Fractions of requests are averages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atlas_async.catalog.manifest import MEMORY_ENTRIES
from atlas_async.catalog.segment import SEGMENT_ROWS
from atlas_async.catalog.state import merge_start
from atlas_async.catalog.vault import HEADS_PER_PAGE, MAX_LISTED
from atlas_async.pipeline.journal import SMALL_RUNS

LIST_PAGE = 1_000
"""Keys in a page of a listing."""
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests by price class. DELETE is free with every provider and not counted."""

    put: float = 0.0
    lists: float = 0.0
    get: float = 0.0
    head: float = 0.0

    def __add__(self, other: Requests) -> Requests:
        return Requests(
            self.put + other.put,
            self.lists + other.lists,
            self.get + other.get,
            self.head + other.head,
        )

    def times(self, factor: float) -> Requests:
        """Return these requests, so many times."""
        return Requests(
            self.put * factor, self.lists * factor, self.get * factor, self.head * factor
        )


TENANT_FIRST = Requests(put=1, lists=4, get=2)
"""Opening an empty bucket and making its key, apart from the looks for the bucket itself."""
TENANT_NIGHT = Requests(get=1, head=1)
"""Opening a bucket that has a key: the key, and the mark of a replica."""
QUIET = Requests(get=1)
"""A mailbox in which nothing changed: its head."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run stores for one mailbox.

    Attributes:
        messages: Objects of messages.
        attachments: Objects of attachments.
        changed: Rows recorded of messages that have rows already.
        checkpoints: Rows written by each checkpoint; the commit writes the rest.
        beats: How often the mailbox's lease is written anew meanwhile.
    """

    messages: int
    attachments: int
    changed: int = 0
    checkpoints: tuple[int, ...] = ()
    beats: int = 0

    @property
    def rows(self) -> int:
        """All rows recorded."""
        return self.messages + self.changed


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What a mailbox has in the store before a run.

    Attributes:
        messages: Objects below its ``data/`` prefix.
        attachments: Objects below its ``attachments/`` prefix.
        runs: Rows of each run of its newest snapshot, oldest first; none before the first backup.
    """

    messages: int = 0
    attachments: int = 0
    runs: tuple[int, ...] = ()

    def after(self, work: Work) -> Mailbox:
        """Return what is there once ``work`` is committed."""
        messages = self.messages + work.messages
        kept = [*self.runs, *_own_runs(work)]
        start = merge_start(kept)
        if len(kept) - start > 1:
            kept[start:] = [_rows_of(kept, start, messages)]
        return Mailbox(messages, self.attachments + work.attachments, tuple(kept))


def _rows_of(runs: Sequence[int], start: int, messages: int) -> int:
    """Return the rows of a merged run; a state without older runs has one row a message."""
    total = sum(runs[start:])
    return total if start else min(total, messages)


def segments(rows: int) -> int:
    """Return the objects that a run of so many rows is cut into."""
    return math.ceil(rows / SEGMENT_ROWS)


def backup(before: Mailbox, work: Work) -> Requests:
    """Return what a backup that stores ``work`` asks, each message being an object."""
    stored = Requests(put=work.messages + work.attachments)
    asked = questions(work.messages, before.messages) + questions(
        work.attachments, before.attachments
    )
    return stored + asked + catalog(before, work)


def questions(new: int, stored: int) -> Requests:
    """Return how a run finds out that ``new`` objects are not among ``stored`` below a prefix.

    As ``Vault`` does: a page of the listing first, HEADs for names beyond it, and after so many of
    them another page. Names are spread evenly, as checksums are.
    """
    if not new:
        return Requests()
    lists, heads, since, covered = 1, 0, 0, LIST_PAGE / max(stored, 1)
    known = min(stored, LIST_PAGE)
    for number in range(new):
        if covered < 1 and since >= HEADS_PER_PAGE and known < MAX_LISTED:
            lists, since, covered = lists + 1, 0, covered + LIST_PAGE / stored
            known += LIST_PAGE
        if (number + 1) * _GOLDEN % 1 > covered:
            heads, since = heads + 1, since + 1
        known += 1
    return Requests(lists=lists, head=heads)


def catalog(before: Mailbox, work: Work) -> Requests:
    """Return what the state costs: reading it, checkpoints, merges, and the commit."""
    opening = Requests(get=1)
    if not before.runs:
        opening += Requests(lists=1)  # no head: are there manifests?
    else:
        opening += Requests(get=sum(map(segments, before.runs)))  # was it known before?
    return opening + _lease(before, work) + _checkpoints(work) + _commit(before, work)


def _lease(before: Mailbox, work: Work) -> Requests:
    """Return what keeping other runs out costs; giving the lease back is a DELETE, which is free.

    It is written, the head is read again, each beat looks at it, writes it and looks for the next
    one, and every checkpoint, the manifest and the last head look at it.
    """
    taking = Requests(put=1, get=1, lists=0 if before.runs else 1)  # no head: which is the newest?
    looks = Requests(get=work.beats + len(work.checkpoints) + 2)
    return taking + looks + Requests(put=work.beats, head=work.beats)


def _checkpoints(work: Work) -> Requests:
    done = Requests()
    own: list[int] = []
    for rows in work.checkpoints:
        own.append(rows)
        done += Requests(put=segments(rows) + 1)  # and the head
        if len(own) >= SMALL_RUNS:
            done += Requests(get=sum(map(segments, own)), put=segments(sum(own)))
            own = [sum(own)]
    return done


def _merges(before: Mailbox, work: Work) -> Requests:
    """Return what merging the newest runs costs in a commit."""
    kept = [*before.runs, *_own_runs(work)]
    start = merge_start(kept)
    if len(kept) - start < 2:
        return Requests()
    rows = _rows_of(kept, start, before.messages + work.messages)
    return Requests(get=sum(map(segments, kept[start:])), put=segments(rows))


def _own_runs(work: Work) -> list[int]:
    """Return the runs that are there when the commit has written the last rows."""
    own: list[int] = []
    for rows in work.checkpoints:
        own.append(rows)
        if len(own) >= SMALL_RUNS:
            own = [sum(own)]
    rest = work.rows - sum(work.checkpoints)
    return [*own, rest] if rest else own


def _commit(before: Mailbox, work: Work) -> Requests:
    # Beside the last rows: descriptor, manifest and head.
    done = Requests(put=segments(work.rows - sum(work.checkpoints)) + 3)
    if work.checkpoints:
        # The manifest lists what the run recorded, which is no longer in memory.
        walks = 1 if work.rows <= MEMORY_ENTRIES else 2
        done += Requests(get=walks * sum(map(segments, _own_runs(work))))
    return done + _merges(before, work)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Sizes in bytes whose logarithms are normal.

    Attributes:
        median: Half of all are smaller.
        sigma: Standard deviation of the natural logarithm.
    """

    median: float
    sigma: float

    @property
    def mean(self) -> float:
        """The average size."""
        return self.median * math.exp(self.sigma**2 / 2)

    def share_below(self, size: float) -> float:
        """Return which part of them is smaller."""
        return _normal(math.log(size / self.median) / self.sigma)

    def mean_below(self, size: float) -> float:
        """Return what those that are smaller add to the average."""
        return self.mean * _normal(math.log(size / self.median) / self.sigma - self.sigma)

    def mean_billed(self, least: float) -> float:
        """Return the average size where smaller ones are billed as ``least``."""
        if not least:
            return self.mean
        return least * self.share_below(least) + self.mean - self.mean_below(least)


def _normal(value: float) -> float:
    return (1 + math.erf(value / math.sqrt(2))) / 2


@dataclass(frozen=True, slots=True)
class Packing:
    """A layout that does not exist: small objects are put together into packs.

    A pack ends with its index and belongs to one mailbox. It is closed when it is full, and by
    every checkpoint and commit, for what these name must be durable. Where a message lies, stands
    in its row; checksums of what is stored are a second set of runs beside the rows, to find
    duplicates without asking for each.

    Attributes:
        pack: Bytes of a full pack.
        alone: Objects from this size on stay objects of their own.
        rewritten_at: A pack is rewritten when less than this part of it is in use.
    """

    pack: int
    alone: int
    rewritten_at: float

    def objects(self, small_bytes: float, work: Work) -> float:
        """Return the packs of a run that packs so many bytes."""
        closings = len(work.checkpoints) + 1
        return closings * math.ceil(small_bytes / closings / self.pack)

    def backup(self, before: Mailbox, work: Work, small_bytes: float, large: float) -> Requests:
        """Return what a backup asks that stores so many small bytes and large objects."""
        stored = Requests(put=self.objects(small_bytes, work) + large)
        checksums = Requests(put=segments(work.rows), get=sum(map(segments, before.runs)))
        return stored + catalog(before, work) + checksums + _merges(before, work)

    @property
    def overhead(self) -> float:
        """Bytes stored for each byte in use, on average over a pack's life.

        Messages leave at random, so the part in use decays exponentially from 1 to the threshold.
        """
        return math.log(1 / self.rewritten_at) / (1 - self.rewritten_at)

    def months_between_rewrites(self, leaving: float) -> float:
        """Return how long a pack lasts when a part of all messages leaves every month."""
        return math.log(self.rewritten_at) / math.log(1 - leaving)
