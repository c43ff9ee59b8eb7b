"""What killed runs leave behind can be seen and removed, and nothing else is ever touched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from atlas_async.catalog import lease as leases
from atlas_async.catalog.head import hold_mailbox
from atlas_async.catalog.layout import lease_prefix, manifest_key, segment_key, snapshot_key
from atlas_async.config.settings import Limits
from atlas_async.errors import SnapshotNotFound, StoreAuthError
from atlas_async.model.events import PruneProgress
from atlas_async.model.report import Outcome
from atlas_async.operations import pruning
from atlas_async.operations.pruning import PruneReport
from atlas_async.pipeline import journal
from atlas_async.sdk import Atlas
from atlas_async.store.base import SpooledBody, StoredObject
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig

MANY = replace(SMALL, messages=150, attachment_share=0.1)
PAGES = replace(Limits(), page_size=10, retries=2)
FIRST_ASLEEP = 15


class DatedStore(MemoryStore):
    """A bucket whose server has a clock of its own, which dates what is put.

    Whoever deletes messages falls asleep at deletion ``asleep_after``, until ``awake`` is set.
    """

    def __init__(self, bucket: MemoryBucket) -> None:
        super().__init__(bucket)
        self.now = datetime(2031, 1, 1, tzinfo=UTC)
        self.refuses: frozenset[str] = frozenset()
        self.deletions = 0
        self.asleep_after: int | None = None
        self.asleep = anyio.Event()
        self.awake = anyio.Event()

    async def put(self, key: str, body: bytes | SpooledBody, **options: Any) -> None:
        await super().put(key, body, **options)
        stored = self.bucket.objects[key]
        info = replace(stored.info, last_modified=self.now)
        self.bucket.objects[key] = StoredObject(info, stored.body)

    async def delete(self, key: str) -> None:
        if key in self.refuses:
            raise StoreAuthError("under Object Lock", where=key)
        if key.startswith("data/"):
            self.deletions += 1
            if self.asleep_after is not None and self.deletions >= self.asleep_after:
                self.asleep.set()
                await self.awake.wait()
        await super().delete(key)


@asynccontextmanager
async def littered(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Rig, DatedStore]]:
    """Give a rig with a snapshot, later mail, and the remains of a run killed after a checkpoint."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 30)
    store = DatedStore(MemoryBucket())
    async with open_rig(MANY, limits=PAGES, store=store) as rig:
        rig.bucket = store.bucket
        await rig.back_up_user()
        rig.mutate(op="bulk-create", folder="inbox", count=120)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(_cut_off, rig, scope, 150 + 90)
                await rig.backup([USER])
        yield rig, store


async def _cut_off(rig: Rig, scope: anyio.CancelScope, objects: int) -> None:
    while len(rig.keys("data/")) < objects:
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def pruned(rig: Rig, **options: Any) -> PruneReport:
    """Prune the rig's bucket."""
    async with Atlas(rig.settings, store=rig.store, clock=rig.clock) as atlas:
        return await atlas.prune(**options)


async def test_unfinished_run_keeps_what_its_checkpoint_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an open checkpoint names is not litter: the next run goes on from it and is exact."""
    async with littered(monkeypatch) as (rig, _):
        report = await pruned(rig, older_than=0)
        (box,) = report.mailboxes
        assert report.exit_code == 0
        assert box.removed == box.unreferenced > 0
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.stored < 120
        await rig.assert_exact(await rig.view(), rig.truth())
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0


async def test_nothing_is_left_after_pruning_a_finished_mailbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the next complete run, pruning removes all litter, finds none again, and all verifies."""
    async with littered(monkeypatch) as (rig, _):
        litter = {f"data/{USER}/{'0' * 64}", f"attachments/{USER}/{'1' * 64}"}
        litter |= {f"catalog/{USER}/segments/{'2' * 64}", f"catalog/{USER}/ledgers/{'3' * 64}"}
        litter |= {f"{lease_prefix(USER)}{'7' * 16}", f"catalog/{USER}/snapshots/0198a"}
        vault = rig.vault()
        for key in litter:
            await vault.put_raw(key, b"what no snapshot names")
        await rig.back_up_user()
        dry = await pruned(rig, older_than=0, dry_run=True)
        found = set(dry.mailboxes[0].keys)
        assert litter <= found
        assert len(found) == dry.mailboxes[0].removed
        assert litter <= set(rig.bucket.objects)
        wet = await pruned(rig, older_than=0)
        assert set(wet.mailboxes[0].keys) == found
        assert wet.mailboxes[0].removed_bytes == dry.mailboxes[0].unreferenced_bytes
        assert not found & set(rig.bucket.objects)
        assert (await pruned(rig, older_than=0)).mailboxes[0].unreferenced == 0
        assert not rig.keys(lease_prefix(USER))
        await rig.assert_exact(await rig.view(), rig.truth())
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0


