"""From a client's JSON to stored properties: what a create or update may set, and what it means."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.blobs import StoredBlob
from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.items import MESSAGE, item_bytes, item_kind, kept_item
from atlas_async.emulator.parts import Part, PartKind, graph_time
from atlas_async.emulator.posted_state import check_names, checked_headers, writable
from atlas_async.emulator.properties import (
    CONVERSATION_INDEX,
    DELIVERED,
    FIXED,
    MESSAGE_FLAGS,
    SUBMITTED,
    Extended,
    posted_properties,
)

_UNSENT: Final = 8
_READ: Final = 1
_THREAD_BYTES: Final = 22
"""The head of a conversation index; what follows it are the replies."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored."""

    base: dict[str, Any]
    parts: tuple[Part, ...]
    extended: Extended


def new_message(values: dict[str, Any], now: datetime, behaviour: Behaviour) -> NewMessage:
    """Return what a create request stores. Raises ``Refusal`` (400).

    Without the message flags property (``Integer 0x0E07``) the message is a draft. Delivery and
    submit times come from ``SystemTime 0x0E06`` and ``SystemTime 0x0039``, as the date
    properties themselves are read-only.
    """
    check_names(values)
    extended = posted_properties(values)
    native = {name: str(value) for name, value in extended.items() if name in FIXED}
    flags = int(native[MESSAGE_FLAGS]) if MESSAGE_FLAGS in native else None
    stamp = graph_time(now)
    written = writable(values)
    draft = flags is None or bool(flags & _UNSENT)
    read = bool(flags & _READ) if flags is not None else True
    parts = tuple(new_part(part, now, behaviour) for part in values.get("attachments") or ())
    base: dict[str, Any] = {
        "createdDateTime": stamp,
        "lastModifiedDateTime": stamp,
        "categories": [],
        "receivedDateTime": native.get(DELIVERED, stamp),
        "sentDateTime": native.get(SUBMITTED, stamp),
        "hasAttachments": any(part.counts_as_attachment() for part in parts),
        "internetMessageId": f"<{secrets.token_hex(16)}@emulator.example>",
        "subject": "",
        "bodyPreview": "",
        "importance": "normal",
        "conversationId": _conversation(native.get(CONVERSATION_INDEX)),
        "conversationIndex": native.get(CONVERSATION_INDEX) or "AQHa" + secrets.token_hex(8),
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
    base["internetMessageHeaders"] = checked_headers(values.get("internetMessageHeaders") or [])
    return NewMessage(base, parts, extended)


def new_part(values: dict[str, Any], now: datetime, behaviour: Behaviour) -> Part:
    """Return the attachment that a request describes. Raises ``Refusal`` (400)."""
    kind = str(values.get("@odata.type", "")).removeprefix("#").lower()
    if kind not in _PARTS:
        raise Refusal(400, "RequestBodyRead", "The type of the attachment is missing or unknown.")
    if values.get("name") is None:
        raise _required("Name")
    return _PARTS[kind](values, now, behaviour)


def _file_part(values: dict[str, Any], now: datetime, _behaviour: Behaviour) -> Part:
    if values.get("contentBytes") is None:
        raise _required("ContentBytes")
    try:
        raw = base64.b64decode(str(values["contentBytes"]), validate=True)
    except binascii.Error as error:
        raise Refusal(400, "ErrorInvalidRequest", "contentBytes is not base64.") from error
    return Part(
        PartKind.FILE,
        str(values["name"]),
        values.get("contentType"),
        now,
        StoredBlob(raw),
        inline=bool(values.get("isInline", False)),
        content_id=values.get("contentId"),
    )


def _item_part(values: dict[str, Any], now: datetime, behaviour: Behaviour) -> Part:
    item = values.get("item")
    if not isinstance(item, dict):
        raise Refusal(400, "ErrorInvalidProperty", "Required property item is missing or invalid.")
    if item.get("attachments") and not behaviour.nested_attachments:
        raise Refusal(400, "ErrorInvalidProperty", "An attached item cannot have attachments.")
    kind = item_kind(item)
    inner: tuple[Part, ...] = ()
    if kind == MESSAGE:
        # An attached message follows the rules of every new one: its dates and whether it is a
        # draft come from extended properties.
        made = new_message(item, now, behaviour)
        kept, inner = {"@odata.type": kind, "id": "", **made.base}, made.parts
    else:
        kept = kept_item(kind, item, now)
    blob = StoredBlob(item_bytes(kept, inner))
    inline = bool(values.get("isInline", False))
    name = str(values["name"])
    return Part(PartKind.ITEM, name, None, now, blob, inline=inline, item=kept, inner=inner)


def _reference_part(values: dict[str, Any], now: datetime, behaviour: Behaviour) -> Part:
    """v1.0 demands ``sourceUrl`` and does not know it: links can be read there, not attached."""
    url = values.get("sourceUrl")
    if not url:
        raise _required("SourceUrl")
    if not behaviour.reference_writes:
        raise Refusal(
            400,
            "RequestBodyRead",
            "The property 'sourceUrl' does not exist on type "
            "'microsoft.graph.referenceAttachment'. Make sure to only use property names that are "
            "defined by the type.",
        )
    inline = bool(values.get("isInline", False))
    name = str(values["name"])
    return Part(PartKind.REFERENCE, name, None, now, inline=inline, source_url=str(url))


_PARTS: Final = {
    "microsoft.graph.fileattachment": _file_part,
    "microsoft.graph.itemattachment": _item_part,
    "microsoft.graph.referenceattachment": _reference_part,
}


def _required(name: str) -> Refusal:
    return Refusal(
        400, "ErrorInvalidProperty", f"The property '{name}' is required when creating the entity."
    )


def _conversation(index: str | None) -> str:
    """Return a new conversation's id, or that of the conversation whose index is given."""
    if index is None:
        return "AAQkA" + secrets.token_hex(16) + "AQA="
    thread = base64.b64decode(index)[:_THREAD_BYTES]
    return "AAQkA" + hashlib.sha256(thread).hexdigest()[:32] + "AQA="
