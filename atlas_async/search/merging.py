"""Several segments of an index made one, shard by shard: none of them is in memory as a whole."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anyio import to_thread

from atlas_async.catalog.layout import index_part_key, index_prefix
from atlas_async.catalog.search_index import IndexSegment, PartRef
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.errors import FormatError
from atlas_async.search.draft import SHARD_BYTES
from atlas_async.search.part import ShardDraft, Table, entries_of, joined


@dataclass(frozen=True, slots=True)
class Loaded:
    """A segment whose table is in memory."""

    segment: IndexSegment
    table: Table


async def put_part(vault: Vault, plaintext: bytes, first: str = "") -> PartRef:
    """Store a part and return what names it. Raises ``StoreError``."""
    checksum = await to_thread.run_sync(sha256_hex, plaintext)
    size = await vault.put_raw(index_part_key(vault.mailbox_id, checksum), plaintext)
    return PartRef(checksum, size, first)


async def read_part(vault: Vault, part: PartRef) -> bytes:
    """Return a part's plaintext, checked. Raises ``ObjectNotFound``, ``IntegrityError``."""
    return await vault.read_content(index_part_key(vault.mailbox_id, part.checksum), part.checksum)


async def merged(vault: Vault, sources: Sequence[Loaded]) -> Loaded:
    """Write one segment that holds what the sources hold; its parts are durable on return.

    Raises:
        ObjectNotFound, IntegrityError: A part of a source is missing or damaged.
        StoreError: The store failed, or refuses.
    """
    bases: list[int] = []
    total = 0
    for source in sources:
        bases.append(total)
        total += len(source.table)
    cursors = [_Cursor(vault, source, base) for source, base in zip(sources, bases, strict=True)]
    shards: list[PartRef] = []
    draft = ShardDraft()
    while True:
        for cursor in cursors:
            await cursor.load()
        try:
            await to_thread.run_sync(_merge_some, cursors, draft)
        except (IndexError, ValueError) as error:
            msg = f"postings of the index cannot be parsed: {error}"
            raise FormatError(msg, where=index_prefix(vault.mailbox_id)) from None
        ended = all(cursor.ended for cursor in cursors)
        if draft.size >= SHARD_BYTES or (ended and draft.size):
            plaintext = await to_thread.run_sync(draft.plaintext)
            shards.append(await put_part(vault, plaintext, draft.first))
            draft = ShardDraft()
        if ended:
            break
    table = await to_thread.run_sync(_joined_table, sources, bases)
    ref = await put_part(vault, await to_thread.run_sync(table.to_bytes))
    segment = IndexSegment(
        documents=total,
        message_bytes=sum(source.segment.message_bytes for source in sources),
        table=ref,
        shards=tuple(shards),
    )
    return Loaded(segment, table)


class _Cursor:
    """Where one source stands: its current term with its postings."""

    def __init__(self, vault: Vault, source: Loaded, base: int) -> None:
        self._vault = vault
        self._left = list(reversed(source.segment.shards))
        self._documents = len(source.table)
        self._entries: Iterator[tuple[bytes, bytes]] | None = None
        self._base = base
        self._postings = b""
        self.term: bytes | None = None

    @property
    def ended(self) -> bool:
        """Whether there are no more terms."""
        return self.term is None and not self._left

    async def load(self) -> None:
        """Read the next shard when the current one has ended."""
        while self.term is None and self._left:
            part = self._left.pop()
            plaintext = await read_part(self._vault, part)
            where = index_part_key(self._vault.mailbox_id, part.checksum)
            self._entries = entries_of(plaintext, where=where)
            await to_thread.run_sync(self.step)

    @property
    def place(self) -> tuple[bytes, int, int]:
        """The current postings, by how much they are raised, and messages of the source."""
        return self._postings, self._base, self._documents

    def step(self) -> None:
        """Go to the next term of the shard; to none at its end."""
        self.term, self._postings = next(self._entries or iter(()), (None, b""))


def _merge_some(cursors: Sequence[_Cursor], draft: ShardDraft) -> None:
    """Write entries until the shard is full or a source's shard has ended."""
    while draft.size < SHARD_BYTES:
        terms = [cursor.term for cursor in cursors if cursor.term is not None]
        if not terms:
            return
        term = min(terms)
        here = [cursor for cursor in cursors if cursor.term == term]
        draft.add(term, joined([cursor.place for cursor in here]))
        for cursor in here:
            cursor.step()
        if any(cursor.term is None for cursor in here):
            return


def _joined_table(sources: Sequence[Loaded], bases: Sequence[int]) -> Table:
    slots = array("Q")
    dense: set[int] = set()
    for source, base in zip(sources, bases, strict=True):
        slots.extend(source.table.in_rank_order())
        dense.update(base + rank for rank in source.table.dense)
    return Table.of(slots, frozenset(dense))
