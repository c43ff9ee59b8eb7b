"""A mailbox's state at a snapshot: sorted runs of rows, newest wins.

A snapshot names a few runs, oldest first. A run is a list of segments without overlap. Writing a
snapshot adds one run with what changed and merges the newest runs while an older one is not at
least ``RATIO`` times as large as all that is newer: so reading a snapshot touches a number of runs
that grows with the logarithm of the mailbox's size, not with the number of snapshots.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from anyio import to_thread

from atlas_async.catalog.layout import segment_key
from atlas_async.catalog.segment import (
    BLOCK_ROWS,
    SEGMENT_ROWS,
    Segment,
    SegmentBuilder,
    SegmentRef,
    row_order,
    slot_of,
)
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.model.record import Row, is_gone

RATIO: Final = 8
CACHED_SEGMENTS: Final = 8
CACHED_BLOCKS: Final = 64


@dataclass(frozen=True, slots=True)
class Run:
    """Segments in slot order."""

    segments: tuple[SegmentRef, ...]

    @property
    def count(self) -> int:
        """Rows in the run, tombstones included."""
        return sum(segment.count for segment in self.segments)

    def to_json(self) -> list[list[Any]]:
        """Return what a descriptor stores."""
        return [segment.to_json() for segment in self.segments]

    @classmethod
    def from_json(cls, value: Iterable[Sequence[Any]]) -> Run:
        """Parse what ``to_json`` wrote."""
        return cls(tuple(SegmentRef.from_json(item) for item in value))


class StateReader:
    """Looks rows up and walks through them, for one list of runs.

    Keeps a bounded number of segments (deflated) and blocks (parsed) in memory.
    """

    def __init__(self, vault: Vault, runs: Sequence[Run]) -> None:
        self._vault = vault
        self.runs = tuple(runs)
        self._segments: OrderedDict[str, Segment] = OrderedDict()
        self._blocks: OrderedDict[tuple[str, int], dict[str, Row]] = OrderedDict()

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to look up."""
        return not any(run.segments for run in self.runs)

    async def find(self, object_ids: Iterable[str]) -> dict[str, Row]:
        """Return the newest live row of each id that has one.

        Raises:
            ObjectNotFound, IntegrityError: A segment is missing or damaged.
        """
        wanted = sorted((slot_of(object_id), object_id) for object_id in object_ids)
        found: dict[str, Row] = {}
        for run in reversed(self.runs):
            left = [item for item in wanted if item[1] not in found]
            for ref in run.segments:
                for slot, object_id in left:
                    if ref.first <= slot <= ref.last:
                        row = await self._find_in(ref, slot, object_id)
                        if row is not None:
                            found[object_id] = row
        return {object_id: row for object_id, row in found.items() if not is_gone(row)}

    async def rows(self) -> AsyncIterator[list[Row]]:
        """Yield all live rows in row order, some hundred at a time."""
        async for batch in merge(self._vault, self.runs, keep_gone=False):
            yield batch

    async def _find_in(self, ref: SegmentRef, slot: int, object_id: str) -> Row | None:
        segment = await self._segment(ref)
        number = segment.block_for(slot)
        while number >= 0:
            block = self._block(ref, segment, number)
            if object_id in block:
                return block[object_id]
            if min(map(slot_of, block)) < slot:
                return None
            number -= 1
        return None

    async def _segment(self, ref: SegmentRef) -> Segment:
        segment = self._segments.get(ref.checksum)
        if segment is None:
            segment = await load_segment(self._vault, ref)
            self._segments[ref.checksum] = segment
            if len(self._segments) > CACHED_SEGMENTS:
                self._segments.popitem(last=False)
        else:
            self._segments.move_to_end(ref.checksum)
        return segment

    def _block(self, ref: SegmentRef, segment: Segment, number: int) -> dict[str, Row]:
        name = (ref.checksum, number)
        block = self._blocks.get(name)
        if block is None:
            block = {row["object_id"]: row for row in segment.block(number)}
            self._blocks[name] = block
            if len(self._blocks) > CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(name)
        return block


async def load_segment(vault: Vault, ref: SegmentRef) -> Segment:
    """Read one segment and check it."""
    key = segment_key(vault.mailbox_id, ref.checksum)
    plaintext = await vault.read_content(key, ref.checksum)
    return Segment(plaintext, mailbox_id=vault.mailbox_id, where=key)


async def _blocks(vault: Vault, run: Run) -> AsyncIterator[list[Row]]:
    for ref in run.segments:
        segment = await load_segment(vault, ref)
        for number in range(segment.blocks):
            yield segment.block(number)


async def merge(vault: Vault, runs: Sequence[Run], *, keep_gone: bool) -> AsyncIterator[list[Row]]:
    """Yield the newest row of every id, in row order, in lists of some hundred.

    Args:
        vault: Where the segments are.
        runs: Oldest first.
        keep_gone: Whether tombstones are yielded too (they hide older rows that are not merged).
    """
    if len(runs) == 1:
        async for rows in _blocks(vault, runs[0]):
            yield rows if keep_gone else [row for row in rows if not is_gone(row)]
        return
    async for batch in newest_rows([_blocks(vault, run) for run in runs]):
        yield batch if keep_gone else [row for row in batch if not is_gone(row)]


