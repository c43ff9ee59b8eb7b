"""An S3 server in memory, as light as it can be: ``python -m benchmarks.memory_s3 PORT [MS]``.

Buckets, PUT (with ``If-None-Match: *``), GET, HEAD, DELETE and ListObjectsV2. No signature is
checked and nothing is kept on disk, so that measurements see little of it. ``MS`` milliseconds
are added to every answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from base64 import b64decode
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

import uvloop

LIST_PAGE = 1000
_DATE = b"Sat, 21 Nov 2026 00:00:00 GMT"
_STAMP = "2026-11-21T00:00:00.000Z"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_REASONS = {
    200: b"OK",
    204: b"No Content",
    404: b"Not Found",
    411: b"Length Required",
    412: b"Precondition Failed",
    501: b"Not Implemented",
}
Answer = tuple[int, bytes, bytes]
"""Status, further header lines, body."""


@dataclass(slots=True)
class Stored:
    """An object: its bytes, its ETag, and header lines with its metadata."""

    body: bytes
    etag: bytes
    metadata: bytes


@dataclass(slots=True)
class Folder:
    """The objects whose keys are equal up to the last slash."""

    objects: dict[str, Stored] = field(default_factory=dict)
    order: list[str] | None = None

    def names(self) -> list[str]:
        """Return the names in order; sorted again only after a change."""
        if self.order is None:
            self.order = sorted(self.objects)
        return self.order


@dataclass(slots=True)
class Buckets:
    """Everything that is stored: folders by bucket and by the beginning of the key."""

    held: dict[str, dict[str, Folder]] = field(default_factory=dict)

    def answer(self, method: str, target: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
        """Answer one request."""
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path[1:]).partition("/")
        if not bucket:
            return 200, b"", _xml("ListAllMyBucketsResult", "")
        if not key:
            return self._on_bucket(method, bucket, query)
        if bucket not in self.held:
            return _error(404, "NoSuchBucket")
        return self._on_object(method, bucket, key, headers, body)

    def _on_bucket(self, method: str, bucket: str, query: str) -> Answer:
        if method == "PUT":
            self.held.setdefault(bucket, {})
            return 200, b"", b""
        if bucket not in self.held:
            return _error(404, "NoSuchBucket")
        if method == "HEAD":
            return 200, b"", b""
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if method != "GET" or asked.get("list-type") != "2":
            return _error(501, "NotImplemented")
        return 200, b"", self._listing(bucket, asked)

    def _on_object(
        self, method: str, bucket: str, key: str, headers: dict[bytes, bytes], body: bytes
    ) -> Answer:
        at = key.rfind("/") + 1
        folders, name = self.held[bucket], key[at:]
        folder = folders.get(key[:at]) or Folder()
        found = folder.objects.get(name)
        if method == "PUT":
            if found is not None and headers.get(b"if-none-match") == b"*":
                return _error(412, "PreconditionFailed")
            stored = _stored(headers, body)
            folder.objects[name] = stored
            folder.order = folder.order if found is not None else None
            folders[key[:at]] = folder
            return 200, b"ETag: " + stored.etag + b"\r\n", b""
        if method == "DELETE":
            if folder.objects.pop(name, None) is not None:
                folder.order = None
            return 204, b"", b""
        if found is None:
            return _error(404, "NoSuchKey")
        if method not in {"GET", "HEAD"}:
            return _error(501, "NotImplemented")
        lines = b"ETag: %b\r\nLast-Modified: %b\r\n%b" % (found.etag, _DATE, found.metadata)
        return 200, lines, found.body

    def _listing(self, bucket: str, asked: dict[str, str]) -> bytes:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        after = asked.get("continuation-token", "")
        limit = min(int(asked.get("max-keys", LIST_PAGE)), LIST_PAGE)
        found: dict[str, Stored | None] = {}
        for beginning, folder in self.held[bucket].items():
            if beginning.startswith(prefix) or prefix.startswith(beginning):
                found |= _below(beginning, folder, (prefix, delimiter, after), limit)
        keys = sorted(found)
        shown = keys[:limit]
        more = len(keys) > limit
        entries = "".join([_entry(key, found[key]) for key in shown])
        last = escape(shown[-1]) if more else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>"
        inner = (
            f"<Name>{bucket}</Name><Prefix>{quote(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"
            f"<KeyCount>{len(shown)}</KeyCount><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token if more else ''}{entries}"
        )
        return _xml("ListBucketResult", inner)


def _below(
    beginning: str, folder: Folder, asked: tuple[str, str, str], limit: int
) -> dict[str, Stored | None]:
    """Return up to ``limit`` + 1 of a folder's keys (None: a common prefix) that are asked for."""
    prefix, delimiter, after = asked
    names, found = folder.names(), dict[str, Stored | None]()
    start = 0
    if after >= beginning:
        start = bisect_right(names, after[len(beginning) :]) if after.startswith(beginning) else 0
    for name in names[start:]:
        key = beginning + name
        if not key.startswith(prefix) or key <= after:
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        shown = key if cut < 0 else key[: cut + len(delimiter)]
        if cut >= 0 and shown <= after:
            continue
        found[shown] = folder.objects[name] if cut < 0 else None
        if len(found) > limit:
            break
    return found


