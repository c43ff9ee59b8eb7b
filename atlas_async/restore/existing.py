"""What the folders of the target hold already, so that nothing is created twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from atlas_async.catalog.slots import SlotSet
from atlas_async.model.restoring import Present
from atlas_async.restore.marks import half_slot, slot_of_mark
from atlas_async.restore.placement import Place
from atlas_async.restore.ports import TargetMailbox

FEW: Final = 200
"""Up to so many chosen messages are looked for one by one in a folder that holds many more."""
MANY: Final = 2_000
"""Messages in a folder from which on that costs fewer requests than listing it."""


@dataclass(slots=True)
class Shelf:
    """One folder of the target.

    Args:
        marks: Slots of the marks that messages there carry.
        others: Slot of the key of a message that this restore has not made -> how many there are.
        ids: Half slots of the ids of all messages there.
    """

    marks: SlotSet = field(default_factory=SlotSet)
    others: dict[int, int] = field(default_factory=dict)
    ids: SlotSet = field(default_factory=SlotSet)

    def note(self, present: Present, *, ours: bool) -> None:
        """Take in one message."""
        self.ids.add(half_slot(present.object_id))
        if ours:
            self.marks.add(slot_of_mark(present.mark))
        else:
            slot = slot_of_mark(present.key)
            self.others[slot] = self.others.get(slot, 0) + 1

    def has(self, key: str) -> bool:
        """Tell whether a message of somebody else's has this key."""
        return slot_of_mark(key) in self.others

    def take(self, key: str) -> bool:
        """Take one message with this key for the one that would be created; False if none is left.

        Two messages of the snapshot may have one key. When the folder has one of them, the other
        is created.
        """
        slot = slot_of_mark(key)
        left = self.others.get(slot, 0)
        if left > 1:
            self.others[slot] = left - 1
        elif left:
            del self.others[slot]
        return left > 0


class Existing:
    """The shelves of the target, each read once, when it is first asked for.

    Args:
        target: The mailbox.
        job_id: Whose marks are this restore's own.
        count_of: Returns how many items a folder of the target holds, as far as is known.
        made: Tells whether this restore has made the message with an id, for servers that do not
            give marks back.
        few: The messages to restore are few and known, so that big folders need not be listed.
    """

    def __init__(
        self,
        target: TargetMailbox,
        job_id: str,
        count_of: Callable[[str], int],
        made: Callable[[str], bool],
        *,
        few: bool,
    ) -> None:
        self._target = target
        self._made = made
        self._own = f"{job_id}/"
        self._count_of = count_of
        self._few = few
        self._shelves: dict[str, Shelf] = {}
        self._reading: dict[str, anyio.Lock] = {}
        self._asked: set[tuple[str, str]] = set()

    async def shelf(self, place: Place, *, key: str, mark: str) -> Shelf:
        """Return what a folder holds, as far as it concerns a message with this key and mark."""
        lock = self._reading.setdefault(place.folder_id, anyio.Lock())
        async with lock:
            shelf = self._shelves.get(place.folder_id)
            if shelf is None:
                shelf = self._shelves[place.folder_id] = Shelf()
                if place.folder_id and not place.fresh and not self._by_one(place):
                    await self._read(place.folder_id, shelf)
            if not place.fresh and self._by_one(place):
                await self._ask(place.folder_id, shelf, key, mark)
            return shelf

    def _by_one(self, place: Place) -> bool:
        return self._few and self._count_of(place.folder_id) > MANY

    async def _read(self, folder_id: str, shelf: Shelf) -> None:
        async for page in self._target.present(folder_id):
            for found in page:
                shelf.note(found, ours=self._is_own(found))

    async def _ask(self, folder_id: str, shelf: Shelf, key: str, mark: str) -> None:
        if (folder_id, key) in self._asked:
            return
        self._asked.add((folder_id, key))
        for found in await self._target.find(folder_id, key, mark):
            shelf.note(found, ours=self._is_own(found))

    def _is_own(self, present: Present) -> bool:
        return present.mark.startswith(self._own) or self._made(present.object_id)
