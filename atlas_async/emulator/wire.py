"""Bytes in and out: bounded request bodies, compressed, streamed, dripped or broken answers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import anyio
import anyio.to_thread
from aiohttp import web

from atlas_async.clock import Clock
from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.calls import Refusal, Reply

BODY_LIMIT: Final = 4 * 1024 * 1024
"""Largest request body Graph takes."""
_WORTH_PACKING: Final = 1_024
_WORTH_A_THREAD: Final = 131_072
_GZIP: Final = 31
_DRIP: Final = 16_384
_GLANCE: Final = 0.02
"""Seconds between two looks whether a client that gets no answer is still there."""


async def read_request_body(request: web.BaseRequest, limit: int) -> bytes:
    """Return the request's body. Raises ``Refusal`` (413) above ``limit`` bytes."""
    pieces = bytearray()
    async for piece, _ in request.content.iter_chunks():
        pieces += piece
        if len(pieces) > limit:
            raise Refusal(413, "BadRequest", "The maximum request length supported is 4MB.")
    return bytes(pieces)


async def send(
    request: web.BaseRequest, reply: Reply, behaviour: Behaviour, clock: Clock
) -> web.StreamResponse:
    """Send an answer to the end, or break it where ``reply.spoil`` says so."""
    if reply.spoil == "silence":
        await _wait_for_hangup(request)
    if reply.spoil in {"reset", "silence"}:
        _cut(request)
        return web.Response(status=500)
    if reply.stream is not None:
        return await _send_stream(request, reply, reply.stream, behaviour, clock)
    body = _spoiled(reply)
    headers = dict(reply.headers)
    if reply.spoil == "reset-mid":
        half = Reply(reply.status, headers, length=max(2, len(body)))
        return await _send_stream(request, half, iter([body[: len(body) // 2]]), behaviour, clock)
    if not reply.spoil and _packable(request, body, behaviour):
        body = await _packed(reply)
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
    if behaviour.bandwidth:
        whole = Reply(reply.status, headers, length=len(body))
        return await _send_stream(request, whole, _sliced(body), behaviour, clock)
    response = web.Response(status=reply.status, body=body or None, headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response


async def _send_stream(
    request: web.BaseRequest,
    reply: Reply,
    pieces: Iterator[bytes],
    behaviour: Behaviour,
    clock: Clock,
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    if reply.length is not None:
        response.content_length = reply.length
    else:
        response.enable_chunked_encoding()
    await response.prepare(request)
    sent = 0
    for piece in pieces:
        if behaviour.bandwidth:
            await clock.sleep(len(piece) / behaviour.bandwidth)
        await response.write(piece)
        sent += len(piece)
        if reply.spoil in {"reset-mid", "truncate"}:
            break
    if reply.spoil or (reply.length is not None and sent < reply.length):
        _cut(request)
        return response
    await response.write_eof()
    return response


def _spoiled(reply: Reply) -> bytes:
    if reply.spoil == "truncate":
        return reply.body[: len(reply.body) // 2]
    if reply.spoil == "garbage":
        return b"<html><body>upstream connect error</body></html>"
    if reply.spoil == "control":
        return reply.body.replace(b'"subject":"', b'"subject":"\x01\x0b\x1f', 1)
    return reply.body


def _packable(request: web.BaseRequest, body: bytes, behaviour: Behaviour) -> bool:
    accepted = request.headers.get("Accept-Encoding", "")
    return behaviour.compress and len(body) >= _WORTH_PACKING and "gzip" in accepted


async def _packed(reply: Reply) -> bytes:
    if reply.packed is None:
        if len(reply.body) >= _WORTH_A_THREAD:
            reply.packed = await anyio.to_thread.run_sync(_gzip, reply.body)
        else:
            reply.packed = _gzip(reply.body)
    return reply.packed


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


def _sliced(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _DRIP):
        yield body[start : start + _DRIP]


async def _wait_for_hangup(request: web.BaseRequest) -> None:
    """Return when the client has closed the connection; the server's end ends it, too."""
    # Nothing tells a handler that its client has left.
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await anyio.sleep(_GLANCE)


def _cut(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()
