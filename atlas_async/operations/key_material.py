"""The wrapped key as an object among others: reading it, opening it, proving that it is the one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from anyio import to_thread

from atlas_async.catalog.layout import (
    ATTACHMENTS_PREFIX,
    DATA_PREFIX,
    DEK_KEY,
    MANIFESTS_PREFIX,
    head_key,
)
from atlas_async.catalog.tenant_key import MAX_DEK_BYTES
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek
from atlas_async.errors import (
    IntegrityError,
    KeyMaterialError,
    ObjectNotFound,
    ObjectTooLarge,
)
from atlas_async.operations.tenant import Tenant
from atlas_async.store.base import ObjectStore

SAMPLED_MAILBOXES: Final = 3
"""Mailboxes of which an object is opened when the first one is damaged."""
MAX_SAMPLE_BYTES: Final = 64 << 20
"""Larger objects are not read as a sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was tried to prove a key.

    Args:
        opened: The key of an object that it opened, or "" when there was none to try.
        damaged: Objects that it did not open, although it opened another.
    """

    opened: str
    damaged: tuple[str, ...]


async def read_wrapped_key(store: ObjectStore) -> bytes | None:
    """Return the bytes of ``_meta/dek.enc``, or None when the bucket has none.

    Raises:
        KeyMaterialError: It is too large to be a wrapped key.
        StoreError: The store cannot be read.
    """
    try:
        return (await store.get(DEK_KEY, most=MAX_DEK_BYTES)).body
    except ObjectNotFound:
        return None
    except ObjectTooLarge as error:
        msg = "the wrapped key _meta/dek.enc is damaged: it is larger than any wrapped key"
        hint = "restore it from a copy or an older version: atlas key restore"
        raise KeyMaterialError(msg, hint=hint, where=store.name) from error


async def unwrap(tenant: Tenant, blob: bytes, *, name: str = DEK_KEY) -> Sealer:
    """Open a wrapped key with the tenant's passphrase. Raises ``KeyMaterialError``.

    ``name`` is what errors call it.
    """
    settings = tenant.settings
    open_it = partial(unwrap_dek, blob, settings.passphrase, settings.tenant_id, name=name)
    return Sealer(await to_thread.run_sync(open_it))


async def prove(tenant: Tenant, sealer: Sealer, *, name: str = "the key in the bucket") -> Sample:
    """Open something that runs have written, to see that this is the key they had.

    Args:
        tenant: Whose bucket.
        sealer: Holds the key.
        name: What errors call it.

    Raises:
        KeyMaterialError: There are objects, and the key opens none of them.
        StoreError: The store cannot be read.
    """
    damaged: list[str] = []
    async for key in _candidates(tenant):
        try:
            stored = await tenant.store.get(key, most=MAX_SAMPLE_BYTES)
            await to_thread.run_sync(lambda body=stored.body: sealer.open(body))  # type: ignore[misc] # mypy cannot infer a lambda with defaults
        except (ObjectNotFound, ObjectTooLarge):
            continue  # replaced or removed meanwhile; or not worth the time
        except IntegrityError:
            damaged.append(key)
        else:
            return Sample(key, tuple(damaged))
    if damaged:
        msg = (
            f"{name} opens none of {len(damaged)} objects that were tried: it is "
            "not the one they were sealed with"
        )
        hint = (
            "another key was put in its place: `atlas key check` names older versions, "
            "`atlas key restore` puts one back or a copy"
        )
        raise KeyMaterialError(msg, hint=hint, where=tenant.store.name)
    return Sample("", ())


async def _candidates(tenant: Tenant) -> AsyncIterator[str]:
    """Yield keys of objects to try: what was written last of some mailboxes, then anything."""
    names = await tenant.mailbox_ids()
    spread = max(1, len(names) // SAMPLED_MAILBOXES)
    for mailbox_id in names[::spread][:SAMPLED_MAILBOXES]:
        yield head_key(mailbox_id)
        manifests = (await tenant.store.list_page(f"{MANIFESTS_PREFIX}{mailbox_id}/")).objects
        if manifests:
            yield manifests[-1].key
    for prefix in (DATA_PREFIX, ATTACHMENTS_PREFIX):
        page = await tenant.store.list_page(prefix, limit=SAMPLED_MAILBOXES)
        for info in page.objects:
            yield info.key
