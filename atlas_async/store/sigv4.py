"""AWS Signature Version 4 for S3, in the standard library.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. S3 differs from other
services in that the path is percent-encoded once and never normalised.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from atlas_async.config.secret import Secret

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_RESERVED = re.compile(r"[^A-Za-z0-9\-._~]+")
_RESERVED_IN_PATH = re.compile(r"[^A-Za-z0-9\-._~/]+")
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs a request. ``token`` belongs to temporary credentials."""

    access_key: str
    secret_key: Secret
    token: Secret | None = None


def encode_path(path: str) -> str:
    """Return ``path`` percent-encoded as S3 wants it: all but unreserved characters and ``/``."""
    return _RESERVED_IN_PATH.sub(_percent, path)


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Return the query string, encoded and sorted, that is both sent and signed."""
    pairs = [
        (_RESERVED.sub(_percent, name), _RESERVED.sub(_percent, text))
        for name, text in parameters.items()
    ]
    return "&".join(f"{name}={text}" for name, text in sorted(pairs))


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], payload_hash: str
) -> tuple[str, str]:
    """Return the canonical request and the list of signed headers.

    Args:
        method: Upper-case HTTP method.
        path: The path as sent, already encoded.
        query: The query string as sent, already encoded and sorted.
        headers: Every header to sign, by lower-case name, values without outer spaces.
        payload_hash: Hex SHA-256 of the body, or ``UNSIGNED-PAYLOAD``.
    """
    names = sorted(headers)
    lines = "".join([f"{name}:{headers[name]}\n" for name in names])
    signed = ";".join(names)
    return f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload_hash}", signed


def signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """Derive the key that signs one day's requests (``day`` as ``YYYYMMDD``)."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def timestamp(moment: datetime) -> str:
    """Return ``moment`` as ``x-amz-date`` wants it: ``20130524T000000Z``."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


@dataclass(slots=True)
class Signer:
    """Signs requests for one region, deriving the signing key once a day and credential."""

    region: str
    service: str = "s3"
    _derived: tuple[str, Credentials | None, bytes] = field(default=("", None, b""), repr=False)

    def authorization(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
    ) -> str:
        """Return the ``Authorization`` header.

        ``headers`` are all headers to sign; among them ``x-amz-date`` and
        ``x-amz-content-sha256``. See ``canonical_request`` for their form.
        """
        moment = headers["x-amz-date"]
        day = moment[:8]
        request, signed = canonical_request(
            method, path, query, headers, headers["x-amz-content-sha256"]
        )
        scope = f"{day}/{self.region}/{self.service}/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"
        signature = hmac.digest(self._key(day, credentials), to_sign.encode(), "sha256").hex()
        return (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )

    def _key(self, day: str, credentials: Credentials) -> bytes:
        known_day, known, key = self._derived
        if known is not credentials or known_day != day:
            key = signing_key(credentials.secret_key.reveal(), day, self.region, self.service)
            self._derived = (day, credentials, key)
        return key


def _percent(found: re.Match[str]) -> str:
    return "".join([f"%{byte:02X}" for byte in found[0].encode()])
