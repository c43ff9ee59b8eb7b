"""What an S3 server's refusals mean, and what the reader of the message can do about them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from xml.sax.saxutils import unescape

from atlas_async.errors import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreAuthError,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreTransient,
)
from atlas_async.store.s3_headers import http_date
from atlas_async.store.s3_transport import LATER

MAX_ERROR_BYTES = 64 << 10
"""How much of an error's body is read."""
MAX_SKEW_SECONDS = 900
"""AWS refuses requests signed more than 15 minutes off (RequestTimeTooSkewed)."""

LONGEST_WAIT = 366 * 86_400.0
"""Nobody means more seconds than this, nor can they be reckoned with."""

_TAG = re.compile(r"<(Code|Message|Region|Endpoint|BucketName)>([^<]{0,2000})</\1>")
_WRONG_KEYS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidSecurity",
    "XAdminUserNotFound",
}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "NotSignedUp", "Forbidden"}
_REGION = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
    "InvalidRegion",
    "InvalidLocationConstraint",
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull"}
_PASSING = {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "RequestTimeout",
    "ServiceUnavailable",
    "InternalError",
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "ConditionalRequestConflict",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Fault:
    """An S3 error answer, taken apart.

    ``code`` is S3's error code, or empty where the answer had no body; ``skew`` is how many
    seconds the server's clock is ahead of ours.
    """

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    retry_after: float = 0.0
    skew: float = 0.0


def parse_fault(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Fault:
    """Take an error answer apart. Only a few plain tags are looked for: no XML parser, no entities.

    Args:
        status: HTTP status.
        headers: Response headers by lower-case name.
        body: Up to ``MAX_ERROR_BYTES`` of the body.
        now: Our wall time, for the skew.
    """
    text = body.decode("utf-8", "replace")
    tags: dict[str, str] = {}
    for tag, content in _TAG.findall(text):
        tags.setdefault(tag, unescape(content, {"&quot;": '"', "&apos;": "'", "&#39;": "'"}))
    code = tags.get("Code") or headers.get("x-minio-error-code", "")
    if not code and "HTTP request to an HTTPS server" in text:
        code = "PlainHttpToTls"
    return Fault(
        status,
        code,
        tags.get("Message", ""),
        headers.get("x-amz-bucket-region", "") or tags.get("Region", ""),
        _retry_after(headers, now),
        _skew(headers.get("date", ""), now),
    )


def store_error(fault: Fault, action: str, bucket: str, where: str) -> StoreError:
    """Return the error for ``fault``.

    Args:
        fault: What the server said.
        action: The S3 permission that was used, such as ``s3:PutObject``.
        bucket: The bucket's name.
        where: Bucket and key, for the message.
    """
    said = f"{fault.code or f'HTTP {fault.status}'}: {fault.message}".rstrip(": ")
    skewed = abs(fault.skew) > MAX_SKEW_SECONDS and fault.status in {400, 403}
    if skewed or fault.code == "RequestTimeTooSkewed":
        return _skew_error(fault, where)
    if fault.code in _FULL or fault.status == 507:  # noqa: PLR2004 - Insufficient Storage
        return StoreFull(
            f"the store has no space left: {said}",
            hint="free space or raise the quota; what was stored is intact, run again afterwards",
            where=where,
        )
    for translate in (_absence, _access, _configuration):
        error = translate(fault, said, action, bucket, where)
        if error is not None:
            return error
    if fault.code in _PASSING or fault.status in _PASSING_STATUS:
        return StoreTransient(
            f"the store could not answer: {said}",
            retry_after=fault.retry_after,
            hint=LATER,
            where=where,
        )
    return StoreError(
        f"the store refused: {said}",
        hint="check ATLAS_S3_ENDPOINT, and that nothing between here and the store answers for it",
        where=where,
    )


def _absence(fault: Fault, _said: str, action: str, bucket: str, where: str) -> StoreError | None:
    unnamed = fault.status == 404 and not fault.code  # noqa: PLR2004 - Not Found
    if fault.code == "NoSuchBucket" or (unnamed and action == "s3:ListBucket"):
        return BucketNotFound(
            f"the bucket {bucket} does not exist",
            hint="check the tenant id and the endpoint; a backup creates the bucket",
            where=where,
        )
    if fault.status == 412:  # noqa: PLR2004 - Precondition Failed
        return ObjectExists("the key is taken", where=where)
    if fault.code == "NoSuchKey" or unnamed:
        return ObjectNotFound("no such object", where=where)
    return None


def _access(fault: Fault, said: str, action: str, bucket: str, where: str) -> StoreError | None:
    if fault.code in _WRONG_KEYS:
        return StoreAuthError(
            f"the store does not accept the credentials: {said}",
            hint="check ATLAS_S3_ACCESS_KEY and ATLAS_S3_SECRET_KEY, or renew the AWS session",
            where=where,
        )
    if fault.code == "BucketAlreadyExists":
        return StoreAuthError(
            f"the bucket {bucket} belongs to somebody else",
            hint="use the credentials of the account that owns it, or another endpoint",
            where=where,
        )
    if fault.code in _DENIED or fault.status in {401, 403}:
        also = " and s3:ListBucket (without it absent objects are refused too)"
        reads = action == "s3:GetObject"
        return StoreAuthError(
            f"the store denies {action} on {bucket}: {said}",
            hint=f"grant {action}{also if reads else ''} on bucket {bucket} to this access key",
            where=where,
        )
    return None


def _configuration(
    fault: Fault, said: str, _action: str, bucket: str, where: str
) -> StoreError | None:
    if fault.code in _REGION or fault.status in {301, 307, 308}:
        named = f"set ATLAS_S3_REGION={fault.region}" if fault.region else "set ATLAS_S3_REGION"
        return StoreMisconfigured(
            f"the bucket {bucket} is in another region: {said}",
            hint=f"{named}, and an ATLAS_S3_ENDPOINT of that region or none",
            where=where,
        )
    if fault.code == "PlainHttpToTls":
        return StoreMisconfigured(
            "the S3 endpoint expects https",
            hint="write ATLAS_S3_ENDPOINT with https://",
            where=where,
        )
    if fault.code == "InvalidBucketName":
        return StoreMisconfigured(
            f"the store does not allow the bucket name {bucket}: {said}",
            hint="check the tenant id",
            where=where,
        )
    return None


def _skew_error(fault: Fault, where: str) -> StoreMisconfigured:
    direction = "behind" if fault.skew > 0 else "ahead of"
    # A server that does not tell its time says only that ours is wrong.
    by = f"{abs(fault.skew):.0f} seconds {direction}" if abs(fault.skew) >= 1 else "too far from"
    return StoreMisconfigured(
        f"this machine's clock is {by} the store's",
        hint="synchronise the clock (NTP): requests are signed with the time",
        where=where,
    )


def _skew(date: str, now: datetime) -> float:
    theirs = http_date(date)
    return (theirs - now).total_seconds() if theirs is not None else 0.0


def _retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds that the answer asks to wait, given as a number or as a date; else 0."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(float(text), LONGEST_WAIT)
    until = http_date(text)
    if until is None:
        return 0.0
    began = http_date(headers.get("date", "")) or now
    return min(max(0.0, (until - began).total_seconds()), LONGEST_WAIT)
