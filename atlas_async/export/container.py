"""What holds an export's entries: one zip, or a directory tree. Blocking, for worker threads.

An entry is begun, written piece by piece, and committed or rolled back: nothing of one that was
rolled back stays. What a ``mark`` notes, a later process comes back to, whatever happened since.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol

from atlas_async.errors import StoreFull, UsageError
from atlas_async.export.forms import Target, Written
from atlas_async.model.source import JsonObject


@dataclass(frozen=True, slots=True)
class Packed:
    """A small entry made ready in parallel with others.

    Args:
        target: Where it goes.
        data: As the container stores it.
        size: Bytes before packing.
        crc: CRC-32 of these.
        sha256: Their hex SHA-256.
    """

    target: Target
    data: bytes
    size: int
    crc: int
    sha256: str


class Container(Protocol):
    """Takes entries one after the other. Every method may raise what ``writing`` makes of it."""

    def make_folder(self, path: str) -> None:
        """Make a directory, with those above it; one that is there stays."""
        ...

    def pack(self, target: Target, data: bytes) -> Packed:
        """Make an entry ready. Touches nothing, so that any thread may do it at any time."""
        ...

    def put(self, packed: Packed) -> Written:
        """Add an entry that is ready."""
        ...

    def begin(self, target: Target) -> None:
        """Begin an entry that comes in pieces."""
        ...

    def write(self, data: bytes) -> None:
        """Add bytes to the entry."""
        ...

    def commit(self) -> Written:
        """End the entry; from here on it is there."""
        ...

    def rollback(self) -> None:
        """Drop the entry. Does nothing where none was begun."""
        ...

    def has(self, target: Target) -> bool:
        """Tell whether an entry that is written once is there already."""
        ...

    def mark(self) -> JsonObject:
        """Make what is committed durable and return where that ends."""
        ...

    def finish(self) -> None:
        """Write what stands at the end."""
        ...

    def damaged(self, written: Iterable[Written]) -> Iterator[str]:
        """Read every entry back, given all in the order of their commits, after ``finish``.

        Yields the paths of those that are not what was written.
        """
        ...

    def close(self) -> None:
        """Release files; what was not marked may be lost."""
        ...


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Say of what the system refuses what it means for an export.

    Raises:
        StoreFull: No space is left, or no more than a quota allows.
        UsageError: The place cannot be written.
    """
    try:
        yield
    except UnicodeEncodeError:
        msg = "file names cannot hold the names of this mail here"
        hint = "set a UTF-8 locale, such as LC_ALL=C.UTF-8, or write a .zip"
        raise UsageError(msg, hint=hint, where=str(place)) from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            msg = f"no space left for the export: {error.strerror}"
            hint = "free some space and run the same command again: it continues"
            raise StoreFull(msg, hint=hint, where=str(place)) from None
        msg = f"cannot write the export: {error.strerror or type(error).__name__}"
        hint = "run the same command again once that is mended: it continues"
        if error.errno == errno.ENAMETOOLONG:
            hint = "give a place with a shorter path with -o, or write a .zip, which has no limit"
        raise UsageError(msg, hint=hint, where=str(place)) from None


def sha256_of(data: bytes) -> str:
    """Return the hex SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def integer(values: JsonObject, name: str) -> int:
    """Return a number out of a mark. Raises ``ValueError`` where there is none."""
    value: Any = values.get(name)
    if not isinstance(value, int) or value < 0:
        raise ValueError(name)
    return value


def close_quietly(file: IO[bytes] | None) -> None:
    """Close a file whose last bytes are not wanted, or are lost to a full disk anyway."""
    try:
        if file is not None:
            file.close()
    except OSError:
        pass
