"""Look after what Graph showed and the snapshots lack: list it, name it, give it up.

Everything here is about the newest snapshot of a mailbox, because its ledger is what the next run
goes on from. Snapshots that Atlas wrote have no ledger.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from atlas_async.catalog.head import Head, hold_mailbox, read_head, write_head
from atlas_async.catalog.layout import REPLICA_MARKER_KEY
from atlas_async.catalog.ledger import Ledger, read_ledger, same_entries, write_ledger
from atlas_async.catalog.manifest import write_manifest
from atlas_async.catalog.reader import MailboxReader, moment_of
from atlas_async.catalog.snapshot import (
    LedgerRef,
    Snapshot,
    commit_moment,
    new_snapshot_id,
)
from atlas_async.catalog.vault import Vault
from atlas_async.clock import iso_millis
from atlas_async.errors import (
    IntegrityError,
    NewerFormat,
    ReplicaRefused,
    SnapshotNotFound,
    UsageError,
)
from atlas_async.model.record import Row
from atlas_async.model.report import NotStored
from atlas_async.operations.listing import MIN_PREFIX, unknown_mailbox
from atlas_async.operations.tenant import Tenant


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry of a mailbox's newest ledger.

    Args:
        mailbox_id: Whose.
        snapshot_id: The newest snapshot, which lacks it.
        item: What is missing and why.
        folder: Names of the folder it was seen in, from the top; empty for one that is not known.
        first_run_at: When the run that met it first began, ISO 8601; empty where that is not known.
        last_run_at: The same of the last run that committed a snapshot after it had tried it.
    """

    mailbox_id: str
    snapshot_id: str
    item: NotStored
    folder: tuple[str, ...] = ()
    first_run_at: str = ""
    last_run_at: str = ""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What giving items up came to.

    ``snapshot_id`` is the snapshot that was committed, None when all were forgotten already.
    """

    mailbox_id: str
    snapshot_id: str | None
    entries: tuple[LedgerEntry, ...]


async def list_ledger(
    tenant: Tenant, mailboxes: Sequence[str] | None = None, *, include_forgotten: bool = False
) -> list[LedgerEntry]:
    """Return what the newest snapshots lack, mailbox by mailbox, in the order it was first met.

    Args:
        tenant: Where to look.
        mailboxes: Addresses; None for all.
        include_forgotten: With what was given up.

    Raises:
        SnapshotNotFound: A mailbox has no snapshots.
        IntegrityError: A ledger is damaged.
    """
    await tenant.open_for_reading()
    found: list[LedgerEntry] = []
    for mailbox_id in await _mailbox_ids(tenant, mailboxes):
        vault, _ = tenant.vault(mailbox_id)
        snapshot = (await newest_head(vault)).snapshot
        if snapshot is None:
            if mailboxes is not None and not await MailboxReader(vault).snapshot_ids():
                raise await unknown_mailbox(tenant, mailbox_id)
            continue
        paths = {folder.id: folder.path for folder in snapshot.folders}
        found.extend(
            LedgerEntry(
                mailbox_id,
                snapshot.snapshot_id,
                item,
                paths.get(item.folder_id, ()),
                moment_of(item.first_run),
                moment_of(item.last_run),
            )
            for item in await read_ledger(vault, snapshot.ledger)
            if include_forgotten or not item.forgotten
        )
    return found


async def find_in_ledger(
    tenant: Tenant, ids: Sequence[str], mailboxes: Sequence[str] | None = None
) -> list[LedgerEntry]:
    """Return the entries of these ids, forgotten ones too, each once, in the order of the ids.

    Args:
        tenant: Where to look.
        ids: Of entries, or their beginnings; or whole Graph ids, which name all entries of a
            message, an attachment or a folder.
        mailboxes: Addresses; None for all.

    Raises:
        SnapshotNotFound: A mailbox has no snapshots, or no ledger has such an entry.
        UsageError: A beginning is too short, or fits several entries.
    """
    entries = await list_ledger(tenant, mailboxes, include_forgotten=True)
    found = {
        (entry.mailbox_id, entry.item.id): entry
        for wanted in ids
        for entry in _named(entries, wanted.strip(), tenant.store.name)
    }
    return list(found.values())


async def forget(tenant: Tenant, ids: Sequence[str], mailbox: str) -> Forgetting:
    """Give items of one mailbox up: they count as missing no more and are not tried again.

    Their entries stay in the ledger, marked. A snapshot is never changed, so this commits a new one
    of the same mail.

    Args:
        tenant: Where.
        ids: As ``find_in_ledger`` takes them.
        mailbox: Address.

    Raises:
        SnapshotNotFound, UsageError: As ``find_in_ledger``; nothing was written.
        ReplicaRefused: The bucket is a replica.
        LockedError: A run holds the mailbox for longer than the settings wait for it.
        StoreError: The store failed; the previous snapshot stands.
    """
    entries = await find_in_ledger(tenant, ids, [mailbox])
    if await tenant.store.head(REPLICA_MARKER_KEY) is not None:
        msg = "this bucket is a replica of another one"
        raise ReplicaRefused(msg, hint="forget it in the source bucket", where=tenant.store.name)
    mailbox_id = mailbox.strip().lower()
    wait = tenant.settings.limits.lock_wait
    async with tenant.writing(mailbox_id, wait=wait) as (vault, _):
        await hold_mailbox(vault)
        snapshot = await _give_up(tenant, vault, {entry.item.id for entry in entries})
    marked = await find_in_ledger(tenant, [entry.item.id for entry in entries], [mailbox])
    return Forgetting(mailbox_id, snapshot.snapshot_id if snapshot else None, tuple(marked))


async def newest_head(vault: Vault) -> Head:
    """Return where the next run starts; a missing or damaged head is found from the manifests."""
    try:
        head = await read_head(vault)
    except NewerFormat:
        raise
    except IntegrityError:
        head = None
    return head or Head(await MailboxReader(vault).latest())


async def _give_up(tenant: Tenant, vault: Vault, ids: set[str]) -> Snapshot | None:
    """Commit the newest snapshot anew with entries marked as forgotten.

    The checkpoint of an unfinished run goes on from the new snapshot, so none of its work is lost.
    """
    head = await newest_head(vault)
    base = head.snapshot
    if base is None:
        return None
    now = tenant.clock.now()
    ledger = await _marked(vault, base, ids, iso_millis(now))
    if ledger == base.ledger:
        return None
    moment = commit_moment(now, base)
    snapshot = replace(
        base.without_counts(),
        snapshot_id=new_snapshot_id(now),
        parent=base.snapshot_id,
        created_at=moment,
        started_at=moment,
        full_run=False,
        ledger=ledger,
    )
    checkpoint = None
    if head.start is not base and head.start is not None:
        marked = await _marked(vault, head.start, ids, iso_millis(now))
        checkpoint = replace(head.start, parent=snapshot.snapshot_id, ledger=marked)
    await write_manifest(vault, snapshot, _no_rows, 0, spool_directory=None)
    await write_head(vault, Head(snapshot, checkpoint), last=True)
    return snapshot


async def _marked(vault: Vault, state: Snapshot, ids: set[str], moment: str) -> LedgerRef | None:
    """Store a state's ledger with entries given up and return where; the same when none changes."""
    before = await read_ledger(vault, state.ledger)
    ledger = Ledger(before, "")
    ledger.give_up(ids, moment)
    if same_entries(before, ledger.entries):
        return state.ledger
    return await write_ledger(vault, ledger.entries)


