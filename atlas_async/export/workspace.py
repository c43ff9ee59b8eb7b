"""The files of an export that is under way, beside what it becomes. Blocking.

::

    PATH.partial              the zip, or the directory
    PATH.partial.directory    of a zip: its directory
    PATH.partial.manifest     the manifest
    PATH.partial.state        what a later process continues from
    PATH.manifest.jsonl       at the end
    PATH.sha256               at the end
    PATH                      the last name to appear
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

from atlas_async.errors import UsageError
from atlas_async.export.container import writing
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.source import JsonObject

FORMAT: Final = 1
_NEW: Final = ".new"
LONGEST_ENDING: Final = ".partial.directory"
"""The longest of what stands behind an export's name."""


class Workspace:
    """Where an export to ``path`` keeps its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = _beside(path, ".partial")
        self.zip_directory = _beside(path, LONGEST_ENDING)
        self.partial_manifest = _beside(path, ".partial.manifest")
        self.state = _beside(path, ".partial.state")
        self.manifest = _beside(path, ".manifest.jsonl")
        self.sums = _beside(path, ".sha256")
        self._partial_sums = _beside(path, ".partial.sha256")

    def load(self) -> JsonObject | None:
        """Return the state of an export that was begun, or None where there is none.

        Raises:
            UsageError: Something is in the way, the place cannot be looked at, or the state is none
                of ours.
        """
        with writing(self.path):  # whatever keeps the system from looking
            begun = self.state.exists()
            if not begun:
                for path in (self.path, self.manifest, self.sums):
                    self._check_free(path)
                self._check_place()
        if not begun:
            return None
        try:
            state = cast("Any", load_json(self.state.read_bytes()))
            if state["format"] == FORMAT:
                return dict(state)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        msg = "what is left of an earlier export cannot be continued"
        raise UsageError(msg, hint=self._remove_hint(), where=str(self.state))

    def _check_free(self, path: Path) -> None:
        if path.exists() or path.is_symlink():
            msg = "this exists already, and an export replaces nothing"
            raise UsageError(msg, hint="give another name with -o", where=str(path))

    def _check_place(self) -> None:
        if self.partial.exists():
            msg = "this is left of something, and nothing tells of what"
            raise UsageError(msg, hint=self._remove_hint(), where=str(self.partial))
        if not self.path.absolute().parent.is_dir():
            msg = "there is no such directory to write to"
            raise UsageError(msg, where=str(self.path.absolute().parent))

    def _remove_hint(self) -> str:
        return f"remove {self.partial} and what has its name and more, or give another name with -o"

    def save(self, state: JsonObject) -> None:
        """Write the state, so that either it or the one before it is there."""
        fresh = _beside(self.state, _NEW)
        with writing(self.state):
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(dump_json({"format": FORMAT, **state}))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.state)

    def write_sums(self, lines: Iterable[str]) -> None:
        """Write the file of hashes, in the form that ``sha256sum -c`` takes."""
        with writing(self.sums):
            descriptor = os.open(self._partial_sums, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                # As the system has names, so that one that is no text is found again.
                file.writelines(map(os.fsencode, lines))
                file.flush()
                os.fsync(file.fileno())

    def publish(self) -> None:
        """Give everything its final name, the export itself last. May be done again."""
        with writing(self.path):
            for partial, final in (
                (self.partial_manifest, self.manifest),
                (self._partial_sums, self.sums),
                (self.partial, self.path),
            ):
                if partial.exists():
                    self._check_free(final)
                    partial.rename(final)
            self.zip_directory.unlink(missing_ok=True)
            self.state.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sum_line(sha256: str, path: str) -> str:
    """Return a line for ``sha256sum -c``."""
    return f"{sha256}  {path}\n"


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
