"""However a worker or its parent ends: a whole report, no hang, no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process

from atlas_async.model.events import Event, MailboxFinished, MailboxProgress
from atlas_async.model.report import Outcome
from atlas_async.pipeline.stop import StopSignal
from atlas_async.shards import shard
from atlas_async.shards.shard import Shard
from tests.fakes.rig import PASSPHRASE
from tests.fakes.yard import (
    FOUR,
    LONG,
    SLOW,
    Watch,
    Yard,
    alive,
    children,
    open_yard,
    wait_until,
)

ROOT = Path(__file__).parents[2]
LATENCY = 0.1
"""Seconds added to each request, so that a run lasts long enough to be interfered with."""


def once_both_work(
    rig: Yard, act: Callable[[], None], *, latency: float = LATENCY
) -> Callable[[Event], None]:
    """Return a listener that acts once, when two mailboxes have shown progress and none ended.

    From then on requests take ``latency``.
    """
    seen: set[str] = set()
    acted = False

    def listen(event: Event) -> None:
        nonlocal acted
        if isinstance(event, MailboxFinished):
            assert acted, "a mailbox ended before the test could interfere"
        if isinstance(event, MailboxProgress):
            seen.add(event.mailbox_id)
        if len(seen) == 2 and not acted:
            acted = True
            act()
            rig.emulator.control.configure(latency=latency)

    rig.emulator.control.configure(latency=LATENCY)
    return listen


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give two workers their first mailboxes at the same moment, however slowly either starts."""
    offer, held = Shard.offer, list[Shard]()

    def hold(self: Shard) -> None:
        held.append(self)
        if len(set(held)) == 2:
            for one in held:
                offer(one)
            monkeypatch.setattr(Shard, "offer", offer)

    monkeypatch.setattr(Shard, "offer", hold)


async def recovers(rig: Yard) -> None:
    """Assert that the next run of one process completes every mailbox."""
    rig.emulator.control.configure(latency=0.0)
    rig.on_event = lambda event: None
    report = await rig.spread(processes=1)
    assert report.exit_code == 0
    await rig.assert_all_exact()


@pytest.mark.usefixtures("together")
async def test_a_killed_worker_costs_its_mailboxes(tmp_path: Path, watch: Watch) -> None:
    """What a killed worker had in flight is FAILED and says why; the other does the rest (I3, I4)."""
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.on_event = once_both_work(rig, watch.kill, latency=0.0)
        report = await rig.spread()
        assert len(report.mailboxes) == LONG.mailboxes
        assert report.exit_code == 3
        failed = [result for result in report.mailboxes if result.exit_code]
        assert [result.outcome for result in failed] == [Outcome.FAILED]
        assert "worker process 1" in failed[0].error
        assert f"pid {watch.pids[0]}" in failed[0].error
        assert "SIGKILL" in failed[0].error
        assert "ATLAS_BYTE_BUDGET" in failed[0].hint
        assert "run again" in failed[0].hint
        assert failed[0].exit_code == 1
        finished = [e.result for e in rig.events if isinstance(e, MailboxFinished)]
        assert sorted(finished, key=lambda result: result.mailbox_id) == list(report.mailboxes)
        await recovers(rig)


@pytest.mark.usefixtures("together")
async def test_without_workers_the_rest_fails_and_nothing_hangs(
    tmp_path: Path, watch: Watch
) -> None:
    """When all workers were killed, every mailbox is in the report as FAILED."""
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.on_event = once_both_work(rig, watch.kill_all)
        report = await rig.spread()
        assert len(report.mailboxes) == LONG.mailboxes
        assert {result.outcome for result in report.mailboxes} == {Outcome.FAILED}
        assert report.exit_code == 1
        begun = [r for r in report.mailboxes if "not begun" not in r.error]
        assert len(begun) == 2
        for result in report.mailboxes:
            assert "SIGKILL" in result.error
            assert "run again" in result.hint
        await recovers(rig)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("pass", "exit code 0"),
        ("import os; os.kill(os.getpid(), 15)", "SIGTERM"),
        ("import os; os.kill(os.getpid(), 35)", "signal 35"),
        ("import os; os.write(0, bytes(7) + b'\\x05hello')", "cannot be read"),
    ],
)
async def test_workers_that_do_not_begin(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, program: str, told: str
) -> None:
    """Workers that end at once, or talk nonsense, fail the mailboxes with the reason."""
    monkeypatch.setattr(shard, "START", program)
    async with open_yard(tmp_path) as rig:
        report = await rig.spread()
        assert len(report.mailboxes) == FOUR.mailboxes
        assert report.exit_code == 1
        for result in report.mailboxes:
            assert result.outcome is Outcome.FAILED
            assert "not begun: no worker process is left" in result.error
            assert told in result.error
        await recovers(rig)


