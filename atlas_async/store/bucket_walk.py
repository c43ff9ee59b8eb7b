"""The keys below a directory in key order, reading no more directories than needed. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atlas_async.store.file_names import decode_segment, encode_segment


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
    for name in _names(directory, above, hidden):
        if not name.endswith("/"):
            if span.has(name):
                yield name
            continue
        below = directory / encode_segment(name[len(above) : -1])
        if fold and span.folds(name):
            if name > span.after and _holds_file(below):
                yield name
        elif span.may_enter(name):
            yield from _walk(below, name, span, frozenset(), fold=fold)


def _names(directory: Path, above: str, hidden: frozenset[str]) -> list[str]:
    """Return the keys of files and, with a slash, of directories in ``directory``, sorted."""
    names: list[str] = []
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:  # removed meanwhile
        return names
    with entries:
        for entry in entries:
            segment = None if entry.name in hidden else decode_segment(entry.name)
            if segment is None:
                continue
            if entry.is_dir(follow_symlinks=False):
                names.append(f"{above}{segment}/")
            elif entry.is_file(follow_symlinks=False):
                names.append(f"{above}{segment}")
    names.sort()
    return names


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
