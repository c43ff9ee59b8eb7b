"""Values of the catalog's JSON, taken only as what they must be.

A document that opens is authentic, not therefore right: a defect, a newer program, or somebody with
the key may have written it. What passes here can be used without another look at its type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

_CHECKSUM: Final = re.compile(r"[0-9a-f]{64}")
_MOST: Final = 1 << 63


def text(value: Any) -> str:
    """Return a string. Raises ``TypeError`` for anything else."""
    if not isinstance(value, str):
        msg = f"text expected, not {type(value).__name__}"
        raise TypeError(msg)
    return value


def text_or_none(value: Any) -> str | None:
    """Return a string, or None. Raises ``TypeError`` for anything else."""
    return None if value is None else text(value)


def texts(value: Any) -> Iterable[str]:
    """Yield the strings of a list. Raises ``TypeError`` for anything else."""
    if not isinstance(value, list):
        msg = f"a list expected, not {type(value).__name__}"
        raise TypeError(msg)
    return map(text, value)


def number(value: Any) -> int:
    """Return a whole number of at most 63 bits. Raises ``TypeError``, ``ValueError``."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"a whole number expected, not {type(value).__name__}"
        raise TypeError(msg)
    if not -_MOST < value < _MOST:
        raise ValueError("a number beyond 63 bits")
    return value


def flag(value: Any) -> bool:
    """Return a truth value. Raises ``TypeError`` for anything else."""
    if not isinstance(value, bool):
        msg = f"true or false expected, not {type(value).__name__}"
        raise TypeError(msg)
    return value


def checksum(value: Any) -> str:
    """Return a SHA-256 in lower-case hex. Raises ``TypeError``, ``ValueError``."""
    if not _CHECKSUM.fullmatch(text(value)):
        raise ValueError("not a SHA-256")
    return text(value)
