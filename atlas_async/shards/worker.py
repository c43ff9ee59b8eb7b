"""A worker process: takes mailboxes one by one, does them as a run in one process would.

It is started by ``shards.shard`` with one end of a socket pair as its standard input. It reads
no settings, no environment and no directory, and ends with its parent, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from atlas_async.clock import SystemClock
from atlas_async.errors import AtlasError, ConfigError
from atlas_async.event_loop import run_program
from atlas_async.graph.opening import open_graph
from atlas_async.operations.hands import OwnHands
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.stop import StopSignal
from atlas_async.pipeline.surroundings import Surroundings
from atlas_async.shards.channel import Channel
from atlas_async.shards.orders import Done, Job, Ready, Refused, Settle, Take
from atlas_async.shards.outbox import Outbox, OutboxHandler
from atlas_async.store.opening import open_store

LAST_SECONDS: Final = 10.0
"""How long a worker whose parent is gone may take to end before the system ends it."""


class Worker:
    """One worker, from its first order to its end.

    Args:
        channel: To the parent.
        at_end: Called when the parent has closed the channel, before everything is cancelled.
    """

    def __init__(self, channel: Channel, at_end: Callable[[], None]) -> None:
        self._channel = channel
        self._at_end = at_end
        self._outbox = Outbox()
        self._stop = StopSignal()

    async def run(self) -> None:
        """Do what the parent orders until it closes the channel or is gone."""
        job = await self._channel.receive()
        if not isinstance(job, Job):
            return
        self._start_logging(job.log_level)
        send, receive = anyio.create_memory_object_stream[Take](float("inf"))
        with send, receive:
            async with anyio.create_task_group() as group:
                group.start_soon(self._tell)
                group.start_soon(self._work, job, receive)
                async for order in self._channel:
                    if isinstance(order, Take):
                        send.send_nowait(order)
                    elif isinstance(order, Settle):
                        self._stop.request()
                self._at_end()
                group.cancel_scope.cancel()

    async def _tell(self) -> None:
        try:
            await self._outbox.send_to(self._channel)
        except anyio.BrokenResourceError:
            return  # the reading side meets the end as well, and ends everything

    async def _work(self, job: Job, takes: MemoryObjectReceiveStream[Take]) -> None:
        try:
            await self._open_and_work(job, takes)
        except AtlasError as error:
            self._outbox.put(Refused(str(error), error.hint))

    async def _open_and_work(self, job: Job, takes: MemoryObjectReceiveStream[Take]) -> None:
        """Open store and source, then do mailboxes, each in a task of its own.

        Raises:
            AtlasError: Store or source cannot be used.
        """
        settings, clock, emit = job.settings, SystemClock(), self._outbox.put
        limits = settings.limits
        if settings.graph is None:
            raise ConfigError(["no Microsoft Graph settings"])
        async with (
            open_store(settings.storage, settings.bucket, limits=limits, clock=clock) as store,
            open_graph(settings.graph, limits, clock=clock, emit=emit) as source,
        ):
            await store.open_bucket(create=False)
            tenant = Tenant(settings, store, clock, job.sealer)
            around = Surroundings.of_one_process(
                job.workers,
                budgets=Budgets.of(limits.byte_budget),
                clock=clock,
                stop=self._stop,
                emit=emit,
            )
            hands = OwnHands(tenant, source, job.options, around)
            self._outbox.put(Ready())
            async with anyio.create_task_group() as mailboxes:
                async for take in takes:
                    mailboxes.start_soon(self._one, hands, take)

    async def _one(self, hands: OwnHands, take: Take) -> None:
        self._outbox.put(Done(take.ticket, await hands.back_up(take.principal)))

    def _start_logging(self, level: int) -> None:
        handler = OutboxHandler(self._outbox)
        logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
        # Other libraries' debug records hold requests with their tokens.
        logging.getLogger("atlas_async").setLevel(level)


def _end_soon() -> None:
    """Have the system end this process if it does not end by itself, as the parent is gone."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS)


def take_channel() -> socket.socket:
    """Return the socket that is standard input, and put the null device in its place."""
    ours = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return ours


async def serve(end: socket.socket) -> None:
    """Be a worker over this end of a pair."""
    async with await Channel.over(end) as channel:
        await Worker(channel, _end_soon).run()


def main() -> None:
    """Be a worker. Signals are the parent's business: it tells what they mean for a worker."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    run_program(serve, take_channel())


if __name__ == "__main__":
    main()
