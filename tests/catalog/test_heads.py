"""The head is a convenience: damaged, missing or behind, the newest snapshot is found again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from atlas_async.catalog.head import Head, hold_mailbox, read_head, write_head
from atlas_async.catalog.layout import head_key, manifest_key
from atlas_async.catalog.lease import Lease
from atlas_async.catalog.reader import MailboxReader
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock, SystemClock
from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.errors import ForeignObject, IntegrityError
from atlas_async.model.report import Outcome
from atlas_async.operations.tenant import Tenant
from atlas_async.sdk import Atlas
from atlas_async.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.commits import Letter, committed
from tests.fakes.histories import tenant_settings
from tests.fakes.vaults import MAILBOX, OTHER_MAILBOX, existing_store, new_vault, plant

USER = "user0000@contoso.com"


def snapshot_named(name: str, mailbox_id: str = MAILBOX) -> Snapshot:
    """Return a descriptor with little in it."""
    return Snapshot(name, mailbox_id, "2026-04-20T12:00:00.000Z", "", complete=True)


@pytest.mark.parametrize(
    "head",
    [
        Head(),
        Head(snapshot_named("a")),
        Head(None, snapshot_named("c")),
        Head(snapshot_named("a"), snapshot_named("c")),
    ],
)
async def test_a_head_is_read_as_it_was_written(head: Head) -> None:
    """Snapshot and checkpoint, each if any, survive; an older head is replaced."""
    vault = new_vault()
    assert await read_head(vault) is None
    await write_head(vault, Head(snapshot_named("older")))
    await write_head(vault, head)
    assert await read_head(vault) == head


async def test_a_head_names_the_last_lease_that_ended_in_order() -> None:
    """A checkpoint keeps the number it began with; the last head frees the run's own."""
    store = existing_store()
    sealer = new_vault(store).sealer
    for number in (1, 2):
        lease = Lease(store, sealer, MAILBOX, clock=FakeClock())
        vault = Vault(store, sealer, MAILBOX, lease)
        head = await hold_mailbox(vault)
        assert (head.lease if head else None) == (number - 1 or None)
        await write_head(vault, Head(None, snapshot_named("c")))
        read = await read_head(vault)
        assert read is not None
        assert read.lease == (number - 1 or None)
        await write_head(vault, Head(snapshot_named("a")), last=True)
        read = await read_head(vault)
        assert read is not None
        assert read.lease == lease.number == number
        await lease.give_back()


async def test_the_head_of_another_mailbox_is_foreign() -> None:
    """A head that was copied between mailboxes is not believed."""
    store = existing_store()
    await write_head(new_vault(store, OTHER_MAILBOX), Head(snapshot_named("a", OTHER_MAILBOX)))
    body = store.bucket.objects[head_key(OTHER_MAILBOX)].body
    await plant(store, head_key(MAILBOX), body)
    with pytest.raises(ForeignObject):
        await read_head(new_vault(store))


@pytest.mark.parametrize("part", ["snapshot", "checkpoint"])
async def test_a_head_that_holds_anothers_snapshot_is_refused(part: str) -> None:
    """Each part must be of the head's own mailbox."""
    vault = new_vault()
    foreign: dict[str, Any] = {part: snapshot_named("a", OTHER_MAILBOX)}
    await write_head(vault, Head(**foreign))
    with pytest.raises(IntegrityError, match=part):
        await read_head(vault)


async def test_the_newest_snapshot_is_found_without_the_head() -> None:
    """Of all committed descriptors the one with the latest moment counts, whatever its id."""
    store = existing_store()
    vault = new_vault(store)
    first = await committed(vault, "bbb", {"m": Letter("one")}, created_at="2026-04-20T12:00:00Z")
    newest = await committed(
        vault, "aaa", {"m": Letter("two")}, base=first, created_at="2026-04-21T12:00:00Z"
    )
    await store.delete(head_key(MAILBOX))
    assert await MailboxReader(vault).latest() == newest


async def test_a_descriptor_without_a_manifest_is_no_snapshot() -> None:
    """A run that died before its commit point left nothing that counts."""
    store = existing_store()
    vault = new_vault(store)
    first = await committed(vault, "aaa", {"m": Letter("one")})
    await committed(vault, "bbb", {"m": Letter("two")}, created_at="2026-04-21T12:00:00Z")
    await store.delete(f"manifests/{MAILBOX}/bbb.json")
    reader = MailboxReader(vault)
    assert await reader.latest() == first
    assert [s.snapshot_id for s in await reader.snapshots()] == ["aaa"]


@asynccontextmanager
async def open_mailbox(
    clock: Clock | None = None,
) -> AsyncIterator[tuple[Emulator, MemoryStore, Atlas]]:
    """Give a tenant with one mailbox of twelve messages, an empty bucket, and the engine."""
    options = CorpusOptions.plain(mailboxes=1, messages=12, body_bytes=200)
    store = existing_store()
    async with (
        Emulator(Corpus(options), tls=True) as emulator,
        Atlas(tenant_settings(emulator), store=store, clock=clock or SystemClock()) as atlas,
    ):
        yield emulator, store, atlas


