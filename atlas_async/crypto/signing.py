"""Signing reports with a key that follows from the tenant's: Ed25519 (RFC 8032), HKDF (RFC 5869).

Whoever holds the public key can check a report without any access to the backups; only who can open
the backups can sign one.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import IntegrityError
from atlas_async.model.source import JsonObject

PURPOSE: Final = b"atlas_async report signature 1"
ALGORITHM: Final = "Ed25519"
KEY_BYTES: Final = 32


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
        """Return the document with ``signature``: algorithm, public key and value (base64)."""
        unsigned = {name: value for name, value in document.items() if name != "signature"}
        value = base64.b64encode(self._key.sign(canonical(unsigned))).decode("ascii")
        return {
            **unsigned,
            "signature": {"algorithm": ALGORITHM, "public_key": self.public_key, "value": value},
        }


def canonical(document: JsonObject) -> bytes:
    """Return what is signed: JSON in ASCII, names sorted, without spaces."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def check_signature(document: JsonObject, public_key: str) -> None:
    """Make sure that a document was signed with the key that ``public_key`` (hex) belongs to.

    Raises:
        IntegrityError: It was not, or was changed since.
    """
    signature = document.get("signature")
    if not isinstance(signature, dict) or signature.get("algorithm") != ALGORITHM:
        raise IntegrityError("the report is not signed", hint="give a report of `atlas drill`")
    unsigned = {name: value for name, value in document.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(
            base64.b64decode(str(signature.get("value")), validate=True), canonical(unsigned)
        )
    except (InvalidSignature, ValueError, binascii.Error):
        given = str(signature.get("public_key"))[:80]
        what = (
            "the report was changed after it was signed"
            if given == public_key.lower()
            else f"the report is signed with another key, {given!r}"
        )
        raise IntegrityError(what, hint="do not rely on it") from None
