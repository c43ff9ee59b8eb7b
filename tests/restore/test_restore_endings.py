"""How a restore ends that cannot go on: permissions, quota, locks, interruption, the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import anyio
import pytest

from atlas_async.catalog import lease
from atlas_async.catalog.layout import restores_prefix
from atlas_async.config.settings import Limits
from atlas_async.errors import LockedError, StoreAuthError
from atlas_async.model.events import RestoreProgress
from atlas_async.model.restoring import Comparing, Conflict, RestoreOptions, Step
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore import journal
from atlas_async.restore.comparison import Comparer
from atlas_async.restore.journal import part_prefix
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from tests.fakes.clock import FakeClock
from tests.fakes.rig import USER, Rig
from tests.restore.scene import (
    FEW,
    OTHER,
    RICH,
    ROOT,
    Scene,
    assert_once,
    brisk_scene,
    created,
    mark_of,
    open_scene,
)

MORE: Final = replace(RICH, messages=40, attachment_share=0.0)


async def test_without_the_permission_nothing_is_created() -> None:
    """Exit 13, and the permission is named; a dry run needs none of it."""
    async with brisk_scene(corpus=FEW) as scene:
        app = scene.rig.emulator.tenant.app
        app.roles = ("Mail.Read", "User.Read.All")
        dry = await scene.restore(dry_run=True)
        assert (dry.exit_code, created(dry)) == (0, scene.source().total())
        for report in (
            await scene.restore(),
            await scene.restore(in_place=True, conflict=Conflict.COPY),
        ):
            assert report.exit_code == 13
            assert "Mail.ReadWrite" in report.hint
            assert "The token now carries: Mail.Read, User.Read.All" in report.hint
        scene.assert_untouched()


async def test_a_role_for_some_mailboxes_opens_those() -> None:
    """Exchange grants the permission for single mailboxes; another one is out of its scope."""
    async with brisk_scene(corpus=FEW) as scene:
        app = scene.rig.emulator.tenant.app
        app.roles = ("Mail.Read", "User.Read.All")
        app.scoped = {USER: frozenset({"Mail.ReadWrite"})}
        assert (await scene.restore()).exit_code == 0
        before = scene.rig.truth(OTHER)
        report = await scene.restore(to=OTHER)
        assert report.exit_code == 13
        assert "Application Mail.ReadWrite" in report.hint
        assert scene.rig.truth(OTHER) == before


async def test_a_mailbox_that_is_full_stops_the_restore() -> None:
    """It says so, keeps what it has done, and continues when there is room."""
    async with brisk_scene(corpus=MORE) as scene:
        scene.fault(
            method="POST",
            path="/messages$",
            status=507,
            code="ErrorQuotaExceeded",
            after=9,
            count=-1,
        )
        report = await scene.restore()
        assert report.exit_code not in {0, 3}
        assert "quota" in report.error
        assert "raise its quota" in report.hint
        assert created(report) == len(scene.marked()) == 9
        scene.calm()
        report = await scene.restore()
        assert (report.exit_code, report.total(Step.ALREADY)) == (0, 9)
        scene.assert_whole()


async def test_a_target_that_does_not_exist() -> None:
    """The error is in the report of its wish; others are restored."""
    async with brisk_scene(corpus=FEW) as scene, scene.rig.engine() as atlas:
        selection = Selection(mailbox=USER)
        wishes = [RestoreWish(selection, "nobody@contoso.com"), RestoreWish(selection, OTHER)]
        missing, there = await atlas.restore(wishes)
        assert "nobody@contoso.com" in missing.error
        assert missing.exit_code != 0
        assert there.exit_code == 0
        scene.assert_untouched()


async def test_throttled_without_end() -> None:
    """When Graph asks for more patience than there is, the restore ends and can be continued."""
    async with brisk_scene(corpus=MORE) as scene:
        scene.fault(
            status=429,
            code="ApplicationThrottled",
            retry_after="7200",
            path="/messages$",
            after=12,
            count=-1,
        )
        report = await scene.restore()
        assert report.exit_code == 14
        scene.calm()
        await scene.rig.clock.sleep(7300)
        assert (await scene.restore()).exit_code == 0
        scene.assert_whole()
        assert_once(scene)


async def test_a_network_that_is_gone_ends_it_at_once() -> None:
    """Not every message is tried to its end when nothing answers any more."""
    async with brisk_scene(corpus=MORE) as scene:
        scene.fault(
            method="POST",
            path="/messages$",
            action="redirect",
            location="https://sign-in.invalid/",
            after=9,
            count=-1,
        )
        report = await scene.restore()
        assert report.error
        assert report.failed < 12
        scene.calm()
        assert (await scene.restore()).exit_code == 0
        scene.assert_whole()
        assert_once(scene)


def without_writing(scene: Scene) -> Rig:
    """Return the rig over a store that refuses to be written to."""
    fault = Fault(
        Failure.REFUSED, op=Op.PUT, times=None, error=lambda: StoreAuthError("denied: PutObject")
    )
    store = FaultyStore(scene.rig.store, [fault], clock=FakeClock())
    return replace(scene.rig, store=store)


async def test_a_store_that_cannot_be_written_to() -> None:
    """A restore needs its journal: nothing is created in the mailbox; a dry run needs none."""
    async with brisk_scene(corpus=FEW) as scene:
        reader = replace(scene, rig=without_writing(scene))
        report = await reader.restore()
        assert report.exit_code == 13
        assert "PutObject" in report.error
        scene.assert_untouched()
        assert created(await reader.restore(dry_run=True)) == scene.source().total()


async def test_a_store_that_fails_meanwhile_ends_the_restore() -> None:
    """A part that cannot be written ends it with the store's error; the next run continues."""
    async with brisk_scene(corpus=MORE) as scene:
        healthy = scene.rig
        fault = Fault(
            Failure.REFUSED,
            op=Op.PUT,
            key="/parts/",
            after=1,
            times=None,
            error=lambda: StoreAuthError("denied: PutObject"),
        )
        store = FaultyStore(healthy.store, [fault], clock=FakeClock())
        broken = replace(scene, rig=replace(healthy, store=store))
        report = await broken.restore()
        assert fault.hits > 0
        assert (report.exit_code, "PutObject" in report.error) == (13, True)
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()
        assert_once(scene)
        await scene.undo()
        scene.assert_untouched()


