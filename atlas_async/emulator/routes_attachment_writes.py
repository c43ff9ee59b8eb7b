"""Changing attachments: add, delete, and upload sessions for large files."""

from __future__ import annotations

import re
from typing import Any, Final

from atlas_async.emulator.blobs import StoredBlob
from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.drafts import new_part
from atlas_async.emulator.ids import MessageRef
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part, PartKind
from atlas_async.emulator.render import View, attachments_json
from atlas_async.emulator.routes_attachments import find_part
from atlas_async.emulator.routes_messages import located
from atlas_async.emulator.uploads import UploadSession
from atlas_async.emulator.world import World, in_path

UPLOAD_PREFIX: Final = "/api/gv1.0/"
_SMALLEST: Final = 3_000_000
_LARGEST: Final = 150 * 1024 * 1024
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


async def add_attachment(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/messages/{id}/attachments``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    part = new_part(await call.json_object(), world.clock.now())
    number = _append(mailbox, key, part)
    view = View(immutable=call.immutable, inline_limit=world.behaviour.inline_limit)
    shown = attachments_json(mailbox, key, [(number, part)], view)[0]
    message = in_path(mailbox.message_id(key, immutable=call.immutable))
    path = f"users('{mailbox.person.id}')/messages('{message}')/attachments"
    body = {"@odata.context": world.context(f"{path}/$entity"), **shown}
    return Reply.json(body, status=201, headers={"Location": world.link(path, {})})


async def delete_attachment(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``DELETE /users/{id}/messages/{id}/attachments/{id}``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids[:-1])
    number, _ = find_part(mailbox, key, ids[-1])
    mailbox.set_parts(key, [(n, part) for n, part in mailbox.parts(key) if n != number])
    return Reply(204)


async def create_upload_session(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST .../attachments/createUploadSession``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    values = {name.lower(): value for name, value in (await call.json_object()).items()}
    item = values.get("attachmentitem")
    if not isinstance(item, dict) or not item.get("name") or "size" not in item:
        raise Refusal(400, "ErrorInvalidRequest", "AttachmentItem needs name and size.")
    if str(item.get("attachmentType", "file")).lower() != "file":
        raise Refusal(400, "ErrorInvalidRequest", "Only files can be uploaded in sessions.")
    size = int(item["size"])
    if size < _SMALLEST:
        raise Refusal(
            400,
            "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
            "Attachment size must be greater than the minimum size.",
        )
    if size > _LARGEST:
        raise Refusal(
            400, "ErrorAttachmentSizeLimitExceeded", "Attachment size must not exceed 150 MB."
        )
    session = world.uploads.begin(
        mailbox.person.number,
        key,
        item,
        size=size,
        immutable=call.immutable,
        app_id=call.app_id,
    )
    message = in_path(mailbox.message_id(key, immutable=call.immutable))
    owner = f"{mailbox.person.id}@{world.corpus.tenant_id}"
    url = (
        f"{world.origin}{UPLOAD_PREFIX}users('{owner}')/messages('{message}')"
        f"/AttachmentSessions('{session.token[:16]}')?authtoken={session.token}"
    )
    body = {
        "@odata.context": world.context("microsoft.graph.uploadSession"),
        "uploadUrl": url,
        **_progress(session),
    }
    return Reply.json(body, status=201)


async def answer_upload(world: World, call: Call, session: UploadSession) -> Reply:
    """Answer a request to an upload URL: PUT a range, GET the progress, DELETE the session.

    Raises ``Refusal``: 400 for ranges that are malformed, out of order or of another length.
    """
    if call.method == "GET":
        return Reply.json(_progress(session))
    if call.method == "DELETE":
        world.uploads.end(session)
        return Reply(204)
    if call.method != "PUT":
        raise Refusal(405, "ErrorInvalidRequest", "Upload URLs take PUT, GET and DELETE.")
    match = _RANGE.fullmatch(call.headers.get("Content-Range", ""))
    data = await call.read_body()
    if match is None:
        raise Refusal(400, "ErrorInvalidRequest", "The Content-Range header is required.")
    start, stop, total = (int(group) for group in match.groups())
    if total != session.size or stop - start + 1 != len(data) or stop >= total:
        raise Refusal(400, "ErrorInvalidRequest", "The range does not fit the content or size.")
    if start != len(session.received):
        raise Refusal(416, "ErrorInvalidRange", "Ranges must be uploaded in order.")
    session.received += data
    if len(session.received) < session.size:
        ends = _progress(session)
        # Outlook's own endpoint spells this one property differently from Graph's.
        ends["ExpirationDateTime"] = ends.pop("expirationDateTime")
        return Reply.json(ends)
    return _finish(world, session)


def _finish(world: World, session: UploadSession) -> Reply:
    person = world.corpus.people[session.mailbox]
    mailbox = world.open(person)
    item = session.item
    part = Part(
        PartKind.FILE,
        str(item["name"]),
        item.get("contentType"),
        world.clock.now(),
        StoredBlob(bytes(session.received)),
        inline=bool(item.get("isInline", False)),
        content_id=item.get("contentId"),
    )
    number = _append(mailbox, session.message, part)
    world.uploads.end(session)
    ref: MessageRef = mailbox.ref(session.message, immutable=session.immutable)
    message = in_path(mailbox.message_id(session.message, immutable=session.immutable))
    attachment = in_path(mailbox.ids.attachment(ref, number))
    location = (
        f"{world.origin}{UPLOAD_PREFIX}users('{person.id}@{world.corpus.tenant_id}')"
        f"/messages('{message}')/attachments('{attachment}')"
    )
    return Reply(201, {"Location": location})


def _append(mailbox: Mailbox, key: int, part: Part) -> int:
    number = mailbox.entry(key).next_part
    mailbox.set_parts(key, [*mailbox.parts(key), (number, part)])
    return number


def _progress(session: UploadSession) -> dict[str, Any]:
    received = len(session.received)
    ranges = [f"{received}-" if received == 0 else str(received)]
    return {
        "expirationDateTime": session.expires.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
        "nextExpectedRanges": ranges,
    }
