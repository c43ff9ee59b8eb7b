"""Reading what a mailbox's part of the bucket holds: its snapshots and what each one shows.

Snapshots of this program are exact points in time. A snapshot that Atlas wrote only tells what its
run saw; what such a one shows here is everything Atlas had seen until then, and ``complete`` is
false because moves and deletions are not known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio

from atlas_async.catalog.head import read_head
from atlas_async.catalog.layout import (
    MANIFESTS_PREFIX,
    is_snapshot_id,
    manifest_key,
    segments_prefix,
    snapshot_key,
)
from atlas_async.catalog.ledger import open_entries, read_ledger
from atlas_async.catalog.manifest import Manifest, ManifestEntry, entries_of, read_manifest
from atlas_async.catalog.rows import checked
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import StateReader
from atlas_async.catalog.vault import Vault
from atlas_async.clock import iso_millis
from atlas_async.errors import (
    AtlasError,
    FormatError,
    IntegrityError,
    NewerFormat,
    ObjectNotFound,
    PartMissing,
    SnapshotNotFound,
)
from atlas_async.model.record import AttachmentRecord, MessageRecord
from atlas_async.model.report import NotStored
from atlas_async.model.source import Folder, JsonObject
from atlas_async.store.base import list_all

READERS = 16
"""Descriptors and manifests read at once."""


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """One snapshot in a list. ``written_by`` is ``atlas_async`` or ``atlas``.

    ``damage`` says why nothing more is known of a snapshot whose descriptor cannot be read.
    """

    snapshot_id: str
    mailbox_id: str
    created_at: str
    messages: int
    new: int
    changed: int
    removed: int
    complete: bool
    size_bytes: int
    not_stored: int
    written_by: str
    damage: str = ""


@dataclass(frozen=True, slots=True)
class FolderView:
    """A folder of a snapshot with how many messages it held then."""

    folder: Folder
    message_count: int


class SnapshotView:
    """One opened snapshot."""

    def __init__(
        self,
        vault: Vault,
        summary: SnapshotSummary,
        snapshot: Snapshot | None,
        entries: tuple[ManifestEntry, ...],
    ) -> None:
        self._vault = vault
        self._entries = entries
        self.summary = summary
        self.snapshot = snapshot

    @property
    def folders(self) -> tuple[FolderView, ...]:
        """The folders, parents first. Atlas stores none: its folders are known by id only."""
        if self.snapshot is not None:
            counts = self.snapshot.folder_counts
            return tuple(FolderView(f, counts.get(f.id, 0)) for f in self.snapshot.folders)
        found: dict[str, int] = {}
        for entry in self._entries:
            found[entry.folder_id] = found.get(entry.folder_id, 0) + 1
        return tuple(FolderView(Folder(i, "", "", (), None), n) for i, n in found.items())

    async def messages(
        self, folder_ids: frozenset[str] | None = None
    ) -> AsyncIterator[MessageRecord]:
        """Yield the messages, of all folders or of some.

        Raises:
            IntegrityError: A part of the snapshot is damaged, or missing (``PartMissing``).
        """
        if self.snapshot is None:
            for entry in self._entries:
                if folder_ids is None or entry.folder_id in folder_ids:
                    yield record_of_entry(entry)
            return
        where = segments_prefix(self._vault.mailbox_id)
        batches = StateReader(self._vault, self.snapshot.runs).rows()
        while True:
            with _whole():
                batch = await anext(batches, None)
            if batch is None:
                return
            for row in batch:
                record = checked(row, where=where)
                if folder_ids is None or record["folder_id"] in folder_ids:
                    yield record

    async def find(self, object_id: str) -> MessageRecord | None:
        """Return one message, or None when the snapshot does not have it."""
        if self.snapshot is None:
            matches = [e for e in self._entries if e.object_id == object_id]
            return record_of_entry(matches[-1]) if matches else None
        with _whole():
            found = await StateReader(self._vault, self.snapshot.runs).find([object_id])
        row = found.get(object_id)
        return row and checked(row, where=segments_prefix(self._vault.mailbox_id))

    async def not_stored(self, *, forgotten: bool = False) -> tuple[NotStored, ...]:
        """Return what is missing by the ledger of this snapshot.

        Args:
            forgotten: With what the operator gave up.
        """
        if self.snapshot is None:
            return tuple(_missing_of_atlas(self._entries))
        with _whole():
            entries = await read_ledger(self._vault, self.snapshot.ledger)
        return entries if forgotten else open_entries(entries)


@contextmanager
def _whole() -> Iterator[None]:
    """Say of an object that is not there that a snapshot names it: that is no "not found"."""
    try:
        yield
    except ObjectNotFound as error:
        msg = "a part of this snapshot is missing from the bucket"
        hint = "restore this object from a copy of the bucket; `atlas verify` lists all"
        raise PartMissing(msg, where=error.where, hint=hint) from None


def _damaged(mailbox_id: str, snapshot_id: str, error: IntegrityError) -> SnapshotSummary:
    """Return what can be said of a snapshot whose descriptor cannot be read."""
    return SnapshotSummary(
        snapshot_id=snapshot_id,
        mailbox_id=mailbox_id,
        created_at=moment_of(snapshot_id),
        messages=0,
        new=0,
        changed=0,
        removed=0,
        complete=False,
        size_bytes=0,
        not_stored=0,
        written_by="",
        damage=str(error),
    )


def moment_of(snapshot_id: str) -> str:
    """Return when a snapshot's or run's id of ours was made, an empty string for others.

    Ours are UUIDs of version 7, which hold the moment.
    """
    digits = snapshot_id.replace("-", "")
    try:
        millis = int(digits[:12], 16) if digits[12] == "7" else None
        # Of a name that somebody made up, the moment may lie beyond what a calendar has.
        return "" if millis is None else iso_millis(datetime.fromtimestamp(millis / 1000, UTC))
    except (ValueError, IndexError, OverflowError, OSError):
        return ""


def record_of_entry(entry: ManifestEntry) -> MessageRecord:
    """Return a record for an entry that Atlas wrote; what Atlas does not note stays empty."""
    record = MessageRecord(
        object_id=entry.object_id,
        folder_id=entry.folder_id,
        checksum=entry.checksum,
        size_bytes=entry.size_bytes,
        content="",
        subject=entry.subject,
        received="",
        modified="",
        change_key="",
        is_read=None,
        flag=None,
        categories=[],
        internet_message_id="",
        sender="",
        is_draft=False,
        has_attachments=bool(entry.attachments),
    )
    if entry.attachments:
        record["attachments"] = [_atlas_attachment(item) for item in entry.attachments]
    return record


def _atlas_attachment(item: JsonObject) -> AttachmentRecord:
    attachment = AttachmentRecord(
        attachment_id=str(item.get("attachment_id") or ""),
        name=str(item.get("name") or ""),
        type="file",
        content_type=str(item.get("content_type") or ""),
        size_bytes=int(item.get("size_bytes") or 0),
        content_bytes=int(item.get("content_bytes") or item.get("size_bytes") or 0),
        checksum=str(item.get("checksum") or ""),
        is_inline=bool(item.get("is_inline")),
    )
    if item.get("content_id"):
        attachment["content_id"] = str(item["content_id"])
    return attachment


def _missing_of_atlas(entries: tuple[ManifestEntry, ...]) -> list[NotStored]:
    return [
        NotStored(
            kind="attachment",
            object_id=entry.object_id,
            attachment_id=str(item.get("attachment_id") or ""),
            folder_id=entry.folder_id,
            name=str(item.get("name") or ""),
            code="NotFetched",
            reason="Atlas recorded this attachment without its content",
            permanent=False,
        )
        for entry in entries
        for item in entry.attachments
        if not item.get("checksum")
    ]


class MailboxReader:
    """Finds and opens the snapshots of one mailbox."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    async def snapshot_ids(self) -> list[str]:
        """Return the ids of all committed snapshots, in key order."""
        return (await self.manifest_names())[0]

    async def manifest_names(self) -> tuple[list[str], list[str]]:
        """Return the ids of all committed snapshots, and the keys beside them that name none."""
        prefix = f"{MANIFESTS_PREFIX}{self.vault.mailbox_id}/"
        ids: list[str] = []
        strange: list[str] = []
        async for info in list_all(self.vault.store, prefix):
            name = info.key[len(prefix) :].removesuffix(".json")
            if info.key.endswith(".json") and is_snapshot_id(name):
                ids.append(name)
            else:
                strange.append(info.key)
        return ids, strange

    async def descriptor(self, snapshot_id: str) -> Snapshot | None:
        """Return a snapshot's descriptor, or None when Atlas wrote it.

        Raises:
            IntegrityError: It is damaged or another one.
        """
        key = snapshot_key(self.vault.mailbox_id, snapshot_id)
        try:
            document = await self.vault.read_document(key, kind="snapshot")
        except ObjectNotFound:
            return None
        snapshot = Snapshot.from_json(document, where=key)
        if snapshot.snapshot_id != snapshot_id:
            msg = "descriptor names another snapshot than its key: it was moved or replaced"
            raise FormatError(msg, where=key)
        return snapshot

    async def snapshots(self) -> list[SnapshotSummary]:
        """Return all committed snapshots, oldest first."""
        ids = await self.snapshot_ids()
        found: dict[str, SnapshotSummary | Manifest] = {}
        damaged: list[SnapshotSummary] = []
        errors: list[AtlasError] = []
        limiter = anyio.CapacityLimiter(READERS)

        async def load(snapshot_id: str) -> None:
            async with limiter:
                try:
                    item = await self._load(snapshot_id)
                    # Of years of descriptors, only what is shown of them stays in memory.
                    found[snapshot_id] = (
                        summaries([item])[0] if isinstance(item, Snapshot) else item
                    )
                except AtlasError as error:
                    if isinstance(error, IntegrityError) and not isinstance(error, NewerFormat):
                        damaged.append(_damaged(self.vault.mailbox_id, snapshot_id, error))
                    else:
                        errors.append(error)
                        group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for snapshot_id in ids:
                group.start_soon(load, snapshot_id)
        if errors:
            raise errors[0]
        ordered = sorted(found.values(), key=lambda item: (item.created_at, item.snapshot_id))
        known = [*summaries(ordered), *damaged]
        return sorted(known, key=lambda item: (item.created_at, item.snapshot_id))

    async def newest_id(self) -> str | None:
        """Return the id of the newest committed snapshot, without reading all of them.

        The head says which one it is. It may be behind: a run was killed before it wrote the
        head, or somebody put an old one back. Only without a head, and for what Atlas wrote, is
        everything read.
        """
        try:
            head = await read_head(self.vault)
        except NewerFormat:
            raise
        except IntegrityError:
            head = None
        if head is not None and head.snapshot is not None:
            newest = head.snapshot.snapshot_id
            ids = await self.snapshot_ids()
            if newest in ids and all(map(moment_of, ids)):
                return await self._newest_of(head.snapshot, [i for i in ids if i > newest])
        known = await self.snapshots()
        intact = [item for item in known if not item.damage]
        if known and not intact:
            msg = f"no snapshot of this mailbox can be read: {known[-1].damage}"
            hint = "restore the objects from a copy of the bucket; `atlas verify` lists all"
            raise IntegrityError(msg, where=self.vault.mailbox_id, hint=hint)
        return intact[-1].snapshot_id if intact else None

    async def lost_newest(self) -> str | None:
        """Return the snapshot that the head names as the newest and whose manifest is gone, if any.

        No run takes a manifest away: somebody has, or the bucket lost it.

        Raises:
            IntegrityError: The head is damaged.
        """
        head = await read_head(self.vault)
        if head is None or head.snapshot is None:
            return None
        snapshot_id = head.snapshot.snapshot_id
        there = await self.vault.has(manifest_key(self.vault.mailbox_id, snapshot_id))
        return None if there else snapshot_id

    async def _newest_of(self, known: Snapshot, later_ids: list[str]) -> str:
        """Return the newest of a snapshot and those whose ids are later; most often none are.

        Moments of commits grow along the chain even where a clock does not, which ids do not.
        """
        newest = known
        for snapshot_id in later_ids:
            try:
                descriptor = await self.descriptor(snapshot_id)
            except NewerFormat:
                raise
            except IntegrityError:
                continue
            if descriptor is not None and descriptor.created_at > newest.created_at:
                newest = descriptor
        return newest.snapshot_id

    async def _load(self, snapshot_id: str) -> Snapshot | Manifest:
        descriptor = await self.descriptor(snapshot_id)
        if descriptor is not None:
            return descriptor
        manifest = await read_manifest(self.vault, snapshot_id)
        if manifest.ours is not None:
            msg = "the descriptor of this snapshot is missing from the catalog"
            raise FormatError(msg, where=snapshot_key(self.vault.mailbox_id, snapshot_id))
        return manifest

    async def open(self, snapshot_id: str, *, merged: bool = True) -> SnapshotView:
        """Open one snapshot.

        Args:
            snapshot_id: Which.
            merged: For a snapshot that Atlas wrote, show all that Atlas had seen until then
                rather than only what that run saw.

        Raises:
            SnapshotNotFound: There is none with this id.
            IntegrityError: It is damaged.
        """
        try:
            first = await self._load(snapshot_id)
        except ObjectNotFound:
            msg = f"no snapshot {snapshot_id}"
            raise SnapshotNotFound(msg, where=self.vault.mailbox_id) from None
        if isinstance(first, Snapshot):
            return SnapshotView(self.vault, summaries([first])[0], first, ())
        if not merged:
            return SnapshotView(self.vault, summaries([first])[0], None, first.entries)
        earlier = [m for m in await self._atlas_manifests() if m.created_at <= first.created_at]
        entries = tuple(entries_of(earlier).values())
        summary = next(s for s in summaries(earlier) if s.snapshot_id == snapshot_id)
        return SnapshotView(self.vault, summary, None, entries)

    async def latest(self) -> Snapshot | None:
        """Return the newest snapshot of this program, found without the head."""
        newest: Snapshot | None = None
        for snapshot_id in await self.snapshot_ids():
            try:
                descriptor = await self.descriptor(snapshot_id)
            except NewerFormat:
                raise
            except IntegrityError:
                continue  # `verify` reports it; an older one may still be readable
            if descriptor and (newest is None or descriptor.created_at > newest.created_at):
                newest = descriptor
        return newest

    async def _atlas_manifests(self) -> list[Manifest]:
        manifests: list[Manifest] = []
        for snapshot_id in await self.snapshot_ids():
            try:
                item = await self._load(snapshot_id)
            except NewerFormat:
                raise
            except IntegrityError:
                continue  # a list and `verify` name it; the others stay readable
            if isinstance(item, Manifest):
                manifests.append(item)
        return sorted(manifests, key=lambda item: (item.created_at, item.snapshot_id))


