"""Stopping, cancelling and crashing at any moment: what is committed stays, what was done counts."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from atlas_async.catalog.head import read_head
from atlas_async.config.settings import Limits
from atlas_async.model.report import Outcome
from atlas_async.pipeline import journal
from atlas_async.pipeline.stop import StopSignal
from atlas_async.store.base import ObjectReader
from atlas_async.store.intercepted import InterceptedStore, Op, Request
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.rig import SMALL, USER, Rig, open_rig

T = TypeVar("T")

MANY = replace(SMALL, messages=300, attachment_share=0.05)
SMALL_PAGES = replace(Limits(), page_size=10, retries=2)


class _Watched:
    """Calls a function before each PUT of data."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell
        self.puts = 0

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        if request.op is Op.PUT and request.key.startswith("data/"):
            self.puts += 1
            self._tell(self.puts)
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return enter()


def watched(bucket: MemoryBucket, tell: Callable[[int], None]) -> InterceptedStore:
    """Return a memory store that tells of every data PUT."""
    return InterceptedStore(MemoryStore(bucket), _Watched(tell))


async def test_stop_settles_commits_and_resumes() -> None:
    """A stop request commits a partial snapshot, exits 130, and the next run completes it."""
    bucket = MemoryBucket()
    stop = StopSignal()

    def tell(puts: int) -> None:
        if puts == 100:
            stop.request()

    async with open_rig(MANY, limits=SMALL_PAGES, store=watched(bucket, tell)) as rig:
        rig.bucket = bucket
        report = await rig.backup([USER], stop=stop)
        assert report.exit_code == 130
        (result,) = report.mailboxes
        assert result.outcome is Outcome.INTERRUPTED
        assert 0 < result.messages < 300
        partial = await rig.view()
        assert not partial.summary.complete
        shown = {r["object_id"] async for r in partial.messages()}
        assert len(shown) == result.messages
        stored = len(rig.keys("data/"))
        again = await rig.back_up_user()
        assert again.outcome is Outcome.COMPLETE
        # At most what was in flight is downloaded and sealed twice; nothing is stored twice.
        assert again.stored == len(rig.reachable()) - stored
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("moment", [1, 37, 120, 211, 290])
async def test_cancel_at_any_moment_leaves_a_readable_store(
    moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is cancelled mid-way leaves the last checkpoint; the next run goes on (I6)."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 50)
    bucket = MemoryBucket()
    scope = anyio.CancelScope()

    def tell(puts: int) -> None:
        if puts == moment:
            scope.cancel()

    async with open_rig(MANY, limits=SMALL_PAGES, store=watched(bucket, tell)) as rig:
        rig.bucket = bucket
        with scope:
            await rig.backup([USER])
        assert scope.cancelled_caught
        assert not rig.keys("manifests/")
        stored = len(rig.keys("data/"))
        calm = replace_store(rig, bucket)
        result = await calm.back_up_user()
        assert result.outcome is Outcome.COMPLETE, result
        assert result.stored == len(rig.reachable()) - stored
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_resume_downloads_only_what_came_after_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a crash the pages before the checkpoint are not asked for again (I6)."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 40)
    bucket = MemoryBucket()
    scope = anyio.CancelScope()

    def tell(puts: int) -> None:
        if puts == 250:
            scope.cancel()

    async with open_rig(MANY, limits=SMALL_PAGES, store=watched(bucket, tell)) as rig:
        rig.bucket = bucket
        with scope:
            await rig.backup([USER])
        head = await read_head(rig.vault())
        assert head is not None
        assert head.snapshot is None
        assert head.checkpoint is not None
        recorded = head.checkpoint.messages
        assert recorded >= 100
        calm = replace_store(rig, bucket)
        result = await calm.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.stored + result.deduplicated <= 300 - recorded + 80
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_checkpoints_do_not_change_the_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a checkpoint after every page the snapshot and its counts are the same."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 1)
    monkeypatch.setattr(journal, "SMALL_RUNS", 3)
    async with open_rig(MANY, limits=SMALL_PAGES) as rig:
        rig.emulator.control.configure(replays=True)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())
        rig.mutate(op="bulk-delete", folder="inbox", count=20, hard=True)
        rig.mutate(op="bulk-move", folder="inbox", to="archive", count=20)
        rig.mutate(op="bulk-create", folder="sentitems", count=25)
        second = await rig.back_up_user()
        assert second.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_crash_during_incremental_keeps_removals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removals seen before a crash are not lost although their page is not read again (I2)."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 10)
    bucket = MemoryBucket()
    scope = anyio.CancelScope()
    armed = False

    def tell(puts: int) -> None:
        if armed and puts == 300 + 60:
            scope.cancel()

    async with open_rig(MANY, limits=SMALL_PAGES, store=watched(bucket, tell)) as rig:
        rig.bucket = bucket
        await rig.back_up_user()
        rig.mutate(op="bulk-delete", folder="inbox", count=30, hard=True)
        rig.mutate(op="bulk-create", folder="inbox", count=40)
        rig.mutate(op="bulk-create", folder="sentitems", count=40)
        armed = True
        with scope:
            await rig.backup([USER])
        assert scope.cancelled_caught
        calm = replace_store(rig, bucket)
        result = await calm.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_two_runs_of_one_mailbox_at_once_lose_nothing() -> None:
    """Two runs at once end with one key and readable, exact snapshots (I8)."""
    async with open_rig() as rig:
        results = []

        async def one() -> None:
            async with rig.engine() as atlas:
                results.append(await atlas.backup([USER]))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        assert [r.exit_code for r in results] == [0, 0]
        async with rig.engine() as atlas:
            for summary in await atlas.list_snapshots(USER):
                view = await atlas.open_snapshot(summary.snapshot_id)
                await rig.assert_exact(view, rig.truth())
            assert (await atlas.verify()).exit_code == 0


