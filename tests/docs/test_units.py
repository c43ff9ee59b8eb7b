"""The units for systemd that the documentation prints are ones that systemd takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def test_the_units_are_valid(tmp_path: Path) -> None:
    """``systemd-analyze verify`` finds nothing in the service or its timer."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze not found: not run")
    units = re.findall(r"```ini\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names = ("atlas-key-check.service", "atlas-key-check.timer")
    assert len(units) == len(names)
    for name, text in zip(names, units, strict=True):
        # The verifier wants a program that is there.
        changed = text.replace("/usr/local/bin/atlas", sys.executable)
        (tmp_path / name).write_text(changed)
    done = subprocess.run(
        [program, "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "atlas-key-check" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_commands_in_the_units_exist() -> None:
    """The line for cron and the service run commands and options that the program has."""
    from atlas_async.cli.app import app  # the program itself, without a process

    lines = re.findall(r"/usr/local/bin/atlas (key check [^\n]*)", PAGE.read_text("utf-8"))
    assert len(lines) == 2
    for line in lines:
        arguments = line.replace("%d/config", "none").split()
        arguments[arguments.index("--config") + 1] = "/nonexistent.json"
        with pytest.raises(Exception, match="nonexistent"):
            app(arguments, prog_name="atlas", standalone_mode=False)