def _entry(key: str, stored: Stored | None) -> str:
    shown = quote(key)
    if stored is None:
        return f"<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>"
    return (
        f"<Contents><Key>{shown}</Key><LastModified>{_STAMP}</LastModified>"
        f"<ETag>{escape(stored.etag.decode())}</ETag><Size>{len(stored.body)}</Size></Contents>"
    )


def _stored(headers: dict[bytes, bytes], body: bytes) -> Stored:
    given = headers.get(b"content-md5")
    digest = b64decode(given) if given else hashlib.md5(body, usedforsecurity=False).digest()
    metadata = b"".join(
        [
            name + b": " + text + b"\r\n"
            for name, text in headers.items()
            if name.startswith(b"x-amz-meta-")
        ]
    )
    return Stored(body, b'"' + digest.hex().encode() + b'"', metadata)


def _error(status: int, code: str) -> Answer:
    return status, b"", f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _xml(name: str, inner: str) -> bytes:
    return f'<?xml version="1.0"?><{name} xmlns="{_NAMESPACE}">{inner}</{name}>'.encode()


class Connection(asyncio.Protocol):
    """One client's requests, one after the other.

    Args:
        buckets: What is stored.
        latency: Seconds added to every answer.
    """

    def __init__(self, buckets: Buckets, latency: float) -> None:
        self._buckets = buckets
        self._latency = latency
        self._received = bytearray()
        self._head: tuple[str, str, dict[bytes, bytes], int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while self._head is not None or self._take_head():
            method, target, headers, length = self._head or ("", "", {}, 0)
            if len(self._received) < length:
                return
            body = bytes(memoryview(self._received)[:length])
            del self._received[:length]
            self._head = None
            if b"transfer-encoding" in headers or b"aws-chunked" in headers.get(
                b"content-encoding", b""
            ):
                self._transport.write(_packet(_error(411, "MissingContentLength"), method))
                self._transport.close()
                return
            packet = _packet(self._buckets.answer(method, target, headers, body), method)
            if self._latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency, self._transport.write, packet)
            else:
                self._transport.write(packet)

    def _take_head(self) -> bool:
        """Parse a request's head off the received bytes, if all of it is there."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(memoryview(self._received)[:end]).split(b"\r\n")
        del self._received[: end + 4]
        pairs = [line.partition(b":") for line in lines]
        headers = {name.lower(): text.strip() for name, _, text in pairs}
        method, target, _ = first.decode("ascii").split(" ")
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._head = method, target, headers, int(headers.get(b"content-length", b"0"))
        return True


def _packet(answer: Answer, method: str) -> bytes:
    status, lines, body = answer
    head = b"HTTP/1.1 %d %b\r\nContent-Length: %d\r\n%b\r\n" % (
        status,
        _REASONS[status],
        len(body),
        lines,
    )
    return head if method == "HEAD" else head + body


async def serve(port: int, latency_ms: float) -> None:
    """Serve on the loopback interface until the standard input ends, as it does with the caller."""
    buckets = Buckets()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(buckets, latency_ms / 1000), "127.0.0.1", port
    )
    async with server:
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
