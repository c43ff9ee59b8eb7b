"""A segment: up to 16,384 rows of mailbox state, sorted, in separately deflated blocks.

Plaintext: ``AAS1`` | u32 big-endian length of the index | deflate(index JSON) | blocks. Rows are
ordered by slot, the first 8 bytes of the SHA-256 of ``object_id``, then by ``object_id``. The
index lists for each block its first slot, offset and length behind the index, and its row count;
a block is deflate(JSON lines). So one row is found by inflating one block.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from atlas_async.catalog.document import FORMAT, MAX_BYTES, check_format
from atlas_async.catalog.fields import checksum, number
from atlas_async.errors import FormatError
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.record import Row

MAGIC: Final = b"AAS1"
LENGTH = struct.Struct(">I")
SEGMENT_ROWS: Final = 16_384
BLOCK_ROWS: Final = 256


def slot_of(object_id: str) -> int:
    """Return the 64-bit slot that orders ``object_id`` among rows."""
    digest = hashlib.sha256(object_id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def row_order(row: Row) -> tuple[int, str]:
    """Return the sort key of a row."""
    return slot_of(row["object_id"]), row["object_id"]


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """Where a segment is and which slots it covers, as descriptors list it."""

    checksum: str
    count: int
    first: int
    last: int
    size: int

    def to_json(self) -> list[Any]:
        """Return ``[checksum, count, first slot hex, last slot hex, sealed size]``."""
        return [self.checksum, self.count, f"{self.first:016x}", f"{self.last:016x}", self.size]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> SegmentRef:
        """Parse what ``to_json`` wrote."""
        name, count, first, last, size = value
        return cls(checksum(name), number(count), int(first, 16), int(last, 16), number(size))


@dataclass(frozen=True, slots=True)
class _Block:
    first: int
    offset: int
    length: int
    count: int


class SegmentBuilder:
    """Builds a segment block by block, so that its rows need not be in memory together."""

    def __init__(self) -> None:
        self._index: list[list[object]] = []
        self._blocks: list[bytes] = []
        self._offset = 0
        self.count = 0
        self.first = 0
        self.last = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Add a block of rows; they follow those before them and are not empty."""
        first = slot_of(rows[0]["object_id"])
        block = zlib.compress(b"\n".join([dump_json(row) for row in rows]), 1)
        self._index.append([f"{first:016x}", self._offset, len(block), len(rows)])
        self._blocks.append(block)
        self._offset += len(block)
        self.first = self.first if self.count else first
        self.last = slot_of(rows[-1]["object_id"])
        self.count += len(rows)

    def plaintext(self, mailbox_id: str) -> bytes:
        """Return the segment."""
        document = {
            "format": FORMAT,
            "kind": "segment",
            "mailbox_id": mailbox_id,
            "blocks": self._index,
        }
        head = zlib.compress(dump_json(document), 1)
        return b"".join((MAGIC, LENGTH.pack(len(head)), head, *self._blocks))


class Segment:
    """A segment in memory, its blocks still deflated.

    Args:
        plaintext: What ``encode_segment`` returned.
        mailbox_id: Whose it must be.
        where: Its key, for errors.

    Raises:
        FormatError: It is not a segment of this mailbox, or of a newer format.
    """

    def __init__(self, plaintext: bytes, *, mailbox_id: str, where: str) -> None:
        self._data = memoryview(plaintext)
        self._where = where
        try:
            if plaintext[:4] != MAGIC:
                msg = "not a segment"
                raise FormatError(msg, where=where)
            (length,) = LENGTH.unpack_from(plaintext, 4)
            self._base = 8 + length
            head = cast("dict[str, Any]", load_json(_inflate(plaintext[8 : self._base])))
            check_format(head, where=where)
            if head["kind"] != "segment" or head["mailbox_id"] != mailbox_id:
                msg = "segment belongs to another mailbox"
                raise FormatError(msg, where=where)
            self._blocks = [
                _Block(int(first, 16), number(offset), number(length), number(count))
                for first, offset, length, count in head["blocks"]
            ]
        except (zlib.error, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            msg = f"segment cannot be parsed: {error}"
            raise FormatError(msg, where=where) from None
        self._firsts = [block.first for block in self._blocks]

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self._blocks)

    def block(self, number: int) -> list[Row]:
        """Return the rows of one block.

        Raises:
            FormatError: The block cannot be parsed.
        """
        block = self._blocks[number]
        try:
            start = self._base + block.offset
            lines = _inflate(self._data[start : start + block.length]).split(b"\n")
            rows = [cast("Row", load_json(line)) for line in lines]
            if not all(isinstance(row["object_id"], str) for row in rows):
                raise ValueError("a row without an id")
        except (zlib.error, ValueError, LookupError, TypeError) as error:
            msg = f"segment block {number} cannot be parsed: {error}"
            raise FormatError(msg, where=self._where) from None
        return rows

    def block_for(self, slot: int) -> int:
        """Return the number of the block where ``slot`` would be; -1 when before the first.

        Rows of one slot may straddle a block boundary; the callers' slots differ for different
        ids except with probability 2^-64, and ``Segment.block`` of the number before is then
        looked into as well.
        """
        return bisect_right(self._firsts, slot) - 1

    def rows(self) -> Iterator[Row]:
        """Yield all rows in order."""
        for place in range(len(self._blocks)):
            yield from self.block(place)


def _inflate(data: bytes | memoryview) -> bytes:
    """Return inflated bytes. Raises ``zlib.error``, ``ValueError`` for more than any writer's."""
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, MAX_BYTES)
    if not inflater.eof:
        raise ValueError("it does not end where it should")
    return text
