"""A backup as a process of its own, ended at a planned instant, and never left behind."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Event, Thread
from typing import Final, Self

from tests.torture.trapped import STEPS_BYTES, Orders, Trap

ROOT: Final = Path(__file__).parents[2]
POLL: Final = 0.05
SOON: Final = 0.002
"""Seconds between looks: at processes, and at whether a terminal is to be closed."""


class Way(StrEnum):
    """How a run is ended."""

    CALM = "not at all"
    KILL = "SIGKILL"
    TERM = "SIGTERM"
    INT = "SIGINT"
    INT_TWICE = "SIGINT twice"
    HANGUP = "closed terminal"
    WORKER = "SIGKILL of a worker"

    @property
    def signals(self) -> tuple[int, ...]:
        """The signals it sends."""
        return {
            Way.CALM: (),
            Way.KILL: (signal.SIGKILL,),
            Way.TERM: (signal.SIGTERM,),
            Way.INT: (signal.SIGINT,),
            Way.INT_TWICE: (signal.SIGINT, signal.SIGINT),
            Way.HANGUP: (signal.SIGHUP,),
            Way.WORKER: (signal.SIGKILL,),
        }[self]

    @property
    def abrupt(self) -> bool:
        """Whether the process has no time to tidy up."""
        return self in {Way.KILL, Way.HANGUP, Way.WORKER}

    @property
    def codes(self) -> frozenset[int]:
        """Exit codes that show that it was met. A signal before its handler is set ends at once."""
        return {
            Way.CALM: frozenset[int](),
            Way.KILL: frozenset({-signal.SIGKILL}),
            Way.TERM: frozenset({130, -signal.SIGTERM}),
            Way.INT: frozenset({130, -signal.SIGINT}),
            Way.INT_TWICE: frozenset({130, -signal.SIGINT}),
            Way.HANGUP: frozenset({-signal.SIGHUP}),
            Way.WORKER: frozenset({1, 3}),
        }[self]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. ``hung`` says that nothing moved for as long as patience lasts."""

    code: int
    said: str
    hung: bool = False
    strays: int = 0


class Running:
    """One run. Use as a context manager: whatever happens, its processes are gone afterwards.

    Args:
        arguments: Of ``atlas``.
        environment: Its settings.
        place: A directory for its output and its count of steps.
        checkpoint_messages: Messages after which a checkpoint is due.
        terminal: Give it a terminal, which ``close_terminal`` closes.
        trap: Where it meets a signal.
    """

    def __init__(
        self,
        arguments: Iterable[str],
        environment: dict[str, str],
        place: Path,
        *,
        checkpoint_messages: int,
        terminal: bool,
        trap: Trap,
    ) -> None:
        mark = uuid.uuid4().hex
        self._mark = mark.encode()
        self._steps = place / "steps"
        self._steps.write_bytes(bytes(STEPS_BYTES))
        self._output = place / "output"
        orders = Orders(
            mark=mark,
            steps=str(self._steps),
            checkpoint_messages=checkpoint_messages,
            terminal=terminal,
            trap=trap,
        )
        self._command = [sys.executable, "-m", "tests.torture.trapped", *arguments]
        self._environment = {**os.environ, **environment, **orders.environment()}
        self._terminal = terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._master = -1
        self._closing = Event()
        self._reader: Thread | None = None

    def __enter__(self) -> Self:
        """Start it."""
        if not self._terminal:
            with self._output.open("wb") as output:
                self._process = self._start(subprocess.DEVNULL, output.fileno())
            return self
        self._master, theirs = pty.openpty()
        self._output.write_bytes(b"")
        self._process = self._start(theirs, theirs)
        os.close(theirs)
        self._reader = Thread(target=self._read_terminal)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left of it."""
        self._end_all()
        if self._reader is not None:
            self.close_terminal()
            self._reader.join()

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def close_terminal(self) -> None:
        """Close its terminal. May be called from any thread."""
        self._closing.set()

    def wait(self, moves: Callable[[], int], patience: float) -> Ended:
        """Wait for its end and that of its workers.

        Args:
            moves: Returns a number that changes while the run makes progress elsewhere.
            patience: Seconds without any progress after which it hangs, and is ended.
        """
        process = self._process
        assert process is not None
        seen: tuple[int, int] = (-1, -1)
        since = time.monotonic()
        while process.poll() is None:
            time.sleep(POLL)
            now = (moves(), int.from_bytes(self._steps.read_bytes(), "little"))
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                process.send_signal(signal.SIGUSR1)  # it writes down where it stands
                time.sleep(1.0)
                self._end_all()
                return Ended(process.returncode, self._said(), hung=True)
        since = time.monotonic()
        while (left := self._processes()) and time.monotonic() - since < patience:
            time.sleep(POLL)
        return Ended(process.returncode, self._said(), strays=len(left))

    def _start(self, stdin: int, output: int) -> subprocess.Popen[bytes]:
        # A session of its own: what is typed at the driver's terminal is the driver's business.
        return subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdin=stdin,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _read_terminal(self) -> None:
        # The end that reads also closes: a terminal is open while anybody reads from it.
        with self._output.open("ab") as output:
            while not self._closing.is_set():
                ready, _, _ = select.select([self._master], [], [], SOON)
                if not ready:
                    continue
                try:
                    piece = os.read(self._master, 65_536)
                except OSError:  # how Linux says that nobody has the other side open
                    break
                output.write(piece)
        os.close(self._master)

    def _end_all(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self._processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _processes(self) -> list[int]:
        """Return the processes of this run that are there, known by their environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                marked = self._mark in path.read_bytes()
            except OSError:
                continue
            if marked and path.parent.name != str(os.getpid()):
                found.append(int(path.parent.name))
        return found

    def _said(self) -> str:
        return self._output.read_bytes().decode(errors="replace")
