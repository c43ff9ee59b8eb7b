"""Reading attachments: the listing, one attachment, its bytes."""

from __future__ import annotations

from typing import Any

from atlas_async.emulator.blobs import chunks
from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part, PartKind
from atlas_async.emulator.query import Expansion, attachment_select
from atlas_async.emulator.records import NotHere
from atlas_async.emulator.render import View, attachments_json
from atlas_async.emulator.routes_messages import located
from atlas_async.emulator.world import World, in_path


async def list_attachments(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/messages/{id}/attachments``: all in one page, as Exchange does."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    kept_under, kept = world.kept(mailbox, call)
    if kept is not None:
        return kept
    view = _view(world, call)
    parts = mailbox.parts(key)
    body: dict[str, Any] = {"@odata.context": world.context(_context(mailbox, key, call))}
    if call.query.get("$count", "").lower() == "true":
        body["@odata.count"] = len(parts)
    body["value"] = attachments_json(mailbox, key, parts, view)
    reply = Reply.json(body)
    world.pages.put(kept_under, reply)
    return reply


async def get_attachment(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/messages/{id}/attachments/{id}``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids[:-1])
    number, part = find_part(mailbox, key, ids[-1])
    shown = attachments_json(mailbox, key, [(number, part)], _view(world, call))[0]
    context = world.context(_context(mailbox, key, call) + "/$entity")
    return Reply.json({"@odata.context": context, **shown})


async def get_bytes(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET .../attachments/{id}/$value``: bytes of a file, MIME of an item."""
    mailbox = world.mailbox(ids[0])
    _, part = find_part(mailbox, located(mailbox, ids[:-1]), ids[-1])
    if part.blob is None:
        raise Refusal(
            405, "ErrorInvalidRequest", "The raw value of a reference attachment is not available."
        )
    kind = part.content_type if part.kind is PartKind.FILE else "text/plain"
    return Reply(
        headers={"Content-Type": kind or "application/octet-stream"},
        stream=chunks(part.blob),
        length=part.blob.size,
    )


def find_part(mailbox: Mailbox, key: int, text: str) -> tuple[int, Part]:
    """Return the attachment with this id. Raises ``NotHere`` or ``MalformedId``."""
    owner, wanted = mailbox.ids.read_attachment(text)
    for number, part in mailbox.parts(key):
        if owner == key and number == wanted:
            return number, part
    raise NotHere(text)


def _view(world: World, call: Call) -> View:
    return View(
        immutable=call.immutable,
        select=attachment_select(call.query),
        expansion=Expansion.of(call.query.get("$expand", "")),
        inline_limit=world.behaviour.inline_limit,
    )


def _context(mailbox: Mailbox, key: int, call: Call) -> str:
    message_id = in_path(mailbox.message_id(key, immutable=call.immutable))
    return f"users('{mailbox.person.id}')/messages('{message_id}')/attachments"
