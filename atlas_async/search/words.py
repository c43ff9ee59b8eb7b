"""What a word is. The same rules make an index, read a query and compare the two.

Letters are compared without regard to case, width, ligatures and the accents of Latin, Greek and
Cyrillic: ``Müller``, ``MULLER`` and ``muller`` are one. A word is a run of letters and digits. In
scripts that are written without spaces every character is a word of its own, and the index holds
pairs of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
_WORD: Final = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
_IS_SPACELESS: Final = re.compile(f"[{_SPACELESS}]")
_ACCENTS: Final = re.compile("[\u0300-\u036f]+")
_UNSEEN: Final = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff]+")
"""Soft hyphens, joiners and spaces without width: they stand within words and are not seen."""

RULES: Final = f"1/{unicodedata.unidata_version}"
"""Names these rules. What was indexed by others is not asked: it could lack what is looked for."""


def folded(text: str) -> str:
    """Return ``text`` as it is compared."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", _UNSEEN.sub("", text)).casefold()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", bare))
    return unicodedata.normalize("NFC", bare)


def words_of(text: str) -> list[str]:
    """Return the words of a text, folded, in order."""
    return _WORD.findall(folded(text))


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
