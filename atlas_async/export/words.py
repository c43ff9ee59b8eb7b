"""Text in mail headers: ASCII as it is, everything else as encoded words (RFC 2047), folded.

Whatever the text holds, a header that comes out of here is ASCII, has no line break that does not
fold, and can never end the header or begin another one.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Final

LINE_CHARS: Final = 76
"""Most characters of a folded line, without its end; RFC 5322 asks for 78, RFC 2047 for 76."""
LONGEST_LINE: Final = 990
"""RFC 5322 forbids lines of more than 998 characters."""
_WORD_CHARS: Final = 75
_FRAME: Final = len("=?utf-8?q??=")
_Q_SAFE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
"""What stands for itself in a Q-encoded word within a phrase, where the rules are the narrowest."""
_BREAKING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN: Final = re.compile(r"[!-~]([ -~]*[!-~])?")


def well_formed(text: str) -> str:
    """Return ``text`` with pairs of surrogates joined and lone ones replaced, so it has a UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def one_line(text: str) -> str:
    """Return ``text`` with control characters and line separators as spaces."""
    return _BREAKING.sub(" ", well_formed(text)).strip()


def is_plain(text: str) -> bool:
    """Tell whether a line of text may stand in a header as it is."""
    return _PLAIN.fullmatch(text) is not None and "=?" not in text


def tokens_of(text: str, *, room: int = 0) -> list[str]:
    """Return the pieces of an unstructured header; between any two of them it may be folded.

    Args:
        text: One line, as ``one_line`` gives it.
        room: Characters that the first line has already.
    """
    if is_plain(text):
        pieces = re.findall(r" *[^ ]+", text)
        tokens = [pieces[0], *(piece[1:] for piece in pieces[1:])]
        if all(len(token) < LINE_CHARS for token in tokens):
            return tokens
    return encoded_words(text, room=room)


def encoded_words(text: str, *, room: int = 0) -> list[str]:
    """Return encoded words that together stand for ``text``, in the shorter of both encodings."""
    data = text.encode("utf-8")
    unsafe = sum(byte not in _Q_SAFE and byte != 0x20 for byte in data)  # noqa: PLR2004 -- a space
    as_q = len(data) + 2 * unsafe <= len(data) * 4 // 3 + 2
    words: list[str] = []
    chars: list[str] = []
    size = 0
    most = max(_WORD_CHARS - room, 24) - _FRAME
    for char in text:
        cost = len(_quoted(char)) if as_q else len(char.encode("utf-8"))
        if chars and (size + cost if as_q else -(-(size + cost) // 3) * 4) > most:
            words.append(_word("".join(chars), as_q=as_q))
            chars, size, most = [], 0, _WORD_CHARS - _FRAME
        chars.append(char)
        size += cost
    words.append(_word("".join(chars), as_q=as_q))
    return words


def _word(text: str, *, as_q: bool) -> str:
    if as_q:
        return f"=?utf-8?q?{_quoted(text)}?="
    return f"=?utf-8?b?{binascii.b2a_base64(text.encode('utf-8'), newline=False).decode()}?="


def _quoted(text: str) -> str:
    return "".join(
        chr(byte) if byte in _Q_SAFE else "_" if byte == 0x20 else f"={byte:02X}"  # noqa: PLR2004
        for byte in text.encode("utf-8")
    )


def folded(name: str, tokens: Sequence[str]) -> bytes:
    """Return a header with its line ends, folded between tokens where a line would be too long."""
    lines: list[str] = []
    line = f"{name}:"
    for token in tokens:
        if len(line) + 1 + len(token) > LINE_CHARS and line != f"{name}:":
            lines.append(line)
            line = ""
        line += f" {token}"
    lines.append(line)
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def unstructured(name: str, text: str) -> bytes:
    """Return a header of free text, or nothing where there is no text."""
    clean = one_line(text)
    return folded(name, tokens_of(clean, room=len(name) + 2)) if clean else b""


def listed(groups: Iterable[Sequence[str]]) -> list[str]:
    """Return the tokens of a list: a comma after the last token of every group but the last."""
    tokens: list[str] = []
    for group in groups:
        if tokens:
            tokens[-1] += ","
        tokens.extend(group)
    return tokens


_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
_LONGEST_QUOTED: Final = 60


def phrase(text: str, *, room: int = 0) -> list[str]:
    """Return the tokens of a display name or keyword: atoms, a quoted string or encoded words."""
    clean = one_line(text)
    if is_plain(clean) and len(clean) <= _LONGEST_QUOTED:
        words = clean.split(" ")
        if all(_ATOM.fullmatch(word) for word in words):
            return words
        escaped = clean.replace("\\", "\\\\").replace('"', '\\"')
        return [f'"{escaped}"']
    return encoded_words(clean, room=room)
