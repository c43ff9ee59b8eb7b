"""A mailbox's head: one small object that says where the next run starts.

It holds a copy of the newest committed descriptor and, while a run is under way, its checkpoint.
The head is a convenience, not a commit point: when it is missing, damaged or behind, it is found
again from the manifests.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.layout import head_key
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.vault import Vault
from atlas_async.errors import IntegrityError, ObjectNotFound


@dataclass(frozen=True, slots=True)
class Head:
    """The newest committed snapshot and the checkpoint of an unfinished run, each if any."""

    snapshot: Snapshot | None = None
    checkpoint: Snapshot | None = None


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
    return Head(*parts)


async def write_head(vault: Vault, head: Head) -> None:
    """Replace the mailbox's head. Everything it names must be durable already (I1)."""
    await vault.put_document(
        head_key(vault.mailbox_id),
        {
            "format": FORMAT,
            "kind": "head",
            "mailbox_id": vault.mailbox_id,
            "snapshot": head.snapshot.to_json() if head.snapshot else None,
            "checkpoint": head.checkpoint.to_json() if head.checkpoint else None,
        },
    )
