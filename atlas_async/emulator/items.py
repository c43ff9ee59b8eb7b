"""Attached items: messages, events and contacts as Graph takes, keeps and shows them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.mime import message_mime
from atlas_async.emulator.parts import Part, graph_time

MESSAGE: Final = "#microsoft.graph.message"
EVENT: Final = "#microsoft.graph.event"
CONTACT: Final = "#microsoft.graph.contact"
_KINDS: Final = {kind.lower(): kind for kind in (MESSAGE, EVENT, CONTACT)}
_CRLF: Final = "\r\n"


def item_kind(item: dict[str, Any]) -> str:
    """Return the type of a posted item. Raises ``Refusal`` (400) when it names none."""
    named = str(item.get("@odata.type") or "").removeprefix("#").lower()
    kind = _KINDS.get(f"#{named}")
    if kind is None:
        raise Refusal(400, "RequestBodyRead", "Cannot create an abstract class.")
    return kind


def kept_item(kind: str, item: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return an event or a contact as it is stored."""
    stamp = graph_time(now)
    kept = {name: value for name, value in item.items() if name != "attachments"}
    times = {"createdDateTime": stamp, "lastModifiedDateTime": stamp}
    return {**kept, **times, "@odata.type": kind, "id": ""}


def item_bytes(item: dict[str, Any], inner: Sequence[Part]) -> bytes:
    """Return what ``$value`` answers: MIME, iCalendar or vCard."""
    kind = item.get("@odata.type")
    if kind == EVENT:
        return _event_text(item).encode("utf-8", "replace")
    if kind == CONTACT:
        return _contact_text(item).encode("utf-8", "replace")
    return b"".join(message_mime(item, inner))


def item_digest(item: dict[str, Any]) -> str:
    """Return a SHA-256 in hex over what a person would see of an item, whoever made it."""
    body = item.get("body") or {}
    seen = [
        item.get("@odata.type"),
        item.get("subject") or item.get("displayName"),
        str(body.get("contentType") or "").lower(),
        body.get("content"),
        item.get("from"),
        item.get("toRecipients"),
        item.get("internetMessageId"),
    ]
    return hashlib.sha256(repr(seen).encode("utf-8", "surrogatepass")).hexdigest()


def _event_text(item: dict[str, Any]) -> str:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT"]
    lines.append(f"SUMMARY:{_line(item.get('subject'))}")
    for name, label in (("start", "DTSTART"), ("end", "DTEND")):
        moment = str((item.get(name) or {}).get("dateTime") or "")
        if moment:
            lines.append(f"{label}:{moment[:19].replace('-', '').replace(':', '')}")
    lines.append(f"DESCRIPTION:{_line((item.get('body') or {}).get('content'))}")
    return _CRLF.join([*lines, "END:VEVENT", "END:VCALENDAR", ""])


def _contact_text(item: dict[str, Any]) -> str:
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"FN:{_line(item.get('displayName'))}"]
    lines.append(f"N:{_line(item.get('surname'))};{_line(item.get('givenName'))};;;")
    addresses = item.get("emailAddresses") or ()
    lines += [f"EMAIL:{_line(address.get('address'))}" for address in addresses]
    return _CRLF.join([*lines, "END:VCARD", ""])


def _line(value: Any) -> str:
    text = str(value or "").replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return text.replace("\r\n", "\\n").replace("\n", "\\n")
