"""Listing and opening snapshots, and reading messages back, with and without damage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.catalog.layout import (
    check_mailbox_id,
    head_key,
    manifest_key,
    segment_key,
    snapshot_key,
)
from atlas_async.catalog.reader import MailboxReader, SnapshotView
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import write_run
from atlas_async.errors import (
    ForeignObject,
    FormatError,
    IntegrityError,
    PartMissing,
    SnapshotNotFound,
    StoreTransient,
    UsageError,
)
from atlas_async.operations.listing import (
    find_snapshot,
    list_mailboxes,
    list_snapshots,
    open_snapshot,
)
from atlas_async.operations.reading import read_message
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from atlas_async.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.commits import Letter, committed, stored_letter
from tests.fakes.engine import message_row
from tests.fakes.tenants import open_tenant
from tests.fakes.vaults import MAILBOX, OTHER_MAILBOX, existing_store, new_vault, plant, sha256_of

FIRST = "01910000-aaaa-7000-8000-000000000001"
SECOND = "01920000-bbbb-7000-8000-000000000002"


@pytest.fixture
async def store() -> MemoryStore:
    """Give a bucket with two snapshots of one mailbox and one of another."""
    store = existing_store()
    vault = new_vault(store)
    letters: dict[str, Letter | None] = {f"m{n}": Letter(f"letter {n}") for n in range(4)}
    first = await committed(vault, FIRST, letters, created_at="2026-04-20T12:00:00.000Z")
    changes: dict[str, Letter | None] = {"m0": None, "m1": Letter("changed")}
    await committed(vault, SECOND, changes, base=first, created_at="2026-04-21T12:00:00.000Z")
    other: dict[str, Letter | None] = {"o": Letter("other")}
    await committed(new_vault(store, OTHER_MAILBOX), "other-snapshot", other)
    return store


async def subjects(view: SnapshotView) -> list[str]:
    """Return the subjects that a snapshot shows, sorted."""
    return sorted([record["subject"] async for record in view.messages()])


async def test_mailboxes_and_snapshots_are_listed_oldest_first(store: MemoryStore) -> None:
    """Mailboxes are sorted by address, snapshots by moment, the newest is told with each."""
    tenant = open_tenant(store)
    mailboxes = await list_mailboxes(tenant)
    assert [(m.mailbox_id, m.snapshots) for m in mailboxes] == [(MAILBOX, 2), (OTHER_MAILBOX, 1)]
    assert mailboxes[0].latest is not None
    assert mailboxes[0].latest.snapshot_id == SECOND
    listed = await list_snapshots(tenant, f" {MAILBOX.upper()}")
    assert [s.snapshot_id for s in listed] == [FIRST, SECOND]
    assert {s.written_by for s in listed} == {"atlas_async"}


async def test_every_snapshot_shows_its_own_moment(store: MemoryStore) -> None:
    """An older snapshot still has what a later one removed or changed."""
    reader = MailboxReader(new_vault(store))
    first, second = await reader.open(FIRST), await reader.open(SECOND)
    assert await subjects(first) == ["letter 0", "letter 1", "letter 2", "letter 3"]
    assert await subjects(second) == ["changed", "letter 2", "letter 3"]
    assert await first.find("m0") is not None
    assert await second.find("m0") is None
    assert [r async for r in second.messages(frozenset({"elsewhere"}))] == []


async def test_a_snapshot_is_named_by_a_beginning_of_its_id(store: MemoryStore) -> None:
    """Four characters suffice when they are unique; more than one match is an error."""
    tenant = open_tenant(store)
    assert await find_snapshot(tenant, "0191") == (MAILBOX, FIRST)
    assert await find_snapshot(tenant, FIRST.upper()) == (MAILBOX, FIRST)
    assert await find_snapshot(tenant, None, MAILBOX) == (MAILBOX, SECOND)
    assert await find_snapshot(tenant, "latest", MAILBOX) == (MAILBOX, SECOND)
    twin = FIRST[:-1] + "9"
    await committed(new_vault(store), twin, {"m": Letter("twin")})
    with pytest.raises(UsageError, match="2 snapshots"):
        await find_snapshot(tenant, "0191")
    for snapshot, mailbox in (("019", None), (None, None)):
        with pytest.raises(UsageError):
            await find_snapshot(tenant, snapshot, mailbox)
    for wanted, of in (("ffff", None), (None, "nobody@x"), ("0191", OTHER_MAILBOX)):
        with pytest.raises(SnapshotNotFound) as caught:
            await find_snapshot(tenant, wanted, of)
        assert caught.value.exit_code == 10


async def test_a_message_is_read_by_id_checksum_or_a_beginning(store: MemoryStore) -> None:
    """The newest snapshot is looked into unless another is named; ambiguity is an error."""
    tenant = open_tenant(store)
    content = await read_message(tenant, "m1")
    assert content.resource["subject"] == "changed"
    old = await read_message(tenant, "m1", snapshot=FIRST)
    assert old.resource["subject"] == "letter 1"
    again = await read_message(tenant, old.record["checksum"][:20], snapshot=FIRST)
    assert again.record == old.record
    with pytest.raises(UsageError, match="matches"):
        await read_message(tenant, "m")
    with pytest.raises(SnapshotNotFound):
        await read_message(tenant, "m0")


async def test_a_missing_or_foreign_message_object_is_never_shown(store: MemoryStore) -> None:
    """Reading fails with exit code 16 instead of showing something else."""
    tenant = open_tenant(store)
    keys = {}
    for name in ("m1", "m2"):
        record = (await read_message(tenant, name)).record
        keys[name] = f"data/{MAILBOX}/{record['checksum']}"
    await plant(store, keys["m1"], store.bucket.objects[keys["m2"]].body)
    with pytest.raises(ForeignObject):
        await read_message(tenant, "m1")
    await store.delete(keys["m1"])
    with pytest.raises(PartMissing, match="missing") as caught:
        await read_message(tenant, "m1")
    assert caught.value.exit_code == 16


async def test_a_damaged_descriptor_hides_no_other_snapshot(store: MemoryStore) -> None:
    """Listing shows the damaged snapshot as such, naming the object, beside the intact ones."""
    key = snapshot_key(MAILBOX, FIRST)
    intact = {s.snapshot_id for s in await list_snapshots(open_tenant(store), MAILBOX)} - {FIRST}
    await plant(store, key, b"x" * 60)
    listed = {s.snapshot_id: s for s in await list_snapshots(open_tenant(store), MAILBOX)}
    assert set(listed) == intact | {FIRST}
    assert key in listed[FIRST].damage
    assert not listed[FIRST].complete
    assert not any(listed[name].damage for name in intact)
    with pytest.raises(IntegrityError):
        await open_snapshot(open_tenant(store), FIRST)


async def test_a_failing_store_is_a_typed_error_when_listing(store: MemoryStore) -> None:
    """Listing over a store that gives up raises the store's own error."""
    fault = Fault(Failure.REFUSED, Op.GET, times=None)
    faulty = FaultyStore(store, [fault], clock=FakeClock())
    with pytest.raises(StoreTransient):
        await list_snapshots(open_tenant(faulty), MAILBOX)


