"""The operator's console: runs command lines and judges what each of them wrote.

No output may show a traceback unasked, or ever the passphrase, a key or a token.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from atlas_async.cli.app import run
from tests.badday.office import Office
from tests.fakes.rig import USER

ROOT = Path(__file__).parents[2]
PASSPHRASE = "correct-horse-battery-staple"
PROCESS_SECONDS = 60.0
"""A process that has not ended by then never will; the test fails."""


class Ended(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything it wrote."""
        return self.out + self.err

    def documents(self) -> list[dict[str, Any]]:
        """Return standard output as JSON documents, one a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]

    def error(self) -> dict[str, Any]:
        """Return the JSON error, the last line on standard error."""
        document: dict[str, Any] = orjson.loads(self.err.splitlines()[-1])
        assert document["message_type"] == "exit_error"
        return document


class Console:
    """Runs the program, in this process or in one of its own, with the test's settings.

    Args:
        office: Whose settings are the default.
        store: The directory that is backed up into.
        monkeypatch: Sets the environment of runs in this process.
        capture: What runs in this process write to.
    """

    def __init__(
        self,
        office: Office,
        store: Path,
        monkeypatch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[str],
    ) -> None:
        self.office = office
        self.store = store
        self.secrets = [PASSPHRASE, office.emulator.tenant.client_secret]
        self.inside: list[str] = []
        self._monkeypatch = monkeypatch
        self._capture = capture
        self.set(
            **office.settings(),
            ATLAS_STORAGE_URL=store.as_uri(),
            ATLAS_ENCRYPTION_PASSPHRASE=PASSPHRASE,
            ATLAS_DEK_VERSION="0",  # its scrypt costs a quarter
        )

    @property
    def bucket(self) -> Path:
        """The tenant's directory."""
        return self.store / f"atlas-{self.office.emulator.tenant.id}"

    def set(self, **variables: str) -> None:
        """Change settings."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def unset(self, *names: str) -> None:
        """Remove settings."""
        for name in names:
            self._monkeypatch.delenv(name, raising=False)

    def run(self, *arguments: str) -> Ended:
        """Run a command line in this process, or ``inside`` of something in one of its own."""
        if self.inside:
            return self.process(*arguments)
        self._capture.readouterr()
        root = logging.getLogger()
        handlers = list(root.handlers)
        code = run(arguments)
        root.handlers[:] = handlers
        return self.judge(Ended(code, *self._capture.readouterr()), arguments)

    def process(self, *arguments: str) -> Ended:
        """Run a command line in a process of its own."""
        done = subprocess.run(
            [*self.inside, *command(*arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_SECONDS,
        )
        return self.judge(Ended(done.returncode, done.stdout, done.stderr), arguments)

    def shell(self, line: str) -> Ended:
        """Run a line of shell in which ``atlas`` is the program."""
        program = shlex.join(command())
        done = subprocess.run(
            ["bash", "-c", f'atlas() {{ {program} "$@"; }}; {line}'],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROCESS_SECONDS,
        )
        return self.judge(Ended(done.returncode, done.stdout, done.stderr), [line])

    def judge(self, ended: Ended, arguments: Sequence[str]) -> Ended:
        """Assert what holds of every output, and return it."""
        if "--debug" not in arguments:
            assert "Traceback" not in ended.said, ended.said
            assert "unexpected error" not in ended.said, ended.said
        assert "Exception ignored" not in ended.said, ended.said
        assert "\x1b" not in ended.said
        tokens = self.office.tokens()
        for secret in [*self.secrets, *tokens, *(token.rsplit(".", 1)[1] for token in tokens)]:
            assert secret not in ended.said, arguments
        return ended

    def fails(self, code: int, *arguments: str, says: Sequence[str]) -> Ended:
        """Run a command that must fail alike for a person, for a program and under --debug.

        The sentence and the hint must hold every text of ``says``.
        """
        ended = self.run(*arguments)
        assert ended.code == code, ended
        assert ended.err.startswith("error: ") or "\nerror: " in ended.err, ended.err
        for text in says:
            assert text in ended.err, ended.err
        assert "\nhint: " in ended.err, ended.err
        document = self.run(*arguments, "--json").error()
        assert document["code"] == code
        assert document["hint"]
        assert all(text in f"{document['message']} {document['hint']}" for text in says), document
        assert self.run(*arguments, "--debug").code == code
        return ended

    def talking(self) -> AbstractContextManager[None]:
        """Let what a test prints be seen while it runs."""
        return self._capture.disabled()

    def backup(self, *arguments: str) -> dict[str, Any]:
        """Back the user up, which must work, and return the mailbox's result."""
        ended = self.run("backup", "-m", USER, "--json", *arguments)
        summary = ended.documents()[-1]
        assert (ended.code, summary["message_type"]) == (0, "summary"), ended
        (result,) = summary["mailboxes"]
        assert isinstance(result, dict)
        return result

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the user's snapshots, oldest first."""
        ended = self.run("list", "-m", USER, "--json")
        assert ended.code == 0, ended
        snapshots: list[dict[str, Any]] = ended.documents()[0]["snapshots"]
        return snapshots

    def messages(self, snapshot: str = "latest") -> list[dict[str, Any]]:
        """Return the messages of a snapshot of the user."""
        ended = self.run("list", "-m", USER, "-s", snapshot, "--all", "--json")
        assert ended.code == 0, ended
        messages: list[dict[str, Any]] = ended.documents()[0]["messages"]
        return messages

    def assert_kept(self, snapshot: str) -> None:
        """Assert that an old snapshot is listed and verifies."""
        assert snapshot in {row["snapshot_id"] for row in self.snapshots()}
        verified = self.run("verify", "-s", snapshot)
        assert verified.code == 0, verified

    def assert_completes(self, kept: str = "") -> None:
        """Assert that the next run completes the backup, and that an old snapshot is intact."""
        self.backup()
        snapshots = self.snapshots()
        assert snapshots[-1]["complete"]
        assert not kept or kept in {row["snapshot_id"] for row in snapshots}
        assert {row["object_id"] for row in self.messages()} == self.office.message_ids()
        verified = self.run("verify")
        assert verified.code == 0, verified

    def assert_recovers(self, kept: str) -> None:
        """Assert that an old snapshot is intact, and that the next run completes the backup."""
        self.assert_kept(kept)
        self.assert_completes(kept)

    def files(self) -> dict[str, bytes]:
        """Return every file below the store by its relative path."""
        return {
            str(path.relative_to(self.store)): path.read_bytes()
            for path in sorted(self.store.rglob("*"))
            if path.is_file()
        }

    def damage(self, pattern: str, change: Callable[[bytes], bytes]) -> Path:
        """Change the first object of the bucket that ``pattern`` names, and return its path."""
        path = min(self.bucket.glob(pattern))
        path.write_bytes(change(path.read_bytes()))
        return path


def command(*arguments: str) -> list[str]:
    """Return the command line that runs the program as a process."""
    return [sys.executable, "-m", "atlas_async", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """Return the test's environment with changes."""
    return {**os.environ, **changes}
