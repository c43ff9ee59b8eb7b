"""The rounds of one mailbox: folders are read and their pages settled, side by side.

The first round reads every folder; a short further one asks those for changes that were read long
ago. Producers and settlers run under one task group and meet in one bounded channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from atlas_async.catalog.snapshot import FolderCursor, Snapshot
from atlas_async.errors import AtlasError, ConsentError, GraphError, GraphThrottled, NoMailbox
from atlas_async.model.source import Folder
from atlas_async.pipeline.batch import PageBatch, SettledPage, Tally, not_stored
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.outcome import leaves, worst
from atlas_async.pipeline.produce import Producer
from atlas_async.pipeline.settle import Settler
from atlas_async.pipeline.surroundings import RunOptions, Surroundings

PAGES_WAITING: Final = 2
CATCH_UP_SECONDS: Final = 30.0
CATCH_UPS: Final = 2
"""Folders read longer ago are asked for changes once more before the commit, so often at most."""

SETTLERS: Final = 2
"""Pages settled at once per mailbox; each has several messages in flight."""

WAITING_MESSAGES: Final = 2_000
"""Messages settled that wait for an earlier page of their folder, say for a large attachment in it.

Until it is settled no checkpoint has them and they are held in memory, so no more are begun.
"""


class Rounds:
    """Reads folders and settles what they hold.

    Args:
        producer: Reads pages.
        settler: Gives every item of a page its outcome.
        journal: Records outcomes.
        options: What the run is to do.
        around: What is shared with other mailboxes.
        tally: Counts failed folders.
        applied: Told of each page recorded.
        checkpoint: The checkpoint that the run goes on from, if any.
    """

    def __init__(
        self,
        producer: Producer,
        settler: Settler,
        journal: Journal,
        options: RunOptions,
        around: Surroundings,
        *,
        tally: Tally,
        applied: Callable[[SettledPage], None],
        checkpoint: Snapshot | None,
    ) -> None:
        self._producer = producer
        self._settler = settler
        self._journal = journal
        self._options = options
        self._around = around
        self._tally = tally
        self._applied = applied
        self._resumed = _begun(checkpoint, journal)
        self._read: set[str] = set()
        self._continued: set[str] = set()
        self._refused: list[AtlasError] = []
        self._at_work = 0
        self._settled = anyio.Event()

    async def run(self, folders: tuple[Folder, ...]) -> AtlasError | None:
        """Read ``folders``, then catch up with those read long ago; return what stopped it."""
        error = await self._round(folders)
        for _ in range(CATCH_UPS):
            behind = self._behind(folders)
            if error is not None or self._around.stop.requested or not behind:
                break
            self._journal.doubted.clear()
            error = await self._round(behind)
        return error

    async def _round(self, folders: tuple[Folder, ...]) -> AtlasError | None:
        """Run producers and settlers until all folders have ended; return what stopped them."""
        errors: list[AtlasError] = []
        send, receive = anyio.create_memory_object_stream[PageBatch](PAGES_WAITING)
        try:
            async with send, receive, anyio.create_task_group() as group:
                for _ in range(SETTLERS):
                    group.start_soon(self._settle_pages, receive.clone())
                group.start_soon(self._produce_all, send.clone(), folders)
                send.close()
        except* AtlasError as failed:
            errors.extend(leaves(failed))
        finally:
            self._producer.release_all()
        return worst(errors) or self._refusal()

    def _refusal(self) -> AtlasError | None:
        """Return why the mailbox as a whole is refused: no folder of it could be read.

        A run that reads only what earlier ones could not says nothing of the mailbox.
        """
        if self._options.ledger is not None:
            return None
        return self._refused[0] if self._refused and not self._read else None

    def _behind(self, folders: tuple[Folder, ...]) -> tuple[Folder, ...]:
        """Return the folders read so long ago, or in a round begun by an earlier run, or doubted.

        What happened since is not in what was read. A folder that showed a message which Graph
        does not find takes it back now, or insists.

        A message that moves from a folder not read yet to one already read is in neither; asking
        those folders for changes once more finds it. The machine's clock may be set while the run
        is on, so it is not asked how long ago that was.
        """
        moment = self._around.clock.monotonic() - CATCH_UP_SECONDS
        linked_at = self._producer.linked_at
        return tuple(
            folder
            for folder in folders
            if (cursor := self._journal.cursors.get(folder.id)) is not None
            and cursor.link is not None
            and not cursor.round_open
            and folder.id in self._read
            and (
                linked_at.get(folder.id, moment) < moment
                or folder.id in self._continued
                or folder.id in self._journal.doubted
            )
        )

    async def _produce_all(
        self,
        send: MemoryObjectSendStream[PageBatch],
        folders: tuple[Folder, ...],
    ) -> None:
        """Read all folders, a few at once; a stop request ends the reading, not the settling."""
        waiting = iter(folders)
        async with send:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._around.stop.cancel, scope)
                    async with anyio.create_task_group() as readers:
                        for _ in range(self._options.requests_at_once):
                            readers.start_soon(self._produce, waiting, send)
                    group.cancel_scope.cancel()

    async def _produce(
        self,
        waiting: Iterator[Folder],
        send: MemoryObjectSendStream[PageBatch],
    ) -> None:
        journal = self._journal
        for folder in waiting:
            cursor = journal.cursors.get(folder.id, FolderCursor())
            recorded = journal.folder_counts.get(folder.id, 0)
            again = folder.id in self._read or folder.id in self._resumed
            full = self._options.full and not again
            try:
                await self._producer.produce(
                    folder, cursor, send.send, full=full, recorded=recorded
                )
            except GraphThrottled:
                raise
            except (GraphError, ConsentError) as error:
                if isinstance(error, ConsentError | NoMailbox):
                    self._refused.append(error)
                journal.fail(
                    not_stored(
                        error,
                        kind="folder",
                        object_id=folder.id,
                        folder_id=folder.id,
                        name="/".join(folder.path),
                    )
                )
                self._tally.failed += 1
            else:
                self._read.add(folder.id)
                (self._continued.add if cursor.round_open else self._continued.discard)(folder.id)
                journal.ledger.resolve(("folder", folder.id, ""))

    async def _settle_pages(
        self,
        receive: MemoryObjectReceiveStream[PageBatch],
    ) -> None:
        async with receive:
            while await self._settle_page(receive):
                if self._journal.checkpoint_due():
                    await self._journal.checkpoint()

    async def _settle_page(
        self,
        receive: MemoryObjectReceiveStream[PageBatch],
    ) -> bool:
        """Settle the next page; return False when there is none. Nothing of it is kept."""
        while self._at_work and self._journal.waiting >= WAITING_MESSAGES:
            await self._settled.wait()
        try:
            batch = await receive.receive()
        except anyio.EndOfStream:
            return False
        self._at_work += 1
        try:
            page = await self._settler.settle(batch)
            for applied in self._journal.take(page):
                self._applied(applied)
        finally:
            self._producer.release(batch.lease)
            self._at_work -= 1
            self._settled.set()
            self._settled = anyio.Event()
        return True


def _begun(checkpoint: Snapshot | None, journal: Journal) -> frozenset[str]:
    """Return the folders that the checkpoint of an interrupted full run had begun already."""
    if checkpoint is None or not checkpoint.full_run:
        return frozenset()
    base = journal.base.cursors if journal.base else {}
    return frozenset(
        folder_id
        for folder_id, cursor in checkpoint.cursors.items()
        if base.get(folder_id) != cursor
    )
