"""An HTTP answer, and where it ends: which bytes belong to it, and whether more may follow.

Two readers, one result. ``whole_answer`` takes the common answer that came in one piece; it judges
only what it is sure of and leaves everything else to ``AnswerReader``, which asks llhttp.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from atlas_async.store.s3_errors import MAX_ERROR_BYTES

MAX_HEAD_BYTES = 64 << 10
"""Largest status line and header fields, interim answers included. S3 allows 8 KiB of metadata."""
FIRST_REFUSAL = 300
"""The first status that is no success. Redirects are not followed, so they are refusals too."""
_BODYLESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_END = b"\r\n\r\n"
_LONGEST_LENGTH = 15
"""Digits of a Content-Length that ``whole_answer`` reads; far more than came in one piece."""
_HEAD = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*+\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
)


class BrokenAnswer(Exception):
    """What came is not an HTTP/1 answer that this client can take."""


class AnswerTooLong(Exception):
    """The body of a success is longer than the caller is ready to take."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the object has more than the {most} bytes that were expected")


@dataclass(frozen=True, slots=True)
class Answer:
    """One final answer, read whole.

    ``headers`` have lower-case names; repeated ones are joined with commas. The body of a refusal
    holds at most ``MAX_ERROR_BYTES``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def header_map(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return fields by lower-case name; fields of one name are joined as HTTP defines."""
    headers: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def whole_answer(data: bytes, *, bodyless: bool) -> Answer | None:
    """Return the answer that ``data`` is, exactly and whole, or None when unsure.

    After such an answer the connection can be used again. ``bodyless`` says that HEAD was asked.
    """
    found = _HEAD.match(data)
    if found is None or (end := found.end()) > MAX_HEAD_BYTES:
        return None
    status = int(found[1])
    lines = found[2].decode("utf-8", "surrogateescape").split("\r\n")
    fields = [line.partition(":") for line in lines[:-1]]
    headers = {name.lower(): value.strip(" \t") for name, _, value in fields}
    if len(headers) != len(fields):
        headers = header_map([(name, value.strip(" \t")) for name, _, value in fields])
    body = data[end:]
    plain = (
        "transfer-encoding" not in headers
        and headers.get("connection", "keep-alive").lower() == "keep-alive"
        and status not in _BODYLESS
    )
    if not plain or not _measured(headers.get("content-length"), len(body), bodyless=bodyless):
        return None
    if status >= FIRST_REFUSAL and len(body) > MAX_ERROR_BYTES:
        return None
    return Answer(status, headers, body)


def _measured(length: str | None, size: int, *, bodyless: bool) -> bool:
    """Whether a body of ``size`` bytes is exactly what Content-Length announces."""
    if length is None:
        return bodyless and size == 0
    if not (length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH):
        return False
    return size == 0 if bodyless else size == int(length)


