"""What the emulator served: the latest requests, counters, and requests in flight per mailbox."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

_KEPT: Final = 20_000


@dataclass(slots=True)
class Served:
    """One request. Times are seconds of the emulator's monotonic clock.

    ``sent`` is body bytes of the answer, ``received`` those of the request as far as it told them.
    """

    method: str
    path: str
    mailbox: str
    started: float
    status: int = 0
    finished: float = 0.0
    sent: int = 0
    request_id: str = ""
    received: int = 0


class Journal:
    """A bounded log with counters that are not bounded."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._served: deque[Served] = deque(maxlen=kept)
        self._flying: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.peaks: dict[str, int] = {}
        self.requests = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def __iter__(self) -> Iterator[Served]:
        """Iterate over the requests that are still remembered, oldest first."""
        return iter(self._served)

    def __len__(self) -> int:
        return len(self._served)

    def begin(self, record: Served) -> None:
        """Count a request that has arrived."""
        self.requests += 1
        self.bytes_received += record.received
        self._served.append(record)
        self._flying[record.mailbox] += 1
        flying = self._flying[record.mailbox]
        if flying > self.peaks.get(record.mailbox, 0):
            self.peaks[record.mailbox] = flying

    def end(self, record: Served, finished: float) -> None:
        """Count a request that was answered or broken off."""
        record.finished = finished
        self.statuses[record.status] += 1
        self.bytes_sent += record.sent
        self._flying[record.mailbox] -= 1
        if self._flying[record.mailbox] <= 0:
            del self._flying[record.mailbox]

    def in_flight(self, mailbox: str) -> int:
        """Return how many requests of a mailbox are being served now."""
        return self._flying[mailbox]

    def clear(self) -> None:
        """Forget requests and counters, not what is in flight."""
        self._served.clear()
        self.statuses.clear()
        self.peaks.clear()
        self.requests = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "requests": self.requests,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "max_in_flight": dict(self.peaks),
            "served": [asdict(record) for record in self._served],
        }
