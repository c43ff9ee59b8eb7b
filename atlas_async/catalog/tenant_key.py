"""Opening a tenant's bucket: the one DEK, made once however many runs start at once (I8)."""

from __future__ import annotations

import hashlib
from typing import Final

from anyio import to_thread

from atlas_async.catalog.layout import (
    ATTACHMENTS_PREFIX,
    CATALOG_PREFIX,
    DATA_PREFIX,
    DEK_KEY,
    MANIFESTS_PREFIX,
)
from atlas_async.clock import Clock
from atlas_async.config.secret import Secret
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import new_dek, unwrap_dek, wrap_dek
from atlas_async.errors import KeyMaterialError, ObjectExists, ObjectNotFound, ObjectTooLarge
from atlas_async.store.base import ObjectStore

SETTLE_SECONDS: Final = 2.0
"""On a store without conditional writes, how long a fresh key must stay what it is before use."""

MAX_DEK_BYTES: Final = 4096


async def open_tenant_key(store: ObjectStore, passphrase: Secret, tenant_id: str) -> Sealer | None:
    """Return the tenant's sealer, or None when the bucket has no key yet.

    Raises:
        KeyMaterialError: Wrong passphrase, or the wrapped key is damaged, hostile, or missing
            beside data that only it could open.
        StoreError: The store cannot be read.
    """
    blob = await _read_blob(store)
    if blob is None and await _holds_data(store):
        blob = await _read_blob(store)  # a first run beside this one may just have made it
        if blob is None:
            msg = "the bucket holds backups but the wrapped key _meta/dek.enc is missing"
            hint = "restore _meta/dek.enc from a copy or an older version; nothing was changed"
            raise KeyMaterialError(msg, hint=hint, where=store.name)
    return None if blob is None else await _unwrap(blob, passphrase, tenant_id)


async def make_tenant_key(
    store: ObjectStore, passphrase: Secret, tenant_id: str, *, version: int, clock: Clock
) -> Sealer:
    """Return the tenant's sealer, making the key when there is none.

    The key is written with a condition that none exists, so of two first runs one wins and the
    other uses the winner's. Where the store ignores the condition, the written key must be read
    back unchanged after ``SETTLE_SECONDS`` before anything is sealed with it; this narrows the
    window and cannot close it, which ``docs/design.md`` says.

    Raises: as ``open_tenant_key``.
    """
    sealer = await open_tenant_key(store, passphrase, tenant_id)
    if sealer is not None:
        return sealer
    blob = await to_thread.run_sync(
        lambda: wrap_dek(new_dek(), passphrase, tenant_id, version=version)
    )
    digest = hashlib.md5(blob, usedforsecurity=False).digest()
    try:
        await store.put(DEK_KEY, blob, md5=digest, if_absent=True)
    except ObjectExists:
        pass  # somebody else's first run won: read theirs below
    else:
        if not store.conditional_writes:
            await clock.sleep(SETTLE_SECONDS)
    return await _unwrap(await _get_blob(store), passphrase, tenant_id)


async def _unwrap(blob: bytes, passphrase: Secret, tenant_id: str) -> Sealer:
    return Sealer(await to_thread.run_sync(unwrap_dek, blob, passphrase, tenant_id))


async def _read_blob(store: ObjectStore) -> bytes | None:
    try:
        return await _get_blob(store)
    except ObjectNotFound:
        return None


async def _get_blob(store: ObjectStore) -> bytes:
    try:
        return (await store.get(DEK_KEY, most=MAX_DEK_BYTES)).body
    except ObjectTooLarge:
        msg = f"the wrapped key _meta/dek.enc is damaged: it has more than {MAX_DEK_BYTES} bytes"
        raise KeyMaterialError(msg, hint="restore this object from a copy") from None


async def _holds_data(store: ObjectStore) -> bool:
    """Tell whether the bucket has anything that only its lost key could open."""
    for prefix in (MANIFESTS_PREFIX, DATA_PREFIX, ATTACHMENTS_PREFIX, CATALOG_PREFIX):
        if (await store.list_page(prefix, limit=1)).objects:
            return True
    return False
