"""How many messages are settled at once: enough to keep the store busy, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST_WORKERS: Final = 384
FEWEST_WORKERS: Final = 16
WORKERS_PER_PAGE: Final = 96
"""Messages in flight at once, of all pages and of one; each is held in clear and sealed."""

MESSAGES_PER_SECOND: Final = 3000
"""What a page being settled is to reach: by Little's law it takes that many times the latency of a
PUT in flight. More would only cost time to start."""


class WorkerShare:
    """Divides the workers among the pages that are being settled, of all mailboxes.

    Args:
        most: Messages in flight at once, of all pages.
        seconds: How long a PUT is expected to take before one has been seen.
    """

    def __init__(self, most: int = MOST_WORKERS, seconds: float = 0.008) -> None:
        self._most = most
        self._pages = 0
        self._seconds = seconds

    @contextmanager
    def page(self) -> Iterator[int]:
        """Settle a page for the length of the block; gives how many workers it may have."""
        self._pages += 1
        wanted = max(FEWEST_WORKERS, int(MESSAGES_PER_SECOND * self._seconds))
        try:
            yield max(1, min(wanted, WORKERS_PER_PAGE, self._most // self._pages))
        finally:
            self._pages -= 1

    def learn(self, seconds: float) -> None:
        """Note how long a PUT took; the last dozen count most."""
        self._seconds += (seconds - self._seconds) / 12
