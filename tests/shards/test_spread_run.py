"""One run over several processes does what one process does, and tells it as one."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import anyio
import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import Limits
from atlas_async.emulator import FaultRule
from atlas_async.errors import KeyMaterialError, ReplicaRefused, UsageError
from atlas_async.model.events import (
    MailboxFinished,
    MailboxProgress,
    MailboxStarted,
    RunStarted,
)
from atlas_async.model.report import MailboxResult, Outcome
from atlas_async.sdk import Atlas
from atlas_async.shards import shard
from atlas_async.shards.orders import Job
from atlas_async.shards.shard import Shard
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes import s3_servers
from tests.fakes.rig import PASSPHRASE, SMALL
from tests.fakes.yard import FOUR, Watch, open_yard

UNLIKE = ("snapshot_id", "seconds", "bytes_uploaded", "graph_requests", "store_requests", "notices")
"""What two runs of the same mail may differ in."""


def comparable(result: MailboxResult) -> dict[str, object]:
    """Return what every run of the same mail reports."""
    return {name: value for name, value in asdict(result).items() if name not in UNLIKE}


async def test_the_same_as_one_process(tmp_path: Path, watch: Watch) -> None:
    """Two workers on one directory store what one process stores; verify is clean (I3, I8)."""
    options = replace(FOUR, shared=1, guests=2, unlicensed=1)
    async with open_yard(tmp_path / "one", options) as rig:
        one = await rig.spread(processes=1)
        assert not watch.processes
    async with open_yard(tmp_path / "two", options) as rig:
        two = await rig.spread()
        assert len(watch.processes) == 2
        await rig.assert_all_exact(content=True)
        assert [comparable(r) for r in two.mailboxes] == [comparable(r) for r in one.mailboxes]
        again = await rig.spread()
        assert again.exit_code == 0
        assert {r.outcome for r in again.mailboxes} == {Outcome.UNCHANGED, Outcome.NO_MAILBOX}
        rig.emulator.control.mutate(
            "user0002@contoso.com", {"op": "bulk-create", "folder": "inbox", "count": 5}
        )
        changed = await rig.spread()
        assert [r.mailbox_id for r in changed.mailboxes if r.stored] == ["user0002@contoso.com"]
        await rig.assert_all_exact()


async def test_events_and_report_are_those_of_one_run(tmp_path: Path, watch: Watch) -> None:
    """The parent's listeners see one start, every mailbox's progress and end; the report is sorted."""
    async with open_yard(tmp_path) as rig:
        report = await rig.spread(processes=3)
    assert len(watch.processes) == 3
    names = [result.mailbox_id for result in report.mailboxes]
    assert names == sorted(names)
    assert rig.events[0] == RunStarted(len(names))
    kinds = Counter(type(event) for event in rig.events)
    assert kinds[RunStarted] == 1
    assert kinds[MailboxFinished] == len(names)
    for result in report.mailboxes:
        mine = [e for e in rig.events if getattr(e, "mailbox_id", "") == result.mailbox_id]
        assert isinstance(mine[0], MailboxStarted)
        last = [e for e in mine if isinstance(e, MailboxProgress)][-1]
        assert (last.stored, last.bytes_uploaded > 0) == (result.stored, True)
        finished = rig.events.index(MailboxFinished(result))
        assert finished > max(rig.events.index(event) for event in mine)


def test_under_uvloop(tmp_path: Path) -> None:
    """Workers are started and followed under uvloop as under asyncio."""

    async def play() -> None:
        async with open_yard(tmp_path) as rig:
            assert (await rig.spread()).exit_code == 0
            await rig.assert_all_exact()

    anyio.run(play, backend_options={"use_uvloop": True})


@pytest.mark.real_server
async def test_two_processes_on_one_s3_bucket(tmp_path: Path, watch: Watch) -> None:
    """Workers share a bucket that the parent alone makes, with its one key (I8)."""
    with s3_servers.rclone(tmp_path) as storage:
        async with open_yard(tmp_path, storage=storage) as rig:
            report = await rig.spread()
            assert report.exit_code == 0
            async with rig.engine() as atlas:
                checked = await atlas.verify()
            assert checked.exit_code == 0
            assert checked.messages == sum(result.stored for result in report.mailboxes)
    assert len(watch.processes) == 2


async def test_no_more_workers_than_mailboxes(tmp_path: Path, watch: Watch) -> None:
    """Workers that would have no mailbox are not started; for one mailbox there is none."""
    async with open_yard(tmp_path) as rig:
        two = ["user0000@contoso.com", "user0001@contoso.com"]
        assert (await rig.spread(two, processes=64)).exit_code == 0
        assert len(watch.processes) == 2
        assert (await rig.spread(two[:1], processes=64)).exit_code == 0
        assert len(watch.processes) == 2
        assert (await rig.spread([], processes=64)).mailboxes == ()


async def test_mailboxes_at_once_hold_for_all_processes(tmp_path: Path, watch: Watch) -> None:
    """Three mailboxes at once over two workers are three, not four."""
    seen: set[str] = set()
    most = 0
    async with open_yard(
        tmp_path, replace(SMALL, mailboxes=8), limits=replace(Limits(), mailboxes=3)
    ) as rig:

        def count(event: object) -> None:
            nonlocal most
            if isinstance(event, MailboxStarted):
                seen.add(event.mailbox_id)
            if isinstance(event, MailboxFinished):
                seen.discard(event.result.mailbox_id)
            most = max(most, len(seen))

        rig.on_event = count
        assert (await rig.spread()).exit_code == 0
    assert most <= 3


async def test_a_failing_mailbox_costs_itself(tmp_path: Path, watch: Watch) -> None:
    """A refused mailbox, and one that does not exist, fail alone, with their own reasons (I4)."""
    bad = "user0001@contoso.com"
    async with open_yard(tmp_path) as rig:
        rig.emulator.control.add_fault(
            FaultRule(
                path="mailFolders", mailbox=bad, status=403, code="ErrorAccessDenied", count=-1
            )
        )
        names = [f"user{number:04}@contoso.com" for number in range(4)]
        report = await rig.spread([*names, "nobody@contoso.com"])
        results = {result.mailbox_id: result for result in report.mailboxes}
        assert report.exit_code == 3
        assert results["nobody@contoso.com"].outcome is Outcome.NO_MAILBOX
        assert results[bad].outcome is Outcome.FAILED
        assert results[bad].exit_code == 13
        rest = {results[name].outcome for name in names if name != bad}
        assert rest == {Outcome.COMPLETE}


async def test_errors_before_the_run_are_those_of_one_process(tmp_path: Path, watch: Watch) -> None:
    """A wrong passphrase and a replica are refused by the parent; no worker is started."""
    async with open_yard(tmp_path) as rig:
        await rig.spread(["user0000@contoso.com"])
        settings = rig.settings
        rig.settings = replace(settings, passphrase=Secret("wrong"))
        with pytest.raises(KeyMaterialError):
            await rig.spread()
        rig.settings = settings
        (rig.place / "_meta" / "replica.marker").write_bytes(b"")
        with pytest.raises(ReplicaRefused):
            await rig.spread()
    assert not watch.processes


async def test_own_parts_cannot_be_shared(tmp_path: Path, watch: Watch) -> None:
    """An engine with a store, clock or source of its own says why it cannot use processes."""
    async with open_yard(tmp_path) as rig:
        store = MemoryStore(MemoryBucket())
        async with Atlas(rig.settings, store=store, clock=SystemClock()) as atlas:
            with pytest.raises(UsageError, match="its own clock and store"):
                await atlas.backup(processes=2)
        rig.settings = replace(rig.settings, limits=replace(Limits(), processes=2))
        async with Atlas(rig.settings, store=store) as atlas:
            with pytest.raises(UsageError, match="its own store cannot") as caught:
                await atlas.backup()
            assert caught.value.exit_code == 2
            assert (await atlas.backup([], processes=1)).exit_code == 0
        async with rig.engine() as atlas:
            for number in (0, -1, 65):
                with pytest.raises(UsageError, match="from 1 to 64"):
                    await atlas.backup(processes=number)
            assert (await atlas.backup()).exit_code == 0
    assert len(watch.processes) == 2


async def test_secrets_are_in_no_argument_and_no_environment(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs of the user can read how a worker was started and learn nothing (I7)."""
    seen: list[bytes] = []
    started = anyio.Event()
    async with open_yard(tmp_path) as rig:
        rig.emulator.control.configure(latency=0.02)
        secret = rig.emulator.tenant.client_secret
        monkeypatch.setenv("ATLAS_CLIENT_SECRET", secret)
        monkeypatch.setenv("ATLAS_ENCRYPTION_PASSPHRASE", PASSPHRASE.reveal())
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")

        def begun(event: object) -> None:
            if isinstance(event, MailboxStarted):
                started.set()

        async def look() -> None:
            await started.wait()
            for pid in watch.pids:
                for name in ("cmdline", "environ"):
                    path = Path(f"/proc/{pid}/{name}")
                    seen.append(await anyio.to_thread.run_sync(path.read_bytes))

        rig.on_event = begun
        async with anyio.create_task_group() as group:
            group.start_soon(look)
            assert (await rig.spread()).exit_code == 0
        key = rig.vault().sealer.reveal()
    assert len(seen) == 4
    assert b"shards.worker" in seen[0]
    assert b"HTTPS_PROXY=http://proxy.example:1" in seen[1]
    for text in seen:
        assert b"ATLAS_" not in text
        for told in (secret.encode(), PASSPHRASE.reveal().encode(), key, key.hex().encode()):
            assert told not in text


