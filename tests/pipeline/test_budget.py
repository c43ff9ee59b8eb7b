"""The byte budget: bounded, first come first served, never stuck (I5)."""

from __future__ import annotations

import anyio
from anyio import wait_all_tasks_blocked
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.pipeline.budget import ByteBudget


async def test_lease_waits_while_the_budget_is_held() -> None:
    """A lease that does not fit waits until another one ends."""
    budget = ByteBudget(100)
    order: list[str] = []

    async def second() -> None:
        async with budget.lease(60):
            order.append("second")

    async with anyio.create_task_group() as group, budget.lease(60):
        group.start_soon(second)
        await wait_all_tasks_blocked()
        order.append("first")
        assert budget.statistics.waiting == 1
    assert order == ["first", "second"]
    assert budget.statistics.used == 0


async def test_first_come_first_served() -> None:
    """A small lease does not overtake a large one that waits."""
    budget = ByteBudget(100)
    order: list[int] = []

    async def take(size: int) -> None:
        async with budget.lease(size):
            order.append(size)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group, budget.lease(50):
        group.start_soon(take, 80)
        await wait_all_tasks_blocked()
        group.start_soon(take, 10)
        await wait_all_tasks_blocked()
        assert order == []
    assert order == [80, 10]


async def test_one_body_larger_than_the_budget_passes() -> None:
    """A single lease may exceed the whole budget, alone."""
    budget = ByteBudget(10)
    async with budget.lease(1000):
        assert budget.statistics.used == 1000
    assert budget.statistics.used == 0


async def test_growing_leases_never_wait_for_each_other() -> None:
    """Many leases that all outgrow the budget get on, one overdraft at a time."""
    budget = ByteBudget(100)
    done: list[int] = []

    async def grow(number: int) -> None:
        async with budget.lease(20) as lease:
            await wait_all_tasks_blocked()
            await lease.grow_to(90)
            await anyio.lowlevel.checkpoint()
            done.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(grow, number)
    assert sorted(done) == list(range(8))
    assert budget.statistics.used == 0
    assert budget.statistics.peak <= 100 + 90


async def test_cancelled_waiter_leaves_no_trace() -> None:
    """Cancelling a task that waits for bytes gives nothing away and keeps nothing."""
    budget = ByteBudget(100)
    async with budget.lease(100):
        with anyio.move_on_after(0):
            async with budget.lease(10):
                raise AssertionError("must not be granted")
        assert budget.statistics.waiting == 0
        assert budget.statistics.used == 100
    assert budget.statistics.used == 0


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 120)), min_size=1, max_size=12))
def test_any_mix_of_leases_ends(sizes: list[tuple[int, int]]) -> None:
    """Whatever is leased and grown, everybody gets on and the bound holds but for one overdraft."""

    async def play() -> None:
        budget = ByteBudget(100)

        async def hold(first: int, then: int) -> None:
            async with budget.lease(first) as lease:
                await anyio.lowlevel.checkpoint()
                await lease.grow_to(then)
                await anyio.lowlevel.checkpoint()
                lease.shrink_to(1)
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for first, then in sizes:
                    group.start_soon(hold, first, then)
        assert budget.statistics.used == 0
        assert budget.statistics.peak <= 100 + 120

    anyio.run(play)
