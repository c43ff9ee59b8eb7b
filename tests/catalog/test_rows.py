"""What a row says of an original has a form, and is told before anybody relies on it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from atlas_async.catalog.rows import checked
from atlas_async.errors import FormatError
from atlas_async.model.message import message_plaintext, message_record
from atlas_async.model.record import MessageRecord

GOOD = {"checksum": "ab" * 32, "size_bytes": 5}


def row(**more: Any) -> MessageRecord:
    """Return a row with something more."""
    resource = {"id": "m", "subject": "s"}
    record = message_record(resource, "F", message_plaintext(resource))
    return cast("MessageRecord", {**record, **more})


@pytest.mark.parametrize(
    "more",
    [{}, {"original": GOOD}, {"original_refused": "Code"}, {"original": {**GOOD, "later": 1}}],
)
def test_rows_as_they_are_written(more: dict[str, Any]) -> None:
    """With an original, without one, and with more than is known yet."""
    assert checked(row(**more), where="here") == row(**more)


@pytest.mark.parametrize(
    "more",
    [
        {"original": None},
        {"original": "ab" * 32},
        {"original": {"checksum": "ab" * 32}},
        {"original": {**GOOD, "checksum": "../../data/x"}},
        {"original": {**GOOD, "checksum": "ab" * 31}},
        {"original": {**GOOD, "size_bytes": "5"}},
        {"original": {**GOOD, "size_bytes": True}},
        {"original_refused": None},
        {"original_refused": ["Code"]},
    ],
    ids=str,
)
def test_an_original_of_another_form_is_told(more: dict[str, Any]) -> None:
    """Its checksum becomes part of a key, and its size a limit."""
    with pytest.raises(FormatError, match="another form"):
        checked(row(**more), where="here")
