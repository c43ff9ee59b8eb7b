"""Where a message of the target is now: kept by somebody, or deleted."""

from __future__ import annotations

import anyio

from atlas_async.model.source import FolderListing
from atlas_async.restore.placement import Place
from atlas_async.restore.ports import TargetMailbox


class Whereabouts:
    """Tells folders that somebody keeps mail in from those below Deleted Items.

    Args:
        target: The mailbox.
        listing: Its folders.
    """

    def __init__(self, target: TargetMailbox, listing: FolderListing) -> None:
        self._target = target
        self._deleted: set[str] = set()
        self._kept: set[str] = set()
        self._listing = anyio.Lock()
        self._sort(listing)

    def note(self, folder_id: str) -> None:
        """Take in a folder that was made since."""
        self._kept.add(folder_id)

    def is_bin(self, folder_id: str) -> bool:
        """Tell whether a folder is Deleted Items, or below it."""
        return folder_id in self._deleted

    async def is_kept(self, target_id: str, place: Place) -> bool:
        """Tell whether a message is in its place, or somewhere else but not deleted."""
        folder_id = await self._target.folder_of(target_id)
        if folder_id is None or folder_id == place.folder_id:
            return folder_id is not None
        async with self._listing:
            if folder_id not in self._kept and folder_id not in self._deleted:
                self._sort(await self._target.list_folders())
                if folder_id not in self._kept:
                    # Users do not see it: it lies among the recoverable items.
                    self._deleted.add(folder_id)
        return folder_id in self._kept

    def _sort(self, listing: FolderListing) -> None:
        bins = [f.path for f in listing.folders if f.well_known_name == "deleteditems"]
        for folder in listing.folders:
            deleted = any(folder.path[: len(path)] == path for path in bins)
            (self._deleted if deleted else self._kept).add(folder.id)
