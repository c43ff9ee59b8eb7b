"""A message for a person: headers, body as text, attachments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from atlas_async.cli.documents import Document
from atlas_async.cli.found_lines import FoundMessage
from atlas_async.cli.terminal_text import date, size, visible
from atlas_async.errors import AtlasError
from atlas_async.model.mail_text import html_to_text
from atlas_async.model.record import AttachmentRecord
from atlas_async.operations.reading import MessageContent

PEOPLE = (
    ("From", "from"),
    ("To", "toRecipients"),
    ("Cc", "ccRecipients"),
    ("Bcc", "bccRecipients"),
    ("Reply-To", "replyTo"),
)


def message_text(found: MessageContent) -> str:
    """Return headers, body and attachments; nothing in it can control a terminal."""
    resource, record = found.resource, found.record
    lines = [f"Subject: {visible(record['subject'])}"]
    for title, name in PEOPLE:
        people = _people(resource.get(name))
        if people:
            lines.append(f"{title}: {', '.join(people)}")
    lines.append(f"Date: {date(_text(resource.get('sentDateTime')) or record['received'])}")
    lines.append(f"Message-ID: {visible(record['internet_message_id'])}")
    if record["categories"]:
        lines.append(f"Categories: {', '.join(map(visible, record['categories']))}")
    lines += ["", visible(_body(resource), keep="\n\t")]
    attachments = record.get("attachments", [])
    if attachments:
        lines += ["", f"Attachments ({len(attachments)}):"]
        lines += [f"  {attachment_line(item)}" for item in attachments]
    return "\n".join(lines) + "\n"


def attachment_line(item: AttachmentRecord) -> str:
    """Return one attachment on one line."""
    kind = item["type"] + (", inline" if item["is_inline"] else "")
    stored = "" if item["checksum"] else ", NOT STORED"
    measure = size(item["content_bytes"] or item["size_bytes"])
    return f"{visible(item['name']) or '(no name)'} ({kind}, {measure}{stored})"


def read_document(found: MessageContent) -> Document:
    """Return the document of ``atlas read --json``: the row, and the message as Graph gave it."""
    return {
        "mailbox_id": found.mailbox_id,
        "snapshot_id": found.snapshot_id,
        "record": dict(found.record),
        "message": found.resource,
    }


def unread_document(one: FoundMessage, error: AtlasError) -> Document:
    """Return what ``atlas read --found --json`` writes of a message that cannot be read."""
    return {
        "mailbox_id": one.mailbox_id,
        "snapshot_id": one.snapshot_id,
        "object_id": one.object_id,
        "error": str(error),
        "hint": error.hint,
    }


def unread_lines(unread: Sequence[tuple[FoundMessage, AtlasError]]) -> Iterator[str]:
    """Yield which of the found messages cannot be read, and why."""
    yield f"{len(unread)} could not be read:"
    for one, error in unread:
        what = f"message {visible(one.object_id)}: {visible(str(error))}"
        yield f"  {visible(one.mailbox_id)}: {what}"
        if error.hint:
            yield f"    hint: {visible(error.hint)}"


def _body(resource: dict[str, Any]) -> str:
    body = resource.get("body")
    if not isinstance(body, dict):
        return _text(resource.get("bodyPreview"))
    content = _text(body.get("content"))
    if _text(body.get("contentType")).lower() == "html":
        return html_to_text(content)
    return content.replace("\r\n", "\n").strip("\n")


def _people(value: object) -> list[str]:
    holders = value if isinstance(value, list) else [value]
    people = []
    for holder in holders:
        inner = holder.get("emailAddress") if isinstance(holder, dict) else None
        if isinstance(inner, dict):
            name, address = visible(_text(inner.get("name"))), visible(_text(inner.get("address")))
            people.append(f"{name} <{address}>" if name and name != address else address)
    return people


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
