"""Making files and directories that survive a power failure. Blocking."""

from __future__ import annotations

import os
from pathlib import Path


def write_all(descriptor: int, body: bytes) -> None:
    """Write the whole of ``body``; the system may take less at a time than it is given."""
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]


def make_directories(path: Path) -> list[Path]:
    """Make ``path`` and what lacks above it. Returns directories to sync, the topmost last."""
    if path.is_dir():
        return []
    missing = [path]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
    return [directory.parent for directory in missing]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the system can."""
    if os.name == "nt":  # directories cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
