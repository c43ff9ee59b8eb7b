"""Content encodings of answers, undone here because it is a large part of what a message costs.

A page of mail arrives gzipped at a quarter of its size. zlib-ng inflates it in less than half the
time of the standard library's zlib; where it is not installed, that one serves.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, cast

import aiohttp
import anyio

from atlas_async.clock import Pace

try:
    from zlib_ng import zlib_ng
except ImportError:  # a platform it has no build for
    _new_stream: Callable[[int], Any] = zlib.decompressobj
    _BROKEN: tuple[type[Exception], ...] = (zlib.error,)
else:
    _new_stream = zlib_ng.decompressobj
    _BROKEN = (cast("type[Exception]", zlib_ng.error),)

PIECE_BYTES: Final = 1 << 20
"""Most bytes inflated at once, so that a few bytes of input cannot fill the memory."""
SLOW_SECONDS: Final = 60.0
SLOW_BYTES: Final = 64 << 10
"""An answer that brings less than this in so many seconds of waiting is given up."""
LONGEST_BYTES: Final = 512 << 20
"""A decoded answer longer than this never ends: Exchange takes no message above 150 MB."""
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_ENCODED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_PLAIN: Final = frozenset({"", "identity"})


class EndlessAnswerError(aiohttp.ClientPayloadError):
    """An answer goes on and on."""


class Inflater:
    """Inflates gzip or zlib data as it comes, several members in a row included."""

    def __init__(self) -> None:
        self._stream = _new_stream(_GZIP_OR_ZLIB)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` inflates to, in pieces of at most ``PIECE_BYTES``.

        Raises:
            aiohttp.ClientPayloadError: The data is damaged.
        """
        while data:
            if self._stream.eof:
                self._stream = _new_stream(_GZIP_OR_ZLIB)
            self._begun = True
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except _BROKEN as error:
                msg = "the compressed answer is damaged"
                raise aiohttp.ClientPayloadError(msg) from error
            if piece:
                yield piece
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if not data and len(piece) == PIECE_BYTES and not self._stream.eof:
                yield from self._rest()

    def finish(self) -> None:
        """Check that the data has come to its end.

        Raises:
            aiohttp.ClientPayloadError: It was cut short.
        """
        if self._begun and not self._stream.eof:
            raise aiohttp.ClientPayloadError("the compressed answer was cut short")

    def _rest(self) -> Iterator[bytes]:
        """Yield what is still inside the stream although its input is used up."""
        while piece := self._stream.decompress(b"", PIECE_BYTES):
            yield piece


async def decoded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the body of an answer as it comes, its content encoding undone.

    Raises:
        aiohttp.ClientPayloadError: It is damaged, cut short, or in an encoding nobody asked for.
        EndlessAnswerError: It is longer than anything Graph has to send.
        TimeoutError: It trickles.
    """
    length = 0
    async for piece in _plain(response):
        length += len(piece)
        if length > LONGEST_BYTES:
            raise EndlessAnswerError(f"more than {LONGEST_BYTES} bytes")
        yield piece


async def _plain(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in _PLAIN:
        async for piece in _paced(response):
            yield piece
        return
    if encoding not in _ENCODED:
        raise aiohttp.ClientPayloadError(f"content encoding {encoding!r:.40}")
    inflater = Inflater()
    async for piece in _paced(response):
        for part in inflater.feed(piece):
            yield part
    inflater.finish()


async def _paced(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield what arrives. The session's time-out bounds silence, and a trickle is not silent."""
    pace = Pace(SLOW_SECONDS, SLOW_BYTES)
    while True:
        began = anyio.current_time()
        piece = await response.content.readany()
        if not piece:
            return
        pace.came(len(piece), anyio.current_time() - began)
        yield piece
