"""From a client's JSON to stored properties: what a create or update may set, and what it means."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from atlas_async.emulator.blobs import StoredBlob
from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.mime import message_mime
from atlas_async.emulator.parts import Part, PartKind, graph_time
from atlas_async.emulator.query import MESSAGE_ON_REQUEST, MESSAGE_PROPERTIES

_WRITABLE: Final = frozenset(
    {
        "subject",
        "body",
        "toRecipients",
        "ccRecipients",
        "bccRecipients",
        "replyTo",
        "from",
        "sender",
        "importance",
        "isRead",
        "flag",
        "categories",
        "internetMessageId",
        "inferenceClassification",
        "isDeliveryReceiptRequested",
        "isReadReceiptRequested",
    }
)
DRAFT_ONLY: Final = frozenset(
    {
        "subject",
        "body",
        "toRecipients",
        "ccRecipients",
        "bccRecipients",
        "replyTo",
        "from",
        "sender",
        "internetMessageId",
    }
)
"""Properties that Microsoft marks as updatable only while ``isDraft`` is true."""
_RECIPIENT_LISTS: Final = ("toRecipients", "ccRecipients", "bccRecipients", "replyTo")
_EXTENDED: Final = "singleValueExtendedProperties"
_FLAGS: Final = "integer 0x0e07"
_DELIVERED: Final = "systemtime 0x0e06"
_SUBMITTED: Final = "systemtime 0x0039"
_UNSENT: Final = 8
_READ: Final = 1


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored."""

    base: dict[str, Any]
    parts: tuple[Part, ...]
    extended: dict[str, str]


def new_message(values: dict[str, Any], now: datetime) -> NewMessage:
    """Return what a create request stores. Raises ``Refusal`` (400).

    Without the message flags property (``Integer 0x0E07``) the message is a draft. Delivery and
    submit times come from ``SystemTime 0x0E06`` and ``SystemTime 0x0039``, as the date
    properties themselves are read-only.
    """
    _check_names(values)
    extended = _extended(values)
    lowered = {name.lower(): value for name, value in extended.items()}
    flags = int(lowered[_FLAGS]) if _FLAGS in lowered else None
    stamp = graph_time(now)
    written = writable(values)
    draft = flags is None or bool(flags & _UNSENT)
    read = bool(flags & _READ) if flags is not None else True
    parts = tuple(new_part(part, now) for part in values.get("attachments") or ())
    base: dict[str, Any] = {
        "createdDateTime": stamp,
        "lastModifiedDateTime": stamp,
        "categories": [],
        "receivedDateTime": _moment(lowered.get(_DELIVERED), stamp),
        "sentDateTime": _moment(lowered.get(_SUBMITTED), stamp),
        "hasAttachments": any(part.counts_as_attachment() for part in parts),
        "internetMessageId": f"<{secrets.token_hex(16)}@emulator.example>",
        "subject": "",
        "bodyPreview": "",
        "importance": "normal",
        "conversationId": "AAQkA" + secrets.token_hex(16) + "AQA=",
        "conversationIndex": "AQHa" + secrets.token_hex(8),
        "isDeliveryReceiptRequested": None if draft else False,
        "isReadReceiptRequested": False,
        "isRead": read,
        "isDraft": draft,
        "inferenceClassification": "focused",
        "body": {"contentType": "text", "content": ""},
        "sender": None,
        "from": None,
        "toRecipients": [],
        "ccRecipients": [],
        "bccRecipients": [],
        "replyTo": [],
        "flag": {"flagStatus": "notFlagged"},
        **written,
    }
    if "isRead" not in written:
        base["isRead"] = read
    if values.get("internetMessageHeaders"):
        base["internetMessageHeaders"] = _headers(values["internetMessageHeaders"])
    return NewMessage(base, parts, extended)


