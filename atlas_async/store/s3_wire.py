"""Kept connections to one S3 server, and the requests that go through them.

It carries what is small and whole both ways; ``s3_http`` decides what that is. What keeps answers
and requests together stands in ``s3_connection``. The pool adds:

1. A request holds one of N places from before it takes a connection until its connection is idle
   again or closed; so there are never more than N connections, and none is held twice.
2. Only usable connections are kept idle, and only the pool hands them out, the newest first.
3. A request is sent a second time only when its first connection had been kept from earlier, was
   closed before a byte of the answer, and the caller allows it; then over a new connection, once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import aiohappyeyeballs

from atlas_async.errors import StoreMisconfigured
from atlas_async.store.s3_answer import Answer
from atlas_async.store.s3_connection import Connection
from atlas_async.store.s3_transport import AnswerLost, connect_error

IDLE_SECONDS = 15.0
"""How long an unused connection is kept. AWS S3 closes them after about 20 s, MinIO after 30 s."""
SWEEP_SECONDS = 1.0
"""How often connections are looked at: how exact the time-outs are."""
_HEAD_START_SECONDS = 0.25
"""What an address is given before the next one is tried beside it (RFC 8305, section 5)."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for a connection, and between two pieces of an answer."""

    connect: float
    read: float


@dataclass(frozen=True, slots=True)
class Address:
    """Where connections go. ``tls`` is None for plain http; ``endpoint`` is for messages."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    endpoint: str


class Wire:
    """At most ``connections`` kept connections to ``address``. To be made on the loop it is for."""

    def __init__(self, address: Address, *, connections: int, patience: Patience) -> None:
        self._address = address
        self._limit = connections
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._busy = 0
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._queue: deque[asyncio.Future[Connection | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._closed = False

    async def exchange(
        self,
        message: Sequence[bytes],
        *,
        bodyless: bool,
        resend: bool,
        most: int | None = None,
        seconds: float = inf,
    ) -> Answer:
        """Send a request and return its answer.

        Args:
            message: The whole request, in pieces of which none is empty.
            bodyless: The method is HEAD.
            most: Bytes of a success's body beyond which it is given up.
            resend: Whether it may be sent again when a kept connection turns out closed.
            seconds: The longest it may take once it has a connection.

        Raises:
            AnswerLost: The connection ended before the answer, or what came was none.
            AnswerTooLong: See ``most``.
            TimeoutError: No answer in time.
            StoreTransient: The server cannot be reached.
            StoreMisconfigured: TLS does not fit, or the store is closed.

        Cancelling it closes its connection and frees its place.
        """
        connection = await self._take()
        try:
            if connection is not None and connection.usable:
                try:
                    return await connection.exchange(
                        message, bodyless=bodyless, most=most, seconds=seconds
                    )
                except AnswerLost:
                    if connection.answering or not resend:
                        raise
            connection = await self._connect()
            return await connection.exchange(message, bodyless=bodyless, most=most, seconds=seconds)
        finally:
            self._give(connection)

    def sweep(self, now: float) -> None:
        """Close what has been idle or silent for too long, as of ``now`` on the loop's clock."""
        for connection in list(self._all):
            connection.expire(now, silence=self._patience.read, idle=IDLE_SECONDS)
        self._idle = [connection for connection in self._idle if connection.usable]

    async def aclose(self) -> None:
        """Close every connection, busy ones too, and wait until they are. Idempotent."""
        self._closed = True
        while self._queue:  # they find the store closed
            self._pass_on(None)
        for connection in list(self._all):
            connection.abort()
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._all:
            await self._emptied.wait()

    async def _take(self) -> Connection | None:
        """Wait for a place; return a connection that is idle, or None: make one."""
        if self._busy < self._limit:
            self._busy += 1
            if self._idle and self._loop.time() - self._idle[-1].touched > IDLE_SECONDS:
                self.sweep(self._loop.time())  # the loop has slept longer than the sweep's interval
            return self._idle.pop() if self._idle else None
        turn: asyncio.Future[Connection | None] = self._loop.create_future()
        self._queue.append(turn)
        try:
            return await turn
        except BaseException:
            # Cancelled before its turn it stays in the queue, where it is passed over.
            if turn.done() and not turn.cancelled():
                self._give(turn.result())
            raise

    def _give(self, connection: Connection | None) -> None:
        """Give a place back, with the connection if it can be used again."""
        kept = connection if connection is not None and connection.usable else None
        self._busy -= 1
        while self._queue and self._queue[0].done():
            del self._queue[0]
        if self._queue:
            self._pass_on(kept)
        elif kept is not None:
            self._idle.append(kept)

    def _pass_on(self, connection: Connection | None) -> None:
        turn = self._queue.popleft()
        if not turn.done():
            self._busy += 1
            turn.set_result(connection)

    async def _connect(self) -> Connection:
        self._check_open()
        try:
            async with asyncio.timeout(self._patience.connect):
                connection = await self._dial()
        except (OSError, UnicodeError) as error:  # a time-out is an OSError too
            raise connect_error(error, self._address.endpoint) from error
        try:
            self._check_open()
        except StoreMisconfigured:
            connection.abort()
            raise
        if connection.usable:
            self._all.add(connection)
            self._emptied.clear()
            if self._timer is None:
                self._timer = self._loop.call_later(SWEEP_SECONDS, self._tick)
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise StoreMisconfigured("the store is closed", where=self._address.endpoint)

    async def _dial(self) -> Connection:
        address = self._address
        found = await self._loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        sock = await aiohappyeyeballs.start_connection(
            found, happy_eyeballs_delay=_HEAD_START_SECONDS, interleave=1, loop=self._loop
        )
        name = address.host.rstrip(".") if address.tls is not None else None
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._forget), sock=sock, ssl=address.tls, server_hostname=name
        )
        return connection

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._all:
            self._emptied.set()

    def _tick(self) -> None:
        self.sweep(self._loop.time())
        again = self._all and not self._closed
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._tick) if again else None
