"""Reading messages: listings of a folder or the mailbox, one message, its MIME."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.filters import Filter, matches, parse_filter
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.mime import message_mime
from atlas_async.emulator.query import (
    MESSAGE_ON_REQUEST,
    MESSAGE_PROPERTIES,
    Expansion,
    number_of,
    select_of,
)
from atlas_async.emulator.records import FolderState, NotHere
from atlas_async.emulator.render import View, is_smime, message_json
from atlas_async.emulator.rounds import applied
from atlas_async.emulator.tree import INBOX, MAIL_ROOT
from atlas_async.emulator.world import World, in_path


async def list_folder(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailFolders/{id}/messages``."""
    mailbox = world.mailbox(ids[0])
    state = mailbox.folder(ids[1])
    folder = in_path(mailbox.ids.folder(state.number))
    return _listing(world, call, mailbox, state, f"mailFolders('{folder}')/messages")


async def list_mailbox(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/messages``."""
    return _listing(world, call, world.mailbox(ids[0]), None, "messages")


async def get_message(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/messages/{id}``, below a folder or not."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    context = world.context(f"users('{mailbox.person.id}')/messages/$entity")
    shown = message_json(mailbox, key, view_of(world, call))
    return Reply.json({"@odata.context": context, **shown}, headers=applied(call, 0))


async def get_mime(world: World, _call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/messages/{id}/$value``: the MIME form, as a stream."""
    mailbox = world.mailbox(ids[0])
    key = located(mailbox, ids)
    if is_smime(mailbox, key):
        raise Refusal(
            500, "ErrorMimeContentConversionFailed", "The MIME content conversion failed."
        )
    message = message_json(mailbox, key, View(immutable=False))
    parts = [part for _, part in mailbox.parts(key)]
    return Reply(headers={"Content-Type": "text/plain"}, stream=message_mime(message, parts))


def located(mailbox: Mailbox, ids: tuple[str, ...]) -> int:
    """Return the key of the message that the path names, in the folder when it names one.

    ``ids`` are (user, message) or (user, folder, message). Raises ``NotHere``, or ``Refusal`` for
    a message that cannot be read.
    """
    key = mailbox.message(ids[-1])
    for folder in ids[1:-1]:
        if mailbox.place(key)[0] != mailbox.folder(folder).number:
            raise NotHere(ids[-1])
    if key in mailbox.troubled:
        raise trouble_with(mailbox, key)
    return key


def trouble_with(mailbox: Mailbox, key: int) -> Refusal:
    """Return the answer for a message that cannot be read."""
    trouble = mailbox.troubled[key]
    return Refusal(trouble.status, trouble.code, "The item cannot be read.")


def in_page(mailbox: Mailbox, key: int, shown: dict[str, Any]) -> dict[str, Any]:
    """Return a message as a page shows it. Raises ``Refusal`` when it takes the page with it."""
    trouble = mailbox.troubled.get(key)
    if trouble is None:
        return shown
    if trouble.pages:
        raise trouble_with(mailbox, key)
    return {name: value for name, value in shown.items() if name != "body"}


def view_of(world: World, call: Call) -> View:
    """Return how the request wants messages to be shown."""
    known = MESSAGE_PROPERTIES + MESSAGE_ON_REQUEST
    return View(
        immutable=call.immutable,
        select=select_of(call.query, known, "microsoft.graph.message"),
        expansion=Expansion.of(call.query.get("$expand", "")),
        text_body=call.preferences().get("outlook.body-content-type") == "text",
        inline_limit=world.behaviour.inline_limit,
    )


@dataclass(frozen=True, slots=True)
class _Page:
    keys: list[int]
    next_start: int | None


def _listing(
    world: World, call: Call, mailbox: Mailbox, state: FolderState | None, path: str
) -> Reply:
    kept_under, kept = world.kept(mailbox, call)
    if kept is not None:
        return kept
    _check_options(world, call)
    view = view_of(world, call)
    size = _size(world, call)
    start = _start(call)
    wanted = parse_filter(call.query["$filter"]) if "$filter" in call.query else None
    page = _select_page(mailbox, state, call, wanted, start, size)
    value = [message_json(mailbox, key, view) for key in page.keys]
    if view.select != ():
        value = [in_page(mailbox, *item) for item in zip(page.keys, value, strict=True)]
    user = f"users('{mailbox.person.id}')"
    body: dict[str, Any] = {"@odata.context": world.context(f"{user}/{path}")}
    if call.query.get("$count", "").lower() == "true":
        body["@odata.count"] = _count(mailbox, state, wanted)
    body["value"] = value
    if page.next_start is not None:
        at = start if world.behaviour.repeat_links else page.next_start
        options = {**call.query, "$skip": str(at)}
        body["@odata.nextLink"] = world.link(f"{user}/{path}", options)
    reply = Reply.json(body, headers=applied(call, size))
    world.pages.put(kept_under, reply)
    return reply


def _check_options(world: World, call: Call) -> None:
    """Raise ``Refusal`` (400) for query options that this service is set not to know."""
    refused = {
        "$expand": not world.behaviour.property_reads,
        "$filter": not world.behaviour.message_filters,
    }
    for name, off in refused.items():
        if off and name in call.query:
            raise Refusal(400, "ErrorInvalidUrlQuery", f"The query option {name} is not supported.")


def _size(world: World, call: Call) -> int:
    top = number_of(call.query, "$top")
    largest = world.behaviour.largest_page
    if top is not None and not 1 <= top <= largest:
        raise Refusal(
            400, "ErrorInvalidUrlQuery", f"The value of $top must be between 1 and {largest}."
        )
    wanted = call.preferences().get("odata.maxpagesize", "")
    preferred = int(wanted) if wanted.isdecimal() else 0
    return top or min(preferred, largest) or world.behaviour.default_page


def _start(call: Call) -> int:
    return number_of(call.query, "$skip") or number_of(call.query, "$skiptoken") or 0


def _select_page(
    mailbox: Mailbox,
    state: FolderState | None,
    call: Call,
    wanted: Filter | None,
    start: int,
    size: int,
) -> _Page:
    found = _looked_up(mailbox, state, wanted) if wanted is not None else None
    if found is not None:
        return _Page(found[start : start + size], start + size if found[start + size :] else None)
    keys = _ordered(mailbox, state, call, start)
    if wanted is None:
        page = list(islice(keys, size + 1))
        return _Page(page[:size], start + size if len(page) > size else None)
    chosen: list[int] = []
    for offset, key in enumerate(keys):
        if len(chosen) == size:
            return _Page(chosen, start + offset)
        if matches(wanted, _facts(mailbox, key, wanted)):
            chosen.append(key)
    return _Page(chosen, None)


def _looked_up(mailbox: Mailbox, state: FolderState | None, wanted: Filter) -> list[int] | None:
    """Return what a filter finds by an index, newest first, or None when it needs a scan."""
    exact = wanted.equalities.get("internetMessageId")
    if exact is not None:
        found = mailbox.find_message_id(exact)
    elif wanted.sought is not None:
        found = mailbox.find_property(*wanted.sought)
    else:
        return None
    places = {key: mailbox.place(key)[0] for key in found}
    chosen = [
        key
        for key, place in places.items()
        if (mailbox.is_below(place, MAIL_ROOT) if state is None else place == state.number)
        and matches(wanted, _facts(mailbox, key, wanted))
    ]
    return sorted(chosen, key=mailbox.received, reverse=True)


def _ordered(mailbox: Mailbox, state: FolderState | None, call: Call, start: int) -> Iterator[int]:
    order = call.query.get("$orderby", "receivedDateTime desc").lower().split()
    name, direction = order[0], order[1] if len(order) > 1 else "asc"
    if name not in {"receiveddatetime", "sentdatetime", "subject"} or "," in "".join(order):
        raise Refusal(400, "ErrorInvalidUrlQuery", f"Cannot order by '{' '.join(order)}'.")
    newest_first = direction == "desc"
    if name == "subject":
        every = list(mailbox.all_keys() if state is None else mailbox.keys(state.number))
        every.sort(key=lambda key: str(_facts(mailbox, key)["subject"]), reverse=newest_first)
        return iter(every[start:])
    if state is None:
        return islice(mailbox.all_keys(newest_first=newest_first), start, None)
    shelf = mailbox.folders[INBOX].shelf if state.search else state.shelf
    return shelf.keys(mailbox.received, start, newest_first=newest_first)


def _facts(mailbox: Mailbox, key: int, wanted: Filter | None = None) -> dict[str, Any]:
    expansion = Expansion(extended=wanted.extended if wanted is not None else ())
    plain = View(
        immutable=False,
        select=tuple(p for p in MESSAGE_PROPERTIES if p != "body"),
        expansion=expansion,
    )
    return message_json(mailbox, key, plain)


def _count(mailbox: Mailbox, state: FolderState | None, wanted: Filter | None) -> int:
    if wanted is None and state is not None:
        return len(state.shelf)
    found = _looked_up(mailbox, state, wanted) if wanted is not None else None
    if found is not None:
        return len(found)
    keys = mailbox.all_keys() if state is None else mailbox.keys(state.number)
    return sum(1 for key in keys if wanted is None or matches(wanted, _facts(mailbox, key, wanted)))


def reply_with_message(
    world: World, call: Call, mailbox: Mailbox, key: int, *, status: int
) -> Reply:
    """Return the answer of an operation that yields a message."""
    context = world.context(f"users('{mailbox.person.id}')/messages/$entity")
    view = replace(view_of(world, call), select=None)
    shown = message_json(mailbox, key, view)
    return Reply.json({"@odata.context": context, **shown}, status=status)
