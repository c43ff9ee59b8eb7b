"""The program as the kill driver starts it: it takes small steps, and falls into a trap.

``python -m tests.torture.trapped backup ...`` is ``atlas backup ...`` whose checkpoints, merges and
blocks come after a few messages, and which sends itself a signal at the n-th step of one kind.
Steps are counted over the calls of the store and, in a directory store, over those of the file
system, so that an instant means the same on every machine. Worker processes count their own steps,
and their trap meets the parent, or the worker itself when the plan says so.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import json
import mmap
import os
import signal
import termios
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.torture.small_steps import take_small_steps

VARIABLE: Final = "TORTURE"
STEPS_BYTES: Final = 8
_PARENT_DEATH_SIGNAL: Final = 1  # prctl.h
_SPECIAL: Final = ("/head", "manifests/", "/snapshots/", "_meta/")


@dataclass(frozen=True, slots=True)
class Trap:
    """When which signals are sent.

    Args:
        kind: What is counted: ``put-begin``, ``put-end``, ``commit-begin``, ``commit-end`` (puts of
            what a commit consists of: key, descriptor, manifest, head), ``file`` (calls of the file
            system), or an empty string for no trap.
        number: At the how manyth the first signal is sent, from 1.
        signals: The signals, in order.
        gap: Steps of any kind between one signal and the next.
        delay: Seconds between the step and the signal: into the middle of an exchange.
        worker: Workers meet their own trap instead of their parent's.
    """

    kind: str = ""
    number: int = 0
    signals: tuple[int, ...] = ()
    gap: int = 0
    delay: float = 0.0
    worker: bool = False


NO_TRAP: Final = Trap()


@dataclass(frozen=True, slots=True)
class Orders:
    """What a run is told by the driver.

    Args:
        mark: Names the run: it stands in the environment of all its processes.
        steps: A file of ``STEPS_BYTES`` in which steps are counted, for the watchdog.
        checkpoint_messages: Messages after which a checkpoint is due.
        terminal: Standard input is to become the controlling terminal.
        trap: The trap.
    """

    mark: str
    steps: str
    checkpoint_messages: int
    terminal: bool = False
    trap: Trap = NO_TRAP

    def environment(self) -> dict[str, str]:
        """Return the variable that carries them."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def received(cls) -> Orders:
        """Read them from the environment."""
        values = json.loads(os.environ[VARIABLE])
        trap = values.pop("trap")
        return cls(**values, trap=Trap(**{**trap, "signals": tuple(trap["signals"])}))


class Steps:
    """Counts steps and springs the trap. Used from several threads.

    Args:
        orders: Where the trap is.
        victim: Returns the process that the signals are for; 0 once it is gone.
    """

    def __init__(self, orders: Orders, victim: Callable[[], int]) -> None:
        self._trap = orders.trap
        self._victim = victim
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._left = list(orders.trap.signals)
        self._wait = 0
        with Path(orders.steps).open("r+b") as file:
            self._told = mmap.mmap(file.fileno(), STEPS_BYTES)

    def step(self, *kinds: str) -> None:
        """Count a step that is about to be taken, or was just taken."""
        with self._lock:
            told = int.from_bytes(self._told[:STEPS_BYTES], "little")
            self._told[:STEPS_BYTES] = (told + 1).to_bytes(STEPS_BYTES, "little")
            self._counts.update(kinds)
            trap = self._trap
            first = trap.kind in kinds and self._counts[trap.kind] == trap.number
            if not self._left or not (first or self._wait == 1):
                self._wait = max(0, self._wait - 1)
                return
            self._wait = max(1, trap.gap)
            number = self._left.pop(0)
        if trap.delay:
            timer = threading.Timer(trap.delay, self._send, (number,))
            timer.daemon = True
            timer.start()
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        if self._victim():
            os.kill(self._victim(), number)


def _count_puts(steps: Steps) -> None:
    from atlas_async.store.directory import DirectoryStore
    from atlas_async.store.s3 import S3Store

    def counted(put: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def run(self: Any, key: str, *args: Any, **options: Any) -> None:
            special = any(part in key for part in _SPECIAL)
            steps.step("put-begin", *["commit-begin"] * special)
            await put(self, key, *args, **options)
            steps.step("put-end", *["commit-end"] * special)

        return run

    for store in (DirectoryStore, S3Store):
        setattr(store, "put", counted(store.put))  # noqa: B010 -- a method cannot be assigned


def _count_file_calls(steps: Steps) -> None:
    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            steps.step("file")
            return call(*args, **options)

        return run

    for name in ("open", "write", "fsync", "link", "replace", "mkdir", "unlink"):
        setattr(os, name, counted(getattr(os, name)))


def _set(orders: Orders, victim: Callable[[], int]) -> None:
    take_small_steps(orders.checkpoint_messages)
    steps = Steps(orders, victim)
    _count_puts(steps)
    if orders.trap.kind == "file":
        _count_file_calls(steps)
    faulthandler.register(signal.SIGUSR1, all_threads=True)


def work() -> None:
    """Be a worker process of a trapped run."""
    from atlas_async.shards import worker

    orders = Orders.received()
    parent = os.getppid()
    # A parent that is gone must not be mistaken for whoever adopted its children.
    living = os.getpid if orders.trap.worker else lambda: parent * (os.getppid() == parent)
    _set(orders, living)
    worker.main()


def main() -> None:
    """Be the program."""
    from atlas_async.cli import app
    from atlas_async.shards import shard

    orders = Orders.received()
    # What the driver started ends with it, even when it has no time left to end it.
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if orders.terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the driver may run under nohup
    _set(replace(orders, trap=NO_TRAP) if orders.trap.worker else orders, os.getpid)
    start = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from tests.torture.trapped import work; work()"
    )
    setattr(shard, "START", start)  # noqa: B010 -- a constant
    app.main()


if __name__ == "__main__":
    main()
