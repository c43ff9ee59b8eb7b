"""The full state of mailboxes, told without paging, tokens or id modes: what tests compare with."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from atlas_async.emulator.blobs import sha256_of
from atlas_async.emulator.items import item_digest
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part
from atlas_async.emulator.query import MESSAGE_PROPERTIES
from atlas_async.emulator.records import FolderState
from atlas_async.emulator.render import View, message_json
from atlas_async.emulator.tree import MAIL_ROOT, STORE_ROOT

_TOLD: Final = (
    "createdDateTime",
    "importance",
    "inferenceClassification",
    "conversationId",
    "conversationIndex",
    "sender",
    "from",
    "toRecipients",
    "ccRecipients",
    "bccRecipients",
    "replyTo",
)
_SHOWN: Final = (*MESSAGE_PROPERTIES, "internetMessageHeaders")


def mailbox_truth(mailbox: Mailbox, *, content: bool = True) -> dict[str, Any]:
    """Return folders and messages of a mailbox.

    With ``content`` False no body or attachment is generated, which keeps large mailboxes cheap.
    Reads every attachment otherwise; call it in a thread for large mailboxes.
    """
    folders = list(mailbox.below(STORE_ROOT))
    messages = [
        _message(mailbox, state, key, content=content)
        for state in folders
        for key in mailbox.keys(state.number)
    ]
    return {
        "address": (mailbox.person.mail or mailbox.person.upn).lower(),
        "userId": str(mailbox.person.id),
        "rootId": mailbox.ids.folder(MAIL_ROOT),
        "folders": [_folder(mailbox, state) for state in folders],
        "messages": messages,
    }


def _folder(mailbox: Mailbox, state: FolderState) -> dict[str, Any]:
    inside = {MAIL_ROOT} | {inner.number for inner in mailbox.below(MAIL_ROOT)}
    return {
        "id": mailbox.ids.folder(state.number),
        "parentId": mailbox.ids.folder(state.parent),
        "displayName": state.name,
        "path": list(_path(mailbox, state)),
        "wellKnownName": state.known,
        "hidden": state.hidden,
        "search": state.search,
        "belowRoot": state.number in inside,
        "totalItemCount": len(state.shelf),
        "unreadItemCount": state.unread,
        "extended": dict(state.extended),
    }


def _path(mailbox: Mailbox, state: FolderState) -> tuple[str, ...]:
    names: list[str] = []
    at = state
    while at.number not in {MAIL_ROOT, STORE_ROOT}:
        names.append(at.name)
        at = mailbox.folders[at.parent]
    return tuple(reversed(names))


def _message(mailbox: Mailbox, state: FolderState, key: int, *, content: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "immutableId": mailbox.message_id(key, immutable=True),
        "defaultId": mailbox.message_id(key, immutable=False),
        "folderId": mailbox.ids.folder(state.number),
        "isRead": mailbox.is_read(key),
        "receivedDateTime": mailbox.received(key).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if not content:
        return told
    full = message_json(mailbox, key, View(immutable=True, select=_SHOWN))
    body = str((full.get("body") or {}).get("content") or "")
    told |= {
        "subject": full["subject"],
        "internetMessageId": full["internetMessageId"],
        "isDraft": full["isDraft"],
        "flag": full["flag"],
        "categories": full["categories"],
        "hasAttachments": full["hasAttachments"],
        "bodySha": hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest(),
        "receivedDateTime": full["receivedDateTime"],
        "sentDateTime": full["sentDateTime"],
        "bodyType": (full.get("body") or {}).get("contentType"),
        **{name: full.get(name) for name in _TOLD},
        "internetMessageHeaders": full.get("internetMessageHeaders", []),
        "extended": _extended(mailbox, key),
        "attachments": [
            {"id": mailbox.ids.attachment(mailbox.ref(key, immutable=True), number), **_part(part)}
            for number, part in mailbox.parts(key)
        ],
    }
    return told


def _extended(mailbox: Mailbox, key: int) -> dict[str, Any]:
    entry = mailbox.entries.get(key)
    return dict(entry.extended) if entry is not None else {}


def _part(part: Part) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": part.kind.value,
        "name": part.name,
        "contentType": part.content_type,
        "size": part.size,
        "length": part.blob.size if part.blob is not None else None,
        "sha256": sha256_of(part.blob) if part.blob is not None else None,
        "contentId": part.content_id,
        "isInline": part.inline,
    }
    if part.item is not None:
        told["item"] = part.item
        told["itemDigest"] = item_digest(part.item)
        told["attachments"] = [_part(inner) for inner in part.inner]
    if part.source_url:
        told["sourceUrl"] = part.source_url
    return told
