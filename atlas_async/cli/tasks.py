"""What a command is about, for who watches it: its first moments, and being stopped at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Task:
    """A command's work.

    Args:
        beginning: What the live view says until there is something to count; empty for the table
            of mailboxes that are backed up.
        at_once_hint: What is left, and what to do, where two signals have stopped it at once.
    """

    beginning: str
    at_once_hint: str


BACKUP: Final = Task(
    "", "snapshots that were committed are intact; the next run continues from there"
)
RESTORE: Final = Task(
    "restoring: reading the snapshot and the folders of the mailbox",
    "the same command continues and makes nothing twice; `atlas restore --undo latest -m ADDRESS` "
    "takes back what was made",
)
UNDO: Final = Task(
    "taking a restore back: reading what it made",
    "what was not taken back yet is there; the same command continues",
)
SAVE: Final = Task(
    "saving: reading what there is to write",
    "what was written so far, if anything, is kept; the same command continues",
)
FIND: Final = Task(
    "searching: opening snapshots",
    "the search has no result; what was saved of the index of words is kept",
)
DRILL: Final = Task(
    "drilling: reading snapshots and choosing messages",
    "no report was made, and nothing is proved; what lies in a scratch mailbox is removed by the "
    "next drill of the same mailbox with --scratch",
)
