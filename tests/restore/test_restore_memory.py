"""What a restore holds in memory: a few ranges and a few messages, never all of them.

Measured on Linux as the highest resident size (``VmHWM``) of the program. Listing restores takes
60 MiB. Restoring thirty messages with files of 2.9 MB takes 140 MiB, one file of 149 MB takes
90 MiB. The bounds below leave room for other versions of Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.emulator import Corpus
from tests.fakes.rig import USER
from tests.restore.scene import FEW
from tests.torture.bucket_check import Inspector
from tests.torture.observed import Tenant, open_tenant
from tests.torture.running import ROOT

MIB: Final = 1 << 20
MOST: Final = 110 * MIB
"""Bytes above what the program takes without restoring anything."""
PROGRAM: Final = """
import sys
from pathlib import Path
from atlas_async.cli.app import main
sys.argv = ["atlas", *sys.argv[1:]]
code = 0
try:
    main()
except SystemExit as ended:
    code = ended.code
status = Path("/proc/self/status").read_text()
print("PEAK", code, status.partition("VmHWM:")[2].split()[0])
"""


def peak(environment: dict[str, str], *arguments: str) -> int:
    """Run the program to its end and return the most bytes that were resident."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    code, size = ran.stdout.rpartition("PEAK")[2].split()
    assert code == "0", ran.stdout + ran.stderr
    return int(size) * 1024


def settings_of(tenant: Tenant, place: Path) -> dict[str, str]:
    """Return the program's settings."""
    return {
        **tenant.settings(),
        "ATLAS_STORAGE_URL": (place / "store").as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": "correct-horse-battery-staple",
        "ATLAS_DEK_VERSION": "0",
        "ATLAS_SPOOL_DIR": str(place),
    }


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux: not run")
@pytest.mark.parametrize(
    ("count", "size"), [(24, 2_900_000), (1, 100_000_000)], ids=["many", "one large"]
)
def test_a_restore_stays_small(tmp_path: Path, count: int, size: int) -> None:
    """Many files that are sent whole, and one that is sent in ranges."""
    settings = Settings(
        graph=None,
        storage=DirectorySettings(tmp_path / "store"),
        tenant_id=str(Corpus(FEW).tenant_id),
        passphrase=Secret("correct-horse-battery-staple"),
    )
    with open_tenant(replace(FEW), Random(1), Inspector(settings).bodies) as tenant:
        for number in range(count):
            parts: list[dict[str, Any]] = [{"name": "a.bin", "size": size, "seed": number}]
            change = {"op": "create", "folder": "inbox", "subject": "Big", "attachments": parts}
            tenant.do(lambda change=change: tenant.emulator.control.mutate(USER, change))  # type: ignore[misc]
        environment = settings_of(tenant, tmp_path)
        peak(environment, "backup", "-m", USER, "-q")
        base = peak(environment, "restore", "-m", USER, "--jobs", "--json")
        most = peak(environment, "restore", "-m", USER, "--json", "-q")
        assert most - base < MOST