class _Parts:
    """What llhttp tells of one message."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []
        self.body: list[bytes] = []
        self.headed = False
        self.complete = False
        self.followed = False

    def on_message_begin(self) -> None:
        self.followed = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:  # later ones are trailers
            text = value.decode("utf-8", "surrogateescape").strip(" \t")
            self.fields.append((name.decode("ascii"), text))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


class AnswerReader:
    """Reads one final answer, piece by piece. ``answer`` is None until it is complete.

    Head blocks are cut out first and given to llhttp one by one. Bodies of known length are
    counted, chunked ones decoded by llhttp. So the end of the answer is known to the byte, and
    ``reusable`` is true only where nothing came after it and more answers may.
    """

    def __init__(self, *, bodyless: bool, most: int | None = None) -> None:
        self.answer: Answer | None = None
        self.reusable = False
        self._bodyless = bodyless
        self._most = most
        self._head = b""
        self._head_bytes = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._lasting = False
        self._parser: HttpResponseParser | None = None
        self._parts = _Parts()
        self._chunked = False
        self._missing: int | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """Read a piece; not to be called once ``answer`` is there.

        Raises:
            BrokenAnswer: It is no answer.
            AnswerTooLong: It is a success with a body longer than ``most``.
        """
        if self._status == 0:
            self._head += data
            data = self._read_heads()
            if self._status == 0:
                return
        if self.answer is not None:
            self.reusable = self._lasting and not data
        elif self._chunked:
            self._read_chunks(data)
        elif self._missing is not None:
            self._count(data, self._missing)
        else:
            self._keep(data)

    def end(self) -> bool:
        """Take the end of the connection; return whether it completed the answer."""
        if self.answer is None and self._status and not self._chunked and self._missing is None:
            self._complete()
        return self.answer is not None

    def _read_heads(self) -> bytes:
        """Read head blocks up to the final one; return what follows it."""
        while (end := self._head.find(_END)) >= 0:
            block, self._head = self._head[: end + 4], self._head[end + 4 :]
            self._head_bytes += len(block)
            self._bound()
            if self._read_head(block) >= HTTPStatus.OK:
                rest, self._head = self._head, b""
                return rest
        self._bound(len(self._head))
        if not self._head.startswith(b"HTTP/"[: len(self._head)]):
            raise BrokenAnswer("the server does not speak HTTP/1")
        return b""

    def _bound(self, more: int = 0) -> None:
        if self._head_bytes + more > MAX_HEAD_BYTES:
            raise BrokenAnswer(f"the answer's header is larger than {MAX_HEAD_BYTES} bytes")

    def _read_head(self, block: bytes) -> int:
        parts = _Parts()
        parser = HttpResponseParser(parts)
        _execute(parser, block)
        status = parser.get_status_code()
        if not parts.headed or status == HTTPStatus.SWITCHING_PROTOCOLS or status < 100:  # noqa: PLR2004 - the first status there is
            raise BrokenAnswer("the answer's head is not one of HTTP/1")
        if status >= HTTPStatus.OK:
            self._headers = header_map(parts.fields)
            self._frame(status, parser, parts)
        return status

    def _frame(self, status: int, parser: HttpResponseParser, parts: _Parts) -> None:
        """Decide how the body of the final answer is bounded."""
        headers = self._headers
        options = {text.strip().lower() for text in headers.get("connection", "").split(",")}
        self._lasting = parser.get_http_version() == "1.1" and "close" not in options
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        self._status = status
        if self._bodyless or status in _BODYLESS:
            self._complete()
        elif coding is not None:
            if coding.lower() != "chunked":
                raise BrokenAnswer(f"the answer's body has the transfer coding {coding!r}")
            self._chunked, self._parser, self._parts = True, parser, parts
        elif length is not None:
            self._missing = int(length)
            self._check_length(self._missing)
            if self._missing == 0:
                self._complete()

    def _read_chunks(self, data: bytes) -> None:
        parts = self._parts
        self._tail = (self._tail + data)[-len(_END) - 1 :]
        broken = False
        try:
            _execute(self._parser, data)
        except BrokenAnswer:
            if not parts.complete:
                raise
            broken = True
        for piece in parts.body:
            self._keep(piece)
        parts.body.clear()
        if parts.complete and self.answer is None:
            # llhttp passes over line ends between messages: the last bytes tell whether any came.
            clean = self._tail.endswith(_END) and self._tail[:1] not in b"\r\n"
            self.reusable = self._lasting and clean and not broken and not parts.followed
            self._complete()

    def _count(self, data: bytes, missing: int) -> None:
        self._keep(data[:missing])
        self._missing = missing - len(data)
        if self._missing <= 0 and self.answer is None:
            self.reusable = self._lasting and self._missing == 0
            self._complete()

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of the body; a refusal that is too long ends here, unusable for more."""
        if self.answer is not None:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        self._check_length(self._size)
        if self._status >= FIRST_REFUSAL and self._size > MAX_ERROR_BYTES:
            self._complete()

    def _check_length(self, size: int) -> None:
        if self._most is not None and size > self._most and self._status < FIRST_REFUSAL:
            raise AnswerTooLong(self._most)

    def _complete(self) -> None:
        body = b"".join(self._pieces)
        if self._status >= FIRST_REFUSAL:
            body = body[:MAX_ERROR_BYTES]
        self.answer = Answer(self._status, self._headers, body)


def _execute(parser: HttpResponseParser | None, data: bytes) -> None:
    try:
        if parser is not None:
            parser.feed_data(data)
    except (HttpParserError, HttpParserUpgrade) as error:
        raise BrokenAnswer(f"the answer is not HTTP/1: {error}") from error
