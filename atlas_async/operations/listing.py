"""Say what a bucket holds: mailboxes, snapshots, and what one snapshot shows."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_async.catalog.layout import manifest_key
from atlas_async.catalog.reader import MailboxReader, SnapshotSummary, SnapshotView
from atlas_async.errors import IntegrityError, SnapshotNotFound, UsageError
from atlas_async.operations.tenant import Tenant

MIN_PREFIX = 4
"""Shortest beginning of a snapshot id that is looked up."""

LOST_NEWEST = "the head names this snapshot as the newest, and its manifest is gone"


@dataclass(frozen=True, slots=True)
class MailboxSummary:
    """One mailbox of a bucket with its newest snapshot."""

    mailbox_id: str
    snapshots: int
    latest: SnapshotSummary | None


async def list_mailboxes(tenant: Tenant) -> list[MailboxSummary]:
    """Return the mailboxes that have snapshots, sorted by address."""
    await tenant.open_for_reading()
    found = []
    for mailbox_id in await tenant.mailbox_ids():
        snapshots = await MailboxReader(tenant.vault(mailbox_id)[0]).snapshots()
        latest = snapshots[-1] if snapshots else None
        found.append(MailboxSummary(mailbox_id, len(snapshots), latest))
    return found


async def list_snapshots(tenant: Tenant, mailbox: str) -> list[SnapshotSummary]:
    """Return a mailbox's snapshots, oldest first.

    Raises:
        SnapshotNotFound: The bucket has none of this mailbox.
    """
    await tenant.open_for_reading()
    mailbox_id = mailbox.strip().lower()
    snapshots = await MailboxReader(tenant.vault(mailbox_id)[0]).snapshots()
    if not snapshots:
        raise await unknown_mailbox(tenant, mailbox_id)
    return snapshots


async def open_snapshot(
    tenant: Tenant, snapshot: str | None, mailbox: str | None = None
) -> SnapshotView:
    """Open a snapshot by its id or the beginning of it, or a mailbox's newest one.

    Raises: as ``find_snapshot``; ``IntegrityError`` when it is damaged.
    """
    mailbox_id, snapshot_id = await find_snapshot(tenant, snapshot, mailbox)
    return await MailboxReader(tenant.vault(mailbox_id)[0]).open(snapshot_id)


async def find_snapshot(
    tenant: Tenant, snapshot: str | None, mailbox: str | None = None
) -> tuple[str, str]:
    """Return mailbox and id of a snapshot named by (the beginning of) its id, or of the newest.

    Raises:
        SnapshotNotFound: Nothing matches.
        UsageError: More than one does, or neither a snapshot nor a mailbox is given.
    """
    await tenant.open_for_reading()
    wanted = (snapshot or "latest").strip().lower()
    mailbox_id = mailbox.strip().lower() if mailbox else None
    if wanted == "latest":
        if mailbox_id is None:
            msg = "the newest snapshot of which mailbox?"
            raise UsageError(msg, hint="name it with -m MAILBOX")
        newest = await MailboxReader(tenant.vault(mailbox_id)[0]).newest_id()
        if newest is None:
            raise await unknown_mailbox(tenant, mailbox_id)
        return mailbox_id, newest
    if len(wanted) < MIN_PREFIX:
        msg = f"a snapshot is named by at least {MIN_PREFIX} characters of its id"
        raise UsageError(msg)
    matches: list[tuple[str, str]] = []
    for candidate in [mailbox_id] if mailbox_id else await tenant.mailbox_ids():
        ids = await MailboxReader(tenant.vault(candidate)[0]).snapshot_ids()
        matches.extend((candidate, i) for i in ids if i.lower().startswith(wanted))
    matches = [match for match in matches if match[1].lower() == wanted] or matches
    if not matches:
        msg = f"no snapshot {wanted}"
        raise SnapshotNotFound(msg, where=mailbox_id or tenant.store.name, hint="see `atlas list`")
    if len(matches) > 1:
        names = ", ".join(snapshot_id for _, snapshot_id in matches[:5])
        msg = f"{wanted} is the beginning of {len(matches)} snapshots: {names}"
        raise UsageError(msg, hint="give more of the id")
    return matches[0]


async def known_mailboxes(tenant: Tenant) -> list[str]:
    """Return the mailboxes that have snapshots, and those that had: their heads still tell."""
    found = set(await tenant.mailbox_ids())
    for mailbox_id in set(await tenant.mailbox_ids_of_objects()) - found:
        try:
            lost = await MailboxReader(tenant.vault(mailbox_id)[0]).lost_newest()
        except IntegrityError:
            lost = ""  # whoever opens the mailbox meets the damage
        if lost is not None:
            found.add(mailbox_id)
    return sorted(found)


async def unknown_mailbox(tenant: Tenant, mailbox_id: str) -> SnapshotNotFound | IntegrityError:
    """Return the error for a mailbox without snapshots; its hint names some that have.

    Raises:
        IntegrityError: Its head is damaged.
    """
    lost = await MailboxReader(tenant.vault(mailbox_id)[0]).lost_newest()
    if lost is not None:
        return IntegrityError(
            f"no snapshot of this mailbox is left: {LOST_NEWEST}",
            where=manifest_key(mailbox_id, lost),
            hint="restore the manifests from a copy of the bucket, or from their older versions",
        )
    known = await tenant.mailbox_ids()
    shown = ", ".join(known[:5]) + (" ..." if len(known) > 5 else "")  # noqa: PLR2004 -- a taste
    hint = f"the bucket has: {shown}" if known else "nothing is backed up yet: run `atlas backup`"
    return SnapshotNotFound(f"no snapshots of {mailbox_id}", where=tenant.store.name, hint=hint)
