"""Resources as JSON: messages, folders and attachments of a mailbox as Graph would show them."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from atlas_async.emulator.letters import is_generated
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part, graph_time, part_json
from atlas_async.emulator.query import MESSAGE_PROPERTIES, Expansion
from atlas_async.emulator.records import FolderState

_TAGS: Final = re.compile(r"<[^>]*>")
_CLASS: Final = "String 0x001A"
_SMIME: Final = "application/pkcs7-mime"


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
    _expand(mailbox, key, view, shown)
    return shown


def sparse_json(mailbox: Mailbox, key: int, view: View) -> dict[str, Any]:
    """Return only what marks and identifies a message, and the properties changed so far."""
    full = message_json(mailbox, key, view)
    entry = mailbox.entries.get(key)
    changed = set(entry.patch) if entry is not None else set()
    kept = {"@odata.type", "@odata.etag", "id"} | changed
    return {name: value for name, value in full.items() if name in kept}


def folder_json(
    mailbox: Mailbox, state: FolderState, select: tuple[str, ...] | None, *, typed: bool = False
) -> dict[str, Any]:
    """Return a folder resource; search folders carry their own type."""
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
    return shown


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
        )
        if view.select is not None:
            kept = {"@odata.type", "@odata.mediaContentType", "id", "item", *view.select}
            full = {name: value for name, value in full.items() if name in kept}
        shown.append(full)
    return shown


def is_smime(mailbox: Mailbox, key: int) -> bool:
    """Whether the message is one that Exchange cannot convert to MIME."""
    return any(part.content_type == _SMIME for _, part in mailbox.parts(key))


def extended_value(mailbox: Mailbox, key: int, name: str) -> str | None:
    """Return a single-value extended property as text, or None."""
    entry = mailbox.entries.get(key)
    if entry is not None and name in entry.extended:
        return entry.extended[name]
    if name.lower() == _CLASS.lower():
        return "IPM.Note.SMIME" if is_smime(mailbox, key) else "IPM.Note"
    if name.lower() == "integer 0xe07" or name.lower() == "integer 0x0e07":
        draft = is_generated(key) and bool(
            mailbox.letters.resource(key, with_body=False)["isDraft"]
        )
        return str(int(mailbox.is_read(key)) | (8 if draft else 0))
    return None


def _expand(mailbox: Mailbox, key: int, view: View, shown: dict[str, Any]) -> None:
    expansion = view.expansion
    if expansion.attachments:
        plain = View(view.immutable, None, expansion, inline_limit=view.inline_limit)
        shown["attachments"] = attachments_json(mailbox, key, mailbox.parts(key), plain)
    if expansion.extended:
        found = [(name, extended_value(mailbox, key, name)) for name in expansion.extended]
        values = [{"id": name, "value": value} for name, value in found if value is not None]
        if values:
            shown["singleValueExtendedProperties"] = values


def _on_request(name: str, values: dict[str, Any]) -> Any:
    if name == "internetMessageHeaders":
        sender = (values.get("from") or {}).get("emailAddress", {}).get("address", "")
        return values.get(name) or [
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
