"""A small file system of its own, to be filled up or made read-only.

It is mounted in a mount namespace that a keeper process holds open: nothing outside sees it, and it
is gone with the keeper, however a test ends. The program is run inside.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

NAMESPACE: Final = ["unshare", "--user", "--map-root-user", "--mount"]


class SmallDisk:
    """A file system in memory, seen by commands that ``inside`` stands in front of.

    Args:
        keeper: A shell in the namespace.
        path: Where it is mounted.
    """

    def __init__(self, keeper: subprocess.Popen[str], path: Path) -> None:
        self._keeper = keeper
        self.path = path

    @property
    def inside(self) -> list[str]:
        """What to put in front of a command line."""
        target = ["--target", str(self._keeper.pid)]
        return ["nsenter", "--user", "--preserve-credentials", "--mount", *target]

    def remount(self, options: str) -> None:
        """Change size or access, such as ``size=8m`` or ``ro``."""
        self.do(f"mount -o remount,{options} '{self.path}'")

    def do(self, line: str) -> None:
        """Run one line of shell in the namespace, which must succeed."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write(f"{line}; echo $?\n")
        self._keeper.stdin.flush()
        assert self._keeper.stdout.readline().strip() == "0", line


def _possible(path: Path) -> bool:
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    trial = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(path)]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a file system of ``size`` at ``path`` until the block ends.

    Skips the test where the machine does not let anybody make a mount namespace.
    """
    path.mkdir(parents=True)
    if not _possible(path):
        pytest.skip("no mount namespaces here: not run")
    keeper = subprocess.Popen(
        [*NAMESPACE, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        disk = SmallDisk(keeper, path)
        disk.do(f"mount -t tmpfs -o size={size} tmpfs '{path}'")
        yield disk
    finally:
        keeper.communicate()
