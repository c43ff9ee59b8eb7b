"""Try again for what earlier runs could not store; no delta shows it again (I3).

Stage 3b are messages. Stage 4b, after removals are verified, are attachments and originals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from atlas_async.catalog.head import Head
from atlas_async.catalog.ledger import Ledger, key_of
from atlas_async.catalog.segment import slot_of
from atlas_async.config.settings import FolderChoice
from atlas_async.errors import ConsentError, GraphError, GraphThrottled, SnapshotNotFound
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import NotStored
from atlas_async.model.source import Folder
from atlas_async.pipeline.batch import SettledPage, loose_batch
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.ports import MailboxSource
from atlas_async.pipeline.settle import Settler
from atlas_async.pipeline.surroundings import RunOptions
from atlas_async.pipeline.tree import FolderTree, recorded_tree
from atlas_async.side_by_side import side_by_side

TRIES_AT_ONCE: Final = 4
"""Items asked for at once: as many as Graph grants a mailbox."""

NOT_FOUND: Final = "ErrorItemNotFound"
INSISTENT: Final = "the folder still shows it, but Microsoft Graph does not find it when asked"


def as_recorded(head: Head, options: RunOptions) -> tuple[RunOptions, FolderTree]:
    """Return options and folders of a run that tries the ledger only: those of the last run.

    Raises:
        SnapshotNotFound: There is no snapshot to go on from.
    """
    start = head.start
    if head.snapshot is None or start is None:
        raise SnapshotNotFound("no snapshot whose ledger could be tried again")
    folders = FolderChoice(
        exclude_well_known=frozenset(start.excluded), recoverable=start.recoverable
    )
    return replace(options, folders=folders, full=False), recorded_tree(start)


def entries_to_try(ledger: Ledger, ids: frozenset[str] | None) -> tuple[NotStored, ...]:
    """Return the entries that a run tries; forgotten ones that were asked for are open again.

    Args:
        ledger: The mailbox's.
        ids: What was asked for; None is what every run does of its own.
    """
    if ids is None:
        return ledger.open
    ledger.reopen(ids)
    return tuple(entry for entry in ledger.entries if entry.id in ids)


def folders_to_read(tree: FolderTree, entries: tuple[NotStored, ...]) -> FolderTree:
    """Return the tree with those of its folders to be read that could not be read before."""
    wanted = {entry.object_id for entry in entries if entry.kind == "folder"}
    return replace(tree, read=tuple(folder for folder in tree.folders if folder.id in wanted))


def still_missing(
    ledger: Ledger, before: tuple[NotStored, ...], tried: tuple[NotStored, ...]
) -> tuple[NotStored, ...]:
    """Return what a run that tried some entries of a ledger leaves to be desired.

    That is those of them that are still open, and what was not missing before.
    """
    left_alone = {key_of(entry) for entry in before} - {key_of(entry) for entry in tried}
    return tuple(entry for entry in ledger.open if key_of(entry) not in left_alone)


async def retry_messages(
    source: MailboxSource,
    settler: Settler,
    journal: Journal,
    tried: tuple[NotStored, ...],
    next_sequence: Callable[[], int],
    *,
    read_all: bool,
) -> None:
    """Fetch open messages once more, before removals are verified; folders come by themselves.

    Args:
        source: The mailbox.
        settler: Gives every item its outcome.
        journal: Takes the outcomes.
        tried: Entries from before this run; those it has met already are left alone.
        next_sequence: Numbers things in the order they are fetched.
        read_all: Whether this run has read all folders, and knows which there are.

    Raises:
        StoreError, AuthError, GraphThrottled: The mailbox as a whole is affected.
    """
    folders = {folder.id: folder for folder in journal.draft.folders}
    found: dict[str, list[str]] = {}

    async def locate(entry: NotStored) -> None:
        folder_id = await _locate(source, entry)
        if folder_id is None:
            _not_found(journal, entry)
        elif folder_id in folders:
            found.setdefault(folder_id, []).append(entry.object_id)
        elif read_all:
            # It has moved to where nothing is backed up. A run that has not looked which folders
            # there are leaves that to one that does.
            journal.ledger.forget_object(entry.object_id)

    messages = [entry for entry in _not_met(journal, tried) if entry.kind == "message"]
    await side_by_side(locate, messages, at_once=TRIES_AT_ONCE)
    for folder_id, ids in sorted(found.items()):
        batch = loose_batch(folders[folder_id], ids, next_sequence())
        journal.absorb(await settler.settle(batch))


async def retry_parts(
    settler: Settler,
    journal: Journal,
    tried: tuple[NotStored, ...],
    next_sequence: Callable[[], int],
    *,
    originals: bool,
) -> None:
    """Fetch open attachments and originals once more, of messages that are there.

    That is known once removals are verified: what one folder says has left may be in another. One
    that is not found now is what its folder has shown, and stays in the ledger: only the folder can
    say that it was deleted, to the next run.

    Args:
        settler: Gives every item its outcome.
        journal: Takes the outcomes.
        tried: Entries from before this run; those it has met already are left alone.
        next_sequence: Numbers things in the order they are fetched.
        originals: Whether originals are tried; a run that does not want any leaves them alone.

    Raises:
        StoreError, AuthError, GraphThrottled: The mailbox as a whole is affected.
    """
    folders = {folder.id: folder for folder in journal.draft.folders}
    unverified = set[str]().union(*journal.carry.removed.values())

    async def again(
        kind: str, fetch: Callable[[MessageRecord, SettledPage], Awaitable[None]]
    ) -> None:
        still = _not_met(journal, tried)
        owners = sorted({entry.object_id for entry in still if entry.kind == kind} - unverified)
        known = await journal.known(owners)

        async def one(object_id: str) -> None:
            record = known.get(object_id)
            if record is None:
                journal.ledger.forget_object(object_id)
                return
            folder_id = record["folder_id"]
            folder = folders.get(folder_id) or Folder(folder_id, "", "", ())
            batch = replace(loose_batch(folder, [], next_sequence()), loose=False)
            page = SettledPage(batch)
            await fetch(record, page)
            journal.absorb(page, shown=False)

        await side_by_side(one, owners, at_once=TRIES_AT_ONCE)

    await again("attachment", settler.refetch_attachments)
    if originals:
        await again("original", settler.fetch_original)


def _not_met(journal: Journal, tried: tuple[NotStored, ...]) -> list[NotStored]:
    """Return the entries that are as they were before the run: what it met has had its try."""
    still_open = set(journal.ledger.entries)
    return [entry for entry in tried if entry in still_open]


async def _locate(source: MailboxSource, entry: NotStored) -> str | None:
    """Return where an open message is now, None when it is not found.

    It may have moved since it failed, even into a folder that is not backed up.
    """
    try:
        folder_id = await source.locate_message(entry.object_id)
    except GraphThrottled:
        raise
    except (GraphError, ConsentError):
        return entry.folder_id
    return entry.folder_id if folder_id == "" else folder_id


def _not_found(journal: Journal, entry: NotStored) -> None:
    """Give a message that is not found its outcome: gone, when its folder says so as well.

    A folder that said it left is believed after the lookup that all removals get. One that was
    enumerated anew and did not show it again lacks it. Otherwise it is there, and unreadable.
    """
    object_id = entry.object_id
    if any(object_id in ids for ids in journal.carry.removed.values()):
        return
    cursor = journal.cursors.get(entry.folder_id)
    ended = cursor is not None and not cursor.round_open and not cursor.full
    seen = journal.carry.seen.get(entry.folder_id)
    anew = entry.folder_id in journal.restarted if seen is None else slot_of(object_id) not in seen
    if cursor is None or (ended and anew):
        journal.ledger.forget_object(object_id)
    else:
        journal.fail(replace(entry, code=NOT_FOUND, reason=INSISTENT, permanent=False))
