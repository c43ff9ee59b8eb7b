"""What Graph sends that is broken, hostile or huge; and links that lead nowhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.badday.console import ROOT, Console, command
from tests.badday.documents import open_sealer, rewrite
from tests.badday.office import Office
from tests.fakes.rig import USER

MIB = 1 << 20
HOSTILE = "\x1b[31mred\x07\x00\x7f\r\nFake: header \u202egnp.exe\u2028 \x9b2J"
BODY = "<p>\x1b]0;owned\x07before\x1b[2J\x9b2Jafter</p>"
DANGEROUS = ("\x07", "\x00", "\x7f", "\x9b", "\u202e", "\u2028", "\r")
BODY_BYTES = 100 * MIB
MOST_MEMORY = 1280 * MIB


@pytest.mark.parametrize(
    "link",
    [
        "not a link",
        "",
        "https://evil.example/v1.0/users/x/messages/delta?$deltatoken=1",
        "{graph}/v1.0/users/nobody/mailFolders/x/messages/delta?$deltatoken=1",
        "{graph}/v1.0/users//messages",
        "{graph}/nowhere",
    ],
    ids=["words", "empty", "elsewhere", "nobody", "no-id", "nowhere"],
)
def test_a_malformed_delta_link(console: Console, office: Office, link: str) -> None:
    """A stored link that cannot be followed costs a new enumeration and loses nothing."""
    first = str(console.backup()["snapshot_id"])
    place = link.replace("{graph}", office.emulator.graph_url)

    def spoil(head: dict[str, object]) -> None:
        snapshot = head["snapshot"]
        assert isinstance(snapshot, dict)
        snapshot["folder_link"] = place
        for cursor in snapshot["cursors"].values():
            cursor["link"] = place

    office.mutate(op="create", folder="inbox", subject="new")
    rewrite(console, "catalog/*/head", "head", spoil)
    ended = console.run("backup")
    assert ended.code == 0, ended
    assert "evil.example" not in ended.out or "it was not followed" in ended.out
    assert {row["object_id"] for row in console.messages()} == office.message_ids()
    assert console.backup()["outcome"] == "unchanged"
    console.assert_recovers(first)


def test_answers_that_are_no_json(console: Console, office: Office) -> None:
    """Broken JSON costs what it broke, is said to be that, and the next run has everything."""
    first = str(console.backup()["snapshot_id"])
    office.mutate(op="create", folder="inbox", subject="new")
    office.fault(action="garbage", path="/messages", count=-1)
    ended = console.run("backup")
    assert ended.code == 3
    assert "folder " in ended.out
    assert "Microsoft Graph answered with broken JSON" in ended.out
    assert "retried by the next run" in ended.out
    console.assert_kept(first)
    office.heal()
    office.fault(action="garbage", count=-1)
    console.fails(1, "backup", says=["answered with broken JSON", "check the proxy"])
    named = console.run("backup", "-m", USER)
    assert named.code == 1
    assert "1 failed" in named.out
    console.assert_kept(first)
    office.heal()
    console.backup()
    assert {row["object_id"] for row in console.messages()} == office.message_ids()
    assert console.run("verify", "-s", console.snapshots()[-1]["snapshot_id"]).code == 0


@pytest.mark.parametrize("action", ["truncate", "control", "reset-mid"])
def test_answers_that_are_broken_now_and_then(
    console: Console, office: Office, action: str
) -> None:
    """An answer that is cut or holds raw control characters is asked for again, or read."""
    office.fault(action=action, path="/messages/delta", count=3)
    console.assert_completes()


def test_mail_cannot_control_the_terminal(console: Console, office: Office) -> None:
    """Control characters and escapes in subject, body and folder name are written out."""
    office.mutate(op="folder-create", name=f"Folder{HOSTILE}")
    made = office.mutate(op="create", folder="inbox", subject=HOSTILE, body=BODY)
    console.assert_completes()
    message = made["immutableId"]
    listing = ("list", "-m", USER, "-s", "latest")
    for arguments in (
        listing,
        (*listing, "--all", "-S"),
        (*listing, "--all", "--json"),
        ("read", message, "-m", USER),
        ("read", message, "-m", USER, "--json"),
    ):
        ended = console.run(*arguments)
        assert ended.code == 0, ended
        assert not any(char in ended.said for char in DANGEROUS)
    assert r"\x1b[31mred\x07\x00\x7f\r\nFake: header \u202egnp.exe" in (
        console.run(*listing, "--all", "-S").out
    )
    assert r"\x1b]0;owned\x07before\x1b[2J\x9b2Jafter" in console.run("read", message).out
    document = console.run("read", message, "--json").documents()[0]
    assert document["message"]["subject"] == HOSTILE
    assert document["message"]["body"]["content"] == BODY


def test_folders_of_one_name(console: Console, office: Office) -> None:
    """Two folders of one name beside each other stay two, each with its own mail."""
    twins = [office.mutate(op="folder-create", name="Twins")["id"] for _ in range(2)]
    mail = [
        office.mutate(op="create", folder=twin, subject=f"in {number}")["immutableId"]
        for number, twin in enumerate(twins)
    ]
    console.assert_completes()
    rows = {row["object_id"]: row["folder_id"] for row in console.messages()}
    assert [rows[message] for message in mail] == twins
    ended = console.run("list", "-m", USER, "-s", "latest", "-f", "twins", "--json")
    assert {row["object_id"] for row in ended.documents()[0]["messages"]} == set(mail)
    one = console.run("list", "-m", USER, "-s", "latest", "-f", twins[1], "--json")
    assert [row["object_id"] for row in one.documents()[0]["messages"]] == [mail[1]]


def test_a_body_of_100_megabytes(console: Console, office: Office, tmp_path: Path) -> None:
    """A message of 100 MB is stored and read back exactly, in bounded memory."""
    line = "0123456789abcdef-\u00e4\u20ac\U0001f600 "
    body = line * (BODY_BYTES // len(line.encode()))
    made = office.mutate(op="create", folder="inbox", subject="huge", body=body)
    program = command("backup", "--json")
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    memory = usage.ru_maxrss * 1024
    with console.talking():
        said = f"a body of {len(body.encode()) / MIB:.0f} MiB took {memory / MIB:.0f} MiB"
        print(said)  # noqa: T201 - the figure is what this test is read for
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["totals"]["failed"] == 0
    assert memory < MOST_MEMORY
    sealer = open_sealer(console)
    largest = max((console.bucket / "data" / USER).iterdir(), key=lambda path: path.stat().st_size)
    plaintext = sealer.open(largest.read_bytes())
    assert hashlib.sha256(plaintext).hexdigest() == largest.name
    stored = json.loads(plaintext)
    assert stored["id"] == made["immutableId"]
    assert stored["body"]["content"] == body
    console.assert_completes()
