"""Large attachments pass through an export; they are never held."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from atlas_async.export.forms import ExportForm
from tests.export.test_killed_exports import run_killed
from tests.fakes.rig import SMALL, USER
from tests.fakes.yard import open_yard

MIB = 1 << 20
ALLOWED = 16 * MIB
"""What a large attachment may cost in memory: some pieces of it on their way."""


@pytest.mark.parametrize("name", ["mail.zip", "mail"])
async def test_memory_does_not_grow_with_attachments(tmp_path: Path, name: str) -> None:
    """The most memory an export ever had is about the same with 40 MB attachments and without."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here: not run")
    peaks = []
    for number, huge in enumerate((0, 1)):
        options = replace(SMALL, messages=10, huge_attachments=huge, huge_bytes=40_000_000)
        async with open_yard(tmp_path / f"store{number}", options) as yard:
            async with yard.engine() as atlas:
                await atlas.backup([USER])
            path = tmp_path / f"{number}-{name}"
            assert await run_killed(yard, path, ExportForm.EML, 0) == 0
            peaks.append(int(path.with_name(f"{path.name}.peak").read_text()))
            lines = path.with_name(f"{path.name}.manifest.jsonl").read_bytes().splitlines()
            sizes = [json.loads(line)["size_bytes"] for line in lines]
            assert (max(sizes) > 50_000_000) == bool(huge)
    assert peaks[1] - peaks[0] < ALLOWED
