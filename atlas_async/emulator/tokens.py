"""Access tokens: JWTs signed with the emulator's own key, remembered until they end."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from atlas_async.clock import Clock


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows, to whom, until when."""

    app_id: str
    roles: frozenset[str]
    expires: datetime


class TokenDesk:
    """Issues, checks and revokes access tokens.

    Args:
        clock: Dates the tokens.
        key: Signs them; made with ``make_signing_key``.
    """

    def __init__(self, clock: Clock, key: rsa.RSAPrivateKey) -> None:
        self._clock = clock
        self._key = key
        self._kid = uuid.uuid4().hex
        self._grants: dict[str, Grant] = {}

    def issue(
        self,
        *,
        tenant: str,
        app_id: str,
        roles: tuple[str, ...],
        audience: str,
        issuer: str,
        lifetime: int,
    ) -> str:
        """Return a new token that lives for ``lifetime`` seconds."""
        now = self._clock.now()
        self._forget_ended(now)
        begins = int(now.timestamp())
        token = encode_jwt(
            {"kid": self._kid},
            {
                "aud": audience,
                "iss": issuer,
                "iat": begins,
                "nbf": begins,
                "exp": begins + lifetime,
                "appid": app_id,
                "appidacr": "1",
                "idtyp": "app",
                "oid": str(uuid.uuid5(uuid.NAMESPACE_URL, app_id)),
                "roles": list(roles),
                "tid": tenant,
                "uti": uuid.uuid4().hex,
                "ver": "1.0",
            },
            self._key,
        )
        ends = now + timedelta(seconds=lifetime)
        self._grants[token] = Grant(app_id, frozenset(roles), ends)
        return token

    def grant(self, token: str) -> Grant | None:
        """Return what a token allows, or None when it is unknown, ended or revoked."""
        found = self._grants.get(token)
        return found if found is not None and found.expires > self._clock.now() else None

    def revoke_all(self) -> int:
        """Refuse every token issued so far; returns how many there were."""
        count = len(self._grants)
        self._grants.clear()
        return count

    def jwk(self) -> dict[str, str]:
        """Return the public key in JSON Web Key form."""
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self._kid,
            "n": _number(numbers.n),
            "e": _number(numbers.e),
        }

    def _forget_ended(self, now: datetime) -> None:
        ended = [token for token, grant in self._grants.items() if grant.expires <= now]
        for token in ended:
            del self._grants[token]


def make_signing_key() -> rsa.RSAPrivateKey:
    """Return a new key. Takes about a tenth of a second; call it in a thread."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encode_jwt(header: Mapping[str, Any], claims: Mapping[str, Any], key: rsa.RSAPrivateKey) -> str:
    """Return a JWT signed with RS256."""
    head = segment(orjson.dumps({"typ": "JWT", "alg": "RS256", **header}))
    signed = f"{head}.{segment(orjson.dumps(dict(claims)))}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{segment(signature)}"


def segment(data: bytes) -> str:
    """Return bytes as a JWT segment: base64url without padding."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _number(value: int) -> str:
    return segment(value.to_bytes((value.bit_length() + 7) // 8, "big"))
