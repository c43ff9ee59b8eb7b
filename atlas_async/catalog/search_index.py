"""What a mailbox's index of words is made of: one small head that names its parts.

The index is a convenience: it can be deleted at any time and is made again from the messages. The
head is written by whoever searches, without the mailbox's lease, and the last one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.fields import checksum, number, text
from atlas_async.catalog.layout import index_head_key, index_part_key
from atlas_async.catalog.vault import Vault
from atlas_async.errors import FormatError, ObjectNotFound
from atlas_async.model.source import JsonObject


@dataclass(frozen=True, slots=True)
class PartRef:
    """A part: its hex SHA-256, its sealed size in bytes, and the first term of a shard."""

    checksum: str
    size: int
    first: str = ""

    def to_json(self) -> list[Any]:
        """Return ``[checksum, size, first term]``."""
        return [self.checksum, self.size, self.first]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> PartRef:
        """Parse what ``to_json`` wrote."""
        name, size, first = value
        return cls(checksum(name), number(size), text(first))


@dataclass(frozen=True, slots=True)
class IndexSegment:
    """A number of messages with their terms.

    ``message_bytes`` is the size of the messages themselves; ``table`` lists them, ``shards`` hold
    the terms in order.
    """

    documents: int
    message_bytes: int
    table: PartRef
    shards: tuple[PartRef, ...]

    @property
    def parts(self) -> tuple[PartRef, ...]:
        """All objects of the segment."""
        return (self.table, *self.shards)

    @property
    def size(self) -> int:
        """Bytes of all its objects, sealed."""
        return sum(part.size for part in self.parts)

    def to_json(self) -> JsonObject:
        """Return what the head stores."""
        return {
            "documents": self.documents,
            "message_bytes": self.message_bytes,
            "table": self.table.to_json(),
            "shards": [shard.to_json() for shard in self.shards],
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> IndexSegment:
        """Parse what ``to_json`` wrote."""
        return cls(
            documents=number(value["documents"]),
            message_bytes=number(value["message_bytes"]),
            table=PartRef.from_json(value["table"]),
            shards=tuple(map(PartRef.from_json, value["shards"])),
        )


@dataclass(frozen=True, slots=True)
class IndexHead:
    """An index. ``rules`` names the rules by which words were made of texts."""

    rules: str
    segments: tuple[IndexSegment, ...] = ()

    @property
    def documents(self) -> int:
        """Messages that it covers."""
        return sum(segment.documents for segment in self.segments)

    @property
    def size(self) -> int:
        """Bytes of all its parts, sealed."""
        return sum(segment.size for segment in self.segments)

    def keys(self, mailbox_id: str) -> Iterator[str]:
        """Yield the keys of its parts."""
        for segment in self.segments:
            for part in segment.parts:
                yield index_part_key(mailbox_id, part.checksum)


async def read_index_head(vault: Vault) -> IndexHead | None:
    """Return the head of a mailbox's index, or None when it has none.

    Raises:
        IntegrityError: It is damaged (``NewerFormat``: a later version of this program wrote it).
        StoreError: The store failed.
    """
    key = index_head_key(vault.mailbox_id)
    try:
        document = await vault.read_document(key, kind="index")
    except ObjectNotFound:
        return None
    try:
        return IndexHead(
            rules=text(document["rules"]),
            segments=tuple(map(IndexSegment.from_json, document["segments"])),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        msg = f"the head of an index has another form: {type(error).__name__}"
        raise FormatError(msg, where=key) from None


async def write_index_head(vault: Vault, head: IndexHead) -> None:
    """Replace the head of a mailbox's index. Its parts must be durable already.

    Raises:
        StoreError: The store failed, or refuses.
    """
    await vault.put_document(
        index_head_key(vault.mailbox_id),
        {
            "format": FORMAT,
            "kind": "index",
            "mailbox_id": vault.mailbox_id,
            "rules": head.rules,
            "segments": [segment.to_json() for segment in head.segments],
        },
    )