async def test_two_restores_of_one_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is refused while the first is under way; so is taking it back."""
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    async with open_scene(MORE) as scene, scene.rig.engine() as first:
        scene.rig.emulator.control.configure(latency=0.1)
        wish = RestoreWish(Selection(mailbox=USER))
        stop = StopSignal()
        async with anyio.create_task_group() as group, first.events() as events:
            group.start_soon(lambda: first.restore([wish], stop=stop))
            async for event in events:
                if isinstance(event, RestoreProgress):
                    break
            # Another process of this machine, by its lease: one that is alive and beats.
            report = await scene.restore(in_place=True)
            assert report.exit_code == LockedError.exit_code == 11
            with pytest.raises(LockedError):
                await scene.undo()
            stop.request()
        scene.rig.emulator.control.configure(latency=0.0)
        async with scene.rig.engine() as again:
            (report,) = await again.restore([wish])
        assert report.exit_code == 0
        assert_once(scene)


async def test_one_that_waits_reads_what_the_other_did() -> None:
    """With --lock-wait the same restore waits, and then finds everything done."""
    async with open_scene(MORE, limits=replace(Limits(), retries=3, lock_wait=60.0)) as scene:
        scene.rig.emulator.control.configure(latency=0.005)
        reports = []

        async def one() -> None:
            reports.append(await scene.restore(comparing=Comparing.NONE))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        assert [report.exit_code for report in reports] == [0, 0]
        assert sorted(created(report) for report in reports) == [0, scene.source().total()]
        assert_once(scene)
        undone = await scene.undo()
        assert undone.removed == scene.source().total()
        scene.assert_untouched()


async def test_stopped_in_order_and_continued() -> None:
    """The first Ctrl-C lets what is under way end; the next run does the rest."""
    async with open_scene(MORE) as scene:
        stop = StopSignal()
        async with scene.rig.engine() as atlas:
            reports = []

            async def restore() -> None:
                wish = RestoreWish(Selection(mailbox=USER))
                reports.extend(await atlas.restore([wish], RestoreOptions(root=ROOT), stop=stop))

            async with anyio.create_task_group() as group, atlas.events() as events:
                group.start_soon(restore)
                async for event in events:
                    if isinstance(event, RestoreProgress) and event.created >= 5:
                        stop.request()
                        break
        (report,) = reports
        assert (report.exit_code, report.interrupted) == (130, True)
        assert 5 <= created(report) < scene.source().total()
        assert len(scene.marked()) == created(report)
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()
        assert_once(scene)


async def test_stopped_while_it_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to do then but to look: that ends after the page that is read."""
    async with open_scene(MORE) as scene:
        await scene.restore(comparing=Comparing.NONE)
        stop = StopSignal()
        pages: list[int] = []
        compare = Comparer._messages

        async def stopping(
            self: Comparer, page: list[dict[str, Any]], path: tuple[str, ...]
        ) -> None:
            pages.append(len(page))
            stop.request()
            await compare(self, page, path)

        monkeypatch.setattr(Comparer, "_messages", stopping)
        report = await scene.restore(stop=stop)
        assert report.total(Step.ALREADY) == scene.source().total()
        assert len(pages) == 1
        assert (report.interrupted, report.exit_code) == (True, 130)
        assert report.comparison is None
        scene.assert_whole()


