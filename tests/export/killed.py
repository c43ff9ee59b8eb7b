"""Exports from a bucket in a directory, in a process that kills itself at a chosen moment.

The one argument is JSON: ``store`` (directory), ``tenant_id``, ``passphrase``, ``mailbox``, ``path``, ``form``
and ``moments``: after so many openings, renamings and removals of files, and lines of the manifest, it ends by
SIGKILL; 0 lets it live. One that lives writes beside the export how many bytes of memory it had at most.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.export.forms import ExportForm
from atlas_async.export.manifest import Manifest
from atlas_async.operations.export import Checkpoints
from atlas_async.operations.selection import Selection
from atlas_async.sdk import Atlas

WATCHED = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"}


class Countdown:
    """Ends the process when as many moments have passed as it was given."""

    def __init__(self, moments: int, path: str) -> None:
        self._left = moments
        self._path = path

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count what the interpreter does to files of the export."""
        if event in WATCHED and any(self._path in str(argument) for argument in arguments[:2]):
            self.tick()

    def tick(self) -> None:
        """Count one moment."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(wish: dict[str, Any]) -> int:
    """Export, and return the exit code."""
    settings = Settings(
        graph=None,
        storage=DirectorySettings(Path(wish["store"])),
        tenant_id=wish["tenant_id"],
        passphrase=Secret(wish["passphrase"]),
    )
    async with Atlas(settings) as atlas:
        report = await atlas.export(
            [Selection(mailbox=wish["mailbox"])],
            Path(wish["path"]),
            form=ExportForm(wish["form"]),
            checkpoints=Checkpoints(entries=4),
        )
    return report.exit_code


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    countdown = Countdown(asked["moments"], asked["path"])
    add = Manifest.add

    def counted(self: Manifest, line: dict[str, Any]) -> None:
        """Count a line, then add it."""
        countdown.tick()
        add(self, line)

    Manifest.add = counted  # type: ignore[method-assign]  # this process is made for it
    sys.addaudithook(countdown.audit)
    code = anyio.run(main, asked)
    status = Path("/proc/self/status")
    if not asked["moments"] and status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        Path(f"{asked['path']}.peak").write_text(str(int(line.split()[1]) << 10))
    sys.exit(code)
