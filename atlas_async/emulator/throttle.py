"""Graph's documented limits: per application, and per application and mailbox for Outlook.

What a mailbox is granted can be changed (``Behaviour``); the rest is as documented.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from datetime import timedelta
from email.utils import format_datetime
from typing import Final, TypeVar

from atlas_async.clock import Clock
from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.calls import Refusal

MAILBOX_WINDOW: Final = 600.0
UPLOAD_WINDOW: Final = 300.0
APP_REQUESTS: Final = 130_000
APP_WINDOW: Final = 10.0
_Place = TypeVar("_Place", str, tuple[str, str])


class Window:
    """Counts amounts over a sliding window, exactly.

    Args:
        limit: The most that fits into one window.
        seconds: Length of the window.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._counted: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, amount: int, now: float, *, keep_refused: bool = True) -> float:
        """Count ``amount``; return 0, or the seconds until the window has room again.

        What does not fit counts as well, unless ``keep_refused`` is False.
        """
        while self._counted and self._counted[0][0] <= now - self._seconds:
            self._total -= self._counted.popleft()[1]
        self._counted.append((now, amount))
        self._total += amount
        if self._total <= self._limit:
            return 0.0
        wait = self._wait(now)
        if not keep_refused:
            self._counted.pop()
            self._total -= amount
        return wait

    def _wait(self, now: float) -> float:
        excess = self._total - self._limit
        for moment, held in self._counted:
            excess -= held
            if excess <= 0:
                return moment + self._seconds - now
        return self._seconds


class Throttle:
    """Admits or refuses requests; throttled requests count as well, as Microsoft documents."""

    def __init__(self, clock: Clock, behaviour: Behaviour) -> None:
        self._clock = clock
        self._behaviour = behaviour
        self._flying: dict[tuple[str, str], int] = defaultdict(int)
        self._requests: dict[tuple[str, str], Window] = {}
        self._uploads: dict[tuple[str, str], Window] = {}
        self._apps: dict[str, Window] = {}

    def enter(self, app: str, mailbox: str) -> Refusal | None:
        """Count a request that arrived; the caller must ``leave`` whatever is returned."""
        if mailbox:
            self._flying[app, mailbox] += 1
        if not self._behaviour.throttle:
            return None
        scale = self._behaviour.time_scale
        now = self._clock.monotonic()
        wait = self._window(self._apps, app, APP_REQUESTS, APP_WINDOW * scale).add(1, now)
        if wait:
            return self._refusal("TooManyRequests", "Too many requests.", wait)
        if not mailbox:
            return None
        place = (app, mailbox)
        granted = self._behaviour.mailbox_requests
        window = self._window(self._requests, place, granted, MAILBOX_WINDOW * scale)
        wait = window.add(1, now)
        if wait:
            return self._throttled("RequestRate", wait)
        if self._flying[place] > self._behaviour.mailbox_concurrent:
            return self._throttled("MailboxConcurrency", 1.0)
        return None

    def upload(self, app: str, mailbox: str, size: int) -> Refusal | None:
        """Count ``size`` bytes of a write."""
        if not self._behaviour.throttle or not mailbox or not size:
            return None
        seconds = UPLOAD_WINDOW * self._behaviour.time_scale
        granted = self._behaviour.upload_bytes
        window = self._window(self._uploads, (app, mailbox), granted, seconds)
        keep = self._behaviour.throttled_bytes
        wait = window.add(size, self._clock.monotonic(), keep_refused=keep)
        return self._throttled("UploadBytes", wait) if wait else None

    def leave(self, app: str, mailbox: str) -> None:
        """Count a request that was answered."""
        if mailbox:
            self._flying[app, mailbox] -= 1

    def retry_after(self, seconds: float) -> dict[str, str]:
        """Return the header in the form that was chosen, or nothing."""
        whole = max(1, math.ceil(seconds))
        if self._behaviour.retry_after == "none":
            return {}
        if self._behaviour.retry_after == "date":
            moment = self._clock.now() + timedelta(seconds=whole)
            return {"Retry-After": format_datetime(moment, usegmt=True)}
        return {"Retry-After": str(whole)}

    def _throttled(self, limit: str, wait: float) -> Refusal:
        return self._refusal(
            "ApplicationThrottled", f"Application is over its {limit} limit.", wait
        )

    def _refusal(self, code: str, message: str, wait: float) -> Refusal:
        return Refusal(429, code, message, headers=self.retry_after(wait))

    @staticmethod
    def _window(windows: dict[_Place, Window], key: _Place, limit: int, seconds: float) -> Window:
        found = windows.get(key)
        if found is None:
            found = windows[key] = Window(limit, seconds)
        return found
