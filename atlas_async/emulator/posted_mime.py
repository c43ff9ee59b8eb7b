"""Messages posted as MIME: what Exchange makes of them. The result is always a draft."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any, Final, cast

from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.blobs import StoredBlob
from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.drafts import NewMessage, new_message
from atlas_async.emulator.items import MESSAGE
from atlas_async.emulator.parts import Part, PartKind, graph_time

_POLICY: Final = policy.SMTP.clone(refold_source="none")
_RECIPIENTS: Final = (
    ("To", "toRecipients"),
    ("Cc", "ccRecipients"),
    ("Bcc", "bccRecipients"),
    ("Reply-To", "replyTo"),
)
_IMPORTANCE: Final = {
    "high": "high",
    "low": "low",
    "1": "high",
    "2": "high",
    "4": "low",
    "5": "low",
}


def decoded_mime(raw: bytes) -> bytes:
    """Return the MIME of a request body. Raises ``Refusal`` (400) when it is not base64."""
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)
    except binascii.Error as error:
        raise Refusal(
            400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content."
        ) from error


def mime_message(mime: bytes, now: datetime, behaviour: Behaviour) -> NewMessage:
    """Return the draft that a MIME message becomes. Raises ``Refusal`` (400) for no MIME."""
    try:
        parsed = message_from_bytes(mime, policy=_POLICY)
        return _made(parsed, now, behaviour)
    # The parser of the standard library raises several of these on hostile headers.
    except (ValueError, LookupError, AttributeError, TypeError, NameError) as error:
        raise Refusal(400, "ErrorMimeContentInvalid", "The MIME content is invalid.") from error


def _made(parsed: EmailMessage, now: datetime, behaviour: Behaviour) -> NewMessage:
    values: dict[str, Any] = {"subject": str(parsed.get("Subject") or "")}
    body = parsed.get_body(("html", "plain"))
    if body is not None:
        kind = "html" if body.get_content_subtype() == "html" else "text"
        values["body"] = {"contentType": kind, "content": _text(body)}
    writers = _recipients(parsed.get_all("From", []))
    senders = _recipients(parsed.get_all("Sender", [])) or writers
    if writers:
        values["from"], values["sender"] = writers[0], senders[0]
    if parsed.get("Message-ID"):
        values["internetMessageId"] = str(parsed["Message-ID"]).strip()
    told = str(parsed.get("Importance") or parsed.get("X-Priority") or "").strip().lower()
    if told[:4] in _IMPORTANCE or told[:1] in _IMPORTANCE:
        values["importance"] = _IMPORTANCE.get(told[:4]) or _IMPORTANCE[told[:1]]
    made = new_message(values, now, behaviour)
    # Nobody resolves the recipients of a letter: those that are no addresses stay as they are.
    for header, name in _RECIPIENTS:
        made.base[name] = _recipients(parsed.get_all(header, []))
    made.base["internetMessageHeaders"] = [
        {"name": name, "value": " ".join(str(value).split())} for name, value in parsed.items()
    ]
    sent = _date(str(parsed.get("Date") or ""))
    if sent is not None:
        made.base["sentDateTime"] = graph_time(sent)
    parts = tuple(_parts(parsed, body, now, behaviour))
    made.base["hasAttachments"] = any(part.counts_as_attachment() for part in parts)
    return replace(made, parts=parts)


def _parts(
    parsed: EmailMessage, body: Message | None, now: datetime, behaviour: Behaviour
) -> Iterator[Part]:
    for leaf, around in _leaves(parsed, frozenset()):
        if leaf is body:
            continue
        if leaf.get_content_type() == "message/rfc822":
            yield _attached_message(leaf, now, behaviour)
            continue
        named = leaf.get_filename()
        if "alternative" in around and named is None and leaf.get_content_maintype() == "text":
            continue  # another form of the body; Exchange keeps one
        raw = leaf.get_payload(decode=True)
        content_id = str(leaf.get("Content-ID") or "").strip().strip("<>") or None
        shown = content_id is not None and "related" in around
        yield Part(
            PartKind.FILE,
            named or "attachment",
            leaf.get_content_type(),
            now,
            StoredBlob(raw if isinstance(raw, bytes) else b""),
            inline=shown or leaf.get_content_disposition() == "inline",
            content_id=content_id,
        )


def _leaves(
    part: EmailMessage, around: frozenset[str]
) -> Iterator[tuple[EmailMessage, frozenset[str]]]:
    """Yield the parts that hold something, and the kinds of multipart that each lies in."""
    if part.get_content_maintype() != "multipart" or not part.is_multipart():
        yield part, around
        return
    inside = around | {part.get_content_subtype()}
    for inner in part.iter_parts():
        yield from _leaves(cast("EmailMessage", inner), inside)


def _attached_message(leaf: EmailMessage, now: datetime, behaviour: Behaviour) -> Part:
    inner = cast("EmailMessage", leaf.get_content())
    made = _made(inner, now, behaviour)
    item = {"@odata.type": MESSAGE, "id": "", **made.base, "isDraft": False}
    name = leaf.get_filename() or str(item["subject"])
    blob = StoredBlob(inner.as_bytes())
    return Part(PartKind.ITEM, name, None, now, blob, item=item, inner=made.parts)


def _text(part: Message) -> str:
    try:
        return str(cast("EmailMessage", part).get_content())
    except LookupError:  # a character set that nobody knows
        raw = part.get_payload(decode=True)
        return raw.decode("latin-1") if isinstance(raw, bytes) else ""


def _recipients(headers: list[Any]) -> list[dict[str, Any]]:
    pairs = getaddresses([str(header) for header in headers])
    return [
        {"emailAddress": {"name": name, "address": address}} for name, address in pairs if address
    ]


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment
