"""What the snapshots of a mailbox name: everything else below its prefixes is unreferenced."""

from __future__ import annotations

from typing import cast

from atlas_async.catalog.head import read_head
from atlas_async.catalog.layout import (
    carry_key,
    head_key,
    index_head_key,
    ledger_key,
    manifest_key,
    original_key,
    segment_key,
    snapshot_key,
)
from atlas_async.catalog.manifest import read_manifest
from atlas_async.catalog.reader import MailboxReader, record_of_entry
from atlas_async.catalog.search_index import read_index_head
from atlas_async.catalog.segment import slot_of
from atlas_async.catalog.slots import SlotSet
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import load_segment
from atlas_async.catalog.vault import Vault
from atlas_async.errors import IntegrityError, NewerFormat, ObjectNotFound
from atlas_async.model.record import MessageRecord, attachment_key, is_gone, message_key


class References:
    """The keys that a mailbox's snapshots and its open checkpoint name.

    Held as 8 bytes a key. Of 2^64 names two may fall on one: then an object is taken for
    referenced that is not, never the other way round.

    Args:
        vault: The mailbox's objects.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._mailbox_id = vault.mailbox_id
        self._slots = SlotSet()
        self._segments: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return slot_of(key) in self._slots

    async def collect(self) -> None:
        """Read everything that names objects.

        Raises:
            IntegrityError, ObjectNotFound: A snapshot cannot be read whole, so what it names is
                not known, and nothing may be called unreferenced.
            StoreError: The store failed.
        """
        self._add(head_key(self._mailbox_id))
        reader = MailboxReader(self._vault)
        for snapshot_id in await reader.snapshot_ids():
            self._add(manifest_key(self._mailbox_id, snapshot_id))
            manifest = await read_manifest(self._vault, snapshot_id)
            for entry in manifest.entries:
                self._add_record(record_of_entry(entry))
            descriptor = await reader.descriptor(snapshot_id)
            if descriptor is not None:
                await self._add_snapshot(descriptor)
            elif manifest.ours is not None:
                msg = "the descriptor of this snapshot is missing from the catalog"
                raise ObjectNotFound(msg, where=snapshot_key(self._mailbox_id, snapshot_id))
        await self._add_head()
        await self._add_index()

    async def _add_index(self) -> None:
        """Add the index of words. A damaged head names nothing that a search could still use."""
        self._add(index_head_key(self._mailbox_id))
        try:
            index = await read_index_head(self._vault)
        except NewerFormat:
            raise
        except IntegrityError:
            return
        for key in index.keys(self._mailbox_id) if index else ():
            self._add(key)

    async def _add_head(self) -> None:
        """Add what only the head names: an open checkpoint, and what a quiet run has renewed.

        A damaged head names nothing that a run could still use.
        """
        try:
            head = await read_head(self._vault)
        except NewerFormat:
            raise
        except IntegrityError:
            return
        if head and head.snapshot is not None:
            await self._add_snapshot(head.snapshot)
        if head and head.checkpoint is not None:
            # No descriptor is its: whoever goes on from it commits under an id of their own.
            await self._add_named(head.checkpoint)

    async def _add_snapshot(self, snapshot: Snapshot) -> None:
        self._add(snapshot_key(self._mailbox_id, snapshot.snapshot_id))
        await self._add_named(snapshot)

    async def _add_named(self, snapshot: Snapshot) -> None:
        mailbox_id = self._mailbox_id
        if snapshot.ledger is not None:
            self._add(ledger_key(mailbox_id, snapshot.ledger.checksum))
        if snapshot.carry:
            self._add(carry_key(mailbox_id, snapshot.carry))
        for run in snapshot.runs:
            for ref in run.segments:
                if ref.checksum in self._segments:
                    continue
                self._segments.add(ref.checksum)
                self._add(segment_key(mailbox_id, ref.checksum))
                for row in (await load_segment(self._vault, ref)).rows():
                    if not is_gone(row):
                        self._add_record(cast("MessageRecord", row))

    def _add_record(self, record: MessageRecord) -> None:
        self._add(message_key(self._mailbox_id, record["checksum"]))
        for attachment in record.get("attachments", ()):
            if attachment["checksum"]:
                self._add(attachment_key(self._mailbox_id, attachment["checksum"]))
        if "original" in record:
            self._add(original_key(self._mailbox_id, record["original"]["checksum"]))

    def _add(self, key: str) -> None:
        self._slots.add(slot_of(key))
