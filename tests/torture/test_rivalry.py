"""Rivals: two runs of one mailbox, two first runs of a tenant, a run beside deletion (I8)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from atlas_async.catalog import lease as leases
from atlas_async.catalog.layout import lease_prefix
from atlas_async.clock import SystemClock
from atlas_async.config.settings import DirectorySettings
from atlas_async.errors import StoreTransient
from atlas_async.model.report import Outcome, RunReport
from atlas_async.pipeline.stop import StopSignal
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.intercepted import InterceptedStore, Op, Request
from atlas_async.store.memory import MemoryStore
from atlas_async.store.retrying import RetryingStore, RetryPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.rig import PASSPHRASE, SMALL, USER, Rig, open_rig
from tests.fakes.yard import open_yard, wait_until

T = TypeVar("T")

MANY = replace(SMALL, messages=120, attachment_share=0.05)


class _Around:
    """Calls a function with each request before it is made."""

    def __init__(self, tell: Callable[[Request], Awaitable[None]]) -> None:
        self._tell = tell

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        await self._tell(request)
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return enter()


class Gate:
    """Stops a run at the first request that fits, until it is opened."""

    def __init__(self, fits: Callable[[Request], bool]) -> None:
        self._fits = fits
        self.reached = anyio.Event()
        self.opened = anyio.Event()

    async def __call__(self, request: Request) -> None:
        if self._fits(request):
            self.reached.set()
            await self.opened.wait()


def descriptor_put(request: Request) -> bool:
    """Tell whether this is the last write before a commit."""
    return request.op is Op.PUT and "/snapshots/" in request.key


def data_put(request: Request) -> bool:
    """Tell whether this stores a message or an attachment."""
    return request.op is Op.PUT and request.key.startswith(("data/", "attachments/"))


async def run_over(rig: Rig, store: ObjectStore, clock: Any = None, **options: Any) -> RunReport:
    """Run one backup of the user over a store of its own."""
    async with Atlas(rig.settings, store=store, clock=clock or SystemClock()) as atlas:
        return await atlas.backup([USER], **options)


def leases_in(rig: Rig) -> list[str]:
    """Return the leases that lie in the bucket."""
    return rig.keys(lease_prefix(USER))


async def assert_sound(rig: Rig, snapshots: int) -> None:
    """Assert that so many snapshots exist, the newest is exact, and all verify."""
    async with rig.engine() as atlas:
        assert len(await atlas.list_snapshots(USER)) == snapshots
        assert (await atlas.verify()).exit_code == 0
    await rig.assert_exact(await rig.view(), rig.truth())


async def test_second_run_leaves_with_11(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox that another run writes is left alone: outcome locked, exit 11, nothing written."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    async with open_rig(MANY) as rig:
        gate = Gate(data_put)
        reports: list[RunReport] = []

        async def first() -> None:
            reports.append(await run_over(rig, InterceptedStore(rig.store, _Around(gate))))

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await gate.reached.wait()
            before = {key for key in rig.bucket.objects if "/lease/" not in key}
            report = await rig.backup([USER])
            assert report.exit_code == 11
            (result,) = report.mailboxes
            assert result.outcome is Outcome.LOCKED
            assert "another run holds this mailbox" in result.error
            assert "--lock-wait" in result.hint
            assert {key for key in rig.bucket.objects if "/lease/" not in key} == before
            gate.opened.set()
        assert reports[0].exit_code == 0
        await assert_sound(rig, 1)
        assert not leases_in(rig)


async def test_second_run_waits_and_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --lock-wait the second run waits, then finds everything stored and commits nothing twice."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.02)
    async with open_rig(MANY) as rig:
        gate = Gate(data_put)
        reports: dict[str, RunReport] = {}

        async def run(name: str, store: ObjectStore) -> None:
            reports[name] = await run_over(rig, store, lock_wait=600.0)

        async with anyio.create_task_group() as group:
            group.start_soon(run, "first", InterceptedStore(rig.store, _Around(gate)))
            await gate.reached.wait()
            group.start_soon(run, "second", rig.store)
            await anyio.sleep(0.3)
            assert not reports
            gate.opened.set()
        assert [reports[name].exit_code for name in ("first", "second")] == [0, 0]
        (second,) = reports["second"].mailboxes
        assert second.outcome is Outcome.UNCHANGED
        assert second.stored == 0
        await assert_sound(rig, 1)


async def test_stop_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first Ctrl-C ends the waiting for another run at once: exit 130, the mailbox locked."""
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.02)
    async with open_rig(MANY) as rig:
        gate = Gate(data_put)
        stop = StopSignal()
        watching = anyio.Event()
        reports: dict[str, RunReport] = {}

        async def looks(request: Request) -> None:
            if request.op is Op.GET and "/lease/" in request.key:
                watching.set()

        async def run(name: str, store: ObjectStore, **options: Any) -> None:
            reports[name] = await run_over(rig, store, lock_wait=86_400.0, **options)

        async with anyio.create_task_group() as group:
            group.start_soon(run, "first", InterceptedStore(rig.store, _Around(gate)))
            await gate.reached.wait()
            async with anyio.create_task_group() as second:
                store = InterceptedStore(rig.store, _Around(looks))
                second.start_soon(partial(run, "second", store, stop=stop))
                await watching.wait()
                stop.request()
            assert reports["second"].exit_code == 130
            assert reports["second"].mailboxes[0].outcome is Outcome.LOCKED
            gate.opened.set()
        assert reports["first"].exit_code == 0


