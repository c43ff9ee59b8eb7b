"""The delta of one folder's messages."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.cursors import Cursor
from atlas_async.emulator.delta import Gone, Shown, next_page
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.query import (
    MESSAGE_ON_REQUEST,
    MESSAGE_PROPERTIES,
    Expansion,
    number_of,
    select_of,
)
from atlas_async.emulator.render import View, message_json, sparse_json
from atlas_async.emulator.rounds import applied, open_cursor, page_size, token_link
from atlas_async.emulator.routes_messages import in_page
from atlas_async.emulator.world import World, in_path

_FILTER: Final = re.compile(r"\s*receivedDateTime\s+(ge|gt)\s+'?([0-9TZ:.+-]+)'?\s*", re.IGNORECASE)
_CHANGE_TYPES: Final = frozenset({"", "created", "updated", "deleted"})


async def message_delta(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailFolders/{id}/messages/delta``."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    if mailbox.over_quota:
        raise Refusal(403, "ErrorQuotaExceeded", "The mailbox is over its quota.")
    key, kept = world.kept(mailbox, call)
    if kept is not None:
        return kept
    cursor = open_cursor(world, call, mailbox, state.number)
    if cursor is None:
        cursor = _first(call, mailbox, state.number)
    size = page_size(world, call)
    if 0 < world.behaviour.heavy_page < size:
        return Reply(503)
    if cursor.top and not world.behaviour.delta_top_total:
        size, cursor = min(size, cursor.top), replace(cursor, top=0)
    page = next_page(mailbox, cursor, size, world.behaviour)
    view = View(
        immutable=call.immutable,
        select=cursor.select,
        expansion=Expansion.of(cursor.expand),
        text_body=cursor.text_body,
        inline_limit=world.behaviour.inline_limit,
        typed=True,
    )
    value = [_item(mailbox, item, view) for item in page.items]
    folder = in_path(mailbox.ids.folder(state.number))
    path = f"users('{mailbox.person.id}')/mailFolders('{folder}')/messages/delta"
    following = page.cursor
    if world.behaviour.repeat_links and not following.ready:
        following = cursor
    lost = following.ready and world.behaviour.lost_delta_links
    body = {
        "@odata.context": world.context("Collection(message)"),
        **({} if lost else token_link(world, path, following)),
        "value": value,
    }
    reply = Reply.json(body, headers=applied(call, size))
    world.pages.put(key, reply)
    return reply


def _first(call: Call, mailbox: Mailbox, folder: int) -> Cursor:
    query = call.query
    for option in ("$search", "$skip"):
        if option in query:
            raise Refusal(400, "ErrorInvalidUrlQuery", f"{option} is not supported with delta.")
    order = query.get("$orderby", "receivedDateTime desc")
    if order.lower().split() != ["receiveddatetime", "desc"]:
        raise Refusal(400, "ErrorInvalidUrlQuery", "Only receivedDateTime desc can be ordered by.")
    change_type = query.get("changetype", "").lower()
    if change_type not in _CHANGE_TYPES:
        raise Refusal(400, "ErrorInvalidUrlQuery", f"Unknown changeType '{change_type}'.")
    known = MESSAGE_PROPERTIES + MESSAGE_ON_REQUEST
    expand = query.get("$expand", "")
    Expansion.of(expand)
    return Cursor(
        mailbox=mailbox.person.number,
        folder=folder,
        immutable=call.immutable,
        generation=mailbox.generation(folder),
        since=mailbox.seq,
        until=mailbox.seq,
        phase="g",
        top=number_of(query, "$top") or 0,
        select=select_of(query, known, "microsoft.graph.message"),
        expand=expand,
        change_type=change_type,
        after=_after(query.get("$filter", "")),
        text_body=call.preferences().get("outlook.body-content-type") == "text",
    )


def _after(text: str) -> str:
    if not text:
        return ""
    match = _FILTER.fullmatch(text)
    if match is None:
        raise Refusal(
            400, "ErrorInvalidUrlQuery", "Delta can only be filtered by receivedDateTime ge or gt."
        )
    return f"{match[1].lower()} {match[2]}"


def _item(mailbox: Mailbox, item: Shown | Gone, view: View) -> dict[str, Any]:
    if isinstance(item, Gone):
        return {
            "@odata.type": "#microsoft.graph.message",
            "id": mailbox.ids.message(item.key, item.folder, item.moves, immutable=view.immutable),
            "@removed": {"reason": item.reason},
        }
    if item.partial:
        return sparse_json(mailbox, item.key, view)
    return in_page(mailbox, item.key, message_json(mailbox, item.key, view))
