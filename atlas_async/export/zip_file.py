"""A zip that is written from front to back, however many entries it has. Blocking.

The directory that stands at a zip's end is kept in a file of its own until then, so that nothing
grows with the number of entries, and a process that is killed loses none of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import IO, Final

from atlas_async.export.container import Packed, close_quietly, integer, sha256_of, writing
from atlas_async.export.forms import Target, Written
from atlas_async.export.zip_entry import (
    CENTRAL_BYTES,
    LOCAL_BYTES,
    ZipEntry,
    central_rest,
    ending,
    local_length,
    read_central,
)
from atlas_async.model.source import JsonObject

LEVEL: Final = 6
PIECE_BYTES: Final = 1 << 20
BUFFER_BYTES: Final = 256 << 10
_RAW: Final = -zlib.MAX_WBITS


class ZipContainer:
    """One zip file and, until it is finished, its directory beside it.

    Args:
        path: The zip.
        directory: Where its directory is kept meanwhile.
        mark: Where to continue, as ``mark`` returned it; None to begin.

    Raises:
        UsageError, StoreFull: The files cannot be written.
        ValueError: ``mark`` is none, or the files end before it.
    """

    def __init__(self, path: Path, directory: Path, mark: JsonObject | None) -> None:
        self._path = path
        mark = mark or {"data": 0, "directory": 0, "entries": 0}
        with writing(path):
            self._data = _opened(path, integer(mark, "data"))
            try:
                self._directory = _opened(directory, integer(mark, "directory"))
            except BaseException:  # whatever it was, nobody else will close it
                self._data.close()
                raise
        self._entries = integer(mark, "entries")
        self._folders: set[str] = set()
        self._open: ZipEntry | None = None
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW)
        self._hash = hashlib.sha256()

    def make_folder(self, path: str) -> None:
        """Add a directory, with those above it; see ``Container``."""
        names = path.split("/")
        for depth in range(1, len(names) + 1):
            name = "/".join(names[:depth]) + "/"
            if name not in self._folders:
                self._folders.add(name)
                with writing(self._path):
                    entry = ZipEntry(name, None, self._data.tell())
                    self._data.write(entry.local())
                    self._record(entry)

    def pack(self, target: Target, data: bytes) -> Packed:
        """Compress an entry; see ``Container``."""
        packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW)
        packed = packer.compress(data) + packer.flush()
        return Packed(target, packed, len(data), zlib.crc32(data), sha256_of(data))

    def put(self, packed: Packed) -> Written:
        """Add an entry that is ready; see ``Container``."""
        target = packed.target
        with writing(self._path):
            entry = ZipEntry(target.path, target.modified, self._data.tell())
            entry.crc, entry.packed, entry.size = packed.crc, len(packed.data), packed.size
            self._data.write(entry.local())
            self._data.write(packed.data)
            self._record(entry)
        return Written(target.path, 0, packed.size, packed.sha256)

    def begin(self, target: Target) -> None:
        """Begin an entry whose size is not known yet; see ``Container``."""
        with writing(self._path):
            self._open = ZipEntry(target.path, target.modified, self._data.tell(), large=True)
            self._data.write(self._open.local())
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW)
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Compress and add; see ``Container``."""
        entry = self._begun()
        self._hash.update(data)
        entry.crc = zlib.crc32(data, entry.crc)
        entry.size += len(data)
        self._add(entry, self._packer.compress(data))

    def _add(self, entry: ZipEntry, packed: bytes) -> None:
        entry.packed += len(packed)
        with writing(self._path):
            self._data.write(packed)

    def commit(self) -> Written:
        """End the entry and write its sizes in front of it; see ``Container``."""
        entry = self._begun()
        self._add(entry, self._packer.flush())
        with writing(self._path):
            self._data.flush()
            os.pwrite(self._data.fileno(), entry.local(), entry.offset)
            self._record(entry)
        self._open = None
        return Written(entry.name, 0, entry.size, self._hash.hexdigest())

    def rollback(self) -> None:
        """Cut the file back to the entry's beginning; see ``Container``."""
        if self._open is None:
            return
        with writing(self._path):
            self._data.seek(self._open.offset)
            self._data.truncate()
        self._open = None

    def has(self, target: Target) -> bool:  # noqa: ARG002 -- the protocol's
        """Tell of no entry that it is there already; see ``Container``."""
        return False

    def _begun(self) -> ZipEntry:
        if self._open is None:
            msg = "no entry was begun"
            raise RuntimeError(msg)
        return self._open

    def _record(self, entry: ZipEntry) -> None:
        self._directory.write(entry.central())
        self._entries += 1

    def mark(self) -> JsonObject:
        """Make everything durable; see ``Container``."""
        with writing(self._path):
            for file in (self._data, self._directory):
                file.flush()
                os.fsync(file.fileno())
            return {
                "data": self._data.tell(),
                "directory": self._directory.tell(),
                "entries": self._entries,
            }

    def finish(self) -> None:
        """Write the directory behind the entries; see ``Container``."""
        with writing(self._path):
            start, size = self._data.tell(), self._directory.tell()
            self._directory.flush()
            self._directory.seek(0)
            shutil.copyfileobj(self._directory, self._data, PIECE_BYTES)
            self._data.write(ending(self._entries, start, size))
            self._data.flush()
            os.fsync(self._data.fileno())

    def damaged(self, written: Iterable[Written]) -> Iterator[str]:
        """Inflate every file's entry again and compare; see ``Container``."""
        self._directory.seek(0)
        with self._path.open("rb") as data:
            for wanted, entry in zip_longest(written, self._files_listed()):
                if wanted is None or entry is None or not _is_intact(data, entry, wanted):
                    yield wanted.path if wanted else entry.name if entry else ""

    def _files_listed(self) -> Iterator[ZipEntry]:
        while head := self._directory.read(CENTRAL_BYTES):
            entry = read_central(head, self._directory.read(central_rest(head)))
            if not entry.is_folder:
                yield entry

    def close(self) -> None:
        """Close both files; see ``Container``."""
        for file in (self._data, self._directory):
            close_quietly(file)


def _opened(path: Path, length: int) -> IO[bytes]:
    """Open a file for writing on at ``length``; what comes after it goes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    file = os.fdopen(descriptor, "r+b", BUFFER_BYTES)
    if file.seek(0, os.SEEK_END) < length:
        file.close()
        raise ValueError(str(path))
    file.seek(length)
    file.truncate()
    return file


def _is_intact(data: IO[bytes], entry: ZipEntry, wanted: Written) -> bool:
    """Tell whether an entry of the directory and its data are what was written."""
    data.seek(entry.offset)
    digest, crc, size, left = hashlib.sha256(), 0, 0, entry.packed
    opener = zlib.decompressobj(_RAW)
    try:
        data.seek(entry.offset + local_length(data.read(LOCAL_BYTES)))
        while left:
            piece = opener.decompress(data.read(min(left, PIECE_BYTES)))
            left -= min(left, PIECE_BYTES)
            digest.update(piece)
            crc, size = zlib.crc32(piece, crc), size + len(piece)
    except (zlib.error, struct.error, OSError):
        return False
    told = (entry.name, entry.crc, entry.size)
    found = (wanted.path, crc, size)
    return opener.eof and told == found and digest.hexdigest() == wanted.sha256
