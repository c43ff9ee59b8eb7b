"""Snapshot descriptors: every field survives, and malformed ones are refused."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.segment import SegmentRef
from atlas_async.catalog.snapshot import (
    FolderCursor,
    LedgerRef,
    Snapshot,
    commit_moment,
    new_snapshot_id,
)
from atlas_async.catalog.state import Run
from atlas_async.clock import iso_millis
from atlas_async.errors import FormatError
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.source import EnumerationMode, Folder, IdMode
from tests.fakes.json_values import TEXTS, mutations

COUNTS = st.integers(0, 2**53)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
SLOTS = st.integers(0, 2**64 - 1)
SEGMENTS = st.builds(SegmentRef, HASHES, COUNTS, SLOTS, SLOTS, COUNTS)
RUNS = st.builds(Run, st.lists(SEGMENTS, max_size=3).map(tuple))
FOLDERS = st.builds(
    Folder,
    id=TEXTS,
    parent_id=TEXTS,
    name=TEXTS,
    path=st.lists(TEXTS, max_size=3).map(tuple),
    well_known_name=st.none() | TEXTS,
    hidden=st.booleans(),
    total_items=COUNTS,
)
CURSORS = st.builds(
    FolderCursor,
    link=st.none() | TEXTS,
    mode=st.sampled_from(EnumerationMode),
    round_open=st.booleans(),
    full=st.booleans(),
    made_at=TEXTS,
    settled_total=st.integers(-1, 10**9),
)
SNAPSHOTS = st.builds(
    Snapshot,
    snapshot_id=TEXTS,
    mailbox_id=TEXTS,
    created_at=TEXTS,
    started_at=TEXTS,
    complete=st.booleans(),
    interrupted=st.booleans(),
    parent=st.none() | TEXTS,
    messages=COUNTS,
    size_bytes=COUNTS,
    new=COUNTS,
    changed=COUNTS,
    removed=COUNTS,
    folders=st.lists(FOLDERS, max_size=3).map(tuple),
    root_id=TEXTS,
    folder_counts=st.dictionaries(TEXTS, COUNTS, max_size=3),
    runs=st.lists(RUNS, max_size=3).map(tuple),
    cursors=st.dictionaries(TEXTS, CURSORS, max_size=2),
    folder_link=st.none() | TEXTS,
    folders_listed_at=TEXTS,
    ledger=st.none() | st.builds(LedgerRef, HASHES, COUNTS),
    carry=st.just("") | HASHES,
    id_mode=st.sampled_from(IdMode),
    excluded=st.lists(TEXTS, max_size=3).map(tuple),
    whole=st.booleans(),
)

EXAMPLE = Snapshot(
    snapshot_id="s1",
    mailbox_id="anna@contoso.com",
    created_at="2026-04-20T11:29:59.123Z",
    started_at="2026-04-20T11:00:00.000Z",
    complete=True,
    folders=(Folder("F1", "R", "Inbox", ("Inbox",), "inbox", total_items=3),),
    folder_counts={"F1": 3},
    runs=(Run((SegmentRef("ab" * 32, 3, 1, 2, 400),)),),
    cursors={"F1": FolderCursor("https://graph/x", made_at="2026-04-20T11:29:59.123Z")},
    ledger=LedgerRef("cd" * 32, 1),
)


@given(SNAPSHOTS)
def test_a_descriptor_survives_its_document(snapshot: Snapshot) -> None:
    """Every field of every snapshot is read back equal."""
    document: Any = load_json(dump_json(snapshot.to_json()))
    assert Snapshot.from_json(document, where="k") == snapshot
    assert (document["format"], document["kind"]) == (FORMAT, "snapshot")


@given(mutations(EXAMPLE.to_json()))
@example(EXAMPLE.to_json() | {"messages": float("inf")})
@example(EXAMPLE.to_json() | {"folder_counts": {"F1": float("inf")}})
@example(EXAMPLE.to_json() | {"runs": [[["ab", 1, "0", "0", float("inf")]]]})
def test_a_malformed_descriptor_is_refused_or_read(document: Any) -> None:
    """Whatever JSON the descriptor is, the only error is ``FormatError``."""
    try:
        Snapshot.from_json(document, where="k")
    except FormatError:
        return


@pytest.mark.parametrize("field", sorted(EXAMPLE.to_json().keys() - {"format", "kind", "whole"}))
def test_no_field_may_be_missing(field: str) -> None:
    """A descriptor without a field is refused and the error names the field and the place."""
    document = EXAMPLE.to_json()
    del document[field]
    with pytest.raises(FormatError, match=field) as caught:
        Snapshot.from_json(document, where="the/key")
    assert caught.value.where == "the/key"


def test_a_descriptor_that_does_not_say_whether_all_was_read_is_read_so() -> None:
    """Descriptors from before that field claim nothing."""
    document = replace(EXAMPLE, whole=True).to_json()
    assert Snapshot.from_json(document, where="k").whole
    del document["whole"]
    assert not Snapshot.from_json(document, where="k").whole


@pytest.mark.parametrize(("seconds", "expected"), [(1, 1000), (0, 1), (-60, 1)])
def test_commits_are_in_order_whatever_the_clock_says(seconds: int, expected: int) -> None:
    """A commit is later than its base, by a millisecond where the clock is not."""
    base = datetime(2026, 4, 20, 12, tzinfo=UTC)
    snapshot = replace(EXAMPLE, created_at=iso_millis(base))
    moment = commit_moment(base + timedelta(seconds=seconds), snapshot)
    assert moment == iso_millis(base + timedelta(milliseconds=expected))
    assert commit_moment(base, None) == iso_millis(base)


def test_the_next_run_starts_with_nothing_done() -> None:
    """Counts are of one run; everything else is carried on."""
    done = Snapshot("s", "m", "c", "t", complete=True, messages=9, new=1, changed=2, removed=3)
    fresh = done.without_counts()
    assert (fresh.new, fresh.changed, fresh.removed, fresh.messages) == (0, 0, 0, 9)


@given(st.integers(0, 200_000_000_000_000))
def test_a_snapshot_id_is_a_uuid_of_version_7(millis: int) -> None:
    """Its first 48 bits are the moment in milliseconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
    text = new_snapshot_id(moment)
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == int(moment.timestamp() * 1000)


def test_snapshot_ids_sort_by_time_and_never_repeat() -> None:
    """Later runs have later keys; ids of one millisecond differ."""
    start = datetime(2026, 4, 20, tzinfo=UTC)
    ids = [new_snapshot_id(start + timedelta(milliseconds=n)) for n in range(300)]
    assert ids == sorted(ids)
    assert len({new_snapshot_id(start) for _ in range(300)}) == 300
