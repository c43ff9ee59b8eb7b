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
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import is_wrapped_key, wrapped_version
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

PROTECT_AGAIN: Final = (
    "what `atlas key protect` did for the lost key does not cover this one: a lock, a legal hold "
    "or a read-only file ends with the key it was put on, and our policy statements may have been "
    "taken out to put this one back. Run `atlas key protect` again, with the options it had; "
    "`atlas key check` shows what protects the key now"
)
"""Said of every key that was put back: how the lost one was protected cannot be seen any more."""

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
        note: What is left to do, or "".
    """

    store: str
    place: str
    size: int
    version: int
    changed: bool = True
    note: str = ""


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
        hint = (
            f"is {path} what `atlas key export` wrote for this tenant, and the passphrase the one "
            "of then? Nothing was changed"
        )
    elif version_id is not None and path is None:
        blob = await protection.read_version(DEK_KEY, version_id, most=MAX_DEK_BYTES)
        place = f"version {version_id}"
        hint = "`atlas key check` names the other versions; nothing was changed"
    else:
        raise UsageError("name either a file or a version to restore the key from")
    sealer = await _open(tenant, blob, place, hint)
    there = await read_wrapped_key(tenant.store)
    version = wrapped_version(blob)
    if there == blob:
        return KeyCopy(tenant.store.name, place, len(blob), version, changed=False)
    if there is not None:
        raise _taken(tenant)
    try:
        await prove(tenant, sealer, name=f"the key in {place}")
    except KeyMaterialError as error:
        raise KeyMaterialError(error.message, hint=hint, where=error.where) from error
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
    return KeyCopy(tenant.store.name, place, len(blob), version, note=PROTECT_AGAIN)


async def _open(tenant: Tenant, blob: bytes, place: str, hint: str) -> Sealer:
    """Open a copy with the passphrase; an error is the copy's, not the bucket's key's."""
    if not is_wrapped_key(blob):
        size = f"more than {MAX_DEK_BYTES}" if len(blob) > MAX_DEK_BYTES else str(len(blob))
        msg = f"{place} holds no wrapped key: {size} bytes of no known form"
        raise KeyMaterialError(msg, hint=hint)
    try:
        return await unwrap(tenant, blob, name=place)
    except KeyMaterialError as error:
        msg = f"the key in {place} cannot be opened: {error.message}"
        raise KeyMaterialError(msg, hint=hint) from error


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
    """Return the file's bytes, of one that is too large only so many that it shows. Blocking."""
    try:
        with path.open("rb") as file:
            blob = file.read(MAX_DEK_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return blob
