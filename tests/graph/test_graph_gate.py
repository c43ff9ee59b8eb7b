"""The gate: never above its limits, whatever the order of events."""

from __future__ import annotations

from math import inf

import anyio
from anyio import wait_all_tasks_blocked
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.config.settings import Limits
from atlas_async.graph.gate import Gate, GateRules
from atlas_async.graph.lane import LaneBook
from tests.fakes.clock import FakeClock

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("release"), st.just(0), st.just(False)),
        st.tuples(st.just("pass"), st.integers(0, 40), st.just(False)),
        st.tuples(st.just("fence"), st.integers(0, 40), st.just(False)),
        st.tuples(st.just("crowded"), st.just(0), st.just(False)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.integers(1, 4), st.integers(3, 8))
def test_limits_hold_for_any_order_of_events(
    events: list[tuple[str, int, bool]], most: int, window: int
) -> None:
    """In flight, the window and the fence hold at every instant (I10)."""
    rules = GateRules(most, window, 30.0)
    now, fence = 0.0, 0.0
    flying: list[tuple[int, bool]] = []
    starts: list[float] = []
    for event, number, alone in events:
        if event == "admit":
            wait = rules.admit(now, cost=number, alone=alone)
            assert wait >= 0
            if wait == 0:
                assert now >= fence
                assert not any(lonely for _, lonely in flying)
                assert not (alone and flying)
                flying.append((number, alone))
                starts += [now] * number
            elif wait == inf:
                assert flying
        elif event == "release" and flying:
            cost, _ = flying.pop()
            rules.release(now, cost=cost)
        elif event == "pass":
            now += number
        elif event == "fence":
            rules.fence(now, number)
            fence = max(fence, now + number)
        elif event == "crowded":
            rules.crowded(now)
        assert len(flying) <= most
        assert len([start for start in starts if start > now - 30.0]) <= window
        assert rules.statistics.in_flight == len(flying)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60)), max_size=30))
def test_fenced_time_is_counted_once(fences: list[tuple[int, int]]) -> None:
    """Overlapping fences cost the time somebody really waited, not their sum."""
    rules = GateRules(4, 100, 600.0)
    now = 0
    covered: set[int] = set()
    for later, seconds in fences:
        now += later
        rules.fence(now, seconds)
        covered |= set(range(now, now + seconds))

    assert rules.statistics.fenced_seconds == len(covered)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 9), st.floats(0, 1)), max_size=60),
    st.integers(1, 4),
    st.integers(2, 8),
)
def test_no_window_of_the_server_is_ever_overfull(
    wishes: list[tuple[float, float, float]], most: int, window: int
) -> None:
    """Graph may count a request at any instant from its start to its end, each another one."""
    rules = GateRules(most, window, 10.0)
    now = 0.0
    flying: list[float] = []  # when each request in flight ends
    counted: list[float] = []
    for pause, takes, share in wishes:
        now += pause
        while True:
            for end in sorted(end for end in flying if end <= now):
                flying.remove(end)
                rules.release(end)
            wait = rules.admit(now)
            if not wait:
                break
            now = min(now + wait, *flying) if flying else now + wait
        flying.append(now + takes)
        counted.append(now + takes * share)

    counted.sort()
    for last in counted:
        assert len([one for one in counted if last - 10.0 < one - 1e-9 and one <= last]) <= window


def test_a_full_window_says_when_to_come_back() -> None:
    """The wait ends exactly when the request that ended first has left the window."""
    rules = GateRules(9, 2, 600.0)
    rules.admit(0.0)
    rules.admit(100.0)
    assert rules.admit(120.0) == inf
    rules.release(120.0)
    rules.release(130.0)

    assert rules.admit(150.0) == 570.0
    assert rules.admit(720.0) == 0.0
    assert rules.admit(720.0) == 10.0


