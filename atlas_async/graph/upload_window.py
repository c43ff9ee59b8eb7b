"""How many bytes a mailbox may be sent: a sliding window, reckoned as the gate reckons requests.

Graph counts the body of a write at some instant between its start and its end as seen here. So its
bytes fill the window from its start until one window after its end, and Graph never counts more
within a window than is allowed, however latency varies.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from atlas_async.clock import Clock


class UploadRules:
    """The decision whether a body may go now.

    Args:
        window_bytes: Bytes that Graph may count within ``window_seconds`` at most.
        window_seconds: Length of the sliding window in seconds.
    """

    def __init__(self, window_bytes: float, window_seconds: float) -> None:
        self._window_bytes = window_bytes
        self._window_seconds = window_seconds
        self._ended: deque[tuple[float, int]] = deque()
        self._ended_bytes = 0
        self._under_way = 0

    def admit(self, now: float, size: int) -> float:
        """Admit ``size`` bytes and return 0, or return the seconds after which to ask again.

        ``inf`` means that asking again makes sense only after a ``release``. A body larger than
        the whole window goes alone.
        """
        while self._ended and self._ended[0][0] + self._window_seconds <= now:
            self._ended_bytes -= self._ended.popleft()[1]
        excess = self._under_way + self._ended_bytes + size - self._window_bytes
        if excess > 0 and (self._under_way or self._ended):
            for moment, ended in self._ended:
                excess -= ended
                if excess <= 0:
                    return moment + self._window_seconds - now
            if self._under_way:
                return inf
            return self._ended[-1][0] + self._window_seconds - now
        self._under_way += size
        return 0.0

    def release(self, now: float, size: int) -> None:
        """Note that a body of ``size`` bytes was sent, or given up."""
        self._under_way -= size
        self._ended.append((now, size))
        self._ended_bytes += size

    def idle_since(self, now: float) -> bool:
        """Tell whether nothing of the past matters any more."""
        over = not self._ended or self._ended[-1][0] + self._window_seconds <= now
        return over and not self._under_way


class UploadWindow:
    """Waits until its rules let a body go; first come, first served.

    Args:
        rules: The decisions.
        clock: Time and sleep.
    """

    def __init__(self, rules: UploadRules, clock: Clock) -> None:
        self.rules = rules
        self._clock = clock
        self._turnstile = anyio.Lock()
        self._released = anyio.Event()

    @asynccontextmanager
    async def share(self, size: int) -> AsyncIterator[None]:
        """Fill the window with ``size`` bytes; 0 passes at once. Waiting may be cancelled."""
        if not size:
            yield
            return
        async with self._turnstile:
            while wait := self.rules.admit(self._clock.monotonic(), size):
                if wait == inf:
                    self._released = anyio.Event()
                    await self._released.wait()
                else:
                    await self._clock.sleep(wait)
        try:
            yield
        finally:
            self.rules.release(self._clock.monotonic(), size)
            self._released.set()

    @property
    def idle(self) -> bool:
        """Whether forgetting this window would change nothing."""
        return self.rules.idle_since(self._clock.monotonic())
