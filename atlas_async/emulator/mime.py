"""MIME renderings: what ``$value`` answers for messages and item attachments, piece by piece."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from typing import Any, Final

from atlas_async.emulator.blobs import chunks
from atlas_async.emulator.parts import Part, PartKind

_LINE: Final = 57
_CHUNK: Final = _LINE * 4096
_CRLF: Final = b"\r\n"


def message_mime(message: dict[str, Any], parts: Sequence[Part]) -> Iterator[bytes]:
    """Yield the MIME form of a message resource with its attachments."""
    seed = f"{message.get('internetMessageId')}{message.get('subject')}"
    boundary = "_" + hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:32] + "_"
    yield _headers(message)
    carried = [part for part in parts if part.blob is not None]
    if not carried:
        yield _body(message)
        return
    yield f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode()
    yield f"--{boundary}\r\n".encode()
    yield _body(message)
    for part in carried:
        yield f"--{boundary}\r\n".encode()
        yield from _part(part)
    yield f"--{boundary}--\r\n".encode()


def _headers(message: dict[str, Any]) -> bytes:
    sent = message.get("sentDateTime")
    lines = [
        ("From", _addresses([message["from"]] if message.get("from") else [])),
        ("To", _addresses(message.get("toRecipients") or [])),
        ("Cc", _addresses(message.get("ccRecipients") or [])),
        ("Subject", _encoded(str(message.get("subject") or ""))),
        ("Date", format_datetime(datetime.fromisoformat(sent)) if sent else ""),
        ("Message-ID", str(message.get("internetMessageId") or "")),
        ("MIME-Version", "1.0"),
    ]
    return "".join(f"{name}: {value}\r\n" for name, value in lines if value).encode("ascii")


def _addresses(recipients: list[dict[str, Any]]) -> str:
    shown = []
    for recipient in recipients:
        address = recipient.get("emailAddress") or {}
        name = _encoded(str(address.get("name") or ""))
        shown.append(f"{name} <{address.get('address', '')}>".strip())
    return _ascii(",\r\n\t".join(shown))


def _encoded(text: str) -> str:
    clean = text.replace("\r", " ").replace("\n", " ")
    if clean.isascii() and clean.isprintable():
        return clean
    return Header(clean.encode("utf-8", "replace").decode(), "utf-8").encode(linesep="\r\n")


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def _body(message: dict[str, Any]) -> bytes:
    body = message.get("body") or {}
    kind = "html" if str(body.get("contentType", "text")).lower() == "html" else "plain"
    content = str(body.get("content") or "").encode("utf-8", "replace")
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + base64.encodebytes(content).replace(b"\n", _CRLF) + _CRLF


def _part(part: Part) -> Iterator[bytes]:
    name = _ascii(part.name).replace('"', "'")
    if part.blob is None:
        return
    if part.kind is PartKind.ITEM:
        yield f'Content-Type: message/rfc822; name="{name}"\r\n\r\n'.encode()
        yield from chunks(part.blob)
        yield _CRLF
        return
    disposition = "inline" if part.inline else "attachment"
    lines = [
        f'Content-Type: {part.content_type or "application/octet-stream"}; name="{name}"',
        f'Content-Disposition: {disposition}; filename="{name}"; size={part.blob.size}',
        *([f"Content-ID: <{part.content_id}>"] if part.content_id else []),
        "Content-Transfer-Encoding: base64",
    ]
    yield "\r\n".join(lines).encode("ascii", "replace") + _CRLF + _CRLF
    for piece in chunks(part.blob, size=_CHUNK):
        yield base64.encodebytes(piece).replace(b"\n", _CRLF)
    yield _CRLF
