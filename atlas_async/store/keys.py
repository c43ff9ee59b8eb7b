"""Bucket names and object keys: which are possible at all, in any store."""

from __future__ import annotations

import re

from atlas_async.errors import StoreError, StoreMisconfigured

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

MAX_KEY_BYTES = 1024
"""S3's limit on a key's UTF-8 length (docs.aws.amazon.com, "Naming Amazon S3 objects")."""


def check_key(key: str) -> None:
    """Refuse a key that no S3 bucket could hold, or that would not be itself after a round trip.

    Raises:
        StoreError: The key is empty, starts or ends with a slash, has an empty segment, is
            longer than ``MAX_KEY_BYTES`` or is not Unicode text.
    """
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise StoreError("object key is not valid Unicode text", where=ascii(key)) from error
    if not 0 < length <= MAX_KEY_BYTES:
        raise StoreError(
            f"object key is {length} bytes long; S3 allows 1 to {MAX_KEY_BYTES}",
            hint="the mailbox address is part of the key: check it",
            where=key[:80],
        )
    if key[0] == "/" or key[-1] == "/" or "//" in key:
        raise StoreError("object key has an empty segment", where=key)


def check_bucket_name(bucket: str) -> None:
    """Refuse a name that S3 would not take for a bucket (docs.aws.amazon.com, "Bucket naming").

    Raises:
        StoreMisconfigured: The name breaks the rules.
    """
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise StoreMisconfigured(
            "the bucket's name is not one that S3 allows",
            hint="3 to 63 lower-case letters, digits, dots and hyphens: check the tenant id",
            where=ascii(bucket),
        )