async def ever(
    vault: Vault, first: Sequence[Run], later: Sequence[Run]
) -> AsyncIterator[list[Row]]:
    """Yield what a state held and what was recorded after it, whether or not it was removed since.

    Args:
        vault: Where the segments are.
        first: The state to begin with, as ``merge`` takes it.
        later: Runs that later states name and it does not, oldest first.
    """
    sources = [merge(vault, first, keep_gone=False)] if first else []
    sources += [_live(_blocks(vault, run)) for run in later]
    async for batch in newest_rows(sources):
        yield batch


async def _live(source: AsyncIterator[list[Row]]) -> AsyncIterator[list[Row]]:
    async for rows in source:
        live = [row for row in rows if not is_gone(row)]
        if live:
            yield live


async def newest_rows(sources: Sequence[AsyncIterator[list[Row]]]) -> AsyncIterator[list[Row]]:
    """Yield the newest row of every id, in row order, in lists of some hundred.

    Args:
        sources: Each in row order, oldest source first.
    """
    heap: list[tuple[tuple[int, str], int, int, list[Row]]] = []
    for age, source in enumerate(sources):
        await _push(heap, source, -age)
    batch: list[Row] = []
    last = ""
    while heap:
        _, age, position, rows = heap[0]
        row = rows[position]
        if position + 1 < len(rows):
            heapq.heapreplace(heap, (row_order(rows[position + 1]), age, position + 1, rows))
        else:
            heapq.heappop(heap)
            await _push(heap, sources[-age], age)
        if row["object_id"] == last:
            continue
        last = row["object_id"]
        batch.append(row)
        if len(batch) >= 512:  # noqa: PLR2004 -- any size does; it only amortises the await
            yield batch
            batch = []
    if batch:
        yield batch


async def _push(
    heap: list[tuple[tuple[int, str], int, int, list[Row]]],
    source: AsyncIterator[list[Row]],
    age: int,
) -> None:
    rows = await anext(source, None)
    if rows:
        heapq.heappush(heap, (row_order(rows[0]), age, 0, rows))


class RunWriter:
    """Writes rows, given in row order, as the segments of one run; holds one block of them."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._rows: list[Row] = []
        self._builder = SegmentBuilder()
        self._refs: list[SegmentRef] = []

    async def add(self, rows: Sequence[Row]) -> None:
        """Take the next rows."""
        self._rows.extend(rows)
        start = 0
        while len(self._rows) - start >= BLOCK_ROWS:
            await self._add_block(self._rows[start : start + BLOCK_ROWS])
            start += BLOCK_ROWS
        del self._rows[:start]

    async def finish(self) -> Run:
        """Write what is left and return the run. Its segments are durable then."""
        if self._rows:
            await self._add_block(self._rows)
            self._rows = []
        if self._builder.count:
            await self._write()
        return Run(tuple(self._refs))

    async def _add_block(self, rows: list[Row]) -> None:
        await to_thread.run_sync(self._builder.add, rows)
        if self._builder.count >= SEGMENT_ROWS:
            await self._write()

    async def _write(self) -> None:
        builder, self._builder = self._builder, SegmentBuilder()
        plaintext = await to_thread.run_sync(builder.plaintext, self._vault.mailbox_id)
        checksum = await to_thread.run_sync(sha256_hex, plaintext)
        size = await self._vault.put_raw(segment_key(self._vault.mailbox_id, checksum), plaintext)
        self._refs.append(SegmentRef(checksum, builder.count, builder.first, builder.last, size))


async def write_run(vault: Vault, rows: Iterable[Row]) -> Run:
    """Sort ``rows`` and write them as one run."""
    ordered = await to_thread.run_sync(lambda: sorted(rows, key=row_order))
    writer = RunWriter(vault)
    await writer.add(ordered)
    return await writer.finish()


def merge_start(counts: Sequence[int], ratio: int = RATIO) -> int:
    """Return the index from which on runs should be merged into one; ``len(counts)`` for none.

    After merging, every run has at least ``ratio`` times as many rows as all newer ones together.
    """
    start = len(counts)
    newer = 0
    for index in range(len(counts) - 1, -1, -1):
        if newer and counts[index] < ratio * newer:
            start = index
        newer += counts[index]
    return start


async def compact(vault: Vault, runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return an equal state in fewer runs; segments written are durable on return."""
    kept = [run for run in runs if run.segments]
    start = merge_start([run.count for run in kept])
    if len(kept) - start < 2:  # noqa: PLR2004 -- one run has nothing to merge with
        return tuple(kept)
    writer = RunWriter(vault)
    async for rows in merge(vault, kept[start:], keep_gone=start > 0):
        await writer.add(rows)
    merged = await writer.finish()
    return (*kept[:start], merged) if merged.segments else tuple(kept[:start])
