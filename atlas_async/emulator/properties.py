"""Extended properties: how Graph names them, which values it takes, what it answers with.

An id is a type and a tag (``Integer 0x0E07``), or a type, a property set and a name or number
(``String {00020329-0000-0000-c000-000000000046} Name Color``). Graph answers with a normal form of
the id, not with what was asked: numbers in lower-case hex without leading zeros, sets in lower
case, types as documented. Names keep their case, which matters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.parts import graph_time

SINGLE: Final = "singleValueExtendedProperties"
MULTI: Final = "multiValueExtendedProperties"
MESSAGE_FLAGS: Final = "Integer 0xe07"
DELIVERED: Final = "SystemTime 0xe06"
SUBMITTED: Final = "SystemTime 0x39"
MESSAGE_CLASS: Final = "String 0x1a"
TRANSPORT_HEADERS: Final = "String 0x7d"
CONVERSATION_INDEX: Final = "Binary 0x71"
NATIVE: Final = frozenset(
    {
        MESSAGE_FLAGS,
        DELIVERED,
        SUBMITTED,
        MESSAGE_CLASS,
        TRANSPORT_HEADERS,
        CONVERSATION_INDEX,
        "String 0x37",
        "String 0x1035",
        "Integer 0x17",
        "SystemTime 0x3007",
        "SystemTime 0x3008",
    }
)
"""Properties that every message has, without anybody having set them as extended ones."""
FIXED: Final = NATIVE - {MESSAGE_CLASS, TRANSPORT_HEADERS}
"""Native properties that follow the message; once it exists, writing them changes nothing."""

Extended = dict[str, str | list[str]]
"""Values by normal id: texts, or lists of texts for the array types."""

_SCALARS: Final = (
    "ApplicationTime",
    "Binary",
    "Boolean",
    "CLSID",
    "Currency",
    "Double",
    "Float",
    "Integer",
    "Long",
    "Short",
    "String",
    "SystemTime",
)
_TYPES: Final = {name.lower(): name for scalar in _SCALARS for name in (scalar, f"{scalar}Array")}
_GUID: Final = r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}"
_ID: Final = re.compile(
    rf"(?P<type>\w+)\s+(?:(?P<tag>0x[0-9a-f]+)"
    rf"|(?P<set>{_GUID})\s+(?:Name\s+(?P<name>\S.*)|Id\s+(?P<number>0x[0-9a-f]+)))",
    re.IGNORECASE,
)
_TAG_TOP: Final = 0xFFFF
_TAG_SHIFT: Final = 16
_INTEGER_BITS: Final = {"Short": 15, "Integer": 31, "Long": 63}


def property_id(text: str) -> str:
    """Return the normal form of a property id.

    A tag that carries the type in its low half (``0x4001001E``) names the property in its high
    half. Raises ``Refusal`` (400) for what is no id.
    """
    match = _ID.fullmatch(text.strip())
    kind = _TYPES.get(match["type"].lower()) if match is not None else None
    if match is None or kind is None:
        raise Refusal(
            400,
            "ErrorInvalidExtendedProperty",
            "The extended property attribute combination is invalid.",
        )
    if match["tag"] is not None:
        tag = int(match["tag"], 16)
        return f"{kind} 0x{tag >> _TAG_SHIFT if tag > _TAG_TOP else tag:x}"
    place = f"{kind} {match['set'].lower()}"
    if match["number"] is not None:
        return f"{place} Id 0x{int(match['number'], 16):x}"
    return f"{place} Name {match['name']}"


def posted_properties(values: dict[str, Any]) -> Extended:
    """Return the extended properties of a create or update request.

    Raises ``Refusal`` (400) for ids, values and combinations of both that Graph refuses.
    """
    found: Extended = {}
    for item in _items(values, SINGLE):
        if not isinstance(item.get("id"), str) or not isinstance(item.get("value"), str):
            raise Refusal(
                400, "ErrorInvalidProperty", "An extended property needs id and value as text."
            )
        name = property_id(item["id"])
        if name.partition(" ")[0].endswith("Array"):
            raise _wrong_value(name)
        found[name] = _checked(name, name.partition(" ")[0], item["value"])
    for item in _items(values, MULTI):
        held = item.get("value")
        if not isinstance(item.get("id"), str) or not isinstance(held, list):
            raise Refusal(
                400, "ErrorInvalidProperty", "An extended property needs id and a list of values."
            )
        name = property_id(item["id"])
        kind = name.partition(" ")[0]
        if not kind.endswith("Array"):
            raise _wrong_value(name)
        found[name] = [_checked(name, kind.removesuffix("Array"), str(one)) for one in held]
    return found


def transport_headers(text: str) -> list[dict[str, str]]:
    """Return a header block as Graph shows ``internetMessageHeaders``: unfolded, in order."""
    headers: list[dict[str, str]] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line[:1] in {" ", "\t"} and headers:
            headers[-1]["value"] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if colon and name.strip():
            headers.append({"name": name.strip(), "value": value.strip()})
    return headers


def _items(values: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    listed = values.get(name) or []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise Refusal(400, "RequestBodyRead", f"The property '{name}' must be a list of objects.")
    yield from listed


def _checked(name: str, kind: str, value: str) -> str:
    try:
        if kind in _INTEGER_BITS:
            number = int(value)
            if not -(1 << _INTEGER_BITS[kind]) <= number < 1 << _INTEGER_BITS[kind]:
                raise _wrong_value(name)
            return str(number)
        if kind == "SystemTime":
            moment = datetime.fromisoformat(value)
            return graph_time(moment.astimezone(UTC) if moment.tzinfo is not None else moment)
        if kind == "Binary":
            base64.b64decode(value, validate=True)
        elif kind == "Boolean" and value.lower() not in {"true", "false"}:
            raise _wrong_value(name)
        elif kind in {"Double", "Float", "Currency", "ApplicationTime"}:
            float(value)
    except (ValueError, binascii.Error) as error:
        raise _wrong_value(name) from error
    return value


def _wrong_value(name: str) -> Refusal:
    return Refusal(
        400, "ErrorInvalidExtendedPropertyValue", f"The value does not fit the property '{name}'."
    )
