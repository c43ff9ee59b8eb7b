"""File names of a directory store: object keys, with the few unsafe characters escaped."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from atlas_async.errors import StoreError
from atlas_async.store.keys import check_key

MAX_NAME_BYTES = 200
"""Longest file name used, in bytes: file systems stop at 255, encrypting overlays near 200."""

_UNSAFE = re.compile(r"^\.|[\x00-\x1f\x7f\\:]|%(?=[0-9A-Fa-f]{2})")
_ESCAPE = re.compile("(?:%[0-9A-Fa-f]{2})+")


def encode_segment(segment: str) -> str:
    """Return the file name for one key segment.

    Escaped as ``%XX``: a leading dot (``.``, ``..`` and this program's own directories), control
    characters, backslash, colon, and a percent sign that would read as an escape. Everything
    else, ``@`` and Unicode included, stands for itself, so that a plain copy of the tree is the
    bucket.
    """
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", segment)


def decode_segment(name: str) -> str | None:
    """Return the key segment a file name stands for, or None when no segment encodes to it."""
    try:
        segment = _ESCAPE.sub(lambda found: unquote_to_bytes(found[0]).decode(), name)
        segment.encode()
    except UnicodeError:
        return None
    return segment if encode_segment(segment) == name else None


def encode_key(key: str) -> str:
    """Return the relative path of ``key``.

    Raises:
        StoreError: No file system would take the name, or no store the key.
    """
    check_key(key)
    names = [encode_segment(segment) for segment in key.split("/")]
    for name in names:
        if len(name.encode()) > MAX_NAME_BYTES:
            raise StoreError(
                f"a part of the object key is longer than {MAX_NAME_BYTES} bytes, "
                "too long for a file name",
                hint="keep this mailbox in an S3 store",
                where=key[:80],
            )
    return "/".join(names)
