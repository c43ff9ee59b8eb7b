"""A server that answers requests from a script, to play what no real S3 server can be made to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings

HANG_UP = b""
"""An answer that is none: the connection is closed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def answer(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    """Return an answer; header names are written with underscores for hyphens."""
    raw = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def refusal(status: int, code: str, extra: str = "", **headers: str) -> bytes:
    """Return an S3 error answer."""
    xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message>{extra}</Error>"
    return answer(status, xml, **headers)


@dataclass(slots=True)
class CannedS3:
    """Answers one after the other, the last one for ever. ``asked`` holds what came."""

    answers: Sequence[bytes]
    scheme: str = "http"
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def settings(self) -> S3Settings:
        """How to reach it."""
        endpoint = f"{self.scheme}://localhost:{self.port}"
        return S3Settings(endpoint, "us-east-1", "access", Secret("secret"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, target, headers, body))
        reply = self.answers[min(len(self.asked), len(self.answers)) - 1]
        writer.write(reply)
        await writer.drain()
        return reply != HANG_UP and headers.get("connection") != "close"


@asynccontextmanager
async def canned_s3(
    *answers: bytes, tls: Callable[[ssl.SSLContext], None] | None = None
) -> AsyncIterator[CannedS3]:
    """Run a server with these answers; ``tls`` configures its certificate."""
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls(context)
    script = CannedS3(answers, "https" if tls else "http")
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=context)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        script.hang_up()
        await server.wait_closed()
