"""What a message is compared by, before it is sent and after it is read back. Pure."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from html import unescape
from typing import Final

from atlas_async.model.source import JsonObject
from atlas_async.restore.letter import DELIVERED, RECIPIENTS, SUBMITTED

PARTS: Final = ("addresses and subject", "times", "state", "body")
"""What each 16 bits of a fingerprint stand for, from the highest."""
_BITS: Final = 16
_SPACES: Final = re.compile(r"\s+")


def fingerprint_of_letter(letter: JsonObject) -> int:
    """Return the 64-bit fingerprint of what is sent."""
    properties = {
        str(item["id"]): str(item["value"]) for item in letter["singleValueExtendedProperties"]
    }
    shown = {
        **letter,
        "receivedDateTime": properties.get(DELIVERED),
        "sentDateTime": properties.get(SUBMITTED),
        "isDraft": "Integer 0x0E07" not in properties,
    }
    return fingerprint(shown)


def fingerprint(resource: JsonObject) -> int:
    """Return the 64-bit fingerprint of a message as Graph shows it.

    Four parts of 16 bits, see ``PARTS``. Exchange may rewrite the markup of a body, so its text
    without markup and white space is what counts. Of a draft the times are not looked at: the
    server sets them.
    """
    draft = bool(resource.get("isDraft"))
    parts = (
        _addresses(resource),
        ""
        if draft
        else f"{_seconds(resource, 'receivedDateTime')} {_seconds(resource, 'sentDateTime')}",
        _state(resource),
        _text(resource.get("body")),
    )
    whole = 0
    for part in parts:
        digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest()
        whole = whole << _BITS | int.from_bytes(digest[:2])
    return whole


def differing_from_shown(sent: int, resource: JsonObject) -> tuple[str, ...]:
    """Return which parts of what was sent differ from a message as Graph shows it.

    One that was sent without an internet message id has got one from the server.
    """
    parts = differing(sent, fingerprint(resource))
    if not parts:
        return ()
    without = differing(sent, fingerprint({**resource, "internetMessageId": None}))
    return min(parts, without, key=len)


def differing(one: int, other: int) -> tuple[str, ...]:
    """Return which parts of two fingerprints differ."""
    found = []
    for number, name in enumerate(reversed(PARTS)):
        shift = number * _BITS
        if (one >> shift ^ other >> shift) & 0xFFFF:
            found.append(name)
    return tuple(reversed(found))


def _addresses(resource: JsonObject) -> str:
    message_id = str(resource.get("internetMessageId") or "").strip()
    lines = [str(resource.get("subject") or ""), message_id]
    lines.append(_one(resource.get("from") or resource.get("sender")))
    for name in RECIPIENTS:
        given = resource.get(name)
        lines.append(",".join(map(_one, given)) if isinstance(given, list) else "")
    return "\n".join(lines)


def _one(holder: object) -> str:
    inner = holder.get("emailAddress") if isinstance(holder, dict) else None
    return str(inner.get("address") or "").strip().casefold() if isinstance(inner, dict) else ""


def _state(resource: JsonObject) -> str:
    flag = resource.get("flag")
    status = flag.get("flagStatus") if isinstance(flag, dict) else None
    categories = resource.get("categories")
    names = sorted(map(str, categories)) if isinstance(categories, list) else []
    return "\n".join(
        (
            str(bool(resource.get("isRead"))),
            str(bool(resource.get("isDraft"))),
            str(status or "notFlagged"),
            str(resource.get("importance") or "normal").lower(),
            *names,
        )
    )


def _seconds(resource: JsonObject, name: str) -> str:
    try:
        moment = datetime.fromisoformat(str(resource.get(name)))
    except ValueError:
        return ""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _text(body: object) -> str:
    if not isinstance(body, dict):
        return ""
    content = str(body.get("content") or "")
    if str(body.get("contentType") or "").lower() == "html":
        # Linear, whatever the markup: what stands between tags, with references resolved.
        first, *rest = content.split("<")
        content = unescape(first + "".join(piece.partition(">")[2] for piece in rest))
    return _SPACES.sub("", content)
