"""Which messages of a mailbox are meant: of one snapshot, of a day, of a time, of some folders."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, cast

from atlas_async.catalog import content
from atlas_async.catalog.layout import segments_prefix
from atlas_async.catalog.reader import MailboxReader, SnapshotSummary, SnapshotView
from atlas_async.catalog.rows import checked
from atlas_async.catalog.state import Run, ever
from atlas_async.catalog.vault import Vault
from atlas_async.clock import iso_millis
from atlas_async.errors import (
    IntegrityError,
    ObjectNotFound,
    PartMissing,
    SnapshotNotFound,
    UsageError,
)
from atlas_async.model.message import sender_address
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import NotStored
from atlas_async.model.source import Folder
from atlas_async.operations.listing import LOST_NEWEST, find_snapshot, unknown_mailbox
from atlas_async.operations.tenant import Tenant

SHORTEST_ID: Final = 4
"""Characters of the beginning of a message's id, or of its checksum, that are looked up."""
SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages of one mailbox. All conditions hold together.

    Args:
        mailbox: Its address; None where ``snapshot`` tells it.
        snapshot: Id of a snapshot, the beginning of one, or ``latest``; None for the newest.
        at: Instead: the newest snapshot made at or before this moment.
        made_from: Instead: what any snapshot held that was made at or after this moment, each
            message as the last of them shows it.
        made_before: With or without ``made_from``: made before this moment.
        received_from: Received at or after.
        received_before: Received before.
        folders: Of these folders: path, well-known name or id.
        subtree: With the folders below those.
        messages: Ids of messages or checksums of their content, or the beginning of either.
    """

    mailbox: str | None = None
    snapshot: str | None = None
    at: datetime | None = None
    made_from: datetime | None = None
    made_before: datetime | None = None
    received_from: datetime | None = None
    received_before: datetime | None = None
    folders: tuple[str, ...] = ()
    subtree: bool = True
    messages: tuple[str, ...] = field(default=())

    @property
    def ranged(self) -> bool:
        """Whether all snapshots of a time are meant."""
        return self.made_from is not None or self.made_before is not None


class Selected:
    """The messages that a selection means, of one mailbox.

    ``views`` are the snapshots, oldest first. ``exact`` is False where Atlas wrote: moves and
    deletions are not known then. ``notes`` are sentences for a person about what was taken how.
    """

    def __init__(
        self,
        vault: Vault,
        views: Sequence[SnapshotView],
        selection: Selection,
        notes: Sequence[str] = (),
    ) -> None:
        self.vault = vault
        self.mailbox_id = vault.mailbox_id
        self.snapshots: tuple[SnapshotSummary, ...] = tuple(view.summary for view in views)
        self.exact = all(view.snapshot is not None for view in views)
        self.notes = tuple(notes)
        self.folders = _all_folders(views)
        self.views = tuple(views)
        self._by_id = {folder.id: folder for folder in self.folders}
        self._selection = selection
        self._folder_ids = _chosen_folders(views, selection)
        self._records: list[MessageRecord] | None = None

    @property
    def snapshot(self) -> SnapshotSummary:
        """The newest of the snapshots."""
        return self.snapshots[-1]

    def folder_path(self, folder_id: str) -> tuple[str, ...]:
        """Return a folder's names from the root; a stand-in where no name is known."""
        folder = self._by_id.get(folder_id)
        if folder is None or not (folder.path or folder.well_known_name or folder.name):
            digest = hashlib.sha256(folder_id.encode("utf-8", "surrogatepass")).hexdigest()
            return (f"Folder {digest[:8]}",)
        return folder.path

    def folder(self, folder_id: str) -> Folder | None:
        """Return a folder by its id, or None."""
        return self._by_id.get(folder_id)

    @property
    def chosen_folders(self) -> tuple[Folder, ...]:
        """The folders that messages are taken from, parents first."""
        if self._folder_ids is None:
            return self.folders
        return tuple(folder for folder in self.folders if folder.id in self._folder_ids)

    async def messages(self) -> AsyncIterator[MessageRecord]:
        """Yield the messages in row order; nothing grows with their number.

        Raises:
            IntegrityError: A part of a snapshot is damaged, or missing (``PartMissing``).
            StoreError: The store failed.
        """
        source = self._every() if self._records is None else _each(self._records)
        async for record in source:
            if self._folder_ids is not None and record["folder_id"] not in self._folder_ids:
                continue
            if await self._is_received_in_time(record):
                yield record

    async def not_stored(self) -> tuple[NotStored, ...]:
        """Return what the newest of the snapshots lacks of what was chosen, by its ledger."""
        entries = await self.views[-1].not_stored()
        if self._records is not None:
            chosen = {record["object_id"] for record in self._records}
            entries = tuple(entry for entry in entries if entry.object_id in chosen)
        if self._folder_ids is not None:
            entries = tuple(entry for entry in entries if entry.folder_id in self._folder_ids)
        return tuple(entries)

    async def resolve(self) -> None:
        """Look up the messages that the selection names by id.

        Raises:
            SnapshotNotFound: One is not there.
            UsageError: The beginning of an id is too short or fits several messages.
        """
        wanted = dict.fromkeys(self._selection.messages)
        if not wanted:
            return
        found: dict[str, MessageRecord] = {}
        for view in reversed(self.views):
            for object_id in [name for name in wanted if name not in found]:
                record = await view.find(object_id)
                if record is not None:
                    found[object_id] = record
        left = [name for name in wanted if name not in found]
        if left:
            found.update(await self._by_beginning(left))
        self._records = list({record["object_id"]: record for record in found.values()}.values())

    async def _by_beginning(self, names: list[str]) -> dict[str, MessageRecord]:
        for name in names:
            if len(name) < SHORTEST_ID:
                msg = f"a message is named by at least {SHORTEST_ID} characters of its id"
                raise UsageError(msg)
        matches: dict[str, list[MessageRecord]] = {name: [] for name in names}
        async for record in self._every():
            for name in names:
                if record["object_id"].startswith(name) or record["checksum"].startswith(name):
                    matches[name].append(record)
        for name, records in matches.items():
            if not records:
                msg = f"no message {name!r}"
                hint = "`atlas list -s SNAPSHOT --all` and `atlas find` show the ids"
                raise SnapshotNotFound(msg, where=self.mailbox_id, hint=hint)
            if len(records) > 1:
                msg = f"{name!r} matches {len(records)} messages"
                raise UsageError(msg, hint="give more of the id")
        return {name: records[0] for name, records in matches.items()}

    async def _every(self) -> AsyncIterator[MessageRecord]:
        if len(self.views) == 1:
            async for record in self.views[0].messages():
                yield record
            return
        if not self.exact:
            merged: dict[str, MessageRecord] = {}
            for view in self.views:
                async for record in view.messages():
                    merged[record["object_id"]] = record
            for record in merged.values():
                yield record
            return
        where = segments_prefix(self.mailbox_id)
        first = self.views[0].snapshot
        batches = ever(self.vault, first.runs if first else (), _later_runs(self.views))
        while True:
            try:
                batch = await anext(batches, None)
            except ObjectNotFound as error:
                msg = "a part of these snapshots is missing from the bucket"
                raise PartMissing(msg, where=error.where, hint=content.MISSING_HINT) from None
            if batch is None:
                return
            for row in batch:
                yield checked(row, where=where)

    async def _is_received_in_time(self, record: MessageRecord) -> bool:
        chosen = self._selection
        if chosen.received_from is None and chosen.received_before is None:
            return True
        try:
            moment = _moment(record["received"]) or await self._received(record)
        except IntegrityError:
            return True  # when it was received nobody knows; whoever reads it meets the damage
        if moment is None:
            return False
        if chosen.received_from is not None and moment < chosen.received_from:
            return False
        return chosen.received_before is None or moment < chosen.received_before

    async def _received(self, record: MessageRecord) -> datetime | None:
        """Return when a message was received that Atlas stored: only the message itself tells."""
        if self.exact:
            return None
        stored = await content.read_message(self.vault, record)
        record.update(told_by_message(stored))
        return _moment(record["received"])