async def test_many_runs_at_once_end_exact() -> None:
    """Six runs of one mailbox that all wait: one key, exact snapshots, no lease left (I8)."""
    async with open_rig() as rig:
        reports: list[RunReport] = []

        async def run() -> None:
            reports.append(await run_over(rig, MemoryStore(rig.bucket), lock_wait=600.0))

        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(run)
        assert [report.exit_code for report in reports] == [0] * 6
        await assert_sound(rig, len(rig.keys("manifests/")))
        assert not leases_in(rig)


async def test_quiet_run_asks_for_no_lease() -> None:
    """A run that changes nothing costs the store one request, lease or no lease."""
    async with open_rig() as rig:
        await rig.back_up_user()
        quiet = await rig.back_up_user()
        assert quiet.outcome is Outcome.UNCHANGED
        assert quiet.store_requests == 1


async def test_suspended_run_that_was_taken_over_commits_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that sleeps on another machine, is taken over and wakes must not commit over its heir."""
    async with open_rig(MANY) as rig:
        gate = Gate(data_put)
        asleep: list[RunReport] = []
        keep = leases.Lease.keep
        monkeypatch.setattr(leases.Lease, "keep", _never_beat)

        async def sleeper() -> None:
            asleep.append(await run_over(rig, InterceptedStore(rig.store, _Around(gate))))

        async with anyio.create_task_group() as group:
            group.start_soon(sleeper)
            await gate.reached.wait()
            monkeypatch.setattr(leases.Lease, "keep", keep)
            heir = await run_over(rig, rig.store, FakeClock(autojump=True))
            assert heir.exit_code == 0
            committed = rig.keys("manifests/")
            gate.opened.set()
        assert asleep[0].exit_code == 11
        assert rig.keys("manifests/") == committed
        await assert_sound(rig, 1)


async def _never_beat(_: leases.Lease) -> None:
    await anyio.sleep_forever()


class SlowsDown:
    """Answers beats with a 503 that asks for a minute's rest, until it is over."""

    def __init__(self) -> None:
        self.struck = anyio.Event()
        self.over = False

    async def __call__(self, request: Request) -> None:
        beats = request.op is Op.PUT and "/lease/" in request.key and not request.if_absent
        if beats and not self.over:
            self.struck.set()
            raise StoreTransient("503 SlowDown", retry_after=60.0)


