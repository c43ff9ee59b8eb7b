"""Ctrl-C and SIGTERM: once settles, twice stops at once."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskStatus

from atlas_async.cli.engine import Engine
from atlas_async.cli.reporter import Reporter
from atlas_async.cli.tasks import BACKUP, Task
from atlas_async.errors import Interrupted
from atlas_async.pipeline.stop import StopSignal

T = TypeVar("T")

AT_ONCE = "stopped at once"


async def until_interrupted(work: Callable[[], Awaitable[T]]) -> T:
    """Run work that only reads: the first signal cancels it.

    Raises:
        Interrupted: a signal came.
    """
    answers: list[T] = []
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch, None, tasks.cancel_scope, None)
        answers.append(await work())
        tasks.cancel_scope.cancel()
    if not answers:
        raise Interrupted("interrupted")
    return answers[0]


async def watched(
    engine: Engine,
    reporter: Reporter,
    work: Callable[[StopSignal], Awaitable[T]],
    *,
    settles: bool,
    task: Task = BACKUP,
) -> T:
    """Run ``work`` while ``reporter`` follows the engine's events.

    Args:
        engine: Whose events to follow.
        reporter: Who shows them.
        work: What to do; handed the stop request.
        settles: Whether ``work`` obeys the stop request. If so, the first signal sets it and
            the second cancels; if not, the first signal cancels.
        task: Says what is left where it was cancelled.

    Raises:
        Interrupted: ``work`` was cancelled by a signal.
    """
    stop = StopSignal()
    answers: list[T] = []
    async with anyio.create_task_group() as tasks, engine.events() as events:
        asked = stop if settles else None
        await tasks.start(_watch, asked, tasks.cancel_scope, reporter)
        tasks.start_soon(reporter.follow, events)
        answers.append(await work(stop))
        tasks.cancel_scope.cancel()
    if not answers:
        raise Interrupted(AT_ONCE, hint=task.at_once_hint)
    return answers[0]


async def _watch(
    stop: StopSignal | None,
    scope: anyio.CancelScope,
    reporter: Reporter | None,
    *,
    task_status: TaskStatus[None],
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if stop is None or stop.requested:
                break
            stop.request()
            if reporter is not None:
                await reporter.stopping()
    # The receiver is closed: a third Ctrl-C meets Python's own handler and ends even a clean-up
    # that hangs.
    scope.cancel()
