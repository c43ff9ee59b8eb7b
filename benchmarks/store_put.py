"""Client CPU per PUT of 16 KiB: the S3 data plane beside others, against a minimal server.

Three ways are compared: the data plane as it is, the same with its small requests sent through
aiohttp (as it does with streams and proxies), and aiobotocore.

Run: ``python benchmarks/store_put.py`` (options: ``--count 20000 --size 16384 --in-flight 48``).
The server is a child process that answers every PUT with 200, so that what is measured is this
process alone: user and system time per request, in microseconds, not the time that passed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import resource
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from typing import cast

import anyio
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings
from atlas_async.store.s3 import S3Store

Put = Callable[[str, bytes, bytes], Awaitable[None]]

_ANSWER = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n'
_METADATA = {"x-message-id": "A" * 150, "x-plaintext-sha256": "0" * 64}


class Sink(asyncio.Protocol):
    """Swallows requests with a Content-Length and answers 200."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start afresh."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass
        self._buffer = bytearray()
        self._left = 0

    def data_received(self, data: bytes) -> None:
        """Answer each request whose body is complete."""
        if self._left > len(data):
            self._left -= len(data)
            return
        if self._left:
            data, self._left = data[self._left :], 0
            self._answer()
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            here = len(self._buffer) - end - 4
            if here < length:
                if b"100-continue" in head:
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._left = length - here
                self._buffer.clear()
                return
            del self._buffer[: end + 4 + length]
            self._answer()

    def _answer(self) -> None:
        self._transport.write(_ANSWER)


def serve(ready: Connection) -> None:
    """Run the sink until the process is ended."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


def cpu_seconds() -> float:
    """Return the process's user and system time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(name: str, put: Put, count: int, size: int, in_flight: int) -> None:
    """Put ``count`` bodies, ``in_flight`` at a time, and print the cost of one."""
    body = os.urandom(size)
    md5 = hashlib.md5(body, usedforsecurity=False).digest()
    keys = iter([f"data/user@example.com/{number:064x}" for number in range(count)])

    async def work() -> None:
        for key in keys:
            await put(key, body, md5)

    await put("data/warm-up", body, md5)
    cpu, wall = cpu_seconds(), time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(work)
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    print(f"{name:<24}{cpu / count * 1e6:8.1f} us CPU/PUT {count / wall:9.0f} PUT/s")


async def leave_the_wire(store: S3Store) -> None:
    """Let a store that is open send everything through aiohttp."""
    http = store._http  # noqa: SLF001 - the product chooses by itself and offers no switch
    wire, http._wire = http._wire, None  # noqa: SLF001 - the same
    if wire is not None:
        await wire.aclose()


async def compare(port: int, count: int, size: int, in_flight: int) -> None:
    """Measure the data plane both ways, then aiobotocore with a tenth of the requests."""
    settings = S3Settings(f"http://127.0.0.1:{port}", "us-east-1", "access", Secret("secret"))
    store = S3Store(settings, "atlas-bench", connections=in_flight, clock=SystemClock())

    async def put_plane(key: str, body: bytes, md5: bytes) -> None:
        await store.put(key, body, md5=md5, metadata=_METADATA)

    await measure("s3 data plane", put_plane, count, size, in_flight)
    await leave_the_wire(store)
    await measure("the same by aiohttp", put_plane, count, size, in_flight)
    await store.aclose()
    async with AioSession().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=settings.endpoint,
        aws_access_key_id="access",
        aws_secret_access_key="secret",
        config=AioConfig(
            max_pool_connections=in_flight,
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        ),
    ) as client:

        async def put_botocore(key: str, body: bytes, md5: bytes) -> None:
            await client.put_object(
                Bucket="atlas-bench",
                Key=key,
                Body=body,
                ContentMD5=b64encode(md5).decode(),
                Metadata=_METADATA,
            )

        await measure("aiobotocore", put_botocore, max(count // 10, 1), size, in_flight)


def main() -> None:
    """Start the sink and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=16 << 10, help="bytes")
    parser.add_argument("--in-flight", type=int, default=48)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    try:
        uvloop.run(compare(ours.recv(), options.count, options.size, options.in_flight))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
