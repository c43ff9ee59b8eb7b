"""Changes made behind the clients' backs: what users and other programs do to a mailbox."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from atlas_async.emulator.blobs import StoredBlob, SyntheticBlob
from atlas_async.emulator.dice import Dice
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part, PartKind, graph_time
from atlas_async.emulator.records import FolderState
from atlas_async.emulator.tree import MAIL_ROOT

_WRITABLE: Final = frozenset({"subject", "body", "isRead", "flag", "categories", "importance"})


def apply_change(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    """Apply one change and return the ids concerned.

    ``op`` is one of ``create``, ``update``, ``delete``, ``move``, ``bulk-create``, ``bulk-move``,
    ``bulk-delete``, ``bulk-read``, ``folder-create``, ``folder-rename``, ``folder-move``,
    ``folder-delete``. Messages are named by either id, folders by id, well-known name or path
    (a list of display names). Raises ``ValueError`` for an unknown ``op`` or a missing field,
    ``NotHere`` and ``MalformedId`` for names that do not exist.
    """
    operation = _OPERATIONS.get(str(change.get("op")))
    if operation is None:
        raise ValueError(f"unknown op: {change.get('op')}")
    try:
        return operation(mailbox, change)
    except KeyError as error:
        raise ValueError(f"{change['op']} needs the field {error.args[0]}") from error


def find_folder(mailbox: Mailbox, name: Any) -> FolderState:
    """Return a folder by id, well-known name, or path as a list of display names."""
    if not isinstance(name, list):
        return mailbox.folder(str(name))
    number = MAIL_ROOT
    for step in name:
        matching = [s for s in mailbox.children(number, hidden=True) if s.name == step]
        if not matching:
            raise ValueError(f"no folder {name}")
        number = matching[0].number
    return mailbox.folders[number]


def named(mailbox: Mailbox, key: int) -> dict[str, str]:
    """Return both ids of a message."""
    return {
        "immutableId": mailbox.message_id(key, immutable=True),
        "defaultId": mailbox.message_id(key, immutable=False),
    }


def _create(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    state = find_folder(mailbox, change["folder"])
    now = mailbox.now()
    base = _letter(mailbox, change, now)
    parts = tuple(_part(spec, now) for spec in change.get("attachments", []))
    base["hasAttachments"] = any(part.counts_as_attachment() for part in parts)
    return named(mailbox, mailbox.create(state.number, base, parts))


def _letter(mailbox: Mailbox, change: dict[str, Any], now: datetime) -> dict[str, Any]:
    person = mailbox.person
    me = {"emailAddress": {"name": person.display_name, "address": person.mail or person.upn}}
    other = {"emailAddress": {"name": "Somebody Else", "address": "else@partner.example"}}
    received = change.get("receivedDateTime") or graph_time(now)
    body = change.get("body", "<html><body>Hello</body></html>")
    if not isinstance(body, dict):
        body = {"contentType": "html", "content": str(body)}
    return {
        "createdDateTime": received,
        "lastModifiedDateTime": graph_time(now),
        "categories": change.get("categories", []),
        "receivedDateTime": received,
        "sentDateTime": change.get("sentDateTime") or received,
        "hasAttachments": False,
        "internetMessageId": change.get(
            "internetMessageId", f"<{secrets.token_hex(16)}@partner.example>"
        ),
        "subject": change.get("subject", "Created"),
        "bodyPreview": str(body.get("content"))[:255],
        "importance": change.get("importance", "normal"),
        "conversationId": "AAQkA" + secrets.token_hex(16) + "AQA=",
        "conversationIndex": "AQHa" + secrets.token_hex(8),
        "isDeliveryReceiptRequested": None,
        "isReadReceiptRequested": False,
        "isRead": bool(change.get("isRead", False)),
        "isDraft": bool(change.get("isDraft", False)),
        "inferenceClassification": "focused",
        "body": body,
        "sender": other,
        "from": other,
        "toRecipients": [me],
        "ccRecipients": [],
        "bccRecipients": [],
        "replyTo": change.get("replyTo", []),
        "flag": change.get("flag", {"flagStatus": "notFlagged"}),
    }


def _part(spec: dict[str, Any], now: datetime) -> Part:
    """``bytes`` (base64) or ``size`` gives the content; ``url`` makes a reference."""
    name = str(spec.get("name", "file.bin"))
    if "url" in spec:
        return Part(PartKind.REFERENCE, name, None, now, source_url=str(spec["url"]))
    if "bytes" in spec:
        try:
            blob: StoredBlob | SyntheticBlob = StoredBlob(
                base64.b64decode(str(spec["bytes"]), validate=True)
            )
        except binascii.Error as error:
            raise ValueError("bytes must be base64") from error
    else:
        seed = int(spec.get("seed", Dice(int(now.timestamp())).word() >> 1))
        blob = SyntheticBlob(seed, int(spec["size"]))
    return Part(
        PartKind.FILE,
        name,
        str(spec.get("contentType", "application/octet-stream")),
        now,
        blob,
        inline=bool(spec.get("isInline", False)),
        content_id=spec.get("contentId"),
    )


def _update(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    key = mailbox.message(str(change["message"]))
    patch = dict(change["patch"])
    unknown = set(patch) - _WRITABLE
    if unknown:
        raise ValueError(f"cannot change {', '.join(sorted(unknown))}")
    if patch:
        mailbox.update(key, patch)
    if "attachments" in change:
        now = mailbox.now()
        first = mailbox.entry(key).next_part
        parts = [_part(spec, now) for spec in change["attachments"]]
        mailbox.set_parts(key, list(enumerate(parts, first)))
    return named(mailbox, key)


def _delete(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    key = mailbox.message(str(change["message"]))
    ids = named(mailbox, key)
    mailbox.delete(key, hard=bool(change.get("hard", False)))
    return ids


def _move(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    key = mailbox.message(str(change["message"]))
    mailbox.move(key, find_folder(mailbox, change["folder"]).number)
    return named(mailbox, key)


def _bulk_create(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    made = [
        _create(mailbox, {**change, "subject": f"{change.get('subject', 'Bulk')} {number}"})
        for number in range(int(change["count"]))
    ]
    return {"messages": made}


def _some(mailbox: Mailbox, change: dict[str, Any]) -> list[int]:
    """Return the newest ``count`` keys of ``folder`` after the first ``skip``."""
    state = find_folder(mailbox, change["folder"])
    skip = int(change.get("skip", 0))
    keys = state.shelf.keys(mailbox.received, skip)
    return [key for key, _ in zip(keys, range(int(change["count"])), strict=False)]


def _bulk_move(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    target = find_folder(mailbox, change["to"]).number
    keys = _some(mailbox, change)
    for key in keys:
        mailbox.move(key, target)
    return {"messages": [named(mailbox, key) for key in keys]}


def _bulk_delete(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    keys = _some(mailbox, change)
    ids = [named(mailbox, key) for key in keys]
    for key in keys:
        mailbox.delete(key, hard=bool(change.get("hard", False)))
    return {"messages": ids}


def _bulk_read(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    keys = _some(mailbox, change)
    for key in keys:
        mailbox.update(key, {"isRead": bool(change.get("isRead", not mailbox.is_read(key)))})
    return {"messages": [named(mailbox, key) for key in keys]}


def _folder_create(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    parent = find_folder(mailbox, change.get("parent", "msgfolderroot"))
    hidden = bool(change.get("hidden", False))
    state = mailbox.add_folder(parent.number, str(change["name"]), hidden=hidden)
    return {"id": mailbox.ids.folder(state.number)}


def _folder_rename(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    state = find_folder(mailbox, change["folder"])
    mailbox.change_folder(state, name=str(change["name"]))
    return {"id": mailbox.ids.folder(state.number)}


def _folder_move(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    state = find_folder(mailbox, change["folder"])
    mailbox.change_folder(state, parent=find_folder(mailbox, change["to"]).number)
    return {"id": mailbox.ids.folder(state.number)}


def _folder_delete(mailbox: Mailbox, change: dict[str, Any]) -> dict[str, Any]:
    state = find_folder(mailbox, change["folder"])
    mailbox.delete_folder(state, hard=bool(change.get("hard", False)))
    return {"id": mailbox.ids.folder(state.number)}


_OPERATIONS: Final[dict[str, Callable[[Mailbox, dict[str, Any]], dict[str, Any]]]] = {
    "create": _create,
    "update": _update,
    "delete": _delete,
    "move": _move,
    "bulk-create": _bulk_create,
    "bulk-move": _bulk_move,
    "bulk-delete": _bulk_delete,
    "bulk-read": _bulk_read,
    "folder-create": _folder_create,
    "folder-rename": _folder_rename,
    "folder-move": _folder_move,
    "folder-delete": _folder_delete,
}
