"""A directory tree of messages, of files that messages are added to, or of both. Blocking."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from atlas_async.export.container import Packed, close_quietly, integer, sha256_of, writing
from atlas_async.export.forms import Target, Written
from atlas_async.model.source import JsonObject

PIECE_BYTES: Final = 1 << 20
MOST_OPEN: Final = 64
"""Files that are being added to and kept open, of however many there are."""
_UNFINISHED: Final = ".unfinished"


class TreeContainer:
    """Files below a directory.

    Args:
        root: The directory; made where it is absent.
        mark: Where to continue, as ``mark`` returned it; None to begin.

    Raises:
        UsageError, StoreFull: The directory cannot be written.
        ValueError: ``mark`` is none, or files end before it.
    """

    def __init__(self, root: Path, mark: JsonObject | None) -> None:
        self._root = root
        self._lengths: dict[str, int] = {}
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()
        self._touched: set[str] = set()
        self._folders: set[str] = set()
        self._target: Target | None = None
        self._single: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        with writing(root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / _UNFINISHED).unlink(missing_ok=True)
        lengths = (mark or {}).get("lengths", {})
        if not isinstance(lengths, dict):
            msg = "lengths"
            raise ValueError(msg)  # noqa: TRY004 -- of a document, not of a call
        for path in lengths:
            self._lengths[path] = integer(lengths, path)
            with writing(root / path):
                _cut_back(root / path, self._lengths[path])

    def make_folder(self, path: str) -> None:
        """Make a directory; see ``Container``."""
        if path in self._folders:
            return
        with writing(self._root / path):
            for above in [*reversed(PurePosixPath(path).parents), PurePosixPath(path)]:
                (self._root / above).mkdir(mode=0o700, exist_ok=True)
        self._folders.add(path)

    def pack(self, target: Target, data: bytes) -> Packed:
        """Hash an entry; see ``Container``."""
        return Packed(target, data, len(data), 0, sha256_of(data))

    def put(self, packed: Packed) -> Written:
        """Add an entry that is ready; see ``Container``."""
        self.begin(packed.target)
        with writing(self._root):
            self._sink().write(packed.data)
        self._size = packed.size
        return self._committed(packed.sha256)

    def begin(self, target: Target) -> None:
        """Begin an entry; see ``Container``."""
        self.make_folder(str(PurePosixPath(target.path).parent))
        self._target, self._size, self._hash = target, 0, hashlib.sha256()
        with writing(self._root / target.path):
            if target.append:
                self._file(target.path)
                self._touched.add(target.path)
            else:
                self._single = _created(self._root / _UNFINISHED)

    def write(self, data: bytes) -> None:
        """Add bytes; see ``Container``."""
        self._hash.update(data)
        self._size += len(data)
        with writing(self._root):
            self._sink().write(data)

    def commit(self) -> Written:
        """End the entry; see ``Container``."""
        return self._committed(self._hash.hexdigest())

    def _committed(self, sha256: str) -> Written:
        target = self._begun()
        offset = 0
        with writing(self._root / target.path):
            if self._single is None:
                offset = self._lengths[target.path]
                self._sink().flush()
                self._lengths[target.path] = offset + self._size
            else:
                self._single.close()
                if target.modified is not None:
                    os.utime(self._root / _UNFINISHED, (target.modified, target.modified))
                (self._root / _UNFINISHED).replace(self._root / target.path)
        self._target = self._single = None
        return Written(target.path, offset, self._size, sha256)

    def rollback(self) -> None:
        """Drop the entry; see ``Container``."""
        target, single = self._target, self._single
        self._target = self._single = None
        if target is None:
            return
        with writing(self._root / target.path):
            if single is not None:
                close_quietly(single)
                (self._root / _UNFINISHED).unlink(missing_ok=True)
            else:
                close_quietly(self._files.pop(target.path, None))
                _cut_back(self._root / target.path, self._lengths[target.path])

    def has(self, target: Target) -> bool:
        """Tell whether a file that is written once is there; see ``Container``."""
        return target.once and (self._root / target.path).exists()

    def _begun(self) -> Target:
        if self._target is None:
            msg = "no entry was begun"
            raise RuntimeError(msg)
        return self._target

    def _sink(self) -> IO[bytes]:
        target = self._begun()
        return self._single or self._file(target.path)

    def _file(self, path: str) -> IO[bytes]:
        file = self._files.get(path)
        if file is None:
            if len(self._files) >= MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            if path not in self._lengths:
                # What a killed process has left of it was never marked.
                self._lengths[path] = 0
                _cut_back(self._root / path, 0)
            file = self._files[path] = (self._root / path).open("ab")
        self._files.move_to_end(path)
        return file

    def mark(self) -> JsonObject:
        """Make what was added to durable; see ``Container``.

        Single files are left to the system, which loses them only together with its power; the
        check of what was written finds that.
        """
        with writing(self._root):
            for path in sorted(self._touched):
                file = self._file(path)
                file.flush()
                os.fsync(file.fileno())
        self._touched.clear()
        return {"lengths": dict(self._lengths)}

    def finish(self) -> None:
        """Close all files; see ``Container``."""
        self.mark()
        self.close()

    def damaged(self, written: Iterable[Written]) -> Iterator[str]:
        """Read every entry again and compare; see ``Container``."""
        for wanted in written:
            if self._read_back(wanted) != wanted.sha256:
                yield wanted.path

    def _read_back(self, wanted: Written) -> str:
        digest, left = hashlib.sha256(), wanted.size
        try:
            with (self._root / wanted.path).open("rb") as file:
                file.seek(wanted.offset)
                while left and (piece := file.read(min(left, PIECE_BYTES))):
                    digest.update(piece)
                    left -= len(piece)
        except OSError:
            return ""
        return digest.hexdigest()

    def close(self) -> None:
        """Close what is open; see ``Container``."""
        close_quietly(self._single)
        while self._files:
            close_quietly(self._files.popitem()[1])


def hashed_files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and hex SHA-256 of every file below ``root``, directory by directory."""
    for directory, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            path = Path(directory, name)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield path.relative_to(root).as_posix(), digest


def _created(path: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _cut_back(path: Path, length: int) -> None:
    """Cut a file to ``length`` bytes, or make it. Raises ``ValueError`` where it has fewer."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if os.fstat(descriptor).st_size < length:
            raise ValueError(str(path))
        os.ftruncate(descriptor, length)
    finally:
        os.close(descriptor)
