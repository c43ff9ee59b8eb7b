"""What wraps a store: retries, limits, counts, logs and injected faults."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from typing_extensions import override

from atlas_async.errors import ObjectExists, ObjectNotFound, StoreError, StoreTransient
from atlas_async.store.base import ObjectInfo, ObjectReader, ObjectStore
from atlas_async.store.counting import CountingStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from atlas_async.store.limited import LimitedStore
from atlas_async.store.logged import LoggedStore
from atlas_async.store.memory import MemoryBucket, MemoryStore
from atlas_async.store.retrying import LONGEST_SECONDS, RetryingStore, RetryPolicy
from tests.fakes.bodies import PatternBody, md5_of
from tests.fakes.clock import FakeClock

MIB = 1 << 20


def memory() -> MemoryStore:
    """Return a store whose bucket exists."""
    return MemoryStore(MemoryBucket(exists=True))


async def put(
    store: ObjectStore, key: str, body: bytes = b"body", *, if_absent: bool = False
) -> None:
    """Put a small body."""
    await store.put(key, body, md5=md5_of(body), if_absent=if_absent)


def faulty_and_retrying(
    faults: Sequence[Fault], *, retries: int = 3, patience: float = 1000.0
) -> tuple[RetryingStore, FakeClock, MemoryStore]:
    """Return a retrying store over a faulty one over a memory store."""
    clock, inner = FakeClock(autojump=True), memory()
    broken = FaultyStore(inner, faults, clock=clock)
    policy = RetryPolicy(retries, patience)
    return RetryingStore(broken, policy, clock=clock, random=Random(1)), clock, inner


async def test_a_passing_fault_is_tried_again() -> None:
    """A request that fails twice in a passing way succeeds, after two jittered waits."""
    store, clock, inner = faulty_and_retrying([Fault(Failure.REFUSED, Op.PUT, times=2)])
    await put(store, "a")
    assert list(inner.bucket.objects) == ["a"]
    assert len(clock.slept) == 2
    assert 0 <= clock.slept[0] <= 0.5
    assert 0 <= clock.slept[1] <= 1.0


async def test_tries_end_with_the_last_error() -> None:
    """After ``retries`` further tries the last error is raised."""
    fault = Fault(Failure.REFUSED, Op.GET, times=None)
    store, clock, _ = faulty_and_retrying([fault])
    with pytest.raises(StoreTransient):
        await store.get("a")
    assert (fault.hits, len(clock.slept)) == (4, 3)


async def test_patience_bounds_the_waits() -> None:
    """No try begins after ``patience`` seconds, however many are left."""
    fault = Fault(Failure.REFUSED, times=None)
    store, clock, _ = faulty_and_retrying([fault], retries=10_000, patience=300.0)
    with pytest.raises(StoreTransient):
        await store.head("a")
    assert clock.monotonic() <= 300.0
    assert max(clock.slept) <= LONGEST_SECONDS


async def test_the_wait_the_store_asks_for_is_kept() -> None:
    """``retry_after`` is waited out, with jitter on top."""

    def slow_down() -> StoreError:
        return StoreTransient("slow down", retry_after=40.0)

    store, clock, _ = faulty_and_retrying([Fault(Failure.REFUSED, error=slow_down)])
    await put(store, "a")
    assert 40.0 <= clock.slept[0] <= 40.5


async def test_other_errors_are_not_tried_again() -> None:
    """An error that will not pass is raised at once."""
    store, clock, _ = faulty_and_retrying([])
    with pytest.raises(ObjectNotFound):
        await store.get("none")
    assert clock.slept == []


async def test_opening_is_tried_again() -> None:
    """A reader is opened again when opening fails."""
    store, _, inner = faulty_and_retrying([Fault(Failure.REFUSED, Op.OPEN)])
    await put(inner, "a")
    async with store.open("a") as reader:
        assert [chunk async for chunk in reader] == [b"body"]


async def test_a_spooled_body_is_read_again_for_each_try() -> None:
    """A retried PUT of a spooled body sends the body from its start."""
    store, _, inner = faulty_and_retrying([Fault(Failure.ANSWER_LOST, Op.PUT)])
    body = PatternBody(3 * MIB)
    await store.put("a", body, md5=body.md5())
    assert body.readings == 2
    assert inner.bucket.objects["a"].info.size == body.size


async def test_own_conditional_write_is_recognised_after_a_lost_answer() -> None:
    """A conditional put whose answer was lost succeeds when the object there is its own."""
    store, _, inner = faulty_and_retrying([Fault(Failure.ANSWER_LOST, Op.PUT)])
    await put(store, "a", b"mine", if_absent=True)
    assert inner.bucket.objects["a"].body == b"mine"


async def test_own_write_is_recognised_without_an_md5_etag() -> None:
    """Where the ETag is no MD5, the body itself is compared."""

    class OddEtags(MemoryStore):
        """ETags as a KMS-encrypted bucket has them."""

        @override
        async def head(self, key: str) -> ObjectInfo | None:
            info = await super().head(key)
            return None if info is None else replace(info, etag="f" * 32)

    clock, inner = FakeClock(autojump=True), OddEtags(MemoryBucket(exists=True))
    broken = FaultyStore(inner, [Fault(Failure.ANSWER_LOST, Op.PUT)], clock=clock)
    store = RetryingStore(broken, RetryPolicy(3, 100.0), clock=clock)
    await put(store, "a", b"mine", if_absent=True)


@pytest.mark.parametrize("theirs", [b"them", b"others"])
async def test_a_rival_write_is_not_taken_for_our_own(theirs: bytes) -> None:
    """After a failed try, somebody else's object of the same or another size still wins."""
    store, _, inner = faulty_and_retrying([Fault(Failure.REFUSED, Op.PUT)])
    await put(inner, "a", theirs)
    with pytest.raises(ObjectExists):
        await put(store, "a", b"mine", if_absent=True)