async def _no_rows() -> AsyncIterator[list[Row]]:
    """Yield nothing: no message was stored, changed or moved."""
    nothing: tuple[list[Row], ...] = ()
    for rows in nothing:
        yield rows


async def _mailbox_ids(tenant: Tenant, mailboxes: Sequence[str] | None) -> list[str]:
    if mailboxes is None:
        return await tenant.mailbox_ids()
    return list(dict.fromkeys(address.strip().lower() for address in mailboxes))


def _named(entries: list[LedgerEntry], wanted: str, where: str) -> list[LedgerEntry]:
    """Return the entries that a text names: by Graph's id, whole, or by the start of their own."""
    if len(wanted) < MIN_PREFIX:
        msg = f"an entry is named by at least {MIN_PREFIX} characters of its id"
        raise UsageError(msg, hint="'atlas ledger' lists them")
    by_graph = [e for e in entries if wanted in (e.item.object_id, e.item.attachment_id)]
    if by_graph:
        return by_graph
    matches = [e for e in entries if e.item.id.startswith(wanted.lower())]
    if not matches:
        msg = f"no ledger has an entry {wanted}"
        raise SnapshotNotFound(msg, where=where, hint="'atlas ledger list --all' lists them all")
    if len({(e.mailbox_id, e.item.id) for e in matches}) > 1:
        names = ", ".join(f"{e.item.id} of {e.mailbox_id}" for e in matches[:5])
        msg = f"{wanted} is the beginning of {len(matches)} entries: {names}"
        raise UsageError(msg, hint="give more of the id, or the mailbox with -m")
    return matches