@pytest.mark.parametrize("state", ["damaged", "missing", "foreign", "behind"])
async def test_a_run_goes_on_whatever_became_of_the_head(state: str) -> None:
    """The next run continues the newest snapshot and shows the mailbox exactly."""
    async with open_mailbox() as (emulator, store, atlas):
        await atlas.backup([USER])
        older_head = store.bucket.objects[head_key(USER)].body
        emulator.control.mutate(USER, {"op": "create", "folder": "inbox", "subject": "second"})
        await atlas.backup([USER])
        newest = (await atlas.list_snapshots(USER))[-1].snapshot_id
        await spoil_head(store, state, older_head)
        emulator.control.mutate(USER, {"op": "create", "folder": "inbox", "subject": "third"})
        report = await atlas.backup([USER])
        assert report.mailboxes[0].outcome is Outcome.COMPLETE
        view = await atlas.open_snapshot(None, USER)
        shown = {record["object_id"] async for record in view.messages()}
        truth = emulator.control.mailbox_truth(USER, content=False)
        assert shown == {message["immutableId"] for message in truth["messages"]}
        assert view.snapshot is not None
        if state != "behind":
            assert view.snapshot.parent == newest
            assert report.mailboxes[0].stored == 1


@pytest.mark.parametrize("state", ["damaged", "missing", "foreign"])
async def test_a_run_without_changes_mends_the_head(state: str) -> None:
    """It commits nothing, and afterwards verify finds nothing and a quiet run costs one request."""
    async with open_mailbox() as (_, store, atlas):
        await atlas.backup([USER])
        whole = store.bucket.objects[head_key(USER)].body
        (kept,) = await atlas.list_snapshots(USER)
        await spoil_head(store, state, whole)
        mended = await atlas.backup([USER])
        assert mended.mailboxes[0].outcome is Outcome.UNCHANGED
        assert mended.exit_code == 0
        assert (await atlas.list_snapshots(USER)) == [kept]
        assert (await atlas.verify()).exit_code == 0
        before = store.bucket.objects[head_key(USER)].body
        quiet = await atlas.backup([USER])
        assert quiet.mailboxes[0].outcome is Outcome.UNCHANGED
        assert not any("head" in notice for notice in quiet.mailboxes[0].notices)
        assert store.bucket.objects[head_key(USER)].body == before


@pytest.mark.parametrize("snapshots", [1, 3])
async def test_a_newest_snapshot_whose_manifest_is_gone(snapshots: int) -> None:
    """Verify names it, a quiet run of the week after commits the mailbox anew, and so does --full.

    The head still names it, so runs find nothing changed, and the list lacks it.
    """
    clock = FakeClock(autojump=True)
    async with open_mailbox(clock) as (emulator, store, atlas):
        for number in range(snapshots):
            emulator.control.mutate(
                USER, {"op": "create", "folder": "inbox", "subject": f"number {number}"}
            )
            await atlas.backup([USER])
        for full, days in ((False, 8), (True, 0)):
            newest = (await atlas.list_snapshots(USER))[-1].snapshot_id
            key = manifest_key(USER, newest)
            await store.delete(key)
            for mailbox in (USER, None):
                report = await atlas.verify(mailbox=mailbox)
                assert [finding.key for finding in report.missing] == [key]
                assert report.missing[0].snapshot_id == newest
                assert report.exit_code == 16
            await clock.advance(days * 86_400.0)
            run = await atlas.backup([USER], full=full)
            assert run.mailboxes[0].outcome is Outcome.COMPLETE
            assert any(newest in notice for notice in run.mailboxes[0].notices)
            assert (await atlas.list_snapshots(USER))[-1].messages == 12 + snapshots
            assert (await atlas.verify()).exit_code == 0


async def spoil_head(store: object, state: str, older: bytes) -> None:
    """Do to the first user's head what ``state`` says."""
    assert isinstance(store, MemoryStore)
    key = head_key(USER)
    body = store.bucket.objects[key].body
    if state == "missing":
        await store.delete(key)
    elif state == "foreign":
        segment = next(k for k in store.bucket.objects if "/segments/" in k)
        await plant(store, key, store.bucket.objects[segment].body)
    elif state == "behind":
        await plant(store, key, older)
    else:
        await plant(store, key, body[:40] + bytes([body[40] ^ 1]) + body[41:])


async def test_a_head_of_a_newer_program_is_left_alone() -> None:
    """The run fails and replaces nothing: an older program would lose what the newer one knows."""
    options = CorpusOptions.plain(mailboxes=1, messages=3, body_bytes=200)
    store = existing_store()
    async with (
        Emulator(Corpus(options), tls=True) as emulator,
        Atlas(tenant_settings(emulator), store=store) as atlas,
    ):
        await atlas.backup([USER])
        tenant = Tenant(atlas.settings, store, FakeClock())
        await tenant.open_for_reading()
        newer = {"format": 2, "kind": "head", "mailbox_id": USER}
        await tenant.vault(USER)[0].put_document(head_key(USER), newer)
        before = dict(store.bucket.objects)
        emulator.control.mutate(USER, {"op": "create", "folder": "inbox", "subject": "more"})
        report = await atlas.backup([USER])
    assert report.mailboxes[0].outcome is Outcome.FAILED
    assert "format version 2" in report.mailboxes[0].error
    assert "update" in report.mailboxes[0].hint
    assert report.exit_code == 16
    assert store.bucket.objects == before


def test_a_head_knows_what_it_lacks() -> None:
    """An empty head has neither part, and parts are compared by value."""
    assert Head() == Head(None, None)
    assert replace(Head(), snapshot=snapshot_named("a")) != Head()