async def test_a_worker_is_told_its_share_and_not_the_passphrase(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs hold the opened key instead of the passphrase, and limits that add up."""
    jobs: list[Job] = []
    run = Shard.run

    async def noted(self: Shard, job: Job) -> None:
        jobs.append(job)
        await run(self, job)

    monkeypatch.setattr(Shard, "run", noted)
    async with open_yard(tmp_path) as rig:
        assert (await rig.spread(full=True)).exit_code == 0
        budget = rig.settings.limits.byte_budget
    assert len(jobs) == 2
    assert not any(job.settings.passphrase for job in jobs)
    assert all(job.options.full for job in jobs)
    assert sum(job.settings.limits.byte_budget for job in jobs) == budget
    assert [job.settings.limits.uploads for job in jobs] == 2 * [Limits().uploads // 2]


async def test_log_records_reach_the_parent(
    tmp_path: Path, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers log at the parent's level through the parent's handlers, and say who they are."""
    async with open_yard(tmp_path) as rig:
        assert (await rig.spread()).exit_code == 0
        assert not [r for r in caplog.records if "worker process" in r.getMessage()]
        with caplog.at_level(logging.DEBUG, "atlas_async"):
            assert (await rig.spread()).exit_code == 0
    told = [r for r in caplog.records if r.getMessage().startswith("worker process ")]
    assert told
    assert {record.levelno for record in told} == {logging.DEBUG}
    assert all(record.name.startswith("atlas_async.") for record in told)


async def test_a_stray_print_disturbs_nobody(
    tmp_path: Path,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What a worker writes to its standard output goes to standard error and into no frame."""
    monkeypatch.setattr(shard, "START", f"print('stray', flush=True); {shard.START}")
    async with open_yard(tmp_path) as rig:
        assert (await rig.spread()).exit_code == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("stray") == 2