def told_by_message(stored: content.StoredMessage) -> MessageRecord:
    """Return a record with what Atlas's manifests leave out and the message itself tells."""
    resource, record = stored.resource, stored.record
    read = resource.get("isRead")
    flag = resource.get("flag")
    status = flag.get("flagStatus") if isinstance(flag, dict) else None
    categories = resource.get("categories")
    return cast(
        "MessageRecord",
        {
            **record,
            "subject": record["subject"] or str(resource.get("subject") or ""),
            "received": record["received"] or str(resource.get("receivedDateTime") or ""),
            "sender": record["sender"] or sender_address(resource),
            "internet_message_id": record["internet_message_id"]
            or str(resource.get("internetMessageId") or ""),
            "is_read": record["is_read"] if isinstance(record["is_read"], bool) else read,
            "flag": record["flag"] or status,
            "categories": record["categories"]
            or ([str(c) for c in categories] if isinstance(categories, list) else []),
            "is_draft": record["is_draft"] or bool(resource.get("isDraft")),
        },
    )


async def select(tenant: Tenant, selection: Selection) -> Selected:
    """Find what a selection means.

    Raises:
        SnapshotNotFound: No such mailbox, snapshot or message.
        UsageError: The selection contradicts itself, names no such folder, or is ambiguous.
        IntegrityError: A snapshot is damaged.
        StoreError: The store failed.
    """
    ways = [selection.snapshot is not None, selection.at is not None, selection.ranged]
    if sum(ways) > 1:
        msg = "a snapshot, a moment and a time cannot be given together"
        raise UsageError(msg, hint="give one of them")
    if selection.at is None and not selection.ranged:
        mailbox_id, snapshot_id = await find_snapshot(tenant, selection.snapshot, selection.mailbox)
        vault = tenant.vault(mailbox_id)[0]
        reader = MailboxReader(vault)
        views = [await reader.open(snapshot_id)]
        newest = (selection.snapshot or "latest").strip().lower() == "latest"
        notes = await _about_newest(reader) if newest else []
    else:
        await tenant.open_for_reading()
        vault, views, notes = await _by_time(tenant, selection)
    selected = Selected(vault, views, selection, notes)
    await selected.resolve()
    return selected


