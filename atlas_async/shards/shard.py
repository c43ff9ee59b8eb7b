"""One worker as its parent sees it: started, given mailboxes, listened to, and always ended."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.memory import MemoryObjectSendStream

from atlas_async.config.sources import environment_without_settings
from atlas_async.errors import WorkerLost
from atlas_async.model.events import Event
from atlas_async.model.report import MailboxResult
from atlas_async.model.source import Principal
from atlas_async.operations.hands import unreachable
from atlas_async.pipeline.stop import StopSignal
from atlas_async.shards.channel import Channel, FrameError
from atlas_async.shards.orders import Done, Job, Logged, Ready, Refused, Settle, Take, Told

ENDING_SECONDS: Final = 5.0
"""How long a worker may take to end after its channel is closed, before it is killed."""

STANDARD_ERROR: Final = 2
START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from atlas_async.shards.worker import main; main()"
)
"""Finds the very code that runs here. ``-m`` would look for it in the working directory first."""

RUN_AGAIN: Final = "run again: what was stored stays stored, and the next run continues there"


class Pending:
    """A mailbox that a worker was given, and what came of it."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self._result: MailboxResult | None = None
        self._over = anyio.Event()

    def resolve(self, result: MailboxResult) -> None:
        """Set the result."""
        self._result = result
        self._over.set()

    async def result(self) -> MailboxResult:
        """Wait for the result."""
        await self._over.wait()
        if self._result is None:
            msg = "resolved without a result"
            raise RuntimeError(msg)
        return self._result


class Shard:
    """One worker process.

    Args:
        number: Which one, from 1, for messages.
        places: Mailboxes it takes at once.
        free: Where it offers itself, once for every free place; closed when it has ended.
        stop: Asks the run to settle.
        emit: Takes the worker's events.
    """

    def __init__(
        self,
        number: int,
        places: int,
        free: MemoryObjectSendStream[Shard],
        stop: StopSignal,
        emit: Callable[[Event], None],
    ) -> None:
        self.lost: WorkerLost | None = None
        self._name = f"worker process {number}"
        self._places = places
        self._free = free
        self._stop = stop
        self._emit = emit
        self._channel: Channel | None = None
        self._pending: dict[int, Pending] = {}
        self._tickets = count()

    async def run(self, job: Job) -> None:
        """Start the worker and follow it to its end; cancelling ends it.

        However it ends, every mailbox it was given has a result afterwards, and no process is
        left behind.
        """
        cause = WorkerLost(f"{self._name} was ended", hint=RUN_AGAIN)
        try:
            cause = await self._follow(job)
        except OSError as error:
            cause = WorkerLost(
                f"{self._name} cannot be started: {error.strerror}",
                hint="lower --processes, or raise the system's limit on processes and memory",
            )
        finally:
            self._leave(cause)

    async def back_up(self, principal: Principal) -> MailboxResult:
        """Have the worker back one mailbox up. A worker that ends costs the mailbox (I4)."""
        if self.lost is not None or self._channel is None:
            return unreachable(principal.address, self.lost or _never_started(self._name))
        pending = Pending(principal)
        ticket = next(self._tickets)
        self._pending[ticket] = pending
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            # If it is gone, ``run`` is about to notice and gives the result.
            await self._channel.send(Take(ticket, principal))
        return await pending.result()

    def offer(self) -> None:
        """Offer one place."""
        if self.lost is None:
            self._free.send_nowait(self)

    async def _follow(self, job: Job) -> WorkerLost:
        """Return why the worker ended."""
        cause: WorkerLost | None = None
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, anyio.CancelScope(shield=True):  # or nobody might hold what was started
                process = await _start(theirs)
            try:
                async with await Channel.over(ours) as channel:
                    self._channel = channel
                    cause = await self._converse(channel, job)
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process)
        return cause or _died(f"{self._name} (pid {process.pid})", process.returncode or 0)

    async def _converse(self, channel: Channel, job: Job) -> WorkerLost | None:
        """Send the job, take the news; return why to part, or None when the worker is gone."""
        cause: WorkerLost | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._relay_stop, channel)
            with suppress(anyio.BrokenResourceError):
                await channel.send(job)
            try:
                async for told in channel:
                    cause = self._take(told)
                    if cause is not None:
                        break
            except FrameError as error:
                cause = WorkerLost(f"{self._name}: {error}", hint=RUN_AGAIN)
            group.cancel_scope.cancel()
        return cause

    async def _relay_stop(self, channel: Channel) -> None:
        await self._stop.wait()
        with suppress(anyio.BrokenResourceError):
            await channel.send(Settle())

    def _take(self, told: object) -> WorkerLost | None:
        """Take news in their order; return the worker's refusal when that is among them."""
        if not isinstance(told, Told):
            raise FrameError(f"a {type(told).__name__} is not what a worker sends")
        for news in told.news:
            if isinstance(news, Refused):
                return WorkerLost(f"{self._name}: {news.message}", hint=news.hint or RUN_AGAIN)
            if isinstance(news, Done):
                self._pending.pop(news.ticket).resolve(news.result)
            elif isinstance(news, Ready):
                for _ in range(self._places):
                    self.offer()
            elif isinstance(news, Logged):
                logging.getLogger(news.logger).log(news.level, "%s: %s", self._name, news.text)
            else:
                self._emit(news)
        return None

    def _leave(self, cause: WorkerLost) -> None:
        """Give every mailbox in flight its result, and take no more."""
        self.lost = cause
        self._free.close()
        for pending in self._pending.values():
            pending.resolve(unreachable(pending.principal.address, cause))
        self._pending.clear()


async def _start(theirs: socket.socket) -> Process:
    """Start a worker with this end as its standard input.

    It has a session of its own, so that Ctrl-C reaches the parent alone, and its standard output
    is standard error, so that a stray print does not get among the results. Neither arguments nor
    environment hold a setting.

    Raises:
        OSError: The system starts no more processes.
    """
    command = [sys.executable, "-P", "-c", START, json.dumps(sys.path)]
    return await anyio.open_process(
        command,
        stdin=theirs.fileno(),
        stdout=STANDARD_ERROR,
        stderr=None,
        env=environment_without_settings(),
        start_new_session=True,
    )


async def _end(process: Process) -> None:
    """Wait for a worker whose channel is closed; kill it when that takes too long."""
    with anyio.move_on_after(ENDING_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()


def _never_started(name: str) -> WorkerLost:
    return WorkerLost(f"{name} was not started", hint=RUN_AGAIN)


def _died(name: str, code: int) -> WorkerLost:
    """Return the error for a worker that ended by itself."""
    if code >= 0:
        return WorkerLost(f"{name} ended with exit code {code}", hint=RUN_AGAIN)
    try:
        by = signal.Signals(-code).name
    except ValueError:
        by = f"signal {-code}"
    hint = RUN_AGAIN
    if by == "SIGKILL":
        hint = f"when memory ran out, lower ATLAS_BYTE_BUDGET or --processes; {RUN_AGAIN}"
    return WorkerLost(f"{name} was killed by {by}", hint=hint)
