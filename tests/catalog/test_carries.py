"""What an unfinished run leaves for its successor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.catalog.carry import Carry, read_carry, write_carry
from atlas_async.catalog.document import pack
from atlas_async.catalog.layout import carry_key
from atlas_async.catalog.slots import SlotSet
from atlas_async.errors import ForeignObject, FormatError, ObjectNotFound
from tests.fakes.json_values import TEXTS, mutations
from tests.fakes.vaults import MAILBOX, existing_store, new_vault, sha256_of

SLOTS = st.sets(st.integers(0, 2**64 - 1), max_size=5)
CARRIES = st.builds(
    Carry,
    removed=st.dictionaries(TEXTS, st.sets(TEXTS, max_size=4), max_size=3),
    seen=st.dictionaries(TEXTS, SLOTS.map(SlotSet), max_size=3),
)


@given(CARRIES)
async def test_a_carry_is_read_as_it_was_written(carry: Carry) -> None:
    """Ids to verify and slots seen survive; folders without ids to verify are left out."""
    vault = new_vault()
    read = await read_carry(vault, await write_carry(vault, carry))
    assert read.seen == carry.seen
    assert read.removed == {folder: ids for folder, ids in carry.removed.items() if ids}


async def test_nothing_to_remember_is_not_stored() -> None:
    """An empty carry is no object and reads as empty."""
    store = existing_store()
    vault = new_vault(store)
    assert await write_carry(vault, Carry({"F": set()}, {})) == ""
    assert store.bucket.objects == {}
    assert await read_carry(vault, "") == Carry()


async def test_a_folder_of_which_nothing_was_seen_yet_is_remembered() -> None:
    """An open full round that met no message is not the same as no round."""
    vault = new_vault()
    carry = Carry({}, {"F": SlotSet()})
    assert not carry.empty
    assert (await read_carry(vault, await write_carry(vault, carry))).seen == {"F": SlotSet()}


@given(CARRIES)
async def test_equal_carries_are_one_object(carry: Carry) -> None:
    """Slots and ids are written sorted, so that the same state has the same name."""
    store = existing_store()
    vault = new_vault(store)
    again = Carry(
        {folder: {*sorted(ids, reverse=True)} for folder, ids in carry.removed.items()},
        {folder: SlotSet(reversed(list(slots))) for folder, slots in carry.seen.items()},
    )
    assert await write_carry(vault, carry) == await write_carry(vault, again)
    assert len(store.bucket.objects) <= 1


@given(CARRIES)
def test_a_copy_is_independent(carry: Carry) -> None:
    """What is added to a copy is not in the original."""
    copy = carry.copy()
    assert copy == carry
    copy.removed.setdefault("new", set()).add("x")
    for slots in copy.seen.values():
        for slot in range(6):
            slots.add(slot)
    assert "new" not in carry.removed
    assert all(len(slots) <= 5 for slots in carry.seen.values())


async def test_a_missing_or_foreign_carry_is_told() -> None:
    """A run cannot go on from a carry that is not there, or is another one."""
    store = existing_store()
    vault = new_vault(store)
    one = await write_carry(vault, Carry({"F": {"a"}}))
    other = await write_carry(vault, Carry({"F": {"b"}}))
    bucket = store.bucket.objects
    bucket[carry_key(MAILBOX, one)] = bucket[carry_key(MAILBOX, other)]
    with pytest.raises(ForeignObject):
        await read_carry(vault, one)
    del bucket[carry_key(MAILBOX, one)]
    with pytest.raises(ObjectNotFound):
        await read_carry(vault, one)


EXAMPLE: dict[str, Any] = {
    "format": 1,
    "kind": "carry",
    "mailbox_id": MAILBOX,
    "removed": {"F": ["a", "b"]},
    "seen": {"F": "AAAAAAAAAAEAAAAAAAAAAg=="},
}


@given(mutations(EXAMPLE))
async def test_a_malformed_carry_is_refused_or_read(document: Any) -> None:
    """Whatever JSON the document is, the only error is ``FormatError``."""
    plaintext = pack(document)
    checksum = sha256_of(plaintext)
    vault = new_vault()
    await vault.put_raw(carry_key(MAILBOX, checksum), plaintext)
    try:
        await read_carry(vault, checksum)
    except FormatError:
        return
