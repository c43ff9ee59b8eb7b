"""``atlas save``: what it asks of the engine, what it prints, and how it ends on real disks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.cli.dashboard import render
from atlas_async.cli.progress import RunState
from atlas_async.cli.progress_lines import LogLines
from atlas_async.export.forms import ExportForm
from atlas_async.export.report import (
    ExportedFolder,
    ExportedMailbox,
    ExportFailure,
    ExportReport,
)
from atlas_async.model.events import ExportProgress
from atlas_async.model.report import NotStored
from atlas_async.operations.selection import Selection
from tests.badday.mounts import SmallDisk, small_disk
from tests.cli.conftest import Atlas, atlas, engine, place
from tests.export.exports import contents, leftovers
from tests.fakes.engine import FakeEngine
from tests.fakes.rig import PASSPHRASE, SMALL, USER
from tests.fakes.yard import Yard, open_yard

__all__ = ["atlas", "engine", "place"]

ANN = "ann@contoso.com"


def report(**values: Any) -> ExportReport:
    """Return a report of one mailbox with one folder."""
    return ExportReport(
        Path("mail.zip"),
        ExportForm.EML,
        **{
            "mailboxes": [ExportedMailbox(ANN, ("s1",), "2026-04-20T00:00:00.000Z", exact=True)],
            "folders": [ExportedFolder(ANN, ("Inbox",), 3, 4096)],
            "messages": 3,
            "size_bytes": 4096,
            "attachments": 1,
            **values,
        },
    )


def day(number: int, hour: int = 0) -> datetime:
    """Return a moment in April 2026."""
    return datetime(2026, 4, number, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "selections"),
    [
        ([], [Selection()]),
        (
            ["-m", "Ann@Contoso.com", "-m", "bob@contoso.com"],
            [Selection(mailbox=ANN), Selection(mailbox="bob@contoso.com")],
        ),
        (["-s", "01a1fa37"], [Selection(snapshot="01a1fa37")]),
        (["-m", ANN, "-s", "latest"], [Selection(mailbox=ANN)]),
        (
            ["-m", ANN, "--at", "2026-04-20"],
            [Selection(mailbox=ANN, at=day(21) - timedelta(microseconds=1))],
        ),
        (["--at", "2026-04-20T11:00"], [Selection(at=day(20, 11))]),
        (
            ["--start-date", "2026-04-20", "--end-date", "2026-04-21"],
            [Selection(made_from=day(20), made_before=day(22))],
        ),
        (
            ["-f", "Inbox", "-f", "sentitems", "--no-subtree"],
            [Selection(folders=("Inbox", "sentitems"), subtree=False)],
        ),
        (
            [
                "--received-from",
                "2026-04-20",
                "--received-before",
                "2026-04-21",
                "--message",
                "abcd",
            ],
            [Selection(received_from=day(20), received_before=day(21), messages=("abcd",))],
        ),
    ],
)
def test_options_become_selections(
    atlas: Atlas, engine: FakeEngine, arguments: list[str], selections: list[Selection]
) -> None:
    """Each option says which messages are meant; defaults are everything, checked, as eml."""
    engine.exported = report()
    assert atlas("save", *arguments).code == 0
    assert engine.calls[-1] == (
        "export",
        {
            "selections": selections,
            "path": None,
            "form": ExportForm.EML,
            "originals": True,
            "check": True,
            "dry_run": False,
        },
    )


def test_the_other_name_and_the_other_options(atlas: Atlas, engine: FakeEngine) -> None:
    """``export`` is the same command."""
    engine.exported = report()
    options = ["-o", "out", "--format", "MBOX", "--no-originals", "--no-verify", "--dry-run"]
    assert atlas("export", *options).code == 0
    _, asked = engine.calls[-1]
    assert (asked["path"], asked["form"]) == (Path("out"), ExportForm.MBOX)
    assert (asked["originals"], asked["check"], asked["dry_run"]) == (False, False, True)


def test_found_messages(atlas: Atlas, engine: FakeEngine, place: Path) -> None:
    """Lines of a search are messages of the snapshots they were found in, each once."""
    lines = [
        {"message_type": "match", "mailbox_id": box, "snapshot_id": snapshot, "object_id": name}
        for box, snapshot, name in (
            (ANN, "s1", "a"),
            (ANN, "s2", "b"),
            ("bob", "s3", "a"),
            (ANN, "s1", "c"),
            (ANN, "s2", "a"),
        )
    ]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"message_type": "summary"}])
    (place / "found.jsonl").write_text(text)
    engine.exported = report()
    assert atlas("save", "--found", "found.jsonl").code == 0
    assert engine.calls[-1][1]["selections"] == [
        Selection(mailbox=ANN, snapshot="s2", messages=("a", "b")),
        Selection(mailbox="bob", snapshot="s3", messages=("a",)),
        Selection(mailbox=ANN, snapshot="s1", messages=("c",)),
    ]
    (place / "none.jsonl").write_text('{"message_type": "summary"}\n')
    ended = atlas("save", "--found", "none.jsonl")
    assert (ended.code, "found nothing" in ended.err) == (10, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "pst"], "is none of eml, mbox, maildir, json"),
        (["-o", "x.ZIP", "--format", "json"], "a zip holds eml files"),
        (["-m", " "], "-m needs a value"),
        (["-f", ""], "-f needs a value"),
        (["-s", " "], "-s needs a value"),
        (["-s", "abc", "--at", "2026-01-01"], "exclude each other"),
        (["--at", "2026-01-01", "--start-date", "2026-01-01"], "exclude each other"),
        (["-m", "a", "-m", "b", "-s", "abcd"], "-s and --message go with one mailbox"),
        (["--at", "yesterday"], "neither a day nor a time"),
        (["--found", "x", "-m", ANN], "--found says which messages"),
        (["--found", "x", "-f", "Inbox"], "--found says which messages"),
        (["--found", "absent"], "cannot read"),
    ],
)
def test_wrong_calls(atlas: Atlas, engine: FakeEngine, arguments: list[str], said: str) -> None:
    """What contradicts itself is refused before anything is opened."""
    ended = atlas("save", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not any(verb == "export" for verb, _ in engine.calls)


def test_what_a_person_is_told(atlas: Atlas, engine: FakeEngine) -> None:
    """Folders, what failed, what was never stored, and where it all lies."""
    lost = NotStored("attachment", "m1", "f1", "Code", "a reason", permanent=True)
    engine.exported = report(
        failed=[
            ExportFailure(ANN, f"m{i}", "message", "secret subject", "damaged", is_missing=False)
            for i in range(25)
        ],
        failed_count=25,
        not_stored=[lost],
        notes=["bob@contoso.com: left out: no such folder"],
        originals=2,
    )
    ended = atlas("save")
    assert ended.code == 16
    assert "note: bob@contoso.com: left out" in ended.out
    assert "FAILED ann@contoso.com: message m19: damaged" in ended.out
    assert "m20:" not in ended.out
    assert "... and 5 more; mail.zip.manifest.jsonl has all" in ended.out
    assert "secret subject" not in ended.out
    assert "never stored, by the ledger: 1 item" in ended.out
    assert "mail.zip: 3 messages, 1 attachment, 2 as they came, 4.0 KiB" in ended.out
    assert "exit code 16" in ended.out
    quiet = atlas("save", "-q")
    assert "Inbox" not in quiet.out
    assert "FAILED" in quiet.out


def test_dry_run_and_stop(atlas: Atlas, engine: FakeEngine) -> None:
    """A dry run says what would be; one that was stopped says how to go on."""
    engine.exported = report(dry_run=True)
    assert "would write to mail.zip: 3 messages, 1 attachment, 4.0 KiB as stored" in (
        atlas("save", "-n").out
    )
    engine.exported = report(interrupted=True)
    ended = atlas("save")
    assert ended.code == 130
    assert "the same command continues" in ended.out


def test_documents(atlas: Atlas, engine: FakeEngine) -> None:
    """Progress lines come before the one document, whose files are null until they are there."""
    engine.happenings = [ExportProgress(ANN, done=1, expected=3, bytes=10, failed=0)]
    failure = ExportFailure(ANN, "", "snapshot", "", "cannot be read", is_missing=False)
    engine.exported = report(failed=[failure], failed_count=1)
    *_, document = atlas("save", "--json").lines()
    assert document["message_type"] == "summary"
    assert (document["messages"], document["exit_code"]) == (3, 16)
    assert document["manifest"] == "mail.zip.manifest.jsonl"
    assert document["folders"] == [
        {"mailbox_id": ANN, "path": ["Inbox"], "messages": 3, "size_bytes": 4096}
    ]
    assert document["failed"] == [
        {
            "mailbox_id": ANN,
            "object_id": None,
            "kind": "snapshot",
            "name": "",
            "reason": "cannot be read",
            "missing": False,
        }
    ]
    engine.exported = report(interrupted=True)
    *_, document = atlas("save", "--json").lines()
    assert (document["manifest"], document["sums"]) == (None, None)


def test_progress_is_shown(atlas: Atlas, engine: FakeEngine) -> None:
    """Status lines for programs, a sentence in a log, and a line on a terminal."""
    event = ExportProgress(ANN, done=1, expected=4, bytes=2048, failed=1)
    engine.happenings = [event]
    engine.exported = report()
    status, _ = atlas("save", "--json").lines()
    assert status.pop("seconds") is not None
    assert status == {
        "message_type": "status",
        "mailbox_id": ANN,
        "done": 1,
        "expected": 4,
        "bytes": 2048,
        "failed": 1,
    }
    assert LogLines(0.0).take(event, 31.0) == ["1 of 4 messages written, 2.0 KiB, 1 failed"]
    assert LogLines(0.0).take(event, 1.0) == []
    state = RunState(0.0)
    state.take(event, 5.0)
    state.stopping = True
    shown = str(render(state, 5.0, 80))
    assert "1 of 4 messages written 25%  2.0 KiB  1 failed" in shown
    assert "Ctrl-C again stops at once" in shown


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    """Give a bucket in a directory with one mailbox."""
    options = replace(SMALL, messages=60, huge_attachments=1, huge_bytes=3_000_000)
    async with open_yard(tmp_path / "store", options) as yard:
        async with yard.engine() as atlas:
            await atlas.backup([USER])
        yield yard


def environment(yard: Yard) -> dict[str, str]:
    """Return the settings that lead a process to the bucket."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATLAS_")}
    return kept | {
        "ATLAS_TENANT_ID": yard.settings.tenant_id,
        "ATLAS_STORAGE_URL": yard.place.parent.as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE.reveal(),
    }


