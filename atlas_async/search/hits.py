"""Asking shards: which messages of a segment have a term."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from atlas_async.catalog.search_index import IndexSegment, PartRef
from atlas_async.errors import FormatError
from atlas_async.search.part import Table, entries_of, ranks_of
from atlas_async.search.words import Lookup

BEYOND: Final = "\U0010ffff"
"""Follows whatever a term can go on with."""


class Hits:
    """Where texts may be: for each segment and text a byte for each message."""

    def __init__(self, found: Sequence[tuple[Table, Sequence[bytes | None]]]) -> None:
        self._found = found

    def may_hold(self, slot: int, numbers: Sequence[int]) -> bool | None:
        """Tell whether a message may have these texts; None when the index does not cover it."""
        for table, flags in self._found:
            rank = table.rank(slot)
            if rank is not None:
                return rank in table.dense or all(
                    (mine := flags[number]) is None or mine[rank] for number in numbers
                )
        return None


def shards_with(segment: IndexSegment, tag: str, lookup: Lookup) -> tuple[PartRef, ...]:
    """Return the shards in which terms of a lookup may be."""
    firsts = [shard.first for shard in segment.shards]
    term = tag + lookup.term
    start = max(bisect_right(firsts, term) - 1, 0)
    end = bisect_right(firsts, term + BEYOND) if lookup.prefix else start + 1
    return segment.shards[start:end]


def mark(ranks: bytearray, plaintext: bytes, term: bytes, *, prefix: bool, where: str) -> None:
    """Set the bytes of messages that have a term, or one that begins with it."""
    for entry, postings in entries_of(plaintext, where=where):
        if entry < term:
            continue
        if entry != term and not (prefix and entry.startswith(term)):
            return
        _set(ranks, postings, where)


def _set(ranks: bytearray, postings: bytes, where: str) -> None:
    try:
        for rank in ranks_of(postings):
            ranks[rank] = 1
    except (IndexError, ValueError):
        msg = "a shard of the index names messages that its segment has not"
        raise FormatError(msg, where=where) from None


def any_of_all(flags: Sequence[Sequence[bytearray]], size: int) -> bytes:
    """Return where all flags of any of the groups are set; each has ``size`` bytes, 0 or 1."""
    found = 0
    for group in flags:
        here = -1
        for one in group:
            here &= int.from_bytes(one, "big")
        found |= here
    return found.to_bytes(size, "big")


def check_shard(plaintext: bytes, documents: int, where: str) -> None:
    """Raise ``FormatError`` when a shard cannot be used."""
    ranks = bytearray(documents)
    for _, postings in entries_of(plaintext, where=where):
        _set(ranks, postings, where)
