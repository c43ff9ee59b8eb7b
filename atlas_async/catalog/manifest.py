"""Manifests: the commit point of a snapshot, in the form Atlas 1.3.0 reads.

A manifest lists the messages that its run stored, changed or moved, as Atlas's own do. Fields of
ours are extra: Atlas ignores them. What a whole snapshot holds is in its descriptor and runs.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from anyio import to_thread

from atlas_async.catalog.document import FORMAT, UPDATE
from atlas_async.catalog.layout import manifest_key, snapshot_key
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.spool import SpoolSealer
from atlas_async.errors import FormatError, NewerFormat
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.record import (
    AttachmentRecord,
    MessageRecord,
    Row,
    attachment_key,
    is_gone,
    message_key,
)
from atlas_async.model.source import JsonObject

OURS: Final = "atlas_async"
"""The manifest field that marks our manifests and names their descriptor."""

MEMORY_ENTRIES: Final = 20_000
"""A manifest of more entries is sealed piece by piece into a spool."""

_END: Final = b"]}"

Rows = Callable[[], AsyncIterator[list[Row]]]


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One message of a manifest that Atlas wrote."""

    object_id: str
    storage_key: str
    checksum: str
    size_bytes: int
    subject: str
    folder_id: str
    attachments: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as read. ``ours`` is None for one that Atlas wrote."""

    snapshot_id: str
    mailbox_id: str
    created_at: str
    total_objects: int
    total_size_bytes: int
    entries: tuple[ManifestEntry, ...]
    ours: JsonObject | None


def entry_json(mailbox_id: str, record: MessageRecord) -> JsonObject:
    """Return a manifest entry: Atlas's fields in Atlas's order, then ours."""
    entry: JsonObject = {
        "object_id": record["object_id"],
        "storage_key": message_key(mailbox_id, record["checksum"]),
        "checksum": record["checksum"],
        "size_bytes": record["size_bytes"],
        "subject": record["subject"],
        "folder_id": record["folder_id"],
        "received": record["received"],
        "is_read": record["is_read"],
        "flag": record["flag"],
        "categories": record["categories"],
    }
    attachments = record.get("attachments", [])
    links = [a for a in attachments if a["type"] == "reference"]
    files = [a for a in attachments if a["type"] != "reference"]
    if links:
        entry["reference_attachments"] = [_attachment_json(mailbox_id, a) for a in links]
    if files:
        entry["attachments"] = [_attachment_json(mailbox_id, a) for a in files]
    return entry


def _attachment_json(mailbox_id: str, attachment: AttachmentRecord) -> JsonObject:
    value: JsonObject = {
        "attachment_id": attachment["attachment_id"],
        "name": attachment["name"],
        "content_type": attachment["content_type"],
        "size_bytes": attachment["size_bytes"],
        "storage_key": attachment_key(mailbox_id, attachment["checksum"]),
        "checksum": attachment["checksum"],
        "is_inline": attachment["is_inline"],
    }
    if attachment.get("content_id"):
        value["content_id"] = attachment["content_id"]
    value["type"] = attachment["type"]
    value["content_bytes"] = attachment["content_bytes"]
    return value


async def write_manifest(
    vault: Vault, snapshot: Snapshot, rows: Rows, count: int, *, spool_directory: Path | None
) -> None:
    """Write a snapshot's descriptor, then its manifest: the commit.

    Everything the snapshot names must be durable before the call (I1). The descriptor is written
    first; without its manifest it is nothing but an unreferenced object.

    Args:
        vault: The mailbox's objects.
        snapshot: The descriptor.
        rows: Opens a new walk over what the run changed, tombstones included or not.
        count: About how many rows there are.
        spool_directory: Where a large manifest is spooled.

    Raises:
        LockedError: The mailbox is no longer this run's to write.
        StoreError: The store failed.
    """
    await vault.put_document(
        snapshot_key(snapshot.mailbox_id, snapshot.snapshot_id), snapshot.to_json()
    )
    await vault.before_commit()
    key = manifest_key(snapshot.mailbox_id, snapshot.snapshot_id)
    if count <= MEMORY_ENTRIES:
        await vault.put_raw(key, await _joined(snapshot, rows))
    else:
        await _write_spooled(vault, key, _pieces(snapshot, rows), spool_directory)


async def _joined(snapshot: Snapshot, rows: Rows) -> bytes:
    """Return a manifest whole, in one walk over the rows."""
    total = 0
    entries: list[bytes] = []
    async for batch in rows():
        total += _size_of(batch)
        entries.extend(_entries(snapshot.mailbox_id, batch))
    return b"".join((_head(snapshot, total), b",".join(entries), _END))


async def _pieces(snapshot: Snapshot, rows: Rows) -> AsyncIterator[bytes]:
    """Yield a manifest piece by piece: a walk for the total, which stands first, and another."""
    total = 0
    async for batch in rows():
        total += _size_of(batch)
    yield _head(snapshot, total)
    separator = b""
    async for batch in rows():
        entries = _entries(snapshot.mailbox_id, batch)
        if entries:
            yield separator + b",".join(entries)
            separator = b","
    yield _END


def _size_of(batch: Sequence[Row]) -> int:
    total = 0
    for row in batch:
        if not is_gone(row):
            record = cast("MessageRecord", row)
            total += record["size_bytes"]
            total += sum(a["size_bytes"] for a in record.get("attachments", ()))
    return total


def _entries(mailbox_id: str, batch: Sequence[Row]) -> list[bytes]:
    return [
        dump_json(entry_json(mailbox_id, cast("MessageRecord", row)))
        for row in batch
        if not is_gone(row)
    ]


def _head(snapshot: Snapshot, total: int) -> bytes:
    return dump_json(_head_json(snapshot, total))[:-1] + b',"entries":['


async def _write_spooled(
    vault: Vault, key: str, pieces: AsyncIterator[bytes], directory: Path | None
) -> None:
    spooling = await to_thread.run_sync(SpoolSealer, vault.sealer, directory)
    try:
        async for piece in pieces:
            await to_thread.run_sync(spooling.update, piece)
        spool = await to_thread.run_sync(spooling.finish)
        await vault.replace_spool(key, spool)
    finally:
        spooling.abandon()


def _head_json(snapshot: Snapshot, total: int) -> JsonObject:
    links = {
        folder_id: cursor.link
        for folder_id, cursor in snapshot.cursors.items()
        if cursor.link and not cursor.round_open
    }
    return {
        "id": str(uuid.uuid4()),
        "tenant_id": "",
        "mailbox_id": snapshot.mailbox_id,
        "snapshot_id": snapshot.snapshot_id,
        "created_at": snapshot.created_at,
        "total_objects": snapshot.messages,
        "total_size_bytes": total,
        "delta_links": links,
        OURS: {
            "format": FORMAT,
            "snapshot": snapshot_key(snapshot.mailbox_id, snapshot.snapshot_id),
            "id_mode": snapshot.id_mode.value,
            "complete": snapshot.complete,
        },
    }


async def read_manifest(vault: Vault, snapshot_id: str) -> Manifest:
    """Read a manifest, of either program, and check that it is what its key says.

    Raises:
        ObjectNotFound: There is none.
        IntegrityError: It is damaged or another one (``FormatError``: unknown form or version).
    """
    key = manifest_key(vault.mailbox_id, snapshot_id)
    plaintext = await vault.read_raw(key)
    try:
        document = await to_thread.run_sync(load_json, plaintext)
    except ValueError as error:
        msg = f"manifest is not JSON: {error}"
        raise FormatError(msg, where=key) from None
    return parse_manifest(document, mailbox_id=vault.mailbox_id, snapshot_id=snapshot_id, key=key)


def parse_manifest(document: object, *, mailbox_id: str, snapshot_id: str, key: str) -> Manifest:
    """Check a manifest's form and names and return it as values.

    Raises:
        FormatError: A field is missing, of the wrong type, or names another snapshot or mailbox.
    """
    if not isinstance(document, dict):
        msg = "manifest is not a JSON object"
        raise FormatError(msg, where=key)
    if document.get("snapshot_id") != snapshot_id or document.get("mailbox_id") != mailbox_id:
        msg = "manifest names another snapshot or mailbox than its key: it was moved or replaced"
        raise FormatError(msg, where=key)
    ours = document.get(OURS)
    if ours is not None:
        _check_version(ours, key)
    try:
        return Manifest(
            snapshot_id=snapshot_id,
            mailbox_id=mailbox_id,
            created_at=str(document["created_at"]),
            total_objects=int(document["total_objects"]),
            total_size_bytes=int(document["total_size_bytes"]),
            entries=tuple(_parse_entry(entry) for entry in document["entries"]),
            ours=ours,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        msg = f"manifest of an unknown form: {type(error).__name__} {error}"
        raise FormatError(msg, where=key, hint="was it written by a newer program?") from None


def _check_version(ours: object, key: str) -> None:
    version = ours.get("format") if isinstance(ours, dict) else None
    if not isinstance(version, int):
        msg = f"manifest without a format version: {version!r:.40}"
        raise FormatError(msg, where=key)
    if version > FORMAT:
        msg = f"manifest of format version {version}, which this program does not know"
        raise NewerFormat(msg, where=key, hint=UPDATE)


def _parse_entry(value: Any) -> ManifestEntry:
    return ManifestEntry(
        object_id=str(value["object_id"]),
        storage_key=str(value["storage_key"]),
        checksum=bytes.fromhex(value["checksum"]).hex() or _no_checksum(),
        size_bytes=int(value["size_bytes"]),
        subject=str(value.get("subject") or ""),
        folder_id=str(value.get("folder_id") or ""),
        attachments=tuple(_parse_attachment(item) for item in value.get("attachments") or ()),
    )


def _no_checksum() -> str:
    raise ValueError("an entry without a checksum")


def _parse_attachment(value: Any) -> JsonObject:
    item = dict(value)
    for name in ("size_bytes", "content_bytes"):
        item[name] = int(item.get(name) or 0)
    item["checksum"] = bytes.fromhex(item.get("checksum") or "").hex()  # Atlas may lack the content
    return item


def entries_of(manifests: Sequence[Manifest]) -> dict[str, ManifestEntry]:
    """Return the newest entry of every object id over manifests given oldest first."""
    return {entry.object_id: entry for manifest in manifests for entry in manifest.entries}
