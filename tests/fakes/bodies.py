"""Bodies for puts: spooled in memory, with places to hang or fail."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

from atlas_async.store.base import CHUNK_BYTES


def md5_of(body: bytes) -> bytes:
    """Return the MD5 digest."""
    return hashlib.md5(body, usedforsecurity=False).digest()


class PatternBody:
    """A spooled body of ``size`` bytes, made of one repeated chunk.

    Args:
        size: Length in bytes.
        seed: Makes bodies differ.
        between: Awaited before each chunk with its index.
    """

    def __init__(
        self, size: int, *, seed: int = 0, between: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        self.size = size
        self.readings = 0
        self._chunk = bytes((i * 7 + seed) % 251 for i in range(CHUNK_BYTES))
        self._between = between

    def md5(self) -> bytes:
        """Return the MD5 digest of the whole."""
        digest = hashlib.md5(usedforsecurity=False)
        for piece in self.pieces():
            digest.update(piece)
        return digest.digest()

    def pieces(self) -> list[bytes]:
        """Return the chunks; they share memory."""
        whole, rest = divmod(self.size, CHUNK_BYTES)
        return [self._chunk] * whole + ([self._chunk[:rest]] if rest else [])

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks."""
        self.readings += 1
        for index, piece in enumerate(self.pieces()):
            if self._between is not None:
                await self._between(index)
            yield piece
