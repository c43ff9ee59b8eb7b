"""Bodies and subjects: HTML paragraphs in many scripts, picked from a pool made once."""

from __future__ import annotations

import html
from typing import Final

from atlas_async.emulator.dice import Dice
from atlas_async.emulator.vocabulary import LANGUAGES, ODD_SUBJECTS, RIGHT_TO_LEFT

_POOL: Final = 768
_FILLER_BYTES: Final = 65_536
_HEAD: Final = (
    '<html><head>\r\n<meta http-equiv="Content-Type" content="text/html; charset=utf-8"></head>'
    "<body>\r\n"
)
_TAIL: Final = "</body></html>\r\n"
_ENGLISH_SHARE: Final = 0.6


class Phrasebook:
    """A pool of paragraphs and sentences; picking from it is cheap and repeatable.

    Args:
        seed: The corpus seed.
        pool: Number of paragraphs in the pool.
    """

    def __init__(self, seed: int, *, pool: int = _POOL) -> None:
        dice = Dice(seed, 0x7E47)
        others = [language for language in LANGUAGES if language != "en"]
        self._paragraphs: list[str] = []
        self._sizes: list[int] = []
        self._sentences: list[str] = []
        for _ in range(pool):
            language = "en" if dice.chance(_ENGLISH_SHARE) else dice.pick(others)
            sentence = _sentence(dice, language)
            text = " ".join(_sentence(dice, language) for _ in range(2 + dice.below(4)))
            direction = ' dir="rtl"' if language in RIGHT_TO_LEFT else ""
            paragraph = f"<p{direction}>{html.escape(text, quote=False)}</p>\r\n"
            self._sentences.append(sentence)
            self._paragraphs.append(paragraph)
            self._sizes.append(len(paragraph.encode()))
        words = LANGUAGES["en"]
        filler = " ".join(dice.pick(words) for _ in range(_FILLER_BYTES // 4))
        self._filler = filler[:_FILLER_BYTES]

    def subject(self, dice: Dice, *, odd_share: float) -> str:
        """Return a subject; with probability ``odd_share`` one that breaks careless code."""
        if dice.chance(odd_share):
            return dice.pick(ODD_SUBJECTS)
        sentence = dice.pick(self._sentences)[:70].rstrip(" .")
        return f"{sentence} {dice.below(10_000)}"

    def sentence(self, dice: Dice) -> str:
        """Return one sentence of plain text."""
        return dice.pick(self._sentences)

    def html_body(self, dice: Dice, size: int, *, extra: str = "") -> str:
        """Return an HTML body of ``size`` UTF-8 bytes (longer only when ``size`` is tiny)."""
        opening = f"{_HEAD}<p>Ref {dice.word():016x}</p>\r\n{extra}"
        left = size - len(opening.encode()) - len(_TAIL)
        pieces = [opening]
        at, count = dice.word(), len(self._paragraphs)
        while left > 0:
            index = at % count
            if self._sizes[index] > left:
                break
            pieces.append(self._paragraphs[index])
            left -= self._sizes[index]
            at += 1
        pieces.append(self._fill(left))
        pieces.append(_TAIL)
        return "".join(pieces)

    def preview(self, dice: Dice) -> str:
        """Return what Graph would show as ``bodyPreview``: at most 255 characters."""
        return f"{self.sentence(dice)} {self.sentence(dice)}"[:255]

    def _fill(self, size: int) -> str:
        if size <= 0:
            return ""
        times, rest = divmod(size, len(self._filler))
        return self._filler * times + self._filler[:rest]


def _sentence(dice: Dice, language: str) -> str:
    words = LANGUAGES[language]
    chosen = [dice.pick(words) for _ in range(6 + dice.below(10))]
    if dice.chance(0.05):
        chosen.append(dice.pick(LANGUAGES["emoji"]))
    joined = "".join(chosen) if language in {"zh", "ja"} else " ".join(chosen)
    return joined[:1].upper() + joined[1:] + "."
