"""Mail that Graph shows and never gives, and ``atlas ledger`` as its operator uses it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.badday.console import PROCESS_SECONDS, ROOT, Console, command
from tests.badday.office import Office
from tests.fakes.rig import USER


def poison(office: Office) -> str:
    """Make one message unreadable and return its id."""
    message = min(office.message_ids())
    office.do(lambda: office.emulator.control.trouble(USER, message, 500, "ErrorCorruptData"))
    return message


def cure(office: Office) -> None:
    """Make it readable again."""
    office.do(lambda: office.emulator.control.cure(USER))


def entry_of(console: Console, *arguments: str) -> dict[str, Any]:
    """Return the one entry of the ledger."""
    ended = console.run("ledger", "list", "-m", USER, "--json", *arguments)
    assert ended.code == 0, ended
    (entry,) = ended.documents()[0]["entries"]
    assert isinstance(entry, dict)
    return entry


def backup(console: Console, code: int) -> dict[str, Any]:
    """Back the user up, which must end so, and return the result."""
    ended = console.run("backup", "-m", USER, "--json")
    assert ended.code == code, ended
    (result,) = ended.documents()[-1]["mailboxes"]
    assert isinstance(result, dict)
    return result


def test_a_poisoned_message_from_report_to_cure(console: Console, office: Office) -> None:
    """The report names it, the ledger explains it, a retry gets it once Graph gives it."""
    message = poison(office)
    report = console.run("backup", "-m", USER)
    assert report.code == 3
    (named,) = backup(console, 3)["not_stored"]
    entry = entry_of(console)
    assert (entry["object_id"], entry["id"]) == (message, named["id"])
    assert f"'atlas ledger explain {entry['id']}'" in report.out
    explained = console.run("ledger", "explain", entry["id"][:5])
    assert explained.code == 0
    assert "Exchange says that the data of this item is corrupt" in explained.out
    assert f"{entry['request_id']} (for Microsoft support)" in explained.out
    vain = console.run("ledger", "retry", entry["id"][:5])
    assert vain.code == 3, vain
    assert message in vain.out
    cure(office)
    got = console.run("ledger", "retry")
    assert got.code == 0, got
    assert {row["object_id"] for row in console.messages()} == office.message_ids()
    assert "nothing is missing" in console.run("ledger").err
    assert console.backup()["outcome"] == "unchanged"
    assert console.run("verify").code == 3, "the first snapshot still lacks it"


def test_a_message_that_is_given_up(console: Console, office: Office) -> None:
    """Forgetting ends exit code 3, keeps a trace, and can be taken back."""
    message = poison(office)
    backup(console, 3)
    entry = entry_of(console)
    refused = console.run("ledger", "forget", entry["id"], "-m", USER)
    assert refused.code == 2
    assert "--yes" in refused.err
    done = console.run("ledger", "forget", entry["id"], "-m", USER, "--yes", "--json")
    assert done.code == 0, done
    snapshot = done.documents()[0]["snapshot_id"]
    assert console.snapshots()[-1]["snapshot_id"] == snapshot
    assert console.snapshots()[-1]["not_stored_count"] == 0
    result = backup(console, 0)
    assert (result["outcome"], result["failed"], result["not_stored"]) == ("unchanged", 0, [])
    assert console.run("verify").code == 0
    assert console.run("ledger", "--json").documents() == [{"entries": []}]
    assert "not stored" not in console.run("list", "-m", USER, "-s", "latest").out
    assert entry_of(console, "--all")["forgotten"]
    assert "forgotten at" in console.run("ledger", "explain", message).out
    assert console.run("ledger", "retry", entry["id"]).code == 3
    assert entry_of(console)["forgotten"] is None
    cure(office)
    assert console.run("ledger", "retry", "-m", USER).code == 0
    assert {row["object_id"] for row in console.messages()} == office.message_ids()
    assert console.snapshots()[-1]["complete"]
    assert snapshot in {row["snapshot_id"] for row in console.snapshots()}


def test_wrong_names_are_explained(console: Console, office: Office) -> None:
    """Unknown mailboxes and entries end with 10, short beginnings with 2, and nothing is written."""
    poison(office)
    backup(console, 3)
    files = console.files()
    forget = ("ledger", "forget", "--yes")
    console.fails(10, "ledger", "-m", "nobody@contoso.com", says=["nobody@contoso.com", USER])
    console.fails(10, "ledger", "explain", "0000000", says=["0000000", "atlas ledger list --all"])
    console.fails(10, *forget, "0000000", "-m", USER, says=["0000000"])
    console.fails(10, "ledger", "retry", "-m", "nobody@contoso.com", says=["nobody@contoso.com"])
    console.fails(2, *forget, "abc", "-m", USER, says=["at least 4 characters"])
    assert console.files() == files


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command line on a terminal of its own; yield the process and the terminal's end."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            command(*arguments),
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - the child does nothing else before
        ) as process:
            os.close(theirs)
            try:
                yield process, ours
            finally:
                process.kill()
    finally:
        os.close(ours)


def _take_terminal() -> None:
    """Make standard input the terminal that Ctrl-C is typed on."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_until(terminal: int, text: str) -> str:
    """Return what is shown, up to a text that must come, or to the end."""
    shown = b""
    give_up = time.monotonic() + PROCESS_SECONDS
    while text.encode() not in shown or not text:
        ready, _, _ = select.select([terminal], [], [], max(0.0, give_up - time.monotonic()))
        assert ready, shown
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    return shown.decode(errors="replace")


@pytest.mark.parametrize(
    ("typed", "code"), [(b"yes\n", 0), (b"no\n", 2), (b"\n", 2), (b"\x04", 2), (b"\x03", 130)]
)
def test_forgetting_is_confirmed_on_a_terminal(
    console: Console, office: Office, typed: bytes, code: int
) -> None:
    """What is about to be forgotten is shown; only yes does it, and Ctrl-C ends the question."""
    message = poison(office)
    backup(console, 3)
    entry = entry_of(console)
    with on_a_terminal("ledger", "forget", message, "-m", USER) as (process, terminal):
        asked = read_until(terminal, "Type yes: ")
        assert f"Forget 1 item of {USER}?" in asked
        assert entry["id"] in asked
        os.write(terminal, typed)
        rest = read_until(terminal, "")
        assert process.wait(PROCESS_SECONDS) == code, rest
        assert "Traceback" not in rest
    assert bool(entry_of(console, "--all")["forgotten"]) == (code == 0)
