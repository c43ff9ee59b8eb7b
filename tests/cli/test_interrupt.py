"""Ctrl-C and SIGTERM: once settles, twice stops at once, reading stops at the first."""

from __future__ import annotations

import io
import os
import signal

import anyio
import anyio.lowlevel
import pytest

from atlas_async.cli import tasks
from atlas_async.cli.interrupt import until_interrupted, watched
from atlas_async.cli.reporter import STOPPING, Reporter, reporter_for
from atlas_async.cli.tasks import Task
from atlas_async.cli.terminal import Terminal
from atlas_async.clock import SystemClock
from atlas_async.errors import Interrupted, LockedError
from atlas_async.model.report import MailboxResult, Outcome, RunReport
from tests.cli.conftest import Atlas
from tests.fakes.engine import FakeEngine

SETTLED = RunReport(
    "t", (MailboxResult("a", Outcome.INTERRUPTED, snapshot_id="s1"),), 1.0, interrupted=True
)


@pytest.fixture
def screen() -> Terminal:
    """Return a terminal over text in memory."""
    return Terminal(io.StringIO(), io.StringIO(), json=False, quiet=False)


def reporter(screen: Terminal) -> Reporter:
    """Return the reporter of a run whose output is a log."""
    return reporter_for(screen, SystemClock())


async def backup(engine: FakeEngine, screen: Terminal) -> RunReport:
    """Run a backup as the command does."""
    return await watched(
        engine,
        reporter(screen),
        lambda stop: engine.backup(stop=stop),
        settles=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_settles(screen: Terminal, number: signal.Signals) -> None:
    """One signal sets the stop request; the run ends by itself with its own report."""
    engine = FakeEngine(stopped=SETTLED)
    reports: list[RunReport] = []

    async def run() -> None:
        reports.append(await backup(engine, screen))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await engine.at_work.wait()
        os.kill(os.getpid(), number)
    assert reports == [SETTLED]
    assert reports[0].exit_code == 130
    err = screen.err.file
    assert isinstance(err, io.StringIO)
    assert err.getvalue().count(STOPPING) == 1


class SecondSignal:
    """A reporter that sends the second signal as soon as it hears of the first."""

    def __init__(self, inner: Reporter) -> None:
        self.follow = inner.follow
        self.finish = inner.finish

    async def stopping(self) -> None:
        """Send it."""
        os.kill(os.getpid(), signal.SIGINT)


async def test_the_second_signal_stops_at_once(screen: Terminal) -> None:
    """Two signals cancel even a run that does not settle."""
    engine = FakeEngine(stopped=SETTLED, hangs=True)
    impatient = SecondSignal(reporter(screen))
    caught: list[Interrupted] = []

    async def run() -> None:
        with pytest.raises(Interrupted) as info:
            await watched(
                engine,
                impatient,
                lambda stop: engine.backup(stop=stop),
                settles=True,
            )
        caught.append(info.value)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await engine.at_work.wait()
        os.kill(os.getpid(), signal.SIGINT)
    assert caught[0].exit_code == 130
    assert "the next run continues" in caught[0].hint


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        (("restore", "-m", "ann@contoso.com"), tasks.RESTORE),
        (("restore", "-m", "ann@contoso.com", "--undo", "latest"), tasks.UNDO),
        (("save", "-m", "ann@contoso.com"), tasks.SAVE),
        (("find", "invoice"), tasks.FIND),
        (("find", "--update-index"), tasks.FIND),
        (("drill",), tasks.DRILL),
    ],
)
def test_each_command_says_what_is_left(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], task: Task
) -> None:
    """Stopped at once, each has its own hint; its live view begins with its own words."""
    shown: list[Task] = []

    def reporter(_: object, task: Task) -> None:
        shown.append(task)

    async def stopped(*_: object, task: Task, **__: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise Interrupted("stopped at once", hint=task.at_once_hint)

    monkeypatch.setattr("atlas_async.cli.session.Session.reporter", reporter)
    monkeypatch.setattr("atlas_async.cli.interrupt.watched", stopped)
    ended = atlas(*arguments)
    assert ended.code == 130
    assert task.at_once_hint in ended.err
    assert tasks.BACKUP.at_once_hint not in ended.err
    assert shown == [task]
    assert task.beginning


async def test_reading_stops_at_the_first_signal() -> None:
    """Work that only reads is cancelled by one signal."""
    engine = FakeEngine(hangs=True)
    caught: list[Interrupted] = []

    async def run() -> None:
        with pytest.raises(Interrupted) as info:
            await until_interrupted(engine.list_mailboxes)
        caught.append(info.value)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await engine.at_work.wait()
        os.kill(os.getpid(), signal.SIGINT)
    assert len(caught) == 1


async def test_handlers_are_given_back(screen: Terminal) -> None:
    """After a run Python's own handlers are in force, so that a clean-up can be broken off."""
    await backup(FakeEngine(report=SETTLED), screen)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_an_error_ends_the_watching(screen: Terminal) -> None:
    """An error of the engine leaves the frame with its own type inside."""
    engine = FakeEngine(error=LockedError("held by another run"))
    with pytest.raises(ExceptionGroup) as info:
        await backup(engine, screen)
    assert info.group_contains(LockedError, depth=1)
