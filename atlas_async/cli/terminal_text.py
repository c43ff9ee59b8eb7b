"""Text from mail made fit for a terminal: nothing in it can move the cursor or hide its meaning."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

BIDI: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
"""Embeddings, overrides and isolates: they let a name read differently from what it is."""
HARMLESS_FORMAT: Final = frozenset({"\u200c", "\u200d", "\u200e", "\u200f", "\u00ad", "\u061c"})
"""Format characters that ordinary text needs: joiners in emoji and scripts, direction marks."""
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
STEP: Final = 1024


def visible(text: str, *, keep: str = "") -> str:
    r"""Return ``text`` with control, escape and overriding characters written out, as ``\x1b``.

    Args:
        text: Anything, lone surrogates included.
        keep: Control characters that may stay, such as a line break in a body.
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(char if char in keep or _is_plain(char) else _written(char) for char in text)


def _is_plain(char: str) -> bool:
    category = unicodedata.category(char)
    if category == "Cf":
        # Tag characters (U+E0020..) spell the flags of England, Scotland and Wales.
        return char in HARMLESS_FORMAT or "\U000e0020" <= char <= "\U000e007f"
    return char not in BIDI and category not in {"Cc", "Cs", "Zl", "Zp"}


def _written(char: str) -> str:
    code = ord(char)
    if char in "\r\n\t":
        return {"\r": "\\r", "\n": "\\n", "\t": "\\t"}[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - one byte


def size(count: int) -> str:
    """Return bytes for a person: ``0 B``, ``1.5 KiB``, ``12 MiB``."""
    value = float(count)
    for unit in UNITS[:-1]:
        if value < STEP:
            return _rounded(value, unit)
        value /= STEP
    return _rounded(value, UNITS[-1])


def _rounded(value: float, unit: str) -> str:
    digits = 1 if unit != "B" and value < 10 else 0  # noqa: PLR2004 - two figures are enough
    return f"{value:.{digits}f} {unit}"


def span(seconds: float) -> str:
    """Return a duration for a person: ``0.4s``, ``12s``, ``3m 05s``, ``2h 07m``."""
    if seconds < 10:  # noqa: PLR2004 - below ten seconds the fraction is of interest
        return f"{max(seconds, 0.0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def date(value: datetime | str | None) -> str:
    """Return a time in UTC to the second, ``2026-04-20 11:29:59Z``; unknown text stays."""
    if not value:
        return "-"
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else value
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return visible(str(value))
    # Not strftime: it writes years before 1000 with fewer than four digits.
    return f"{when.replace(tzinfo=None).isoformat(' ', 'seconds')}Z"


def folder_name(path: Sequence[str]) -> str:
    """Return a folder's path on one line; the root itself is ``(root)``."""
    return " / ".join(visible(name) for name in path) or "(root)"
