"""What the folders of the target hold already, so that nothing is created twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from atlas_async.catalog.slots import SlotSet
from atlas_async.model.message import is_message_id
from atlas_async.model.restoring import Present
from atlas_async.restore.marks import half_slot, slot_of_mark, source_of
from atlas_async.restore.placement import Place
from atlas_async.restore.ports import TargetMailbox

FEW: Final = 200
"""Up to so many chosen messages are looked for one by one in a folder that holds many more."""
MANY: Final = 2_000
"""Messages in a folder from which on that costs fewer requests than listing it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that stands for one of the snapshot.

    ``object_id`` is empty where ids are not kept.
    """

    object_id: str = ""


@dataclass(slots=True)
class Shelf:
    """One folder of the target.

    Args:
        marks: Slots of the marks that messages there carry.
        others: Slot of the key of a message that this restore has not made -> how many there are.
        ids: Half slots of the ids of all messages there.
        sources: Slot of what another restore has made one of those from -> the slots of their
            keys: the server gives a message that had no id a new one.
        names: Slot of a key -> the ids of those messages; None where they are not kept.
    """

    marks: SlotSet = field(default_factory=SlotSet)
    others: dict[int, int] = field(default_factory=dict)
    ids: SlotSet = field(default_factory=SlotSet)
    sources: dict[int, list[int]] = field(default_factory=dict)
    names: dict[int, list[str]] | None = None

    def note(self, present: Present, *, ours: bool) -> None:
        """Take in one message."""
        self.ids.add(half_slot(present.object_id))
        if ours:
            self.marks.add(slot_of_mark(present.mark))
            return
        slot = slot_of_mark(present.key)
        self.others[slot] = self.others.get(slot, 0) + 1
        if self.names is not None:
            self.names.setdefault(slot, []).append(present.object_id)
        source = source_of(present.mark)
        if source:
            self.sources.setdefault(slot_of_mark(source), []).append(slot)

    def has(self, key: str) -> bool:
        """Tell whether a message of somebody else's has this key."""
        return slot_of_mark(key) in self.others

    def take(self, key: str, source: str = "", rather: str = "") -> Taken | None:
        """Take one message for the one that would be created; None if none is left.

        Two messages of the snapshot may have one key. When the folder has one of them, the other
        is created.

        Args:
            key: The key that it has.
            source: Or what any restore has made it from.
            rather: The id of the one to take where there are several.
        """
        slots = [slot_of_mark(key), *self.sources.get(slot_of_mark(source), ())]
        slot = next((slot for slot in slots if slot in self.others), None)
        return None if slot is None else Taken(self._take(slot, rather))

    def drop(self, key: str, object_id: str) -> None:
        """Pass over a message that turned out to be this restore's own."""
        if self.has(key):
            self._take(slot_of_mark(key), object_id)

    def _take(self, slot: int, rather: str) -> str:
        """Count one message less and return its id."""
        left = self.others.pop(slot) - 1
        if left:
            self.others[slot] = left
        if self.names is None:
            return ""
        names = self.names[slot]
        return names.pop(names.index(rather) if rather in names else 0)


class Existing:
    """The shelves of the target, each read once, when it is first asked for.

    Args:
        target: The mailbox.
        job_id: Whose marks are this restore's own.
        count_of: Returns how many items a folder of the target holds, as far as is known.
        made: Tells whether this restore has made a message that shows no mark.
        few: The messages to restore are few and known, so that big folders need not be listed.
        names: Keep the ids of messages that this restore has not made.
    """

    def __init__(
        self,
        target: TargetMailbox,
        job_id: str,
        count_of: Callable[[str], int],
        made: Callable[[Present], bool],
        *,
        few: bool,
        names: bool = False,
    ) -> None:
        self._names = names
        self._target = target
        self._made = made
        self._own = f"{job_id}/"
        self._count_of = count_of
        self._few = few
        self._shelves: dict[tuple[str, bool], Shelf] = {}
        self._reading: dict[str, anyio.Lock] = {}
        self._asked: set[tuple[str, str]] = set()

    async def shelf(self, place: Place, *, key: str, mark: str, message_id: str = "") -> Shelf:
        """Return what a folder holds, as far as it concerns a message with this key and mark.

        Args:
            place: The folder.
            key: What the message is the same one by.
            mark: The mark that this restore gives it.
            message_id: Its internet message id as the server has it, where that is not the key.
        """
        by_one = self._by_one(place, key)
        lock = self._reading.setdefault(place.folder_id, anyio.Lock())
        async with lock:
            # Messages with an id and those without have other keys: two shelves share none.
            shelf = self._shelves.get((place.folder_id, by_one))
            if shelf is None:
                shelf = Shelf(names={} if self._names else None)
                self._shelves[place.folder_id, by_one] = shelf
                if place.folder_id and not place.fresh and not by_one:
                    await self._read(place.folder_id, shelf)
            if not place.fresh and by_one:
                await self._ask(place.folder_id, shelf, message_id or key, mark)
            return shelf

    def _by_one(self, place: Place, key: str) -> bool:
        """Tell whether to ask for a message by its id; for one without, the folder is listed."""
        return self._few and is_message_id(key) and self._count_of(place.folder_id) > MANY

    async def _read(self, folder_id: str, shelf: Shelf) -> None:
        async for page in self._target.present(folder_id):
            for found in page:
                shelf.note(found, ours=self._is_own(found))

    async def _ask(self, folder_id: str, shelf: Shelf, message_id: str, mark: str) -> None:
        if (folder_id, message_id.strip()) in self._asked:
            return
        self._asked.add((folder_id, message_id.strip()))
        for found in await self._target.find(folder_id, message_id, mark):
            shelf.note(found, ours=self._is_own(found))

    def _is_own(self, present: Present) -> bool:
        return present.mark.startswith(self._own) or self._made(present)
