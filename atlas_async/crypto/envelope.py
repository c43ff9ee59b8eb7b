"""Sealing and opening one object: ``[12-byte IV][16-byte GCM tag][ciphertext]``, AES-256-GCM.

The tag stands in front, as Atlas writes it. There is no associated data: what binds an object to
its place is the SHA-256 in its key or, for documents, the names inside.

Random 96-bit IVs are safe for 2^32 objects under one key (NIST SP 800-38D, section 8.3), which is
four billion messages per tenant.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atlas_async.errors import IntegrityError

IV_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
DAMAGED_HINT: Final = "restore this object from a copy of the bucket; `atlas verify` lists all"
OVERHEAD_BYTES: Final = IV_BYTES + TAG_BYTES
"""How much longer a sealed object is than its plaintext."""


def sha256_hex(data: bytes) -> str:
    """Return the lower-case hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed object and the MD5 digest (16 bytes) of its bytes, for ``Content-MD5``."""

    body: bytes
    md5: bytes


class Sealer:
    """Seals and opens objects under one data encryption key (DEK).

    Safe to share between threads: every call uses its own IV and context.

    Args:
        dek: 32 bytes.
    """

    __slots__ = ("_aead", "_dek")

    def __init__(self, dek: bytes) -> None:
        if len(dek) != KEY_BYTES:
            msg = f"a data encryption key has {KEY_BYTES} bytes"
            raise ValueError(msg)
        self._dek = dek
        self._aead = AESGCM(dek)

    def __repr__(self) -> str:
        return "Sealer(dek=********)"

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle would hold the key in clear. ``reveal`` is the deliberate way."""
        msg = "a Sealer is not pickled: hand over what reveal() returns, where that is safe"
        raise TypeError(msg)

    def reveal(self) -> bytes:
        """Return the 32 bytes of the key itself, for another process of this very program."""
        return self._dek

    def seal(self, plaintext: bytes) -> Sealed:
        """Encrypt ``plaintext`` under a fresh random IV."""
        iv = os.urandom(IV_BYTES)
        tagged = self._aead.encrypt(iv, plaintext, None)
        body = b"".join((iv, tagged[-TAG_BYTES:], memoryview(tagged)[:-TAG_BYTES]))
        return Sealed(body, hashlib.md5(body, usedforsecurity=False).digest())

    def open(self, body: bytes, *, where: str = "") -> bytes:
        """Decrypt a sealed object.

        Raises:
            IntegrityError: ``body`` is too short, was changed, or was sealed under another key.
        """
        if len(body) < OVERHEAD_BYTES:
            msg = (
                f"sealed object is truncated: {len(body)} bytes, at least {OVERHEAD_BYTES} expected"
            )
            raise IntegrityError(msg, where=where, hint=DAMAGED_HINT)
        view = memoryview(body)
        tagged = b"".join((view[OVERHEAD_BYTES:], view[IV_BYTES:OVERHEAD_BYTES]))
        try:
            return self._aead.decrypt(bytes(view[:IV_BYTES]), tagged, None)
        except InvalidTag:
            msg = "sealed object fails authentication: damaged, or sealed under another key"
            raise IntegrityError(msg, where=where, hint=DAMAGED_HINT) from None

    def start_sealing(self) -> tuple[bytes, CipherContext]:
        """Return a fresh IV and an encryption context for an object sealed piece by piece."""
        iv = os.urandom(IV_BYTES)
        return iv, Cipher(algorithms.AES256(self._dek), modes.GCM(iv)).encryptor()

    def start_opening(self, head: bytes) -> CipherContext:
        """Return a decryption context, given an object's first ``OVERHEAD_BYTES`` bytes.

        What its ``update`` returns is unauthenticated until ``finalize`` has returned.
        """
        mode = modes.GCM(head[:IV_BYTES], head[IV_BYTES:OVERHEAD_BYTES])
        return Cipher(algorithms.AES256(self._dek), mode).decryptor()
