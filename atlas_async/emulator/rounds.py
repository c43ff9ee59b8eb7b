"""What delta of messages and delta of folders share: tokens, page sizes, links."""

from __future__ import annotations

from atlas_async.emulator.calls import Call, Refusal
from atlas_async.emulator.cursors import BadCursor, Cursor
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.world import World


def open_cursor(world: World, call: Call, mailbox: Mailbox, folder: int) -> Cursor | None:
    """Return the cursor of the request's token, or None when it has none.

    Raises ``Refusal``: 410 for a token that expired, 400 for one of another mailbox, folder or
    (when that is checked) id format, or for one that this server did not make.
    """
    token = call.query.get("$deltatoken") or call.query.get("$skiptoken")
    if token is None:
        return None
    try:
        cursor = world.seal.cursor(token)
    except BadCursor as error:
        raise Refusal(400, "SyncStateInvalid", "The sync state is invalid.") from error
    if (cursor.mailbox, cursor.folder) != (mailbox.person.number, folder):
        raise Refusal(400, "SyncStateInvalid", "The sync state is for another folder.")
    now = mailbox.generation(folder)
    if cursor.generation != now:
        raise Refusal(
            world.behaviour.expired_status,
            world.behaviour.expired_code,
            f"The sync state generation is not found; generation={cursor.generation};"
            f"[highest={now}][{now}].",
            headers={"Location": world.link(f"users('{mailbox.person.id}')/mailFolders", {})},
        )
    if world.behaviour.strict_id_mode and cursor.immutable != call.immutable:
        raise Refusal(400, "SyncStateInvalid", "The sync state was made with another id type.")
    return cursor


def page_size(world: World, call: Call) -> int:
    """Return how many items a page may hold: the caller's preference within bounds."""
    wanted = call.preferences().get("odata.maxpagesize", "")
    size = int(wanted) if wanted.isdecimal() else 0
    return min(size, world.behaviour.largest_page) or world.behaviour.default_page


def applied(call: Call, size: int) -> dict[str, str]:
    """Return the ``Preference-Applied`` header for the preferences that were honoured."""
    found = []
    if call.immutable:
        found.append('IdType="ImmutableId"')
    if "odata.maxpagesize" in call.preferences():
        found.append(f"odata.maxpagesize={size}")
    return {"Preference-Applied": ", ".join(found)} if found else {}


def token_link(world: World, path: str, cursor: Cursor) -> dict[str, str]:
    """Return the page's link as the field it belongs in: a next link or a delta link."""
    token = world.seal.token(cursor)
    if cursor.ready:
        return {"@odata.deltaLink": world.link(path, {"$deltatoken": token})}
    return {"@odata.nextLink": world.link(path, {"$skiptoken": token})}
