"""A bucket as an attack left it: what its snapshots show, what is settled, what nobody names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from atlas_async.catalog.head import Head, read_head
from atlas_async.catalog.layout import (
    DEK_KEY,
    MANIFESTS_PREFIX,
    carry_key,
    head_key,
    ledger_key,
    manifest_key,
    original_key,
    segment_key,
    snapshot_key,
)
from atlas_async.catalog.reader import MailboxReader
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import load_segment, merge
from atlas_async.catalog.vault import Vault
from atlas_async.clock import SystemClock
from atlas_async.config.settings import Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek
from atlas_async.errors import BucketNotFound, ObjectNotFound, SnapshotNotFound
from atlas_async.model.record import MessageRecord, attachment_key, is_gone, message_key
from atlas_async.operations.pruning import PruneReport
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectInfo, ObjectStore, list_all
from atlas_async.store.opening import open_store
from tests.torture.moments import Bodies, Moment, moment_of_snapshot

CONTENT = ("data/", "attachments/")
OURS = (*CONTENT, "catalog/", MANIFESTS_PREFIX)


@dataclass(frozen=True, slots=True)
class Seen:
    """One committed snapshot; ``open_ids`` are messages of which its ledger has something."""

    snapshot_id: str
    created_at: str
    mailbox: str
    complete: bool
    moment: Moment
    open_ids: frozenset[str]


@dataclass(slots=True)
class State:
    """What a bucket holds.

    Args:
        key: The wrapped key; empty when there is none yet.
        snapshots: By id, oldest first within each mailbox.
        settled: Id and version of every message that the next run starts from.
        damage: What ``verify`` found, as text.
        objects: Everything, by key.
        orphans: Keys below data, attachments, catalog and manifests that no snapshot or head names.
        leases: Keys of leases that were not given back.
        heads_behind: Heads that do not name their mailbox's newest snapshot.
        plain: Messages that the next run starts from whose original was never asked for.
    """

    key: bytes = b""
    snapshots: dict[str, Seen] = field(default_factory=dict)
    settled: set[tuple[str, str]] = field(default_factory=set)
    damage: list[str] = field(default_factory=list)
    objects: dict[str, ObjectInfo] = field(default_factory=dict)
    orphans: set[str] = field(default_factory=set)
    leases: set[str] = field(default_factory=set)
    heads_behind: int = 0
    plain: int = 0

    @property
    def orphan_bytes(self) -> int:
        """What the orphans take."""
        return sum(self.objects[key].size for key in self.orphans)

    def stored_again(self, later: State) -> list[str]:
        """Return the contents that were whole already and were stored once more."""
        return [
            key
            for key, info in self.objects.items()
            if key.startswith(CONTENT)
            and key in later.objects
            and (later.objects[key].etag, later.objects[key].last_modified)
            != (info.etag, info.last_modified)
        ]


class Inspector:
    """Reads a bucket as the program does, with what was learned at earlier looks.

    Args:
        settings: Of the tenant.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.bodies = Bodies()
        self._named: dict[str, frozenset[str]] = {}
        self._sealers: dict[bytes, Sealer] = {}

    async def look(self) -> State:
        """Read everything. Raises ``AtlasError`` when a snapshot cannot be read."""
        state = State()
        async with self._store() as store:
            try:
                await store.open_bucket(create=False)
            except BucketNotFound:
                return state
            state.objects = {info.key: info async for info in list_all(store, "")}
            try:
                state.key = (await store.get(DEK_KEY)).body
            except ObjectNotFound:
                return state
            if state.key not in self._sealers:
                dek = unwrap_dek(state.key, self._settings.passphrase, self._settings.tenant_id)
                self._sealers[state.key] = Sealer(dek)
            sealer = self._sealers[state.key]
            named: set[str] = set()
            for mailbox in sorted({key.split("/")[1] for key in state.objects if "@" in key}):
                vault = Vault(store, sealer, mailbox)
                await self._mailbox(vault, state, named)
            ours = {key for key in state.objects if key.startswith(OURS)}
            state.leases = {key for key in ours if "/lease/" in key}
            state.orphans = ours - named - state.leases
            if state.snapshots:
                async with Atlas(self._settings, store=store) as atlas:
                    report = await atlas.verify()
                    findings = [*report.damaged, *report.missing, *report.foreign]
                    state.damage = [str(finding) for finding in findings]
        return state

    async def prune(self) -> PruneReport:
        """Remove what nobody names, however young."""
        async with self._store() as store:
            try:
                await store.open_bucket(create=False)
            except BucketNotFound:
                return PruneReport(dry_run=False)
            async with Atlas(self._settings, store=store) as atlas:
                try:
                    return await atlas.prune(older_than=0.0)
                except SnapshotNotFound:
                    return PruneReport(dry_run=False)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[ObjectStore]:
        settings = self._settings
        async with open_store(
            settings.storage, settings.bucket, limits=settings.limits, clock=SystemClock()
        ) as store:
            yield store

    async def _mailbox(self, vault: Vault, state: State, named: set[str]) -> None:
        reader = MailboxReader(vault)
        for snapshot_id in await reader.snapshot_ids():
            view = await reader.open(snapshot_id)
            moment = await moment_of_snapshot(view, vault, self.bodies)
            missing = frozenset(entry.object_id for entry in await view.not_stored())
            complete = view.summary.complete
            seen = Seen(
                snapshot_id, view.summary.created_at, vault.mailbox_id, complete, moment, missing
            )
            state.snapshots[snapshot_id] = seen
            named.add(manifest_key(vault.mailbox_id, snapshot_id))
            named.add(snapshot_key(vault.mailbox_id, snapshot_id))
            if view.snapshot is not None:
                named |= await self._names(vault, view.snapshot)
        newest = await reader.latest()
        head = await read_head(vault)
        named_newest = head.snapshot.snapshot_id if head and head.snapshot else None
        state.heads_behind += newest is not None and named_newest != newest.snapshot_id
        head = head or Head(newest)
        named.add(head_key(vault.mailbox_id))
        for part in (head.snapshot, head.checkpoint):
            if part is not None:
                named |= await self._names(vault, part)
        start = head.checkpoint or head.snapshot
        if start is not None:
            async for rows in merge(vault, start.runs, keep_gone=False):
                for row in rows:
                    if not is_gone(row):
                        state.settled.add((row["object_id"], str(row["change_key"])))  # type: ignore[typeddict-item]
                        state.plain += not {"original", "original_refused"} & row.keys()

    async def _names(self, vault: Vault, snapshot: Snapshot) -> set[str]:
        named: set[str] = set()
        if snapshot.ledger:
            named.add(ledger_key(vault.mailbox_id, snapshot.ledger.checksum))
        if snapshot.carry:
            named.add(carry_key(vault.mailbox_id, snapshot.carry))
        for run in snapshot.runs:
            for ref in run.segments:
                key = segment_key(vault.mailbox_id, ref.checksum)
                if key not in self._named:
                    found: set[str] = set()
                    for row in (await load_segment(vault, ref)).rows():
                        if is_gone(row):
                            continue
                        record = cast("MessageRecord", row)
                        found.add(message_key(vault.mailbox_id, record["checksum"]))
                        for part in record.get("attachments", ()):
                            if part["checksum"]:
                                found.add(attachment_key(vault.mailbox_id, part["checksum"]))
                        if "original" in record:
                            found.add(
                                original_key(vault.mailbox_id, record["original"]["checksum"])
                            )
                    self._named[key] = frozenset(found)
                named |= {key, *self._named[key]}
        return named
