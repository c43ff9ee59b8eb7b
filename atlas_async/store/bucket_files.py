"""The files of a directory store: blocking operations, each safe against a crash in its middle.

::

    <root>/<bucket>/data/user@example.com/1a2b...        bodies, named by their key
    <root>/<bucket>/.atlas-meta/data/user@.../1a2b...json   metadata, where an object has any
    <root>/<bucket>/.atlas-tmp/                             what is being written

A body is written to ``.atlas-tmp``, synced, and renamed (or linked, when the key must be absent)
to its name: readers see all of it or nothing. Metadata is put in place first. Durability of the
names is the caller's: it syncs the directories that these functions return.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atlas_async.errors import BucketNotFound, ObjectExists, ObjectNotFound, StoreError
from atlas_async.store.base import ObjectInfo
from atlas_async.store.bucket_walk import Span, walk_keys
from atlas_async.store.durable_files import make_directories, write_all
from atlas_async.store.file_names import encode_key
from atlas_async.store.keys import check_bucket_name

logger = logging.getLogger(__name__)

TMP = ".atlas-tmp"
META = ".atlas-meta"
STALE_SECONDS = 24 * 3600.0
"""Age at which a temporary file can no longer belong to a running put."""
_MAX_META_BYTES = 1 << 20
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # absent on Windows
_BINARY = getattr(os, "O_BINARY", 0)  # exists only on Windows


@dataclass(frozen=True, slots=True)
class Staged:
    """Temporary files of one put: the body's, and the metadata's when there is any."""

    body: Path
    metadata: Path | None


class BucketFiles:
    """One bucket's directory. Every method blocks: call it from a worker thread.

    ``hard_links`` tells whether the file system has them, None before the first was made; without
    them a write that needs an absent key is not atomic.
    """

    def __init__(self, root: Path, bucket: str) -> None:
        check_bucket_name(bucket)
        self._root = root
        self._given = root / bucket
        self._base: Path | None = None
        self._known: set[Path] = set()
        self.hard_links: bool | None = None

    @property
    def base(self) -> Path:
        """The bucket's real directory. Raises ``BucketNotFound``."""
        if self._base is None:
            root, base = os.path.realpath(self._root), os.path.realpath(self._given)
            if not os.path.isdir(base):  # noqa: PTH112 - a stat, not worth two Path objects
                raise BucketNotFound(
                    "the bucket's directory does not exist",
                    hint="check the storage directory and that its volume is mounted",
                    where=str(self._given),
                )
            if not base.startswith(root.rstrip(os.sep) + os.sep):
                raise StoreError("the bucket leads out of the storage directory", where=base)
            self._base = Path(base)
        return self._base

    def check(self) -> None:
        """Raise ``BucketNotFound`` when the directory has gone, say with its volume."""
        self._base = None
        _ = self.base

    def check_name(self, key: str) -> None:
        """Raise ``StoreError`` when no file can have the key's name."""
        self._path(key)
        self._meta_path(key)

    def create(self) -> list[Path]:
        """Make the directory when it is absent. Returns directories to sync."""
        return make_directories(self._given)

    def sweep(self, now: float) -> None:
        """Remove temporary files older than ``STALE_SECONDS`` at ``now`` (Unix time)."""
        try:
            entries = list(os.scandir(self.base / TMP))
        except FileNotFoundError:
            return
        for entry in entries:
            # Tidying must not fail a run, least of all one that reads a read-only disk.
            with suppress(OSError):
                if now - entry.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)

    def new_temporary(self) -> tuple[Path, int]:
        """Create a temporary file. Returns its path and a descriptor open for writing."""
        path = self.base / TMP / secrets.token_hex(16)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY
        try:
            return path, os.open(path, flags, 0o600)
        except FileNotFoundError:
            self.check()
            (self.base / TMP).mkdir(exist_ok=True)
            return path, os.open(path, flags, 0o600)

    def write_temporary(self, body: bytes) -> Path:
        """Write and sync a temporary file; on failure none is left."""
        path, descriptor = self.new_temporary()
        try:
            try:
                write_all(descriptor, body)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def stage_metadata(self, metadata: Mapping[str, str] | None) -> Path | None:
        """Write and sync the metadata's temporary file, when there is any metadata."""
        if not metadata:
            return None
        return self.write_temporary(json.dumps(dict(metadata), ensure_ascii=True).encode())

    def place_metadata(self, key: str, staged: Staged) -> list[Path]:
        """Put the metadata in place, or remove what an overwritten object left.

        Returns directories to sync before the body is placed.
        """
        path = self._meta_path(key)
        if staged.metadata is None:
            path.unlink(missing_ok=True)
            return []
        made = make_directories(path.parent)
        staged.metadata.replace(path)
        return [*made, path.parent]

    def place_body(self, key: str, staged: Staged, *, if_absent: bool) -> list[Path]:
        """Give the body its name. Returns directories to sync. Raises ``ObjectExists``."""
        path = self._path(key)
        made = make_directories(path.parent)
        if if_absent:
            self._link(staged.body, path)
        else:
            staged.body.replace(path)
        return [*made, path.parent]

    def exists(self, key: str) -> bool:
        """Tell whether anything has the key's name."""
        return os.path.lexists(self._path(key))

    def discard(self, staged: Staged) -> None:
        """Remove what is left of a put."""
        staged.body.unlink(missing_ok=True)
        if staged.metadata is not None:
            staged.metadata.unlink(missing_ok=True)

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None."""
        try:
            descriptor = self._open_read(self._path(key))
        except FileNotFoundError:
            self.check()
            return None
        try:
            return self._describe(key, descriptor)
        finally:
            os.close(descriptor)

    def open_read(self, key: str) -> tuple[ObjectInfo, int]:
        """Open the body. The caller closes the descriptor. Raises ``ObjectNotFound``."""
        path = self._path(key)
        try:
            descriptor = self._open_read(path)
        except FileNotFoundError as error:
            self.check()
            raise ObjectNotFound("no such object", where=str(path)) from error
        try:
            return self._describe(key, descriptor), descriptor
        except BaseException:
            os.close(descriptor)
            raise

    def delete(self, key: str) -> list[Path]:
        """Delete body and metadata. Returns directories to sync."""
        path = self._path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            self.check()
            return []
        meta = self._meta_path(key)
        try:
            meta.unlink()
        except FileNotFoundError:
            return [path.parent]
        return [path.parent, meta.parent]

    def permissions(self, key: str) -> int | None:
        """Return the file's mode bits, or None when there is no such object."""
        try:
            descriptor = self._open_read(self._path(key))
        except FileNotFoundError:
            self.check()
            return None
        try:
            return stat.S_IMODE(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)

    def make_read_only(self, key: str) -> None:
        """Let the file's owner read it, and nobody write it. Raises ``ObjectNotFound``."""
        _, descriptor = self.open_read(key)  # which follows no link
        try:
            self._path(key).chmod(0o400)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def walk(self, prefix: str, after: str, *, fold: bool) -> Iterator[str]:
        """Yield keys in order; see ``bucket_walk.walk_keys``."""
        self.check()
        return walk_keys(self.base, frozenset({TMP, META}), Span(prefix, after), fold=fold)

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what a listing tells of the object, or None when it has gone."""
        try:
            return _info(key, os.lstat(self.base / encode_key(key)))
        except FileNotFoundError:
            return None

    def _path(self, key: str) -> Path:
        return self._contained(self.base / encode_key(key))

    def _meta_path(self, key: str) -> Path:
        return self._contained(self.base / META / (encode_key(key) + ".json"))

    def _contained(self, path: Path) -> Path:
        parent = path.parent
        if parent not in self._known:
            real = os.path.realpath(parent)
            if real != str(parent):
                raise StoreError(
                    "a symbolic link stands in the bucket's directory",
                    hint="replace the link with what it points to",
                    where=str(parent),
                )
            if os.path.isdir(real):  # noqa: PTH112 - as above
                self._known.add(parent)
        return path

    def _link(self, source: Path, path: Path) -> None:
        try:
            os.link(source, path)
            self.hard_links = True
        except FileExistsError as error:
            raise ObjectExists("the key is taken", where=str(path)) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self.hard_links = False
            if os.path.lexists(path):
                raise ObjectExists("the key is taken", where=str(path)) from error
            source.replace(path)
        source.unlink(missing_ok=True)

    def _open_read(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDONLY | _NO_FOLLOW | _BINARY)
        except NotADirectoryError as error:
            raise FileNotFoundError(str(path)) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise StoreError(
                    "a symbolic link has the object's name", where=str(path)
                ) from error
            raise

    def _describe(self, key: str, descriptor: int) -> ObjectInfo:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ObjectNotFound("no such object: the name is a directory's", where=key)
        return _info(key, found, self._metadata(key))

    def _metadata(self, key: str) -> dict[str, str]:
        """Return the object's metadata; none where their file cannot be read.

        Nothing rests on metadata, and a body proves itself: their loss must not cost the object.
        """
        path = self._meta_path(key)
        try:
            descriptor = self._open_read(path)
        except FileNotFoundError:
            return {}
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(_MAX_META_BYTES)
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            logger.warning("the metadata of an object are damaged: %s", path)
            return {}
        return {str(name): str(value) for name, value in parsed.items()}


def _info(key: str, found: os.stat_result, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return ObjectInfo(key, found.st_size, "", modified, metadata or {})
