"""What a restore has made so far, as its journal says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from atlas_async.catalog.slots import SlotSet, SlotTable
from atlas_async.model.restoring import Present
from atlas_async.restore.marks import slot_of_mark

_LOW: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Made:
    """A message that a restore created.

    ``mark`` is its mark, ``fingerprint`` what was sent, ``enclosed`` the slot of its attachments
    (0 without any), ``complete`` whether all of them are there.
    """

    mark: str
    target_id: str
    folder_id: str
    fingerprint: int
    enclosed: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Replaced:
    """A message that a restore moved away: from which folder, and for what, by its mark."""

    folder_id: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Announced:
    """A message that is about to be created from MIME, without its mark.

    ``before`` are the messages of its internet message id that the folder had until then.
    """

    mark: str
    folder_id: str
    message_id: str
    before: tuple[str, ...]

    def fits(self, item: Present) -> bool:
        """Tell whether a message of the folder may be this one: a draft that was not there."""
        if item.mark or not item.draft or item.object_id in self.before:
            return False
        return item.key == self.message_id.strip()


class Progress:
    """What the parts of a restore say, in 100 bytes a message.

    ``begin`` is the part, and the entry in it, from which on nothing was taken back. ``due``
    counts, by folder, what was made since a run ended in order: that is still to be compared.
    """

    def __init__(self) -> None:
        self.complete = SlotSet()
        self.incomplete: dict[int, Made] = {}
        self.announced: dict[int, Announced] = {}
        self._high = SlotTable()
        self._low = SlotTable()
        self._enclosed = SlotTable()
        self._targets = SlotTable()
        self._places = SlotTable()
        self._parts = SlotTable()
        self._folder_ids: list[str] = []
        self._folder_numbers: dict[str, int] = {}
        self.absent: set[tuple[str, ...]] = set()
        self.folders: dict[str, tuple[str, ...]] = {}
        self.counts: dict[str, int] = {}
        self.due: dict[str, int] = {}
        self._due_marks = SlotSet()
        self._due_targets = SlotSet()
        self.replaced: dict[str, Replaced] = {}
        self.undone = False
        self.begin = 0, 0

    def take(self, entry: list[Any], number: int = 0, place: int = 0) -> None:
        """Apply one entry: that at ``place`` in the part of this number."""
        kind, *values = entry
        if kind == "message":
            made = Made(*values)
            self.note(made)
            self.locate(made.mark, number)
        elif kind == "announced":
            mark, folder_id, message_id, before = values
            self.announce(
                Announced(str(mark), str(folder_id), str(message_id), tuple(map(str, before)))
            )
        elif kind == "absent":
            self.absent.update(tuple(map(str, path)) for path in values[0])
        elif kind == "folder":
            self.folders[str(values[0])] = tuple(map(str, values[1]))
        elif kind == "replaced":
            self.replaced[str(values[0])] = Replaced(*map(str, values[1:]))
        elif kind == "settled":
            self.settle()
        elif kind == "undone":
            self.__init__()  # type: ignore[misc]  # all that was done is taken back
            self.undone = True
            self.begin = number, place + 1

    def announce(self, announced: Announced) -> None:
        """Take in what is about to be created from MIME."""
        self.undone = False
        self.announced[slot_of_mark(announced.mark)] = announced

    def note(self, made: Made) -> None:
        """Take in a message that was created, or completed."""
        self.undone = False
        slot = slot_of_mark(made.mark)
        target = slot_of_mark(made.target_id)
        anew = self._targets.get(slot) != target >> 32
        if anew:
            self._count(slot, made.folder_id)
        if anew or slot not in self._due_marks:
            self.due[made.folder_id] = self.due.get(made.folder_id, 0) + 1
        self._due_marks.add(slot)
        self._due_targets.add(target)
        self._high[target] = made.fingerprint >> 32
        self._low[target] = made.fingerprint & _LOW
        self._enclosed[target] = made.enclosed & _LOW
        self._targets[slot] = target >> 32
        self.announced.pop(slot, None)
        if made.complete:
            self.complete.add(slot)
            self.incomplete.pop(slot, None)
        else:
            self.incomplete[slot] = made

    def _count(self, slot: int, folder_id: str) -> None:
        """Count a message in its folder, and no more in that of its predecessor."""
        before = self._places.get(slot)
        if before is not None:
            self.counts[self._folder_ids[before]] -= 1
            if slot in self._due_marks:
                self.due[self._folder_ids[before]] -= 1
        number = self._folder_numbers.get(folder_id)
        if number is None:
            number = self._folder_numbers[folder_id] = len(self._folder_ids)
            self._folder_ids.append(folder_id)
        self._places[slot] = number
        self.counts[folder_id] = self.counts.get(folder_id, 0) + 1

    def settle(self) -> None:
        """Take all that was made until now for compared; what differs later was changed since."""
        self.due = {}
        self._due_marks = SlotSet()
        self._due_targets = SlotSet()

    def is_due(self, mark_slot: int) -> bool:
        """Tell whether what was made with a mark is still to be compared."""
        return mark_slot in self._due_marks

    def is_target_due(self, target_id: str) -> bool:
        """Tell whether a message of the target is still to be compared."""
        return slot_of_mark(target_id) in self._due_targets

    def locate(self, mark: str, number: int) -> None:
        """Note which part names what was made with a mark."""
        self._parts[slot_of_mark(mark)] = number

    def part_of(self, mark_slot: int) -> int | None:
        """Return the number of the part that names what was made with a mark."""
        return self._parts.get(mark_slot)

    def knows(self, mark: str) -> bool:
        """Tell whether anything was made with this mark."""
        return slot_of_mark(mark) in self._targets

    def fingerprint_of(self, target_id: str) -> int | None:
        """Return what was sent for a message of the target, or None when it is not ours."""
        slot = slot_of_mark(target_id)
        high, low = self._high.get(slot), self._low.get(slot)
        return None if high is None or low is None else high << 32 | low

    def enclosed_of(self, target_id: str) -> int:
        """Return the low 32 bits of the slot of its attachments."""
        return self._enclosed.get(slot_of_mark(target_id)) or 0

    def half_slot_of(self, mark_slot: int) -> int | None:
        """Return the half slot of the id of what was made with a mark."""
        half = self._targets.get(mark_slot)
        return None if half is None else half << 32

    @property
    def created(self) -> int:
        """Messages created so far."""
        return sum(self.counts.values())
