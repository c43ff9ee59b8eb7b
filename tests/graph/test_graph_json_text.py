"""JSON as Graph writes it."""

from __future__ import annotations

import pytest

from atlas_async.graph.json_text import BrokenJsonError, parse_object


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":"x"}', "x"),
        (b'{"a":"raw \x01\x1f\ttab"}', "raw \x01\x1f\ttab"),
        (b'{"a":"lone \\ud800 half"}', "lone \ud800 half"),
        (b'\xef\xbb\xbf{"a":"mark"}', "mark"),
        ('{"a":"\u202eشالوم 😀"}'.encode(), "\u202eشالوم 😀"),
    ],
)
def test_strings_come_through_unchanged(text: bytes, value: str) -> None:
    """Control characters and lone surrogates neither break a page nor get lost."""
    assert parse_object(text) == {"a": value}


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'{"a":', b"<html>", b"[1]", b"null", b'{"a":NaN}', b"\xff{}", b"[" * 100_000],
)
def test_what_is_no_object_is_broken(text: bytes) -> None:
    """Cut, foreign, and absurdly nested text is refused by one error."""
    with pytest.raises(BrokenJsonError):
        parse_object(text)
