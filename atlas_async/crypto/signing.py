"""Signing reports with a key that follows from the tenant's: Ed25519 (RFC 8032), HKDF (RFC 5869).

Whoever holds the public key can check a report without any access to the backups; only who can open
the backups can sign one. What is signed is of a form that every program makes the same bytes of:
text, truth values, null and whole numbers, no others.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import IntegrityError, UsageError
from atlas_async.model.source import JsonObject

PURPOSE: Final = b"atlas_async report signature 1"
ALGORITHM: Final = "Ed25519"
KEY_BYTES: Final = 32
LARGEST_NUMBER: Final = (1 << 53) - 1
"""Whole numbers beyond it are not exact in programs that know floating point only."""


class Signer:
    """Signs documents for one tenant.

    Args:
        sealer: Holds the tenant's DEK, which the signing key is derived from and not found out by.
    """

    def __init__(self, sealer: Sealer) -> None:
        derived = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=PURPOSE).derive(sealer.reveal())
        self._key = Ed25519PrivateKey.from_private_bytes(derived)

    @property
    def public_key(self) -> str:
        """The public key in hex."""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return raw.hex()

    def sign(self, document: JsonObject) -> JsonObject:
        """Return the document with ``signature``: algorithm, public key and value (base64).

        Lone surrogates are replaced, as others cannot read them.

        Raises:
            TypeError: It holds what programs spell differently: a float, or too large a number.
        """
        unsigned = {
            name: _spelled_alike(value) for name, value in document.items() if name != "signature"
        }
        value = base64.b64encode(self._key.sign(canonical(unsigned))).decode("ascii")
        return {
            **unsigned,
            "signature": {"algorithm": ALGORITHM, "public_key": self.public_key, "value": value},
        }


def canonical(document: JsonObject) -> bytes:
    """Return what is signed: JSON in ASCII, names sorted, without spaces."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def _spelled_alike(value: Any) -> Any:
    """Return JSON that every program spells with the same bytes."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case None | bool():
            return value
        case int() if abs(value) <= LARGEST_NUMBER:
            return value
        case list():
            return [_spelled_alike(item) for item in value]
        case dict():
            return {str(name): _spelled_alike(item) for name, item in value.items()}
        case _:
            msg = f"programs differ in how they write {type(value).__name__}, so it is not signed"
            raise TypeError(msg)


def read_public_key(text: str) -> str:
    """Return a public key in hex as the program writes it.

    Raises:
        UsageError: It is none.
    """
    key = text.strip().lower()
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", key):
        raise UsageError(
            f"{text.strip()[:80]!r} is no public key: it has {2 * KEY_BYTES} hex digits",
            hint="`atlas drill --report` shows it, and a report has it below signature.public_key",
        )
    return key


def check_signature(document: JsonObject, public_key: str) -> None:
    """Make sure that a document was signed with the key that ``public_key`` (hex) belongs to.

    Raises:
        UsageError: What is given is no public key.
        IntegrityError: It was not, or was changed since.
    """
    wanted = read_public_key(public_key)
    signature = document.get("signature")
    if not isinstance(signature, dict) or signature.get("algorithm") != ALGORITHM:
        raise IntegrityError("the report is not signed", hint="give a report of `atlas drill`")
    given = str(signature.get("public_key"))[:80]
    if given != wanted:
        what = f"the report is signed with another key, {given!r}"
        raise IntegrityError(what, hint="do not rely on it")
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(wanted))
        key.verify(
            base64.b64decode(str(signature.get("value")), validate=True), canonical(unsigned)
        )
        is_ours = signature.keys() == {"algorithm", "public_key", "value"}
    except (InvalidSignature, ValueError, binascii.Error):
        is_ours = False
    if not is_ours:
        what = "the report was changed after it was signed"
        raise IntegrityError(what, hint="do not rely on it")
