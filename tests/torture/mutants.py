"""Damage done to valid samples, the same every time: to bytes, and to every value of a document."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Iterator
from random import Random
from typing import Any, Final

from atlas_async.errors import AtlasError
from tests.fakes.json_values import places

ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    2**31,
    10**30,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "0",
    "-1",
    "١٢",
    "\ud800",
    "../../x",
    "a\r\nb\x00\x1b[2J",
    "9" * 5_000,
    [],
    {},
    [None],
    [[]],
    {"": None},
    ["x", 1],
)
"""What stands in the place of a value: other types, other signs, other sizes."""

GONE: Final = object()
"""Stands for taking the value out."""


async def error_of(call: Awaitable[Any]) -> AtlasError | None:
    """Return the error of ours that a call ends with, None for a value; any other is raised."""
    try:
        await call
    except AtlasError as error:
        return error
    return None


def document_mutants(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield a copy of ``document`` for every place in it and every odd value, with a name."""
    for path in places(document):
        if not path:
            continue
        for value in (GONE, *ODD):
            changed = copy.deepcopy(document)
            holder = changed
            for step in path[:-1]:
                holder = holder[step]
            if value is GONE:
                del holder[path[-1]]
            else:
                holder[path[-1]] = copy.deepcopy(value)
            shown = "gone" if value is GONE else ascii(value)[:30]
            yield f"{'.'.join(map(str, path))} = {shown}", changed


def some_mutants(document: Any, count: int, seed: int) -> list[tuple[str, Any]]:
    """Return ``count`` of the mutants, drawn by ``seed``; all of them when there are fewer."""
    every = list(document_mutants(document))
    return every if len(every) <= count else Random(seed).sample(every, count)


def byte_mutants(sample: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield ``count`` damaged copies: flipped, cut, doubled, swapped, filled and grown."""
    dice = Random(seed)
    for _ in range(count):
        data = bytearray(sample)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            _damage(data, dice)
        yield bytes(data)


def _damage(data: bytearray, dice: Random) -> None:
    at = dice.randrange(len(data) + 1)
    length = dice.choice((1, 1, 2, 4, 16))
    match dice.randrange(8):
        case 0 if data:
            data[at % len(data)] ^= 1 << dice.randrange(8)
        case 1:
            del data[at:]
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = dice.randbytes(length)
        case 4:
            data[at:at] = data[at : at + 64]
        case 5:
            data[at : at + length] = dice.choice((b"\0", b"\xff", b'"', b"<", b"9")) * length
        case 6:
            data[at:at] = dice.choice(
                (b"\xed\xa0\x80", b"1e999", b"[" * 3_000, b"9" * 5_000, b"\r\n\r\n", b"&x;", b"\\")
            )
        case _:
            half = len(data) // 2
            data[:] = data[half:] + data[:half]
