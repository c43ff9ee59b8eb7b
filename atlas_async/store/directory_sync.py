"""Durable names: one fsync of a directory serves all the puts that wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio import to_thread

from atlas_async.store.durable_files import sync_directory


@dataclass(slots=True)
class _Round:
    """One fsync that has not begun; whoever joins before it begins is served by it."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    synced: bool = False


class DirectorySync:
    """Syncs directories, each one at a time, so that callers that come meanwhile share the next.

    Args:
        threads: Bounds the threads used.
    """

    def __init__(self, threads: anyio.CapacityLimiter) -> None:
        self._threads = threads
        self._next: dict[Path, _Round] = {}
        self._running: dict[Path, anyio.Lock] = {}

    async def sync(self, directories: Iterable[Path]) -> None:
        """Return once every name now in ``directories`` is durable. Raises ``OSError``.

        Cancelling one caller does not cancel the fsync that others wait for.
        """
        for path in dict.fromkeys(directories):
            while (waiting := self._next.get(path)) is not None:
                await waiting.ended.wait()
                if waiting.synced:
                    break
            else:
                await self._lead(path)

    async def _lead(self, path: Path) -> None:
        """Run the next fsync of ``path``. When it fails, whoever joined tries again by itself."""
        mine = self._next[path] = _Round()
        lock = self._running.setdefault(path, anyio.Lock())
        with anyio.CancelScope(shield=True):
            try:
                async with lock:
                    del self._next[path]
                    await to_thread.run_sync(sync_directory, path, limiter=self._threads)
                    mine.synced = True
            finally:
                if self._next.get(path) is mine:
                    del self._next[path]
                mine.ended.set()
                if not lock.locked():
                    self._running.pop(path, None)
