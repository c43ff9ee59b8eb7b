"""Snapshots written straight through the catalog, without a mailbox behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from atlas_async.catalog.head import Head, write_head
from atlas_async.catalog.ledger import write_ledger
from atlas_async.catalog.manifest import write_manifest
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import Run, write_run
from atlas_async.catalog.vault import Vault
from atlas_async.model.message import message_plaintext, message_record
from atlas_async.model.record import (
    AttachmentRecord,
    MessageRecord,
    Row,
    Tombstone,
    attachment_key,
    message_key,
)
from atlas_async.model.report import NotStored
from tests.fakes.vaults import sha256_of


@dataclass(frozen=True)
class Letter:
    """A message to be committed: its subject makes its content."""

    subject: str
    attachments: Mapping[str, bytes] = field(default_factory=dict)


async def stored_letter(vault: Vault, object_id: str, letter: Letter) -> MessageRecord:
    """Store a message with its attachments and return its record."""
    resource = {"id": object_id, "subject": letter.subject, "isRead": False}
    plaintext = message_plaintext(resource)
    record = message_record(resource, "F1", plaintext)
    await vault.put_plaintext(message_key(vault.mailbox_id, plaintext.checksum), plaintext.data)
    if letter.attachments:
        record["attachments"] = [
            await stored_attachment(vault, name, content)
            for name, content in letter.attachments.items()
        ]
    return record


async def stored_attachment(vault: Vault, name: str, content: bytes) -> AttachmentRecord:
    """Store an attachment and return its record."""
    checksum = sha256_of(content)
    await vault.put_plaintext(attachment_key(vault.mailbox_id, checksum), content)
    return AttachmentRecord(
        attachment_id=f"id-of-{name}",
        name=name,
        type="file",
        content_type="application/octet-stream",
        size_bytes=len(content) + 200,
        content_bytes=len(content),
        checksum=checksum,
        is_inline=False,
    )


async def committed(
    vault: Vault,
    snapshot_id: str,
    letters: Mapping[str, Letter | None],
    *,
    base: Snapshot | None = None,
    ledger: Sequence[NotStored] = (),
    created_at: str = "2026-04-20T12:00:00.000Z",
) -> Snapshot:
    """Commit a snapshot of the letters over ``base``; None removes a message."""
    rows: list[Row] = [
        Tombstone(object_id=i, gone=True)
        if letter is None
        else await stored_letter(vault, i, letter)
        for i, letter in letters.items()
    ]
    runs: tuple[Run, ...] = (*(base.runs if base else ()), await write_run(vault, rows))
    start = base or Snapshot("", vault.mailbox_id, "", "", complete=False)
    snapshot = replace(
        start,
        snapshot_id=snapshot_id,
        created_at=created_at,
        started_at=created_at,
        complete=not ledger,
        parent=base.snapshot_id if base else None,
        messages=sum(letter is not None for letter in letters.values()),
        runs=runs,
        ledger=await write_ledger(vault, tuple(ledger)),
    )

    async def own_rows() -> AsyncIterator[list[Row]]:
        yield rows

    await write_manifest(vault, snapshot, own_rows, len(rows), spool_directory=None)
    await write_head(vault, Head(snapshot))
    return snapshot
