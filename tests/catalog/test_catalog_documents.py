"""Catalog documents: what is packed is unpacked, and nothing else is."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.catalog import document as document_module
from atlas_async.catalog.document import FORMAT, check_format, pack, unpack
from atlas_async.errors import FormatError, NewerFormat
from tests.fakes.json_values import TEXTS, VALUES

DOCUMENT: dict[str, Any] = {"format": FORMAT, "kind": "head", "mailbox_id": "a@x", "text": "Größe"}


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_a_document_is_unpacked_as_it_was_packed(fields: dict[str, Any]) -> None:
    """Any JSON fields survive, lone surrogates included."""
    document = {**fields, "format": FORMAT, "kind": "head"}
    assert unpack(pack(document), kind="head", where="k") == document


def test_a_document_is_magic_and_deflated_json() -> None:
    """The form is what the format page says: ``AAC1`` and zlib."""
    packed = pack(DOCUMENT)
    assert packed[:4] == b"AAC1"
    assert json.loads(zlib.decompress(packed[4:])) == DOCUMENT


def test_a_document_of_another_kind_is_refused() -> None:
    """A ledger that was put in a head's place is not taken for one, and the place is told."""
    with pytest.raises(FormatError, match="not a ledger") as caught:
        unpack(pack(DOCUMENT), kind="ledger", where="catalog/a@x/head")
    assert (caught.value.where, caught.value.exit_code) == ("catalog/a@x/head", 16)


@pytest.mark.parametrize("version", [FORMAT + 1, 99])
def test_a_newer_format_is_refused(version: int) -> None:
    """What a newer program wrote is not misread; the hint says to update."""
    with pytest.raises(NewerFormat, match=f"format version {version}") as caught:
        unpack(pack({**DOCUMENT, "format": version}), kind="head", where="k")
    assert "update" in caught.value.hint


@pytest.mark.parametrize("version", [None, "1", 1.5, []])
def test_a_document_without_a_format_is_refused(version: object) -> None:
    """A version is a whole number; anything else is a damaged document, not a newer one."""
    with pytest.raises(FormatError, match="format version") as caught:
        unpack(pack({**DOCUMENT, "format": version}), kind="head", where="k")
    assert not isinstance(caught.value, NewerFormat)


def test_an_unknown_field_is_ignored() -> None:
    """Fields may be added without raising the format."""
    assert unpack(pack({**DOCUMENT, "new": 1}), kind="head", where="k")["new"] == 1


def test_no_truncation_gives_another_document() -> None:
    """A truncated document is refused, or only its checksum is missing."""
    packed = pack(DOCUMENT)
    for length in range(len(packed)):
        try:
            found = unpack(packed[:length], kind="head", where="k")
        except FormatError:
            continue
        assert found == DOCUMENT


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused(data: bytes, magic: bool) -> None:
    """Whatever the bytes, the only error is ``FormatError``."""
    with pytest.raises(FormatError):
        unpack(b"AAC1" + data if magic else data, kind="head", where="k")


@given(st.binary(max_size=100))
def test_random_bytes_that_were_deflated_are_refused(data: bytes) -> None:
    """A well-formed stream of something that is no JSON document is refused too."""
    with pytest.raises(FormatError):
        unpack(b"AAC1" + zlib.compress(data), kind="head", where="k")


@given(VALUES)
def test_json_that_is_no_document_is_refused(value: object) -> None:
    """Lists, numbers and objects without kind and format are no documents."""
    packed = b"AAC1" + zlib.compress(json.dumps(value).encode())
    with pytest.raises(FormatError):
        unpack(packed, kind="head", where="k")


@given(st.data())
def test_a_damaged_stream_is_refused_or_is_the_document(data: st.DataObject) -> None:
    """A flipped bit behind the magic never becomes another kind of error."""
    packed = bytearray(pack(DOCUMENT))
    bit = data.draw(st.integers(32, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        unpack(bytes(packed), kind="head", where="k")
    except FormatError:
        return


def test_a_document_that_inflates_beyond_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A small object cannot take all memory: inflating stops at the limit."""
    monkeypatch.setattr(document_module, "MAX_BYTES", 10_000)
    bomb = pack({**DOCUMENT, "text": "x" * 10_000_000})
    assert len(bomb) < 60_000
    with pytest.raises(FormatError):
        unpack(bomb, kind="head", where="k")
    small = {**DOCUMENT, "text": "x" * 9_000}
    assert unpack(pack(small), kind="head", where="k") == small


def test_deep_nesting_is_refused() -> None:
    """A document nested deeper than any parser goes is a ``FormatError`` like other bad JSON."""
    packed = b"AAC1" + zlib.compress(b"[" * 200_000)
    with pytest.raises(FormatError):
        unpack(packed, kind="head", where="k")


def test_the_known_format_is_accepted() -> None:
    """The current format raises nothing."""
    check_format(DOCUMENT, where="k")
