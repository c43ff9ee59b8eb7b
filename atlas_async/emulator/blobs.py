"""Attachment bytes: stored ones, and synthetic ones of any size that are never held whole."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

CHUNK_BYTES: Final = 262_144
_BLOCK: Final = 65_536
_STAMP: Final = 32
_NOISE: Final = 1_048_576
_PLACE: Final = struct.Struct("<QQ")


class Blob(Protocol):
    """Bytes with a known length that can be read from anywhere, any number of times."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` up to ``stop``."""
        ...


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes that a client uploaded."""

    data: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.data)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` up to ``stop``."""
        return self.data[start:stop]


@dataclass(frozen=True, slots=True)
class SyntheticBlob:
    """Incompressible bytes that follow from ``seed``; blobs of other seeds differ everywhere.

    ``head`` stands at the beginning, so that file signatures look right.
    """

    seed: int
    size: int
    head: bytes = b""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` up to ``stop``."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        first = start // _BLOCK
        last = (stop - 1) // _BLOCK
        joined = b"".join(self._block(index) for index in range(first, last + 1))
        piece = joined[start - first * _BLOCK : stop - first * _BLOCK]
        if start < len(self.head):
            head = self.head[start:stop]
            piece = head + piece[len(head) :]
        return piece

    def _block(self, index: int) -> bytes:
        stamp = hashlib.blake2b(_PLACE.pack(self.seed, index), digest_size=_STAMP).digest()
        offset = int.from_bytes(stamp[:4], "little") % (_NOISE - _BLOCK)
        return stamp + _noise()[offset : offset + _BLOCK - _STAMP]


def chunks(blob: Blob, *, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield the blob in pieces of at most ``size`` bytes."""
    for start in range(0, blob.size, size):
        yield blob.read(start, start + size)


def sha256_of(blob: Blob) -> str:
    """Return the lower-case hex SHA-256; reads the blob piece by piece."""
    digest = hashlib.sha256()
    for piece in chunks(blob):
        digest.update(piece)
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _noise() -> bytes:
    return random.Random(0xA71A5).randbytes(_NOISE)
