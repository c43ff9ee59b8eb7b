"""Headers of a part: its type, its name in any language (RFC 2231), its content id (RFC 2392)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from atlas_async.export.words import folded, one_line

OCTETS: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}")
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9_.:-]{1,40})"?', re.IGNORECASE)
_SIMPLE: Final = re.compile(r"[!#-\[\]-~]([ !#-\[\]-~]*[!#-\[\]-~])?")
"""ASCII that may stand between quotes as it is: no quote, no backslash, no space at an end."""
_LONGEST_SIMPLE: Final = 60
_PIECE_CHARS: Final = 55
_UNRESERVED: Final = "!#$&+^_`{}|~."
_CONTENT_ID: Final = re.compile(r"[!#-;=?-~]+")


def safe_type(content_type: str) -> tuple[str, str]:
    """Return type and charset of a file, as base64 may carry them.

    What is no type, and types that are made of parts and may not be encoded (RFC 2045, section
    6.4), become that of any bytes.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not _TYPE.fullmatch(kind) or kind.startswith(("multipart/", "message/")):
        return OCTETS, ""
    charset = _CHARSET.search(content_type)
    return kind, charset[1] if charset and kind.startswith("text/") else ""


def part_head(
    content_type: str,
    *,
    encoding: str,
    name: str = "",
    charset: str = "",
    disposition: str = "",
    content_id: str = "",
) -> bytes:
    """Return the headers of a part and the empty line after them."""
    typed = [content_type]
    if charset:
        typed.append(f'charset="{charset}"')
    placed = [disposition]
    if name:
        typed += parameter("name", name)
        placed += parameter("filename", name)
    head = folded("Content-Type", _separated(typed))
    if encoding:
        head += folded("Content-Transfer-Encoding", [encoding])
    if disposition:
        head += folded("Content-Disposition", _separated(placed))
    if content_id:
        head += folded("Content-ID", [f"<{safe_content_id(content_id)}>"])
    return head + b"\r\n"


def multipart_head(subtype: str, boundary: str, *, eight_bit: bool, root: str = "") -> bytes:
    """Return the headers of a part made of parts. ``root`` is the type of a related part's first.

    ``eight_bit`` says that something inside is not ASCII.
    """
    typed = [f"multipart/{subtype}", f'boundary="{boundary}"']
    if root:
        typed.append(f'type="{root}"')
    head = folded("Content-Type", _separated(typed))
    if eight_bit:
        head += folded("Content-Transfer-Encoding", ["8bit"])
    return head + b"\r\n"


def parameter(name: str, value: str) -> list[str]:
    """Return a parameter, in several pieces where it is long."""
    clean = one_line(value)
    if _SIMPLE.fullmatch(clean) and "=?" not in clean and len(clean) <= _LONGEST_SIMPLE:
        return [f'{name}="{clean}"']
    pieces = [""]
    for char in clean:
        encoded = quote(char, safe=_UNRESERVED)
        if len(pieces[-1]) + len(encoded) > _PIECE_CHARS:
            pieces.append("")
        pieces[-1] += encoded
    if len(pieces) == 1:
        return [f"{name}*=utf-8''{pieces[0]}"]
    marked = [f"utf-8''{pieces[0]}", *pieces[1:]]
    return [f"{name}*{number}*={piece}" for number, piece in enumerate(marked)]


def safe_content_id(content_id: str) -> str:
    """Return a content id without its brackets; characters that it may not have are escaped."""
    bare = one_line(content_id).strip("<>")
    if _CONTENT_ID.fullmatch(bare) and len(bare) <= 900:  # noqa: PLR2004 -- a line has 998
        return bare
    return quote(bare, safe="@!#$&+^_`{}|~.=/?*'-")[:900]


def _separated(pieces: list[str]) -> list[str]:
    return [*(f"{piece};" for piece in pieces[:-1]), pieces[-1]]
