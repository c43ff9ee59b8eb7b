"""Reading mail folders: listings, one folder, and the delta of the folder tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.cursors import Cursor
from atlas_async.emulator.filters import matches, parse_filter
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.query import FOLDER_PROPERTIES, Expansion, number_of, select_of
from atlas_async.emulator.records import FolderState
from atlas_async.emulator.render import folder_json
from atlas_async.emulator.rounds import applied, open_cursor, page_size, token_link
from atlas_async.emulator.shelf import ChangeKind
from atlas_async.emulator.tree import MAIL_ROOT
from atlas_async.emulator.world import World, in_path

TREE: Final = -1
"""Stands for the whole tree where a cursor names a folder."""
_TYPE: Final = "microsoft.graph.mailFolder"


async def list_root(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailFolders``: the children of the mail root."""
    mailbox = world.mailbox(ids[0])
    return _listing(world, call, mailbox, MAIL_ROOT, "mailFolders")


async def list_children(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailFolders/{id}/childFolders``."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    path = f"mailFolders('{in_path(mailbox.ids.folder(state.number))}')/childFolders"
    return _listing(world, call, mailbox, state.number, path)


async def get_folder(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailFolders/{id or well-known name}``."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    select = select_of(call.query, FOLDER_PROPERTIES, _TYPE)
    expansion = Expansion.of(call.query.get("$expand", ""))
    context = world.context(f"users('{mailbox.person.id}')/mailFolders/$entity")
    shown = _shown(mailbox, state, select, expansion, hidden=_hidden(call))
    return Reply.json({"@odata.context": context, **shown})


async def folder_delta(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailFolders/delta``."""
    mailbox = world.mailbox(ids[0])
    cursor = open_cursor(world, call, mailbox, TREE)
    if cursor is None:
        select = select_of(call.query, FOLDER_PROPERTIES, _TYPE)
        cursor = Cursor(
            mailbox=mailbox.person.number,
            folder=TREE,
            immutable=call.immutable,
            generation=mailbox.generation(TREE),
            since=mailbox.seq,
            until=mailbox.seq,
            phase="g",
            at=-1,
            select=select,
        )
    elif cursor.ready:
        cursor = replace(cursor, until=mailbox.seq, at=cursor.since, phase="c", ready=False)
    size = page_size(world, call)
    value, after = _tree_page(mailbox, cursor, size)
    link = token_link(world, f"users('{mailbox.person.id}')/mailFolders/delta", after)
    context = {"@odata.context": world.context("Collection(mailFolder)")}
    return Reply.json({**context, **link, "value": value}, headers=applied(call, size))


def _tree_page(mailbox: Mailbox, cursor: Cursor, size: int) -> tuple[list[Any], Cursor]:
    found: list[tuple[int, dict[str, Any]]] = []
    if cursor.phase == "g":
        states = sorted(mailbox.below(MAIL_ROOT), key=lambda state: state.number)
        found = [
            (state.number, folder_json(mailbox, state, cursor.select, typed=True))
            for state in states
            if state.number > cursor.at and not state.search
        ]
    else:
        span = [c for c in mailbox.folder_log if cursor.at < c.seq <= cursor.until]
        newest = {change.key: change.seq for change in span}
        for change in span:
            if newest[change.key] == change.seq:
                found.append((change.seq, _folder_change(mailbox, change.key, cursor)))
    page = found[:size]
    if len(found) > size:
        return [item for _, item in page], cursor.moved(cursor.phase, page[-1][0])
    done = replace(cursor.moved("c", cursor.until), since=cursor.until, ready=True)
    return [item for _, item in page], done


def _folder_change(mailbox: Mailbox, number: int, cursor: Cursor) -> dict[str, Any]:
    below = {state.number for state in mailbox.below(MAIL_ROOT)}
    if number in below:
        return folder_json(mailbox, mailbox.folders[number], cursor.select, typed=True)
    last = [change for change in mailbox.folder_log if change.key == number][-1]
    reason = "deleted" if last.kind is ChangeKind.DELETED else "changed"
    return {
        "@odata.type": "#microsoft.graph.mailFolder",
        "id": mailbox.ids.folder(number),
        "@removed": {"reason": reason},
    }


def _listing(world: World, call: Call, mailbox: Mailbox, parent: int, path: str) -> Reply:
    select = select_of(call.query, FOLDER_PROPERTIES, _TYPE)
    expansion = Expansion.of(call.query.get("$expand", ""))
    hidden = _hidden(call)
    states = mailbox.children(parent, hidden=hidden)
    if "$filter" in call.query:
        wanted = parse_filter(call.query["$filter"])
        sought = Expansion(extended=wanted.extended)
        states = [s for s in states if matches(wanted, folder_json(mailbox, s, None, sought))]
    top = number_of(call.query, "$top")
    if top == 0:
        raise Refusal(400, "ErrorInvalidUrlQuery", "$top must be greater than zero.")
    size = min(top or world.behaviour.default_page, world.behaviour.largest_page)
    skip = number_of(call.query, "$skip") or 0
    page = states[skip : skip + size]
    user = f"users('{mailbox.person.id}')"
    body: dict[str, Any] = {"@odata.context": world.context(f"{user}/{path}")}
    if call.query.get("$count", "").lower() == "true":
        body["@odata.count"] = len(states)
    body["value"] = [_shown(mailbox, s, select, expansion, hidden=hidden) for s in page]
    if skip + size < len(states):
        options = {**call.query, "$skip": str(skip + size)}
        body["@odata.nextLink"] = world.link(f"{user}/{path}", options)
    return Reply.json(body)


def _shown(
    mailbox: Mailbox,
    state: FolderState,
    select: tuple[str, ...] | None,
    expansion: Expansion,
    *,
    hidden: bool,
) -> dict[str, Any]:
    shown = folder_json(mailbox, state, select, expansion)
    if expansion.child_folders:
        inner = mailbox.children(state.number, hidden=hidden)
        shown["childFolders"] = [folder_json(mailbox, child, None) for child in inner]
    return shown


def _hidden(call: Call) -> bool:
    return call.query.get("includehiddenfolders", "").lower() == "true"
