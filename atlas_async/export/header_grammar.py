"""Whether a header that came with a message is what RFC 5322 has it be, without obsolete forms.

What passes is read alike by every program. It is told in one pass over the text, by rules of our
own: parsers of the standard library raise on some texts, take long over others, and say something
else with every version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM: Final = rf"{_ATOM}(?:\.{_ATOM})*"
_LITERAL: Final = r"\[[!-Z^-~]*\]"
_MESSAGE_ID: Final = re.compile(rf"<{_DOT_ATOM}@(?:{_DOT_ATOM}|{_LITERAL})>")
_TOKEN: Final = re.compile(
    rf"""(?P<space>[ ]*)(?:(?P<word>{_DOT_ATOM})|(?P<quoted>"(?:[^"\\]|\\.)*")|"""
    rf"""(?P<comment>\([^()\\]*\))|(?P<literal>{_LITERAL})|(?P<mark>[<>,;:@])|(?P<end>\Z))"""
)
_ENCODED: Final = re.compile(r"=\?[A-Za-z0-9_.:-]+\?[bBqQ]\?[^ ?]*\?=")
_DATE: Final = re.compile(
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), +)?[0-9]{1,2} +"
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +[0-9]{4} +"
    r"[0-9]{2}:[0-9]{2}(?::[0-9]{2})? +(?:[+-][0-9]{4}|GMT|UT)(?: +\([^()\\]*\))*",
    re.IGNORECASE,
)


def is_message_id(value: str) -> bool:
    """Tell whether a value is one message id: dot-atom, at sign, dot-atom or domain literal."""
    return _MESSAGE_ID.fullmatch(value) is not None


def is_date(value: str) -> bool:
    """Tell whether a value is a date that there is, with its zone."""
    if not _DATE.fullmatch(value):
        return False
    try:
        parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return False
    return True


def is_address_list(value: str, *, single: bool = False) -> bool:
    """Tell whether a value is a list of addresses and groups.

    Args:
        value: One line of text.
        single: Whether it must be one address and no group, as in ``Sender``.
    """
    try:
        addresses = _Addresses(value)
        if single:
            addresses.mailbox()
            addresses.take("end")
        else:
            addresses.every()
    except ValueError:
        return False
    return True


class _Token(NamedTuple):
    kind: str
    text: str
    spaced: bool


def _tokens(value: str) -> Iterator[_Token]:
    at = 0
    while True:
        found = _TOKEN.match(value, at)
        kind = found.lastgroup if found else None
        if found is None or kind is None:
            raise ValueError(value)
        text = found[kind]
        yield _Token(text if kind == "mark" else kind, text, bool(found["space"]))
        if kind == "end":
            return
        at = found.end()


class _Addresses:
    """Reads addresses from front to back. Methods raise ``ValueError`` where there are none."""

    def __init__(self, value: str) -> None:
        if not (value.isascii() and value.isprintable()):
            raise ValueError(value)
        self._tokens = _tokens(value)
        self._next = next(self._tokens)

    def every(self) -> None:
        """Read a list to its end."""
        self._address()
        while self._next.kind == ",":
            self.take(",")
            self._address()
        self.take("end")

    def take(self, *kinds: str, joined: bool = False) -> _Token:
        """Return the next token, of one of these kinds; ``joined`` to the one before it."""
        token = self._next
        if token.kind not in kinds or (joined and token.spaced):
            raise ValueError(token.text)
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _address(self) -> None:
        words = self._words()
        if self._next.kind != ":":
            self._rest_of_mailbox(words)
            return
        _check_phrase(words, self._next)
        self.take(":")
        if self._next.kind != ";":
            self.mailbox()
        while self._next.kind == ",":
            self.take(",")
            self.mailbox()
        self.take(";")

    def mailbox(self) -> None:
        """Read one address, with or without a name."""
        self._rest_of_mailbox(self._words())

    def _words(self) -> list[_Token]:
        words = []
        while self._next.kind in {"word", "quoted"}:
            words.append(self.take("word", "quoted"))
        return words

    def _rest_of_mailbox(self, words: list[_Token]) -> None:
        if self._next.kind == "<":
            if words:
                _check_phrase(words, self._next)
            self.take("<")
            local = self.take("word", "quoted", joined=True)
            self._domain(local)
            self.take(">", joined=True)
        elif len(words) == 1:
            self._domain(words[0])
        else:
            raise ValueError(self._next.text)
        while self._next.kind == "comment":
            comment = self.take("comment")
            if not comment.spaced or "=?" in comment.text:
                raise ValueError(comment.text)

    def _domain(self, local: _Token) -> None:
        self.take("@", joined=True)
        domain = self.take("word", "literal", joined=True)
        if "=?" in local.text + domain.text:
            raise ValueError(local.text)


def _check_phrase(words: list[_Token], after: _Token) -> None:
    """Check the words of a name: none has a dot or is encoded in a way nobody can read."""
    for word, behind in zip(words, (*words[1:], after), strict=True):
        if word.kind == "quoted":
            fit = "=?" not in word.text
        elif "=?" in word.text:
            fit = _reads(word) and behind.spaced
        else:
            fit = "." not in word.text
        if not fit or (behind is not after and not behind.spaced):
            raise ValueError(word.text)
    if not words:
        raise ValueError(after.text)


def _reads(word: _Token) -> bool:
    """Tell whether an encoded word (RFC 2047) is one, in a charset that is known."""
    if not _ENCODED.fullmatch(word.text):
        return False
    try:
        ((data, charset),) = decode_header(word.text)
        return isinstance(data, bytes) and bool(data.decode(charset or "ascii"))
    except (HeaderParseError, LookupError, ValueError):
        return False
