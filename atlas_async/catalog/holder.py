"""Who holds a lease: a process, named so that others on the same machine can see whether it lives.

On Linux a process is told apart by the boot it belongs to, its PID namespace, its number and the
moment it started (proc(5): ``/proc/sys/kernel/random/boot_id``, ``/proc/PID/ns/pid``, field 22 of
``/proc/PID/stat``). Elsewhere these are empty, and only the passing of time tells.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from atlas_async.model.source import JsonObject

_PROC = Path("/proc")
_MOST_NAME = 64


@dataclass(frozen=True, slots=True)
class Holder:
    """One run's name on a lease.

    Args:
        run: Random, one for each lease that is asked for.
        host: The machine's name, for people.
        pid: Process number, for people and, with the next two, for others on the machine.
        machine: Boot and PID namespace; empty where the system does not tell.
        started: When the process started, in the system's ticks; empty likewise.
    """

    run: str
    host: str
    pid: int
    machine: str
    started: str

    @classmethod
    def this_process(cls) -> Self:
        """Return a new name for a lease of this process. Reads ``/proc``: not on an event loop."""
        pid = os.getpid()
        return cls(
            run=uuid.uuid4().hex,
            host=socket.gethostname()[:_MOST_NAME],
            pid=pid,
            machine=_machine(),
            started=_started(pid) or "",
        )

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Return the holder that a lease names. Raises ``ValueError`` for another form."""
        fields = {"run": str, "host": str, "pid": int, "machine": str, "started": str}
        if not isinstance(value, dict):
            raise ValueError("the holder is not an object")  # noqa: TRY004 -- bad bytes, not a bad call
        for name, kind in fields.items():
            if type(value.get(name)) is not kind:
                raise ValueError(f"the holder's {name} is not of type {kind.__name__}")
        return cls(**{name: value[name] for name in fields})

    def to_json(self) -> JsonObject:
        """Return the holder as a lease holds it."""
        return asdict(self)

    def has_ended(self) -> bool:
        """Tell whether the process is known to have ended. Reads ``/proc``: not on an event loop.

        False says nothing: it may have run on another machine.
        """
        if not self.machine or not self.started or self.machine != _machine():
            return False
        if not _exists(self.pid):
            return True
        started = _started(self.pid)
        return started is not None and started != self.started

    def __str__(self) -> str:
        """Return what a person can look for."""
        return f"process {self.pid} on {self.host}"


def _machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except (OSError, ValueError):
        return ""


def _exists(pid: int) -> bool:
    """Tell whether there is such a process. ``/proc`` may hide those of other users; this not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _started(pid: int) -> str | None:
    """Return when a process started; empty when it has ended, None when the system hides it."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything; what follows it starts with the state.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else fields[19]
