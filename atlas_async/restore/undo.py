"""Take a restore back: put back what it replaced, then remove what it made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, TypeVar

from atlas_async.catalog.slots import SlotSet
from atlas_async.catalog.vault import Vault
from atlas_async.errors import (
    GraphError,
    GraphNotFound,
    GraphThrottled,
    GraphTransient,
    NoMailbox,
)
from atlas_async.model.events import Event, RestoreProgress
from atlas_async.model.restoring import (
    MARK_PROPERTY,
    MOST_LISTED,
    Present,
    RestoreFailure,
    UndoReport,
)
from atlas_async.model.source import FolderListing
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.journal import Journal, read_parts
from atlas_async.restore.marks import NOBODYS, slot_of_mark
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.predecessors import Predecessors
from atlas_async.restore.progress import Replaced
from atlas_async.restore.visible import VisibleFolders
from atlas_async.side_by_side import until_first_error

T = TypeVar("T")
WORKERS: Final = 6
BLOCK: Final = 2_000
"""Messages that are looked for together. What is known of them is a block old at most."""
LISTED: Final = 500
"""Messages that one request lists: fewer than one of these is asked for by itself."""


@dataclass(frozen=True, slots=True)
class _Made:
    """A message that the restore created."""

    mark: str
    object_id: str
    folder_id: str


class Undo:
    """Takes one restore back.

    What it replaced is put back first. What the journal names is removed then, and whatever else in
    the target's folders carries the mark of this restore: made in the last moments before a kill.
    Folders made in those are known by their paths, which were noted before.

    A message is deleted only while it lies in a folder that users see. Where it was deleted
    already, by a user or by an undoing that was cut short, another DELETE would purge it.

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
        self._handled = SlotSet()

    async def run(self) -> None:
        """Take everything back that can be.

        Raises:
            GraphThrottled, GraphTransient, NoMailbox, AuthError: The mailbox cannot be written to;
                running again continues.
            StoreError: The store failed.
        """
        listing = await self._target.list_folders()
        self._visible = VisibleFolders(self._target, listing)
        self._sizes = {folder.id: folder.total_items for folder in listing.folders}
        self._predecessors = Predecessors(self._target, self._visible, self.report)
        made_folders = self._made_folders(listing)
        if not self.report.dry_run:
            await self._note(made_folders)
        moved = list(self._journal.progress.replaced.items())
        await self._all(self._predecessors.put_back, moved, self._not_put_back)
        folders = await self._remove_journaled()
        folders.update(dict.fromkeys(made_folders))
        await self._remove_unjournaled(list(folders))
        await self._remove_folders(made_folders)
        if self._stop.requested:
            self.report.interrupted = True
            return
        for failure in self._predecessors.lost_without_successor():
            self._list(failure)
        if not self.report.failed and not self.report.dry_run:
            await self._journal.take_back()

    def _made_folders(self, listing: FolderListing) -> dict[str, tuple[str, ...]]:
        """Return the folders that the restore made, with their paths."""
        progress = self._journal.progress
        made = dict(progress.folders)
        absent = {_folded(path) for path in progress.absent}
        for folder in listing.folders:
            if _folded(folder.path) in absent:
                made.setdefault(folder.id, folder.path)
        return made

    async def _note(self, made: dict[str, tuple[str, ...]]) -> None:
        """Write down the ids of folders that were known by their paths alone.

        One that is deleted lies below Deleted Items until it is deleted again: after a kill between
        the two its path tells nothing any more.
        """
        for folder_id, path in made.items():
            if folder_id not in self._journal.progress.folders:
                self._journal.made_folder(folder_id, path)
        await self._journal.flush()

    async def _remove_journaled(self) -> dict[str, None]:
        """Remove what the journal names; return the folders that it was put into."""
        folders: dict[str, None] = {}
        block: list[_Made] = []
        part, place = self._journal.progress.begin
        async for number, entries in read_parts(self._vault, self._journal.job.job_id):
            if number < part:
                continue
            for kind, *values in entries[place if number == part else 0 :]:
                if kind != "message":
                    continue
                made = _Made(*map(str, values[:3]))
                folders[made.folder_id] = None
                if slot_of_mark(made.object_id) not in self._handled:
                    self._handled.add(slot_of_mark(made.object_id))
                    block.append(made)
            if len(block) >= BLOCK:
                await self._remove_block(block)
                block = []
        await self._remove_block(block)
        return folders

    async def _remove_block(self, block: Sequence[_Made]) -> None:
        by_folder: dict[str, list[_Made]] = {}
        for made in block:
            by_folder.setdefault(made.folder_id, []).append(made)
        for folder_id, some in by_folder.items():
            if self._stop.requested:
                return
            there = await self._found_in(folder_id, some)
            await self._all(self._remove, [m for m in some if m.object_id in there], self._failed)
            left = [made for made in some if made.object_id not in there]
            await self._all(self._remove_if_visible, left, self._failed)

    async def _found_in(self, folder_id: str, some: Sequence[_Made]) -> AbstractSet[str]:
        """Return which messages are where they were put, as far as listing the folder is cheap."""
        if folder_id not in self._sizes or len(some) * LISTED <= self._sizes[folder_id]:
            return frozenset()
        wanted = {made.object_id for made in some}
        found: set[str] = set()
        try:
            async for page in self._target.present(folder_id):
                found.update(item.object_id for item in page if item.object_id in wanted)
        except GraphError as error:
            if _concerns_all(error):
                raise
            return frozenset()  # the folder is gone, or refused: each is asked for by itself
        return found

    async def _remove_if_visible(self, made: _Made) -> None:
        if await self._visible.shows(await self._target.folder_of(made.object_id)):
            await self._remove(made)
        else:
            self.report.gone += 1
            self._tell()

    async def _remove(self, made: _Made) -> None:
        """Remove a message that lies in a folder that users see, unless it has to stay."""
        reason = self._predecessors.why_stays(made.mark, made.folder_id)
        if reason:
            await self._leave(made, reason)
        elif not self._predecessors.holds(made.mark, made.folder_id):
            if self.report.dry_run or await self._target.delete_message(made.object_id):
                self.report.removed += 1
            else:
                self.report.gone += 1
        self._tell()

    async def _leave(self, made: _Made, reason: str) -> None:
        """Leave a message for good: it is no part of the restore any more."""
        if not self.report.dry_run:
            # With its mark the same restore, run again, would take it for its own, and the undoing
            # of that would remove the only copy.
            patch = {"singleValueExtendedProperties": [{"id": MARK_PROPERTY, "value": NOBODYS}]}
            try:
                await self._target.update_message(made.object_id, patch)
            except GraphNotFound:
                self.report.gone += 1
                return
        self.report.kept += 1
        path = self._visible.path_of(made.folder_id)
        self._list(RestoreFailure("message", made.object_id, path, "", "Kept", reason))

    async def _remove_unjournaled(self, folders: Sequence[str]) -> None:
        for folder_id in folders:
            found: list[_Made] = []
            try:
                async for page in self._target.present(folder_id):
                    found += [
                        _Made(item.mark, item.object_id, folder_id)
                        for item in page
                        if self._is_unjournaled(item)
                    ]
            except GraphError as error:
                if _concerns_all(error):
                    raise
                continue  # the folder is gone, and what it held with it
            left = [made for made in found if slot_of_mark(made.object_id) not in self._handled]
            await self._all(self._remove, left, self._failed)

    def _is_unjournaled(self, item: Present) -> bool:
        """Tell whether a message was made in the last moments before a kill.

        Where the journal names what was made with a mark, another message with it is a copy that
        somebody made of it.
        """
        return item.mark.startswith(self._own) and not self._journal.progress.knows(item.mark)

    async def _remove_folders(self, made: dict[str, tuple[str, ...]]) -> None:
        for folder_id, path in sorted(made.items(), key=lambda item: -len(item[1])):
            if self._stop.requested:
                return
            try:
                removed = self.report.dry_run or await self._target.delete_folder(folder_id)
            except GraphError as error:
                if _concerns_all(error):
                    raise
                self._fail(RestoreFailure("folder", folder_id, path, "", error.code, str(error)))
                continue
            if removed:
                self.report.folders_removed += 1
            else:
                self.report.folders_kept.append(path)

    async def _all(
        self,
        work: Callable[[T], Awaitable[None]],
        items: Sequence[T],
        failed: Callable[[T, GraphError], None],
    ) -> None:
        """Do ``work`` for every item, some at a time; one that fails costs itself."""

        async def one(item: T) -> None:
            if self._stop.requested:
                return
            try:
                await work(item)
            except GraphError as error:
                if _concerns_all(error):
                    raise
                failed(item, error)

        await until_first_error(one, items, at_once=WORKERS)

    def _failed(self, made: _Made, error: GraphError) -> None:
        path = self._visible.path_of(made.folder_id)
        self._fail(RestoreFailure("message", made.object_id, path, "", error.code, str(error)))

    def _not_put_back(self, moved: tuple[str, Replaced], error: GraphError) -> None:
        object_id, replaced = moved
        self._predecessors.hold(replaced)
        path = self._visible.path_of(replaced.folder_id)
        reason = f"not put back, so what replaced it stays: {error}"
        self._fail(RestoreFailure("message", object_id, path, "", error.code, reason))

    def _fail(self, failure: RestoreFailure) -> None:
        self.report.failed += 1
        self._list(failure)

    def _list(self, failure: RestoreFailure) -> None:
        if len(self.report.failures) < MOST_LISTED:
            self.report.failures.append(failure)

    def _tell(self) -> None:
        done = self.report.removed + self.report.gone + self.report.kept
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
