"""Verify that what snapshots name is there and is what was written: messages and all of theirs.

Every object is read whole, decrypted and hashed in constant memory. Three findings are told apart:
damaged (fails authentication, or is truncated), missing (no such object), foreign (authentic, but
not what its name or its document says: another object was put in its place).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from atlas_async.catalog.carry import read_carry
from atlas_async.catalog.head import read_head
from atlas_async.catalog.layout import (
    MANIFESTS_PREFIX,
    carry_key,
    head_key,
    ledger_key,
    manifest_key,
    original_key,
    segment_key,
    snapshot_key,
)
from atlas_async.catalog.ledger import LedgerKey, key_of, read_ledger
from atlas_async.catalog.manifest import Manifest, read_manifest
from atlas_async.catalog.reader import MailboxReader, SnapshotView, record_of_entry
from atlas_async.catalog.rows import checked
from atlas_async.catalog.segment import SegmentRef
from atlas_async.catalog.state import load_segment
from atlas_async.catalog.vault import WHOLE_BYTES, Vault
from atlas_async.errors import (
    AtlasError,
    ForeignObject,
    FormatError,
    IntegrityError,
    NewerFormat,
    ObjectNotFound,
    PartMissing,
    SnapshotNotFound,
    StoreError,
)
from atlas_async.model.events import Event, VerifyProgress
from atlas_async.model.record import MessageRecord, attachment_key, is_gone, message_key
from atlas_async.model.report import NotStored
from atlas_async.operations.ledger import newest_head
from atlas_async.operations.listing import LOST_NEWEST, find_snapshot, unknown_mailbox
from atlas_async.operations.tenant import Tenant

CHECKS_AT_ONCE = 48
LARGE_AT_ONCE = 8
"""Of them, those that are streamed: each holds some MiB, and a worker thread."""
PROGRESS_EVERY = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one object."""

    key: str
    kind: str
    mailbox_id: str
    snapshot_id: str
    detail: str


@dataclass(slots=True)
class VerifyReport:
    """What a verification found. ``checked`` counts objects, each once."""

    snapshots: int = 0
    messages: int = 0
    attachments: int = 0
    originals: int = 0
    checked: int = 0
    ok: int = 0
    damaged: list[Finding] = field(default_factory=list)
    missing: list[Finding] = field(default_factory=list)
    foreign: list[Finding] = field(default_factory=list)
    not_stored: list[NotStored] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """16 when anything is wrong; 3 when all is intact but things were never stored; else 0."""
        if self.damaged or self.missing or self.foreign:
            return 16
        return 3 if self.not_stored else 0


@dataclass(frozen=True, slots=True)
class _Item:
    """One object to check."""

    key: str
    checksum: str
    kind: str
    snapshot_id: str
    size: int | None = None


async def verify(
    tenant: Tenant,
    emit: Callable[[Event], None],
    *,
    snapshot: str | None = None,
    mailbox: str | None = None,
) -> VerifyReport:
    """Verify one snapshot, all of a mailbox, or everything.

    Raises:
        SnapshotNotFound: There is nothing to verify.
        StoreError: The store fails as a whole.
    """
    await tenant.open_for_reading()
    report = VerifyReport()
    if snapshot is not None:
        mailbox_id, snapshot_id = await find_snapshot(tenant, snapshot, mailbox)
        vault, _ = tenant.vault(mailbox_id)
        await _MailboxCheck(vault, report, emit).run([snapshot_id])
        return report
    # Where all manifests of a mailbox are gone its head still tells of them.
    mailbox_ids = [mailbox.strip().lower()] if mailbox else await tenant.mailbox_ids_of_objects()
    for name in [] if mailbox else await tenant.strange_names():
        detail = "no mailbox can have this name: somebody put it there"
        report.foreign.append(Finding(f"{MANIFESTS_PREFIX}{name}/", "snapshot", name, "", detail))
    looked = bool(report.foreign)
    for mailbox_id in mailbox_ids:
        vault, _ = tenant.vault(mailbox_id)
        ids, strange = await MailboxReader(vault).manifest_names()
        for key in strange:
            detail = "no snapshot can have this name: somebody put it there"
            report.foreign.append(Finding(key, "snapshot", mailbox_id, "", detail))
        check = _MailboxCheck(vault, report, emit)
        told = await check.head()
        if mailbox and not (ids or strange or told):
            raise await unknown_mailbox(tenant, mailbox_id)
        looked = looked or bool(ids or strange) or told
        await check.run(ids)
    if not looked:
        msg = "the bucket has no snapshots to verify"
        raise SnapshotNotFound(msg, where=tenant.store.name, hint="run `atlas backup` first")
    return report