async def _about_newest(reader: MailboxReader) -> list[str]:
    """Return what is to be said of the newest snapshot: that there was a newer one."""
    try:
        lost = await reader.lost_newest()
    except IntegrityError as error:
        return [f"the mailbox's head is damaged ({error}): there may have been a newer snapshot"]
    return [] if lost is None else [f"an older snapshot is taken, not {lost}: {LOST_NEWEST}"]


async def _by_time(
    tenant: Tenant, selection: Selection
) -> tuple[Vault, list[SnapshotView], list[str]]:
    if selection.mailbox is None:
        msg = "the snapshots of which mailbox?"
        raise UsageError(msg, hint="name it with -m MAILBOX")
    mailbox_id = selection.mailbox.strip().lower()
    vault = tenant.vault(mailbox_id)[0]
    reader = MailboxReader(vault)
    known = await reader.snapshots()
    if not known:
        raise await unknown_mailbox(tenant, mailbox_id)
    chosen, notes = _in_time(known, selection)
    if not chosen:
        first, last = known[0].created_at, known[-1].created_at
        hint = f"there are {len(known)}, made from {first} to {last}: see `atlas list -m`"
        raise SnapshotNotFound("no snapshot of that time", where=mailbox_id, hint=hint)
    return vault, [await reader.open(item.snapshot_id) for item in chosen], notes


