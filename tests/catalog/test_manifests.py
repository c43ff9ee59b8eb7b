"""Manifests: the form Atlas reads, and the refusal of what is malformed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas_async.catalog import manifest as manifest_module
from atlas_async.catalog.layout import manifest_key, snapshot_key
from atlas_async.catalog.manifest import (
    entries_of,
    entry_json,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from atlas_async.catalog.reader import record_of_entry
from atlas_async.catalog.snapshot import FolderCursor, Snapshot
from atlas_async.errors import FormatError, IntegrityError, NewerFormat, ObjectNotFound
from atlas_async.model.record import Row, Tombstone
from tests.fakes.engine import attachment_row, message_row
from tests.fakes.json_values import mutations
from tests.fakes.vaults import MAILBOX, existing_store, new_vault, plant

SNAPSHOT = Snapshot(
    snapshot_id="s-1",
    mailbox_id=MAILBOX,
    created_at="2026-04-20T11:29:59.123Z",
    started_at="2026-04-20T11:00:00.000Z",
    complete=True,
    messages=12,
    cursors={
        "F1": FolderCursor("https://graph/delta"),
        "F2": FolderCursor("https://graph/next", round_open=True),
        "F3": FolderCursor(),
    },
)
ROWS: list[Row] = [
    message_row(object_id="m1", subject="plain"),
    Tombstone(object_id="m2", gone=True),
    message_row(
        object_id="m3",
        subject="lone \ud83d surrogate",
        attachments=[
            attachment_row(attachment_id="a1", content_id="cid-1"),
            attachment_row(attachment_id="a2", type="item"),
            attachment_row(attachment_id="a3", type="reference"),
        ],
    ),
]


async def own_rows() -> AsyncIterator[list[Row]]:
    """Walk through the rows in two portions."""
    yield ROWS[:1]
    yield ROWS[1:]


async def no_rows() -> AsyncIterator[list[Row]]:
    """Walk through nothing."""
    for row in ROWS[1:2]:
        yield [row]


async def written() -> dict[str, Any]:
    """Write the example and return the manifest's JSON."""
    vault = new_vault()
    await write_manifest(vault, SNAPSHOT, own_rows, len(ROWS), spool_directory=None)
    found: dict[str, Any] = json.loads(await vault.read_raw(manifest_key(MAILBOX, "s-1")))
    return found


async def test_the_fields_are_atlass_in_atlass_order_and_ours_before_the_entries() -> None:
    """What Atlas reads is where Atlas expects it."""
    document = await written()
    assert list(document) == [
        "id",
        "tenant_id",
        "mailbox_id",
        "snapshot_id",
        "created_at",
        "total_objects",
        "total_size_bytes",
        "delta_links",
        "atlas_async",
        "entries",
    ]
    assert (document["tenant_id"], document["total_objects"]) == ("", 12)
    assert document["delta_links"] == {"F1": "https://graph/delta"}
    assert document["atlas_async"] == {
        "format": 1,
        "snapshot": snapshot_key(MAILBOX, "s-1"),
        "id_mode": "immutable",
        "complete": True,
    }


async def test_entries_are_messages_with_files_and_links_apart() -> None:
    """Tombstones are left out; a link is never taken for a file."""
    entries = (await written())["entries"]
    assert [entry["object_id"] for entry in entries] == ["m1", "m3"]
    plain, rich = entries
    assert "attachments" not in plain
    assert [a["attachment_id"] for a in rich["attachments"]] == ["a1", "a2"]
    assert [a["attachment_id"] for a in rich["reference_attachments"]] == ["a3"]
    assert rich["subject"] == "lone \ud83d surrogate"
    atlas_fields = ["object_id", "storage_key", "checksum", "size_bytes", "subject", "folder_id"]
    assert list(plain)[:6] == atlas_fields
    assert plain["storage_key"] == f"data/{MAILBOX}/{plain['checksum']}"
    assert list(rich["attachments"][0])[:8] == [
        "attachment_id",
        "name",
        "content_type",
        "size_bytes",
        "storage_key",
        "checksum",
        "is_inline",
        "content_id",
    ]


async def test_the_total_size_counts_messages_and_attachments_of_the_run() -> None:
    """As in Atlas's manifests: plaintext bytes of what is listed."""
    document = await written()
    assert document["total_size_bytes"] == 2 * 5500 + 3 * 2100


async def test_a_manifest_is_read_back() -> None:
    """What was written is parsed and marked as ours."""
    vault = new_vault()
    await write_manifest(vault, SNAPSHOT, own_rows, len(ROWS), spool_directory=None)
    manifest = await read_manifest(vault, "s-1")
    assert (manifest.snapshot_id, manifest.total_objects) == ("s-1", 12)
    assert [entry.object_id for entry in manifest.entries] == ["m1", "m3"]
    assert manifest.ours is not None


async def test_a_manifest_of_no_entries_is_valid() -> None:
    """A run that only removed messages lists none."""
    vault = new_vault()
    await write_manifest(vault, SNAPSHOT, no_rows, 1, spool_directory=None)
    assert (await read_manifest(vault, "s-1")).entries == ()