async def test_cancelled_at_once_and_continued() -> None:
    """The second Ctrl-C cancels: what is under way is looked for by the next run."""
    async with open_scene(MORE) as scene:
        scene.rig.emulator.control.configure(latency=0.005)
        async with scene.rig.engine() as atlas:
            wish = RestoreWish(Selection(mailbox=USER))
            async with anyio.create_task_group() as group, atlas.events() as events:
                group.start_soon(lambda: atlas.restore([wish], RestoreOptions(root=ROOT)))
                async for event in events:
                    if isinstance(event, RestoreProgress) and event.created >= 7:
                        group.cancel_scope.cancel()
                        break
        scene.rig.emulator.control.configure(latency=0.0)
        assert [k for k in scene.rig.keys(restores_prefix(USER)) if "/parts/" in k]
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()
        assert_once(scene)
        await scene.undo()
        scene.assert_untouched()


async def test_an_undoing_that_was_stopped_is_continued() -> None:
    """What it had removed stays removed, and the rest goes with the next one."""
    async with open_scene(MORE) as scene:
        await scene.restore()
        stop = StopSignal()
        async with scene.rig.engine() as atlas:
            reports = []

            async def undo() -> None:
                reports.append(await atlas.undo_restore(USER, "latest", stop=stop))

            async with anyio.create_task_group() as group, atlas.events() as events:
                group.start_soon(undo)
                async for event in events:
                    if isinstance(event, RestoreProgress) and event.done >= 5:
                        stop.request()
                        break
        (report,) = reports
        assert (report.exit_code, report.interrupted) == (130, True)
        assert 0 < len(scene.marked()) < scene.source().total()
        report = await scene.undo()
        assert report.exit_code == 0
        assert report.removed + report.gone == scene.source().total()
        scene.assert_untouched()


async def test_undoing_needs_the_permission_too() -> None:
    """Without it the report says so, and nothing was touched."""
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        marks = sorted(map(mark_of, scene.marked()))
        scene.rig.emulator.tenant.app.roles = ("Mail.Read", "User.Read.All")
        report = await scene.undo()
        assert report.exit_code == 13
        assert "Mail.ReadWrite" in report.hint
        assert sorted(map(mark_of, scene.marked())) == marks


@pytest.mark.parametrize("kept", [1, 2], ids=["folders noted", "some entries"])
async def test_undoing_a_restore_that_was_killed_at_once(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had made by then goes, folders too, although its journal names few of them."""
    monkeypatch.setattr(journal, "FLUSH_ENTRIES", 5)
    async with brisk_scene(corpus=MORE) as scene:
        scene.rig.emulator.control.configure(latency=0.02)
        job = (await scene.restore()).job_id
        prefix = part_prefix(USER, job)
        parts = sorted(key for key in scene.rig.bucket.objects if key.startswith(prefix))
        assert len(parts) > kept
        for key in parts[kept:]:
            del scene.rig.bucket.objects[key]
        undone = await scene.undo()
        assert undone.exit_code == 0
        assert undone.removed == scene.source().total()
        scene.assert_untouched()
