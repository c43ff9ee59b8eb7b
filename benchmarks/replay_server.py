"""Graph replayed and an S3 sink, in little CPU: ``python -m benchmarks.replay_server ORIGIN``.

The origin is that of an emulator. A request to Graph that was not seen before is passed
on to the emulator, and the answer kept as the bytes to send (gzip as the emulator made it, its
origin replaced by this server's); from then on it is one look-up and one write. So the first run
over a corpus records it and every further first backup is served from memory.

The sink takes PUTs and answers GET, HEAD and listings, checks nothing, and drops the bodies below
``data/`` and ``attachments/``, which a backup never reads back. Both origins are printed as one
JSON line. ``/_replay/reset`` empties the sink; that and ``/_replay/told`` tell what was used so
far.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

import aiohttp
import uvloop
from yarl import URL

_KEPT_HEADERS = frozenset({"content-type", "content-encoding", "request-id", "client-request-id"})
_UNPASSED_HEADERS = frozenset({b"host", b"connection", b"content-length"})
_DROPPED = (b"/data/", b"/attachments/")
_NO_BODY = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n"
_OK = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n'
_ABSENT = _NO_BODY % b"404 Not Found"
_TAKEN = _NO_BODY % b"412 Precondition Failed"

Head = tuple[bytes, bytes, bytes]
"""Method, target, and the header lines."""


class Requests(asyncio.Protocol):
    """Splits a connection's bytes into requests; one is answered at a time.

    Args:
        answer: Takes head, body, and a function that sends the answer.
    """

    def __init__(self, answer: Callable[[Head, bytes, Callable[[bytes], None]], None]) -> None:
        self._answer = answer
        self._buffer = bytearray()
        self._head: Head | None = None
        self._length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        if not self._buffer and self._head is None and self._take_head(data):
            end = data.index(b"\r\n\r\n") + 4
            if len(data) - end == self._length:  # one whole request, as most are: no copying about
                self._finish(data[end:])
                return
            self._buffer += memoryview(data)[end:]
        else:
            self._buffer += data
        while self._head is not None or self._take_next():
            if len(self._buffer) < self._length:
                return
            body = bytes(memoryview(self._buffer)[: self._length])
            del self._buffer[: self._length]
            self._finish(body)

    def _take_next(self) -> bool:
        taken = self._take_head(self._buffer)
        if taken:
            del self._buffer[: self._buffer.index(b"\r\n\r\n") + 4]
        return taken

    def _take_head(self, data: bytes | bytearray) -> bool:
        """Parse the head that the data begins with, if it is whole."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, _, lines = bytes(memoryview(data)[:end]).partition(b"\r\n")
        method, _, rest = first.partition(b" ")
        self._head = (method, rest.rpartition(b" ")[0], lines)
        self._length = int(_header(lines, b"content-length") or 0) if method != b"GET" else 0
        if method == b"PUT" and _header(lines, b"expect"):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _finish(self, body: bytes) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._answer(head, body, self._transport.write)


def _header(lines: bytes, name: bytes) -> bytes:
    """Return a header's value, or nothing."""
    for spelt in (name, name.title()):
        at = lines.find(b"\n" + spelt + b":")
        if at >= 0 or lines.startswith(spelt + b":"):
            start = max(at + 1, 0) + len(spelt) + 1
            end = lines.find(b"\r\n", start)
            return lines[start : len(lines) if end < 0 else end].strip()
    return b""


@dataclass(slots=True)
class Replay:
    """Answers of an emulator, kept.

    Attributes:
        upstream: The emulator's origin.
        origin: This server's own.
        session: Asks the emulator.
        group: Owns the tasks that ask.
    """

    upstream: str
    origin: str
    session: aiohttp.ClientSession
    group: asyncio.TaskGroup
    kept: dict[bytes, bytes] = field(default_factory=dict)
    asked: int = 0
    recorded: int = 0

    def answer(self, head: Head, body: bytes, send: Callable[[bytes], None]) -> None:
        """Send what is kept, or ask for it."""
        self.asked += 1
        method, target, _ = head
        key = target if method == b"GET" else b"%b %b" % (target, hashlib.sha256(body).digest())
        kept = self.kept.get(key)
        if kept is not None:
            send(kept)
        else:
            self.group.create_task(self._record(key, head, body, send))

    async def _record(
        self, key: bytes, head: Head, body: bytes, send: Callable[[bytes], None]
    ) -> None:
        method, target, lines = head
        pairs = [line.partition(b":") for line in lines.split(b"\r\n") if line]
        headers = {
            name.decode("latin-1"): value.strip().decode("latin-1")
            for name, _, value in pairs
            if name.lower() not in _UNPASSED_HEADERS
        }
        # A token is asked for by the origin that it is for, percent-encoded.
        old, new = (quote(place, safe="").encode() for place in (self.origin, self.upstream))
        body = body.replace(old.partition(b"%2F%2F")[2], new.partition(b"%2F%2F")[2])
        url = self.upstream + target.decode("ascii")
        async with self.session.request(
            method.decode("ascii"),
            URL(url, encoded=True),
            data=body,
            headers=headers,
        ) as response:
            packet = self._packet(response, await response.read())
        if response.status == HTTPStatus.OK:
            self.kept[key] = packet
        self.recorded += 1
        send(packet)

    def _packet(self, response: aiohttp.ClientResponse, body: bytes) -> bytes:
        old, new = self.upstream.encode(), self.origin.encode()
        if response.headers.get("Content-Encoding") == "gzip":
            body = gzip.compress(gzip.decompress(body).replace(old, new), 6)
        else:
            body = body.replace(old, new)
        lines = [f"HTTP/1.1 {response.status} {response.reason}", f"Content-Length: {len(body)}"]
        lines += [f"{k}: {v}" for k, v in response.headers.items() if k.lower() in _KEPT_HEADERS]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(slots=True)