async def test_a_missing_descriptor_of_ours_is_not_taken_for_atlass(store: MemoryStore) -> None:
    """A manifest that names a descriptor needs it: nothing incomplete is shown as a snapshot."""
    await store.delete(snapshot_key(MAILBOX, SECOND))
    with pytest.raises(IntegrityError, match="descriptor"):
        await MailboxReader(new_vault(store)).open(SECOND)


async def test_other_objects_below_manifests_are_ignored(store: MemoryStore) -> None:
    """What is no ``.json`` object is no snapshot."""
    await plant(store, f"manifests/{MAILBOX}/notes.txt", b"hello")
    assert await MailboxReader(new_vault(store)).snapshot_ids() == [FIRST, SECOND]


async def test_reading_needs_neither_head_nor_later_objects(store: MemoryStore) -> None:
    """A snapshot opens from its own descriptor and segments alone."""
    vault = new_vault(store)
    reader = MailboxReader(vault)
    descriptor: Snapshot | None = await reader.descriptor(SECOND)
    assert descriptor is not None
    await store.delete(head_key(MAILBOX))
    await store.delete(manifest_key(MAILBOX, SECOND))
    await store.delete(segment_key(MAILBOX, descriptor.runs[-1].segments[0].checksum))
    assert len(await subjects(await reader.open(FIRST))) == 4


