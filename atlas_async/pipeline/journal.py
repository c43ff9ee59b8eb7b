"""Stage 3: the mailbox's state as this run knows it, and its checkpoints.

Settled pages are applied in each folder's page order. Applying is synchronous and pure bookkeeping;
writing happens at checkpoints and at the commit. Rows go from memory to segments at checkpoints, so
memory holds a bounded number of them however large the mailbox is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

import anyio

from atlas_async.catalog.carry import Carry, write_carry
from atlas_async.catalog.head import Head, write_head
from atlas_async.catalog.layout import segments_prefix
from atlas_async.catalog.ledger import Ledger, write_ledger
from atlas_async.catalog.rows import checked
from atlas_async.catalog.segment import row_order, slot_of
from atlas_async.catalog.slots import SlotSet, SlotTable
from atlas_async.catalog.snapshot import FolderCursor, Snapshot
from atlas_async.catalog.state import (
    Run,
    RunWriter,
    StateReader,
    merge,
    merge_start,
    write_run,
)
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock, iso_millis
from atlas_async.model.record import MessageRecord, Row, Tombstone, is_gone
from atlas_async.model.report import NotStored
from atlas_async.pipeline.batch import Change, SettledItem, SettledPage

CHECKPOINT_MESSAGES: Final = 10_000
CHECKPOINT_SECONDS: Final = 15.0
"""A checkpoint is due after so many messages, or so long when anything was settled since."""

MOST_ROWS: Final = 20_000
CROWDED_ROWS: Final = 250
"""When all mailboxes together hold more rows than that, one that holds so many writes its own."""

SMALL_RUNS: Final = 10
"""Runs written by checkpoints before the smaller of them are merged into one."""


@dataclass(slots=True)
class RowCount:
    """Rows held in memory by all mailboxes of a process, about 2 KB each.

    Beyond ``most`` of them, mailboxes that hold many write theirs out.
    """

    most: int = MOST_ROWS
    held: int = 0


class Journal:
    """What one run has recorded for one mailbox so far.

    Args:
        vault: The mailbox's objects.
        base: The newest committed snapshot, or None.
        start: The state to go on from: an open checkpoint of a run on the same base, or the base,
            or an empty snapshot.
        carry: What ``start`` carries beside its rows.
        ledger: The open ledger.
        clock: For checkpoint times.
        held: Counts the rows in memory over all mailboxes.
    """

    def __init__(
        self,
        vault: Vault,
        base: Snapshot | None,
        start: Snapshot,
        carry: Carry,
        ledger: Ledger,
        clock: Clock,
        *,
        held: RowCount,
    ) -> None:
        self.vault = vault
        self.base = base
        self.draft = start
        self.carry = carry
        self.ledger = ledger
        self.cursors: dict[str, FolderCursor] = dict(start.cursors)
        self.folder_counts: dict[str, int] = dict(start.folder_counts)
        self.restarted: set[str] = set()
        self.doubted: set[str] = set()
        self.messages = start.messages
        self.size_bytes = start.size_bytes
        self.new = start.new
        self.changed = start.changed
        self.removed = start.removed
        base_runs = len(base.runs) if base else 0
        self._base_reader = StateReader(vault, start.runs[:base_runs])
        self._own_runs: list[Run] = list(start.runs[base_runs:])
        self._own_reader = StateReader(vault, self._own_runs)
        self._flushed = SlotTable()  # slot -> sequence of the sighting that was written
        self._held = held
        self._rows: dict[str, tuple[int, Row]] = {}
        self._late: list[tuple[SettledItem, int]] = []
        self._waiting: dict[str, dict[int, SettledPage]] = {}
        self._next_number: dict[str, int] = {}
        self.waiting = 0
        self._clock = clock
        self._settled_since = 0
        self._checkpoint_at = clock.monotonic()
        self._writing = anyio.Lock()

    async def open(self) -> None:
        """Learn which ids the runs of an open checkpoint hold."""
        if self._own_runs:
            async for rows in merge(self.vault, self._own_runs, keep_gone=True):
                for row in rows:
                    self._flushed[slot_of(row["object_id"])] = 0

    @property
    def touched(self) -> bool:
        """Tell whether any row differs from the base."""
        return bool(self._rows or self._own_runs)

    async def known(self, object_ids: list[str]) -> Mapping[str, MessageRecord]:
        """Return the newest record of each id that has one (``settle.KnownRecords``)."""
        found: dict[str, Row] = {}
        left: list[str] = []
        for object_id in object_ids:
            pending = self._rows.get(object_id)
            if pending is None:
                left.append(object_id)
            elif not is_gone(pending[1]):
                found[object_id] = pending[1]
        if left and self._flushed:
            own = [i for i in left if slot_of(i) in self._flushed]
            if own:
                found.update(await self._own_reader.find(own))
                left = [i for i in left if i not in found]
        if left and not self._base_reader.empty:
            where = segments_prefix(self.vault.mailbox_id)
            earlier = await self._base_reader.find(left)
            found.update({i: checked(row, where=where) for i, row in earlier.items()})
        return cast("dict[str, MessageRecord]", found)

    def take(self, page: SettledPage) -> list[SettledPage]:
        """Apply a settled page once all earlier pages of its folder are; return those applied.

        The cursor moves with each page applied, never past one that is missing (I2). ``waiting``
        counts messages of pages that wait for an earlier one.
        """
        folder_id = page.batch.folder.id
        waiting = self._waiting.setdefault(folder_id, {})
        waiting[page.batch.number] = page
        self.waiting += len(page.items)
        applied: list[SettledPage] = []
        number = self._next_number.get(folder_id, 0)
        while (ready := waiting.pop(number, None)) is not None:
            self.waiting -= len(ready.items)
            self._apply(ready)
            applied.append(ready)
            number += 1
        self._next_number[folder_id] = number
        return applied

    def _apply(self, page: SettledPage) -> None:
        batch = page.batch
        folder_id = batch.folder.id
        removed = self.carry.removed.setdefault(folder_id, set())
        if batch.restart:
            self.restarted.add(folder_id)
            removed.clear()
            self.carry.seen.pop(folder_id, None)
            if self.folder_counts.get(folder_id):
                self.carry.seen[folder_id] = SlotSet()
        self.absorb(page)
        removed.update(batch.removed)
        self.cursors[folder_id] = batch.cursor

    def absorb(self, page: SettledPage, *, shown: bool = True) -> None:
        """Record a page's outcomes without moving a cursor.

        Args:
            page: It.
            shown: Whether Graph showed its messages in this folder. What was only asked for by
                what is known of it may be gone: that tells nothing of what an enumeration lacks.
        """
        folder_id = page.batch.folder.id
        removed = self.carry.removed.setdefault(folder_id, set())
        seen = self.carry.seen.get(folder_id) if shown else None
        for item in page.items:
            object_id = item.record["object_id"]
            if shown:
                removed.discard(object_id)
            if seen is not None:
                seen.add(slot_of(object_id))
            self.put(item, page.batch.sequence)
            self.ledger.resolve(("message", object_id, ""))
        for object_id in page.attachments_read:
            self.ledger.resolve_attachments(object_id)
        for object_id in page.originals_settled:
            self.ledger.resolve(("original", object_id, ""))
        for entry in page.failed:
            self.ledger.fail(entry)
            if seen is not None:
                seen.add(slot_of(entry.object_id))
        for object_id in page.gone:
            removed.add(object_id)
            self.ledger.forget_object(object_id)
        if page.doubted:
            self.doubted.add(folder_id)
        self._settled_since += len(page.items) + len(page.failed) + len(page.gone)

    def put(self, item: SettledItem, sequence: int, *, late: bool = False) -> None:
        """Record one message; of two sightings the later fetched one stands.

        Args:
            item: The message.
            sequence: When it was fetched.
            late: ``item.before`` is known to be the newest row, written to a run already or not.
        """
        record = item.record
        object_id = record["object_id"]
        pending = self._rows.get(object_id)
        if pending is not None and pending[0] > sequence:
            return
        if pending is not None:
            before = None if is_gone(pending[1]) else cast("MessageRecord", pending[1])
        elif late or not self._flushed:
            before = item.before
        else:
            written = self._flushed.get(slot_of(object_id))
            if written is not None:
                # What ``item.before`` says may be older than what was written to a run meanwhile.
                if written <= sequence:
                    self._late.append((item, sequence))
                return
            before = item.before
        if item.change is Change.SAME and before == record:
            return
        self._uncount(before)
        self.messages += 1
        self.size_bytes += record["size_bytes"]
        folder_id = record["folder_id"]
        self.folder_counts[folder_id] = self.folder_counts.get(folder_id, 0) + 1
        if before is None:
            self.new += 1
        elif before["checksum"] != record["checksum"]:
            self.changed += 1
        self._held.held += pending is None
        self._rows[object_id] = (sequence, record)

    async def settle_late(self) -> None:
        """Record items of which a sighting was written to a run already, in the order fetched.

        Cancelling it loses none: an item waits here until it is recorded, for the cursor has moved
        past it already.
        """
        while self._late:
            entry = min(self._late, key=lambda entry: entry[1])
            item, sequence = entry
            object_id = item.record["object_id"]
            before = (await self.known([object_id])).get(object_id)
            self._late.remove(entry)
            change = Change.NEW if before is None else Change.STATE
            self.put(SettledItem(item.record, change, before), sequence, late=True)
            written = self._flushed.get(slot_of(object_id)) or 0
            self._flushed[slot_of(object_id)] = max(written, sequence)

    def remove(self, record: MessageRecord, sequence: int) -> None:
        """Take a message out of the snapshot."""
        self._uncount(record)
        self.removed += 1
        object_id = record["object_id"]
        self._held.held += object_id not in self._rows
        self._rows[object_id] = (sequence, Tombstone(object_id=object_id, gone=True))
        self.ledger.forget_object(object_id)

    def fail(self, entry: NotStored) -> None:
        """Note something that is not stored."""
        self.ledger.fail(entry)

    def _uncount(self, record: MessageRecord | None) -> None:
        if record is None:
            return
        self.messages -= 1
        self.size_bytes -= record["size_bytes"]
        self.folder_counts[record["folder_id"]] -= 1
        if not self.folder_counts[record["folder_id"]]:
            del self.folder_counts[record["folder_id"]]

    def checkpoint_due(self) -> bool:
        """Tell whether enough was settled, or time has passed, since the last checkpoint."""
        if not self._settled_since:
            return False
        crowded = self._held.held > self._held.most and len(self._rows) >= CROWDED_ROWS
        waited = self._clock.monotonic() - self._checkpoint_at
        return crowded or self._settled_since >= CHECKPOINT_MESSAGES or waited >= CHECKPOINT_SECONDS

    def close(self) -> None:
        """Forget the rows in memory; nothing is written."""
        self._held.held -= len(self._rows)
        self._rows.clear()

    async def checkpoint(self) -> None:
        """Write rows, carry and ledger, then the head that names them (I1).

        One at a time; a second call waits and finds nothing to do.
        """
        async with self._writing:
            if not self._settled_since:
                return
            await self.settle_late()
            # All of one moment is taken here, before the first await below: rows, cursors, what
            # is carried and the ledger must agree.
            self._settled_since = 0
            self._checkpoint_at = self._clock.monotonic()
            draft = self.current()
            rows = {key: entry for key, entry in self._rows.items() if not is_gone(entry[1])}
            carry = self.carry.copy()
            entries = self.ledger.entries
            await self._flush(rows)
            draft = replace(
                draft,
                runs=self.runs,
                carry=await write_carry(self.vault, carry),
                ledger=await write_ledger(self.vault, entries),
            )
            await write_head(self.vault, Head(self.base, draft))

    def current(self) -> Snapshot:
        """Return the draft with this moment's cursors and counts; runs as last written."""
        return replace(
            self.draft,
            created_at=iso_millis(self._clock.now()),
            cursors=dict(self.cursors),
            folder_counts=dict(self.folder_counts),
            messages=self.messages,
            size_bytes=self.size_bytes,
            new=self.new,
            changed=self.changed,
            removed=self.removed,
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        """The base's runs and this run's own."""
        return (*self._base_reader.runs, *self._own_runs)

    @property
    def own_count(self) -> int:
        """About how many rows this run has recorded."""
        return len(self._rows) + sum(run.count for run in self._own_runs)

    async def flush_all(self) -> None:
        """Write the rows still in memory, keeping them there for ``own_rows`` if they are all."""
        if self._rows:
            in_memory = not self._own_runs
            run = await write_run(self.vault, [row for _, row in self._rows.values()])
            self._own_runs.append(run)
            if not in_memory:
                self.close()

    async def own_rows(self) -> AsyncIterator[list[Row]]:
        """Yield what this run recorded, newest row of each id, in row order."""
        if self._rows:
            yield sorted((row for _, row in self._rows.values()), key=row_order)
            return
        async for rows in merge(self.vault, self._own_runs, keep_gone=True):
            yield rows

    async def all_rows(self) -> AsyncIterator[list[Row]]:
        """Yield the live rows of the base and of this run, written ones first.

        A row that is both written and in memory comes twice; ``known`` says which one counts.
        """
        async for rows in merge(self.vault, self.runs, keep_gone=False):
            yield rows
        yield [row for _, row in self._rows.values() if not is_gone(row)]

    async def _flush(self, rows: Mapping[str, tuple[int, Row]]) -> None:
        """Move rows from memory to a run. Rows recorded again meanwhile stay in memory."""
        if not rows:
            return
        own = [*self._own_runs, await write_run(self.vault, [row for _, row in rows.values()])]
        if len(own) >= SMALL_RUNS:
            # Runs of about one size go together, so a row is written again a few times at most.
            start = merge_start([run.count for run in own], ratio=1)
            if start < len(own):
                own = [*own[:start], await merged_run(self.vault, own[start:])]
        self._own_runs = own
        self._own_reader = StateReader(self.vault, own)
        for object_id, written in rows.items():
            self._flushed[slot_of(object_id)] = written[0]
            if self._rows[object_id] is written:
                del self._rows[object_id]
                self._held.held -= 1


async def merged_run(vault: Vault, runs: Iterable[Run]) -> Run:
    """Return one run that says what several say."""
    writer = RunWriter(vault)
    async for rows in merge(vault, list(runs), keep_gone=True):
        await writer.add(rows)
    return await writer.finish()
