"""Read JSON as Graph writes it, which is not always JSON.

Bodies of old mail can hold raw control characters and lone surrogates. A strict parser refuses a
whole page for one of them, so a second, tolerant parser is asked before an answer counts as broken.

Parsing holds the interpreter's lock, so a worker thread would keep nobody else free meanwhile.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import orjson

if TYPE_CHECKING:
    from atlas_async.model.source import JsonObject


class BrokenJsonError(ValueError):
    """The text is not a JSON object, even with every tolerance."""


def parse_object(text: bytes | bytearray) -> JsonObject:
    """Return the JSON object that ``text`` holds.

    Raw control characters and lone surrogates inside strings are accepted and kept as they are.

    Raises:
        BrokenJsonError: The text is cut short, is not JSON, or is not an object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = _parse_tolerantly(text)
    if not isinstance(value, dict):
        raise BrokenJsonError(f"the answer is {type(value).__name__}, not an object")
    return value


def _parse_tolerantly(text: bytes | bytearray) -> object:
    try:
        decoded = text.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
        return json.loads(decoded, strict=False, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        # The parser's own message quotes nothing of the text beyond positions.
        raise BrokenJsonError(str(error)) from None


def _refuse_constant(name: str) -> NoReturn:
    raise BrokenJsonError(f"{name} is not JSON")
