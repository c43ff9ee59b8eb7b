"""Which messages are meant: the options that say it, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli.moments import end, last_moment, moment
from atlas_async.errors import SnapshotNotFound, UsageError

if TYPE_CHECKING:
    from atlas_async.operations.selection import Selection

FIRST_MOMENT: Final = datetime(1, 1, 1, tzinfo=UTC)
LATEST: Final = "latest"

Mailboxes = Annotated[
    list[str] | None,
    typer.Option(
        "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
    ),
]
Snapshot = Annotated[
    str | None,
    typer.Option(
        "--snapshot",
        "-s",
        metavar="ID",
        help="Of this snapshot, not the newest; the start of its id will do.",
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="DATE", help="Of the newest snapshot of this day, or an earlier one."
    ),
]
StartDate = Annotated[
    str | None,
    typer.Option("--start-date", metavar="DATE", help="Of all snapshots made from this day on."),
]
EndDate = Annotated[
    str | None,
    typer.Option("--end-date", metavar="DATE", help="Of all snapshots made until this day's end."),
]
Folders = Annotated[
    list[str] | None,
    typer.Option(
        "--folder",
        "-f",
        metavar="FOLDER",
        help="Only this folder and those below it: a path, a well-known name or an id. Repeat for "
        "several.",
    ),
]
Subtree = Annotated[
    bool,
    typer.Option("--subtree/--no-subtree", help="With the folders below those of -f, or not."),
]
ReceivedFrom = Annotated[
    str | None,
    typer.Option("--received-from", metavar="DATE", help="Received on this day or later."),
]
ReceivedBefore = Annotated[
    str | None,
    typer.Option("--received-before", metavar="DATE", help="Received before this day."),
]
Messages = Annotated[
    list[str] | None,
    typer.Option(
        "--message",
        metavar="ID",
        help="Only this message; the start of its id will do. Repeat for several.",
    ),
]
Found = Annotated[
    str | None,
    typer.Option(
        "--found",
        metavar="FILE",
        help="Only what 'atlas find --json' wrote to FILE; - is standard input.",
    ),
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was typed for these options, in their order. ``every``: all snapshots are meant."""

    mailboxes: list[str] | None = None
    snapshot: str | None = None
    at: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    folders: list[str] | None = None
    subtree: bool = True
    received_from: str | None = None
    received_before: str | None = None
    messages: list[str] | None = None
    found: str | None = None
    every: bool = False

    def addresses(self) -> list[str]:
        """Return the mailboxes, each once, as they are compared.

        Raises:
            UsageError: One is blank.
        """
        _not_blank("-m", self.mailboxes)
        return list(dict.fromkeys(name.strip().lower() for name in self.mailboxes or []))

    def selection(self) -> Selection:
        """Return what is meant of any mailbox.

        Raises:
            UsageError: Options contradict each other, or one is not what it should be.
        """
        from atlas_async.operations.selection import Selection

        ways = (
            self.snapshot is not None,
            self.at is not None,
            self.start_date is not None or self.end_date is not None,
            self.every,
        )
        if sum(ways) > 1:
            raise UsageError(
                "-s, --at, --start-date or --end-date, and --all-snapshots exclude each other",
                hint="each says which snapshots are meant",
            )
        _not_blank("-s", [self.snapshot] if self.snapshot is not None else None)
        _not_blank("-f", self.folders)
        _not_blank("--message", self.messages)
        if not self.subtree and not self.folders:
            raise UsageError("--no-subtree goes with -f", hint="name the folders with -f")
        snapshot = (self.snapshot or LATEST).strip()
        made = moment("--start-date", self.start_date), end("--end-date", self.end_date)
        received = (
            moment("--received-from", self.received_from),
            moment("--received-before", self.received_before),
        )
        _in_order("--start-date", "--end-date", made)
        _in_order("--received-from", "--received-before", received)
        return Selection(
            snapshot=None if snapshot.lower() == LATEST else snapshot,
            at=last_moment("--at", self.at),
            made_from=FIRST_MOMENT if self.every else made[0],
            made_before=made[1],
            received_from=received[0],
            received_before=received[1],
            folders=tuple(self.folders or ()),
            subtree=self.subtree,
            messages=tuple(self.messages or ()),
        )

    def selections(self, purpose: str) -> list[Selection]:
        """Return what is meant: one of each mailbox that is named, or of each snapshot found.

        One that names neither mailbox nor snapshot means every mailbox. Blocks while ``--found`` is
        read.

        Args:
            purpose: What is done with the messages, such as ``restore``; for errors.

        Raises:
            UsageError: Options contradict each other, or one is not what it should be.
            SnapshotNotFound: The search found nothing.
        """
        addresses, selection = self.addresses(), self.selection()
        if self.found is not None:
            if replace(self, found=None) != Chosen():
                raise UsageError(
                    "--found says which messages of which snapshots are meant",
                    hint="give no mailbox, snapshot, date, folder or message beside it",
                )
            return _of_found(self.found, purpose)
        if len(addresses) > 1 and (selection.snapshot or selection.messages):
            raise UsageError("-s and --message go with one mailbox", hint="give --at for several")
        return [replace(selection, mailbox=name) for name in addresses] or [selection]


def _of_found(source: str, purpose: str) -> list[Selection]:
    from atlas_async.cli.found_lines import by_snapshot, read_found
    from atlas_async.operations.selection import Selection

    groups = by_snapshot(read_found(source))
    if not groups:
        raise SnapshotNotFound(f"the search found nothing, so there is nothing to {purpose}")
    return [
        Selection(mailbox=mailbox, snapshot=snapshot, messages=tuple(ids))
        for (mailbox, snapshot), ids in groups.items()
    ]


def _not_blank(option: str, values: list[str] | None) -> None:
    if any(not value.strip() for value in values or []):
        raise UsageError(f"{option} needs a value that is not blank")


def _in_order(first: str, second: str, moments: tuple[datetime | None, datetime | None]) -> None:
    start, stop = moments
    if start is not None and stop is not None and stop <= start:
        raise UsageError(f"{second} is not after {first}", hint="nothing lies between them")