async def test_a_first_refusal_is_taken_as_it_is() -> None:
    """Without a failed try before it, a refused conditional put asks nothing more."""
    store, _, inner = faulty_and_retrying([])
    counted = CountingStore(inner)
    await put(inner, "a", b"mine")
    with pytest.raises(ObjectExists):
        await put(counted, "a", b"mine", if_absent=True)
    assert counted.requests == 1
    with pytest.raises(ObjectExists):
        await put(store, "a", b"mine", if_absent=True)


async def test_a_wait_can_be_cancelled() -> None:
    """Cancelling during a wait ends the request."""
    clock = FakeClock()
    broken = FaultyStore(memory(), [Fault(Failure.REFUSED, times=None)], clock=clock)
    store = RetryingStore(broken, RetryPolicy(5, 1000.0), clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(store.head, "a")
        await wait_all_tasks_blocked()
        assert clock.sleepers == 1
        group.cancel_scope.cancel()
    assert clock.sleepers == 0


async def test_transfers_wait_for_a_place() -> None:
    """At most so many PUTs are in flight; a HEAD passes them, and a reader may put."""
    clock = FakeClock()
    slow = FaultyStore(
        memory(), [Fault(Failure.DELAYED, Op.PUT, times=None, seconds=5)], clock=clock
    )
    store = LimitedStore(slow, puts=2, gets=1)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(put, store, f"a{number}")
        await wait_all_tasks_blocked()
        assert clock.sleepers == 2
        assert await store.head("a0") is None
        await clock.advance(5)
        assert clock.sleepers == 2
        await clock.advance(10)
    async with store.open("a0") as reader:
        assert reader.info.size == 4
        async with anyio.create_task_group() as group:
            group.start_soon(store.get, "a1")
            group.start_soon(put, store, "b")
            await wait_all_tasks_blocked()
            assert clock.sleepers == 1
            await clock.advance(5)
            group.cancel_scope.cancel()


async def test_requests_and_bytes_are_counted_per_view() -> None:
    """Views over one store count apart, and closing one leaves the store open."""
    shared = CountingStore(memory())
    first, second = CountingStore(shared, owned=False), CountingStore(shared, owned=False)
    await put(first, "a", b"12345")
    await second.head("a")
    async with second.open("a"):
        pass
    with pytest.raises(ObjectExists):
        await put(second, "a", b"12345", if_absent=True)
    assert (first.requests, first.bytes_uploaded) == (1, 5)
    assert (second.requests, second.bytes_uploaded) == (3, 0)
    assert shared.requests == 4
    assert shared.counter.by_op == {Op.PUT: 2, Op.HEAD: 1, Op.OPEN: 1}
    await first.aclose()
    await put(second, "b")


async def test_the_log_tells_how_requests_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Each request leaves one debug record with its fields, and no body."""
    caplog.set_level(logging.DEBUG, "atlas_async.store.logged")
    store = LoggedStore(memory(), clock=FakeClock())
    await put(store, "a", b"secret body")
    async with store.open("a"):
        pass
    with pytest.raises(ObjectNotFound):
        await store.get("none")
    assert caplog.messages == ["put ok", "open ok", "get ObjectNotFound"]
    assert vars(caplog.records[0])["bytes"] == 11
    assert "secret" not in str([vars(record) for record in caplog.records])


async def test_faults_strike_where_and_as_often_as_told() -> None:
    """A fault picks by kind and key, lets the first pass, and strikes so many times."""
    fault = Fault(Failure.REFUSED, Op.PUT, r"^data/", after=1, times=2)
    store = FaultyStore(memory(), [fault], clock=FakeClock())
    await put(store, "data/1")
    for _ in range(2):
        with pytest.raises(StoreTransient):
            await put(store, "data/2")
    await put(store, "data/2")
    await put(store, "other")
    assert fault.hits == 2


async def test_faults_by_chance_are_the_same_for_the_same_seed() -> None:
    """A probability draws from the seed."""

    async def failures(seed: int) -> list[int]:
        faults = [Fault(Failure.REFUSED, times=None, probability=0.5)]
        store = FaultyStore(memory(), faults, clock=FakeClock(), seed=seed)
        failed = []
        for number in range(20):
            try:
                await store.head("a")
            except StoreTransient:
                failed.append(number)
        return failed

    assert await failures(1) == await failures(1)
    assert await failures(1) != await failures(2)


async def test_a_partial_read_ends_half_way() -> None:
    """A partial fault yields half of the body, then raises."""
    store = FaultyStore(memory(), [Fault(Failure.PARTIAL, Op.OPEN)], clock=FakeClock())
    await put(store, "a", b"0123456789")
    seen = bytearray()

    async def read(reader: ObjectReader) -> None:
        async for chunk in reader:
            seen.extend(chunk)

    async with store.open("a") as reader:
        with pytest.raises(StoreTransient):
            await read(reader)
    assert bytes(seen) == b"01234"
