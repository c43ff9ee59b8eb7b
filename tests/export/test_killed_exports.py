"""An export that is killed, again and again, ends as one that nobody disturbed."""

from __future__ import annotations

import json
import random
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from atlas_async.export.forms import ExportForm
from atlas_async.operations.selection import Selection
from tests.export.exports import contents, exported, leftovers, manifest_of
from tests.fakes.rig import PASSPHRASE, SMALL, USER
from tests.fakes.yard import Yard, open_yard

MAIL = replace(SMALL, messages=30, huge_attachments=1, huge_bytes=2_000_000)
KILLS = 6


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    """Give a bucket in a directory that other processes can read, with one mailbox in it."""
    async with open_yard(tmp_path / "store", MAIL) as yard:
        async with yard.engine() as atlas:
            await atlas.backup([USER])
        yield yard


async def run_killed(yard: Yard, path: Path, form: ExportForm, moments: int) -> int:
    """Export in a process of its own that dies after so many moments; return how it ended."""
    wish = {
        "store": str(yard.place.parent),
        "tenant_id": yard.settings.tenant_id,
        "passphrase": PASSPHRASE.reveal(),
        "mailbox": USER,
        "path": str(path),
        "form": form.value,
        "moments": moments,
    }
    program = [sys.executable, "-m", "tests.export.killed", json.dumps(wish)]
    done = await anyio.run_process(program, check=False, stderr=None)
    return done.returncode


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("mail.zip", ExportForm.EML),
        ("mail", ExportForm.EML),
        ("boxes", ExportForm.MBOX),
        ("maildir", ExportForm.MAILDIR),
        ("json", ExportForm.JSON),
    ],
)
async def test_killed_at_any_moment(
    yard: Yard, tmp_path: Path, name: str, form: ExportForm
) -> None:
    """The same command continues; the result has the same entries with the same bytes."""
    path = tmp_path / "killed" / name
    for place in ("whole", "killed"):
        (tmp_path / place).mkdir()
    undisturbed = await exported(yard, tmp_path / "whole" / name, form=form)
    dice = random.Random(name)
    codes = []
    for _ in range(KILLS):
        codes.append(await run_killed(yard, path, form, dice.randint(1, 45)))
        if codes[-1] == 0:
            break
        assert codes[-1] == -signal.SIGKILL
        assert not path.exists() or not path.with_name(f"{name}.partial").exists()
    while codes[-1] != 0:
        codes.append(await run_killed(yard, path, form, 0))
        assert codes[-1] == 0
    assert len(codes) > 1
    assert contents(path) == contents(undisturbed.path)
    manifest = path.with_name(f"{name}.manifest.jsonl").read_bytes()
    assert manifest == undisturbed.manifest.read_bytes()
    assert leftovers(path) == []


async def test_it_continues_with_the_snapshot_it_began_with(yard: Yard, tmp_path: Path) -> None:
    """Mail that arrived meanwhile, and a newer snapshot, change nothing of what was begun."""
    before = await exported(yard, tmp_path / "before")
    path = tmp_path / "mail"
    assert await run_killed(yard, path, ExportForm.EML, 60) == -signal.SIGKILL
    yard.mutate(op="create", folder="inbox", subject="later")
    async with yard.engine() as atlas:
        await atlas.backup([USER])
    report = await exported(yard, path)
    assert report.resumed
    assert report.exit_code == 0
    assert manifest_of(report) == manifest_of(before)
    assert contents(report.path) == contents(before.path)


async def test_another_selection_does_not_continue_it(yard: Yard, tmp_path: Path) -> None:
    """What is left of one export is never mixed with another."""
    from atlas_async.errors import UsageError

    path = tmp_path / "mail"
    await run_killed(yard, path, ExportForm.EML, 60)
    left = leftovers(path)
    with pytest.raises(UsageError, match="something else"):
        await exported(yard, path, Selection(mailbox=USER, folders=("inbox",)))
    with pytest.raises(UsageError, match="something else"):
        await exported(yard, path, form=ExportForm.MAILDIR)
    assert leftovers(path) == left