async def test_young_litter_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is younger than a day stays, by the store's clock, however the machine's own is set."""
    async with littered(monkeypatch) as (rig, store):
        await rig.back_up_user()
        young = await pruned(rig)
        assert young.mailboxes[0].young == young.mailboxes[0].unreferenced > 0
        assert young.mailboxes[0].removed == 0
        store.now += timedelta(hours=25)
        old = await pruned(rig)
        assert old.mailboxes[0].removed == young.mailboxes[0].unreferenced


async def test_every_old_snapshot_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pruning after many runs takes nothing that any of the snapshots names."""
    async with open_rig(MANY, limits=PAGES) as rig:
        truths = {}
        for day in range(6):
            rig.mutate(op="bulk-delete", folder="inbox", count=5, hard=True)
            rig.mutate(op="bulk-create", folder="inbox", count=8)
            rig.mutate(op="bulk-read", folder="inbox", count=4 + day)
            result = await rig.back_up_user()
            assert result.snapshot_id is not None
            truths[result.snapshot_id] = rig.truth()
        await pruned(rig, older_than=0)
        for snapshot_id, truth in truths.items():
            await rig.assert_exact(await rig.view(snapshot_id), truth)
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0


@pytest.mark.parametrize("part", ["segment", "descriptor", "manifest"])
async def test_nothing_is_removed_where_a_snapshot_cannot_be_read(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a part missing or damaged, what the snapshot names is unknown: exit 16, nothing removed."""
    async with littered(monkeypatch) as (rig, _):
        snapshot = (await rig.view()).snapshot
        assert snapshot is not None
        key = {
            "segment": segment_key(USER, snapshot.runs[0].segments[0].checksum),
            "descriptor": snapshot_key(USER, snapshot.snapshot_id),
            "manifest": manifest_key(USER, snapshot.snapshot_id),
        }[part]
        if part == "manifest":
            stored = rig.bucket.objects[key]
            rig.bucket.objects[key] = replace(stored, body=stored.body[:-1])
        else:
            del rig.bucket.objects[key]
        before = set(rig.bucket.objects)
        report = await pruned(rig, older_than=0)
        assert report.exit_code == 16
        assert "nothing was removed" in report.mailboxes[0].error
        assert not report.mailboxes[0].looked_at
        assert set(rig.bucket.objects) == before


async def test_what_the_store_protects_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that may not be deleted is counted, the others are removed: exit 3."""
    async with littered(monkeypatch) as (rig, store):
        await rig.back_up_user()
        keys = (await pruned(rig, older_than=0, dry_run=True)).mailboxes[0].keys
        store.refuses = frozenset(keys[:2])
        report = await pruned(rig, older_than=0)
        assert report.exit_code == 3
        assert report.mailboxes[0].kept == 2
        assert report.mailboxes[0].removed == len(keys) - 2


async def test_held_mailbox_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run holds the mailbox, pruning leaves with 11; a dry run may look all the same."""
    monkeypatch.setattr("atlas_async.catalog.lease.BEAT_SECONDS", 0.02)
    async with littered(monkeypatch) as (rig, _), Atlas(rig.settings, store=rig.store) as other:
        assert await other._opened.open_existing()
        async with other._opened.writing(USER, wait=0) as (vault, _):
            await hold_mailbox(vault)
            report = await pruned(rig, older_than=0)
            assert report.exit_code == 11
            assert report.mailboxes[0].removed == 0
            assert not report.mailboxes[0].looked_at
            assert (await pruned(rig, older_than=0, dry_run=True)).exit_code == 0


async def test_pruning_that_was_taken_over_removes_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that slept while another run took over, and named what was litter, leaves it alone."""
    monkeypatch.setattr(pruning, "REMOVALS_PER_LOOK", 10)
    monkeypatch.setattr(leases.Lease, "keep", _never_beat)
    async with littered(monkeypatch) as (rig, store):
        first = [f"data/{USER}/{number:064}" for number in range(100)]
        for key in first:
            await rig.vault().put_raw(key, b"what no snapshot names")
        dry = await pruned(rig, older_than=0, dry_run=True)
        named_later = [key for key in dry.mailboxes[0].keys if key not in first]
        assert named_later
        reports: list[PruneReport] = []

        async def sleeper() -> None:
            reports.append(await pruned(rig, older_than=0))

        async with anyio.create_task_group() as group:
            store.asleep_after = FIRST_ASLEEP
            group.start_soon(sleeper)
            await store.asleep.wait()
            async with Atlas(rig.settings, store=store, clock=FakeClock(autojump=True)) as heir:
                assert (await heir.backup([USER])).exit_code == 0
            store.awake.set()
        (box,) = reports[0].mailboxes
        assert reports[0].exit_code == 11
        assert "lease is gone" in box.error
        begun = FIRST_ASLEEP + pruning.DELETES_AT_ONCE
        assert box.looked_at
        assert 0 < box.removed <= begun + pruning.REMOVALS_PER_LOOK
        assert len(set(first) - set(rig.bucket.objects)) == box.removed
        await rig.assert_exact(await rig.view(), rig.truth())
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0


async def _never_beat(_: leases.Lease) -> None:
    await anyio.sleep_forever()


async def test_the_lease_is_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many remove at once, none begins before the look that is due has come out well."""
    monkeypatch.setattr(pruning, "REMOVALS_PER_LOOK", 10)
    seen: list[int] = []
    async with littered(monkeypatch) as (rig, store):
        for number in range(95):
            await rig.vault().put_raw(f"data/{USER}/{number:064}", b"litter")
        check = leases.Lease.check

        async def look(lease: leases.Lease) -> None:
            await anyio.sleep(0)
            await check(lease)
            seen.append(store.deletions)

        monkeypatch.setattr(leases.Lease, "check", look)
        (box,) = (await pruned(rig, older_than=0)).mailboxes
        assert len(seen) == -(-box.removed // 10)
        assert all(count <= 10 * number for number, count in enumerate(seen))


async def test_mailbox_without_any_snapshot_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a first run that was killed left is found although no snapshot exists; events tell of it."""
    async with open_rig() as rig:
        await rig.back_up_user()
        await rig.vault("gone@contoso.com").put_raw(f"data/gone@contoso.com/{'0' * 64}", b"x")
        async with rig.engine() as atlas, atlas.events() as events:
            await atlas.prune(older_than=0, dry_run=True)
            report = await atlas.prune(older_than=0)
            seen = [await anext(events) for _ in range(4)]
        told = [(e.unreferenced, e.removed) for e in seen if isinstance(e, PruneProgress)]
        assert told == [(1, 0), (0, 0), (1, 1), (0, 0)]
        assert [(box.mailbox_id, box.removed) for box in report.mailboxes] == [
            ("gone@contoso.com", 1),
            (USER, 0),
        ]
        with pytest.raises(SnapshotNotFound):
            await pruned(rig, mailboxes=["nobody@contoso.com"])
