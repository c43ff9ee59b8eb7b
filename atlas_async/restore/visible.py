"""Which folders of a mailbox users see, and which of them are for what is deleted."""

from __future__ import annotations

import anyio

from atlas_async.model.source import FolderListing
from atlas_async.restore.ports import TargetMailbox


class VisibleFolders:
    """Tells folders of the mailbox's tree, Deleted Items among them, from all others.

    A message whose folder is not in the tree lies among the recoverable items.

    Args:
        target: The mailbox.
        listing: Its folders.
    """

    def __init__(self, target: TargetMailbox, listing: FolderListing) -> None:
        self._target = target
        self._paths: dict[str, tuple[str, ...]] = {}
        self._others: set[str] = set()
        self._bins: list[tuple[str, ...]] = []
        self._listing = anyio.Lock()
        self._take(listing)

    def note(self, folder_id: str, path: tuple[str, ...]) -> None:
        """Take in a folder that was made since."""
        self._paths[folder_id] = path

    def is_bin(self, folder_id: str) -> bool:
        """Tell whether a folder is Deleted Items, or below it."""
        path = self.path_of(folder_id)
        return any(path[: len(above)] == above for above in self._bins)

    def path_of(self, folder_id: str) -> tuple[str, ...]:
        """Return a folder's names from the root; nothing where it is not in the tree."""
        return self._paths.get(folder_id, ())

    async def shows(self, folder_id: str | None) -> bool:
        """Tell whether users see what is in a folder; what is in none (None) is gone.

        Raises:
            GraphError: The mailbox cannot be asked.
        """
        if folder_id is None:
            return False
        async with self._listing:
            if folder_id not in self._paths and folder_id not in self._others:
                # A user may have made it since the folders were listed.
                self._take(await self._target.list_folders())
                if folder_id not in self._paths:
                    self._others.add(folder_id)
        return folder_id in self._paths

    async def keeps(self, folder_id: str | None) -> bool:
        """Tell whether somebody keeps what is in a folder: users see it, and it is not deleted.

        Raises:
            GraphError: The mailbox cannot be asked.
        """
        return await self.shows(folder_id) and not self.is_bin(folder_id or "")

    def _take(self, listing: FolderListing) -> None:
        self._bins = [f.path for f in listing.folders if f.well_known_name == "deleteditems"]
        self._paths[listing.root_id] = ()
        self._paths |= {folder.id: folder.path for folder in listing.folders}
