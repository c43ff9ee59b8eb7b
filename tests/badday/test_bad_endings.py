"""Runs that are broken off, and outputs that nobody reads: nothing committed is ever lost."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from tests.badday.console import PROCESS_SECONDS, ROOT, Console, Ended, command
from tests.badday.office import Office
from tests.fakes.rig import USER

PAGES = r"/messages/delta"
ATTACHMENTS = r"/attachments"


class Running:
    """The program in a process of its own."""

    def __init__(self, console: Console, process: subprocess.Popen[str]) -> None:
        self._console = console
        self._process = process

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait_for_line(self, beginning: str) -> None:
        """Return once it has written a line on standard error that starts so."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith(beginning):
                return
        pytest.fail(f"no line starts with {beginning!r}")

    def end(self) -> Ended:
        """Wait for its end; lines that ``wait_for_line`` has read are not in the result."""
        out, err = self._process.communicate(timeout=PROCESS_SECONDS)
        return self._console.judge(Ended(self._process.returncode, out, err), [])


@contextmanager
def running(console: Console, *arguments: str) -> Iterator[Running]:
    """Start the program; it is gone when the block ends."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Running(console, process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def first(console: Console, office: Office) -> str:
    """Back the user up, then change every kind of thing; return the snapshot's id."""
    snapshot = str(console.backup()["snapshot_id"])
    large = {"name": "file.bin", "size": 30_000, "seed": 3}
    office.mutate(op="bulk-create", folder="inbox", count=30, attachments=[large])
    office.mutate(op="bulk-create", folder="sentitems", count=10)
    return snapshot


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_settles(
    console: Console, office: Office, first: str, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM once commits what is settled with 130; the next run has the rest."""
    office.stall(PAGES, after=17)
    with running(console, "backup", "--page-size", "5", "--json") as backup:
        office.wait_for_stalled()
        backup.send(number)
        ended = backup.end()
    assert ended.code == 130, ended
    assert ended.err == ""
    summary = ended.documents()[-1]
    assert (summary["message_type"], summary["interrupted"]) == ("summary", True)
    (result,) = summary["mailboxes"]
    assert result["outcome"] == "interrupted"
    assert result["snapshot_id"]
    office.heal()
    partial = console.snapshots()[-1]
    assert partial["snapshot_id"] == result["snapshot_id"]
    assert not partial["complete"]
    console.assert_kept(partial["snapshot_id"])
    console.assert_recovers(first)


def test_the_reason_is_said_once(console: Console, office: Office, first: str) -> None:
    """After Ctrl-C a person reads that it is stopping, what was done, and what the code means."""
    office.stall(PAGES, after=17)
    with running(console, "backup", "--page-size", "5") as backup:
        office.wait_for_stalled()
        backup.send(signal.SIGINT)
        backup.wait_for_line("stopping: settling what is in flight")
        ended = backup.end()
    assert ended.code == 130
    assert "exit code 130: interrupted" in ended.out
    office.heal()
    console.assert_recovers(first)


def test_two_signals_stop_at_once(console: Console, office: Office, first: str) -> None:
    """Ctrl-C twice ends a run that cannot settle, with 130 and without harm."""
    office.stall(ATTACHMENTS)
    with running(console, "backup") as backup:
        office.wait_for_stalled()
        backup.send(signal.SIGINT)
        backup.wait_for_line("stopping: settling what is in flight")
        backup.send(signal.SIGINT)
        ended = backup.end()
    assert ended.code == 130, ended
    assert "error: stopped at once" in ended.err
    assert "hint: snapshots that were committed are intact; the next run continues" in ended.err
    office.heal()
    console.assert_recovers(first)


@pytest.mark.parametrize(
    ("path", "after"), [(PAGES, 0), (PAGES, 17), (ATTACHMENTS, 0), (ATTACHMENTS, 20)]
)
def test_a_killed_run(console: Console, office: Office, first: str, path: str, after: int) -> None:
    """SIGKILL at whatever moment loses no snapshot, and the next run is complete."""
    office.stall(path, after=after)
    with running(console, "backup", "--page-size", "5") as backup:
        office.wait_for_stalled()
        backup.send(signal.SIGKILL)
        assert backup.end().code == -signal.SIGKILL
    office.heal()
    console.assert_recovers(first)


def test_reading_ends_at_the_first_signal(console: Console) -> None:
    """A listing from a store that never answers ends with 130 and a word at the first Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        console.set(
            ATLAS_STORAGE_URL="s3",
            ATLAS_S3_ENDPOINT=f"http://127.0.0.1:{server.getsockname()[1]}",
            ATLAS_S3_ACCESS_KEY="access",
            ATLAS_S3_SECRET_KEY="an-s3-secret-key",
        )
        console.secrets.append("an-s3-secret-key")
        with running(console, "list") as listing:
            connection, _ = server.accept()
            with connection:
                listing.send(signal.SIGINT)
                ended = listing.end()
    assert ended.code == 130
    assert ended.err == "error: interrupted\n"


def test_a_reader_that_leaves(console: Console, office: Office) -> None:
    """A pipe into head ends quietly; a backup whose reader has left is made all the same."""
    office.mutate(op="bulk-create", folder="inbox", count=400)
    ended = console.shell("atlas backup --json | head -n 1; echo ${PIPESTATUS[0]}")
    assert ended.err == ""
    assert ended.out.splitlines()[-1] == "1"
    assert console.snapshots()[-1]["complete"]
    listing = f"atlas list -q -s latest -m {USER} --all"
    for line in (f"{listing} | true", f"{listing} --json | head -c 1", "atlas list | true"):
        ended = console.shell(f"{line}; echo ${{PIPESTATUS[0]}}")
        assert ended.err == ""
        assert ended.out.splitlines()[-1].endswith("1")
    console.assert_completes()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(console: Console, closed: str) -> None:
    """Standard streams that are closed lose what is written there, and nothing else."""
    assert console.shell(f"atlas backup {closed}").code == 0
    assert console.snapshots()[-1]["complete"]
    assert console.shell(f"atlas nonsense {closed}").code == 2
    ended = console.shell(f"atlas list {closed}")
    assert ended.code == 0
    assert (USER in ended.out) == (">&-" not in closed.replace("2>&-", ""))
    assert ended.err == ""


def test_errors_as_json(console: Console) -> None:
    """Under --json each kind of error is one document, last on standard error; nothing else is."""
    for arguments, code in (
        (["nonsense"], 2),
        (["backup", "--page-size", "0"], 2),
        (["list", "--all"], 2),
        (["list"], 10),
        (["verify"], 10),
        (["read", "x", "-m", USER], 10),
    ):
        ended = console.process(*arguments, "--json")
        assert ended.code == code
        assert ended.out == ""
        assert len(ended.err.splitlines()) == 1
        document = ended.error()
        assert document["code"] == code
        assert document["message"]


def on_a_terminal(*arguments: str, **variables: str) -> tuple[int, str]:
    """Run the program on a terminal and return its exit code and all it wrote there."""
    ours, theirs = pty.openpty()
    environment: dict[str, Any] = {**os.environ, "TERM": "xterm-256color", **variables}
    with subprocess.Popen(
        command(*arguments), cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        with os.fdopen(ours, "rb", buffering=0) as stream:
            text = b"".join(pieces(stream))
        return process.wait(), text.decode()


def pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what the terminal shows until nobody has it open any more."""
    while True:
        try:
            piece = stream.read(65536)
        except OSError:  # how Linux says that the other side is closed
            return
        if not piece:
            return
        yield piece


def test_a_terminal_that_goes_away(console: Console, office: Office) -> None:
    """A backup that ignores SIGHUP is made although nobody sees it any more."""
    console.assert_completes()
    before = len(console.snapshots())
    office.mutate(op="bulk-create", folder="inbox", count=1500)
    ours, theirs = pty.openpty()
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command("backup")]
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        ignoring, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        assert os.read(ours, 1)
        os.close(ours)
        assert process.wait() == 1
    made = console.snapshots()[before:]
    assert [snapshot["complete"] for snapshot in made] == [True]
    console.assert_completes()


COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m")


def test_colours_can_be_turned_off(console: Console) -> None:
    """On a terminal outcomes are coloured; with NO_COLOR nothing is."""
    code, text = on_a_terminal("backup")
    assert code == 0
    assert COLOUR.search(text)
    assert "complete" in text
    for verb in ("backup", "list", "verify"):
        code, text = on_a_terminal(verb, NO_COLOR="1")
        assert code == 0
        assert not COLOUR.search(text), text


def test_mail_cannot_control_a_terminal_that_is_there(console: Console, office: Office) -> None:
    """On a terminal too, escapes in mail are written out and only ours reach it."""
    office.mutate(op="create", folder="inbox", subject="\x1b[2J\x1b]0;owned\x07 \x9b2J")
    office.mutate(op="folder-create", name="\x1b[2J\x07")
    code, text = on_a_terminal("backup")
    assert code == 0
    listing = ("list", "-m", USER, "-s", "latest")
    for arguments in (listing, (*listing, "--all", "-S"), (*listing, "--all", "--json")):
        code, shown = on_a_terminal(*arguments)
        assert code == 0
        text += shown
    assert "owned" in text
    assert not any(hostile in text for hostile in ("\x1b[2J", "\x1b]", "\x07", "\x9b"))
