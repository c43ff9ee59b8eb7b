"""Stage 3b: try again for what earlier runs could not store; no delta shows it again (I3)."""

from __future__ import annotations

from collections.abc import Callable

from atlas_async.errors import ConsentError, GraphError, GraphThrottled
from atlas_async.model.report import NotStored
from atlas_async.model.source import Folder
from atlas_async.pipeline.batch import PageBatch, SettledPage, loose_batch
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.ports import MailboxSource
from atlas_async.pipeline.settle import Settler


async def retry_ledger(
    source: MailboxSource,
    settler: Settler,
    journal: Journal,
    before: tuple[NotStored, ...],
    next_sequence: Callable[[], int],
) -> None:
    """Fetch open messages and attachments once more; folders come by themselves.

    Args:
        source: The mailbox.
        settler: Gives every item its outcome.
        journal: Takes the outcomes.
        before: The ledger this run began with; entries it has met already are left alone.
        next_sequence: Numbers things in the order they are fetched.

    Raises:
        StoreError, AuthError, GraphThrottled: The mailbox as a whole is affected.
    """
    still_open = set(journal.ledger.entries)
    entries = [entry for entry in before if entry in still_open]
    folders = {folder.id: folder for folder in journal.draft.folders}

    def batch(folder_id: str, ids: list[str]) -> PageBatch:
        folder = folders.get(folder_id) or Folder(folder_id, "", "", ())
        return loose_batch(folder, ids, next_sequence())

    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.kind == "message":
            folder_id = await _locate(source, entry)
            if folder_id in folders:
                found.setdefault(folder_id, []).append(entry.object_id)
            else:
                journal.ledger.forget_object(entry.object_id)
    for folder_id, ids in found.items():
        journal.absorb(await settler.settle(batch(folder_id, ids)))
    owners = sorted({entry.object_id for entry in entries if entry.kind == "attachment"})
    known = await journal.known(owners)
    for object_id in owners:
        record = known.get(object_id)
        if record is None:
            journal.ledger.forget_object(object_id)
            continue
        page = SettledPage(batch(record["folder_id"], []))
        await settler.refetch_attachments(record, page)
        journal.absorb(page)


async def _locate(source: MailboxSource, entry: NotStored) -> str | None:
    """Return where an open message is now, None when it is gone.

    It may have moved since it failed, even into a folder that is not backed up.
    """
    try:
        folder_id = await source.locate_message(entry.object_id)
    except GraphThrottled:
        raise
    except (GraphError, ConsentError):
        return entry.folder_id
    return entry.folder_id if folder_id == "" else folder_id
