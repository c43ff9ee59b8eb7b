"""A mailbox's index of words, opened: which messages it covers, and which may have a text.

It never decides that a message matches, only that one cannot: what it lets pass is compared on the
message itself. Whatever is wrong with a part of it costs that part, whose messages are indexed
again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

from anyio import to_thread

from atlas_async.catalog.layout import index_head_key, index_part_key, index_prefix
from atlas_async.catalog.search_index import (
    IndexHead,
    IndexSegment,
    PartRef,
    read_index_head,
    write_index_head,
)
from atlas_async.catalog.vault import Vault
from atlas_async.errors import (
    IntegrityError,
    NewerFormat,
    ObjectNotFound,
    StoreError,
)
from atlas_async.search.draft import Draft
from atlas_async.search.hits import Hits, any_of_all, check_shard, mark, shards_with
from atlas_async.search.merging import Loaded, merged, put_part, read_part
from atlas_async.search.part import Table
from atlas_async.search.query import Condition
from atlas_async.search.words import RULES, Lookup
from atlas_async.store.base import list_all

FANOUT: Final = 8
"""So many segments of about one size are merged into one."""
SMALLEST_TIER: Final = 4_096
"""Segments of up to so many messages are of one size; so are those of up to eight times as many."""
CACHED_SHARDS: Final = 8
"""Shards that are held while one query is looked up."""


class SearchIndex:
    """The index of one mailbox.

    Args:
        vault: The mailbox's objects; nothing takes its lease.
        saved: The head as it is stored.
        segments: What could be read of it.
    """

    def __init__(
        self, vault: Vault, saved: IndexHead | None, segments: Sequence[Loaded] = ()
    ) -> None:
        self._vault = vault
        self._saved = saved
        self._segments = list(segments)
        self._shards: OrderedDict[str, bytes] = OrderedDict()
        self._written: set[str] = set()
        self.notices: list[str] = []

    @classmethod
    async def open(cls, vault: Vault) -> SearchIndex:
        """Open the index; one that is missing, or cannot be read, is empty.

        ``notices`` says what could not be read.

        Raises:
            NewerFormat: A later version of this program wrote it.
            StoreError: The store failed.
        """
        try:
            head = await read_index_head(vault)
        except NewerFormat:
            raise
        except IntegrityError as error:
            index = cls(vault, None)
            index.notices.append(f"the index of words is damaged and is made anew: {error.message}")
            return index
        index = cls(vault, head)
        if head is None:
            return index
        if head.rules != RULES:
            index.notices.append("the index of words was made by other rules and is made anew")
            return index
        for segment in head.segments:
            await index._load(segment)
        return index

    async def _load(self, segment: IndexSegment) -> None:
        where = index_part_key(self._vault.mailbox_id, segment.table.checksum)
        try:
            data = await read_part(self._vault, segment.table)
            table = await to_thread.run_sync(lambda: Table.from_bytes(data, where=where))
        except (ObjectNotFound, IntegrityError):
            self._note_damage(segment)
        else:
            self._segments.append(Loaded(segment, table))

    def _note_damage(self, segment: IndexSegment) -> None:
        self.notices.append(
            f"a part of the index of words is damaged or missing: {segment.documents} messages "
            "are indexed again"
        )

    @property
    def documents(self) -> int:
        """Messages that it covers."""
        return sum(len(loaded.table) for loaded in self._segments)

    @property
    def size(self) -> int:
        """Bytes that it takes in the store, without its head."""
        return sum(loaded.segment.size for loaded in self._segments)

    @property
    def message_bytes(self) -> int:
        """Bytes of the messages that it covers."""
        return sum(loaded.segment.message_bytes for loaded in self._segments)

    def __contains__(self, slot: int) -> bool:
        return any(loaded.table.rank(slot) is not None for loaded in self._segments)

    async def add(self, draft: Draft) -> None:
        """Write a draft as a segment, merge what is to be merged, and save the head.

        Raises:
            StoreError: The store failed, or refuses. The index stays as it was.
        """
        table_bytes, shards = await to_thread.run_sync(draft.finish)
        refs = [await put_part(self._vault, plaintext, first) for first, plaintext in shards]
        ref = await put_part(self._vault, table_bytes)
        table = await to_thread.run_sync(lambda: Table.from_bytes(table_bytes, where=""))
        segment = IndexSegment(len(draft), draft.message_bytes, ref, tuple(refs))
        before = list(self._segments)
        self._append(Loaded(segment, table))
        try:
            await self._merge()
            await self.save()
        except StoreError:
            self._segments = before
            raise

    def _append(self, loaded: Loaded) -> None:
        self._segments.append(loaded)
        mailbox_id = self._vault.mailbox_id
        self._written.update(
            index_part_key(mailbox_id, part.checksum) for part in loaded.segment.parts
        )

    async def _merge(self) -> None:
        while (crowd := self._crowd()) is not None:
            try:
                one = await merged(self._vault, crowd)
            except (ObjectNotFound, IntegrityError):
                if not await self.drop_damaged():
                    return  # a store that tells one thing now and another then
                continue
            self._segments = [item for item in self._segments if item not in crowd]
            self._append(one)

    def _crowd(self) -> list[Loaded] | None:
        """Return segments of one size that are to be merged, or None."""
        tiers: dict[int, list[Loaded]] = {}
        for loaded in self._segments:
            tier, most = 0, SMALLEST_TIER
            while len(loaded.table) > most:
                tier, most = tier + 1, most * FANOUT
            tiers.setdefault(tier, []).append(loaded)
        return next((items for items in tiers.values() if len(items) >= FANOUT), None)

    async def save(self) -> None:
        """Write the head, unless somebody else has written one meanwhile that covers as much.

        Parts that nothing names any more are deleted, where the store lets it.

        Raises:
            StoreError: The store failed, or refuses.
        """
        ours = IndexHead(RULES, tuple(loaded.segment for loaded in self._segments))
        try:
            stored = await read_index_head(self._vault)
        except NewerFormat:
            raise
        except IntegrityError:
            stored = None
        somebody_else = stored is not None and stored != self._saved and stored.rules == RULES
        if somebody_else and stored is not None and stored.documents >= ours.documents:
            await self._remove(None, stored)
            await self._adopt(stored)
            return
        if stored == ours:
            return
        await write_index_head(self._vault, ours)
        before = self._saved
        self._saved = ours
        await self._remove(None if somebody_else else before, ours)

    async def _adopt(self, head: IndexHead) -> None:
        self._saved = head
        self._segments = []
        for segment in head.segments:
            await self._load(segment)

    async def _remove(self, before: IndexHead | None, named: IndexHead) -> None:
        """Delete what ``named`` does not name of the head before it and of what was written here.

        `atlas prune` removes what stays.
        """
        mailbox_id = self._vault.mailbox_id
        keys = self._written | set(before.keys(mailbox_id) if before else ())
        self._written = set()
        try:
            for key in sorted(keys - set(named.keys(mailbox_id))):
                await self._vault.store.delete(key)
        except StoreError:
            return

    async def drop_damaged(self) -> bool:
        """Leave out every segment of which a part cannot be read; tell whether there was one."""
        kept = []
        for loaded in self._segments:
            try:
                for part in loaded.segment.parts:
                    where = index_part_key(self._vault.mailbox_id, part.checksum)
                    plaintext = await read_part(self._vault, part)
                    if part is not loaded.segment.table:
                        await to_thread.run_sync(check_shard, plaintext, len(loaded.table), where)
            except (ObjectNotFound, IntegrityError):
                self._note_damage(loaded.segment)
            else:
                kept.append(loaded)
        dropped = len(kept) < len(self._segments)
        self._segments = kept
        return dropped

    async def hits(self, conditions: Sequence[Condition]) -> Hits:
        """Look texts up.

        Raises:
            ObjectNotFound, IntegrityError: A part is missing or damaged: ``drop_damaged`` helps.
            StoreError: The store failed.
        """
        found: list[tuple[Table, list[bytes | None]]] = []
        for loaded in self._segments:
            flags = [
                await self._flags(loaded, condition) if condition.tags else None
                for condition in conditions
            ]
            found.append((loaded.table, flags))
        self._shards.clear()
        return Hits(found)

    async def _flags(self, loaded: Loaded, condition: Condition) -> bytes:
        """Return a byte for each message of a segment: whether it may have the text."""
        found: list[list[bytearray]] = []
        for tag in condition.tags:
            found.append([])
            for lookup in condition.phrase.lookups():
                ranks = bytearray(len(loaded.table))
                for part in shards_with(loaded.segment, tag, lookup):
                    await self._mark_hits(ranks, part, tag, lookup)
                found[-1].append(ranks)
                if 1 not in ranks:
                    break  # no message has the text there
        return await to_thread.run_sync(any_of_all, found, len(loaded.table))

    async def _mark_hits(self, ranks: bytearray, part: PartRef, tag: str, lookup: Lookup) -> None:
        plaintext = self._shards.get(part.checksum)
        if plaintext is None:
            plaintext = self._shards[part.checksum] = await read_part(self._vault, part)
            if len(self._shards) > CACHED_SHARDS:
                self._shards.popitem(last=False)
        else:
            self._shards.move_to_end(part.checksum)
        where = index_part_key(self._vault.mailbox_id, part.checksum)
        term = (tag + lookup.term).encode()
        await to_thread.run_sync(
            partial(mark, ranks, plaintext, term, prefix=lookup.prefix, where=where)
        )


async def delete_index(vault: Vault) -> tuple[int, int]:
    """Delete a mailbox's index, its head first; return how many objects and bytes that were.

    Raises:
        StoreError: The store failed, or refuses.
    """
    found = [info async for info in list_all(vault.store, index_prefix(vault.mailbox_id))]
    head = index_head_key(vault.mailbox_id)
    for info in sorted(found, key=lambda item: item.key != head):
        await vault.store.delete(info.key)
    return len(found), sum(info.size for info in found)
