"""The workers of one run: whoever has a free place takes the next mailbox."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from atlas_async.config.secret import Secret
from atlas_async.config.settings import MOST_PROCESSES
from atlas_async.errors import UsageError, WorkerLost
from atlas_async.model.report import MailboxResult
from atlas_async.model.source import Principal
from atlas_async.operations.hands import Hands, MailSource, OpenHands, OwnHands, unreachable
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.surroundings import RunOptions, Surroundings
from atlas_async.shards.division import Division, divide
from atlas_async.shards.orders import Job
from atlas_async.shards.shard import RUN_AGAIN, Shard


class Crew:
    """``Hands`` that are worker processes.

    Args:
        shards: The workers.
        free: Gives a worker for every free place; ends when no worker is left.
    """

    def __init__(self, shards: Sequence[Shard], free: MemoryObjectReceiveStream[Shard]) -> None:
        self.shards = shards
        self._free = free

    async def back_up(self, principal: Principal) -> MailboxResult:
        """Give the mailbox to the first worker with a free place and wait for its result."""
        while True:
            try:
                shard = await self._free.receive()
            except anyio.EndOfStream:
                return unreachable(principal.address, self._nobody_left())
            if shard.lost is None:
                break
        try:
            return await shard.back_up(principal)
        finally:
            shard.offer()

    def _nobody_left(self) -> WorkerLost:
        causes = dict.fromkeys(str(shard.lost) for shard in self.shards if shard.lost)
        hints = dict.fromkeys(shard.lost.hint for shard in self.shards if shard.lost)
        return WorkerLost(
            f"not begun: no worker process is left ({'; '.join(causes)})",
            hint="; ".join(hints) or RUN_AGAIN,
        )


def spread_over(processes: int) -> OpenHands:
    """Return what opens the hands of a run that is spread over so many processes.

    Raises:
        UsageError: The number is out of range, or this system cannot do it.
    """
    if not 1 <= processes <= MOST_PROCESSES:
        raise UsageError(
            f"{processes} processes: from 1 to {MOST_PROCESSES} are possible",
            hint="one for each processor core is the most that helps",
        )
    if sys.platform == "win32":
        raise UsageError("several processes need a POSIX system", hint="leave --processes at 1")

    @asynccontextmanager
    async def open_hands(
        tenant: Tenant,
        source: MailSource,
        principals: Sequence[Principal],
        options: RunOptions,
        around: Surroundings,
    ) -> AsyncIterator[Hands]:
        division = divide(tenant.settings.limits, len(principals), processes)
        if len(division.shares) < 2:  # noqa: PLR2004 -- one worker would only be a detour
            yield OwnHands(tenant, source, options, around)
            return
        async with _open_crew(division, tenant, options, around) as crew:
            yield crew

    return open_hands


@asynccontextmanager
async def _open_crew(
    division: Division, tenant: Tenant, options: RunOptions, around: Surroundings
) -> AsyncIterator[Crew]:
    """Start the workers; on leaving, however that happens, all have ended."""
    send, receive = anyio.create_memory_object_stream[Shard](float("inf"))
    level = logging.getLogger("atlas_async").getEffectiveLevel()
    shards: list[Shard] = []
    with send, receive:
        async with anyio.create_task_group() as group:
            for number, share in enumerate(division.shares, 1):
                shard = Shard(number, division.places, send.clone(), around.stop, around.emit)
                settings = replace(tenant.settings, limits=share, passphrase=Secret(""))
                job = Job(settings, tenant.sealer, options, len(division.shares), level)
                group.start_soon(shard.run, job)
                shards.append(shard)
            send.close()
            yield Crew(shards, receive)
            group.cancel_scope.cancel()
