"""Read a message's original MIME back, checked before a byte of it is handed on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from atlas_async.catalog import content
from atlas_async.catalog.content import SealedContent
from atlas_async.errors import SnapshotNotFound
from atlas_async.model.record import MessageRecord
from atlas_async.operations.reading import find_message
from atlas_async.operations.tenant import Tenant


@asynccontextmanager
async def open_original(
    tenant: Tenant, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
) -> AsyncIterator[SealedContent]:
    """Open the original of a message, named as ``reading.read_message`` takes it.

    It is read twice: once to check all of it, and once to hand it on, as plaintext is never put
    anywhere in between.

    Raises:
        SnapshotNotFound: No such message, or no original of it is stored.
        UsageError: Several messages match.
        IntegrityError: The stored object is not what was written, or missing (``PartMissing``).
    """
    view, record = await find_message(tenant, object_id, snapshot=snapshot, mailbox=mailbox)
    if "original" not in record:
        raise _without_original(record)
    vault, _ = tenant.vault(view.summary.mailbox_id)
    async with content.open_original(vault, record) as checked:
        async for _ in checked:
            pass
    async with content.open_original(vault, record) as opened:
        yield opened


def _without_original(record: MessageRecord) -> SnapshotNotFound:
    refused = record.get("original_refused")
    if refused:
        return SnapshotNotFound(
            f"there is no original of this message: Microsoft Graph gave none ({refused})",
            hint="'atlas read' without --mime shows what is stored; its attachments are too",
        )
    return SnapshotNotFound(
        "no original of this message is stored in this snapshot",
        hint="'atlas backup --mime' stores originals of new mail, with --full of all; "
        "'atlas read' without --mime shows what is stored",
    )
