"""Where things lie in the bucket. The first group is shared with Atlas, the second is ours."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from atlas_async.errors import UsageError

DEK_KEY: Final = "_meta/dek.enc"
REPLICA_MARKER_KEY: Final = "_meta/replica.marker"
DATA_PREFIX: Final = "data/"
ATTACHMENTS_PREFIX: Final = "attachments/"
MANIFESTS_PREFIX: Final = "manifests/"

CATALOG_PREFIX: Final = "catalog/"

LAST_LEASE: Final = (1 << 63) - 1
"""Leases are named by how far they are from this number, so the newest is listed first."""
MOST_LEASES: Final = 1 << 48
"""More than runs can be. A number above it was planted, to leave no room for the next."""

MAX_MAILBOX_ID: Final = 320
"""Longest mail address: 64 + 1 + 255 characters (RFC 5321, section 4.5.3.1)."""


MAX_SNAPSHOT_ID: Final = 100


def check_mailbox_id(mailbox_id: str) -> str:
    """Return ``mailbox_id`` when it can stand in a key, else raise ``UsageError``.

    Slashes, control characters and names of only dots would change what a key means.
    """
    bad = (
        not mailbox_id
        or len(mailbox_id) > MAX_MAILBOX_ID
        or "/" in mailbox_id
        or "\\" in mailbox_id
        or not mailbox_id.strip(".")
        or not mailbox_id.isprintable()
        or mailbox_id != mailbox_id.lower()
    )
    if bad:
        msg = f"not a mailbox address that can be stored: {ascii(mailbox_id)[:80]}"
        raise UsageError(msg, hint="give the address as Microsoft 365 shows it, in lower case")
    return mailbox_id


def is_mailbox_id(name: str) -> bool:
    """Tell whether ``name`` can be a mailbox's; a bucket's owner may put any key into it."""
    try:
        check_mailbox_id(name)
    except UsageError:
        return False
    return True


def is_snapshot_id(name: str) -> bool:
    """Tell whether ``name`` can be a snapshot's: ours and Atlas's are UUIDs."""
    return 0 < len(name) <= MAX_SNAPSHOT_ID and name.isprintable() and "/" not in name


def manifest_key(mailbox_id: str, snapshot_id: str) -> str:
    """Return the key of a snapshot's manifest, the commit point."""
    return f"{MANIFESTS_PREFIX}{mailbox_id}/{snapshot_id}.json"


def snapshot_key(mailbox_id: str, snapshot_id: str) -> str:
    """Return the key of a snapshot's descriptor."""
    return f"{CATALOG_PREFIX}{mailbox_id}/snapshots/{snapshot_id}"


def head_key(mailbox_id: str) -> str:
    """Return the key of a mailbox's head: the newest snapshot and the open checkpoint."""
    return f"{CATALOG_PREFIX}{mailbox_id}/head"


def segments_prefix(mailbox_id: str) -> str:
    """Return what the keys of a mailbox's segments start with."""
    return f"{CATALOG_PREFIX}{mailbox_id}/segments/"


def segment_key(mailbox_id: str, checksum: str) -> str:
    """Return the key of a segment of records, named by the SHA-256 of its plaintext."""
    return f"{segments_prefix(mailbox_id)}{checksum}"


def ledger_key(mailbox_id: str, checksum: str) -> str:
    """Return the key of a ledger, named by the SHA-256 of its plaintext."""
    return f"{CATALOG_PREFIX}{mailbox_id}/ledgers/{checksum}"


def carry_key(mailbox_id: str, checksum: str) -> str:
    """Return the key of what an unfinished run carries over, named by its SHA-256."""
    return f"{CATALOG_PREFIX}{mailbox_id}/carries/{checksum}"


def original_key(mailbox_id: str, checksum: str) -> str:
    """Return the key of a message's original MIME, named by the SHA-256 of its plaintext."""
    return f"{CATALOG_PREFIX}{mailbox_id}/originals/{checksum}"


def index_prefix(mailbox_id: str) -> str:
    """Return what the keys of a mailbox's index of words start with."""
    return f"{CATALOG_PREFIX}{mailbox_id}/index/"


def index_head_key(mailbox_id: str) -> str:
    """Return the key of the object that says what an index of words is made of."""
    return f"{index_prefix(mailbox_id)}head"


def index_part_key(mailbox_id: str, checksum: str) -> str:
    """Return the key of a part of an index of words, named by the SHA-256 of its plaintext."""
    return f"{index_prefix(mailbox_id)}parts/{checksum}"


def restores_prefix(mailbox_id: str) -> str:
    """Return what the keys of a mailbox's restores start with."""
    return f"{CATALOG_PREFIX}{mailbox_id}/restores/"


class LeasePlace(StrEnum):
    """What a lease is of: writing a mailbox's backups, or restoring from them."""

    BACKUP = "lease/"
    RESTORE = "restores/lease/"


def lease_prefix(mailbox_id: str, place: LeasePlace = LeasePlace.BACKUP) -> str:
    """Return what the keys of a mailbox's leases start with."""
    return f"{CATALOG_PREFIX}{mailbox_id}/{place.value}"


def lease_key(mailbox_id: str, number: int, place: LeasePlace = LeasePlace.BACKUP) -> str:
    """Return the key of the lease of a number."""
    return f"{lease_prefix(mailbox_id, place)}{LAST_LEASE - number:016x}"


def lease_number(key: str) -> int:
    """Return the number of a lease by its key; 0 for a key that no run has made."""
    name = key[key.rindex("/") + 1 :]
    try:
        number = LAST_LEASE - int(name, 16)
    except ValueError:
        return 0
    is_ours = 0 < number <= MOST_LEASES and name == f"{LAST_LEASE - number:016x}"
    return number if is_ours else 0
