"""Time as a value that is handed in, so that tests own it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """Wall time, monotonic time and sleeping."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for at least ``seconds``; cancellable."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for at least ``seconds``; cancellable."""
        await anyio.sleep(seconds)


def iso_millis(moment: datetime) -> str:
    """Return ``moment`` as the manifests write time: ``2026-04-20T11:29:59.123Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Pace:
    """How fast something must come: so many bytes in so many seconds spent waiting for it.

    Only waiting counts. Whoever takes the bytes may take as long as they like over that.

    Args:
        seconds: Seconds of waiting after which it is judged.
        least: Bytes that must have come by then.
    """

    def __init__(self, seconds: float, least: int) -> None:
        self._seconds = seconds
        self._least = least
        self._waited = 0.0
        self._came = 0

    def came(self, size: int, waited: float) -> None:
        """Note bytes that were waited for. Raises ``TimeoutError`` when they are too few."""
        self._came += size
        self._waited += waited
        if self._waited >= self._seconds:
            if self._came < self._least:
                raise TimeoutError
            self._waited, self._came = 0.0, 0