async def test_two_first_runs_of_a_tenant_make_one_key() -> None:
    """Eight first runs of an empty tenant at once end with one key; all mailboxes are readable (I8)."""
    options = replace(SMALL, mailboxes=8, messages=5)
    async with open_rig(options) as rig:
        reports = []

        async def one(number: int) -> None:
            async with rig.engine() as atlas:
                reports.append(await atlas.backup([f"user{number:04}@contoso.com"]))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)
        assert [r.exit_code for r in reports] == [0] * 8
        async with rig.engine() as atlas:
            report = await atlas.verify()
            assert report.exit_code == 0
            assert report.snapshots == 8


async def test_lost_head_is_found_again() -> None:
    """Without its head, or with a damaged one, a mailbox goes on from its newest snapshot."""
    async with open_rig() as rig:
        first = await rig.back_up_user()
        key = f"catalog/{USER}/head"
        body = bytearray(rig.bucket.objects[key].body)
        body[40] ^= 1
        rig.bucket.objects[key] = replace(rig.bucket.objects[key], body=bytes(body))
        damaged = await rig.back_up_user()
        assert damaged.outcome is Outcome.UNCHANGED
        assert any("damaged" in notice for notice in damaged.notices)
        assert damaged.graph_requests == first.folders + 1
        del rig.bucket.objects[key]
        lost = await rig.back_up_user()
        assert lost.outcome is Outcome.UNCHANGED
        assert lost.graph_requests == first.folders + 1


def replace_store(rig: Rig, bucket: MemoryBucket) -> Rig:
    """Return the rig with a plain store over the same bucket."""
    rig.store = MemoryStore(bucket)
    return rig


async def test_plaintext_never_reaches_store_or_spool(tmp_path: Path) -> None:
    """No subject, body or attachment stands in clear in any object (I7)."""
    async with open_rig(spool=tmp_path) as rig:
        rig.mutate(op="create", folder="inbox", subject="needle-subject", body="needle-body")
        await rig.back_up_user()
        haystack = b"".join(stored.body for stored in rig.bucket.objects.values())
        assert b"needle" not in haystack
        metadata = json.dumps([dict(s.info.metadata) for s in rig.bucket.objects.values()])
        assert "needle" not in metadata
        with suppress(FileNotFoundError):
            assert not list(tmp_path.iterdir())
