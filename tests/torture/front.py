"""A front server before an HTTP server on loopback: it passes requests on, and misbehaves.

Requests go through byte by byte, so signatures that cover the ``Host`` header stay good. Answers are
read whole and passed on whole, unless a trouble says otherwise.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio

from tests.fakes.canned_s3 import refusal

KINDS: Final = frozenset(
    {"answer", "reset", "lost", "cut", "short", "drip", "flood", "silence", "stray", "late"}
)
CHUNKS: Final = frozenset({"stray", "late"})
LAST_CHUNK: Final = b"0\r\n\r\n"
DRIP_SECONDS: Final = 0.01
FLOOD: Final = b"x" * 65_536


@dataclass(slots=True)
class Trouble:
    """Which requests go wrong, and how.

    ``kind`` is one of: ``answer`` (``reply`` instead of asking), ``reset`` (closed, not asked),
    ``lost`` (asked, the answer thrown away and the connection closed), ``cut`` (half the answer,
    then closed), ``short`` (half the body as though it were the whole), ``drip`` (the head, then a
    byte now and then for ever), ``flood`` (the head, then bytes for ever), ``silence``, ``stray``
    (a 204 says that it is chunked, and a last chunk follows its head, which it must not have) or
    ``late`` (that chunk comes in front of the connection's next answer).

    Args:
        kind: How.
        method: Regular expression that the method matches whole.
        path: Regular expression searched for in the target.
        after: Matching requests that pass first.
        count: Matching requests that go wrong then; negative for all.
        share: Chance of each of these to go wrong.
        reply: Bytes to answer with.
        fired: How often it has struck.
    """

    kind: str
    method: str = ""
    path: str = ""
    after: int = 0
    count: int = -1
    share: float = 1.0
    reply: bytes = b""
    fired: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def strikes(self, method: str, target: str, chance: random.Random) -> bool:
        """Tell whether a request goes wrong, and count it."""
        if self.method and re.fullmatch(self.method, method) is None:
            return False
        if not re.search(self.path, target):
            return False
        self._seen += 1
        if self._seen <= self.after or 0 <= self.count <= self.fired:
            return False
        if chance.random() >= self.share:
            return False
        self.fired += 1
        return True


@dataclass(frozen=True, slots=True)
class _Message:
    """One HTTP message: its head with the empty line, and its body as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> bytes:
        return self.head.split(b" ", 2)[1]

    def field(self, name: str) -> str:
        found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*([^\r]*)\r$", self.head)
        return found.group(1).decode("latin-1") if found else ""


class Front:
    """One front server. ``troubles`` may be changed while it runs; the first that strikes counts.

    Args:
        port: Of the server behind, on 127.0.0.1.
        seed: Of the chances.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.port = 0
        self.troubles: list[Trouble] = []
        self.requests = 0
        self.fired = 0
        self._behind = port
        self._chance = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: dict[asyncio.StreamWriter, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                request = await _read(reader, answers="")
                there = there or await asyncio.open_connection("127.0.0.1", self._behind)
                if not await self._pass_on(request, there, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            for end in (writer, there[1] if there else None):
                if end is not None:
                    end.transport.abort()

    async def _pass_on(
        self,
        request: _Message,
        there: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer one request; tell whether the connection goes on."""
        self.requests += 1
        method, target = request.head.split(b" ", 2)[:2]
        names = method.decode(), target.decode("latin-1")
        trouble = next((t for t in self.troubles if t.strikes(*names, self._chance)), None)
        if trouble is not None:
            self.fired += 1
            if trouble.kind == "answer":
                writer.write(trouble.reply)
                await writer.drain()
                return True
            if trouble.kind == "reset":
                return False
            if trouble.kind == "silence":
                await anyio.sleep_forever()
        there[1].write(request.head + request.body)
        await there[1].drain()
        answer = await _read(there[0], answers=names[0])
        writer.write(self._late.pop(writer, b""))
        if trouble is not None and trouble.kind in CHUNKS and answer.status != b"204":
            trouble = None
        if trouble is not None:
            if trouble.kind == "late":
                self._late[writer] = LAST_CHUNK
            return await _spoil(trouble.kind, answer, writer)
        writer.write(answer.head + answer.body)
        await writer.drain()
        return answer.field("connection").lower() != "close"

    async def stop(self) -> None:
        """End all connections."""
        running = list(self._tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _spoil(kind: str, answer: _Message, writer: asyncio.StreamWriter) -> bool:
    whole = answer.head + answer.body
    if kind == "lost":
        return False
    if kind == "cut":
        writer.write(
            whole[: len(answer.head) + len(answer.body) // 2] if answer.body else whole[:9]
        )
        await writer.drain()
        return False
    if kind == "short":
        half = answer.body[: len(answer.body) // 2]
        length = b"Content-Length: %d\r" % len(half)
        writer.write(re.sub(rb"(?im)^content-length:[^\r]*\r", length, answer.head) + half)
        await writer.drain()
        return True
    if kind in CHUNKS:
        head = answer.head.removesuffix(b"\r\n") + b"Transfer-Encoding: chunked\r\n\r\n"
        writer.write(head + (LAST_CHUNK if kind == "stray" else b""))
        await writer.drain()
        return True
    # Framed as chunks, so that no length says where the end would be.
    bare = re.sub(rb"(?im)^(content-length|content-encoding):[^\r]*\r\n", b"", answer.head)
    writer.write(bare.removesuffix(b"\r\n") + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = FLOOD if kind == "flood" else b" "
    while True:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        if kind == "drip":
            await asyncio.sleep(DRIP_SECONDS)


async def _read(reader: asyncio.StreamReader, *, answers: str) -> _Message:
    """Read one message whole; ``answers`` is the method that it answers, empty for a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    message = _Message(head, b"")
    status = head.split(b" ", 2)[1] if answers else b""
    if status.startswith(b"1"):
        return await _read(reader, answers=answers)
    if answers == "HEAD" or status in {b"204", b"304"}:
        return message
    if "chunked" in message.field("transfer-encoding").lower():
        return _Message(head, await _chunks(reader))
    return _Message(head, await reader.readexactly(int(message.field("content-length") or 0)))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a chunked body and return it as it came."""
    came = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        came += line + await reader.readexactly(size + 2)
        if size == 0:
            return bytes(came)


@asynccontextmanager
async def open_front(port: int, *, seed: int = 0) -> AsyncIterator[Front]:
    """Run a front server before the one on ``port``."""
    front = Front(port, seed)
    server = await asyncio.start_server(front.serve, "127.0.0.1", 0, limit=1 << 20)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        await front.stop()
        await server.wait_closed()


S3_TROUBLES: Final = {
    "500": lambda share: Trouble("answer", share=share, reply=refusal(500, "InternalError")),
    "503": lambda share: Trouble("answer", share=share, reply=refusal(503, "SlowDown")),
    "503-retry-after": lambda share: Trouble(
        "answer", share=share, reply=refusal(503, "SlowDown", Retry_After="7")
    ),
    "reset": lambda share: Trouble("reset", share=share),
    "lost": lambda share: Trouble("lost", share=share),
    "cut": lambda share: Trouble("cut", share=share),
}
"""What an S3 server does in passing, by name; each makes a trouble for a share of all requests."""
