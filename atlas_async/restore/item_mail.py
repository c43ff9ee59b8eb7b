"""A stored item attachment, which is MIME, as the item that Graph takes. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any, Final

from atlas_async.model.source import JsonObject
from atlas_async.restore.letter import DELIVERED, FLAGS, SUBMITTED

MESSAGE: Final = "#microsoft.graph.message"
FILE: Final = "#microsoft.graph.fileAttachment"
ITEM: Final = "#microsoft.graph.itemAttachment"
DEEPEST: Final = 20
"""Messages within messages that are taken apart; what is deeper stays a file."""
_POLICY: Final = policy.default.clone(raise_on_defect=False)


@dataclass(frozen=True, slots=True)
class ItemKind:
    """What the MIME of an item attachment is: file suffix and media type of the kind."""

    suffix: str
    content_type: str


MAIL: Final = ItemKind(".eml", "message/rfc822")
CARD: Final = ItemKind(".vcf", "text/vcard")
CALENDAR: Final = ItemKind(".ics", "text/calendar")


def kind_of(mime: bytes) -> ItemKind:
    """Tell a message from a contact and an event, whose ``$value`` are vCard and iCalendar."""
    begins = mime[:64].lstrip(b"\xef\xbb\xbf\r\n\t ").upper()
    if begins.startswith(b"BEGIN:VCARD"):
        return CARD
    return CALENDAR if begins.startswith(b"BEGIN:VCALENDAR") else MAIL


def item_of(mime: bytes) -> JsonObject | None:
    """Return the message that ``mime`` holds, with what is attached to it; None if it cannot be."""
    try:
        parsed = message_from_bytes(mime, policy=_POLICY)
        return _item(parsed, 0)
    except Exception:  # noqa: BLE001 -- on mail that is not well formed the parser raises anything
        return None


def _item(parsed: EmailMessage, depth: int) -> JsonObject:
    item: JsonObject = {
        "@odata.type": MESSAGE,
        "subject": str(parsed.get("Subject", "")),
        "body": _body(parsed),
    }
    for header, name in (("From", "from"), ("Sender", "sender")):
        found = _recipients(parsed, header)
        if found:
            item[name] = found[0]
    for header, name in (
        ("To", "toRecipients"),
        ("Cc", "ccRecipients"),
        ("Bcc", "bccRecipients"),
        ("Reply-To", "replyTo"),
    ):
        found = _recipients(parsed, header)
        if found:
            item[name] = found
    if parsed.get("Message-ID"):
        item["internetMessageId"] = str(parsed["Message-ID"]).strip()
    properties = [{"id": FLAGS, "value": "1"}]
    moment = _sent(parsed)
    if moment:
        properties += [{"id": SUBMITTED, "value": moment}, {"id": DELIVERED, "value": moment}]
    item["singleValueExtendedProperties"] = properties
    attachments = list(_attachments(parsed, depth))
    if attachments:
        item["attachments"] = attachments
    return item


def _body(parsed: EmailMessage) -> JsonObject:
    part = parsed.get_body(("html", "plain"))
    if part is None:
        return {"contentType": "text", "content": ""}
    try:
        text = part.get_content()
    except LookupError:  # a character set that nobody knows
        payload = part.get_payload(decode=True)
        text = payload.decode("latin-1") if isinstance(payload, bytes) else ""
    html = part.get_content_subtype() == "html"
    return {"contentType": "html" if html else "text", "content": str(text)}


def _recipients(parsed: EmailMessage, header: str) -> list[dict[str, Any]]:
    pairs = getaddresses([str(value) for value in parsed.get_all(header, [])])
    return [
        {"emailAddress": {"name": name or address, "address": address}}
        for name, address in pairs
        if "@" in address
    ]


def _sent(parsed: EmailMessage) -> str:
    try:
        moment = parsedate_to_datetime(str(parsed.get("Date", "")))
        return moment.astimezone().isoformat()
    except (ValueError, TypeError, OverflowError, OSError):
        return ""


def _attachments(parsed: EmailMessage, depth: int) -> Iterator[JsonObject]:
    body = parsed.get_body(("html", "plain"))
    for part in _leaves(parsed):
        if part is body or (
            part.get_content_maintype() == "text" and _is_alternative(parsed, part)
        ):
            continue
        name = part.get_filename() or ""
        if part.get_content_type() == "message/rfc822" and depth < DEEPEST:
            inner = part.get_content()
            if isinstance(inner, EmailMessage):
                yield {
                    "@odata.type": ITEM,
                    "name": name or str(inner.get("Subject", "")) or "message",
                    "item": _item(inner, depth + 1),
                }
                continue
        content_id = str(part.get("Content-ID", "")).strip().strip("<>")
        attachment: JsonObject = {
            "@odata.type": FILE,
            "name": name
            or f"attachment{MAIL.suffix if 'rfc822' in part.get_content_type() else ''}",
            "contentType": part.get_content_type(),
            "contentBytes": base64.b64encode(_bytes(part)).decode("ascii"),
            "isInline": part.get_content_disposition() == "inline" or bool(content_id),
        }
        if content_id:
            attachment["contentId"] = content_id
        yield attachment


def _leaves(parsed: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts that are no containers; a message within is a leaf."""
    if parsed.get_content_maintype() != "multipart":
        return
    for part in parsed.iter_parts():
        if isinstance(part, EmailMessage) and part.get_content_maintype() == "multipart":
            yield from _leaves(part)
        elif isinstance(part, EmailMessage):
            yield part


def _is_alternative(parsed: EmailMessage, part: EmailMessage) -> bool:
    """Tell whether a text part is another form of the body."""
    if part.get_content_disposition() == "attachment" or part.get_filename():
        return False
    return part in (parsed.get_body(("plain",)), parsed.get_body(("html",)))


def _bytes(part: EmailMessage) -> bytes:
    if part.get_content_maintype() == "message":
        inner = part.get_payload(0) if part.is_multipart() else None
        return inner.as_bytes() if isinstance(inner, EmailMessage) else b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
