"""A worker's news: in order, from any thread, and never lost in silence."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import to_thread

from atlas_async.shards.channel import Channel
from atlas_async.shards.orders import Logged, News, Ready, Refused, Told
from atlas_async.shards.outbox import Outbox, OutboxHandler


@asynccontextmanager
async def sending(outbox: Outbox) -> AsyncIterator[Channel]:
    """Send an outbox's news for the body of the ``with``; give the end where they arrive."""
    ours, theirs = socket.socketpair()
    async with (
        await Channel.over(ours) as sender,
        await Channel.over(theirs) as receiver,
        anyio.create_task_group() as group,
    ):
        group.start_soon(outbox.send_to, sender)
        yield receiver
        group.cancel_scope.cancel()


async def take(receiver: Channel, count: int) -> list[News]:
    """Return so many pieces of news."""
    news: list[News] = []
    while len(news) < count:
        told = await receiver.receive()
        assert isinstance(told, Told)
        news.extend(told.news)
    return news


def record(text: str) -> logging.LogRecord:
    """Return a log record."""
    return logging.LogRecord("atlas_async.x", logging.INFO, "", 0, text, (), None)


async def test_news_arrive_in_order_and_together() -> None:
    """What is put while nothing is sent goes as one frame; nothing is lost between frames."""
    outbox = Outbox()
    many: list[News] = [Refused(str(number), "") for number in range(50)]
    for news in many:
        outbox.put(news)
    async with sending(outbox) as receiver:
        assert await receiver.receive() == Told(tuple(many))
        outbox.put(Ready())
        assert await take(receiver, 1) == [Ready()]


async def test_records_keep_their_place_and_come_from_threads_too() -> None:
    """A record of the loop's thread stands before news put after it; threads may log as well."""
    outbox = Outbox()
    handler = OutboxHandler(outbox)
    handler.emit(record("first"))
    outbox.put(Ready())
    async with sending(outbox) as receiver:
        first = Logged("atlas_async.x", logging.INFO, "first")
        assert await take(receiver, 2) == [first, Ready()]
        await to_thread.run_sync(handler.emit, record("second"))
        assert await take(receiver, 1) == [Logged("atlas_async.x", logging.INFO, "second")]


def test_records_after_the_loop_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged when the event loop has ended is still seen."""

    async def make() -> OutboxHandler:
        return OutboxHandler(Outbox())

    handler = asyncio.run(make())
    handler.emit(record("last words"))
    assert capsys.readouterr().err == "last words\n"
