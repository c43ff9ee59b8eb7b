"""A forwarding HTTP proxy, one request per connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio


@dataclass(slots=True)
class ForwardProxy:
    """Where it listens, and the first lines of what it has forwarded."""

    port: int = 0
    forwarded: list[str] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one request and its answer."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        """End what is being forwarded."""
        running = list(self._tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        self.forwarded.append(first)
        method, address, version = first.split(" ")
        parts = urlsplit(address)
        target = address.removeprefix(f"{parts.scheme}://{parts.netloc}")
        kept = [line for line in lines if not line.lower().startswith(("connection:", "proxy-"))]
        head = [f"{method} {target} {version}", *kept, "Connection: close", "", ""]
        answers, there = await asyncio.open_connection(parts.hostname, parts.port or 80)
        try:
            there.write("\r\n".join(head).encode())
            async with anyio.create_task_group() as group:
                group.start_soon(_pump, reader, there)
                while (line := await answers.readline()).startswith(b"HTTP/1.1 1"):
                    writer.write(line + await answers.readuntil(b"\r\n\r\n"))
                writer.write(line + b"Connection: close\r\n")
                await _pump(answers, writer)
                group.cancel_scope.cancel()
        finally:
            there.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(1 << 16):
            sink.write(piece)
            await sink.drain()
    except ConnectionError:
        return  # the other end has had enough; the answer, if any, still passes


@asynccontextmanager
async def forward_proxy() -> AsyncIterator[ForwardProxy]:
    """Run a proxy on loopback."""
    proxy = ForwardProxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
