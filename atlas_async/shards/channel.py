"""Frames between a parent and its worker: eight bytes of length, then a pickle.

Pickle is safe here because nobody else can write: a frame comes over a nameless socket pair, from
a process that this program started from its own code, as the same user. It lets the values of
``orders`` pass as they are. Reading is narrowed to this package's classes all the same, and
secrets, which refuse to be pickled anywhere else, are let through here on purpose: the pair is
memory of the two processes, not a file, an argument or an environment.
"""

from __future__ import annotations

import asyncio
import io
import pickle
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, Self

import anyio

from atlas_async.config.secret import Secret
from atlas_async.crypto.envelope import Sealer
from atlas_async.shards.orders import Order, Told

LENGTH: Final = struct.Struct(">Q")
SAFE_MODULES: Final = frozenset({"atlas_async", "pathlib"})
"""Top-level modules whose classes a frame may name."""


class FrameError(Exception):
    """A frame is not what this program writes."""


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        """Let the two classes pass that refuse to be pickled elsewhere."""
        if isinstance(value, Secret | Sealer):
            return type(value), (value.reveal(),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Return a class of this package, or refuse."""
        safe = module.partition(".")[0] in SAFE_MODULES
        found = super().find_class(module, name) if safe else None
        if not isinstance(found, type):
            msg = f"a frame names {module}.{name}"
            raise FrameError(msg)
        return found


def pack(value: Order | Told) -> bytes:
    """Return a frame."""
    buffer = io.BytesIO()
    buffer.write(bytes(LENGTH.size))
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    length = buffer.tell() - LENGTH.size
    buffer.seek(0)
    buffer.write(LENGTH.pack(length))
    return buffer.getvalue()


def unpack(body: bytes) -> object:
    """Return the value of a frame without its length.

    Raises:
        FrameError: It is not one of ours.
    """
    try:
        return _Unpickler(io.BytesIO(body)).load()
    except Exception as error:  # damaged pickles raise whatever they run into
        msg = "a frame between processes cannot be read"
        raise FrameError(msg) from error


class Channel:
    """One end of a socket pair. Use it as an async context manager, in the task that reads.

    Over asyncio's streams: anyio's stream of a Unix socket waits by ``add_reader`` with a future,
    which uvloop may complete twice, and whose closing beside a cancelled read fails
    (github.com/agronholm/anyio/issues/1267).
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = anyio.Lock()

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Return the channel over one end of a pair; it owns the socket from now on."""
        reader, writer = await asyncio.open_unix_connection(sock=end)
        # What was sent is with the system once ``drain`` returns: closing loses nothing.
        writer.transport.set_write_buffer_limits(high=0)
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close this end, which the other one sees as the end of the stream."""
        self._writer.transport.abort()
        with anyio.CancelScope(shield=True), suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, value: Order | Told) -> None:
        """Send one value, whole; others wait.

        A cancelled send may leave part of a frame behind: close the channel then.

        Raises:
            BrokenResourceError: The other side is gone.
        """
        async with self._sending:
            if self._writer.is_closing():  # which uvloop takes for a mistake of the caller
                raise anyio.BrokenResourceError
            try:
                self._writer.write(pack(value))
                await self._writer.drain()
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def receive(self) -> object:
        """Return the next value, or None when the other side is gone.

        Raises:
            FrameError: What came is not one of our frames.
        """
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            return unpack(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def __aiter__(self) -> AsyncIterator[object]:
        """Yield values until the other side is gone."""
        while (value := await self.receive()) is not None:
            yield value