async def test_a_large_manifest_is_the_same_as_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bound it is sealed into a spool, and reads the same."""
    small = await written()
    monkeypatch.setattr(manifest_module, "MEMORY_ENTRIES", 1)
    large = await written()
    assert {**large, "id": ""} == {**small, "id": ""}


async def test_the_descriptor_is_durable_before_the_manifest() -> None:
    """The manifest is the commit point, so it is the last object written."""
    store = existing_store()
    await write_manifest(new_vault(store), SNAPSHOT, own_rows, 3, spool_directory=None)
    assert list(store.bucket.objects) == [
        snapshot_key(MAILBOX, "s-1"),
        manifest_key(MAILBOX, "s-1"),
    ]


async def test_a_missing_damaged_or_foreign_manifest_is_told() -> None:
    """Each kind of trouble has its own error."""
    store = existing_store()
    vault = new_vault(store)
    with pytest.raises(ObjectNotFound):
        await read_manifest(vault, "s-1")
    await vault.put_raw(manifest_key(MAILBOX, "s-1"), b"not JSON")
    with pytest.raises(FormatError, match="not JSON"):
        await read_manifest(vault, "s-1")
    await write_manifest(vault, SNAPSHOT, own_rows, 3, spool_directory=None)
    bucket = store.bucket.objects
    bucket[manifest_key(MAILBOX, "s-2")] = bucket[manifest_key(MAILBOX, "s-1")]
    with pytest.raises(FormatError, match="another snapshot"):
        await read_manifest(vault, "s-2")
    await plant(store, manifest_key(MAILBOX, "s-3"), b"x" * 50)
    with pytest.raises(IntegrityError, match="authentication"):
        await read_manifest(vault, "s-3")


ATLAS: dict[str, Any] = {
    "id": "8d2358f1",
    "tenant_id": "",
    "mailbox_id": MAILBOX,
    "snapshot_id": "s-1",
    "created_at": "2026-11-20T17:10:13.814Z",
    "total_objects": 30,
    "total_size_bytes": 14923,
    "delta_links": {"F1": "https://graph/x"},
    "entries": [
        {
            "object_id": "m1",
            "storage_key": f"data/{MAILBOX}/{'ab' * 32}",
            "checksum": "ab" * 32,
            "size_bytes": 5,
            "subject": "s",
            "folder_id": "F1",
            "attachments": [
                {
                    "attachment_id": "a1",
                    "name": "n",
                    "content_type": "t",
                    "size_bytes": 3,
                    "storage_key": "",
                    "checksum": "",
                    "is_inline": False,
                }
            ],
        }
    ],
}
OURS = ATLAS | {"atlas_async": {"format": 1, "snapshot": "k", "complete": True}}


def parse_and_show(document: Any) -> None:
    """Parse a manifest and make the records that its entries stand for."""
    manifest = parse_manifest(document, mailbox_id=MAILBOX, snapshot_id="s-1", key="k")
    for entry in manifest.entries:
        record = record_of_entry(entry)
        json.dumps(record)


@given(mutations(ATLAS) | mutations(OURS))
@example(ATLAS | {"total_objects": float("inf")})
@example(ATLAS | {"entries": [ATLAS["entries"][0] | {"size_bytes": float("inf")}]})
@example(ATLAS | {"entries": [ATLAS["entries"][0] | {"attachments": [{"size_bytes": "x"}]}]})
@settings(max_examples=300)
def test_a_malformed_manifest_is_refused_or_shown(document: Any) -> None:
    """Whatever JSON a manifest is, the only error is ``FormatError``, then or later."""
    try:
        parse_and_show(document)
    except FormatError:
        return


@pytest.mark.parametrize("checksum", ["", "xyz", "../../x", None])
def test_an_entry_without_a_proper_checksum_is_refused(checksum: object) -> None:
    """A checksum is part of a key and is compared: anything but hex digits is no checksum."""
    entry = ATLAS["entries"][0] | {"checksum": checksum}
    with pytest.raises(FormatError):
        parse_and_show(ATLAS | {"entries": [entry]})


def test_a_newer_manifest_of_ours_is_refused() -> None:
    """A newer program's manifest is not misread; the hint says to update."""
    with pytest.raises(NewerFormat, match="format version 2") as caught:
        parse_and_show(ATLAS | {"atlas_async": {"format": 2}})
    assert "update" in caught.value.hint


@pytest.mark.parametrize("version", ["1", None, 1.5])
def test_a_manifest_of_ours_without_a_format_is_refused(version: object) -> None:
    """A version is a whole number; anything else is a damaged manifest, not a newer one."""
    with pytest.raises(FormatError, match="format version") as caught:
        parse_and_show(ATLAS | {"atlas_async": {"format": version}})
    assert not isinstance(caught.value, NewerFormat)


@given(st.binary(max_size=100))
async def test_random_bytes_are_no_manifest(data: bytes) -> None:
    """Whatever was sealed in a manifest's place, the only error is ``FormatError``."""
    vault = new_vault()
    await vault.put_raw(manifest_key(MAILBOX, "s-1"), data)
    with pytest.raises(FormatError):
        await read_manifest(vault, "s-1")


def test_the_newest_entry_of_an_id_counts() -> None:
    """Over several manifests of Atlas's, the last one that names a message decides."""
    old = parse_manifest(ATLAS, mailbox_id=MAILBOX, snapshot_id="s-1", key="k")
    newer = ATLAS | {"entries": [ATLAS["entries"][0] | {"subject": "newer"}]}
    new = parse_manifest(newer, mailbox_id=MAILBOX, snapshot_id="s-1", key="k")
    assert entries_of([old, new])["m1"].subject == "newer"
    assert entries_of([new, old])["m1"].subject == "s"


def test_an_entry_names_the_object_of_its_message() -> None:
    """Keys in entries are those under which objects are stored."""
    record = message_row(attachments=[attachment_row()])
    entry = entry_json(MAILBOX, record)
    assert entry["storage_key"] == f"data/{MAILBOX}/{record['checksum']}"
    assert entry["attachments"][0]["storage_key"] == f"attachments/{MAILBOX}/{'c' * 64}"
