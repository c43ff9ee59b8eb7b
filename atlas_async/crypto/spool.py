"""Objects too large for memory: sealed piece by piece into a file that holds ciphertext only.

The file has no name (or loses it at once), so a crash leaves nothing behind. Every method that
touches the file blocks: callers run them in worker threads.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from anyio import to_thread
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import AEADDecryptionContext

from atlas_async.crypto.envelope import IV_BYTES, OVERHEAD_BYTES, TAG_BYTES, Sealer
from atlas_async.errors import IntegrityError, StoreFull

PIECE_BYTES: Final = 1 << 20


@dataclass(slots=True)
class Spool:
    """A finished sealed object in a nameless file.

    Satisfies ``store.base.SpooledBody``. ``plaintext_size`` and ``size`` are bytes, ``md5`` is
    over the sealed bytes, ``checksum`` is the hex SHA-256 of the plaintext.
    """

    file: IO[bytes]
    size: int
    plaintext_size: int
    checksum: str
    md5: bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the sealed bytes from the start; may be called again for another try."""
        descriptor = self.file.fileno()
        for offset in range(0, self.size, PIECE_BYTES):
            yield await to_thread.run_sync(os.pread, descriptor, PIECE_BYTES, offset)

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()


class SpoolSealer:
    """Seals a stream of plaintext pieces into a ``Spool``.

    Args:
        sealer: Holds the key.
        directory: Where the nameless file lies; None for the system's temporary directory.

    Raises:
        StoreFull: From any method, when the spool's file system is full.
    """

    def __init__(self, sealer: Sealer, directory: Path | None) -> None:
        self._directory = directory
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, prefix="atlas-spool-")  # noqa: SIM115 -- owned by the Spool
        except OSError as error:
            raise self._unwritable(error) from None
        self._iv, self._cipher = sealer.start_sealing()
        self._hash = hashlib.sha256()
        self._length = 0
        try:
            self._write(self._iv + bytes(TAG_BYTES))
        except BaseException:
            self._file.close()
            raise

    def update(self, piece: bytes) -> None:
        """Hash and encrypt the next piece, and write it."""
        self._hash.update(piece)
        self._length += len(piece)
        self._write(self._cipher.update(piece))

    def finish(self) -> Spool:
        """Write the tag in front and return the sealed object."""
        self._write(self._cipher.finalize())
        self._file.flush()
        os.pwrite(self._file.fileno(), self._cipher.tag, IV_BYTES)  # type: ignore[attr-defined]  # an AEAD context has it
        digest = hashlib.md5(usedforsecurity=False)
        size = self._length + OVERHEAD_BYTES
        for offset in range(0, size, PIECE_BYTES):
            digest.update(os.pread(self._file.fileno(), PIECE_BYTES, offset))
        return Spool(self._file, size, self._length, self._hash.hexdigest(), digest.digest())

    def abandon(self) -> None:
        """Drop what was written."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> StoreFull:
        where = str(self._directory or tempfile.gettempdir())
        msg = f"cannot write the spool of a large attachment: {error.strerror}"
        hint = "free space there, or set ATLAS_SPOOL_DIR to a directory with more"
        return StoreFull(msg, hint=hint, where=where)


class StreamOpener:
    """Opens a sealed object piece by piece, for checking without holding it.

    ``update`` returns plaintext that is not authenticated yet; only after ``finish`` has returned
    may it be handed on.
    """

    def __init__(self, sealer: Sealer, *, where: str = "") -> None:
        self._sealer = sealer
        self._where = where
        self._head = b""
        self._cipher: AEADDecryptionContext | None = None
        self._hash = hashlib.sha256()
        self.plaintext_size = 0

    def update(self, piece: bytes) -> bytes:
        """Take the next sealed piece; return the plaintext it gave."""
        if self._cipher is None:
            self._head += piece
            if len(self._head) < OVERHEAD_BYTES:
                return b""
            piece = self._head[OVERHEAD_BYTES:]
            context = self._sealer.start_opening(self._head[:OVERHEAD_BYTES])
            self._cipher = context  # type: ignore[assignment]  # GCM decryptors are AEAD contexts
            self._head = b""
        plaintext = self._cipher.update(piece)  # type: ignore[union-attr]  # set just above
        self._hash.update(plaintext)
        self.plaintext_size += len(plaintext)
        return plaintext

    def finish(self) -> str:
        """Check the tag and return the hex SHA-256 of the plaintext.

        Raises:
            IntegrityError: The object is truncated, changed, or sealed under another key.
        """
        if self._cipher is None:
            msg = "sealed object is truncated"
            raise IntegrityError(msg, where=self._where)
        try:
            self._cipher.finalize()
        except InvalidTag:
            msg = "sealed object fails authentication: damaged, or sealed under another key"
            raise IntegrityError(msg, where=self._where) from None
        return self._hash.hexdigest()
