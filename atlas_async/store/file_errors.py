"""What the operating system's errors mean to someone who backs up into a directory."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from atlas_async.errors import (
    BucketNotFound,
    StoreAuthError,
    StoreError,
    StoreFull,
    StoreTransient,
)

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EACCES, errno.EPERM}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ETIMEDOUT, errno.ESTALE, errno.EBUSY}
_NAME_CLASH = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def translate(error: OSError, where: str) -> StoreError:
    """Return the ``StoreError`` for ``error``."""
    code = error.errno
    text = error.strerror or str(error)
    if code in _FULL:
        return StoreFull(
            f"no space is left: {text}",
            hint="free space or raise the quota; what was stored is intact, run again afterwards",
            where=where,
        )
    if code == errno.EROFS:
        return StoreAuthError(
            "the storage directory is on a read-only file system",
            hint="remount it writable",
            where=where,
        )
    if code in _DENIED:
        return StoreAuthError(
            f"the storage directory refuses access: {text}",
            hint="give the user this runs as read and write permission there",
            where=where,
        )
    if code == errno.ENOENT:
        return BucketNotFound(
            "the storage directory has gone", hint="is its volume mounted?", where=where
        )
    if code in _NAME_CLASH:
        return StoreError(
            "one object's key is the beginning of another's, which a directory cannot hold",
            hint="keep these objects in an S3 store",
            where=where,
        )
    if code in _PASSING:
        return StoreTransient(f"the file system could not answer: {text}", where=where)
    return StoreError(f"the file system failed: {text}", where=where)


@contextmanager
def file_errors(where: str) -> Iterator[None]:
    """Raise ``StoreError`` subclasses in place of ``OSError``."""
    try:
        yield
    except OSError as error:
        raise translate(error, where) from error
