"""Changing attachments: add, delete, and upload sessions for large files."""

from __future__ import annotations

import re
from typing import Any, Final

from atlas_async.emulator.blobs import StoredBlob
from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.drafts import new_part
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part, PartKind
from atlas_async.emulator.records import NotHere
from atlas_async.emulator.render import View, attachments_json
from atlas_async.emulator.routes_attachments import find_part
from atlas_async.emulator.routes_messages import located
from atlas_async.emulator.sizes import check_room, check_weight, weight_in
from atlas_async.emulator.uploads import UploadSession
from atlas_async.emulator.world import World, in_path

UPLOAD_PREFIX: Final = "/api/gv1.0/"
_LARGEST: Final = 150 * 1024 * 1024
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


async def add_attachment(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/messages/{id}/attachments``."""
    mailbox = world.mailbox(ids[0])
    key = _settled(world, mailbox, ids)
    part = new_part(await call.json_object(), world.clock.now(), world.behaviour)
    check_room(mailbox)
    check_weight(world.behaviour, weight_in(mailbox, key) + part.size)
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
    key = _settled(world, mailbox, ids)
    values = {name.lower(): value for name, value in (await call.json_object()).items()}
    item, size = _announced(world, values.get("attachmentitem"))
    check_room(mailbox)
    message = mailbox.message_id(key, immutable=call.immutable)
    session = world.uploads.begin(
        mailbox.person.number,
        message,
        item,
        size=size,
        immutable=call.immutable,
        app_id=call.app_id,
        lifetime=world.behaviour.upload_lifetime,
    )
    body = {
        "@odata.context": world.context("microsoft.graph.uploadSession"),
        "uploadUrl": f"{_session_url(world, session)}?authtoken={session.token}",
        **_progress(session),
    }
    return Reply.json(body, status=201)


def _announced(world: World, item: Any) -> tuple[dict[str, Any], int]:
    """Return the AttachmentItem and its size. Raises ``Refusal`` (400) when it cannot be taken."""
    if not isinstance(item, dict) or not item.get("name") or not isinstance(item.get("size"), int):
        raise Refusal(400, "ErrorInvalidRequest", "AttachmentItem needs name and size.")
    if str(item.get("attachmentType", "file")).lower() != "file":
        raise Refusal(400, "ErrorInvalidRequest", "Only files can be uploaded in sessions.")
    size: int = item["size"]
    if size < world.behaviour.smallest_upload:
        raise Refusal(
            400,
            "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
            "Attachment size must be greater than the minimum size.",
        )
    if size > _LARGEST:
        raise Refusal(
            400, "ErrorAttachmentSizeLimitExceeded", "Attachment size must not exceed 150 MB."
        )
    return item, size


async def answer_upload(world: World, call: Call, session: UploadSession) -> Reply:
    """Answer a request to an upload URL: PUT a range, GET the progress, DELETE the session.

    Raises ``Refusal``: 400 for ranges that are malformed or of another length, 416 for those out
    of order; ``NotHere`` when the message has gone in the meantime.
    """
    if call.method == "GET":
        return Reply.json(_outlook_progress(world, session))
    if call.method == "DELETE":
        world.uploads.end(session)
        return Reply(204)
    if call.method != "PUT":
        raise Refusal(405, "ErrorInvalidRequest", "Upload URLs take PUT, GET and DELETE.")
    match = _RANGE.fullmatch(call.headers.get("Content-Range", ""))
    # Nothing is kept of a range whose bytes did not all arrive: reading them raises.
    data = await call.read_body()
    if match is None:
        raise Refusal(400, "ErrorInvalidRequest", "The Content-Range header is required.")
    start, stop, total = (int(group) for group in match.groups())
    if total != session.size or stop - start + 1 != len(data) or stop >= total:
        raise Refusal(400, "ErrorInvalidRequest", "The range does not fit the content or size.")
    held = len(session.received)
    if stop < held and world.behaviour.resent_ranges:
        return Reply.json(_outlook_progress(world, session))
    if start != held:
        raise Refusal(416, "ErrorInvalidRange", "Ranges must be uploaded in order.")
    mailbox = world.open(world.corpus.people[session.mailbox])
    key = mailbox.message(session.message)
    check_room(mailbox)
    check_weight(world.behaviour, weight_in(mailbox, key) + held + len(data))
    session.received += data
    if len(session.received) < session.size:
        return Reply.json(_outlook_progress(world, session))
    return _finish(world, session, mailbox, key)


def _finish(world: World, session: UploadSession, mailbox: Mailbox, key: int) -> Reply:
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
    number = _append(mailbox, key, part)
    world.uploads.end(session)
    ref = mailbox.ref(key, immutable=session.immutable)
    attachment = in_path(mailbox.ids.attachment(ref, number))
    location = f"{_message_url(world, session)}/attachments('{attachment}')"
    return Reply(201, {"Location": location})


def _message_url(world: World, session: UploadSession) -> str:
    owner = f"{world.corpus.people[session.mailbox].id}@{world.corpus.tenant_id}"
    message = in_path(session.message)
    return f"{world.upload_origin}{UPLOAD_PREFIX}users('{owner}')/messages('{message}')"


def _session_url(world: World, session: UploadSession) -> str:
    return f"{_message_url(world, session)}/AttachmentSessions('{session.name}')"


def _settled(world: World, mailbox: Mailbox, ids: tuple[str, ...]) -> int:
    """Return the key of the message; one just created may not be found the first times."""
    key = located(mailbox, ids)
    entry = mailbox.entries.get(key)
    fresh = entry is not None and entry.base is not None
    if entry is not None and fresh and entry.misses < world.behaviour.fresh_misses:
        entry.misses += 1
        raise NotHere(ids[-1])
    return key


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


def _outlook_progress(world: World, session: UploadSession) -> dict[str, Any]:
    """Return the progress as Outlook's own endpoint spells it, other than Graph's."""
    told = _progress(session)
    told["ExpirationDateTime"] = told.pop("expirationDateTime")
    place = _session_url(world, session).removeprefix(f"{world.upload_origin}{UPLOAD_PREFIX}")
    place = place.rpartition("(")[0]
    context = f"{world.upload_origin}{UPLOAD_PREFIX}$metadata#{place}/$entity"
    return {"@odata.context": context, **told}