class Sink:
    """Objects by path; an answer ready to be sent for each whose body is kept."""

    packets: dict[bytes, bytes] = field(default_factory=dict)
    buckets: set[bytes] = field(default_factory=set)
    puts: int = 0

    def answer(self, head: Head, body: bytes, send: Callable[[bytes], None]) -> None:
        """Answer one request."""
        method, target, lines = head
        path, _, query = target.partition(b"?")
        if method == b"PUT" and path.count(b"/") > 1:
            send(self._put(path, lines, body))
        elif path.count(b"/") == 1 or path.endswith(b"/") or query.startswith(b"list-type"):
            send(self._bucket(method, path.strip(b"/"), query.decode()))
        else:
            packet = self.packets.get(path, _ABSENT)
            send(packet[: packet.index(b"\r\n\r\n") + 4] if method == b"HEAD" else packet)

    def _put(self, path: bytes, lines: bytes, body: bytes) -> bytes:
        if path in self.packets and _header(lines, b"if-none-match"):
            return _TAKEN
        self.puts += 1
        if any(dropped in path for dropped in _DROPPED):
            self.packets[path] = _OK
        else:
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            self.packets[path] = b'HTTP/1.1 200 OK\r\nETag: "0"\r\n' + length + body
        return _OK

    def _bucket(self, method: bytes, bucket: bytes, query: str) -> bytes:
        if method == b"PUT":
            self.buckets.add(bucket)
        if bucket not in self.buckets:
            return _xml("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>")
        if method != b"GET":
            return _OK
        prefix = f"/{bucket.decode()}/{parse_qs(query).get('prefix', [''])[0]}"
        start = len(bucket) + 2
        found = sorted(
            path for path in map(bytes.decode, self.packets) if unquote(path).startswith(prefix)
        )
        entries = [
            f"<Contents><Key>{escape(path[start:])}</Key><Size>0</Size>"
            "<LastModified>2026-11-21T00:00:00.000Z</LastModified><ETag>0</ETag></Contents>"
            for path in found[:1000]
        ]
        truncated = "<IsTruncated>false</IsTruncated>"
        inner = f"<EncodingType>url</EncodingType>{truncated}{''.join(entries)}"
        return _xml("200 OK", f"<ListBucketResult>{inner}</ListBucketResult>")


def _xml(status: str, text: str) -> bytes:
    body = text.encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def serve(upstream: str) -> None:
    """Serve both ports until cancelled."""
    loop = asyncio.get_running_loop()
    sink = Sink()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        asyncio.TaskGroup() as group,
    ):
        replay = Replay(upstream, "", session, group)

        def control(head: Head, body: bytes, send: Callable[[bytes], None]) -> None:
            if not head[1].startswith(b"/_replay/"):
                replay.answer(head, body, send)
                return
            if head[1].endswith(b"/reset"):
                sink.packets.clear()
                sink.buckets.clear()
                sink.puts = 0
            told = json.dumps(_told(replay, sink)).encode()
            send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))

        graph = await loop.create_server(lambda: Requests(control), "127.0.0.1", 0)
        s3 = await loop.create_server(lambda: Requests(sink.answer), "127.0.0.1", 0)
        replay.origin = _origin(graph)
        print(json.dumps({"graph": replay.origin, "s3": _origin(s3)}), flush=True)
        async with graph, s3:
            await asyncio.Event().wait()


def _told(replay: Replay, sink: Sink) -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu": usage.ru_utime + usage.ru_stime,
        "asked": replay.asked,
        "recorded": replay.recorded,
        "puts": sink.puts,
    }


def _origin(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
