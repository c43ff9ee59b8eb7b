"""Content in the encodings that mail travels in: quoted-printable, base64, or lines as they are."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from atlas_async.export.words import LONGEST_LINE, well_formed

_LINE_BYTES: Final = 57
"""What a line of base64 holds: 57 bytes become 76 characters."""
_LINE_CHARS: Final = 76
_PLAIN_BYTES: Final = bytes({*range(0x20, 0x7F), 0x0A} - {0x3D})
_ANY_END: Final = re.compile("\r\n|\r|\n")
_LONE_CR: Final = re.compile(rb"\r(?!\n)")
_LONE_LF: Final = re.compile(rb"(?<!\r)\n")


def text_part(text: str) -> tuple[str, bytes]:
    """Return the encoding and the encoded lines of a text, in whichever encoding is shorter.

    Line ends become CRLF, and lone surrogates the replacement character.
    """
    data = _ANY_END.sub("\n", well_formed(text)).encode("utf-8")
    escaped = len(data.translate(None, _PLAIN_BYTES))
    if len(data) + 2 * escaped <= len(data) * 4 // 3:
        encoded = binascii.b2a_qp(data, quotetabs=False, istext=True, header=False)
        return "quoted-printable", encoded.replace(b"\n", b"\r\n")
    return "base64", base64_lines(data.replace(b"\n", b"\r\n"))


def base64_lines(data: bytes) -> bytes:
    """Return ``data`` as lines of base64, the last one with its end too."""
    encoded = binascii.b2a_base64(data, newline=False)
    lines = [encoded[at : at + _LINE_CHARS] for at in range(0, len(encoded), _LINE_CHARS)]
    return b"".join(line + b"\r\n" for line in lines)


class Base64Stream:
    """Encodes pieces of any length into the lines that ``base64_lines`` gives for them all."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the lines that are full by now."""
        data = self._held + piece
        whole = len(data) - len(data) % _LINE_BYTES
        self._held = data[whole:]
        return base64_lines(data[:whole])

    def finish(self) -> bytes:
        """Return the last line."""
        return base64_lines(self._held)


class LineStream:
    """Passes a message on with CRLF at every line's end, the last one included."""

    def __init__(self) -> None:
        self._held = b""
        self._last = b""

    def feed(self, piece: bytes) -> bytes:
        """Return what can be passed on by now; a CR at the end waits for what follows it."""
        data = self._held + piece
        self._held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(self._held)]
        if data:
            self._last = data[-1:]
        return _LONE_LF.sub(b"\r\n", data)

    def finish(self) -> bytes:
        """Return what is left, and the end of the last line where it had none."""
        left, self._held = self._held, b""
        return left + (b"" if self._last == b"\n" and not left else b"\r\n")


@dataclass(slots=True)
class Looked:
    """What the bytes of an embedded item are, as far as they were looked at.

    Args:
        start: The first bytes.
        eight_bit: Whether any is not ASCII.
        fit: Whether it may stand among other parts as it is: no line too long, no zero byte, no
            carriage return by itself.
    """

    start: bytes = b""
    eight_bit: bool = False
    fit: bool = True


START_BYTES: Final = 1_024


class LookStream:
    """Looks at an item piece by piece, in constant memory."""

    def __init__(self) -> None:
        self._looked = Looked()
        self._line = 0
        self._held = b""

    def feed(self, piece: bytes) -> None:
        """Look at the next piece."""
        looked = self._looked
        if len(looked.start) < START_BYTES:
            looked.start += piece[: START_BYTES - len(looked.start)]
        looked.eight_bit = looked.eight_bit or not piece.isascii()
        data = self._held + piece
        self._held = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(self._held)]
        if looked.fit:
            looked.fit = b"\0" not in data and not _LONE_CR.search(data) and self._short(data)

    def _short(self, data: bytes) -> bool:
        first, *lines = data.split(b"\n")
        if not lines:
            self._line += len(first)
            return self._line <= LONGEST_LINE
        longest = max(self._line + len(first), *map(len, lines))
        self._line = len(lines[-1])
        return longest <= LONGEST_LINE

    def finish(self) -> Looked:
        """Return what it is."""
        self._looked.fit = self._looked.fit and not self._held
        return self._looked


def look(data: bytes) -> Looked:
    """Look at an item that is held whole."""
    stream = LookStream()
    stream.feed(data)
    return stream.finish()


def lines_of(data: bytes) -> Iterator[bytes]:
    """Yield a message that is held whole as ``LineStream`` passes it on."""
    stream = LineStream()
    yield stream.feed(data)
    yield stream.finish()
