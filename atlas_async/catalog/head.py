"""A mailbox's head: one small object that says where the next run starts.

It holds a copy of the newest committed descriptor and, while a run is under way, its checkpoint.
The head is a convenience, not a commit point: when it is missing, damaged or behind, it is found
again from the manifests.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.layout import head_key
from atlas_async.catalog.lease import BaseMoved
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.vault import Vault
from atlas_async.errors import IntegrityError, NewerFormat, ObjectNotFound


@dataclass(frozen=True, slots=True)
class Head:
    """The newest committed snapshot and the checkpoint of an unfinished run, each if any.

    ``lease`` is the number of the last lease whose run ended in order; None when nobody said.
    """

    snapshot: Snapshot | None = None
    checkpoint: Snapshot | None = None
    lease: int | None = None

    @property
    def start(self) -> Snapshot | None:
        """What a run goes on from: the checkpoint when it continues the snapshot, or that."""
        newest = self.snapshot.snapshot_id if self.snapshot else None
        continues = self.checkpoint is not None and self.checkpoint.parent == newest
        return self.checkpoint if continues else self.snapshot


async def read_head(vault: Vault) -> Head | None:
    """Return the mailbox's head, or None when there is none.

    Raises:
        IntegrityError: It is damaged; ``reader.latest_snapshot`` finds the newest without it.
    """
    key = head_key(vault.mailbox_id)
    try:
        document = await vault.read_document(key, kind="head")
    except ObjectNotFound:
        return None
    parts = []
    for name in ("snapshot", "checkpoint"):
        value = document.get(name)
        part = None if value is None else Snapshot.from_json(value, where=key)
        if part is not None and part.mailbox_id != vault.mailbox_id:
            msg = f"the {name} in this head belongs to another mailbox"
            raise IntegrityError(msg, where=key)
        parts.append(part)
    lease = document.get("lease")
    return Head(parts[0], parts[1], lease if isinstance(lease, int) else None)


async def write_head(vault: Vault, head: Head, *, last: bool = False) -> None:
    """Replace the mailbox's head. Everything it names must be durable already (I1).

    Args:
        vault: The mailbox's objects; its lease is what the head names, not ``head.lease``.
        head: What to write.
        last: Whether this is the run's last write, after which its lease is free.

    Raises:
        LockedError: The lease is no longer this run's.
        StoreError: The store failed.
    """
    await vault.before_commit()
    lease = vault.lease
    number = None if lease is None else lease.number if last else lease.before
    await vault.put_document(
        head_key(vault.mailbox_id),
        {
            "format": FORMAT,
            "kind": "head",
            "mailbox_id": vault.mailbox_id,
            "snapshot": head.snapshot.to_json() if head.snapshot else None,
            "checkpoint": head.checkpoint.to_json() if head.checkpoint else None,
            "lease": number,
        },
    )
    if lease is not None and last:
        lease.finished = True


async def hold_mailbox(vault: Vault) -> Head | None:
    """Take the mailbox's lease now and return its head, which nobody changes any more.

    Nothing happens for a vault without a lease but the reading of the head. A damaged head is
    returned as none.

    Raises:
        LockedError: Another run holds the mailbox.
        NewerFormat: A newer program wrote the head.
        StoreError: The store failed.
    """
    lease = vault.lease
    while True:
        head = await readable_head(vault)
        if lease is None:
            return head

        async def stands(known: Head | None = head) -> bool:
            return await readable_head(vault) == known

        lease.begin(head.lease if head else None, stands)
        try:
            await lease.take()
        except BaseMoved:
            continue
        return head


async def readable_head(vault: Vault) -> Head | None:
    """Return the mailbox's head; None when there is none or nobody can read it.

    Raises:
        NewerFormat: A newer program wrote it.
        StoreError: The store failed.
    """
    try:
        return await read_head(vault)
    except NewerFormat:
        raise
    except IntegrityError:
        return None
