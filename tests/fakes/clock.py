"""A clock that tests own: time stands still until a test moves it, or jumps when somebody sleeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import anyio
import anyio.lowlevel
from anyio import wait_all_tasks_blocked

SETTLE_ROUNDS = 20
"""Turns of the event loop that an autojump leaves to others before it moves time."""


class FakeClock:
    """Time by hand.

    Args:
        start: Wall time at the beginning.
        autojump: When true a sleep moves time to its own end as soon as it is the earliest sleeper,
            so that code with long waits runs at once and in the right order.

    ``slept`` lists every requested sleep in seconds, in the order the sleeps began.
    """

    def __init__(self, start: datetime | None = None, *, autojump: bool = False) -> None:
        self._start = start or datetime(2026, 4, 20, 12, 0, 0, tzinfo=UTC)
        self._elapsed = 0.0
        self._autojump = autojump
        self._sleepers: dict[int, tuple[float, anyio.Event]] = {}
        self._tickets = count()
        self.slept: list[float] = []

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return self._elapsed

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Sleep until a test has moved time on by ``seconds``, or jump there; cancellable."""
        self.slept.append(seconds)
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        deadline = self._elapsed + seconds
        event = anyio.Event()
        ticket = next(self._tickets)
        self._sleepers[ticket] = (deadline, event)
        try:
            if self._autojump:
                await self._jump_to(ticket, deadline)
            else:
                await event.wait()
        finally:
            del self._sleepers[ticket]

    async def _jump_to(self, ticket: int, deadline: float) -> None:
        for _ in range(SETTLE_ROUNDS):
            await anyio.lowlevel.checkpoint()
        while self._elapsed < deadline:
            if min(self._sleepers, key=lambda t: (self._sleepers[t][0], t)) == ticket:
                self._elapsed = deadline
            else:
                await anyio.lowlevel.checkpoint()

    async def advance(self, seconds: float) -> None:
        """Move time on by ``seconds``, waking sleepers in order and letting each run on.

        Returns when time is there and every other task waits for something.
        """
        target = self._elapsed + seconds
        await wait_all_tasks_blocked()
        while due := [s for s in self._sleepers.values() if s[0] <= target and not s[1].is_set()]:
            deadline, event = min(due, key=lambda sleeper: sleeper[0])
            self._elapsed = max(self._elapsed, deadline)
            event.set()
            await wait_all_tasks_blocked()
        self._elapsed = target
        await wait_all_tasks_blocked()

    def jump(self, seconds: float) -> None:
        """Move time on by ``seconds`` at once; sleepers whose time has come wake next."""
        self._elapsed += seconds
        for deadline, event in self._sleepers.values():
            if deadline <= self._elapsed:
                event.set()
