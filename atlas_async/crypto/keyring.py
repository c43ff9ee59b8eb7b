"""The wrapped data encryption key (DEK), ``_meta/dek.enc``: reading v0 and v1, writing either.

v0, 60 bytes: the envelope over the 32-byte DEK; KEK = scrypt(passphrase, tenant id, N=16384).
v1, 102 bytes: ``01 | kdf id 01 | params length u16 | N u32, r u8, p u8, salt 32 | envelope``, the
header (everything before the envelope) being the associated data; KEK = scrypt(passphrase,
``u16 length of tenant id | tenant id | salt``).

Deriving a KEK takes 60 to 200 ms and up to 64 MiB: callers run these functions in a thread.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atlas_async.config.secret import Secret
from atlas_async.crypto.envelope import IV_BYTES, KEY_BYTES, OVERHEAD_BYTES
from atlas_async.errors import KeyMaterialError

V0_BYTES: Final = OVERHEAD_BYTES + KEY_BYTES
V1: Final = 1
KDF_SCRYPT: Final = 1
SALT_BYTES: Final = 32
PARAMS = struct.Struct(f">IBB{SALT_BYTES}s")
HEADER = struct.Struct(">BBH")

MIN_N: Final = 1 << 14
MAX_N: Final = 1 << 20
MAX_MEMORY: Final = 1 << 30
"""scrypt needs 128 * N * r bytes; a blob that asks for more than 1 GiB is refused unread."""
MAX_P: Final = 16


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """scrypt's cost parameters (RFC 7914). The defaults are what Atlas 1.3.0 writes."""

    n: int = 1 << 16
    r: int = 8
    p: int = 1

    def problem(self) -> str:
        """Return why these parameters are refused, or an empty string."""
        if not MIN_N <= self.n <= MAX_N or self.n & (self.n - 1):
            return f"N={self.n} is not a power of two from {MIN_N} to {MAX_N}"
        if self.r < 1 or 128 * self.n * self.r > MAX_MEMORY:
            return f"N={self.n}, r={self.r} would need more than 1 GiB of memory"
        if not 1 <= self.p <= MAX_P:
            return f"p={self.p} is not from 1 to {MAX_P}"
        return ""


V0_COST: Final = ScryptCost(n=1 << 14)


def new_dek() -> bytes:
    """Return 32 random bytes from the operating system."""
    return os.urandom(KEY_BYTES)


def wrap_dek(
    dek: bytes,
    passphrase: Secret,
    tenant_id: str,
    *,
    version: int = 1,
    cost: ScryptCost | None = None,
) -> bytes:
    """Return the bytes of ``_meta/dek.enc``.

    Args:
        dek: 32 bytes.
        passphrase: The tenant's passphrase.
        tenant_id: Bound into the KEK: a blob copied to another tenant does not open.
        version: 0 or 1.
        cost: scrypt parameters of v1; v0 has none to choose.

    Raises:
        ValueError: ``version`` is neither 0 nor 1, or ``cost`` would be refused on reading.
    """
    if version == 0:
        return _encrypt(_kek(passphrase, tenant_id.encode(), V0_COST), dek, None)
    if version != V1:
        msg = f"no such version of the wrapped key: {version}"
        raise ValueError(msg)
    cost = cost or ScryptCost()
    if problem := cost.problem():
        raise ValueError(problem)
    salt = os.urandom(SALT_BYTES)
    params = PARAMS.pack(cost.n, cost.r, cost.p, salt)
    header = HEADER.pack(V1, KDF_SCRYPT, len(params)) + params
    return header + _encrypt(_kek(passphrase, _v1_salt(tenant_id, salt), cost), dek, header)


def unwrap_dek(
    blob: bytes, passphrase: Secret, tenant_id: str, *, name: str = "_meta/dek.enc"
) -> bytes:
    """Return the 32-byte DEK from the bytes of ``_meta/dek.enc``, of either version.

    Args:
        blob: The wrapped key.
        passphrase: The tenant's passphrase.
        tenant_id: As when it was wrapped.
        name: Where the bytes are from, for errors.

    Raises:
        KeyMaterialError: The blob is truncated or of an unknown form, asks for hostile scrypt
            parameters, or the passphrase (or tenant) is not the one it was wrapped with.
    """
    header_length = _v1_header_length(blob)
    if header_length is None:
        if len(blob) != V0_BYTES:
            msg = f"the wrapped key {name} is damaged: {len(blob)} bytes of no known form"
            hint = "restore this object from a copy or an older version of it; do not delete data"
            raise KeyMaterialError(msg, hint=hint)
        return _decrypt(_kek(passphrase, tenant_id.encode(), V0_COST), blob, None)
    header = blob[:header_length]
    n, r, p, salt = PARAMS.unpack_from(header, HEADER.size)
    cost = ScryptCost(n, r, p)
    if problem := cost.problem():
        msg = f"the wrapped key {name} asks for refused scrypt parameters: {problem}"
        hint = "it was not written by a backup program; restore this object from a copy"
        raise KeyMaterialError(msg, hint=hint)
    return _decrypt(_kek(passphrase, _v1_salt(tenant_id, salt), cost), blob[header_length:], header)


def is_wrapped_key(blob: bytes) -> bool:
    """Tell whether these bytes have the form of a wrapped key, of either version."""
    return len(blob) == V0_BYTES or wrapped_version(blob) == V1


def wrapped_version(blob: bytes) -> int:
    """Return 1 for a v1 blob, 0 for anything else."""
    return 0 if _v1_header_length(blob) is None else V1


def _v1_header_length(blob: bytes) -> int | None:
    if len(blob) < HEADER.size:
        return None
    version, kdf, params_length = HEADER.unpack_from(blob)
    length: int = HEADER.size + params_length
    fits = params_length == PARAMS.size and len(blob) == length + V0_BYTES
    return length if version == V1 and kdf == KDF_SCRYPT and fits else None


def _v1_salt(tenant_id: str, salt: bytes) -> bytes:
    tenant = tenant_id.encode()
    return struct.pack(">H", len(tenant)) + tenant + salt


def _kek(passphrase: Secret, salt: bytes, cost: ScryptCost) -> bytes:
    memory = 128 * cost.r * (cost.n + cost.p + 2)
    return hashlib.scrypt(
        passphrase.reveal().encode(),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=memory + (1 << 20),
        dklen=KEY_BYTES,
    )


def _encrypt(kek: bytes, dek: bytes, associated: bytes | None) -> bytes:
    iv = os.urandom(IV_BYTES)
    tagged = AESGCM(kek).encrypt(iv, dek, associated)
    return iv + tagged[KEY_BYTES:] + tagged[:KEY_BYTES]


def _decrypt(kek: bytes, envelope: bytes, associated: bytes | None) -> bytes:
    iv, tag, ciphertext = (
        envelope[:IV_BYTES],
        envelope[IV_BYTES:OVERHEAD_BYTES],
        envelope[OVERHEAD_BYTES:],
    )
    try:
        return AESGCM(kek).decrypt(iv, ciphertext + tag, associated)
    except InvalidTag:
        msg = "the passphrase does not open this tenant's key"
        hint = (
            "check ATLAS_ENCRYPTION_PASSPHRASE and the tenant id; if both are right, "
            "_meta/dek.enc was changed: restore it from a copy"
        )
        raise KeyMaterialError(msg, hint=hint) from None
