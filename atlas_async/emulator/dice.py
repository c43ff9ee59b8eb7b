"""Chance that can be asked again: the same seed and place always give the same draws."""

from __future__ import annotations

import hashlib
import math
import struct
from typing import TypeVar

T = TypeVar("T")

_WORDS = struct.Struct("<8Q")
_PLACE = struct.Struct("<4Q")
_SCALE = 1.0 / (1 << 64)


class Dice:
    """A stream of draws that depends only on ``seed`` and up to four place numbers."""

    __slots__ = ("_at", "_digest", "_words")

    def __init__(self, seed: int, a: int = 0, b: int = 0, c: int = 0) -> None:
        place = _PLACE.pack(seed % (1 << 64), a, b, c)
        self._digest = hashlib.blake2b(place).digest()
        self._words = _WORDS.unpack(self._digest)
        self._at = 0

    def word(self) -> int:
        """Return the next 64-bit number."""
        if self._at == len(self._words):
            self._digest = hashlib.blake2b(self._digest).digest()
            self._words = _WORDS.unpack(self._digest)
            self._at = 0
        value: int = self._words[self._at]
        self._at += 1
        return value

    def below(self, bound: int) -> int:
        """Return a number from 0 to ``bound - 1``."""
        return self.word() % bound

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return self.word() * _SCALE

    def chance(self, share: float) -> bool:
        """Return True with probability ``share``; draws nothing when it is 0."""
        return share > 0 and self.fraction() < share

    def pick(self, options: tuple[T, ...] | list[T]) -> T:
        """Return one of ``options``, each equally likely."""
        return options[self.word() % len(options)]

    def normal(self) -> float:
        """Return a draw from the standard normal distribution (Box-Muller)."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.fraction()))
        return radius * math.cos(2.0 * math.pi * self.fraction())

    def log_normal(self, median: float, sigma: float, *, top: int) -> int:
        """Return a size around ``median``, spread by ``sigma``, between 1 and ``top``."""
        if sigma <= 0:
            return max(1, min(top, int(median)))
        return max(1, min(top, int(median * math.exp(sigma * self.normal()))))
