"""Delta rounds over one folder's messages: what the next page holds and where the round stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.cursors import Cursor
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.shelf import Change, ChangeKind

FILTER_TOP = 5_000
"""With a filter Graph returns at most this many messages in a round."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A message that a page reports; ``partial`` when only changed properties are sent."""

    key: int
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """A message that left the folder, with the id it had there."""

    key: int
    folder: int
    moves: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeltaPage:
    """One page. ``cursor.ready`` tells a delta link from a next link."""

    items: list[Shown | Gone]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class _Step:
    item: Shown | Gone | None
    phase: str
    at: int


def next_page(mailbox: Mailbox, cursor: Cursor, size: int, behaviour: Behaviour) -> DeltaPage:
    """Return the page that ``cursor`` points to and the cursor after it."""
    start = _opened(mailbox, cursor)
    limit = size
    total = start.top or (FILTER_TOP if start.after else 0)
    if total:
        limit = max(0, min(size, total - start.served))
    steps = list(islice(_steps(mailbox, start, behaviour), limit + 1))
    items = [step.item for step in steps[:limit] if step.item is not None]
    served = start.served + len(items)
    if behaviour.replays and start.previous >= 0 and start.previous not in _keys(items):
        items = _replayed(mailbox, start) + items
    if len(steps) > limit > 0:
        last = steps[limit - 1]
        after = replace(start.moved(last.phase, last.at), served=served, previous=_last(items))
        return DeltaPage(items, after)
    if total and items and served >= total:
        return DeltaPage(items, replace(start.moved("e", 0), served=served))
    if start.blanks < behaviour.empty_pages:
        return DeltaPage(items, replace(start.moved("e", 0), blanks=start.blanks + 1))
    done = replace(
        start.moved("c", start.until),
        since=start.until,
        served=0,
        top=0,
        blanks=0,
        previous=-1,
        ready=True,
    )
    return DeltaPage(items, done)


def _opened(mailbox: Mailbox, cursor: Cursor) -> Cursor:
    """Start a new round when the cursor comes from a delta link."""
    if not cursor.ready:
        return cursor
    return replace(cursor, until=mailbox.seq, at=cursor.since, phase="c", ready=False)


def _steps(mailbox: Mailbox, cursor: Cursor, behaviour: Behaviour) -> Iterator[_Step]:
    shelf = mailbox.folders[cursor.folder].shelf
    wanted = _wanted(mailbox, cursor)
    if cursor.phase == "g":
        for index, key in shelf.generated_from(cursor.at):
            if wanted(key):
                yield _Step(Shown(key), "g", index + 1)
    if cursor.phase in {"g", "a"}:
        first = cursor.at if cursor.phase == "a" else 0
        for seq, key in shelf.arrived_after(first, until=cursor.until):
            if wanted(key):
                yield _Step(Shown(key), "a", seq)
    if cursor.phase == "c":
        for change in shelf.changed_after(cursor.at, until=cursor.until):
            item = _changed(mailbox, cursor, change, behaviour)
            if item is not None and (isinstance(item, Gone) or wanted(item.key)):
                yield _Step(item, "c", change.seq)


def _changed(
    mailbox: Mailbox, cursor: Cursor, change: Change, behaviour: Behaviour
) -> Shown | Gone | None:
    shelf = mailbox.folders[cursor.folder].shelf
    key = change.key
    if key not in shelf:
        if cursor.change_type not in {"", "deleted"}:
            return None
        reason = "deleted" if change.kind is ChangeKind.DELETED else "changed"
        return Gone(key, cursor.folder, change.moves, reason)
    came_back = change.kind is ChangeKind.ARRIVED and shelf.left.get(key, 0) > cursor.since
    if came_back and behaviour.return_quirk and cursor.immutable:
        return Gone(key, cursor.folder, change.moves, "changed")
    if change.kind is ChangeKind.ARRIVED and behaviour.silent_moves and cursor.immutable:
        return None
    new = shelf.born.get(key, 0) > cursor.since
    if cursor.change_type not in {"", "created" if new else "updated"}:
        return None
    return Shown(key, partial=behaviour.sparse_changes and not new)


def _wanted(mailbox: Mailbox, cursor: Cursor) -> Callable[[int], bool]:
    if not cursor.after:
        return lambda _key: True
    operator, _, text = cursor.after.partition(" ")
    limit = datetime.fromisoformat(text)
    if operator == "gt":
        return lambda key: mailbox.received(key) > limit
    return lambda key: mailbox.received(key) >= limit


def _replayed(mailbox: Mailbox, cursor: Cursor) -> list[Shown | Gone]:
    held = cursor.previous in mailbox.folders[cursor.folder].shelf
    return [Shown(cursor.previous)] if held else []


def _keys(items: list[Shown | Gone]) -> set[int]:
    return {item.key for item in items}


def _last(items: list[Shown | Gone]) -> int:
    shown = [item.key for item in items if isinstance(item, Shown)]
    return shown[-1] if shown else -1