class _MailboxCheck:
    """Checks snapshots of one mailbox, every object once however many snapshots name it."""

    def __init__(self, vault: Vault, report: VerifyReport, emit: Callable[[Event], None]) -> None:
        self._vault = vault
        self._report = report
        self._emit = emit
        self._seen: set[tuple[str, int]] = set()
        self._checked = 0
        self._total = 0
        self._errors: list[AtlasError] = []
        self._given_up: set[LedgerKey] = set()
        self._large = anyio.Semaphore(LARGE_AT_ONCE)

    async def head(self) -> bool:
        """Look at the head, which no snapshot names, and for the newest snapshot's manifest.

        A head that is missing is found again. Returns whether there was anything to look at.
        """
        vault = self._vault
        try:
            head = await read_head(vault)
            lost = await MailboxReader(vault).lost_newest()
        except IntegrityError as error:
            self._report.checked += 1
            self._find(error, _Item(head_key(vault.mailbox_id), "", "head", ""))
            return True
        if lost is not None:
            self._report.checked += 1
            key = manifest_key(vault.mailbox_id, lost)
            self._find(ObjectNotFound(LOST_NEWEST, where=key), _Item(key, "", "snapshot", lost))
        return head is not None and head.snapshot is not None

    async def run(self, snapshot_ids: list[str]) -> None:
        """Check the snapshots' own documents, then all objects they name."""
        self._given_up = await self._read_given_up()
        send, receive = anyio.create_memory_object_stream[_Item](CHECKS_AT_ONCE)
        async with anyio.create_task_group() as group:
            for _ in range(CHECKS_AT_ONCE):
                group.start_soon(self._check_items, receive.clone(), group.cancel_scope)
            receive.close()
            async with send:
                try:
                    await self._hand_out(snapshot_ids, send)
                except AtlasError as error:
                    # Caught here, or it would leave in a group with the cancelled checks.
                    self._errors.append(error)
                    group.cancel_scope.cancel()
        if self._errors:
            raise self._errors[0]
        self._progress()

    async def _hand_out(self, snapshot_ids: list[str], send: MemoryObjectSendStream[_Item]) -> None:
        for snapshot_id in snapshot_ids:
            async for item in self._items(snapshot_id):
                self._total += 1
                await send.send(item)

    async def _read_given_up(self) -> set[LedgerKey]:
        """Return what the operator gave up since: older snapshots' ledgers do not know of it.

        Damage is not told here: a snapshot that is being verified is told of where it is met.
        """
        try:
            newest = (await newest_head(self._vault)).snapshot
            entries = await read_ledger(self._vault, newest.ledger) if newest else ()
        except (ObjectNotFound, IntegrityError):
            return set()
        return {key_of(entry) for entry in entries if entry.forgotten}

    async def _items(self, snapshot_id: str) -> AsyncIterator[_Item]:
        """Open a snapshot, and yield what it names and was not yielded before."""
        self._report.snapshots += 1
        self._report.checked += 1
        key = manifest_key(self._vault.mailbox_id, snapshot_id)
        read: Manifest | None = None
        view: SnapshotView | None = None
        try:
            read = await read_manifest(self._vault, snapshot_id)
            view = await self._view(read)
        except (ObjectNotFound, IntegrityError) as error:
            self._find(error, _Item(error.where if read else key, "", "snapshot", snapshot_id))
        else:
            self._report.ok += 1
        for entry in read.entries if read else ():
            for item in self._named(record_of_entry(entry), snapshot_id):
                yield item
        if view is not None:
            async for item in self._of_catalog(view, snapshot_id):
                yield item

    async def _view(self, manifest: Manifest) -> SnapshotView:
        key = snapshot_key(self._vault.mailbox_id, manifest.snapshot_id)
        if manifest.ours is not None and not await self._vault.has(key):
            msg = "the descriptor of this snapshot is missing from the catalog"
            raise ObjectNotFound(msg, where=key)
        return await MailboxReader(self._vault).open(manifest.snapshot_id, merged=False)

    async def _of_catalog(self, view: SnapshotView, snapshot_id: str) -> AsyncIterator[_Item]:
        try:
            known = self._given_up | {key_of(entry) for entry in self._report.not_stored}
            lost = [entry for entry in await view.not_stored() if key_of(entry) not in known]
            self._report.not_stored.extend(lost)
        except (ObjectNotFound, IntegrityError) as error:
            ledger = view.snapshot.ledger if view.snapshot else None
            key = ledger_key(self._vault.mailbox_id, ledger.checksum) if ledger else error.where
            self._find(error, _Item(key, "", "ledger", snapshot_id))
        if view.snapshot is not None and view.snapshot.carry:
            await self._of_carry(view.snapshot.carry, snapshot_id)
        for run in view.snapshot.runs if view.snapshot else ():
            for ref in run.segments:
                async for item in self._of_segment(ref, snapshot_id):
                    yield item

    async def _of_carry(self, checksum: str, snapshot_id: str) -> None:
        if not self._is_new("carry", checksum):
            return
        self._report.checked += 1
        try:
            await read_carry(self._vault, checksum)
        except (ObjectNotFound, IntegrityError) as error:
            key = carry_key(self._vault.mailbox_id, checksum)
            self._find(error, _Item(key, "", "carry", snapshot_id))
        else:
            self._report.ok += 1

    async def _of_segment(self, ref: SegmentRef, snapshot_id: str) -> AsyncIterator[_Item]:
        key = segment_key(self._vault.mailbox_id, ref.checksum)
        if not self._is_new("segment", ref.checksum):
            return
        self._report.checked += 1
        try:
            segment = await load_segment(self._vault, ref)
            rows = [checked(row, where=key) for row in segment.rows() if not is_gone(row)]
        except (ObjectNotFound, IntegrityError) as error:
            self._find(error, _Item(key, "", "segment", snapshot_id))
            return
        self._report.ok += 1
        for row in rows:
            for item in self._named(row, snapshot_id):
                yield item

    def _named(self, record: MessageRecord, snapshot_id: str) -> Iterator[_Item]:
        """Yield the objects of a message that were not yielded before."""
        checksum = record["checksum"]
        if self._is_new("message", checksum):
            key = message_key(self._vault.mailbox_id, checksum)
            yield _Item(key, checksum, "message", snapshot_id, record["size_bytes"])
        for attachment in record.get("attachments", ()):
            checksum = attachment["checksum"]
            if checksum and self._is_new("attachment", checksum):
                key = attachment_key(self._vault.mailbox_id, checksum)
                size = attachment["content_bytes"] or None  # Atlas does not record it
                yield _Item(key, checksum, "attachment", snapshot_id, size)
        original = record.get("original")
        if original and self._is_new("original", original["checksum"]):
            key = original_key(self._vault.mailbox_id, original["checksum"])
            size = original["size_bytes"]
            yield _Item(key, original["checksum"], "original", snapshot_id, size)

    def _is_new(self, kind: str, checksum: str) -> bool:
        name = (kind, int(checksum[:32], 16))
        if name in self._seen:
            return False
        self._seen.add(name)
        return True

    async def _check_items(
        self, receive: MemoryObjectReceiveStream[_Item], scope: anyio.CancelScope
    ) -> None:
        async with receive:
            async for item in receive:
                try:
                    await self._check(item)
                except StoreError as error:
                    self._errors.append(error)
                    scope.cancel()

    async def _check(self, item: _Item) -> None:
        self._report.checked += 1
        if item.kind == "message":
            self._report.messages += 1
        elif item.kind == "original":
            self._report.originals += 1
        else:
            self._report.attachments += 1
        large = item.size is not None and item.size > WHOLE_BYTES
        try:
            async with self._large if large else nullcontext():
                await self._vault.check_content(item.key, item.checksum, size=item.size)
        except (ObjectNotFound, IntegrityError) as error:
            self._find(error, item)
        else:
            self._report.ok += 1
        self._checked += 1
        if self._checked % PROGRESS_EVERY == 0:
            self._progress()

    def _find(self, error: ObjectNotFound | SnapshotNotFound | IntegrityError, item: _Item) -> None:
        detail = (
            f"{error.message}; {error.hint}" if isinstance(error, NewerFormat) else error.message
        )
        finding = Finding(item.key, item.kind, self._vault.mailbox_id, item.snapshot_id, detail)
        if isinstance(error, IntegrityError) and not isinstance(error, PartMissing):
            foreign = isinstance(error, ForeignObject | FormatError)
            (self._report.foreign if foreign else self._report.damaged).append(finding)
        else:
            self._report.missing.append(finding)

    def _progress(self) -> None:
        self._emit(
            VerifyProgress(
                self._vault.mailbox_id,
                checked=self._checked,
                total=self._total,
                damaged=len(self._report.damaged) + len(self._report.foreign),
                missing=len(self._report.missing),
            )
        )
