"""Take a restore back: remove what it made, put back what it replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from atlas_async.catalog.slots import SlotSet
from atlas_async.catalog.vault import Vault
from atlas_async.errors import GraphError, GraphThrottled, GraphTransient, NoMailbox
from atlas_async.model.events import Event, RestoreProgress
from atlas_async.model.restoring import MOST_LISTED, Present, RestoreFailure, UndoReport
from atlas_async.pipeline.side_by_side import until_first_error
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.journal import Journal, read_parts
from atlas_async.restore.marks import slot_of_mark
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.progress import Replaced

T = TypeVar("T")
WORKERS: Final = 6


class Undo:
    """Takes one restore back.

    What the journal names is removed, and whatever else in the target's folders carries the mark of
    this restore: made in the last moments before a kill. Folders made in those are known by their
    paths, which were noted before.

    Args:
        vault: The mailbox that was restored from.
        target: The mailbox that was restored to.
        journal: The restore's, opened.
        emit: Takes events.
        stop: Ends it early, in order.
        report: Takes what comes of it.
    """

    def __init__(
        self,
        vault: Vault,
        target: TargetMailbox,
        journal: Journal,
        *,
        emit: Callable[[Event], None],
        stop: StopSignal,
        report: UndoReport,
    ) -> None:
        self._vault = vault
        self._target = target
        self._journal = journal
        self._emit = emit
        self._stop = stop
        self.report = report
        self._own = f"{journal.job.job_id}/"

    async def run(self) -> None:
        """Take everything back that can be.

        Raises:
            GraphThrottled, GraphTransient, NoMailbox, AuthError: The mailbox cannot be written to;
                running again continues.
            StoreError: The store failed.
        """
        removed = SlotSet()
        made_folders = await self._made_folders()
        folders: dict[str, None] = {}
        part, place = self._journal.progress.begin
        async for number, entries in read_parts(self._vault, self._journal.job.job_id):
            if number < part:
                continue
            made = []
            for kind, *values in entries[place if number == part else 0 :]:
                if kind == "message":
                    folders[str(values[2])] = None
                    made.append(str(values[1]))
            fresh = [item for item in dict.fromkeys(made) if slot_of_mark(item) not in removed]
            for object_id in fresh:
                removed.add(slot_of_mark(object_id))
            await self._all(self._remove, fresh)
        folders.update(dict.fromkeys(made_folders))
        await self._remove_unjournaled(list(folders), removed)
        await self._all(self._put_back, list(self._journal.progress.replaced.items()))
        await self._remove_folders(made_folders)
        if self._stop.requested:
            self.report.interrupted = True
        elif not self.report.failed and not self.report.dry_run:
            await self._journal.take_back()

    async def _made_folders(self) -> dict[str, tuple[str, ...]]:
        """Return the folders that the restore made, with their paths."""
        progress = self._journal.progress
        made = dict(progress.folders)
        absent = {_folded(path) for path in progress.absent}
        listing = await self._target.list_folders()
        for folder in listing.folders:
            if _folded(folder.path) in absent:
                made.setdefault(folder.id, folder.path)
        return made

    async def _remove(self, object_id: str) -> None:
        if self.report.dry_run:
            there = await self._target.folder_of(object_id) is not None
        else:
            there = await self._target.delete_message(object_id)
        if there:
            self.report.removed += 1
        else:
            self.report.gone += 1
        self._tell()

    async def _remove_unjournaled(self, folders: Sequence[str], removed: SlotSet) -> None:
        for folder_id in folders:
            found: list[Present] = []
            try:
                async for page in self._target.present(folder_id):
                    found += [item for item in page if self._is_unjournaled(item)]
            except GraphError as error:
                if _concerns_all(error):
                    raise
                continue  # the folder is gone, and what it held with it
            left = [item.object_id for item in found]
            await self._all(
                self._remove, [item for item in left if slot_of_mark(item) not in removed]
            )

    def _is_unjournaled(self, item: Present) -> bool:
        """Tell whether a message was made in the last moments before a kill.

        Where the journal names what was made with a mark, another message with it is a copy that
        somebody made of it.
        """
        return item.mark.startswith(self._own) and not self._journal.progress.knows(item.mark)

    async def _put_back(self, moved: tuple[str, Replaced]) -> None:
        object_id, folder_id = moved[0], moved[1].folder_id
        now_in = await self._target.folder_of(object_id)
        if now_in == folder_id:
            return  # a kill came between noting the move and making it
        back = now_in is not None
        if back and not self.report.dry_run:
            back = await self._target.move_message(object_id, folder_id)
        self.report.put_back += back
        if not back:
            self._fail("message", object_id, "Gone", "what was replaced is not there any more")

    async def _remove_folders(self, made: dict[str, tuple[str, ...]]) -> None:
        for folder_id, path in sorted(made.items(), key=lambda item: -len(item[1])):
            if self._stop.requested:
                return
            if self.report.dry_run or await self._target.delete_folder(folder_id):
                self.report.folders_removed += 1
            else:
                self.report.folders_kept.append(path)

    async def _all(self, work: Callable[[T], Awaitable[None]], items: Sequence[T]) -> None:
        """Do ``work`` for every item, some at a time; one that fails costs itself."""

        async def one(item: T) -> None:
            if self._stop.requested:
                return
            try:
                await work(item)
            except GraphError as error:
                if _concerns_all(error):
                    raise
                self._fail("message", str(item), error.code, str(error))

        await until_first_error(one, items, at_once=WORKERS)

    def _fail(self, kind: str, object_id: str, code: str, reason: str) -> None:
        self.report.failed += 1
        if len(self.report.failures) < MOST_LISTED:
            self.report.failures.append(RestoreFailure(kind, object_id, (), "", code, reason))

    def _tell(self) -> None:
        done = self.report.removed + self.report.gone
        self._emit(
            RestoreProgress(
                mailbox_id=self.report.mailbox_id,
                folder="",
                done=done,
                expected=self._journal.progress.created,
                created=0,
                skipped=0,
                failed=self.report.failed,
                bytes_sent=self._target.bytes_sent,
                throttled=self._target.usage.throttled,
            )
        )


def _folded(path: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.strip().casefold() for name in path)


def _concerns_all(error: GraphError) -> bool:
    return isinstance(error, GraphThrottled | GraphTransient | NoMailbox)
