"""Resources as JSON: messages, folders and attachments of a mailbox as Graph would show them."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part, graph_time, part_json
from atlas_async.emulator.properties import (
    CONVERSATION_INDEX,
    DELIVERED,
    FIXED,
    MESSAGE_CLASS,
    MESSAGE_FLAGS,
    MULTI,
    SINGLE,
    SUBMITTED,
    TRANSPORT_HEADERS,
    Extended,
    transport_headers,
)
from atlas_async.emulator.query import MESSAGE_PROPERTIES, Expansion
from atlas_async.emulator.records import FolderState

_TAGS: Final = re.compile(r"<[^>]*>")
_SMIME: Final = "application/pkcs7-mime"
_SMIME_CLASS: Final = "IPM.Note.SMIME"
_READ_FLAG: Final = 1
_UNSENT_FLAG: Final = 8
_ATTACHMENT_FLAG: Final = 16
_IMPORTANCE: Final = ("low", "normal", "high")
_FROM_PROPERTY: Final = {
    DELIVERED: "receivedDateTime",
    SUBMITTED: "sentDateTime",
    "String 0x37": "subject",
    "String 0x1035": "internetMessageId",
    CONVERSATION_INDEX: "conversationIndex",
    "SystemTime 0x3007": "createdDateTime",
    "SystemTime 0x3008": "lastModifiedDateTime",
}
_HEADERS: Final = "internetMessageHeaders"


@dataclass(frozen=True, slots=True)
class View:
    """How messages are to be shown: id format, selected properties, expansions, body type."""

    immutable: bool
    select: tuple[str, ...] | None = None
    expansion: Expansion = field(default_factory=Expansion)
    text_body: bool = False
    inline_limit: int = 0
    typed: bool = False


def message_json(mailbox: Mailbox, key: int, view: View) -> dict[str, Any]:
    """Return a message resource. Raises ``NotHere`` when the message is gone."""
    folder, _ = mailbox.place(key)
    entry = mailbox.entries.get(key)
    select = view.select
    with_body = select is None or "body" in select or "uniqueBody" in select
    if entry is not None and entry.base is not None:
        values = dict(entry.base)
        raw = entry.extended.get(TRANSPORT_HEADERS)
        if isinstance(raw, str):
            values[_HEADERS] = transport_headers(raw)
    else:
        values = mailbox.letters.resource(key, with_body=with_body)
    if entry is not None:
        values.update(entry.patch)
        if entry.modified is not None:
            values["lastModifiedDateTime"] = graph_time(entry.modified)
    version = entry.version if entry is not None else 0
    message_id = mailbox.message_id(key, immutable=view.immutable)
    change_key = _change_key(key, version)
    values["changeKey"] = change_key
    values["parentFolderId"] = mailbox.ids.folder(folder)
    values["webLink"] = f"https://outlook.office365.com/owa/?ItemID={message_id}&exvsurl=1"
    if view.text_body and "body" in values:
        values["body"] = _as_text(values["body"])
    shown: dict[str, Any] = {"@odata.type": "#microsoft.graph.message"} if view.typed else {}
    shown["@odata.etag"] = f'W/"{change_key}"'
    shown["id"] = message_id
    for name in MESSAGE_PROPERTIES if select is None else select:
        shown[name] = _on_request(name, values) if name not in values else values[name]
    if not shown.get(_HEADERS, True):
        del shown[_HEADERS]
    expansion = view.expansion
    if expansion.attachments or expansion.extended or expansion.multiple:
        _expand(mailbox, key, view, shown, values)
    return shown


def sparse_json(mailbox: Mailbox, key: int, view: View) -> dict[str, Any]:
    """Return only what marks and identifies a message, and the properties changed so far."""
    full = message_json(mailbox, key, view)
    entry = mailbox.entries.get(key)
    changed = set(entry.patch) if entry is not None else set()
    kept = {"@odata.type", "@odata.etag", "id"} | changed
    return {name: value for name, value in full.items() if name in kept}


def folder_json(
    mailbox: Mailbox,
    state: FolderState,
    select: tuple[str, ...] | None,
    expansion: Expansion | None = None,
    *,
    typed: bool = False,
) -> dict[str, Any]:
    """Return a folder resource; search folders carry their own type.

    Of an expansion the extended properties are shown; child folders are left to the caller.
    """
    values: dict[str, Any] = {
        "displayName": state.name,
        "parentFolderId": mailbox.ids.folder(state.parent) if state.parent >= 0 else None,
        "childFolderCount": len(mailbox.children(state.number, hidden=True)),
        "unreadItemCount": state.unread,
        "totalItemCount": len(state.shelf),
        "sizeInBytes": len(state.shelf) * 16_384,
        "isHidden": state.hidden,
    }
    shown: dict[str, Any] = {}
    if state.search:
        shown["@odata.type"] = "#microsoft.graph.mailSearchFolder"
    elif typed:
        shown["@odata.type"] = "#microsoft.graph.mailFolder"
    shown["id"] = mailbox.ids.folder(state.number)
    for name in values if select is None else select:
        shown[name] = values[name]
    if state.search and select is None:
        shown |= {
            "isSupported": True,
            "includeNestedFolders": True,
            "sourceFolderIds": [mailbox.ids.folder(2)],
            "filterQuery": "isRead eq false",
        }
    return shown if expansion is None else shown | expanded(state.extended, expansion)


def attachments_json(
    mailbox: Mailbox,
    key: int,
    parts: Iterable[tuple[int, Part]],
    view: View,
) -> list[dict[str, Any]]:
    """Return attachment resources of one message in order."""
    ref = mailbox.ref(key, immutable=view.immutable)
    shown = []
    for number, part in parts:
        limit = view.inline_limit if view.select is None or "contentBytes" in view.select else -1
        full = part_json(
            part,
            mailbox.ids.attachment(ref, number),
            inline_limit=limit,
            expand_item=view.expansion.item,
            nested=view.expansion.nested,
        )
        if view.select is not None:
            kept = {"@odata.type", "@odata.mediaContentType", "id", "item", *view.select}
            full = {name: value for name, value in full.items() if name in kept}
        shown.append(full)
    return shown


def is_smime(mailbox: Mailbox, key: int) -> bool:
    """Whether the message is one that Exchange cannot convert to MIME."""
    return any(part.content_type == _SMIME for _, part in mailbox.parts(key))


def expanded(held: Extended, expansion: Expansion) -> dict[str, Any]:
    """Return the stored extended properties that an expansion asks for, as they are shown."""
    shown: dict[str, Any] = {}
    for label, names in ((SINGLE, expansion.extended), (MULTI, expansion.multiple)):
        listed = [{"id": name, "value": held[name]} for name in names if name in held]
        if listed:
            shown[label] = listed
    return shown


def _extended_value(mailbox: Mailbox, key: int, name: str, values: dict[str, Any]) -> Any:
    entry = mailbox.entries.get(key)
    if entry is not None and name in entry.extended and name not in FIXED:
        return entry.extended[name]
    if name == MESSAGE_CLASS:
        return _SMIME_CLASS if is_smime(mailbox, key) else "IPM.Note"
    if name == MESSAGE_FLAGS:
        flags = _READ_FLAG * mailbox.is_read(key) | _UNSENT_FLAG * bool(values["isDraft"])
        return str(flags | _ATTACHMENT_FLAG * bool(mailbox.parts(key)))
    if name == TRANSPORT_HEADERS:
        listed = values[_HEADERS] if _HEADERS in values else _on_request(_HEADERS, values)
        lines = [f"{header['name']}: {header['value']}\r\n" for header in listed or ()]
        return "".join(lines) + "\r\n" if lines else None
    if name == "Integer 0x17":
        return str(_IMPORTANCE.index(str(values["importance"]).lower()))
    return values.get(_FROM_PROPERTY[name]) if name in _FROM_PROPERTY else None


def _expand(
    mailbox: Mailbox, key: int, view: View, shown: dict[str, Any], values: dict[str, Any]
) -> None:
    expansion = view.expansion
    if expansion.attachments:
        plain = View(view.immutable, None, expansion, inline_limit=view.inline_limit)
        shown["attachments"] = attachments_json(mailbox, key, mailbox.parts(key), plain)
    found = [(name, _extended_value(mailbox, key, name, values)) for name in expansion.extended]
    single = [{"id": name, "value": value} for name, value in found if isinstance(value, str)]
    if single:
        shown[SINGLE] = single
    entry = mailbox.entries.get(key)
    if entry is not None:
        shown |= expanded(entry.extended, Expansion(multiple=expansion.multiple))


def _on_request(name: str, values: dict[str, Any]) -> Any:
    if name == _HEADERS:
        sender = (values.get("from") or {}).get("emailAddress", {}).get("address", "")
        return [
            {"name": "Received", "value": f"from mx.{sender.rpartition('@')[2]} by contoso"},
            {"name": "Subject", "value": str(values.get("subject") or "")},
            {"name": "Message-ID", "value": str(values.get("internetMessageId") or "")},
            {"name": "X-MS-Exchange-Organization-SCL", "value": "1"},
        ]
    return values.get("body") if name == "uniqueBody" else None


def _change_key(key: int, version: int) -> str:
    packed = struct.pack("<QI", key, version)
    return "CQAAABYAAAA" + base64.b64encode(packed).decode("ascii")


def _as_text(body: dict[str, Any]) -> dict[str, Any]:
    if str(body.get("contentType")).lower() != "html":
        return body
    return {"contentType": "text", "content": _TAGS.sub("", str(body.get("content") or ""))}
