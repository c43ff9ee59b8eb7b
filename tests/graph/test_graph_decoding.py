"""Content encodings are undone as the data comes, whatever its pieces, and damage is noticed."""

from __future__ import annotations

import gzip
import zlib

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.graph.decoding import PIECE_BYTES, Inflater


def inflate(*pieces: bytes) -> bytes:
    """Return what the pieces inflate to."""
    inflater = Inflater()
    parts = [part for piece in pieces for part in inflater.feed(piece)]
    inflater.finish()
    assert all(len(part) <= PIECE_BYTES for part in parts)
    return b"".join(parts)


@given(text=st.binary(max_size=4000), cut=st.integers(0, 4000), level=st.integers(0, 9))
def test_any_cut_of_gzip_data_gives_the_same_text(text: bytes, cut: int, level: int) -> None:
    """Where the network cuts an answer does not matter."""
    data = gzip.compress(text, level)
    assert inflate(data[:cut], data[cut:]) == text


def test_zlib_data_is_inflated_too() -> None:
    """`deflate` means zlib data."""
    assert inflate(zlib.compress(b"mail" * 100)) == b"mail" * 100


def test_members_in_a_row_are_one_text() -> None:
    """RFC 1952 allows several members."""
    assert inflate(gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"


def test_a_little_data_that_becomes_much_comes_in_bounded_pieces() -> None:
    """What is inflated at once is bounded."""
    text = bytes(5 * PIECE_BYTES + 17)
    data = gzip.compress(text)
    assert len(data) < PIECE_BYTES // 10
    assert inflate(data) == text
    assert inflate(*(data[i : i + 100] for i in range(0, len(data), 100))) == text


def test_exactly_one_piece() -> None:
    """A text of just the bound has no empty piece behind it."""
    text = bytes(PIECE_BYTES)
    assert inflate(gzip.compress(text)) == text


def test_an_empty_body_is_no_error() -> None:
    """An answer without a body may still name an encoding."""
    assert inflate(b"") == b""


@pytest.mark.parametrize("left_out", [1, 8, 30])
def test_data_cut_short_is_an_error(left_out: int) -> None:
    """Half a page is no page."""
    with pytest.raises(aiohttp.ClientPayloadError, match="cut short"):
        inflate(gzip.compress(b"some mail" * 50)[:-left_out])


def test_damaged_data_is_an_error() -> None:
    """A wrong check sum is noticed."""
    data = bytearray(gzip.compress(b"some mail" * 50))
    data[-6] ^= 1
    with pytest.raises(aiohttp.ClientPayloadError, match="damaged"):
        inflate(bytes(data))


def test_something_else_is_an_error() -> None:
    """Plain JSON that claims to be gzip is refused."""
    with pytest.raises(aiohttp.ClientPayloadError, match="damaged"):
        inflate(b'{"value": []}')
