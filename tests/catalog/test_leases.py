"""Leases: one run writes a mailbox, and one that died leaves nothing behind (I8)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.catalog import holder
from atlas_async.catalog import lease as leases
from atlas_async.catalog.holder import Holder
from atlas_async.catalog.layout import LeasePlace, lease_key, lease_number, lease_prefix
from atlas_async.catalog.lease import STALE_SECONDS, BaseMoved, Lease, kept
from atlas_async.clock import Clock, SystemClock
from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import LockedError, ObjectExists, StoreAuthError, StoreTransient
from atlas_async.store.base import SpooledBody
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.vaults import plant

ANN = "ann@contoso.com"


def lease_on(bucket: MemoryBucket, clock: Clock | None = None, **options: Any) -> Lease:
    """Return a lease that a run on this machine may take."""
    store = options.pop("store", None) or MemoryStore(bucket)
    clock = clock or FakeClock(autojump=True)
    lease = Lease(store, Sealer(bytes(32)), ANN, clock=clock, **options)
    lease.begin(None, always)
    return lease


def bucket_of(*leases: Lease) -> list[int]:
    """Return the numbers of the leases in the bucket, newest first."""
    store = leases[0]._store
    assert isinstance(store, MemoryStore)
    keys = sorted(key for key in store.bucket.objects if key.startswith(lease_prefix(ANN)))
    return [lease_number(key) for key in keys]


async def test_lease_is_begun_from_the_head() -> None:
    """A lease cannot be taken under a number that nobody asked the head for."""
    lease = Lease(MemoryStore(), Sealer(bytes(32)), ANN, clock=FakeClock())
    with pytest.raises(RuntimeError, match="begun"):
        await lease.take()


async def abroad(lease: Lease, *, machine: str = "another machine") -> None:
    """Make a lease that was taken look as if a process elsewhere had taken it."""
    assert lease._holder is not None
    lease._holder = replace(lease._holder, machine=machine, host="elsewhere", pid=4711)
    await lease._write(lease.number, lease._holder)


async def always() -> bool:
    """Tell that the state that was read still stands."""
    return True


async def never() -> bool:
    """Tell that somebody has committed since."""
    return False


async def test_lease_is_taken_once_and_given_back() -> None:
    """The first write takes it under the number after the head's; its end removes it."""
    bucket = MemoryBucket(exists=True)
    lease = lease_on(bucket)
    lease.begin(6, always)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(lease.take)
    assert bucket_of(lease) == [7]
    await lease.check()
    await lease.give_back()
    assert bucket_of(lease) == []
    assert not lease.held


async def test_newest_lease_is_listed_first() -> None:
    """Names fall as numbers rise, so one key of a listing is the newest lease."""
    assert sorted(lease_key(ANN, n) for n in (1, 2, 255, 256)) == [
        lease_key(ANN, n) for n in (256, 255, 2, 1)
    ]
    assert lease_number(lease_key(ANN, 300)) == 300
    assert lease_number(f"{lease_prefix(ANN)}note.txt") == 0