def writable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that a client may set; read-only ones are ignored.

    Raises ``Refusal`` (400) for recipients that are no addresses and for malformed bodies.
    """
    written = {name: value for name, value in values.items() if name in _WRITABLE}
    for name in _RECIPIENT_LISTS:
        for recipient in written.get(name) or ():
            _check_recipient(recipient)
    body = written.get("body")
    if body is not None:
        if not isinstance(body, dict):
            raise Refusal(400, "RequestBodyRead", "The property 'body' must be an object.")
        kind = str(body.get("contentType", "text")).lower()
        content = str(body.get("content") or "")
        written["body"] = {"contentType": kind, "content": content}
        written["bodyPreview"] = content[:255]
    return written


def new_part(values: dict[str, Any], now: datetime) -> Part:
    """Return the attachment that a request describes. Raises ``Refusal`` (400)."""
    kind = str(values.get("@odata.type", "")).removeprefix("#").lower()
    name = str(values.get("name") or "")
    inline = bool(values.get("isInline", False))
    content_type = values.get("contentType")
    if kind == "microsoft.graph.fileattachment":
        try:
            raw = base64.b64decode(str(values.get("contentBytes") or ""), validate=True)
        except binascii.Error as error:
            raise Refusal(400, "ErrorInvalidRequest", "contentBytes is not base64.") from error
        return Part(
            PartKind.FILE,
            name,
            content_type,
            now,
            StoredBlob(raw),
            inline=inline,
            content_id=values.get("contentId"),
        )
    if kind == "microsoft.graph.itemattachment":
        item = values.get("item")
        if not isinstance(item, dict):
            raise Refusal(
                400, "ErrorInvalidProperty", "Required property item is missing or invalid."
            )
        inner = tuple(new_part(part, now) for part in item.get("attachments") or ())
        blob = StoredBlob(b"".join(message_mime(item, inner)))
        return Part(PartKind.ITEM, name, None, now, blob, inline=inline, item=item)
    if kind == "microsoft.graph.referenceattachment":
        url = str(values.get("sourceUrl") or "")
        return Part(PartKind.REFERENCE, name, None, now, inline=inline, source_url=url)
    raise Refusal(400, "RequestBodyRead", "The type of the attachment is missing or unknown.")


def _check_names(values: dict[str, Any]) -> None:
    known = {*MESSAGE_PROPERTIES, *MESSAGE_ON_REQUEST, "id", "attachments", _EXTENDED}
    known |= {"multiValueExtendedProperties", "extensions"}
    for name in values:
        if name not in known and "@" not in name:
            raise Refusal(
                400,
                "RequestBodyRead",
                f"The property '{name}' does not exist on type 'microsoft.graph.message'. Make "
                "sure to only use property names that are defined by the type.",
            )


def _extended(values: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in values.get(_EXTENDED) or ():
        name, value = item.get("id"), item.get("value")
        if not isinstance(name, str) or not isinstance(value, str):
            raise Refusal(
                400, "ErrorInvalidProperty", "An extended property needs id and value as text."
            )
        if name.lower() == _FLAGS and not value.lstrip("-").isdecimal():
            raise Refusal(400, "ErrorInvalidProperty", "The value of 0x0E07 must be a number.")
        found[name] = value
    return found


def _moment(text: str | None, default: str) -> str:
    if text is None:
        return default
    try:
        return graph_time(datetime.fromisoformat(text))
    except ValueError as error:
        raise Refusal(
            400, "ErrorInvalidProperty", "The value of a SystemTime property is no time."
        ) from error


def _check_recipient(recipient: Any) -> None:
    address = ""
    if isinstance(recipient, dict):
        address = str((recipient.get("emailAddress") or {}).get("address") or "")
    if "@" not in address and not address.lower().startswith("/o="):
        raise Refusal(
            400,
            "ErrorInvalidRecipients",
            f"At least one recipient isn't valid., Recipient '{address}' isn't resolved.",
        )


def _headers(headers: Any) -> list[dict[str, Any]]:
    if not isinstance(headers, list):
        raise Refusal(400, "RequestBodyRead", "internetMessageHeaders must be a list.")
    for header in headers:
        name = str(header.get("name", ""))
        if not name.lower().startswith("x-"):
            raise Refusal(
                400,
                "InvalidInternetMessageHeader",
                f"The internet message header name '{name}' should start with 'x-' or 'X-'.",
            )
    return headers
