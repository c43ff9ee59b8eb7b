"""Measured programs as processes: the engine, the floor below it, and the naive way above it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.servers import Child, Core, process

PROGRAMS = ("floor", "engine", "naive")
PASSPHRASE = "benchmark"


class IncompleteError(Exception):
    """A program did not do all of the work; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a program took and did.

    Attributes:
        wall: Seconds that passed.
        cpu: CPU seconds of the program's process, threads included.
        peak_mib: Most memory the process held meanwhile; where the system cannot tell, since its
            start.
        done: What it did: ``messages``, ``attachments``, ``graph_requests``, ``store_requests``,
            ``bytes``.
    """

    wall: float
    cpu: float
    peak_mib: float
    done: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return everything for the results."""
        return {"wall": self.wall, "cpu": self.cpu, "peak_mib": self.peak_mib, **self.done}


class Program:
    """A program that is open for runs.

    Args:
        name: Of ``PROGRAMS``.
        child: Its process, about to say that it is open.
    """

    def __init__(self, name: str, child: Child) -> None:
        self.name = name
        self.pid = child.pid
        self._child = child
        self.idle_mib: float = json.loads(child.hear())["peak_mib"]

    def run(self, verb: str, *, expected: Mapping[str, int] | None = None) -> Run:
        """Run one verb to its end, and say on standard error what it took.

        Args:
            verb: ``backup`` or ``verify``; ``floor`` also knows ``read``, which stores nothing.
            expected: What it must have done, by name.

        Raises:
            IncompleteError: It did something else.
            ChildEndedError: It failed.
        """
        self._child.tell(verb)
        told = json.loads(self._child.hear())
        run = Run(told.pop("wall"), told.pop("cpu"), told.pop("peak_mib"), told)
        for name, wanted in (expected or {}).items():
            if told[name] != wanted:
                raise IncompleteError(
                    f"{self.name} {verb}: {wanted} {name} expected, {told[name]} found; "
                    f"{json.dumps(told)[:2000]}"
                )
        if told.get("error"):
            raise IncompleteError(f"{self.name} {verb}: {told['error']}")
        print(f"{self.name} {verb}: {run.cpu:.2f} s CPU, {run.wall:.2f} s", file=sys.stderr)
        return run


@contextmanager
def program(
    name: str,
    settings: Mapping[str, str],
    mailboxes: Sequence[str],
    *,
    attachments: bool = False,
    everybody: bool = False,
) -> Iterator[Program]:
    """Start a program, over the servers that ``ATLAS_*`` settings lead to.

    Args:
        name: Of ``PROGRAMS``.
        settings: Of emulator and store together, and the engine's own.
        mailboxes: User principal names.
        attachments: Whether floor and naive are to look for attachments; the engine always does.
        everybody: Whether the engine asks the directory for the names instead.
    """
    job = {
        "settings": {**settings, "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE},
        "mailboxes": list(mailboxes),
        "attachments": attachments,
        "everybody": everybody,
    }
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with process(command, core=Core.PROGRAM) as child:
        child.tell(json.dumps(job))
        yield Program(name, child)
