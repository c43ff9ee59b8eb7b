"""The line ends that a form keeps messages in, and the quoting of mailbox files. Piece by piece."""

from __future__ import annotations

import re
from typing import Final, Protocol

_FROM: Final = re.compile(rb"^(>*From )", re.MULTILINE)
_LONGEST_HELD: Final = 64 << 10
"""Bytes of a line that are waited for; a longer line is passed on as it comes."""


class Rewriter(Protocol):
    """Rewrites a message with CRLF line ends as it is written."""

    def feed(self, piece: bytes) -> bytes:
        """Return what can be written by now."""
        ...

    def finish(self) -> bytes:
        """Return what is left."""
        ...


class AsItIs:
    """Changes nothing."""

    def feed(self, piece: bytes) -> bytes:
        """Return the piece."""
        return piece

    def finish(self) -> bytes:
        """Return nothing."""
        return b""


class UnixLines:
    """Gives lines the ends that Maildir has."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the piece with LF for CRLF; a CR at its end waits for what follows."""
        data = self._held + piece
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(self._held)].replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """Return a CR that nothing followed."""
        held, self._held = self._held, b""
        return held


class MboxLines:
    """Makes a message an entry of a mailbox file of the kind mboxrd.

    Lines that begin with ``From``, after any number of ``>``, get one ``>`` more; whoever reads
    the file takes one away. An empty line ends the entry.

    Args:
        first: The line that begins the entry, without its end.
        head: Rewrites the message before.
    """

    def __init__(self, first: bytes, head: Rewriter | None = None) -> None:
        self._head = head or AsItIs()
        self._unix = UnixLines()
        self._out = first + b"\n"
        self._held = b""
        self._at_start = True
        self._last = b"\n"

    def feed(self, piece: bytes) -> bytes:
        """Return the lines that are whole by now."""
        return self._take(self._unix.feed(self._head.feed(piece)))

    def finish(self) -> bytes:
        """Return the last line and the empty one."""
        rest = self._take(self._unix.feed(self._head.finish()))
        rest += self._take(self._unix.finish())
        rest += self._quoted(self._held)
        return rest + (b"\n" if self._last == b"\n" else b"\n\n")

    def _take(self, piece: bytes) -> bytes:
        data = self._held + piece
        end = data.rfind(b"\n") + 1
        if len(data) - end > _LONGEST_HELD:
            end = len(data)
        self._held = data[end:]
        return self._quoted(data[:end])

    def _quoted(self, data: bytes) -> bytes:
        out, self._out = self._out, b""
        if not data:
            return out
        begin = 0 if self._at_start else data.find(b"\n") + 1 or len(data)
        self._last = data[-1:]
        self._at_start = self._last == b"\n"
        return out + data[:begin] + _FROM.sub(rb">\1", data[begin:])
