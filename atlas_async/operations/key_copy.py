"""Keep a copy of the wrapped key elsewhere, and put one back where the key is missing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import to_thread

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.catalog.tenant_key import MAX_DEK_BYTES
from atlas_async.crypto.keyring import wrapped_version
from atlas_async.errors import (
    KeyMaterialError,
    ObjectExists,
    SnapshotNotFound,
    StoreAuthError,
    UsageError,
)
from atlas_async.operations.key_material import prove, read_wrapped_key, unwrap
from atlas_async.operations.tenant import Tenant
from atlas_async.store.durable_files import sync_directory, write_all
from atlas_async.store.protection import ObjectProtection

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)  # absent on Windows


@dataclass(frozen=True, slots=True)
class KeyCopy:
    """A copy that was made, or put back.

    Args:
        store: Which bucket's key.
        place: The file; or the version it was taken from.
        size: Bytes.
        version: 0 or 1: of the wrapped key's format.
        changed: Whether anything was written; False when it was there already.
    """

    store: str
    place: str
    size: int
    version: int
    changed: bool = True


async def export_key(tenant: Tenant, path: Path) -> KeyCopy:
    """Write the wrapped key, still sealed by the passphrase, to a new file of mode 0600.

    Raises:
        SnapshotNotFound: The bucket has no key.
        KeyMaterialError: The key does not open, or is not the one of the backups: not worth a copy.
        UsageError: The file exists, or cannot be written.
    """
    await tenant.store.open_bucket(create=False)
    blob = await read_wrapped_key(tenant.store)
    if blob is None:
        msg = "the bucket has no key to export"
        raise SnapshotNotFound(msg, where=tenant.store.name, hint="`atlas key check` says why")
    await prove(tenant, await unwrap(tenant, blob))
    await to_thread.run_sync(_write_new, path, blob)
    return KeyCopy(tenant.store.name, str(path), len(blob), wrapped_version(blob))


async def restore_key(
    tenant: Tenant,
    protection: ObjectProtection,
    *,
    path: Path | None = None,
    version_id: str | None = None,
) -> KeyCopy:
    """Put a copy of the wrapped key back into a bucket that has none.

    Args:
        tenant: Whose bucket.
        protection: Reads older versions.
        path: The copy, as ``export_key`` wrote it.
        version_id: Or an older version in the bucket itself.

    Raises:
        UsageError: Neither or both are given; the file cannot be read.
        KeyMaterialError: The copy does not open, or opens nothing in the bucket.
        ObjectExists: The bucket has a key, another one.
        StoreError: The store cannot be asked, or refuses.
    """
    await tenant.store.open_bucket(create=False)
    if path is not None and version_id is None:
        blob, place = await to_thread.run_sync(_read, path), str(path)
    elif version_id is not None and path is None:
        blob = await protection.read_version(DEK_KEY, version_id, most=MAX_DEK_BYTES)
        place = f"version {version_id}"
    else:
        raise UsageError("name either a file or a version to restore the key from")
    sealer = await unwrap(tenant, blob)
    there = await read_wrapped_key(tenant.store)
    version = wrapped_version(blob)
    if there == blob:
        return KeyCopy(tenant.store.name, place, len(blob), version, changed=False)
    if there is not None:
        raise _taken(tenant)
    await prove(tenant, sealer)
    digest = hashlib.md5(blob, usedforsecurity=False).digest()
    try:
        await tenant.store.put(DEK_KEY, blob, md5=digest, if_absent=True)
    except ObjectExists:
        raise _taken(tenant) from None
    except StoreAuthError as error:
        hint = (
            f"{error.hint}; where `atlas key protect` has put its statements, run `atlas key "
            "protect --remove` first and protect the key again afterwards"
        )
        raise StoreAuthError(error.message, hint=hint, where=error.where) from error
    if await read_wrapped_key(tenant.store) != blob:
        msg = "the key that was put back reads differently: another one was written meanwhile"
        raise KeyMaterialError(msg, hint="run `atlas key check`", where=tenant.store.name)
    return KeyCopy(tenant.store.name, place, len(blob), version)


def _taken(tenant: Tenant) -> ObjectExists:
    return ObjectExists(
        "the bucket has a key already, which is not this one; nothing was changed",
        hint="`atlas key check` says whether the one in the bucket is good",
        where=tenant.store.name,
    )


def _write_new(path: Path, blob: bytes) -> None:
    """Write a file that must not exist, durably; on failure none is left. Blocking."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        msg = f"{path} exists, and a copy of a key replaces nothing"
        raise UsageError(msg, hint="name another file") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    try:
        try:
            write_all(descriptor, blob)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(path.absolute().parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            blob = file.read(MAX_DEK_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(blob) > MAX_DEK_BYTES:
        raise KeyMaterialError(f"{path} is no wrapped key: it is too large")
    return blob
