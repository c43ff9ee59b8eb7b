"""Limits of one throttling scope: requests in flight, a sliding window, and a fence after a 429.

``GateRules`` decides, synchronously and from the times it is told; ``Gate`` waits as it says. Every
mailbox has its own gate, so a throttled mailbox holds up nobody else.

Graph counts a request at some instant between its start and its end here, and nobody tells at
which. So a request fills its place in the window from its start until one window after its end:
however latency varies, Graph never counts more within a window than the gate allows.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from atlas_async.clock import Clock

RECOVERY_SHARE: Final = 0.1
"""Part of a window for which a reduced number in flight holds before one more is tried."""


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """What a gate has seen: in flight now, admitted so far, seconds it stood fenced."""

    in_flight: int
    allowed: int
    admitted: int
    fenced_seconds: float


class GateRules:
    """The decision whether a request may go now.

    Args:
        in_flight: Requests in flight at most.
        window_requests: Requests that Graph may count within ``window_seconds`` at most.
        window_seconds: Length of the sliding window in seconds; a tenth of it passes before one
            more in flight is tried after ``crowded``.
    """

    def __init__(self, in_flight: int, window_requests: int, window_seconds: float) -> None:
        self._most = in_flight
        self._allowed = in_flight
        self._window_requests = window_requests
        self._window_seconds = window_seconds
        self._recovery_seconds = window_seconds * RECOVERY_SHARE
        self._ends: deque[float] = deque()
        self._under_way = 0
        self._in_flight = 0
        self._alone = False
        self._admitted = 0
        self._fence = -inf
        self._fenced_seconds = 0.0
        self._recover_at = inf

    def admit(self, now: float, *, cost: int = 1, alone: bool = False) -> float:
        """Admit a request and return 0, or return the seconds after which to ask again.

        ``inf`` means that asking again makes sense only after a ``release``.

        Args:
            now: Monotonic time in seconds.
            cost: Requests it counts for (a batch counts for each of its parts).
            alone: Whether nothing else may be in flight beside it.
        """
        self._recover(now)
        if now < self._fence:
            return self._fence - now
        if self._alone or self._in_flight >= (1 if alone else self._allowed):
            return inf
        while self._ends and self._ends[0] + self._window_seconds <= now:
            self._ends.popleft()
        excess = self._under_way + len(self._ends) + cost - self._window_requests
        if excess > 0 and (self._under_way or self._ends):
            # A batch larger than the whole window goes once the window is empty.
            if excess > len(self._ends) and self._under_way:
                return inf
            last = self._ends[min(excess, len(self._ends)) - 1]
            return last + self._window_seconds - now
        self._in_flight += 1
        self._under_way += cost
        self._alone = alone
        self._admitted += cost
        return 0.0

    def recovers_in(self, now: float) -> float:
        """Return the seconds until one more place in flight is allowed; ``inf`` for never."""
        return max(0.001, self._recover_at - now)

    def release(self, now: float, *, cost: int = 1) -> None:
        """Take back what one ``admit`` of the same ``cost`` gave."""
        self._in_flight -= 1
        self._under_way -= cost
        self._ends.extend([now] * cost)
        self._alone = False

    def fenced_for(self, now: float) -> float:
        """Return the seconds until the fence falls; 0 when there is none."""
        return max(0.0, self._fence - now)

    def fence(self, now: float, seconds: float) -> None:
        """Let nothing start for ``seconds``; an earlier fence that ends later stands."""
        until = now + seconds
        if until > self._fence:
            self._fenced_seconds += until - max(now, self._fence)
            self._fence = until

    def crowded(self, now: float) -> None:
        """Halve what may be in flight; it grows back one by one.

        All that were in flight together may be refused together. The first refusal fences the
        gate, so those that come while a fence stands say nothing new and change nothing.
        """
        if now < self._fence:
            return
        self._allowed = max(1, self._allowed // 2)
        self._recover_at = now + self._recovery_seconds

    def idle_since(self, now: float) -> bool:
        """Tell whether nothing is in flight and nothing of the past matters any more."""
        window_over = not self._ends or self._ends[-1] + self._window_seconds <= now
        return self._in_flight == 0 and window_over and now >= self._fence

    @property
    def statistics(self) -> GateStatistics:
        """What the gate has seen so far."""
        return GateStatistics(self._in_flight, self._allowed, self._admitted, self._fenced_seconds)

    def _recover(self, now: float) -> None:
        while self._allowed < self._most and now >= self._recover_at:
            self._allowed += 1
            self._recover_at += self._recovery_seconds


class Gate:
    """Waits until its rules let a request go; first come, first served.

    Args:
        rules: The decisions.
        clock: Time and sleep.
    """

    def __init__(self, rules: GateRules, clock: Clock) -> None:
        self.rules = rules
        self._clock = clock
        self._turnstile = anyio.Lock()
        self._released = anyio.Event()

    @asynccontextmanager
    async def slot(self, *, cost: int = 1, alone: bool = False) -> AsyncIterator[None]:
        """Hold one place in flight for the length of the block.

        Cancelling while waiting leaves no trace. See ``GateRules.admit`` for the arguments.
        """
        async with self._turnstile:
            while wait := self.rules.admit(self._clock.monotonic(), cost=cost, alone=alone):
                if wait == inf:
                    self._released = anyio.Event()
                    await self._wait_for_release(self.rules.recovers_in(self._clock.monotonic()))
                else:
                    await self._clock.sleep(wait)
        try:
            yield
        finally:
            self.rules.release(self._clock.monotonic(), cost=cost)
            self._released.set()

    async def _wait_for_release(self, seconds: float) -> None:
        """Wait until a place is given back, or until the rules may allow another one."""
        if seconds == inf:
            await self._released.wait()
            return
        async with anyio.create_task_group() as group:

            async def sleep() -> None:
                await self._clock.sleep(seconds)
                group.cancel_scope.cancel()

            group.start_soon(sleep)
            await self._released.wait()
            group.cancel_scope.cancel()

    def fence(self, seconds: float) -> None:
        """Let nothing start for ``seconds``."""
        self.rules.fence(self._clock.monotonic(), seconds)

    def crowded(self) -> None:
        """Put fewer in flight for a while; called before ``fence`` for the same refusal."""
        self.rules.crowded(self._clock.monotonic())

    @property
    def fenced_for(self) -> float:
        """Seconds until the fence falls; 0 when there is none."""
        return self.rules.fenced_for(self._clock.monotonic())

    @property
    def idle(self) -> bool:
        """Whether forgetting this gate would change nothing."""
        return self.rules.idle_since(self._clock.monotonic())
