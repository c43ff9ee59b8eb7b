"""The keys below a directory in key order, reading no more directories than needed. Blocking.

A file system tells names in no order, so a directory has to be read to its end for the first of
them; how many are kept meanwhile is bounded. A mailbox of a million messages has a directory of a
million files, of which a backup mostly wants to know the first thousand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import Final

from atlas_async.store.file_names import decode_segment, encode_segment

FIRST_NAMES: Final = 1_024
"""Names of one directory that are kept at first, about a page of a listing."""
MOST_NAMES: Final = 16_384
"""Names kept at most. As often as more are wanted the directory is read once more, for twice as
many; a directory of a million files is read 65 times by a listing of them all."""


@dataclass(frozen=True, slots=True)
class Span:
    """Keys that start with ``prefix`` and are greater than ``after``."""

    prefix: str
    after: str

    def has(self, key: str) -> bool:
        """Tell whether ``key`` is of the span."""
        return key > self.after and key.startswith(self.prefix)

    def may_enter(self, directory: str) -> bool:
        """Tell whether a key below ``directory`` (which ends with a slash) can be of the span."""
        if not (directory.startswith(self.prefix) or self.prefix.startswith(directory)):
            return False
        return directory > self.after or self.after.startswith(directory)

    def folds(self, directory: str) -> bool:
        """Tell whether ``directory`` lies beyond the prefix, so that a delimiter folds it."""
        return directory.startswith(self.prefix) and len(directory) > len(self.prefix)

    def concerns(self, name: str, *, fold: bool) -> bool:
        """Tell whether the file of that key, or the directory when it ends with a slash, counts."""
        if not name.endswith("/"):
            return self.has(name)
        return name > self.after if fold and self.folds(name) else self.may_enter(name)


def walk_keys(base: Path, hidden: frozenset[str], span: Span, *, fold: bool) -> Iterator[str]:
    """Yield the span's keys below ``base``, in order.

    Args:
        base: The bucket's directory.
        hidden: Names in ``base`` that are no part of the bucket.
        span: Which keys.
        fold: Yield a directory beyond the prefix as one name with a trailing slash, when it
            holds any file, instead of what lies below it: a listing with delimiter ``/``.
    """
    yield from _walk(base, "", span, hidden, fold=fold)


def _walk(
    directory: Path, above: str, span: Span, hidden: frozenset[str], *, fold: bool
) -> Iterator[str]:
    for name in _names(directory, above, span, hidden, fold=fold):
        if not name.endswith("/"):
            yield name
            continue
        below = directory / encode_segment(name[len(above) : -1])
        if not (fold and span.folds(name)):
            yield from _walk(below, name, span, frozenset(), fold=fold)
        elif _holds_file(below):
            yield name


def _names(
    directory: Path, above: str, span: Span, hidden: frozenset[str], *, fold: bool
) -> Iterator[str]:
    """Yield the keys of files and, with a slash, of directories in ``directory``, in order."""
    last = ""
    most = FIRST_NAMES
    while True:
        # The names drawn from it go with it: a listing that is not read on holds only ``found``.
        found = nsmallest(
            most,
            (
                name
                for name in _scan(directory, above, hidden)
                if name > last and span.concerns(name, fold=fold)
            ),
        )
        yield from found
        if len(found) < most:
            return
        last = found[-1]
        most = min(2 * most, MOST_NAMES)


def _scan(directory: Path, above: str, hidden: frozenset[str]) -> Iterator[str]:
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:  # removed meanwhile
        return
    with entries:
        for entry in entries:
            segment = None if entry.name in hidden else decode_segment(entry.name)
            if segment is None:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield f"{above}{segment}/"
            elif entry.is_file(follow_symlinks=False):
                yield f"{above}{segment}"


def _holds_file(directory: Path) -> bool:
    directories: list[Path] = []
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:  # removed meanwhile
        return False
    with entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                return True
            if entry.is_dir(follow_symlinks=False):
                directories.append(Path(entry.path))
    return any(_holds_file(below) for below in directories)
