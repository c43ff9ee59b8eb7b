"""Sets and maps of slots in little memory: 12 bytes an entry, where a dictionary takes 150.

A mailbox of a million messages has a million slots. Slots are evenly spread 64-bit numbers, so
their first byte divides them into parts of equal size, each a sorted array small enough to insert
into. Walking through them gives slots in order.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

_PART_SHIFT = 56


class SlotSet:
    """A set of slots."""

    __slots__ = ("_count", "_parts")

    def __init__(self, slots: Iterable[int] = ()) -> None:
        ordered = array("Q", sorted(set(slots)))
        self._parts: dict[int, array[int]] = {}
        self._count = len(ordered)
        start = 0
        while start < self._count:
            number = ordered[start] >> _PART_SHIFT
            end = bisect_left(ordered, (number + 1) << _PART_SHIFT, start)
            self._parts[number] = ordered[start:end]
            start = end

    def add(self, slot: int) -> None:
        """Add a slot; one that is there already stays."""
        part = self._parts.get(slot >> _PART_SHIFT)
        if part is None:
            part = self._parts[slot >> _PART_SHIFT] = array("Q")
        place = bisect_left(part, slot)
        if place == len(part) or part[place] != slot:
            part.insert(place, slot)
            self._count += 1

    def __contains__(self, slot: int) -> bool:
        part = self._parts.get(slot >> _PART_SHIFT)
        if part is None:
            return False
        place = bisect_left(part, slot)
        return place < len(part) and part[place] == slot

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for number in sorted(self._parts):
            yield from self._parts[number]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotSet) and self._parts == other._parts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"SlotSet({self._count} slots)"

    def copy(self) -> SlotSet:
        """Return an independent copy."""
        twin = SlotSet()
        twin._parts = {number: part[:] for number, part in self._parts.items()}
        twin._count = self._count
        return twin

    def to_bytes(self) -> bytes:
        """Return the slots in order, 8 bytes each, the most significant first."""
        pieces = []
        for number in sorted(self._parts):
            part = self._parts[number][:]
            if sys.byteorder == "little":
                part.byteswap()
            pieces.append(part.tobytes())
        return b"".join(pieces)

    @classmethod
    def from_bytes(cls, data: bytes) -> SlotSet:
        """Parse what ``to_bytes`` wrote; the order of the slots does not matter.

        Raises:
            ValueError: The length is no multiple of 8.
        """
        slots = array("Q")
        slots.frombytes(data)
        if sys.byteorder == "little":
            slots.byteswap()
        return cls(slots)


class SlotTable:
    """A map from slots to numbers below 2^32."""

    __slots__ = ("_count", "_parts")

    def __init__(self) -> None:
        self._parts: dict[int, tuple[array[int], array[int]]] = {}
        self._count = 0

    def get(self, slot: int) -> int | None:
        """Return the number of a slot, or None when it has none."""
        part = self._parts.get(slot >> _PART_SHIFT)
        if part is None:
            return None
        slots, numbers = part
        place = bisect_left(slots, slot)
        if place < len(slots) and slots[place] == slot:
            return numbers[place]
        return None

    def __setitem__(self, slot: int, number: int) -> None:
        part = self._parts.get(slot >> _PART_SHIFT)
        if part is None:
            part = self._parts[slot >> _PART_SHIFT] = (array("Q"), array("I"))
        slots, numbers = part
        place = bisect_left(slots, slot)
        if place < len(slots) and slots[place] == slot:
            numbers[place] = number
        else:
            slots.insert(place, slot)
            numbers.insert(place, number)
            self._count += 1

    def __contains__(self, slot: int) -> bool:
        return self.get(slot) is not None

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"SlotTable({self._count} slots)"
