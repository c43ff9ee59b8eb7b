"""Client assertions: JWTs that an application signs with its certificate's key."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from atlas_async.emulator.tenant import Registration

_SKEW: Final = 300
"""Seconds by which clocks may differ."""
_DOTS: Final = 2


class AssertionRefused(Exception):
    """The assertion does not prove anything. ``code`` is Entra's AADSTS number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class _Jwt:
    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def claimed_client(assertion: str) -> str:
    """Return the client id that the assertion claims, unchecked; empty when it is no JWT."""
    try:
        return str(_parse(assertion).claims.get("iss", ""))
    except AssertionRefused:
        return ""


def check_assertion(
    assertion: str, app: Registration, audiences: frozenset[str], now: datetime
) -> None:
    """Check signature, audience, issuer and time window. Raises ``AssertionRefused``."""
    jwt = _parse(assertion)
    algorithm = jwt.header.get("alg")
    print_ = str(jwt.header.get("x5t#S256") or jwt.header.get("x5t") or jwt.header.get("kid"))
    print_ = print_.rstrip("=")  # msal sends the thumbprint padded
    # Some libraries keep the base64 padding that the standard drops.
    key = app.keys.get(print_.rstrip("="))
    if key is None:
        raise AssertionRefused(
            700027,
            "The certificate with identifier used to sign the client assertion is not "
            "registered on application. [Reason - The key was not found.]",
        )
    if algorithm not in {"RS256", "PS256"} or not _signed_by(key, str(algorithm), jwt):
        raise AssertionRefused(
            700027,
            "Client assertion failed signature validation. "
            "[Reason - The key used is expired or does not match.]",
        )
    if jwt.claims.get("iss") != app.client_id or jwt.claims.get("sub") != app.client_id:
        raise AssertionRefused(
            700023, "Client assertion issuer and subject do not match the client_id."
        )
    if str(jwt.claims.get("aud", "")).lower() not in audiences:
        raise AssertionRefused(
            700023, "Client assertion audience claim does not match the realm issuer."
        )
    stamp = now.timestamp()
    begins = float(jwt.claims.get("nbf", stamp))
    ends = float(jwt.claims.get("exp", 0))
    if not begins - _SKEW <= stamp <= ends + _SKEW:
        raise AssertionRefused(
            700024, "Client assertion is not within its valid time range. Check the clock."
        )


def _signed_by(key: rsa.RSAPublicKey, algorithm: str, jwt: _Jwt) -> bool:
    digest = hashes.SHA256()
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm == "PS256":
        scheme = padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)
    try:
        key.verify(jwt.signature, jwt.signed, scheme, digest)
    except InvalidSignature:
        return False
    return True


def _parse(assertion: str) -> _Jwt:
    pieces = assertion.split(".")
    malformed = AssertionRefused(50027, "JWT token is invalid or malformed.")
    if assertion.count(".") != _DOTS:
        raise malformed
    try:
        header, claims, signature = (
            base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)) for piece in pieces
        )
        decoded = [orjson.loads(header), orjson.loads(claims)]
    except (binascii.Error, ValueError) as error:
        raise malformed from error
    if not all(isinstance(part, dict) for part in decoded):
        raise malformed
    signed = f"{pieces[0]}.{pieces[1]}".encode()
    return _Jwt(decoded[0], decoded[1], signed, signature)
