"""Vaults over buckets in memory, with a fixed key."""

from __future__ import annotations

import hashlib

from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import Sealer
from atlas_async.store.base import ObjectStore, StoredObject
from atlas_async.store.memory import MemoryBucket, MemoryStore

MAILBOX = "anna@contoso.com"
OTHER_MAILBOX = "ben@contoso.com"
DEK = bytes(range(32))


def existing_store(objects: dict[str, StoredObject] | None = None) -> MemoryStore:
    """Return a store over a bucket that exists; it holds a copy of ``objects``."""
    return MemoryStore(MemoryBucket(dict(objects or {}), exists=True))


def new_vault(store: ObjectStore | None = None, mailbox_id: str = MAILBOX) -> Vault:
    """Return a vault under the fixed key."""
    return Vault(existing_store() if store is None else store, Sealer(DEK), mailbox_id)


def md5_of(body: bytes) -> bytes:
    """Return the digest that a PUT carries."""
    return hashlib.md5(body, usedforsecurity=False).digest()


def sha256_of(data: bytes) -> str:
    """Return the name that content gets."""
    return hashlib.sha256(data).hexdigest()


async def plant(store: ObjectStore, key: str, body: bytes) -> None:
    """Put ``body`` below ``key``, as somebody with access to the bucket could."""
    await store.put(key, body, md5=md5_of(body))