async def test_a_worker_that_cannot_be_started(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system starts no process, the mailboxes fail with the system's reason."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    async with open_yard(tmp_path) as rig:
        report = await rig.spread()
        assert report.exit_code == 1
        for result in report.mailboxes:
            assert "cannot be started: No such file or directory" in result.error
            assert "--processes" in result.hint


async def test_a_worker_that_cannot_reach_the_store(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that cannot open the bucket says so; its error is the mailboxes' error."""
    start, away, hidden = shard._start, tmp_path / "away", list[Path]()
    async with open_yard(tmp_path) as rig:
        lock = anyio.Lock()

        async def hide_first(*arguments: Any) -> Process:
            async with lock:
                if not hidden:
                    hidden.append(await anyio.to_thread.run_sync(rig.place.rename, away))
            return await start(*arguments)

        monkeypatch.setattr(shard, "_start", hide_first)
        report = await rig.spread()
        assert hidden
        assert report.exit_code == 1
        for result in report.mailboxes:
            assert "no worker process is left" in result.error
            assert rig.settings.bucket in result.error
        away.rename(rig.place)
        monkeypatch.setattr(shard, "_start", start)
        await recovers(rig)


@pytest.mark.usefixtures("together")
async def test_a_stop_request_settles_every_worker(tmp_path: Path, watch: Watch) -> None:
    """On a stop request workers commit what they have; what was not begun says so (exit 130)."""
    stop = StopSignal()
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.on_event = once_both_work(rig, stop.request)
        report = await rig.spread(stop=stop)
        assert report.interrupted
        assert report.exit_code == 130
        assert len(report.mailboxes) == LONG.mailboxes
        assert {result.outcome for result in report.mailboxes} == {Outcome.INTERRUPTED}
        begun = [result for result in report.mailboxes if result.snapshot_id]
        assert len(begun) == 2
        assert all(0 < result.stored < LONG.messages for result in begun)
        await recovers(rig)


@pytest.mark.usefixtures("together")
async def test_cancelling_the_parent_ends_the_workers(tmp_path: Path, watch: Watch) -> None:
    """A cancelled run leaves no process behind, and a store that the next run continues (I6)."""
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        with anyio.CancelScope() as scope:
            rig.on_event = once_both_work(rig, scope.cancel)
            await rig.spread()
        assert scope.cancelled_caught
        assert len(watch.pids) == 2
        watch.assert_gone()
        assert [process.returncode for process in watch.processes] == [0, 0]
        await recovers(rig)


async def test_a_worker_that_does_not_end_is_killed(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that ignores the end of its channel does not hold the parent up."""
    monkeypatch.setattr(shard, "ENDING_SECONDS", 0.05)
    monkeypatch.setattr(shard, "START", "import time; time.sleep(600)")
    async with open_yard(tmp_path) as rig:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(rig.spread)
                await wait_until(lambda: len(watch.processes) == 2)
                scope.cancel()
        assert [process.returncode for process in watch.processes] == [-signal.SIGKILL] * 2


@pytest.mark.usefixtures("together")
async def test_signals_are_the_parents_business(tmp_path: Path, watch: Watch) -> None:
    """SIGINT and SIGTERM to a worker, as a terminal or an init system sends to all, change nothing."""
    groups: list[int] = []

    def signal_all() -> None:
        for pid in watch.pids:
            groups.append(os.getpgid(pid))
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)

    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.on_event = once_both_work(rig, signal_all, latency=0.0)
        assert (await rig.spread()).exit_code == 0
        assert groups == watch.pids  # each in a group of its own, which no terminal signals
        await rig.assert_all_exact()


def command_line(rig: Yard, *arguments: str) -> subprocess.Popen[str]:
    """Start a command line of the program over the yard."""
    tenant = rig.emulator.tenant
    settings = {
        "ATLAS_TENANT_ID": str(tenant.id),
        "ATLAS_CLIENT_ID": tenant.client_id,
        "ATLAS_CLIENT_SECRET": tenant.client_secret,
        "ATLAS_AUTHORITY_URL": rig.emulator.authority_url,
        "ATLAS_GRAPH_URL": rig.emulator.graph_url,
        "ATLAS_STORAGE_URL": rig.place.parent.as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE.reveal(),
        "ATLAS_DEK_VERSION": "0",
        "ATLAS_PAGE_SIZE": "5",
        "ATLAS_CONCURRENCY": "2",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "atlas_async", *arguments],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def both_at_work(rig: Yard, parent: subprocess.Popen[str]) -> list[int]:
    """Wait until two workers of the parent have stored mail; return their process ids."""
    data = rig.place / "data"
    await wait_until(lambda: data.exists() and len(list(data.iterdir())) >= 2)
    workers = await anyio.to_thread.run_sync(children, parent.pid)
    assert len(workers) == 2
    return workers


async def hold_both(rig: Yard) -> None:
    """Let no more requests be answered; return when two mailboxes wait for such a request.

    What was asked for before is still answered, and a mailbox that had nothing else in flight
    could be committed at the first signal.
    """
    control = rig.emulator.control
    control.configure(latency=600.0)
    control.clear_log()
    while len({one["mailbox"] for one in control.log()["served"]} - {""}) < 2:
        await anyio.sleep(0.02)


async def test_a_killed_parent_takes_its_workers_along(tmp_path: Path, watch: Watch) -> None:
    """After kill -9 of the parent the workers end by themselves, and nothing is lost (I6)."""
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.emulator.control.configure(latency=LATENCY)
        with command_line(rig, "backup", "--processes", "2", "--quiet") as parent:
            workers = await both_at_work(rig, parent)
            parent.kill()
            await wait_until(lambda: not any(alive(pid) for pid in workers))
        await recovers(rig)


async def test_ctrl_c_settles_every_worker(tmp_path: Path, watch: Watch) -> None:
    """One Ctrl-C commits a partial snapshot of each mailbox in flight and ends with 130."""
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.emulator.control.configure(latency=LATENCY)
        with command_line(rig, "backup", "--processes", "2") as parent:
            workers = await both_at_work(rig, parent)
            parent.send_signal(signal.SIGINT)
            out, err = await anyio.to_thread.run_sync(parent.communicate)
            assert parent.returncode == 130, err
            assert not any(alive(pid) for pid in workers)
        assert "Traceback" not in out + err
        assert len(list((rig.place / "manifests").iterdir())) == 2
        await recovers(rig)


async def test_ctrl_c_twice_stops_every_worker(tmp_path: Path, watch: Watch) -> None:
    """A second Ctrl-C waits for nothing that is in flight and ends with 130."""
    async with open_yard(tmp_path, LONG, limits=SLOW) as rig:
        rig.emulator.control.configure(latency=LATENCY)
        with command_line(rig, "backup", "--processes", "2") as parent:
            workers = await both_at_work(rig, parent)
            rig.emulator.control.configure(latency=600.0)
            parent.send_signal(signal.SIGINT)
            await anyio.to_thread.run_sync(read_until_stopping, parent)
            parent.send_signal(signal.SIGINT)
            out, err = await anyio.to_thread.run_sync(parent.communicate)
            assert parent.returncode == 130, err
            assert not any(alive(pid) for pid in workers)
        assert "Traceback" not in out + err
        assert not (rig.place / "manifests").exists()
        await recovers(rig)


def read_until_stopping(parent: subprocess.Popen[str]) -> None:
    """Read standard error up to the line that acknowledges the first signal."""
    assert parent.stderr is not None
    assert any(line.startswith("stopping") for line in parent.stderr)


def test_an_alarm_ends_an_orphan_that_hangs() -> None:
    """A worker whose parent is gone and whose clean-up hangs is ended by the system."""
    program = (
        "import time; from atlas_async.shards import worker; worker.LAST_SECONDS = 0.05; "
        "worker._end_soon(); time.sleep(600)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGALRM


async def test_json_is_one_stream(tmp_path: Path, watch: Watch) -> None:
    """Under ``--json`` standard output has the documents of one run, whatever workers do."""
    async with open_yard(tmp_path) as rig:
        with command_line(rig, "backup", "--processes", "3", "--json") as parent:
            out, err = await anyio.to_thread.run_sync(parent.communicate)
        assert parent.returncode == 0, err
        assert err == ""
        documents = [json.loads(line) for line in out.splitlines()]
        kinds = [document["message_type"] for document in documents]
        assert kinds.count("mailbox") == FOUR.mailboxes
        assert kinds.count("summary") == 1
        assert kinds[-1] == "summary"
        assert len(documents[-1]["mailboxes"]) == FOUR.mailboxes
        await rig.assert_all_exact()
