"""One mailbox: folders, the messages that differ from the generated ones, and their history."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import merge
from typing import Any, Final

from atlas_async.emulator.ids import IdBook, MessageRef
from atlas_async.emulator.letters import (
    Letters,
    created_key,
    is_generated,
    origin_of,
    received_at,
)
from atlas_async.emulator.parts import Part
from atlas_async.emulator.people import Person
from atlas_async.emulator.properties import Extended
from atlas_async.emulator.records import Entry, FolderState, NotHere, Trouble
from atlas_async.emulator.shelf import Change, ChangeKind, Shelf
from atlas_async.emulator.tree import DELETED_ITEMS, DELETIONS, MAIL_ROOT, PURGES, FolderPlan

_SHORTEST_ID: Final = 24


class Mailbox:
    """A mailbox that remembers what clients and the control interface did to it.

    Args:
        person: The owner.
        book: Writes and reads its ids.
        letters: Generates its messages.
        plans: Its folders, parents first.
        now: Returns the present, in UTC.
    """

    def __init__(
        self,
        person: Person,
        mailbox_id: uuid.UUID,
        letters: Letters,
        plans: list[FolderPlan],
        now: Callable[[], datetime],
    ) -> None:
        self.person = person
        self.ids = IdBook(mailbox_id)
        self.letters = letters
        self.now = now
        self.seq = 1
        self._generations: dict[int | None, int] = {}
        self.over_quota = False
        self.troubled: dict[int, Trouble] = {}
        self.folders: dict[int, FolderState] = {}
        self.folder_log: list[Change] = []
        self.entries: dict[int, Entry] = {}
        self._by_message_id: dict[str, dict[int, None]] = {}
        self._by_property: dict[tuple[str, str], dict[int, None]] = {}
        self._created = 0
        self._next_folder = 1_000_000
        for plan in plans:
            self.folders[plan.number] = FolderState(
                number=plan.number,
                parent=plan.parent,
                name=plan.name,
                known=plan.well_known,
                hidden=plan.hidden,
                search=plan.search,
                shelf=Shelf(plan.number, plan.messages),
                unread=letters.unread_among(plan.messages),
            )

    # -- folders ---------------------------------------------------------------------------

    def folder(self, text: str) -> FolderState:
        """Return a folder by id or well-known name. Raises ``NotHere`` or ``MalformedId``."""
        lowered = text.lower()
        for state in self.folders.values():
            if state.known == lowered:
                return state
        if len(text) < _SHORTEST_ID and text.isalnum():
            raise NotHere(text)
        number = self.ids.read_folder(text)
        if number not in self.folders:
            raise NotHere(text)
        return self.folders[number]

    def children(self, number: int, *, hidden: bool) -> list[FolderState]:
        """Return the direct children, in a stable order."""
        found = [state for state in self.folders.values() if state.parent == number]
        return [state for state in found if hidden or not state.hidden]

    def below(self, number: int) -> Iterator[FolderState]:
        """Yield all folders under ``number``, parents first, without itself."""
        for child in self.children(number, hidden=True):
            yield child
            yield from self.below(child.number)

    def is_below(self, number: int, root: int) -> bool:
        """Whether folder ``number`` is ``root`` or lies below it."""
        at: int | None = number
        while at is not None and at != root:
            state = self.folders.get(at)
            at = state.parent if state is not None else None
        return at == root

    def add_folder(self, parent: int, name: str, *, hidden: bool = False) -> FolderState:
        """Create an empty folder; the caller has checked for duplicates."""
        number = self._next_folder
        self._next_folder += 1
        state = FolderState(
            number,
            parent,
            name,
            known=None,
            hidden=hidden,
            search=False,
            shelf=Shelf(number, 0),
            unread=0,
        )
        self.folders[number] = state
        self._log_folder(number, ChangeKind.CREATED)
        return state

    def change_folder(
        self, state: FolderState, *, name: str | None = None, parent: int | None = None
    ) -> None:
        """Rename or move a folder. Raises ``NotHere`` when the new parent lies below it."""
        if parent is not None:
            below = {inner.number for inner in self.below(state.number)}
            if parent not in self.folders or parent in below | {state.number}:
                raise NotHere(str(parent))
            state.parent = parent
        if name is not None:
            state.name = name
        state.version += 1
        self._log_folder(state.number, ChangeKind.UPDATED)

    def delete_folder(self, state: FolderState, *, hard: bool) -> None:
        """Move a folder under Deleted Items, or with ``hard`` remove it and all it holds."""
        trash = {DELETED_ITEMS} | {inner.number for inner in self.below(DELETED_ITEMS)}
        if not hard and state.parent not in trash:
            self.change_folder(state, parent=DELETED_ITEMS)
            return
        for inner in [*self.below(state.number), state]:
            for key in list(inner.shelf.keys(self.received, 0)):
                self.delete(key, hard=True)
            del self.folders[inner.number]
            self._log_folder(inner.number, ChangeKind.DELETED)

    # -- messages --------------------------------------------------------------------------

    def message(self, text: str) -> int:
        """Return the key of a message by either id. Raises ``NotHere`` or ``MalformedId``."""
        ref = self.ids.read_message(text)
        key = ref.key
        self.place(key)
        if not ref.immutable and (ref.folder, ref.moves) != self.place(key):
            raise NotHere(text)
        return key

    def place(self, key: int) -> tuple[int, int]:
        """Return (folder number, moves) of a message. Raises ``NotHere``."""
        entry = self.entries.get(key)
        if entry is not None:
            if entry.deleted:
                raise NotHere(str(key))
            return entry.folder, entry.moves
        folder, index = origin_of(key)
        state = self.folders.get(folder)
        if not is_generated(key) or state is None or index >= state.shelf.generated:
            raise NotHere(str(key))
        return folder, 0

    def message_id(self, key: int, *, immutable: bool) -> str:
        """Return a message's present id."""
        folder, moves = self.place(key)
        return self.ids.message(key, folder, moves, immutable=immutable)

    def ref(self, key: int, *, immutable: bool) -> MessageRef:
        """Return what the present id of a message says."""
        folder, moves = self.place(key)
        return MessageRef(key, folder, moves, immutable)

    def received(self, key: int) -> datetime:
        """Return when a message arrived, without generating it."""
        if is_generated(key):
            return received_at(origin_of(key)[1])
        base = self.entries[key].base or {}
        return datetime.fromisoformat(str(base["receivedDateTime"]))

    def is_read(self, key: int) -> bool:
        """Whether a message is read, without generating it."""
        entry = self.entries.get(key)
        if entry is not None and "isRead" in entry.patch:
            return bool(entry.patch["isRead"])
        if entry is not None and entry.base is not None:
            return bool(entry.base.get("isRead"))
        return self.letters.is_read(key)

    def parts(self, key: int) -> list[tuple[int, Part]]:
        """Return (number, attachment) pairs in order; numbers survive deletions."""
        entry = self.entries.get(key)
        if entry is not None and entry.parts is not None:
            return list(zip(entry.part_numbers, entry.parts, strict=True))
        return list(enumerate(self.letters.parts(key)) if is_generated(key) else ())

    def keys(self, number: int) -> Iterator[int]:
        """Yield the keys in a folder, newest first."""
        return self.folders[number].shelf.keys(self.received, 0)

    def all_keys(self, *, newest_first: bool = True) -> Iterator[int]:
        """Yield the keys of every message below the mail root, merged by received time."""
        sign = -1 if newest_first else 1
        shelves = [
            state.shelf.keys(self.received, 0, newest_first=newest_first)
            for state in [self.folders[MAIL_ROOT], *self.below(MAIL_ROOT)]
        ]
        return merge(*shelves, key=lambda key: sign * self.received(key).timestamp())

    def find_message_id(self, internet_message_id: str) -> list[int]:
        """Return the keys that carry this Message-ID in any case, or once did, without a scan."""
        lowered = internet_message_id.lower()
        key = self.letters.key_of(internet_message_id)
        if key is None:
            key = self.letters.key_of(lowered)
        found = [key] if key is not None else []
        found += self._by_message_id.get(lowered, {})
        return [k for k in dict.fromkeys(found) if self._alive(k)]

    def find_property(self, name: str, value: str) -> list[int]:
        """Return the keys that have this extended property with this value in any case, or had."""
        return [k for k in self._by_property.get((name, value.lower()), ()) if self._alive(k)]

    def create(
        self,
        folder: int,
        base: dict[str, Any],
        parts: tuple[Part, ...] = (),
        extended: Extended | None = None,
    ) -> int:
        """Store a new message and return its key. ``base`` holds final property values."""
        key = created_key(self._created)
        self._created += 1
        self.entries[key] = Entry(
            key,
            folder,
            base=base,
            parts=parts,
            part_numbers=tuple(range(len(parts))),
            next_part=len(parts),
        )
        self._note_message_id(key, base)
        self._note_extended(self.entries[key], extended or {})
        state = self.folders[folder]
        state.unread += not base.get("isRead")
        state.shelf.put(Change(self._tick(), key, ChangeKind.CREATED, folder, 0))
        return key

    def update(self, key: int, patch: dict[str, Any]) -> Entry:
        """Change properties of a message; ``patch`` replaces top-level properties."""
        was_read = self.is_read(key)
        entry = self.entry(key)
        entry.patch.update(patch)
        self._note_message_id(key, patch)
        self.folders[entry.folder].unread += int(was_read) - int(self.is_read(key))
        self._touch(entry)
        return entry

    def set_extended(self, key: int, values: Extended) -> None:
        """Set extended properties of a message, beside those that it has."""
        entry = self.entry(key)
        self._note_extended(entry, values)
        self._touch(entry)

    def set_parts(self, key: int, numbered: list[tuple[int, Part]]) -> None:
        """Replace a message's attachments."""
        entry = self.entry(key)
        entry.part_numbers = tuple(number for number, _ in numbered)
        entry.parts = tuple(part for _, part in numbered)
        entry.next_part = max([entry.next_part, *(n + 1 for n in entry.part_numbers)])
        shown = any(part.counts_as_attachment() for part in entry.parts)
        entry.patch["hasAttachments"] = shown
        self._touch(entry)

    def move(self, key: int, folder: int) -> None:
        """Put a message into another folder; its default id changes."""
        entry = self.entry(key)
        if entry.folder == folder:
            return
        source, target = self.folders[entry.folder], self.folders[folder]
        unread = not self.is_read(key)
        change = Change(self._tick(), key, ChangeKind.LEFT, entry.folder, entry.moves)
        source.shelf.take(change)
        source.unread -= unread
        entry.folder, entry.moves = folder, entry.moves + 1
        entry.version += 1
        target.shelf.put(Change(self._tick(), key, ChangeKind.ARRIVED, folder, entry.moves))
        target.unread += unread

    def delete(self, key: int, *, hard: bool) -> None:
        """Delete a message: into the dumpster, or for good with ``hard`` or from there."""
        folder, moves = self.place(key)
        if not hard and folder not in {DELETIONS, PURGES}:
            self.move(key, DELETIONS)
            self._relabel_departure(key, folder)
            return
        entry = self.entry(key)
        self.folders[folder].unread -= not self.is_read(key)
        change = Change(self._tick(), key, ChangeKind.DELETED, folder, moves)
        self.folders[folder].shelf.take(change)
        entry.deleted = True
        entry.base = {} if entry.base is not None else None
        entry.parts = ()
        entry.part_numbers = ()

    def entry(self, key: int) -> Entry:
        """Return the record of a message, made when there is none. Raises ``NotHere``."""
        folder, _ = self.place(key)
        if key not in self.entries:
            count = len(self.letters.parts(key))
            self.entries[key] = Entry(key, folder, next_part=count)
        return self.entries[key]

    def expire_delta(self, folder: int | None = None) -> None:
        """Forget the delta tokens given out so far: of one folder, or of all."""
        self._generations[folder] = self._generations.get(folder, 0) + 1
        self._tick()

    def generation(self, folder: int) -> int:
        """Return the generation that a valid delta token of the folder carries."""
        return 1 + self._generations.get(None, 0) + self._generations.get(folder, 0)

    def _note_message_id(self, key: int, values: dict[str, Any]) -> None:
        name = values.get("internetMessageId")
        if name is not None:
            self._by_message_id.setdefault(str(name).lower(), {})[key] = None

    def _note_extended(self, entry: Entry, values: Extended) -> None:
        for name, value in values.items():
            if isinstance(value, str):
                self._by_property.setdefault((name, value.lower()), {})[entry.key] = None
            entry.extended[name] = value

    def _touch(self, entry: Entry) -> None:
        entry.version += 1
        entry.modified = self.now()
        change = Change(self._tick(), entry.key, ChangeKind.UPDATED, entry.folder, entry.moves)
        self.folders[entry.folder].shelf.note(change)

    def _relabel_departure(self, key: int, folder: int) -> None:
        shelf = self.folders[folder].shelf
        moved = shelf.log.pop()
        shelf.note(Change(moved.seq, key, ChangeKind.DELETED, folder, moved.moves))

    def _log_folder(self, number: int, kind: ChangeKind) -> None:
        self.folder_log.append(Change(self._tick(), number, kind, number))

    def _alive(self, key: int) -> bool:
        try:
            self.place(key)
        except NotHere:
            return False
        return True

    def _tick(self) -> int:
        self.seq += 1
        return self.seq
