"""A mailbox in memory with just what placing and looking need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from atlas_async.model.restoring import Present
from atlas_async.model.source import Folder, FolderListing


@dataclass
class Box:
    """Folders and messages, and what was asked of them. Names of siblings differ in any case."""

    folders: list[Folder] = field(default_factory=list)
    messages: dict[str, list[Present]] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    made: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *path: str, known: str | None = None, hidden: bool = False) -> str:
        """Put a folder there and return its id."""
        parent = "root"
        for folder in self.folders:
            if folder.path == path[:-1]:
                parent = folder.id
        folder_id = f"id{len(self.folders)}"
        self.folders.append(folder_of(folder_id, path, parent, known=known, hidden=hidden))
        return folder_id

    @property
    def listing(self) -> FolderListing:
        """All folders."""
        return FolderListing(tuple(self.folders), "root", None, 0)

    async def create_folder(self, parent_id: str, name: str, *, hidden: bool) -> tuple[str, bool]:
        for folder in self.folders:
            if folder.parent_id == parent_id and folder.name.casefold() == name.casefold():
                return folder.id, False
        above = next((f.path for f in self.folders if f.id == parent_id), ())
        self.made.append((*above, name))
        return self.add(*above, name, hidden=hidden), True

    async def present(self, folder_id: str) -> AsyncIterator[list[Present]]:
        self.asked.append(("present", folder_id))
        yield self.messages.get(folder_id, [])

    async def find(self, folder_id: str, message_id: str, mark: str) -> list[Present]:
        self.asked.append(("find", folder_id, message_id))
        held = self.messages.get(folder_id, [])
        return [item for item in held if item.key == message_id or item.mark == mark]


def folder_of(
    folder_id: str,
    path: tuple[str, ...],
    parent_id: str = "root",
    *,
    known: str | None = None,
    hidden: bool = False,
) -> Folder:
    """Return a folder of this path."""
    return Folder(
        id=folder_id,
        name=path[-1] if path else "",
        parent_id=parent_id,
        path=path,
        well_known_name=known,
        hidden=hidden,
        total_items=0,
    )
