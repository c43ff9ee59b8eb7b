"""Segments: sorted rows in blocks, found one by one."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.catalog import segment as segment_module
from atlas_async.catalog.segment import (
    BLOCK_ROWS,
    LENGTH,
    Segment,
    SegmentBuilder,
    SegmentRef,
    row_order,
    slot_of,
)
from atlas_async.errors import FormatError
from atlas_async.model.record import Row, Tombstone
from tests.fakes.engine import message_row
from tests.fakes.json_values import TEXTS, mutations

MAILBOX = "anna@contoso.com"


def rows_of(ids: list[str]) -> list[Row]:
    """Return sorted rows, every third one a tombstone."""
    rows: list[Row] = [
        Tombstone(object_id=i, gone=True)
        if number % 3 == 0
        else message_row(object_id=i, subject=f"subject of {number}")
        for number, i in enumerate(ids)
    ]
    return sorted(rows, key=row_order)


def encode_segment(mailbox_id: str, rows: list[Row]) -> bytes:
    """Return a segment of the given rows."""
    builder = SegmentBuilder()
    for start in range(0, len(rows), segment_module.BLOCK_ROWS):
        builder.add(rows[start : start + segment_module.BLOCK_ROWS])
    assert builder.count == len(rows)
    assert builder.first == slot_of(rows[0]["object_id"])
    assert builder.last == slot_of(rows[-1]["object_id"])
    return builder.plaintext(mailbox_id)


def opened(plaintext: bytes) -> Segment:
    """Return the segment of the test mailbox."""
    return Segment(plaintext, mailbox_id=MAILBOX, where="k")


@given(st.lists(TEXTS, min_size=1, max_size=40, unique=True), st.integers(1, 9))
def test_rows_come_back_in_order(ids: list[str], block_rows: int) -> None:
    """What was encoded is read back, whatever the ids and the size of blocks."""
    rows = rows_of(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_module, "BLOCK_ROWS", block_rows)
        segment = opened(encode_segment(MAILBOX, rows))
    assert list(segment.rows()) == rows
    assert segment.blocks == -(-len(rows) // block_rows)


@given(st.lists(TEXTS, min_size=1, max_size=40, unique=True), st.integers(1, 9))
def test_a_row_lies_in_the_block_its_slot_points_to(ids: list[str], block_rows: int) -> None:
    """One block is inflated to find a row; a slot before all others is in none."""
    rows = rows_of(ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_module, "BLOCK_ROWS", block_rows)
        segment = opened(encode_segment(MAILBOX, rows))
    for row in rows:
        assert row in segment.block(segment.block_for(slot_of(row["object_id"])))
    first = slot_of(rows[0]["object_id"])
    assert segment.block_for(first - 1) == -1
    assert segment.block_for((1 << 64) - 1) == segment.blocks - 1


def test_the_form_is_what_the_format_page_says() -> None:
    """Magic, index length, deflated index, deflated blocks of at most 256 lines."""
    rows = rows_of([f"id {number}" for number in range(BLOCK_ROWS + 1)])
    plaintext = encode_segment(MAILBOX, rows)
    assert plaintext[:4] == b"AAS1"
    (length,) = struct.unpack(">I", plaintext[4:8])
    index = json.loads(zlib.decompress(plaintext[8 : 8 + length]))
    assert (index["format"], index["kind"], index["mailbox_id"]) == (1, "segment", MAILBOX)
    assert [block[3] for block in index["blocks"]] == [BLOCK_ROWS, 1]
    slots = [hashlib.sha256(row["object_id"].encode()).hexdigest()[:16] for row in rows]
    assert slots == sorted(slots)
    assert [block[0] for block in index["blocks"]] == [slots[0], slots[BLOCK_ROWS]]
    offset, size = index["blocks"][1][1:3]
    block = plaintext[8 + length + offset :]
    assert len(block) == size
    assert json.loads(zlib.decompress(block)) == rows[-1]


def test_the_segment_of_another_mailbox_is_refused() -> None:
    """A segment that was copied between mailboxes is not read."""
    plaintext = encode_segment("ben@contoso.com", rows_of(["a"]))
    with pytest.raises(FormatError, match="another mailbox"):
        opened(plaintext)


def test_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer program wrote is not misread."""
    monkeypatch.setattr(segment_module, "FORMAT", 2)
    plaintext = encode_segment(MAILBOX, rows_of(["a"]))
    with pytest.raises(FormatError, match="format version 2"):
        opened(plaintext)


def everything(plaintext: bytes) -> list[Row]:
    """Open a segment and read all its rows."""
    return list(opened(plaintext).rows())


@given(st.binary(max_size=120), st.booleans())
def test_random_bytes_are_refused(data: bytes, magic: bool) -> None:
    """Whatever the bytes, the only error is ``FormatError``."""
    with pytest.raises(FormatError):
        everything(b"AAS1" + data if magic else data)


def test_every_truncation_is_refused() -> None:
    """No prefix of a segment gives rows."""
    plaintext = encode_segment(MAILBOX, rows_of([str(number) for number in range(20)]))
    for length in range(len(plaintext)):
        with pytest.raises(FormatError):
            everything(plaintext[:length])


INDEX = {
    "format": 1,
    "kind": "segment",
    "mailbox_id": MAILBOX,
    "blocks": [["0000000000000000", 0, 30, 1]],
}


@given(mutations(INDEX))
def test_a_malformed_index_is_refused_or_read(index: Any) -> None:
    """Whatever JSON the index is, the only error is ``FormatError``."""
    head = zlib.compress(json.dumps(index).encode())
    block = zlib.compress(json.dumps(message_row()).encode())
    try:
        everything(b"AAS1" + LENGTH.pack(len(head)) + head + block)
    except FormatError:
        return


@pytest.mark.parametrize("row", [["object_id"], {"gone": True}, {"object_id": 7}, None, 5])
def test_a_line_that_is_no_row_is_refused(row: object) -> None:
    """A block with something else in a row's place is a ``FormatError``, not a traceback later."""
    block = zlib.compress(json.dumps(row).encode())
    index = INDEX | {"blocks": [["0000000000000000", 0, len(block), 1]]}
    head = zlib.compress(json.dumps(index).encode())
    with pytest.raises(FormatError):
        everything(b"AAS1" + LENGTH.pack(len(head)) + head + block)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_a_reference_survives_json(first: int, last: int, size: int) -> None:
    """A descriptor lists segments with slots as 16 hex digits."""
    ref = SegmentRef("ab" * 32, 7, first, last, size)
    told = json.loads(json.dumps(ref.to_json()))
    assert SegmentRef.from_json(told) == ref
    assert [len(told[2]), len(told[3])] == [16, 16]


def test_rows_are_ordered_by_slot_then_id() -> None:
    """The order is that of the hash, and ids decide among equal slots."""
    rows = cast("list[Row]", [message_row(object_id=i) for i in "abcdefgh"])
    ordered = sorted(rows, key=row_order)
    assert [slot_of(r["object_id"]) for r in ordered] == sorted(map(slot_of, "abcdefgh"))