def summaries(
    ordered: Sequence[SnapshotSummary | Snapshot | Manifest],
) -> list[SnapshotSummary]:
    """Return summaries of descriptors and of Atlas's manifests, given oldest first."""
    result: list[SnapshotSummary] = []
    seen: set[str] = set()
    for item in ordered:
        if isinstance(item, SnapshotSummary):
            result.append(item)
            continue
        if isinstance(item, Snapshot):
            result.append(
                SnapshotSummary(
                    snapshot_id=item.snapshot_id,
                    mailbox_id=item.mailbox_id,
                    created_at=item.created_at,
                    messages=item.messages,
                    new=item.new,
                    changed=item.changed,
                    removed=item.removed,
                    complete=item.complete,
                    size_bytes=item.size_bytes,
                    not_stored=item.ledger.count if item.ledger else 0,
                    written_by="atlas_async",
                )
            )
            continue
        ids = {entry.object_id for entry in item.entries}
        new = len(ids - seen)
        seen |= ids
        result.append(
            SnapshotSummary(
                snapshot_id=item.snapshot_id,
                mailbox_id=item.mailbox_id,
                created_at=item.created_at,
                messages=len(seen),
                new=new,
                changed=len(ids) - new,
                removed=0,
                complete=False,
                size_bytes=item.total_size_bytes,
                not_stored=len(_missing_of_atlas(item.entries)),
                written_by="atlas",
            )
        )
    return result
