"""Changing mail folders: create, rename, move, delete."""

from __future__ import annotations

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.properties import posted_properties
from atlas_async.emulator.records import FolderState
from atlas_async.emulator.render import folder_json
from atlas_async.emulator.sizes import check_room
from atlas_async.emulator.tree import MAIL_ROOT
from atlas_async.emulator.world import World


async def create_in_root(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/mailFolders``."""
    mailbox = world.mailbox(ids[0])
    return await _create(world, call, mailbox, MAIL_ROOT)


async def create_child(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/mailFolders/{id}/childFolders``."""
    mailbox = world.mailbox(ids[0])
    return await _create(world, call, mailbox, mailbox.folder(ids[1]).number)


async def update_folder(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``PATCH /users/{id}/mailFolders/{id}``."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    values = await call.json_object()
    name, extended = values.get("displayName"), posted_properties(values)
    if name is not None:
        _refuse_distinguished(state)
        _refuse_twin(mailbox, state.parent, str(name), besides=state)
        mailbox.change_folder(state, name=str(name))
    if extended:
        state.extended.update(extended)
        mailbox.change_folder(state)
    return _reply(world, mailbox, state, 200)


async def move_folder(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/mailFolders/{id}/move``."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    _refuse_distinguished(state)
    target = mailbox.folder(str((await call.json_object()).get("destinationId") or ""))
    _refuse_twin(mailbox, target.number, state.name, besides=state)
    mailbox.change_folder(state, parent=target.number)
    return _reply(world, mailbox, state, 201)


async def delete_folder(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``DELETE /users/{id}/mailFolders/{id}``: to Deleted Items, or for good from there."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    _refuse_distinguished(state)
    mailbox.delete_folder(state, hard=False)
    return Reply(204)


async def purge_folder(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``POST /users/{id}/mailFolders/{id}/permanentDelete``: with all that it holds."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    _refuse_distinguished(state)
    mailbox.delete_folder(state, hard=True)
    return Reply(204)


async def _create(world: World, call: Call, mailbox: Mailbox, parent: int) -> Reply:
    values = await call.json_object()
    name = str(values.get("displayName") or "")
    if not name:
        raise Refusal(400, "ErrorInvalidRequest", "The property displayName is required.")
    extended = posted_properties(values)
    check_room(mailbox)
    _refuse_twin(mailbox, parent, name, besides=None)
    state = mailbox.add_folder(parent, name, hidden=bool(values.get("isHidden", False)))
    state.extended.update(extended)
    return _reply(world, mailbox, state, 201)


def _refuse_twin(mailbox: Mailbox, parent: int, name: str, *, besides: FolderState | None) -> None:
    for sibling in mailbox.children(parent, hidden=True):
        if sibling is not besides and sibling.name.lower() == name.lower():
            raise Refusal(
                409,
                "ErrorFolderExists",
                "A folder with the specified name already exists., Could not create folder "
                f"'{name}'.",
            )


def _refuse_distinguished(state: FolderState) -> None:
    if state.known is not None:
        raise Refusal(
            400, "ErrorDeleteDistinguishedFolder", "Distinguished folders cannot be changed."
        )


def _reply(world: World, mailbox: Mailbox, state: FolderState, status: int) -> Reply:
    context = world.context(f"users('{mailbox.person.id}')/mailFolders/$entity")
    body = {"@odata.context": context, **folder_json(mailbox, state, None)}
    return Reply.json(body, status=status)
