"""The two kinds of parts of an index, as bytes. Pure.

A shard is ``AAX1`` and zlib of its entries, ordered by term (UTF-8). An entry is: how many bytes of
the term before it this one begins with; how many more it has; these; the length of its postings;
these. Postings are the ranks of messages, ascending: the first one, then the distances. All numbers
are varints: seven bits a byte, the lowest first, the highest bit set in all bytes but the last.

A table is ``AAY1``, the number of messages (u32), of each the first 8 bytes of its SHA-256,
ascending, then of each the rank (u32), then the ranks of those that every search must open (u32).
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from atlas_async.errors import FormatError

SHARD_MAGIC: Final = b"AAX1"
TABLE_MAGIC: Final = b"AAY1"
MOST_BYTES: Final = 256 << 20
"""A shard that inflates beyond this is refused: none that was written is so large."""
_COUNT: Final = struct.Struct(">I")
_LAST_BYTE: Final = 0x80
_MOST_BITS: Final = 63


def put_varint(target: bytearray, value: int) -> None:
    """Append a number."""
    while value >= _LAST_BYTE:
        target.append(value & 0x7F | _LAST_BYTE)
        value >>= 7
    target.append(value)


def get_varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at ``place`` and where the next one is.

    Raises ``IndexError`` or ``ValueError`` where there is none.
    """
    byte = data[place]
    if byte < _LAST_BYTE:
        return byte, place + 1
    value, shift = byte & 0x7F, 7
    while True:
        place += 1
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < _LAST_BYTE:
            return value, place + 1
        shift += 7
        if shift > _MOST_BITS:
            raise ValueError("a number without an end")


def ranks_of(postings: bytes) -> Iterator[int]:
    """Yield the ranks of postings."""
    rank = place = 0
    while place < len(postings):
        distance, place = get_varint(postings, place)
        rank += distance
        yield rank


def last_rank(postings: bytes) -> int:
    """Return the highest rank of postings."""
    if postings.isascii():  # every distance has one byte
        return sum(postings)
    rank = 0
    for rank in ranks_of(postings):  # noqa: B007 -- the last one is wanted
        pass
    return rank


def joined(parts: Sequence[tuple[bytes, int, int]]) -> bytes:
    """Return the postings of several segments as one.

    Args:
        parts: Postings, by how much their ranks are raised, and how many messages their segment
            has; each part's are above the last's.

    Raises:
        IndexError, ValueError: Postings end too early, or name messages that there are not.
    """
    target = bytearray()
    last = 0
    for postings, shift, documents in parts:
        first, place = get_varint(postings, 0)
        put_varint(target, first + shift - last)
        target += postings[place:]
        rank = last_rank(postings)
        if rank >= documents:
            raise ValueError("there is no such message")
        last = rank + shift
    return bytes(target)


class ShardDraft:
    """Entries of a shard being written; they come in order."""

    def __init__(self) -> None:
        self._entries = bytearray()
        self._last = b""
        self.first = ""

    @property
    def size(self) -> int:
        """Bytes so far, before they are deflated."""
        return len(self._entries)

    def add(self, term: bytes, postings: bytes) -> None:
        """Add the next entry."""
        if not self._entries:
            self.first = term.decode()
        shared = 0
        for mine, theirs in zip(term, self._last, strict=False):
            if mine != theirs:
                break
            shared += 1
        put_varint(self._entries, shared)
        put_varint(self._entries, len(term) - shared)
        self._entries += term[shared:]
        put_varint(self._entries, len(postings))
        self._entries += postings
        self._last = term

    def plaintext(self) -> bytes:
        """Return the shard."""
        return SHARD_MAGIC + zlib.compress(self._entries, 6)


def entries_of(plaintext: bytes, *, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the terms of a shard with their postings.

    Raises:
        FormatError: It is no shard, or ends in the middle.
    """
    data = _inflated(plaintext, where)
    term = b""
    place = 0
    try:
        while place < len(data):
            shared, place = get_varint(data, place)
            length, place = get_varint(data, place)
            term = term[:shared] + data[place : place + length]
            place += length
            length, place = get_varint(data, place)
            if not length:
                raise ValueError("a term that no message has")
            yield term, data[place : place + length]
            place += length
        if place > len(data):
            raise ValueError("the last entry is cut off")
    except (IndexError, ValueError) as error:
        msg = f"a shard of the index cannot be parsed: {error}"
        raise FormatError(msg, where=where) from None


def _inflated(plaintext: bytes, where: str) -> bytes:
    inflater = zlib.decompressobj()
    try:
        if plaintext[:4] != SHARD_MAGIC:
            raise ValueError("it is none")
        data = inflater.decompress(plaintext[4:], MOST_BYTES)
        if not inflater.eof:
            raise ValueError("it does not end where it should")
    except (zlib.error, ValueError) as error:
        msg = f"a shard of the index cannot be parsed: {error}"
        raise FormatError(msg, where=where) from None
    return data


class Table:
    """The messages of a segment: 12 bytes each, of which one is found by halving.

    Args:
        slots: First 8 bytes of their SHA-256, ascending.
        ranks: The rank of each.
        dense: Ranks of those whose terms are not in the index.
    """

    __slots__ = ("_ranks", "_slots", "dense")

    def __init__(self, slots: array[int], ranks: array[int], dense: frozenset[int]) -> None:
        self._slots = slots
        self._ranks = ranks
        self.dense = dense

    @classmethod
    def of(cls, slots: array[int], dense: frozenset[int]) -> Table:
        """Return the table of messages given in the order of their ranks."""
        order = sorted(range(len(slots)), key=slots.__getitem__)
        return cls(array("Q", (slots[rank] for rank in order)), array("I", order), dense)

    def __len__(self) -> int:
        return len(self._slots)

    def rank(self, slot: int) -> int | None:
        """Return the rank of a message, or None when it is not in the segment."""
        place = bisect_left(self._slots, slot)
        if place < len(self._slots) and self._slots[place] == slot:
            return self._ranks[place]
        return None

    def in_rank_order(self) -> array[int]:
        """Return the slots by rank."""
        slots = array("Q", bytes(8 * len(self)))
        for slot, rank in zip(self._slots, self._ranks, strict=True):
            slots[rank] = slot
        return slots

    def to_bytes(self) -> bytes:
        """Return the part."""
        head = TABLE_MAGIC + _COUNT.pack(len(self))
        dense = array("I", sorted(self.dense))
        return head + b"".join(map(_big_endian, (self._slots, self._ranks, dense)))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Table:
        """Parse what ``to_bytes`` wrote.

        Raises:
            FormatError: It is none.
        """
        try:
            if data[:4] != TABLE_MAGIC:
                raise ValueError("it is none")
            (count,) = _COUNT.unpack_from(data, 4)
            ranks_at = 8 + 8 * count
            dense_at = ranks_at + 4 * count
            slots = _read("Q", data[8:ranks_at])
            ranks = _read("I", data[ranks_at:dense_at])
            dense = _read("I", data[dense_at:])
            if not len(slots) == len(ranks) == count or (count and max(ranks) >= count):
                raise ValueError("it has another length than it says")
        except (ValueError, struct.error) as error:
            msg = f"a table of the index cannot be parsed: {error}"
            raise FormatError(msg, where=where) from None
        return cls(slots, ranks, frozenset(dense))


def _big_endian(numbers: array[int]) -> bytes:
    turned = numbers[:]
    if sys.byteorder == "little":
        turned.byteswap()
    return turned.tobytes()


def _read(kind: str, data: bytes) -> array[int]:
    numbers = array(kind)
    numbers.frombytes(data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
