"""A throttling scope with its gate, its counters and its name: a mailbox, or the directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from atlas_async.graph.failures import Area
from atlas_async.graph.gate import Gate, GateRules
from atlas_async.graph.upload_window import UploadRules, UploadWindow
from atlas_async.model.source import Usage

if TYPE_CHECKING:
    from atlas_async.clock import Clock
    from atlas_async.config.settings import Limits

OnThrottle = Callable[[str, float, str], None]
"""Told the mailbox (empty for the directory), the seconds and the scope of a wait."""


class Lane:
    """Where the requests of one scope queue and are counted.

    Args:
        name: Mailbox address, or an empty string for the directory.
        area: Which part of Graph it is.
        gate: Its limits.
        window: How many bytes it may be sent.
        on_throttle: Told of every wait Graph asks for.
    """

    def __init__(
        self,
        name: str,
        area: Area,
        gate: Gate,
        window: UploadWindow,
        on_throttle: OnThrottle | None = None,
    ) -> None:
        self.name = name
        self.area = area
        self.gate = gate
        self.window = window
        self._on_throttle = on_throttle
        self._requests = 0
        self._throttled = 0
        self._bytes = 0

    def count_request(self, cost: int) -> None:
        """Count requests sent."""
        self._requests += cost

    def count_bytes(self, size: int) -> None:
        """Count bytes of decoded answers."""
        self._bytes += size

    def throttle(self, seconds: float, *, crowded: bool) -> None:
        """Hold this lane, and only this one, for ``seconds``."""
        self._throttled += 1
        if crowded:
            self.gate.crowded()
        self.gate.fence(seconds)
        if self._on_throttle is not None:
            scope = "mailbox" if self.area is Area.MAIL else "tenant"
            self._on_throttle(self.name, seconds, scope)

    @property
    def idle(self) -> bool:
        """Whether forgetting this lane would change nothing."""
        return self.gate.idle and self.window.idle

    @property
    def usage(self) -> Usage:
        """What this lane has cost so far."""
        fenced = self.gate.rules.statistics.fenced_seconds
        return Usage(self._requests, self._throttled, fenced, self._bytes)


class LaneBook:
    """The lanes of one tenant: a mailbox opened twice keeps its one lane, and so its limits.

    Args:
        limits: Limits of every mailbox.
        clock: Time and sleep.
        on_throttle: Told of every wait Graph asks for.
    """

    def __init__(self, limits: Limits, clock: Clock, on_throttle: OnThrottle | None) -> None:
        self._limits = limits
        self._clock = clock
        self._on_throttle = on_throttle
        self._alive: WeakValueDictionary[str, Lane] = WeakValueDictionary()
        self._recent: dict[str, Lane] = {}
        self.directory = self._open("", Area.DIRECTORY)

    def mailbox(self, user_id: str, address: str) -> Lane:
        """Return the lane of a mailbox, the same one while its window or anybody remembers it."""
        self._recent = {key: lane for key, lane in self._recent.items() if not lane.idle}
        lane = self._alive.get(user_id)
        if lane is None:
            lane = self._alive[user_id] = self._open(address, Area.MAIL)
        self._recent[user_id] = lane
        return lane

    def _open(self, name: str, area: Area) -> Lane:
        limits = self._limits
        rules = GateRules(
            limits.requests_per_mailbox, limits.window_requests, limits.window_seconds
        )
        window = UploadWindow(UploadRules(limits.upload_bytes, limits.upload_seconds), self._clock)
        return Lane(name, area, Gate(rules, self._clock), window, self._on_throttle)
