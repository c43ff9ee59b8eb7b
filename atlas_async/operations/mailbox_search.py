"""One mailbox's search: rows, then the index of words, then the messages that are left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from atlas_async.catalog.content import read_message
from atlas_async.catalog.layout import REPLICA_MARKER_KEY
from atlas_async.clock import Clock
from atlas_async.errors import AtlasError, IntegrityError, NewerFormat, ObjectNotFound, StoreError
from atlas_async.model.events import Event, SearchProgress
from atlas_async.model.record import MessageRecord
from atlas_async.operations.found import FindReport, IndexMode, Newest, Take
from atlas_async.operations.selection import Selected, told_by_message
from atlas_async.operations.whereabouts import Whereabouts
from atlas_async.search.hits import Hits
from atlas_async.search.index import SearchIndex
from atlas_async.search.indexing import LARGE_BYTES, Indexing, slot_of_content
from atlas_async.search.query import Conditions

OPENED_AT_ONCE: Final = 16
ROWS_AT_ONCE: Final = 256
LOCATED_AT_ONCE: Final = 256
"""Matches whose last snapshots are looked up together."""
WORTHWHILE: Final = 8
"""The index is brought up to date unless the rows leave less than one message in so many of those
that it lacks: then these are opened without it."""
INDEX_TRIES: Final = 2
"""So often an index that turns out to be damaged is repaired and asked again."""


@dataclass(frozen=True, slots=True)
class Work:
    """What all mailboxes of a search share, but for ``report``, which each has of its own.

    ``searching`` is False where the index alone is brought up to date. One mailbox at a time holds
    ``indexing``, one message of all of them ``large``: these take memory.
    """

    conditions: Conditions
    mode: IndexMode
    report: FindReport
    sink: Take
    newest: Newest | None
    emit: Callable[[Event], None]
    stopped: Callable[[], bool]
    clock: Clock
    searching: bool = True
    indexing: anyio.Lock = field(default_factory=anyio.Lock)
    large: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(frozen=True, slots=True)
class _Open:
    """A message of which rows and index do not say whether it matches.

    ``numbers`` are the texts that are open; none where only what its row lacks is wanted.
    """

    record: MessageRecord
    numbers: tuple[int, ...]


class MailboxSearch:
    """Searches what was selected of one mailbox."""

    def __init__(self, work: Work, selected: Selected) -> None:
        self._work = work
        self._selected = selected
        self._vault = selected.vault
        self._report = work.report
        self._index: SearchIndex | None = None
        self._indexed = 0
        self._done = 0
        self._expected = sum(summary.messages for summary in selected.snapshots[-1:])
        self._delivering = anyio.Lock()
        self._waiting: list[MessageRecord] = []
        self._errors: list[AtlasError] = []
        self._whereabouts = Whereabouts(selected, self._notice)

    async def run(self) -> None:
        """Search.

        Raises:
            IntegrityError: A snapshot is damaged.
            StoreError: The store failed.
        """
        self._report.mailboxes += 1
        hits = await self._look_up()
        if not self._work.searching or self._work.stopped():
            return
        await self._whereabouts.open()
        send, receive = anyio.create_memory_object_stream[_Open](OPENED_AT_ONCE)
        async with anyio.create_task_group() as group:
            for _ in range(OPENED_AT_ONCE):
                group.start_soon(self._open_all, receive.clone(), group.cancel_scope)
            receive.close()
            async with send:
                try:
                    await self._walk(hits, send)
                except AtlasError as error:
                    # Caught here, or it would leave in a group with the cancelled tasks.
                    self._errors.append(error)
                    group.cancel_scope.cancel()
        if self._errors:
            raise self._errors[0]
        await self._deliver(self._waiting)
        self._tell()

    async def _walk(self, hits: Hits | None, send: MemoryObjectSendStream[_Open]) -> None:
        async for batch in _batches(self._selected.messages()):
            if self._work.stopped():
                return
            for one in await to_thread.run_sync(self._candidates, batch, hits):
                if one.numbers or self._is_told_by_message(one.record):
                    await send.send(one)
                else:
                    await self._matched(one.record)
            self._done += len(batch)
            self._report.searched += len(batch)
            self._tell()

    def _candidates(self, batch: Sequence[MessageRecord], hits: Hits | None) -> list[_Open]:
        found = []
        for record in batch:
            numbers = self._work.conditions.open_for(record)
            if numbers is None or self._is_too_old(record):
                continue
            may = None if hits is None else hits.may_hold(slot_of_content(record), numbers)
            if may is not False:
                found.append(_Open(record, numbers))
        return found

    def _is_too_old(self, record: MessageRecord) -> bool:
        newest = self._work.newest
        return newest is not None and newest.excludes(self._selected.mailbox_id, record)

    def _is_told_by_message(self, record: MessageRecord) -> bool:
        """Tell whether the row lacks what a match shows, as Atlas's do."""
        return not self._selected.exact and not (record["received"] and record["sender"])

    async def _open_all(
        self, receive: MemoryObjectReceiveStream[_Open], scope: anyio.CancelScope
    ) -> None:
        async with receive:
            async for one in receive:
                try:
                    found = await self._open(one)
                    if found is not None:
                        await self._matched(found)
                except AtlasError as error:
                    self._errors.append(error)
                    scope.cancel()

    async def _open(self, one: _Open) -> MessageRecord | None:
        """Return the record of a message that matches; one that cannot be read is told."""
        if self._is_too_old(one.record) or self._work.stopped():
            return None
        try:
            if one.record["size_bytes"] <= LARGE_BYTES:
                return await self._compared(one)
            async with self._work.large:  # parsed, each takes several times its size
                return await self._compared(one)
        except IntegrityError as error:
            self._report.leave_out(self._selected.mailbox_id, one.record["object_id"], error)
            return None

    async def _compared(self, one: _Open) -> MessageRecord | None:
        self._report.opened += 1
        stored = await read_message(self._vault, one.record)
        conditions = self._work.conditions
        if not await to_thread.run_sync(conditions.hold, one.numbers, stored.resource):
            return None
        return told_by_message(stored) if self._is_told_by_message(one.record) else one.record

    async def _matched(self, record: MessageRecord) -> None:
        self._waiting.append(record)
        if len(self._waiting) >= (1 if self._whereabouts.are_known else LOCATED_AT_ONCE):
            waiting, self._waiting = self._waiting, []
            await self._deliver(waiting)

    async def _deliver(self, records: Sequence[MessageRecord]) -> None:
        """Hand matches on, with where they were last."""
        if not records:
            return
        async with self._delivering:
            for match in await self._whereabouts.matches(records):
                self._report.found += 1
                await self._work.sink(match)

    async def _look_up(self) -> Hits | None:
        """Return what the index says of the texts; None where it is not asked."""
        work = self._work
        wanted = work.conditions.needs_messages or work.mode is IndexMode.UPDATE
        if not wanted or work.mode is IndexMode.NONE:
            return None
        self._index = index = await SearchIndex.open(self._vault)
        hits: Hits | None = None
        for _ in range(INDEX_TRIES):
            await self._bring_up_to_date(index)
            try:
                hits = await index.hits(work.conditions.texts)
                break
            except (ObjectNotFound, IntegrityError):
                await index.drop_damaged()
        self._note(index, used=hits is not None and work.conditions.needs_messages)
        return hits

    def _note(self, index: SearchIndex, *, used: bool) -> None:
        told = self._report.index
        told.used += used
        told.updated += self._indexed
        told.documents += index.documents
        told.size += index.size
        told.message_bytes += index.message_bytes
        for notice in dict.fromkeys(index.notices):
            self._notice(notice)

    def _notice(self, text: str) -> None:
        self._report.notices.append(f"{self._selected.mailbox_id}: {text}")

    async def _bring_up_to_date(self, index: SearchIndex) -> None:
        """Index what the index lacks, where that pays and the store takes it."""
        lacking, asked = await self._count_lacking(index)
        update = self._work.mode is IndexMode.UPDATE
        if not lacking or not (update or asked * WORTHWHILE >= lacking):
            return
        if await self._vault.store.head(REPLICA_MARKER_KEY) is not None:
            self._notice("the bucket is a replica, so the index of words is not brought up to date")
            return

        def tell(indexed: int) -> None:
            self._indexed = indexed
            self._work.emit(self._progress(done=indexed, expected=lacking, indexing=True))

        indexing = Indexing(
            self._vault, index, clock=self._work.clock, tell=tell, stopped=self._work.stopped
        )
        try:
            async with self._work.indexing:
                await index.save()  # before many messages are opened in vain
                await indexing.run(self._selected.messages())
        except NewerFormat:
            raise
        except StoreError as error:
            self._notice(f"the index of words cannot be saved, so messages are opened: {error}")

    async def _count_lacking(self, index: SearchIndex) -> tuple[int, int]:
        """Return how many messages the index lacks, and of how many of them rows say too little."""

        def count(batch: Sequence[MessageRecord]) -> tuple[int, int]:
            lacking = [record for record in batch if slot_of_content(record) not in index]
            conditions = self._work.conditions
            return len(lacking), sum(bool(conditions.open_for(record)) for record in lacking)

        lacking = asked = 0
        async for batch in _batches(self._selected.messages()):
            some, more = await to_thread.run_sync(count, batch)
            lacking, asked = lacking + some, asked + more
        return lacking, asked

    def _tell(self) -> None:
        self._work.emit(self._progress(done=self._done, expected=max(self._expected, self._done)))

    def _progress(self, *, done: int, expected: int, indexing: bool = False) -> SearchProgress:
        return SearchProgress(self._selected.mailbox_id, done, expected, self._indexed, indexing)


async def _batches(records: AsyncIterator[MessageRecord]) -> AsyncIterator[list[MessageRecord]]:
    batch: list[MessageRecord] = []
    async for record in records:
        batch.append(record)
        if len(batch) == ROWS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
