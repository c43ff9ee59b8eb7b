"""Workers follow the latency of the store, within bounds, and are shared between pages."""

from __future__ import annotations

from contextlib import ExitStack

from atlas_async.clock import SystemClock
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.journal import MOST_ROWS
from atlas_async.pipeline.stop import StopSignal
from atlas_async.pipeline.surroundings import COMMITS, Surroundings
from atlas_async.pipeline.workers import (
    FEWEST_WORKERS,
    MOST_WORKERS,
    WORKERS_PER_PAGE,
    WorkerShare,
)


def given(share: WorkerShare) -> int:
    """Return how many workers one page gets."""
    with share.page() as workers:
        return workers


def test_a_fast_store_needs_few() -> None:
    """Where a PUT takes a millisecond, a few keep it busy."""
    share = WorkerShare()
    for _ in range(100):
        share.learn(0.001)
    assert given(share) == FEWEST_WORKERS


def test_a_slow_store_gets_many() -> None:
    """Where a PUT takes long, many are in flight, but never more than the bound."""
    share = WorkerShare()
    before = given(share)
    for _ in range(12):
        share.learn(0.02)
    assert before < given(share) < WORKERS_PER_PAGE
    for _ in range(100):
        share.learn(2.0)
    assert given(share) == WORKERS_PER_PAGE


def test_processes_hold_together_what_one_would() -> None:
    """Rows, messages and commits of a run are divided among its processes, one each at least."""
    whole = surroundings(1)
    assert (whole.held.most, whole.commits.value) == (MOST_ROWS, COMMITS)
    part = surroundings(2)
    assert (part.held.most, part.commits.value) == (MOST_ROWS // 2, COMMITS // 2)
    for share, most in ((whole.share, MOST_WORKERS), (part.share, MOST_WORKERS // 2)):
        for _ in range(100):
            share.learn(2.0)
        with ExitStack() as pages:
            counts = [pages.enter_context(share.page()) for _ in range(8)]
        assert counts[-1] == most // 8
    assert surroundings(1_000).commits.value == given(surroundings(1_000).share) == 1


def surroundings(processes: int) -> Surroundings:
    """Return those of one of so many processes."""
    return Surroundings.of_one_process(
        processes,
        budgets=Budgets.of(1 << 24),
        clock=SystemClock(),
        stop=StopSignal(),
        emit=lambda _: None,
    )


def test_pages_share_them() -> None:
    """Two hundred pages at once have no more workers than two, beyond the one each needs."""
    share = WorkerShare(seconds=1.0)
    with share.page() as first, share.page() as second:
        assert first + second == 2 * WORKERS_PER_PAGE
        with share.page() as third:
            assert third == WORKERS_PER_PAGE
    assert given(share) == WORKERS_PER_PAGE
    pages = [share.page() for _ in range(2 * MOST_WORKERS)]
    counts = [page.__enter__() for page in pages]
    assert counts[-1] == 1
    for page in pages:
        page.__exit__(None, None, None)
    assert given(share) == WORKERS_PER_PAGE
