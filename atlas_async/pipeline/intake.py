"""Content that arrives as a stream is sealed as it comes, never held whole (I5, I7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from anyio import to_thread

from atlas_async.catalog.vault import THREAD_BYTES, Put, Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.crypto.spool import SpoolSealer
from atlas_async.errors import GraphProtocolError, GraphThrottled, GraphTransient

if TYPE_CHECKING:
    from atlas_async.pipeline.budget import ByteBudget
    from atlas_async.pipeline.ports import ContentStream

STREAM_LEASE: Final = 3 << 20
PIECE: Final = 1 << 20
STREAM_TRIES: Final = 3

KeyOf = Callable[[str], str]
"""Makes a storage key of the hex SHA-256 of what is stored."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Content that is stored: hex SHA-256, length in bytes, and whether it was there before."""

    checksum: str
    size: int
    put: Put


class Intake:
    """Stores one mailbox's content, by streams or whole.

    Args:
        vault: Where it goes.
        content: Byte budget for content.
        spool_directory: For what is longer than one piece.
    """

    def __init__(self, vault: Vault, content: ByteBudget, spool_directory: Path | None) -> None:
        self._vault = vault
        self._content = content
        self._spool_directory = spool_directory

    async def take(
        self,
        opened: Callable[[], AbstractAsyncContextManager[ContentStream]],
        key_of: KeyOf,
        *,
        may_be_empty: bool = True,
    ) -> Taken:
        """Store what a stream brings; one that breaks off is opened again, some times.

        Args:
            opened: Opens the stream from its beginning. It has its own tries.
            key_of: Where it goes.
            may_be_empty: Whether nothing at all can be meant.

        Raises:
            GraphError, ConsentError: What opening or reading met last.
            StoreError: The store fails.
        """
        for left in range(STREAM_TRIES - 1, -1, -1):
            begun = False
            try:
                async with self._content.lease(STREAM_LEASE), opened() as stream:
                    begun = True
                    return await self._store(stream, key_of, may_be_empty=may_be_empty)
            except GraphThrottled:
                raise
            except GraphTransient:
                if not (begun and left):
                    raise
        raise AssertionError  # the last try returns or raises

    async def put(self, key_of: KeyOf, data: bytes) -> Taken:
        """Store what is at hand."""
        if len(data) < THREAD_BYTES:
            checksum = sha256_hex(data)
        else:
            checksum = await to_thread.run_sync(sha256_hex, data)
        put = await self._vault.put_plaintext(key_of(checksum), data)
        return Taken(checksum, len(data), put)

    async def _store(self, stream: ContentStream, key_of: KeyOf, *, may_be_empty: bool) -> Taken:
        pieces = aiter(stream)
        first = await _gather(pieces, PIECE)
        if not (first or may_be_empty):
            raise GraphProtocolError("Microsoft Graph gave no content", code="EmptyContent")
        if len(first) < PIECE:
            return await self.put(key_of, first)
        async with self._spooling() as spooling:
            await to_thread.run_sync(spooling.update, first)
            async for piece in pieces:
                await to_thread.run_sync(spooling.update, piece)
            spool = await to_thread.run_sync(spooling.finish)
            put = await self._vault.put_spool(key_of(spool.checksum), spool)
            return Taken(spool.checksum, spool.plaintext_size, put)

    @asynccontextmanager
    async def _spooling(self) -> AsyncIterator[SpoolSealer]:
        spooling = await to_thread.run_sync(SpoolSealer, self._vault.sealer, self._spool_directory)
        try:
            yield spooling
        finally:
            spooling.abandon()


async def _gather(pieces: AsyncIterator[bytes], wanted: int) -> bytes:
    """Return the first pieces, together at least ``wanted`` bytes unless the stream ends."""
    gathered: list[bytes] = []
    length = 0
    while length < wanted:
        piece = await anext(pieces, None)
        if piece is None:
            break
        gathered.append(piece)
        length += len(piece)
    return b"".join(gathered)
