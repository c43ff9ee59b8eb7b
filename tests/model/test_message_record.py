"""Records made from messages, and how a sparse update changes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.model.message import (
    MESSAGE_PROPERTIES,
    apply_state,
    may_have_attachments,
    message_plaintext,
    message_record,
    sender_address,
)
from atlas_async.model.record import (
    MessageRecord,
    attachment_key,
    is_gone,
    message_key,
)

RESOURCE: dict[str, Any] = {
    "id": "AAkALgAA=",
    "subject": "Hello",
    "receivedDateTime": "2026-04-20T11:29:59Z",
    "lastModifiedDateTime": "2026-04-21T00:00:00Z",
    "changeKey": "CQAAABYAAA",
    "isRead": True,
    "isDraft": False,
    "hasAttachments": True,
    "internetMessageId": "<1@contoso.com>",
    "from": {"emailAddress": {"name": "Bob", "address": "bob@contoso.com"}},
    "flag": {"flagStatus": "flagged"},
    "categories": ["Red", "Größe"],
}

STATES = st.fixed_dictionaries(
    {},
    optional={
        "isRead": st.booleans() | st.none(),
        "flag": st.none()
        | st.fixed_dictionaries(
            {"flagStatus": st.sampled_from(["notFlagged", "flagged", "complete"])},
            optional={"dueDateTime": st.fixed_dictionaries({"dateTime": st.text(max_size=5)})},
        ),
        "categories": st.lists(st.text(max_size=5), max_size=3) | st.none(),
        "lastModifiedDateTime": st.text(max_size=5),
        "@odata.etag": st.text(max_size=5),
    },
)


def record_of(resource: dict[str, Any]) -> MessageRecord:
    """Return the record of a message in folder ``F``."""
    return message_record(resource, "F", message_plaintext(resource))


def test_a_record_says_what_the_message_says() -> None:
    """Every field of a record comes from the message or its plaintext."""
    plaintext = message_plaintext(RESOURCE)
    assert record_of(RESOURCE) == {
        "object_id": "AAkALgAA=",
        "folder_id": "F",
        "checksum": plaintext.checksum,
        "size_bytes": len(plaintext.data),
        "content": plaintext.content,
        "subject": "Hello",
        "received": "2026-04-20T11:29:59Z",
        "modified": "2026-04-21T00:00:00Z",
        "change_key": "CQAAABYAAA",
        "is_read": True,
        "flag": "flagged",
        "categories": ["Red", "Größe"],
        "internet_message_id": "<1@contoso.com>",
        "sender": "bob@contoso.com",
        "is_draft": False,
        "has_attachments": True,
    }


def test_a_message_without_anything_has_an_empty_record() -> None:
    """Absent and null properties become empty values, never an error."""
    empty = record_of({"id": "X"})
    null = record_of(dict.fromkeys(MESSAGE_PROPERTIES) | {"id": "X"})
    for record in (empty, null):
        assert (record["subject"], record["sender"], record["received"]) == ("", "", "")
        assert (record["is_read"], record["flag"], record["categories"]) == (None, None, [])


def test_the_whole_flag_is_kept_when_it_says_more() -> None:
    """Due dates of a followup flag are in the record; a plain status needs no detail."""
    flag = {"flagStatus": "flagged", "dueDateTime": {"dateTime": "2026-05-01", "timeZone": "UTC"}}
    record = record_of(RESOURCE | {"flag": flag})
    assert record["flag_detail"] == flag
    assert "flag_detail" not in record_of(RESOURCE)
    apply_state(record, {"flag": {"flagStatus": "complete"}})
    assert record["flag"] == "complete"
    assert "flag_detail" not in record


def test_the_etag_is_preferred_to_the_change_key() -> None:
    """A page's etag and a message's change key are one thing; the etag is what requests use."""
    record = record_of(RESOURCE | {"@odata.etag": 'W/"CQ"'})
    assert record["change_key"] == 'W/"CQ"'
    assert not apply_state(record, {"changeKey": "newer"})
    assert record["change_key"] == "newer"


@given(STATES, STATES)
def test_a_sparse_update_takes_only_what_it_names(
    first: dict[str, Any], update: dict[str, Any]
) -> None:
    """Properties absent from an update stay; the visible change is told exactly."""
    record = record_of({"id": "X"} | first)
    before: dict[str, Any] = dict(record)
    changed = apply_state(record, update)
    after: dict[str, Any] = dict(record)
    names = {"isRead": ("is_read",), "flag": ("flag", "flag_detail"), "categories": ("categories",)}
    unseen = ("modified", "change_key")
    visible = [field for fields in names.values() for field in fields]
    assert changed == any(before.get(f) != after.get(f) for f in visible)
    for name, fields in names.items():
        if name not in update:
            assert all(before.get(f) == after.get(f) for f in fields)
    assert {k: v for k, v in before.items() if k not in {*visible, *unseen}} == {
        k: v for k, v in after.items() if k not in {*visible, *unseen}
    }


@given(STATES, STATES)
def test_the_same_update_again_changes_nothing(
    first: dict[str, Any], update: dict[str, Any]
) -> None:
    """Applying state is idempotent."""
    record = record_of({"id": "X"} | first)
    apply_state(record, update)
    settled = dict(record)
    assert not apply_state(record, update)
    assert dict(record) == settled


@pytest.mark.parametrize(
    ("resource", "address"),
    [
        ({"from": {"emailAddress": {"address": "a@x"}}}, "a@x"),
        ({"from": None, "sender": {"emailAddress": {"address": "b@x"}}}, "b@x"),
        ({"from": {"emailAddress": {"name": "only"}}, "sender": None}, ""),
        ({"from": {"emailAddress": None}}, ""),
        ({"from": "text"}, ""),
        ({}, ""),
    ],
)
def test_the_sender_is_found_or_empty(resource: dict[str, Any], address: str) -> None:
    """``from`` comes before ``sender``; odd shapes give an empty address."""
    assert sender_address(resource) == address


@pytest.mark.parametrize(
    ("resource", "maybe"),
    [
        ({"hasAttachments": True}, True),
        ({"hasAttachments": False, "body": {"content": '<img src="cid:x">'}}, True),
        ({"hasAttachments": False, "body": {"content": '<img src="CID:x">'}}, True),
        ({"hasAttachments": False, "body": {"content": "<p>plain</p>"}}, False),
        ({"hasAttachments": False, "body": None}, False),
        ({"body": {"content": None}}, False),
        ({}, False),
    ],
)
def test_inline_images_count_although_graph_says_there_is_nothing(
    resource: dict[str, Any], *, maybe: bool
) -> None:
    """``hasAttachments`` is false for inline images alone, so the body decides too."""
    assert may_have_attachments(resource) is maybe


def test_keys_and_tombstones() -> None:
    """Objects lie below their kind and mailbox; a tombstone is told from a message."""
    assert message_key("a@x", "c0") == "data/a@x/c0"
    assert attachment_key("a@x", "c0") == "attachments/a@x/c0"
    assert is_gone({"object_id": "X", "gone": True})
    assert not is_gone(record_of({"id": "X"}))
