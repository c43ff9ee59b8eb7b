"""The window of bytes: never above what a mailbox takes, whatever the order of events."""

from __future__ import annotations

from math import inf

import anyio
from anyio import wait_all_tasks_blocked
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.graph.upload_window import UploadRules, UploadWindow
from tests.fakes.clock import FakeClock

WINDOW = 30.0
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 9)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.just("pass"), st.integers(0, 40)),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS, st.integers(4, 12))
def test_no_window_holds_more_than_is_allowed(events: list[tuple[str, int]], most: int) -> None:
    """Whenever between start and end the server counts a body. A larger one goes alone."""
    rules = UploadRules(most, WINDOW)
    now = 0.0
    sent: list[list[float]] = []  # size, end
    for event, number in events:
        if event == "admit":
            wait = rules.admit(now, number)
            assert wait >= 0
            if wait == 0:
                sent.append([number, inf])
            elif wait == inf:
                assert any(end == inf for _, end in sent)
            else:
                assert wait <= WINDOW
        elif event == "release":
            flying = [body for body in sent if body[1] == inf]
            if flying:
                body = flying[number % len(flying)]
                body[1] = now
                rules.release(now, int(body[0]))
        else:
            now += number
        counted = [size for size, end in sent if end > now - WINDOW]
        assert sum(counted) <= most or len(counted) == 1


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(4, 12))
def test_waiting_as_told_always_leads_on(sizes: list[int], most: int) -> None:
    """Nothing waits for ever, and the window is used as far as it goes."""
    rules = UploadRules(most, WINDOW)
    now = 0.0
    for size in sizes:
        tries = 0
        while wait := rules.admit(now, size):
            assert wait < inf
            now += wait
            tries += 1
            assert tries <= len(sizes)
        rules.release(now, size)
    assert now <= WINDOW * len(sizes)
    assert not rules.idle_since(now)
    assert rules.idle_since(now + WINDOW)


async def test_bodies_wait_for_room_in_their_order() -> None:
    """First come, first served; nothing passes by what waits, and nothing without bytes waits."""
    clock = FakeClock()
    window = UploadWindow(UploadRules(10, WINDOW), clock)
    order: list[str] = []

    async def send(name: str, size: int) -> None:
        async with window.share(size):
            order.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(send, "first", 8)
        await wait_all_tasks_blocked()
        group.start_soon(send, "large", 9)
        await wait_all_tasks_blocked()
        group.start_soon(send, "small", 1)
        group.start_soon(send, "none", 0)
        await wait_all_tasks_blocked()
        assert order == ["first", "none"]
        assert not window.idle
        await clock.advance(WINDOW)
        assert order == ["first", "none", "large", "small"]


async def test_cancelled_while_waiting_and_while_sending() -> None:
    """Who gave up waiting holds nothing; what was begun counts, as the server may have counted."""
    clock = FakeClock()
    window = UploadWindow(UploadRules(10, WINDOW), clock)
    with anyio.CancelScope() as scope:
        async with window.share(10):
            scope.cancel()
            await anyio.sleep_forever()
    with anyio.move_on_after(0):
        async with window.share(5):
            raise AssertionError
    assert window.rules.admit(clock.monotonic(), 1) == WINDOW
    await clock.advance(WINDOW)
    assert window.idle
    async with window.share(10):
        assert not window.idle


async def test_a_body_that_ends_lets_the_next_one_look() -> None:
    """What waits for bytes under way is woken when they end."""
    clock = FakeClock()
    window = UploadWindow(UploadRules(10, WINDOW), clock)
    sent = anyio.Event()

    async def send() -> None:
        async with window.share(6):
            sent.set()

    async with anyio.create_task_group() as group:
        async with window.share(6):
            group.start_soon(send)
            await wait_all_tasks_blocked()
            assert not sent.is_set()
        await wait_all_tasks_blocked()
        await clock.advance(WINDOW)
        await sent.wait()
