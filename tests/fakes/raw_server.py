"""A TCP server whose every byte is the test's: for answers that no HTTP server would give."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(slots=True)
class Peer:
    """One accepted connection; ``number`` counts from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> str:
        """Read a request's head and return it."""
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def request(self) -> bytes:
        """Read a request with its body; return the request's first line and its body."""
        head = await self.head()
        length = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
        body = await self.reader.readexactly(int(length or 0))
        return head.partition("\r\n")[0].encode() + b"\n" + body

    async def send(self, data: bytes) -> None:
        """Send bytes and see them off."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        while await self.reader.read(1 << 16):
            pass


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


@dataclass(slots=True)
class RawServer:
    """What was accepted so far."""

    port: int = 0
    peers: list[Peer] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    script: Script | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play the script to one connection, then close it."""
        task = asyncio.current_task()
        assert task is not None
        assert self.script is not None
        self.tasks.add(task)
        peer = Peer(len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        try:
            await self.script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(
    script: Script,
    *,
    tls: Callable[[ssl.SSLContext], None] | None = None,
    host: str = "127.0.0.1",
) -> AsyncIterator[RawServer]:
    """Run ``script`` for every connection; ``tls`` configures the certificate."""
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls(context)
    running = RawServer(script=script)
    server = await asyncio.start_server(running.serve, host, 0, ssl=context)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        for peer in running.peers:
            peer.writer.transport.abort()
        for task in running.tasks:
            task.cancel()
        if running.tasks:
            await asyncio.wait(running.tasks)
        await server.wait_closed()
