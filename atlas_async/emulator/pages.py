"""Rendered answers kept for the next reader, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from atlas_async.emulator.calls import Reply

_OVERHEAD = 512


class PageCache:
    """Least recently used answers, up to ``limit`` bytes.

    An answer larger than a quarter of the limit is not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._replies: OrderedDict[Hashable, Reply] = OrderedDict()

    def get(self, key: Hashable) -> Reply | None:
        """Return the answer kept under ``key``, or None."""
        reply = self._replies.get(key)
        if reply is not None:
            self._replies.move_to_end(key)
        return reply

    def put(self, key: Hashable, reply: Reply) -> None:
        """Keep an answer that has a plain body."""
        size = 2 * len(reply.body) + _OVERHEAD
        if reply.stream is not None or size > self._limit // 4 or key in self._replies:
            return
        self._replies[key] = reply
        self._held += size
        while self._held > self._limit:
            _, dropped = self._replies.popitem(last=False)
            self._held -= 2 * len(dropped.body) + _OVERHEAD

    def clear(self) -> None:
        """Forget everything."""
        self._replies.clear()
        self._held = 0