async def test_an_empty_ledger_and_folders_are_shown(store: MemoryStore) -> None:
    """A complete snapshot has nothing in its ledger."""
    view = await MailboxReader(new_vault(store)).open(SECOND)
    assert await view.not_stored() == ()
    assert view.folders == ()
    assert view.summary == replace(view.summary, complete=True, not_stored=0)


@pytest.mark.parametrize(
    "name", ["", "a/b@x", "a\\b@x", "..", ".", "Anna@x", "a\nb@x", "x" * 321, "a\x00@x"]
)
def test_names_that_would_change_what_a_key_means_are_refused(name: str) -> None:
    """A mailbox id is one segment of a key, in lower case."""
    with pytest.raises(UsageError) as caught:
        check_mailbox_id(name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["anna@contoso.com", "größe@x", "a'b+c%20@x", "a b@x", "..a@x"])
def test_addresses_as_people_have_them_are_taken(name: str) -> None:
    """Plus signs, apostrophes, percent signs and other scripts are part of addresses."""
    assert check_mailbox_id(name) == name


@pytest.mark.parametrize("body", [b"not JSON", b"[1, 2]", b'"text"'])
async def test_a_stored_message_that_is_no_object_is_told(body: bytes) -> None:
    """An authentic object with the right hash that is no message is a format error."""
    store = existing_store()
    vault = new_vault(store)
    checksum = sha256_of(body)
    await vault.put_plaintext(f"data/{MAILBOX}/{checksum}", body)
    row = message_row(object_id="m", checksum=checksum, size_bytes=len(body))
    run = await write_run(vault, [row])
    first = await committed(vault, FIRST, {"x": Letter("x")})
    base = replace(first, runs=(run,))
    await committed(vault, SECOND, {"y": Letter("y")}, base=base, created_at="2026-05-01T12:00Z")
    with pytest.raises(FormatError, match="stored message"):
        await read_message(open_tenant(store), "m")


async def test_the_state_of_the_snapshot_is_laid_over_the_stored_message() -> None:
    """Flag, categories, read state, folder and time are the record's; the rest is as stored."""
    store = existing_store()
    vault = new_vault(store)
    record = await stored_letter(vault, "m", Letter("subject"))
    detail = {"flagStatus": "flagged", "dueDateTime": {"dateTime": "2026-05-01"}}
    state = {
        "is_read": True,
        "flag": "flagged",
        "flag_detail": detail,
        "categories": ["Red"],
        "folder_id": "elsewhere",
        "modified": "2026-04-22T00:00:00Z",
    }
    run = await write_run(vault, [message_row(**{**record, **state})])
    first = await committed(vault, FIRST, {"x": Letter("x")})
    base = replace(first, runs=(run,))
    await committed(vault, SECOND, {"y": Letter("y")}, base=base, created_at="2026-05-01T12:00Z")
    content = await read_message(open_tenant(store), "m", mailbox=MAILBOX)
    assert content.resource == {
        "id": "m",
        "subject": "subject",
        "isRead": True,
        "flag": detail,
        "categories": ["Red"],
        "parentFolderId": "elsewhere",
        "lastModifiedDateTime": "2026-04-22T00:00:00Z",
    }
    assert b'"isRead":false' in content.plaintext