def _in_time(
    known: Sequence[SnapshotSummary], selection: Selection
) -> tuple[list[SnapshotSummary], list[str]]:
    intact = [item for item in known if not item.damage]
    notes = [
        f"left out, as it cannot be read: snapshot {item.snapshot_id}"
        for item in known
        if item.damage
    ]
    if selection.at is not None:
        until = iso_millis(selection.at.astimezone(UTC))
        return [item for item in intact if item.created_at <= until][-1:], notes
    first = "" if selection.made_from is None else iso_millis(selection.made_from.astimezone(UTC))
    chosen = [item for item in intact if item.created_at >= first]
    if selection.made_before is not None:
        before = iso_millis(selection.made_before.astimezone(UTC))
        chosen = [item for item in chosen if item.created_at < before]
    ours = [item for item in chosen if item.written_by == "atlas_async"]
    if ours and len(ours) < len(chosen):
        # Atlas's ids are others than ours, so the same mail would show twice.
        notes.append("snapshots that Atlas wrote are left out: others of the time show the mail")
        chosen = ours
    return chosen, notes


def _all_folders(views: Sequence[SnapshotView]) -> tuple[Folder, ...]:
    found: dict[str, Folder] = {}
    for view in views:
        for shown in view.folders:
            folder = shown.folder
            if not folder.path and not folder.name and folder.id in found:
                continue
            found[folder.id] = replace(folder, total_items=shown.message_count)
    return tuple(sorted(found.values(), key=lambda folder: len(folder.path)))


def _chosen_folders(views: Sequence[SnapshotView], selection: Selection) -> frozenset[str] | None:
    """Return the ids of the folders that a selection names, as any of the snapshots names them."""
    if not selection.folders:
        return None
    shown = [[item.folder for item in view.folders] for view in views]
    chosen: set[str] = set()
    for name in selection.folders:
        named = [folder for folders in shown for folder in folders_named(folders, name)]
        if not named:
            every = [folder for folders in shown for folder in folders]
            unnamed = every and not any(folder.path for folder in every)
            hint = (
                "Atlas recorded no names of folders: give the id that `atlas list -s` shows"
                if unnamed
                else "`atlas list -s SNAPSHOT` lists its folders"
            )
            having = "the snapshot has" if len(views) == 1 else "the snapshots of that time have"
            raise UsageError(f"{having} no folder {name!r}", hint=hint)
        chosen.update(folder.id for folder in named)
    if selection.subtree:
        for folders in shown:
            for folder in folders:  # parents come first
                if folder.parent_id in chosen:
                    chosen.add(folder.id)
    return frozenset(chosen)


def folders_named(folders: Iterable[Folder], name: str) -> list[Folder]:
    """Return the folders that ``name`` means: by id, else well-known name, else path.

    Paths are compared without regard to case; siblings of one name are all returned.
    """
    every = list(folders)
    wanted = name.strip("/").casefold()
    by_id = [folder for folder in every if folder.id == name]
    known = [f for f in every if (f.well_known_name or "").casefold() == wanted != ""]
    return by_id or known or [f for f in every if "/".join(f.path).casefold() == wanted != ""]


def _later_runs(views: Sequence[SnapshotView]) -> list[Run]:
    """Return, oldest first, the runs of later snapshots, without segments met before."""
    first = views[0].snapshot
    seen = {ref.checksum for run in (first.runs if first else ()) for ref in run.segments}
    later: list[Run] = []
    for view in views[1:]:
        for run in view.snapshot.runs if view.snapshot else ():
            fresh = tuple(ref for ref in run.segments if ref.checksum not in seen)
            seen.update(ref.checksum for ref in fresh)
            if fresh:
                later.append(Run(fresh))
    return later


async def _each(records: Sequence[MessageRecord]) -> AsyncIterator[MessageRecord]:
    for record in records:
        yield record


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
