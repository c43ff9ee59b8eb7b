"""A segment of an index in memory, before it is written."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

from atlas_async.search.part import ShardDraft, Table, put_varint

MOST_DOCUMENTS: Final = 4_096
MOST_POSTINGS: Final = 1_000_000
"""A draft with so many messages, or so many terms in all of them together, is written."""

SHARD_BYTES: Final = 256 << 10
"""A shard with so many bytes of entries, before they are deflated, is written."""

LARGEST_SHARE: Final = 3
"""A segment takes at most one part in so many of its messages' own bytes."""
FEWEST_BYTES: Final = 4_096
"""What a segment may take anyway: that of a few small messages is mostly frame."""


class Draft:
    """Messages with their terms. Ranks are given in the order in which messages come."""

    def __init__(self) -> None:
        self._slots = array("Q")
        self._sizes = array("Q")
        self._dense: set[int] = set()
        self._known: set[int] = set()
        # A term that only one message has so far, as most have, is kept as that message's rank.
        self._once: dict[str, int] = {}
        self._often: dict[str, tuple[bytearray, list[int]]] = {}
        self._postings = 0

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, slot: int) -> bool:
        return slot in self._known

    @property
    def full(self) -> bool:
        """Whether it is time to write it."""
        return len(self) >= MOST_DOCUMENTS or self._postings >= MOST_POSTINGS

    @property
    def message_bytes(self) -> int:
        """Bytes of the messages themselves."""
        return sum(self._sizes)

    def add(self, slot: int, size: int, terms: Collection[str] | None) -> None:
        """Add a message.

        Args:
            slot: First 8 bytes of the SHA-256 that names it.
            size: Its bytes.
            terms: What it has; None when it has too much, so that every search must open it.
        """
        if slot in self._known:
            return
        rank = len(self._slots)
        self._known.add(slot)
        self._slots.append(slot)
        self._sizes.append(size)
        if terms is None:
            self._dense.add(rank)
            return
        self._postings += len(terms)
        for term in terms:
            self._note(term, rank)

    def _note(self, term: str, rank: int) -> None:
        often = self._often.get(term)
        if often is not None:
            postings, last = often
            put_varint(postings, rank - last[0])
            last[0] = rank
            return
        before = self._once.pop(term, None)
        if before is None:
            self._once[term] = rank
            return
        postings = bytearray()
        put_varint(postings, before)
        put_varint(postings, rank - before)
        self._often[term] = (postings, [rank])

    def finish(self) -> tuple[bytes, list[tuple[str, bytes]]]:
        """Return the table and the shards, each with its first term.

        Where they would take too large a share of the messages' bytes, messages whose terms no
        other has are left out first, then all: every search opens them. Takes some seconds.
        """
        shards = list(self._shards())
        if self._is_too_large(shards):
            self._leave_out_loners()
            shards = list(self._shards())
        if self._is_too_large(shards):
            self._dense.update(range(len(self)))
            shards = []
        return Table.of(self._slots, frozenset(self._dense)).to_bytes(), shards

    def _is_too_large(self, shards: list[tuple[str, bytes]]) -> bool:
        size = sum(len(plaintext) for _, plaintext in shards)
        return size > max(FEWEST_BYTES, self.message_bytes // LARGEST_SHARE)

    def _leave_out_loners(self) -> None:
        alone: Counter[int] = Counter()
        for term, rank in self._once.items():
            alone[rank] += len(term.encode())
        for rank, size in alone.items():
            if size * LARGEST_SHARE * 2 > self._sizes[rank]:
                self._dense.add(rank)
        self._once = {term: r for term, r in self._once.items() if r not in self._dense}

    def _shards(self) -> Iterator[tuple[str, bytes]]:
        shard = ShardDraft()
        for term in sorted([*self._once, *self._often]):
            often = self._often.get(term)
            if often is None:
                postings = bytearray()
                put_varint(postings, self._once[term])
            else:
                postings = often[0]
            shard.add(term.encode(), bytes(postings))
            if shard.size >= SHARD_BYTES:
                yield shard.first, shard.plaintext()
                shard = ShardDraft()
        if shard.size:
            yield shard.first, shard.plaintext()
