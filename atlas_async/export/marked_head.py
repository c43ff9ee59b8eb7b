"""What was read and flagged, put into the headers of a message that is otherwise as it came."""

from __future__ import annotations

import re
from typing import Final

_HEADER: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_STATES: Final = frozenset({b"status", b"x-status", b"x-mozilla-status", b"x-mozilla-status2"})
"""Headers in which programs keep a message's state within a mailbox file, and believe it."""
_LONGEST_HELD: Final = 1 << 20
"""Bytes of a header line that are waited for; behind a longer one nothing is looked at."""


class MarkedHead:
    """Puts header lines behind those of a message, and drops what they stand for.

    The headers end where strict readers end them: at the first line that neither is one nor goes
    on with one. So whatever the message is, the marks are headers. All other bytes stay.

    Args:
        marks: Header lines with their ends.
    """

    def __init__(self, marks: bytes) -> None:
        self._marks = marks
        self._held = b""
        self._dropping = False
        self._is_done = False

    def feed(self, piece: bytes) -> bytes:
        """Return what can be written by now."""
        if self._is_done:
            return piece
        data, at = self._held + piece, 0
        out: list[bytes] = []
        while end := data.find(b"\n", at) + 1:
            if not self._is_of_head(data[at:end]):
                return self._ended(out, data[at:])
            if not self._dropping:
                out.append(data[at:end])
            at = end
        self._held = data[at:]
        if len(self._held) > _LONGEST_HELD:
            return self._ended(out, self._held)
        return b"".join(out)

    def finish(self) -> bytes:
        """Return what is left; marks where the message has nothing but headers."""
        if self._is_done:
            return b""
        line = self._held
        if line and not self._is_of_head(line):
            return self._ended([], line)
        out = [line, b"\r\n"] if line and not self._dropping else []
        return self._ended(out, b"")

    def _is_of_head(self, line: bytes) -> bool:
        """Tell whether a line belongs to the headers, and note whether it is dropped."""
        if line[:1] in {b" ", b"\t"}:
            return True
        found = _HEADER.match(line)
        self._dropping = found is not None and found[1].lower() in _STATES
        return found is not None

    def _ended(self, out: list[bytes], rest: bytes) -> bytes:
        self._is_done, self._held = True, b""
        return b"".join((*out, self._marks, rest))
