"""Compact sets and maps of slots do what the built-in ones do."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.catalog.segment import slot_of
from atlas_async.catalog.slots import SlotSet, SlotTable

# Few distinct slots in few parts, so that repeats and neighbours come up.
SLOT = st.builds(
    lambda part, rest: (part << 56) + rest,
    st.sampled_from([0, 1, 127, 128, 255]),
    st.sampled_from([0, 1, 2, 2**55, 2**56 - 1]),
)


@given(st.lists(SLOT), st.lists(SLOT))
def test_a_set_holds_what_was_added(given_slots: list[int], added: list[int]) -> None:
    """It has the same members as a set, in order."""
    slots = SlotSet(given_slots)
    for slot in added:
        slots.add(slot)
    truth = {*given_slots, *added}
    assert list(slots) == sorted(truth)
    assert len(slots) == len(truth)
    assert all((slot in slots) == (slot in truth) for slot in [*truth, 5, 2**64 - 2])
    assert slots == SlotSet(truth)


@given(st.lists(SLOT))
def test_a_set_survives_its_bytes(given_slots: list[int]) -> None:
    """Bytes are in order and most significant first, as carries store them."""
    slots = SlotSet(given_slots)
    data = slots.to_bytes()
    assert data == b"".join(slot.to_bytes(8, "big") for slot in sorted(set(given_slots)))
    assert SlotSet.from_bytes(data) == slots
    backwards = b"".join(data[i : i + 8] for i in reversed(range(0, len(data), 8)))
    assert SlotSet.from_bytes(backwards) == slots


def test_bytes_of_a_broken_length_are_refused() -> None:
    """Slots have eight bytes each."""
    with pytest.raises(ValueError, match="multiple"):
        SlotSet.from_bytes(b"123456789")


@given(st.lists(st.tuples(SLOT, st.integers(0, 2**32 - 1))))
def test_a_table_holds_the_last_number_of_each_slot(pairs: list[tuple[int, int]]) -> None:
    """It maps as a dictionary does."""
    table = SlotTable()
    for slot, number in pairs:
        table[slot] = number
    truth = dict(pairs)
    assert {slot: table.get(slot) for slot in truth} == truth
    assert len(table) == len(truth)
    assert bool(table) == bool(truth)
    assert table.get(7) is None
    assert 7 not in table


def test_a_hundred_thousand_slots_take_little() -> None:
    """Arrays over-allocate a little; a dictionary of the same takes some 14 MB."""
    table = SlotTable()
    for number in range(100_000):
        table[slot_of(str(number))] = number
    arrays = [array for part in table._parts.values() for array in part]
    assert sum(map(sys.getsizeof, arrays)) < 2_000_000
