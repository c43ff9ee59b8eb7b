"""``python -m tests.torture NAME [options]``: the long forms of the attacks, one command each.

Each prints its figures and ends with 0 only when everything that must hold did.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Final, cast

COMMANDS: Final = {
    "kill": "kill a run at seeded random instants, restart it, compare with the truth",
    "powercut": "the same for a power cut under the directory store",
    "restore": "kill restores and their undoing, run them to their ends, compare with the truth",
    "faults": "a share of all requests fails, from a fifth to all of them",
    "poison": "some items of 50,000 never can be read, and the process is killed on its way",
    "history": "400 daily snapshots, and mail that moves and changes ten thousand times",
    "size": "large attachments in many mailboxes at once, and a million messages",
    "soak": "hours of compressed weeks at constant memory, descriptors, tasks and threads",
}


def main(arguments: list[str]) -> int:
    """Run one attack and return its exit code."""
    if not arguments or arguments[0] not in COMMANDS:
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
        sys.stderr.write("\n".join(["usage: python -m tests.torture NAME [options]", *lines, ""]))
        return 2
    module = import_module(f"tests.torture.{arguments[0]}")
    with ended_in_order():
        return cast("Callable[[list[str]], int]", module.main)(arguments[1:])


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: with everything that it started."""

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    ]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