def test_a_batch_larger_than_the_window_goes_once_it_is_empty() -> None:
    """Nothing is kept from going for ever; what goes counts in full."""
    rules = GateRules(4, 3, 600.0)
    rules.admit(0.0)
    assert rules.admit(1.0, cost=5) == inf
    rules.release(2.0)

    assert rules.admit(2.0, cost=5) == 600.0
    assert rules.admit(602.0, cost=5) == 0.0
    rules.release(603.0, cost=5)
    assert rules.admit(604.0) == 599.0


def test_a_crowded_mailbox_recovers_one_by_one() -> None:
    """Half may fly after a concurrency limit, then one more with each tenth of a window."""
    rules = GateRules(4, 1000, 600.0)
    rules.crowded(0.0)
    seen = []
    for step in range(4):
        while rules.admit(step * 60.0) == 0:
            pass
        seen.append(rules.statistics.allowed)

    assert seen == [2, 3, 4, 4]


def test_refusals_of_one_moment_count_as_one() -> None:
    """Four requests that are refused together halve what may be in flight once, not to one."""
    lane = LaneBook(Limits(), FakeClock(), None).mailbox("u-1", "a@x")
    for _ in range(4):
        lane.throttle(1.0, crowded=True)

    assert lane.gate.rules.statistics.allowed == 2
    assert lane.usage.throttled == 4


def test_refusals_of_another_moment_count_again() -> None:
    """A mailbox that is still too crowded after a fence is asked less at once."""
    rules = GateRules(4, 1000, 600.0)
    rules.crowded(0.0)
    rules.fence(0.0, 5.0)
    rules.crowded(5.0)

    assert rules.statistics.allowed == 1


async def test_waiters_go_in_order_and_one_at_a_time() -> None:
    """A released place goes to whoever waits longest."""
    gate = Gate(GateRules(1, 1000, 600.0), FakeClock())
    order: list[int] = []
    leave = anyio.Event()

    async def visit(number: int) -> None:
        async with gate.slot():
            order.append(number)
            await leave.wait()

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(visit, number)
            await wait_all_tasks_blocked()
        assert order == [0]
        leave.set()

    assert order == [0, 1, 2, 3]
    assert gate.rules.statistics.in_flight == 0


async def test_cancelled_waiters_leave_no_trace() -> None:
    """Cancelling somebody who waits neither takes a place nor blocks the next."""
    gate = Gate(GateRules(1, 1000, 600.0), FakeClock())

    async def wait_for_slot() -> None:
        async with gate.slot():
            raise AssertionError

    async with gate.slot(), anyio.create_task_group() as group:
        group.start_soon(wait_for_slot)
        await wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    async with gate.slot():
        assert gate.rules.statistics.in_flight == 1
    assert gate.rules.statistics.in_flight == 0


async def test_a_fence_holds_only_its_own_gate() -> None:
    """A throttled mailbox waits out its fence while another one goes on (I10)."""
    clock = FakeClock()
    book = LaneBook(Limits(), clock, None)
    throttled, other = book.mailbox("u-1", "a@x"), book.mailbox("u-2", "b@x")
    throttled.throttle(30.0, crowded=False)
    passed: list[str] = []

    async def visit(name: str, gate: Gate) -> None:
        async with gate.slot():
            passed.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(visit, "throttled", throttled.gate)
        group.start_soon(visit, "other", other.gate)
        await clock.advance(29.0)
        assert passed == ["other"]
        await clock.advance(1.0)

    assert passed == ["other", "throttled"]


def test_a_mailbox_opened_twice_has_one_lane() -> None:
    """The same lane comes back while somebody holds it or its window remembers."""
    clock = FakeClock()
    book = LaneBook(Limits(), clock, None)
    lane = book.mailbox("u-1", "a@x")
    lane.gate.rules.admit(clock.monotonic())
    identity = id(lane)
    del lane

    assert id(book.mailbox("u-1", "a@x")) == identity
    book.mailbox("u-1", "a@x").gate.rules.release(clock.monotonic())
    clock.jump(601.0)
    book.mailbox("u-2", "b@x")
    assert set(book._recent) == {"u-2"}
