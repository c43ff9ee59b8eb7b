"""A message resource as stored bytes, and the record made from it.

Graph's JSON is written back as it came: content properties first, then those that change without
the message becoming another one (``record.is_state``), each group in Graph's order. That order
lets one pass of SHA-256 give both the fingerprint of the content and the checksum of the whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

import orjson

from atlas_async.model.record import MessageRecord, is_state
from atlas_async.model.source import JsonObject

FINGERPRINT_HEX: Final = 32
"""Length of a content fingerprint: 128 bits in hex."""


MESSAGE_PROPERTIES: Final = (
    "id",
    "subject",
    "body",
    "bodyPreview",
    "from",
    "sender",
    "toRecipients",
    "ccRecipients",
    "bccRecipients",
    "replyTo",
    "receivedDateTime",
    "sentDateTime",
    "createdDateTime",
    "lastModifiedDateTime",
    "parentFolderId",
    "importance",
    "isRead",
    "isDraft",
    "hasAttachments",
    "internetMessageId",
    "conversationId",
    "flag",
    "categories",
)
"""What every page selects and every stored message has. More may be added, none taken away."""


@dataclass(frozen=True, slots=True)
class MessagePlaintext:
    """A message ready for sealing: its bytes, their hex SHA-256 and the content fingerprint."""

    data: bytes
    checksum: str
    content: str


def dump_json(value: object) -> bytes:
    r"""Return compact UTF-8 JSON.

    Mail may hold lone UTF-16 surrogates, which have no UTF-8; those are kept as ``\udXXX``
    escapes.

    Raises:
        ValueError: It is nested too deeply to be written.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    except RecursionError:
        msg = "JSON is nested too deeply"
        raise ValueError(msg) from None


def load_json(data: bytes) -> object:
    """Parse JSON strictly where that works and tolerantly where it does not.

    Raw control characters and lone surrogates, both seen in real mail, are accepted.

    Raises:
        ValueError: It is not JSON at all.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data.decode("utf-8", "surrogatepass")
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        msg = "JSON is nested too deeply"
        raise ValueError(msg) from None


def message_plaintext(resource: JsonObject) -> MessagePlaintext:
    """Return the bytes to store for ``resource``."""
    state = {name: resource[name] for name in resource if is_state(name)}
    content = {name: value for name, value in resource.items() if name not in state}
    head = dump_json(content)
    # The stored bytes begin with the content but for its closing brace, so both digests share it.
    shared = memoryview(head)[:-1]
    digest = hashlib.sha256(shared)
    whole = digest.copy()
    digest.update(b"}")
    fingerprint = digest.hexdigest()[:FINGERPRINT_HEX]
    if not state:
        return MessagePlaintext(head, digest.hexdigest(), fingerprint)
    tail = dump_json(state)[1:]
    if content:
        tail = b"," + tail
    whole.update(tail)
    return MessagePlaintext(b"".join((shared, tail)), whole.hexdigest(), fingerprint)


def message_record(
    resource: JsonObject, folder_id: str, plaintext: MessagePlaintext
) -> MessageRecord:
    """Return the record of a message that is stored as ``plaintext``, without attachments."""
    record = MessageRecord(
        object_id=_text(resource.get("id")),
        folder_id=folder_id,
        checksum=plaintext.checksum,
        size_bytes=len(plaintext.data),
        content=plaintext.content,
        subject=_text(resource.get("subject")),
        received=_text(resource.get("receivedDateTime")),
        modified="",
        change_key="",
        is_read=None,
        flag=None,
        categories=[],
        internet_message_id=_text(resource.get("internetMessageId")),
        sender=sender_address(resource),
        is_draft=bool(resource.get("isDraft")),
        has_attachments=bool(resource.get("hasAttachments")),
    )
    apply_state(record, resource)
    return record


def apply_state(record: MessageRecord, resource: JsonObject) -> bool:
    """Bring a record's changeable state up to date; tell whether a visible part changed.

    Only properties present in ``resource`` are taken, so a sparse update is enough. The folder is
    the caller's business.
    """
    before = (record["is_read"], record["flag"], record["categories"], record.get("flag_detail"))
    if "isRead" in resource:
        value = resource["isRead"]
        record["is_read"] = None if value is None else bool(value)
    if isinstance(resource.get("categories"), list):
        record["categories"] = [_text(c) for c in resource["categories"]]
    if "flag" in resource:
        _apply_flag(record, resource["flag"])
    if resource.get("lastModifiedDateTime"):
        record["modified"] = _text(resource["lastModifiedDateTime"])
    version = resource.get("@odata.etag") or resource.get("changeKey")
    if version:
        record["change_key"] = _text(version)
    return before != (
        record["is_read"],
        record["flag"],
        record["categories"],
        record.get("flag_detail"),
    )


def sender_address(resource: JsonObject) -> str:
    """Return the address in ``from`` (or ``sender``), or an empty string."""
    for field in ("from", "sender"):
        holder = resource.get(field)
        inner = holder.get("emailAddress") if isinstance(holder, dict) else None
        if isinstance(inner, dict) and inner.get("address"):
            return _text(inner["address"])
    return ""


def message_identity(resource: JsonObject) -> str:
    """Return what makes a message the same one in another folder or mailbox.

    That is its internet message id. Without one it is subject and times, as Graph shows them.
    """
    message_id = resource.get("internetMessageId")
    if isinstance(message_id, str) and message_id.strip():
        return message_id.strip()
    parts = ("subject", "sentDateTime", "receivedDateTime")
    return "\x00".join(_text(resource.get(name)) for name in parts)


def is_message_id(identity: str) -> bool:
    """Tell whether what ``message_identity`` returns is an internet message id."""
    return bool(identity) and "\x00" not in identity


def may_have_attachments(resource: JsonObject) -> bool:
    """Tell whether attachments must be asked for.

    ``hasAttachments`` is false for a message whose only attachments are inline images, so the body
    is searched for ``cid:`` references too.
    """
    if resource.get("hasAttachments"):
        return True
    body = resource.get("body")
    content = body.get("content") if isinstance(body, dict) else None
    return isinstance(content, str) and ("cid:" in content or "CID:" in content)


def _apply_flag(record: MessageRecord, flag: object) -> None:
    record.pop("flag_detail", None)
    if not isinstance(flag, dict):
        record["flag"] = None
        return
    status = flag.get("flagStatus")
    record["flag"] = None if status is None else _text(status)
    if len(flag) > 1:
        record["flag_detail"] = flag


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
