"""Which folder of the target a folder of the snapshot is, or becomes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import anyio

from atlas_async.model.source import Folder, FolderListing
from atlas_async.restore.ports import TargetMailbox

ELSEWHERE: Final = {"outbox": "drafts", "recoverableitemsdeletions": "deleteditems"}
"""Well-known folders that nothing is put into in place, and where it goes instead: what lies in
the outbox may be sent, and users do not see the recoverable items."""
LONGEST_NAME: Final = 250
"""Characters of a folder's name that are used; Exchange takes 255."""
NUMBER_ROOM: Final = 8
"""Characters that the number of a sibling of one name may need."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of the target.

    ``folder_id`` is empty while it is not there, in a dry run. ``path`` are its names from the
    root. ``fresh`` tells that this restore has just created it, so that it holds nothing else.
    ``instead_of`` is the folder that it stands for: what is still there is not put here as well.
    """

    folder_id: str
    path: tuple[str, ...]
    fresh: bool
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class CreatedFolder:
    """A folder that the restore made."""

    folder_id: str
    path: tuple[str, ...]


class Placement:
    """Finds and makes the folders of the target; each is made once.

    Args:
        target: The mailbox.
        listing: Its folders.
        folders: The snapshot's folders, all of them, parents first.
        in_place: Into the same folders rather than below ``root``.
        root: Name of the folder that everything goes below otherwise.
        dry_run: Make nothing.
        intended: Paths of folders that earlier runs found absent, and were about to make.
        intend: Told such a path, durably, before its folder is made.
    """

    def __init__(
        self,
        target: TargetMailbox,
        listing: FolderListing,
        folders: Sequence[Folder],
        *,
        in_place: bool,
        root: str,
        dry_run: bool,
        intended: Collection[tuple[str, ...]] = (),
        intend: Callable[[tuple[str, ...]], Awaitable[None]] | None = None,
    ) -> None:
        self._intended = intended
        self._intend = intend
        self._fresh: set[str] = set()
        self._ours: set[str] = set()
        self._target = target
        self._in_place = in_place
        self._root = root
        self._dry_run = dry_run
        self._source = {folder.id: folder for folder in folders}
        self._names = _distinct_names(folders)
        self._by_id = {folder.id: folder for folder in listing.folders}
        self._known = _known_places(listing)
        self._children: dict[tuple[str, str], str] = {}
        for folder in reversed(listing.folders):
            self._children[folder.parent_id or listing.root_id, folder.name.casefold()] = folder.id
        self._top = Place(listing.root_id, (), fresh=False)
        self._places: dict[str, Place] = {}
        self._making = anyio.Lock()
        self.created: list[CreatedFolder] = []
        self.absent: dict[tuple[str, ...], None] = {}

    async def place(self, folder_id: str, stand_in: tuple[str, ...]) -> Place:
        """Return where messages of a folder go.

        Args:
            folder_id: The snapshot's folder.
            stand_in: Its path, where the snapshot does not describe it.
        """
        found = self._places.get(folder_id)
        if found is not None:
            return found
        async with self._making:
            return await self._place(folder_id, stand_in)

    async def top(self) -> Place:
        """Return the folder that everything goes below; made when it is absent."""
        async with self._making:
            return await self._top_place()

    @property
    def places(self) -> list[Place]:
        """The places of all folders that were asked for."""
        return list(self._places.values())

    async def forget(self, folder_id: str, listing: FolderListing) -> None:
        """Look a folder up anew: somebody has deleted it since it was placed."""
        async with self._making:
            alive = {folder.id for folder in listing.folders} | {listing.root_id}
            self._children = {k: v for k, v in self._children.items() if v in alive}
            self._places = {k: v for k, v in self._places.items() if v.folder_id in alive}
            self._places.pop(folder_id, None)
            self._by_id = {folder.id: folder for folder in listing.folders}
            self._known = _known_places(listing)

    async def _place(self, folder_id: str, stand_in: tuple[str, ...]) -> Place:
        found = self._places.get(folder_id)
        if found is not None:
            return found
        folder = self._source.get(folder_id)
        known = (folder.well_known_name or "").lower() if folder else ""
        there = self._same_place(folder, known) if self._in_place and folder else None
        if there is not None:
            place = there
        elif folder is None or not folder.path:
            place = await self._unplaced(folder, stand_in)
        else:
            if folder.parent_id in self._source:
                above = await self._place(folder.parent_id, ())
            else:
                above = await self._top_place()
            place = await self._child(above, self._names[folder_id], hidden=folder.hidden)
        self._places[folder_id] = place
        return place

    def _same_place(self, folder: Folder, known: str) -> Place | None:
        """Return the folder of the target that is the very same one, by its name or by its id."""
        place = self._known.get(ELSEWHERE.get(known, known)) if known else None
        if place is not None and known in ELSEWHERE and known in self._known:
            return replace(place, instead_of=self._known[known].folder_id)
        if place is not None:
            return place
        # Siblings may have one name; where the folder itself is still there, its id tells.
        twin = self._by_id.get(folder.id)
        if twin is not None and twin.path == folder.path:
            return Place(twin.id, twin.path, fresh=False)
        return None

    async def _unplaced(self, folder: Folder | None, stand_in: tuple[str, ...]) -> Place:
        """Return the place of the root itself, or of a folder whose place is not known."""
        above = await self._top_place()
        if folder is not None and not stand_in:
            return above
        for name in stand_in:
            above = await self._child(above, name, hidden=False)
        return above

    async def _top_place(self) -> Place:
        if self._in_place:
            return self._top
        return await self._child(self._top, self._root, hidden=False)

    async def _child(self, above: Place, name: str, *, hidden: bool) -> Place:
        name = name.strip()[:LONGEST_NAME].strip() or "Folder"
        path = (*above.path, name)
        folder_id = (
            self._children.get((above.folder_id, name.casefold())) if above.folder_id else ""
        )
        if folder_id:
            if path in self._intended and folder_id not in self._ours:
                # Made by a run that was killed before it could say so.
                self._note(folder_id, path)
            return Place(folder_id, path, folder_id in self._fresh)
        self.absent[path] = None
        if self._dry_run:
            return Place("", path, fresh=True)
        was_absent = path in self._intended
        if self._intend is not None:
            await self._intend(path)
        folder_id, created = await self._target.create_folder(above.folder_id, name, hidden=hidden)
        self._children[above.folder_id, name.casefold()] = folder_id
        if created:
            self._fresh.add(folder_id)
        if created or was_absent:
            self._note(folder_id, path)
        return Place(folder_id, path, fresh=created)

    def _note(self, folder_id: str, path: tuple[str, ...]) -> None:
        self._ours.add(folder_id)
        self.created.append(CreatedFolder(folder_id, path))


def _known_places(listing: FolderListing) -> dict[str, Place]:
    return {
        folder.well_known_name: Place(folder.id, folder.path, fresh=False)
        for folder in listing.folders
        if folder.well_known_name
    }


def _distinct_names(folders: Iterable[Folder]) -> dict[str, str]:
    """Return a name for every folder that no sibling has: Exchange compares them without case."""
    names: dict[str, str] = {}
    taken: set[tuple[str, str]] = set()
    for folder in sorted(folders, key=lambda f: (len(f.path), f.name, f.id)):
        given = folder.name.strip()[:LONGEST_NAME].strip() or "Folder"
        name, number = given, 1
        while (folder.parent_id, name.casefold()) in taken:
            number += 1
            name = f"{given[: LONGEST_NAME - NUMBER_ROOM]} ({number})"
        taken.add((folder.parent_id, name.casefold()))
        names[folder.id] = name
    return names
