"""``atlas backup``: one, several or all mailboxes into new snapshots."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.config.settings import FolderChoice
from atlas_async.errors import UsageError

EXCLUDABLE = ("drafts", "outbox", "junkemail", "deleteditems", "sentitems", "archive", "inbox")


ENDING: Final = exits.ending(
    (
        "atlas backup                              all mailboxes of the tenant",
        "atlas backup -m ann@contoso.com           one mailbox",
        "atlas backup -m ann@contoso.com -f Inbox  one folder and those below it",
        "atlas backup --exclude-folder junkemail   everything but junk",
        "atlas backup --processes 4                use four processor cores",
        "atlas backup --mime                       with each message's original MIME",
        "atlas backup --full --json > run.jsonl    read all again, lines for a program",
    ),
    (0, 1, 2, 3, 10, 11, 12, 13, 14, 16, 130),
)


def backup(
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
        ),
    ] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option(
            "--folder",
            "-f",
            metavar="FOLDER",
            help="Only this folder and those below it: a path such as 'Inbox/Projects', or a "
            "well-known name such as sentitems. Repeat for several.",
        ),
    ] = None,
    exclude_folder: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-folder",
            metavar="NAME",
            help="Leave out a well-known folder: drafts, outbox, junkemail and so on, whatever "
            "the mailbox's language. Repeat for several.",
        ),
    ] = None,
    recoverable: Annotated[
        bool,
        typer.Option("--recoverable", help="Include what users deleted and can still recover."),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read every message again instead of changes only.")
    ] = False,
    mime: Annotated[
        bool | None,
        typer.Option(
            "--mime/--no-mime",
            help="Store the original MIME of each message too; one more request each.",
            show_default=False,
        ),
    ] = None,
    allow_replica: Annotated[
        bool,
        typer.Option(
            "--allow-replica", help="Back up into a bucket that is marked as another's replica."
        ),
    ] = False,
    page_size: Annotated[
        str | None,
        typer.Option(
            "--page-size", "-P", metavar="N", help="Messages per page asked of Graph, 1 to 999."
        ),
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option("--concurrency", "-C", metavar="N", help="Mailboxes at once, 1 to 256."),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option(
            "--processes",
            metavar="N",
            help="Spread the mailboxes over N processes, 1 to 64; one for each core helps.",
        ),
    ] = None,
    lock_wait: Annotated[
        str | None,
        typer.Option(
            "--lock-wait",
            metavar="TIME",
            help="Wait so long, such as 90s or 2h, for another run that holds a mailbox.",
        ),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Back up mailboxes. The first run reads everything, later runs what changed.

    Ctrl-C once settles what is in flight, commits a partial snapshot and exits with 130; twice
    stops at once. Either way the next run continues.
    """
    choice = FolderChoice(
        only=tuple(_named("--folder", folder)),
        exclude_well_known=frozenset(_excluded(exclude_folder)),
        recoverable=recoverable,
    )
    chosen = [_address(text) for text in _named("--mailbox", mailbox)]
    common = Common(tenant, config, json, quiet, log_level, debug)
    limits = {
        "page_size": page_size,
        "concurrency": concurrency,
        "processes": processes,
        "lock_wait": lock_wait,
        "mime": mime,
    }
    loaded = common.load(limits, need_graph=True)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched
        from atlas_async.cli.summary import show_run

        reporter = session.reporter()
        report = await watched(
            session.engine,
            reporter,
            lambda stop: session.engine.backup(
                chosen or None,
                folders=choice,
                full=full,
                allow_replica=allow_replica,
                stop=stop,
            ),
            settles=True,
        )
        await reporter.finish(report)
        show_run(session.terminal, report)
        return report.exit_code

    run(common, loaded, work)


def _named(option: str, values: list[str] | None) -> list[str]:
    for value in values or []:
        if not value.strip():
            raise UsageError(f"{option} needs a value that is not blank")
    return list(dict.fromkeys(values or []))


def _address(text: str) -> str:
    """Return an address or directory object id fit to be part of a storage key."""
    if "/" in text or any(char.isspace() or not char.isprintable() for char in text):
        raise UsageError(
            f"{text!r} is not a mailbox address",
            hint="give the address as in the directory, such as ann@contoso.com",
        )
    return text.lower()


def _excluded(names: list[str] | None) -> list[str]:
    lowered = [name.lower() for name in _named("--exclude-folder", names)]
    for name in lowered:
        if not name.isalnum() or not name.isascii():
            raise UsageError(
                f"{name!r} is not a well-known folder name",
                hint=f"well-known names have no spaces: {', '.join(EXCLUDABLE)} and so on",
            )
    return lowered