async def test_run_whose_beat_is_slowed_down_commits_nothing_over_its_heir(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A beat is given up rather than written after somebody else may have taken over."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    async with open_rig(MANY) as rig:
        clock = FakeClock()
        slow, data, commit = SlowsDown(), Gate(data_put), Gate(descriptor_put)
        inner = InterceptedStore(InterceptedStore(rig.store, _Around(slow)), _Around(data))
        store = RetryingStore(inner, RetryPolicy(6, 1800.0), clock=clock)
        reports: dict[str, RunReport] = {}

        async def run(name: str, store: ObjectStore, clock: Any = None) -> None:
            reports[name] = await run_over(rig, store, clock)

        async with anyio.create_task_group() as group:
            group.start_soon(run, "first", store)
            await data.reached.wait()
            await slow.struck.wait()
            heir = InterceptedStore(rig.store, _Around(commit))
            group.start_soon(run, "heir", heir, FakeClock(autojump=True))
            await commit.reached.wait()
            slow.over = True
            await clock.advance(61)
            await anyio.sleep(0.2)
            data.opened.set()
            while "first" not in reports:
                await anyio.sleep(0.01)
            commit.opened.set()
        assert reports["first"].exit_code == 11
        assert reports["heir"].exit_code == 0
        await assert_sound(rig, 1)


async def test_run_beside_deletion_commits_nothing_over_it() -> None:
    """When somebody deletes a mailbox from the bucket during its run, the run stops; the next is whole."""
    async with open_rig(MANY) as rig:
        gate = Gate(descriptor_put)
        reports: list[RunReport] = []

        async def run() -> None:
            reports.append(await run_over(rig, InterceptedStore(rig.store, _Around(gate))))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await gate.reached.wait()
            for key in list(rig.bucket.objects):
                if f"/{USER}/" in key:
                    del rig.bucket.objects[key]
            gate.opened.set()
        assert reports[0].exit_code == 11
        assert "deleted" in reports[0].mailboxes[0].error
        assert not rig.keys("manifests/")
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        await assert_sound(rig, 1)


class LosesAnswers:
    """Does conditional PUTs and then fails them, as a connection that breaks after the write does."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        if request.op is Op.PUT and request.if_absent and request.key not in self.lost:
            self.lost.append(request.key)
            raise StoreTransient("connection reset after the object was stored")
        return answer

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return enter()


async def test_own_write_is_accepted_when_its_answer_was_lost() -> None:
    """A key and a lease whose PUT was acknowledged in vain, then refused with 412, are this run's own."""
    async with open_rig() as rig:
        loser = LosesAnswers()
        clock = FakeClock(autojump=True)
        store = RetryingStore(InterceptedStore(rig.store, loser), RetryPolicy(3, 60.0), clock=clock)
        report = await run_over(rig, store, clock)
        assert report.exit_code == 0
        assert [key.rpartition("/")[0] for key in loser.lost] == ["_meta", f"catalog/{USER}/lease"]
        await assert_sound(rig, 1)
        assert not leases_in(rig)


def program(settings: Any, *, beat: float = 0.2) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of ``atlas backup`` as a process, with fast beats."""
    script = (
        "import sys; from atlas_async.catalog import lease; "
        f"lease.BEAT_SECONDS = {beat}; "
        "from atlas_async.cli.app import main; sys.argv[0] = 'atlas'; main()"
    )
    graph = settings.graph
    environment = {
        **os.environ,
        "ATLAS_TENANT_ID": settings.tenant_id,
        "ATLAS_CLIENT_ID": graph.client_id,
        "ATLAS_CLIENT_SECRET": graph.credential.reveal(),
        "ATLAS_AUTHORITY_URL": graph.authority_url,
        "ATLAS_GRAPH_URL": graph.graph_url,
        "ATLAS_STORAGE_URL": settings.storage.path.as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE.reveal(),
        "ATLAS_DEK_VERSION": "0",
        "ATLAS_PAGE_SIZE": "5",
    }
    return [sys.executable, "-c", script, "backup", "-m", USER, "--json"], environment


async def test_killed_run_leaves_no_lock_behind(tmp_path: Path) -> None:
    """Kill -9 of the run that holds a mailbox: the next takes over at once and completes it."""
    async with open_yard(tmp_path, replace(MANY, mailboxes=1, messages=300)) as yard:
        yard.emulator.control.configure(latency=0.4)
        command, environment = program(yard.settings)
        holder = yard.place / f"catalog/{USER}/lease"
        async with await anyio.open_process(command, env=environment) as process:
            await wait_until(lambda: holder.is_dir() and any(holder.iterdir()))
            rival = await anyio.run_process(command, env=environment, check=False)
            assert rival.returncode == 11, rival.stderr
            process.send_signal(signal.SIGKILL)
            await process.wait()
        assert any(holder.iterdir())
        yard.emulator.control.configure(latency=0.0)
        began = anyio.current_time()
        done = await anyio.run_process(command, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert anyio.current_time() - began < leases.STALE_SECONDS
        assert not any(holder.iterdir())
        view = await yard.view()
        await yard.assert_exact(view, yard.truth())


async def test_two_first_runs_as_processes_make_one_key(tmp_path: Path) -> None:
    """Two first runs of an empty tenant as processes: one key opens what both wrote."""
    async with open_yard(tmp_path, replace(SMALL, mailboxes=2, messages=10)) as yard:
        command, environment = program(yard.settings)
        assert isinstance(yard.settings.storage, DirectorySettings)
        codes = []

        async def run(mailbox: str) -> None:
            own = [mailbox if part == USER else part for part in command]
            done = await anyio.run_process(own, env=environment, check=False)
            codes.append(done.returncode)

        async with anyio.create_task_group() as group:
            for mailbox in (USER, "user0001@contoso.com"):
                group.start_soon(run, mailbox)
        assert codes == [0, 0]
        await yard.assert_all_exact(content=True)
