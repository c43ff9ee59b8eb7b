"""The bytes of an index: what is written is read back, and nothing else is taken for it."""

from __future__ import annotations

import zlib
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.errors import FormatError
from atlas_async.search.part import (
    SHARD_MAGIC,
    TABLE_MAGIC,
    ShardDraft,
    Table,
    entries_of,
    get_varint,
    joined,
    last_rank,
    put_varint,
    ranks_of,
)

RANKS = st.lists(st.integers(0, 100_000), min_size=1, unique=True).map(sorted)
TERMS = st.dictionaries(st.text(min_size=1, max_size=8), RANKS, max_size=20)


def postings(ranks: list[int]) -> bytes:
    """Return postings of ranks."""
    target = bytearray()
    last = 0
    for rank in ranks:
        put_varint(target, rank - last)
        last = rank
    return bytes(target)


def shard(entries: dict[str, list[int]]) -> bytes:
    """Return a shard."""
    draft = ShardDraft()
    for term in sorted(entries):
        draft.add(term.encode(), postings(entries[term]))
    return draft.plaintext()


@given(st.lists(st.integers(0, (1 << 63) - 1)))
def test_numbers(numbers: list[int]) -> None:
    """Numbers come back in order."""
    data = bytearray()
    for number in numbers:
        put_varint(data, number)
    found, place = [], 0
    while place < len(data):
        number, place = get_varint(bytes(data), place)
        found.append(number)
    assert found == numbers


@given(TERMS)
def test_shards(entries: dict[str, list[int]]) -> None:
    """Terms come back in order with their ranks."""
    found = {
        term.decode(): list(ranks_of(it)) for term, it in entries_of(shard(entries), where="k")
    }
    assert found == entries
    assert list(found) == sorted(entries)


@given(st.lists(RANKS, min_size=1, max_size=4))
def test_joining(parts: list[list[int]]) -> None:
    """Joined postings are those of all parts, each raised above the ones before."""
    shift, wanted, given_parts = 0, [], []
    for ranks in parts:
        given_parts.append((postings(ranks), shift, ranks[-1] + 1))
        wanted += [rank + shift for rank in ranks]
        shift += ranks[-1] + 1
    result = joined(given_parts)
    assert list(ranks_of(result)) == wanted
    assert last_rank(result) == wanted[-1]


@pytest.mark.parametrize("one", [(b"\x05", 0, 5), (b"\x80", 0, 9), (b"", 0, 9)])
def test_postings_that_cannot_be_joined(one: tuple[bytes, int, int]) -> None:
    """Postings that name a message that is not there, or end too early, are refused."""
    with pytest.raises((ValueError, IndexError)):
        joined([one])


@given(st.lists(st.integers(0, (1 << 64) - 1), unique=True), st.sets(st.integers(0, 5)))
def test_tables(slots: list[int], dense: set[int]) -> None:
    """Every message has the rank that it came with; others have none."""
    marked = frozenset(rank for rank in dense if rank < len(slots))
    made = Table.of(array("Q", slots), marked)
    table = Table.from_bytes(made.to_bytes(), where="k")
    assert [table.rank(slot) for slot in slots] == list(range(len(slots)))
    assert list(table.in_rank_order()) == slots
    assert table.dense == marked
    assert len(table) == len(slots)
    strangers = {slot ^ 1 for slot in slots} - set(slots)
    assert all(table.rank(slot) is None for slot in strangers)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"AAX2" + zlib.compress(b""),
        SHARD_MAGIC + b"no zlib",
        SHARD_MAGIC + zlib.compress(b"\0\x05ab"),
        SHARD_MAGIC + zlib.compress(b"\0\x01a\x05\x01"),
        SHARD_MAGIC + zlib.compress(b"\x80"),
        SHARD_MAGIC + zlib.compress(b"\xff" * 20),
        SHARD_MAGIC + zlib.compress(b"\0\x01a\x01\x01")[:-4],
    ],
)
def test_strange_shards_are_refused(data: bytes) -> None:
    """What is no shard, or ends too early, is an integrity error, never another one."""
    with pytest.raises(FormatError):
        list(entries_of(data, where="k"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"AAY2\0\0\0\0",
        TABLE_MAGIC,
        TABLE_MAGIC + b"\0\0\0\2" + bytes(12),
        TABLE_MAGIC + b"\0\0\0\1" + bytes(8) + b"\0\0\0\1",
        TABLE_MAGIC + b"\0\0\0\0" + b"\0",
    ],
)
def test_strange_tables_are_refused(data: bytes) -> None:
    """What is no table, or has ranks beyond its messages, is an integrity error."""
    with pytest.raises(FormatError):
        Table.from_bytes(data, where="k")
