"""Catalog documents: JSON, deflated, sealed. ``AAC1`` | deflate(JSON), then the envelope."""

from __future__ import annotations

import zlib
from typing import Final, cast

from atlas_async.errors import FormatError, NewerFormat
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.source import JsonObject

MAGIC: Final = b"AAC1"
MAX_BYTES: Final = 256 << 20
"""A catalog document that inflates beyond this is refused: none that was written is so large."""


def pack(document: JsonObject) -> bytes:
    """Return the plaintext of a catalog document."""
    return MAGIC + zlib.compress(dump_json(document), 1)


def unpack(plaintext: bytes, *, kind: str, where: str) -> JsonObject:
    """Parse the plaintext of a catalog document.

    Raises:
        FormatError: It is of another form, another ``kind``, or a newer format than this program.
    """
    if plaintext[:4] != MAGIC:
        msg = "not a catalog document"
        raise FormatError(msg, where=where)
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(plaintext[4:], MAX_BYTES)
        if not inflater.eof or inflater.unused_data:
            raise ValueError("it does not end where it should")
        document = load_json(text)
    except (zlib.error, ValueError) as error:
        msg = f"catalog document cannot be parsed: {error}"
        raise FormatError(msg, where=where) from None
    if not isinstance(document, dict) or document.get("kind") != kind:
        msg = f"catalog document is not a {kind}"
        raise FormatError(msg, where=where)
    check_format(document, where=where)
    return cast("JsonObject", document)


UPDATE: Final = "a newer atlas_async wrote it: update this one; nothing was changed"

FORMAT: Final = 1
"""Version of all below ``catalog/``; raised only for changes old readers must not ignore."""


def check_format(document: JsonObject, *, where: str) -> None:
    """Refuse a document of a newer format.

    Raises:
        NewerFormat: ``format`` is higher than ``FORMAT``.
        FormatError: It is missing.
    """
    version = document.get("format")
    if not isinstance(version, int):
        msg = f"catalog document without a format version: {version!r:.40}"
        raise FormatError(msg, where=where)
    if version > FORMAT:
        msg = f"format version {version} is not known to this program (it knows {FORMAT})"
        raise NewerFormat(msg, where=where, hint=UPDATE)