async def saved(yard: Yard, *arguments: str, disk: SmallDisk | None = None) -> Any:
    """Run the command in a process of its own, on a disk of its own; return how it ended."""
    command = [*(disk.inside if disk else ()), sys.executable, "-m", "atlas_async", "save"]
    command += ["--json", "-m", USER, *arguments]
    return await anyio.run_process(command, check=False, env=environment(yard))


async def test_a_full_disk_and_a_larger_one(yard: Yard, tmp_path: Path) -> None:
    """A full disk is said, nothing has its final name, and with more space it continues."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        for name in ("mail.zip", "mail"):
            path = disk.path / name
            full = await saved(yard, "-o", str(path), disk=disk)
            assert full.returncode == 1
            error = json.loads(full.stderr.splitlines()[-1])
            assert "no space left for the export" in error["message"]
            disk.do(f"test ! -e '{path}'")
            disk.remount("size=64m")
            whole = await saved(yard, "-o", str(path), disk=disk)
            assert (whole.returncode, whole.stderr) == (0, b"")
            assert json.loads(whole.stdout.splitlines()[-1])["messages"] == len(yard.reachable())
            disk.do(f"cd '{disk.path}' && sha256sum -c --quiet {name}.sha256 && rm -r {name}*")
            disk.remount("size=1m")


async def test_a_disk_that_cannot_be_written(yard: Yard, tmp_path: Path) -> None:
    """A read-only place is a wrong call, said before any work."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        disk.remount("ro")
        ended = await saved(yard, "-o", str(disk.path / "mail.zip"), disk=disk)
        assert ended.returncode == 2
        error = json.loads(ended.stderr.splitlines()[-1])
        assert "cannot write the export: Read-only file system" in error["message"]


async def test_interrupted_once_it_ends_in_order(yard: Yard, tmp_path: Path) -> None:
    """The first signal ends with 130 and keeps the work; the same command ends it."""
    path = tmp_path / "mail"
    command = [sys.executable, "-m", "atlas_async", "save", "--json", "-m", USER, "-o", str(path)]
    async with await anyio.open_process(
        command, env=environment(yard), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        out = b""
        async for piece in process.stdout:
            if not out:
                process.send_signal(signal.SIGINT)
            out += piece
        code = await process.wait()
    document = json.loads(out.splitlines()[-1])
    if code == 130:
        assert document["interrupted"] is True
        assert leftovers(path) != []
        again = await saved(yard, "-o", str(path))
        assert again.returncode == 0
        assert json.loads(again.stdout.splitlines()[-1])["resumed"] is True
    else:  # it was done before the signal came
        assert code == 0
    assert len(contents(path)) == len(yard.reachable())
