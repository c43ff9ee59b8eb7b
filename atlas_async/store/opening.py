"""The one place where a store is put together: adapter, log, limit, retries, in this order."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from atlas_async.clock import Clock
from atlas_async.config.settings import DirectorySettings, Limits, S3Settings
from atlas_async.store import logged
from atlas_async.store.base import ObjectStore
from atlas_async.store.limited import LimitedStore
from atlas_async.store.logged import LoggedStore
from atlas_async.store.protection import ObjectProtection
from atlas_async.store.retrying import RetryingStore, RetryPolicy

SPARE_CONNECTIONS = 8
"""Connections beyond those that transfers can hold, so that HEAD and LIST always find one."""
_CLOSE_SECONDS = 10.0


@asynccontextmanager
async def open_store(
    settings: S3Settings | DirectorySettings, bucket: str, *, limits: Limits, clock: Clock
) -> AsyncIterator[ObjectStore]:
    """Give the store of one bucket; it is closed on leaving. The bucket is not looked at yet.

    Args:
        settings: Where the buckets are.
        bucket: The bucket's name.
        limits: ``uploads`` bounds the PUTs and, apart from them, the GETs in flight; ``retries``
            and ``patience`` bound the tries.
        clock: Dates signatures and sleeps between tries.

    Raises:
        StoreMisconfigured: The bucket's name or the endpoint cannot be.
    """
    store = _adapter(settings, bucket, limits, clock)
    try:
        yield _wrapped(store, limits, clock)
    finally:
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await store.aclose()


def open_protection(
    settings: S3Settings | DirectorySettings, bucket: str, *, clock: Clock
) -> ObjectProtection:
    """Return what protects objects of one bucket; it keeps nothing open.

    Raises:
        StoreMisconfigured: The bucket's name cannot be.
    """
    if isinstance(settings, DirectorySettings):
        from atlas_async.store.directory_protection import DirectoryProtection  # noqa: PLC0415 -- start-up time

        return DirectoryProtection(settings, bucket)
    from atlas_async.store.s3_protection import S3Protection  # noqa: PLC0415 -- start-up time

    return S3Protection(settings, bucket, clock=clock)


def _adapter(
    settings: S3Settings | DirectorySettings, bucket: str, limits: Limits, clock: Clock
) -> ObjectStore:
    # Each imports what only its users need: a directory's have no use for an HTTP client.
    if isinstance(settings, DirectorySettings):
        from atlas_async.store.directory import DirectoryStore  # noqa: PLC0415 -- start-up time

        return DirectoryStore(settings, bucket, clock=clock)
    from atlas_async.store.s3 import S3Store  # noqa: PLC0415 -- start-up time

    connections = 2 * limits.uploads + SPARE_CONNECTIONS
    return S3Store(settings, bucket, connections=connections, clock=clock)


def _wrapped(store: ObjectStore, limits: Limits, clock: Clock) -> ObjectStore:
    if logged.logger.isEnabledFor(logging.DEBUG):
        store = LoggedStore(store, clock=clock)
    # Retries outside the limit: a request that waits for its next try holds no place.
    store = LimitedStore(store, puts=limits.uploads, gets=limits.uploads)
    return RetryingStore(store, RetryPolicy(limits.retries, limits.patience), clock=clock)
