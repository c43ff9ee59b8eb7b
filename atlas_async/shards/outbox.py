"""A worker's news on their way to the parent, in order and in as few frames as the pace allows."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading

import anyio

from atlas_async.errors import DiscreetFormatter
from atlas_async.shards.channel import Channel
from atlas_async.shards.orders import Logged, News, Told


class Outbox:
    """Takes news without waiting and sends them from a task of its own."""

    def __init__(self) -> None:
        self._news: list[News] = []
        self._some = anyio.Event()

    def put(self, news: News) -> None:
        """Queue one piece of news; call it on the event loop only."""
        self._news.append(news)
        self._some.set()

    async def send_to(self, channel: Channel) -> None:
        """Send what is queued until cancelled.

        Raises:
            BrokenResourceError: The parent is gone.
        """
        while True:
            await self._some.wait()
            self._some = anyio.Event()
            news, self._news = self._news, []
            await channel.send(Told(tuple(news)))


class OutboxHandler(logging.Handler):
    """Sends log records to the parent, whose handlers show them; from any thread."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self.setFormatter(DiscreetFormatter())
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record."""
        logged = Logged(record.name, record.levelno, self.format(record))
        if threading.get_ident() == self._thread and self._loop.is_running():
            self._outbox.put(logged)  # at once, so that it stays before the result it belongs to
            return
        try:
            self._loop.call_soon_threadsafe(self._outbox.put, logged)
        except RuntimeError:  # the loop has ended and takes nothing to the parent any more
            sys.stderr.write(f"{logged.text}\n")
