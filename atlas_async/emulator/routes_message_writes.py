"""Changing messages: create from JSON or MIME, update, move, copy, delete, translate ids."""

from __future__ import annotations

from typing import Any, Final

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.drafts import new_message
from atlas_async.emulator.ids import MalformedId
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part
from atlas_async.emulator.posted_mime import decoded_mime, mime_message
from atlas_async.emulator.posted_state import DRAFT_ONLY, check_names, writable
from atlas_async.emulator.properties import FIXED, posted_properties
from atlas_async.emulator.records import FolderState, NotHere
from atlas_async.emulator.render import View, message_json
from atlas_async.emulator.routes_messages import located, reply_with_message
from atlas_async.emulator.sizes import check_room, check_weight, weight_of
from atlas_async.emulator.world import World

_PLACE_PROPERTIES: Final = ("@odata.etag", "id", "parentFolderId", "changeKey", "webLink")
_TRANSLATABLE: Final = frozenset({"restid", "restimmutableentryid"})
_MOST_IDS: Final = 1_000
_ADVANCED: Final = "Mail-Advanced.ReadWrite.All"


async def create_message(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/messages`` (into Drafts) and below a folder."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1] if len(ids) > 1 else "drafts")
    now, behaviour = world.clock.now(), world.behaviour
    if call.headers.get("Content-Type", "").lower().startswith("text/plain"):
        mime = decoded_mime(await call.read_body())
        if 0 < behaviour.silent_mime < len(mime):
            return Reply(200)
        made = mime_message(mime, now, behaviour)
    else:
        made = new_message(await call.json_object(), now, behaviour)
    check_room(mailbox)
    check_weight(behaviour, weight_of(made.base, made.parts))
    if not made.base["from"] and not made.base["isDraft"]:
        made.base["from"] = made.base["sender"]
    key = mailbox.create(state.number, made.base, made.parts, made.extended)
    return reply_with_message(world, call, mailbox, key, status=201)


async def update_message(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``PATCH /users/{id}/messages/{id}``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    values = await call.json_object()
    check_names(values)
    patch = writable(values)
    extended = posted_properties(values)
    if world.behaviour.advanced_writes and set(patch) & DRAFT_ONLY:
        shown = message_json(mailbox, key, View(immutable=False, select=("isDraft",)))
        if not shown["isDraft"] and _ADVANCED not in call.roles:
            raise Refusal(
                403, "ErrorAccessDenied", "Access is denied. Check credentials and try again."
            )
    if patch:
        mailbox.update(key, patch)
    settable = {name: value for name, value in extended.items() if name not in FIXED}
    if settable:
        mailbox.set_extended(key, settable)
    return reply_with_message(world, call, mailbox, key, status=200)


async def move_message(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/messages/{id}/move``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    mailbox.move(key, (await _destination(mailbox, call)).number)
    return reply_with_message(world, call, mailbox, key, status=201)


async def copy_message(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/messages/{id}/copy``."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    target = await _destination(mailbox, call)
    check_room(mailbox)
    base = message_json(mailbox, key, View(immutable=False))
    for name in _PLACE_PROPERTIES:
        base.pop(name, None)
    parts: tuple[Part, ...] = tuple(part for _, part in mailbox.parts(key))
    entry = mailbox.entries.get(key)
    extended = dict(entry.extended) if entry is not None else {}
    if entry is not None and entry.base is not None and "internetMessageHeaders" in entry.base:
        base["internetMessageHeaders"] = entry.base["internetMessageHeaders"]
    copied = mailbox.create(target.number, base, parts, extended)
    return reply_with_message(world, call, mailbox, copied, status=201)


async def delete_message(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``DELETE /users/{id}/messages/{id}``: into recoverableitemsdeletions."""
    mailbox = world.mailbox(ids[0])
    mailbox.delete(located(mailbox, ids), hard=False)
    return Reply(204)


async def purge_message(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/messages/{id}/permanentDelete``."""
    mailbox = world.mailbox(ids[0])
    mailbox.delete(located(mailbox, ids), hard=True)
    return Reply(204)


async def translate_ids(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/translateExchangeIds`` between default and immutable ids."""
    mailbox = world.mailbox(ids[0])
    values = await call.json_object()
    given = values.get("inputIds")
    kinds = [str(values.get(name, "")).lower() for name in ("sourceIdType", "targetIdType")]
    if not isinstance(given, list) or not set(kinds) <= _TRANSLATABLE:
        raise Refusal(400, "ErrorInvalidRequest", "inputIds and both id types are required.")
    if len(given) > _MOST_IDS:
        raise Refusal(400, "ErrorInvalidRequest", f"At most {_MOST_IDS} ids can be translated.")
    immutable = kinds[1] == "restimmutableentryid"
    value = [_translated(mailbox, str(text), immutable=immutable) for text in given]
    context = world.context("Collection(microsoft.graph.convertIdResult)")
    return Reply.json({"@odata.context": context, "value": value})


def _translated(mailbox: Mailbox, text: str, *, immutable: bool) -> dict[str, Any]:
    try:
        key = mailbox.message(text)
    except (NotHere, MalformedId):
        return {
            "sourceId": text,
            "errorDetails": {"code": "ErrorInvalidIdMalformed", "message": "Id is malformed."},
        }
    return {"sourceId": text, "targetId": mailbox.message_id(key, immutable=immutable)}


async def _destination(mailbox: Mailbox, call: Call) -> FolderState:
    values = {name.lower(): value for name, value in (await call.json_object()).items()}
    return mailbox.folder(str(values.get("destinationid") or ""))
