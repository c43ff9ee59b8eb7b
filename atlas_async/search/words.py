"""What a word is. The same rules make an index, read a query and compare the two.

Letters are compared without regard to case, width, ligatures, the accents of Latin, Greek and
Cyrillic, and the points of Hebrew and Arabic, which readers add: ``Müller``, ``MULLER`` and
``muller`` are one. A word is a run of letters and digits with the marks that belong to them, as the
vowel signs of Indic scripts. In scripts that are written without spaces every character is a word
of its own, and the index holds pairs of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from atlas_async.errors import UsageError

TERM_CHARS: Final = 32
"""Characters of a word that the index holds; the rest is compared on the message itself."""

_SPACELESS: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # iteration marks, kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_FIRST_SPACELESS: Final = "\u0e00"
_ASCII_WORD: Final = re.compile(r"[^\W_]+", re.ASCII)
_IS_SPACELESS: Final = re.compile(f"[{_SPACELESS}]")
_ADDED: Final = re.compile(
    "["
    "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # accents
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points and accents
    # Arabic vowels, doubling and signs of recitation; not the hamza, which is a letter. And the
    # stroke that draws a word out.
    "\u0610-\u061a\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8"
    "\u06ea-\u06ed\u0898-\u089f\u08ca-\u08e1\u08e3-\u08ff\u0640"
    "]+"
)
"""What is written above, below or into letters, and may as well be left out."""
_UNSEEN: Final = re.compile(
    "[\u00ad\u180b-\u180f\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]+"
)
"""Soft hyphens, joiners, spaces without width and what chooses among the shapes of a letter: they
stand within words and are not seen."""
_LAST_MARK: Final = 0x1FFFF
"""No mark comes after it but those that choose among shapes."""

RULES: Final = f"2/{unicodedata.unidata_version}"
"""Names these rules. What was indexed by others is not asked: it could lack what is looked for."""


def folded(text: str) -> str:
    """Return ``text`` as it is compared."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", _UNSEEN.sub("", text)).casefold()
    bare = _ADDED.sub("", unicodedata.normalize("NFKD", bare))
    return unicodedata.normalize("NFC", bare)


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded, in order."""
    bare = folded(text)
    return (_ASCII_WORD if bare.isascii() else _any_word()).findall(bare)


@cache
def _any_word() -> re.Pattern[str]:
    """Return what finds words of any script. The first time it takes some hundredths of a second.

    ``re`` knows letters and digits, and no marks: these are listed by the tables of Unicode.
    """
    marks = "".join(
        char
        for char in map(chr, range(_LAST_MARK + 1))
        if unicodedata.category(char).startswith("M") and not _IS_SPACELESS.match(char)
    )
    letters = rf"[^\W_{_SPACELESS}]+"
    return re.compile(rf"[{_SPACELESS}]|{letters}(?:[{marks}]+(?:{letters})?)*")


def terms_of(words: Sequence[str]) -> Iterator[str]:
    """Yield what the index holds of consecutive words."""
    for place, word in enumerate(words):
        if not is_spaceless(word):
            yield word if len(word) <= TERM_CHARS else word[:TERM_CHARS]
        elif place + 1 < len(words) and is_spaceless(words[place + 1]):
            yield word + words[place + 1]
        else:
            yield word


def is_spaceless(word: str) -> bool:
    """Tell whether a word is a character of a script that is written without spaces."""
    return word >= _FIRST_SPACELESS and _IS_SPACELESS.match(word) is not None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A term that the index is asked for; with ``prefix``, all terms that begin so."""

    term: str
    prefix: bool


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that must follow one another. Unless ``whole``, the last may be a word's beginning."""

    words: tuple[str, ...]
    whole: bool = False

    @classmethod
    def parse(cls, text: str) -> Phrase:
        """Return what somebody asks for; in double quotes the last word too must be whole.

        Raises:
            UsageError: There is neither a letter nor a digit in it.
        """
        bare = text.strip()
        whole = len(bare) > 1 and bare[0] == bare[-1] == '"'
        words = tuple(words_of(bare))
        if not words:
            msg = "nothing to look for: a text needs a letter or a digit"
            raise UsageError(msg, hint="punctuation alone is not searched")
        return cls(words, whole)

    def lookups(self) -> tuple[Lookup, ...]:
        """Return what a text that holds the phrase has in the index, all of it."""
        found: list[Lookup] = []
        last = len(self.words) - 1
        for place, word in enumerate(self.words):
            if not is_spaceless(word):
                open_end = place == last and not self.whole
                found.append(Lookup(word[:TERM_CHARS], open_end))
            elif place < last and is_spaceless(self.words[place + 1]):
                found.append(Lookup(word + self.words[place + 1], prefix=False))
            elif place == 0 or not is_spaceless(self.words[place - 1]):
                found.append(Lookup(word, prefix=True))  # a pair begins with it, or it is alone
        return tuple(found)

    def is_in(self, words: Sequence[str]) -> bool:
        """Tell whether the phrase stands in a text of these words."""
        head, tail, length = self.words[:-1], self.words[-1], len(self.words)
        for place in range(len(words) - length + 1):
            end = words[place + length - 1]
            fits = end == tail if self.whole else end.startswith(tail)
            if fits and all(words[place + i] == word for i, word in enumerate(head)):
                return True
        return False
