"""Exports of a rig's bucket, and what lies in them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from atlas_async.export.forms import ExportForm
from atlas_async.export.report import ExportReport
from atlas_async.operations.selection import Selection
from tests.fakes.rig import USER, Rig


async def exported(
    rig: Rig, path: Path | None, *selections: Selection, **options: Any
) -> ExportReport:
    """Export the rig's user, or what selections mean."""
    async with rig.engine() as atlas:
        return await atlas.export(selections or [Selection(mailbox=USER)], path, **options)


def manifest_of(report: ExportReport) -> list[dict[str, Any]]:
    """Return the lines of an export's manifest."""
    return [json.loads(line) for line in report.manifest.read_bytes().splitlines()]


def contents(path: Path) -> dict[str, bytes]:
    """Return every file of an export by its path in it, checked against the hashes beside it."""
    check_sums(path)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            names = [info.filename for info in archive.infolist()]
            assert len(names) == len(set(names))
            return {n: archive.read(n) for n in names if not n.endswith("/")}
    return {
        found.relative_to(path).as_posix(): found.read_bytes()
        for found in path.rglob("*")
        if found.is_file()
    }


def check_sums(path: Path) -> None:
    """Check every line of an export's hashes as ``sha256sum -c`` does."""
    sums = path.with_name(f"{path.name}.sha256").read_text(encoding="utf-8")
    named = set()
    for line in sums.splitlines():
        digest, name = line.split("  ", 1)
        named.add(name)
        assert hashlib.sha256((path.parent / name).read_bytes()).hexdigest() == digest, name
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    manifest = f"{path.name}.manifest.jsonl"
    assert named == {p.relative_to(path.parent).as_posix() for p in files} | {manifest}


def leftovers(path: Path) -> list[str]:
    """Return the names of what an unfinished export leaves beside it."""
    return sorted(found.name for found in path.parent.glob(f"{path.name}.partial*"))


def go_read(paths: list[Path], workspace: Path) -> list[dict[str, Any]]:
    """Return what Go's packages for mail make of messages; skips the test where there is no Go."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("no Go here: the independent reader is not run")
    program = workspace / "reader"
    environment = {**os.environ, "GO111MODULE": "off"}
    subprocess.run(
        [go, "build", "-o", str(program), str(Path(__file__).with_name("reader.go"))],
        env=environment,
        check=True,
        capture_output=True,
    )
    asked = "".join(f"{path}\n" for path in paths).encode()
    answer = subprocess.run([program], input=asked, capture_output=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


FORMS = list(ExportForm)
PLACES = [("mail.zip", ExportForm.EML), *(("mail", form) for form in FORMS)]
"""Every form with a name that it can be written to."""
