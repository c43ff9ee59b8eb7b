"""Follows a run's events and shows them: live on a terminal, in lines elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, Protocol

import anyio
from anyio import to_thread
from rich.live import Live

from atlas_async.cli.dashboard import render
from atlas_async.cli.progress import RunState
from atlas_async.cli.progress_lines import JsonLines, Lines, LogLines, NoLines, result_line
from atlas_async.cli.tasks import BACKUP, Task
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import visible
from atlas_async.clock import Clock
from atlas_async.model.events import Event, MailboxNotice
from atlas_async.model.report import RunReport

REFRESH_SECONDS: Final = 1 / 8
STOPPING: Final = "stopping: settling what is in flight; Ctrl-C again stops at once"


class Reporter(Protocol):
    """Shows one run. ``follow`` until cancelled or the events end, then ``finish``."""

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Show events as they come. Cancel it when the run is over."""
        ...

    async def stopping(self) -> None:
        """Say that the run was asked to stop."""
        ...

    async def finish(self, report: RunReport) -> None:
        """Show what ``follow`` had no time for."""
        ...


class LineReporter:
    """Writes lines, in a thread, so that a slow reader never holds the event loop."""

    def __init__(self, lines: Lines, terminal: Terminal, clock: Clock) -> None:
        self._lines = lines
        self._terminal = terminal
        self._clock = clock

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Write the lines that the events call for."""
        async for event in events:
            await self._write(self._lines.take(event, self._clock.monotonic()))

    async def stopping(self) -> None:
        """Say that the run was asked to stop."""
        if not self._terminal.json:
            await self._write([STOPPING])

    async def finish(self, report: RunReport) -> None:
        """Write lines for mailboxes whose last event came too late."""
        await self._write(self._lines.finish(report))

    async def _write(self, lines: list[str]) -> None:
        if lines:
            # An event taken is an event shown: its line must not fall to a cancellation.
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._terminal.progress, lines)


class LiveReporter:
    """Redraws the dashboard eight times a second, from a thread."""

    def __init__(self, terminal: Terminal, clock: Clock, task: Task = BACKUP) -> None:
        self._terminal = terminal
        self._clock = clock
        self._state = RunState(clock.monotonic(), task.beginning)
        self._shown: set[str] = set()

    async def follow(self, events: AsyncIterator[Event]) -> None:
        """Show the dashboard until the events end or this is cancelled; leaves a tidy screen."""
        live = Live(console=self._terminal.err, auto_refresh=False, transient=True)
        await self._draw(live.start)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._redraw, live)
                await self._take(events)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._draw(live.stop)

    async def stopping(self) -> None:
        """Say that the run was asked to stop."""
        self._state.stopping = True

    async def finish(self, report: RunReport) -> None:
        """Print one line per mailbox that has none above the dashboard yet."""
        for result in report.mailboxes:
            if result.mailbox_id not in self._shown:
                await to_thread.run_sync(self._terminal.remark, result_line(result))

    async def _take(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            self._state.take(event, self._clock.monotonic())
            if isinstance(event, MailboxNotice):
                await self._remark(f"{visible(event.mailbox_id)}: {visible(event.text)}")
            for mailbox_id in self._state.results.keys() - self._shown:
                self._shown.add(mailbox_id)
                await self._remark(result_line(self._state.results[mailbox_id]))

    async def _remark(self, line: str) -> None:
        # An event taken is an event shown: its line must not fall to a cancellation.
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._terminal.remark, line)

    async def _redraw(self, live: Live) -> None:
        while True:
            view = render(self._state, self._clock.monotonic(), self._terminal.err.width)
            if not await self._draw(partial(live.update, view, refresh=True)):
                return
            await self._clock.sleep(REFRESH_SECONDS)

    async def _draw(self, drawing: Callable[[], None]) -> bool:
        return await to_thread.run_sync(self._terminal.draw, drawing)


def reporter_for(terminal: Terminal, clock: Clock, task: Task = BACKUP) -> Reporter:
    """Choose how progress is shown: JSON, nothing, live, or sparse lines."""
    started = clock.monotonic()
    if terminal.json:
        return LineReporter(JsonLines(started), terminal, clock)
    if terminal.quiet:
        return LineReporter(NoLines(), terminal, clock)
    if terminal.err.is_terminal and not terminal.err.is_dumb_terminal:
        return LiveReporter(terminal, clock, task)
    return LineReporter(LogLines(started), terminal, clock)
