"""Of several snapshots, each message where the last of them shows it: folders move and are renamed.

A folder goes by one id, and by one path in each snapshot. A message that was deleted before its
folder was moved, renamed or deleted belongs where that folder was while the message was in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from atlas_async.catalog import content
from atlas_async.catalog.state import StateReader
from atlas_async.catalog.vault import Vault
from atlas_async.errors import ObjectNotFound, PartMissing
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import Folder
from atlas_async.operations.selection import Selected

AT_ONCE: Final = 512
"""Messages that are looked up in a snapshot at a time."""


class LastPlaces:
    """The messages of a selection; those of folders that were elsewhere before, in what they were.

    Such a folder is described beside the others, with an id of its own, below the folders that
    were above it then.

    Args:
        selected: What was chosen, of snapshots that this program wrote.
    """

    def __init__(self, selected: Selected) -> None:
        self._selected = selected
        self._before: dict[tuple[str, ...], Folder] = {}
        self._places = [self._of(number) for number in range(len(selected.views))]
        self._moved = frozenset(folder_id for places in self._places for folder_id in places)
        self._paths = {folder.id: folder.path for folder in self._before.values()}
        self._reader = StateReader(selected.vault, ())

    @property
    def vault(self) -> Vault:
        """Where the messages are."""
        return self._selected.vault

    @property
    def folders(self) -> Sequence[Folder]:
        """All folders, parents first: as they are now, and what some were before."""
        every = (*self._selected.folders, *self._before.values())
        return sorted(every, key=lambda folder: len(folder.path))

    @property
    def chosen_folders(self) -> Sequence[Folder]:
        """Those that messages are taken from, as they are now."""
        return self._selected.chosen_folders

    def folder_path(self, folder_id: str) -> tuple[str, ...]:
        """Return a folder's names from the root, or a stand-in."""
        found = self._paths.get(folder_id)
        return self._selected.folder_path(folder_id) if found is None else found

    async def messages(self) -> AsyncIterator[MessageRecord]:
        """Yield the messages, in the order of the selection.

        Raises:
            IntegrityError: A part of a snapshot is damaged, or missing (``PartMissing``).
            StoreError: The store failed.
        """
        batch: list[MessageRecord] = []
        async for record in self._selected.messages():
            batch.append(record)
            if len(batch) == AT_ONCE:
                for placed in await self._placed(batch):
                    yield placed
                batch = []
        for placed in await self._placed(batch):
            yield placed

    def _of(self, number: int) -> dict[str, str]:
        """Return the folders that a snapshot has elsewhere than the newest that knows them.

        Each with the id of the folder that is, or was, where it was then.
        """
        now = {folder.id: folder for folder in self._selected.folders}
        by_path = {folder.path: folder.id for folder in reversed(self._selected.folders)}
        found: dict[str, str] = {}
        for shown in self._selected.views[number].folders:  # parents come first
            folder = shown.folder
            if not folder.path or folder.path == now[folder.id].path:
                continue
            there = by_path.get(folder.path)
            if there is None:
                before = self._before.get(folder.path)
                if before is None:
                    parent_id = found.get(folder.parent_id, folder.parent_id)
                    # An id that sorts after those of Graph: of two of one name, it gets the number.
                    before = replace(
                        folder, id=f"~{number}~{folder.id}", parent_id=parent_id, total_items=0
                    )
                    self._before[folder.path] = before
                there = before.id
            found[folder.id] = there
        return found

    async def _placed(self, batch: list[MessageRecord]) -> list[MessageRecord]:
        left = {r["object_id"] for r in batch if r["folder_id"] in self._moved}
        last: dict[str, int] = {}
        for number in reversed(range(len(self._places))):
            if not left:
                break
            held = await self._held(number, left)
            last.update(dict.fromkeys(held, number))
            left -= held
        return [self._where(record, last.get(record["object_id"])) for record in batch]

    def _where(self, record: MessageRecord, number: int | None) -> MessageRecord:
        there = None if number is None else self._places[number].get(record["folder_id"])
        if there is None:
            return record
        placed = record.copy()
        placed["folder_id"] = there
        return placed

    async def _held(self, number: int, object_ids: set[str]) -> set[str]:
        """Return which of some messages a snapshot has."""
        snapshot = self._selected.views[number].snapshot
        # One reader for all: snapshots share most of their segments, and it keeps some.
        self._reader.runs = snapshot.runs if snapshot is not None else ()
        try:
            return set(await self._reader.find(object_ids))
        except ObjectNotFound as error:
            msg = "a part of these snapshots is missing from the bucket"
            raise PartMissing(msg, where=error.where, hint=content.MISSING_HINT) from None
