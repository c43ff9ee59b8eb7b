"""A message as MIME (RFC 2045 to 2049): bodies, images that belong to them, attachments.

::

    multipart/mixed                     where there are attachments
    |- multipart/alternative            where the body is HTML
    |  |- text/plain                    the HTML's text
    |  `- multipart/related             where the HTML shows images of its own
    |     |- text/html
    |     `- image/...                  by its Content-ID
    |- application/...                  files, in base64
    `- message/rfc822                   attached messages, as they are

Pure: contents that are not in memory are named in the result, and written when they are read.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from atlas_async.export.headers import message_headers
from atlas_async.export.parameters import OCTETS, multipart_head, part_head, safe_type
from atlas_async.export.pieces import Carry, Enclosure, Piece, Streamed
from atlas_async.export.transfer import base64_lines, lines_of, text_part
from atlas_async.export.words import one_line, well_formed
from atlas_async.model.mail_text import html_to_text
from atlas_async.model.source import JsonObject

_CID: Final = re.compile(r"cid:([^\"'<>\s)]+)", re.IGNORECASE)
_HEADER_LINE: Final = re.compile(rb"\A(\xef\xbb\xbf)?[!-9;-~]+[ \t]*:")
_CUT: Final = "[cut here: the HTML part has the whole text]"


def message_pieces(
    resource: JsonObject, enclosures: Sequence[Enclosure], *, seed: str, extra_headers: bytes = b""
) -> list[Piece]:
    """Return a message with CRLF line ends.

    Args:
        resource: The message as of a snapshot.
        enclosures: Its attachments in order.
        seed: Names the message: the same seed gives the same bytes.
        extra_headers: Headers with their line ends, put after all others.
    """
    composer = _Composer(resource, enclosures, seed)
    head = message_headers(resource, fallback_id=seed) + extra_headers + b"MIME-Version: 1.0\r\n"
    pieces = _joined([head, *composer.pieces()])
    last = pieces[-1]
    return pieces if isinstance(last, bytes) and last.endswith(b"\r\n") else [*pieces, b"\r\n"]


class _Composer:
    """Builds the parts of one message."""

    def __init__(self, resource: JsonObject, enclosures: Sequence[Enclosure], seed: str) -> None:
        body = resource.get("body")
        body = body if isinstance(body, dict) else {}
        content = body.get("content")
        self._text = content if isinstance(content, str) else _preview(resource)
        self._is_html = str(body.get("contentType") or "").lower() == "html"
        shown = _shown_ids(self._text) if self._is_html else frozenset()
        every = list(enumerate(enclosures))
        self._related = [(i, e) for i, e in every if _belongs(e, shown)]
        self._mixed = [(i, e) for i, e in every if not _belongs(e, shown)]
        self._seed = seed
        self._boundaries = 0

    def pieces(self) -> Iterator[Piece]:
        if not self._mixed:
            yield from self._bodies()
            return
        eight_bit = any(_is_embedded(e) and e.looked and e.looked.eight_bit for _, e in self._mixed)
        boundary = self._boundary()
        yield multipart_head("mixed", boundary, eight_bit=bool(eight_bit))
        yield from _opening(boundary)
        yield from self._bodies()
        for index, enclosure in self._mixed:
            yield from _opening(boundary)
            yield from _attached(index, enclosure)
        yield from _closing(boundary)

    def _bodies(self) -> Iterator[Piece]:
        if not self._is_html:
            yield from _text("text/plain", self._text)
            return
        boundary = self._boundary()
        yield multipart_head("alternative", boundary, eight_bit=False)
        yield from _opening(boundary)
        yield from _text("text/plain", html_to_text(self._text, cut=_CUT))
        yield from _opening(boundary)
        if self._related:
            yield from self._with_images()
        else:
            yield from _text("text/html", self._text)
        yield from _closing(boundary)

    def _with_images(self) -> Iterator[Piece]:
        boundary = self._boundary()
        yield multipart_head("related", boundary, eight_bit=False, root="text/html")
        yield from _opening(boundary)
        yield from _text("text/html", self._text)
        for index, enclosure in self._related:
            yield from _opening(boundary)
            yield from _file(index, enclosure, "inline")
        yield from _closing(boundary)

    def _boundary(self) -> str:
        """Return a boundary that neither base64 nor quoted-printable can hold, nor anybody guess.

        The seed has the SHA-256 of the stored message in it, which whoever wrote an attached
        message did not know.
        """
        self._boundaries += 1
        name = f"{self._seed}\0{self._boundaries}".encode("utf-8", "surrogatepass")
        return f"=_{hashlib.sha256(name).hexdigest()[:40]}"


def _preview(resource: JsonObject) -> str:
    preview = resource.get("bodyPreview")
    return preview if isinstance(preview, str) else ""


def _shown_ids(markup: str) -> frozenset[str]:
    found = {html.unescape(name) for name in _CID.findall(markup)}
    return frozenset(name.lower() for raw in found for name in (raw, unquote(raw)))


def _belongs(enclosure: Enclosure, shown: frozenset[str]) -> bool:
    """Tell whether a file is shown by the body, which names it by its content id."""
    record = enclosure.record
    own = record.get("content_id", "").strip("<> ").lower()
    return bool(own) and own in shown and record["type"] == "file" and not enclosure.lost


def _text(content_type: str, text: str) -> Iterator[Piece]:
    encoding, data = text_part(text)
    yield part_head(content_type, encoding=encoding, charset="utf-8")
    yield data


def _attached(index: int, enclosure: Enclosure) -> Iterator[Piece]:
    record = enclosure.record
    if enclosure.lost:
        yield from _note(enclosure)
    elif enclosure.link is not None:
        yield from _link(enclosure)
    elif record["type"] == "item":
        yield from _item(index, enclosure)
    else:
        yield from _file(index, enclosure, "inline" if record["is_inline"] else "attachment")


def _file(index: int, enclosure: Enclosure, disposition: str) -> Iterator[Piece]:
    record = enclosure.record
    kind, charset = safe_type(record["content_type"])
    yield part_head(
        kind,
        encoding="base64",
        charset=charset,
        name=_name(enclosure, "attachment"),
        disposition=disposition,
        content_id=record.get("content_id", ""),
    )
    yield _in_base64(index, enclosure)


def _in_base64(index: int, enclosure: Enclosure) -> Piece:
    if enclosure.content is None:
        return Streamed(index, Carry.BASE64)
    return base64_lines(enclosure.content)


def _is_embedded(enclosure: Enclosure) -> bool:
    """Tell whether an item goes in as a message among the parts: a message, with lines that may."""
    looked = enclosure.looked
    fit = looked is not None and looked.fit and not enclosure.lost
    return fit and looked is not None and _HEADER_LINE.match(looked.start) is not None


def _item(index: int, enclosure: Enclosure) -> Iterator[Piece]:
    looked = enclosure.looked
    start = looked.start.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].upper() if looked else b""
    name = _name(enclosure, "item")
    for mark, kind, ending in (
        (b"BEGIN:VCARD", "text/vcard", ".vcf"),
        (b"BEGIN:VCALENDAR", "text/calendar", ".ics"),
    ):
        if start.startswith(mark):
            yield part_head(
                kind,
                encoding="base64",
                charset="utf-8",
                name=_ended(name, ending),
                disposition="attachment",
            )
            yield _in_base64(index, enclosure)
            return
    name = _ended(name, ".eml")
    if not _is_embedded(enclosure):
        yield part_head(OCTETS, encoding="base64", name=name, disposition="attachment")
        yield _in_base64(index, enclosure)
        return
    encoding = "8bit" if looked and looked.eight_bit else "7bit"
    yield part_head("message/rfc822", encoding=encoding, name=name, disposition="attachment")
    if enclosure.content is None:
        yield Streamed(index, Carry.LINES)
    else:
        yield from lines_of(enclosure.content)


def _link(enclosure: Enclosure) -> Iterator[Piece]:
    """Yield a shortcut, as Windows opens it and everybody can read it, to where the file lies."""
    resource = enclosure.link or {}
    address = next(
        (v for k in ("sourceUrl", "webUrl", "href") if isinstance(v := resource.get(k), str)), ""
    )
    name = _name(enclosure, "link")
    text = f"[InternetShortcut]\nURL={one_line(address)}\n"
    if not address:
        text = f"{name!r} is a link to a file elsewhere. Microsoft Graph did not tell where.\n"
    name = _ended(name, ".url" if address else ".link.txt")
    encoding, data = text_part(text)
    yield part_head(
        "text/plain", encoding=encoding, charset="utf-8", name=name, disposition="attachment"
    )
    yield data


def _note(enclosure: Enclosure) -> Iterator[Piece]:
    """Yield what stands in the place of an attachment that cannot be had."""
    name = _name(enclosure, "attachment")
    encoding, data = text_part(f"The attachment {name!r} is not here: {enclosure.lost}.\n")
    yield part_head(
        "text/plain",
        encoding=encoding,
        charset="utf-8",
        name=_ended(name, ".missing.txt"),
        disposition="attachment",
    )
    yield data


def _name(enclosure: Enclosure, otherwise: str) -> str:
    return one_line(well_formed(enclosure.record["name"])) or otherwise


def _ended(name: str, ending: str) -> str:
    return name if name.lower().endswith(ending) else name + ending


def _opening(boundary: str) -> Iterator[Piece]:
    yield f"\r\n--{boundary}\r\n".encode()


def _closing(boundary: str) -> Iterator[Piece]:
    yield f"\r\n--{boundary}--\r\n".encode()


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the same with neighbouring bytes in one."""
    joined: list[Piece] = []
    held: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            held.append(piece)
            continue
        joined += [b"".join(held), piece]
        held = []
    return [*joined, b"".join(held)] if held else joined