@pytest.mark.parametrize("before", [None, 0, 6])
async def test_live_rival_locks_out(before: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the holder beats, another run leaves with the holder's name and exit code 11."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    bucket = MemoryBucket(exists=True)
    first = lease_on(bucket)
    told: list[str] = []
    second = lease_on(bucket, notice=told.append)
    for lease in (first, second):
        lease.begin(before, always)
    async with kept(first):
        await first.take()
        with pytest.raises(LockedError, match="another run holds this mailbox: process") as caught:
            await second.take()
        assert caught.value.exit_code == 11
        assert "--lock-wait" in caught.value.hint
        with pytest.raises(LockedError):
            await second.take()
        await first.check()
    assert len(told) == 1
    assert bucket_of(first) == []


@pytest.mark.parametrize(
    ("place", "held", "doing"),
    [
        (LeasePlace.BACKUP, "another run holds this mailbox", "is backing this mailbox up"),
        (LeasePlace.RESTORE, "a restore from this mailbox is under way", "is restoring from"),
    ],
)
async def test_who_waits_is_told_what_for(
    place: LeasePlace, held: str, doing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that holds up another one is not called a backup."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    bucket = MemoryBucket(exists=True)
    first = lease_on(bucket, place=place)
    told: list[str] = []
    second = lease_on(bucket, notice=told.append, place=place)
    async with kept(first):
        await first.take()
        with pytest.raises(LockedError, match=held):
            await second.take()
    assert len(told) == 1
    assert doing in told[0]


async def test_waiting_run_goes_on_when_the_other_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With time to wait, the second takes the lease once the first has given it back."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    bucket = MemoryBucket(exists=True)
    clock = FakeClock()
    first, second = lease_on(bucket), lease_on(bucket, clock, wait=3600.0)
    first.begin(None, always)
    second.begin(None, always)
    async with anyio.create_task_group() as group, kept(first):
        await first.take()
        group.start_soon(second.take)
        for _ in range(20):
            await clock.advance(3)
            await anyio.sleep(0.02)  # a beat of the first
        assert not second.held
        await first.give_back()
        while not second.held:  # it may be looking, in a thread, while time passes
            await clock.advance(2)
            await anyio.sleep(0.02)
    await first.give_back()
    assert bucket_of(second) == [second.number]


async def test_silent_lease_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease from another machine without a beat for STALE_SECONDS is taken over, whatever the wall clock."""
    bucket = MemoryBucket(exists=True)
    clock = FakeClock(autojump=True)
    dead, heir = lease_on(bucket), lease_on(bucket, clock)
    dead.begin(0, always)
    heir.begin(0, always)
    await dead.take()
    await abroad(dead)
    await heir.take()
    assert STALE_SECONDS <= clock.monotonic() < STALE_SECONDS + 5
    assert heir.number == 2
    with pytest.raises(LockedError, match="lease is gone"):
        await dead.check()
    await dead.give_back()
    await heir.check()
    await heir.give_back()
    # It stays, free: what the other still has under way must not find its own number the newest.
    assert bucket_of(heir) == [2]
    third = lease_on(bucket)
    await third.take()
    assert third.number == 3


async def test_lease_of_an_ended_process_is_taken_over_at_once() -> None:
    """A run that was killed on this machine costs the next one no waiting."""
    bucket = MemoryBucket(exists=True)
    script = "from atlas_async.catalog.holder import Holder; h = Holder.this_process(); "
    script += "print(h.run, h.host, h.pid, h.machine, h.started, sep='\\n')"
    done = await anyio.run_process([sys.executable, "-c", script], stderr=subprocess.STDOUT)
    run, host, pid, machine, started = done.stdout.decode().splitlines()
    clock = FakeClock(autojump=True)
    dead, heir = lease_on(bucket), lease_on(bucket, clock)
    await dead.take()
    dead._holder = Holder(run, host, int(pid), machine, started)
    await dead._write(dead.number, dead._holder)
    await heir.take()
    assert clock.monotonic() < 1
    assert heir.number == 2


async def test_holder_knows_its_own_process_lives() -> None:
    """The start of a process tells it from a later one of the same number."""
    me = await anyio.to_thread.run_sync(Holder.this_process)
    assert not await anyio.to_thread.run_sync(me.has_ended)
    recycled = replace(me, started="1")
    assert await anyio.to_thread.run_sync(recycled.has_ended) == bool(me.machine)
    assert not await anyio.to_thread.run_sync(replace(recycled, machine="elsewhere").has_ended)
    assert Holder.from_json(me.to_json()) == me
    fields = me.to_json()
    bad: object
    for bad in (None, [], {}, {**fields, "pid": "1"}, {**fields, "run": None}):
        with pytest.raises(ValueError):
            Holder.from_json(bad)


async def test_moved_base_gives_the_lease_back() -> None:
    """Who finds at its first write that another run has committed holds nothing, and may begin again."""
    bucket = MemoryBucket(exists=True)
    lease = lease_on(bucket)
    lease.begin(0, never)
    with pytest.raises(BaseMoved):
        await lease.take()
    assert bucket_of(lease) == []
    lease.begin(1, always)
    await lease.take()
    assert lease.number == 2


async def test_lost_lease_cancels_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose lease somebody deletes is cancelled at the next beat."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    bucket = MemoryBucket(exists=True)
    lease = lease_on(bucket)

    async def run() -> None:
        async with kept(lease):
            await lease.take()
            bucket.objects.clear()
            await anyio.sleep_forever()

    with pytest.raises(LockedError, match="lease is gone"):
        await run()
    assert not bucket.objects


async def test_failure_of_the_body_passes_unwrapped() -> None:
    """An error of the run comes out as itself, with the lease given back."""
    bucket = MemoryBucket(exists=True)
    lease = lease_on(bucket)

    async def run() -> None:
        async with kept(lease):
            await lease.take()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run()
    assert bucket_of(lease) == []


async def test_cancelled_run_gives_its_lease_back() -> None:
    """Cancelling a run that holds a lease, or is about to, leaves none."""
    bucket = MemoryBucket(exists=True)
    for turns in range(12):
        lease = lease_on(bucket)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(_hold, lease)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        assert bucket_of(lease) == []


async def _hold(lease: Lease) -> None:
    async with kept(lease):
        await lease.take()
        await anyio.sleep_forever()


class KeepsAll(MemoryStore):
    """A bucket in which nothing may be deleted."""

    async def delete(self, key: str) -> None:
        raise StoreAuthError("no permission", where=key)


async def test_without_permission_to_delete() -> None:
    """Where nothing may be deleted, leases are marked free instead, and numbers go on."""
    bucket = MemoryBucket(exists=True)
    for expected in (1, 2, 3):
        lease = lease_on(bucket, store=KeepsAll(bucket))
        lease.begin(0, always)
        await lease.take()
        assert lease.number == expected
        await lease.give_back()
    last = lease_on(bucket, store=KeepsAll(bucket))
    last.begin(0, always)
    await last.take()
    last.finished = True  # the head says so
    await last.give_back()
    after = lease_on(bucket, store=KeepsAll(bucket))
    after.begin(last.number, always)
    await after.take()
    assert after.number == last.number + 1


class NoConditions(MemoryStore):
    """A bucket without conditional writes: looks first and writes then, as the S3 store does there."""

    conditional_writes: bool | None = False

    def __init__(self, bucket: MemoryBucket, looked: Callable[[], Awaitable[None]]) -> None:
        super().__init__(bucket)
        self._looked = looked

    async def put(self, key: str, body: bytes | SpooledBody, **options: Any) -> None:
        if options.pop("if_absent", False):
            if await self.head(key) is not None:
                raise ObjectExists("the key is taken")
            await self._looked()
        await super().put(key, body, **options)


async def test_without_conditional_writes_one_of_two_remains() -> None:
    """Of two that look and write at the same moment, one alone passes the look before the commit."""
    bucket = MemoryBucket(exists=True)
    arrived = 0
    everybody = anyio.Event()

    async def looked() -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 2:
            everybody.set()
        await everybody.wait()

    both = [lease_on(bucket, store=NoConditions(bucket, looked)) for _ in range(2)]
    for lease in both:
        lease.begin(0, always)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            for lease in both:
                group.start_soon(lease.take)
            await everybody.wait()
            while not any(lease.held for lease in both):
                await anyio.sleep(0.001)
            await anyio.sleep(0.05)
            scope.cancel()  # one of them may be watching the other
    passed = 0
    for lease in both:
        if lease.held:
            try:
                await lease.check()
                passed += 1
            except LockedError:
                assert not lease.held
    assert passed == 1


async def test_damaged_lease_grows_stale() -> None:
    """A lease that nobody can read locks nobody out for longer than a dead one."""
    bucket = MemoryBucket(exists=True)
    clock = FakeClock(autojump=True)
    broken, heir = lease_on(bucket), lease_on(bucket, clock)
    await broken.take()
    key = lease_key(ANN, 1)
    stored = bucket.objects[key]
    bucket.objects[key] = replace(stored, body=stored.body[:-1] + bytes([stored.body[-1] ^ 1]))
    await heir.take()
    assert heir.number == 2
    assert clock.monotonic() >= STALE_SECONDS


async def test_failing_beat_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat that the store refuses is tried again; the run goes on."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.005)
    bucket = MemoryBucket(exists=True)

    class Flaky(MemoryStore):
        failures = 3

        async def get(self, key: str, *, most: int | None = None) -> Any:
            if self.failures:
                self.failures -= 1
                raise StoreTransient("not now")
            return await super().get(key, most=most)

    store = Flaky(bucket)
    lease = lease_on(bucket, store=store)
    async with kept(lease):
        await lease.take()
        before = bucket.objects[lease_key(ANN, 1)].body
        with anyio.fail_after(30):
            while bucket.objects[lease_key(ANN, 1)].body == before:
                await anyio.sleep(0.005)
    assert store.failures == 0


PLANTED = ["!note", "0", "0000000000000000", "7FFFFFFFFFFFFFFE", "7fff_ffff_ffff_ffff", "-1"]


@pytest.mark.parametrize("name", PLANTED)
async def test_what_else_lies_among_the_leases_hides_none(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stray or planted object neither keeps a run out nor lets a second one in."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    bucket = MemoryBucket(exists=True)
    store = MemoryStore(bucket)
    for copy in range(25):
        await plant(store, f"{lease_prefix(ANN)}{name}{'x' * copy}", b"planted")
    with anyio.fail_after(5):
        first, second, third = (lease_on(bucket) for _ in range(3))
        async with kept(first):
            await first.take()
            with pytest.raises(LockedError):
                await second.take()
        async with kept(third):
            await third.take()
            assert (first.number, third.number) == (1, 1)


class LateStore(MemoryStore):
    """A store that beats reach late: long after their sender has given them up."""

    def __init__(self, bucket: MemoryBucket) -> None:
        super().__init__(bucket)
        self.slow = False
        self.under_way = anyio.Event()
        self._late: list[tuple[str, bytes | SpooledBody, dict[str, Any]]] = []

    async def put(self, key: str, body: bytes | SpooledBody, **options: Any) -> None:
        """Store an object; while ``slow``, one that replaces another only with ``arrive``."""
        if not self.slow:
            await super().put(key, body, **options)
            return
        if options.get("if_absent"):
            raise StoreTransient("no answer")
        self._late.append((key, body, options))
        self.under_way.set()
        await anyio.sleep_forever()

    async def arrive(self) -> None:
        """Let the last of them arrive."""
        self.slow = False
        key, body, options = self._late[-1]
        await super().put(key, body, **options)


@pytest.mark.parametrize("ended", [False, True], ids=["heir runs", "heir has ended"])
async def test_a_beat_that_arrives_late_revives_nothing(
    ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written over the mark of whoever took the lease over, it changes nothing for either."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.2)
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.01)
    bucket = MemoryBucket(exists=True)
    store = LateStore(bucket)
    silent, heir = lease_on(bucket, store=store), lease_on(bucket, clock=SystemClock())
    await silent.take()
    await abroad(silent)
    store.slow = True
    async with anyio.create_task_group() as beating:
        beating.start_soon(silent.keep)
        await store.under_way.wait()
        beating.cancel_scope.cancel()  # its next look would find the lease gone before this one
    await heir.take()
    assert heir.number == 2
    if ended:
        await heir.give_back()
    await store.arrive()
    assert (await silent._read(1)).holder == silent._holder
    with pytest.raises(LockedError, match="lease is gone"):
        await silent.check()
    if not ended:
        await heir.check()


async def test_a_run_that_was_silent_takes_the_next_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When nobody has taken the mailbox over meanwhile, an outage of the store ends no run."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(leases, "STALE_SECONDS", 0.2)
    bucket = MemoryBucket(exists=True)
    lease = lease_on(bucket)
    await lease.take()
    await anyio.sleep(0.3)
    await lease.check()
    assert lease.number == 2
    await lease.check()
    assert lease.number == 2
    await lease.give_back()
    assert bucket_of(lease) == []


def test_a_process_that_the_system_hides_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``hidepid`` the files of other users' processes are not there; the processes are."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot", encoding="ascii")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    monkeypatch.setattr(holder, "_PROC", tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for pid, gone in ((os.getpid(), False), (1, False), (ended.pid, True)):
        assert Holder("run", "host", pid, "boot/pid:[1]", "12345").has_ended() is gone
