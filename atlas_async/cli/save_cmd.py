"""``atlas save``, also ``atlas export``: mail as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import SnapshotNotFound, UsageError

if TYPE_CHECKING:
    from atlas_async.operations.selection import Selection

FORMS: Final = ("eml", "mbox", "maildir", "json")

ENDING: Final = exits.ending(
    (
        "atlas save -m ann@contoso.com                       everything, into a zip here",
        "atlas save -m ann@contoso.com -f Inbox/Projects -o projects.zip",
        "atlas save -m ann@contoso.com --at 2026-03-01 -o ann --format maildir",
        "atlas save -o all-mail                              every mailbox, a directory each",
        "atlas find --from bob --json | atlas save --found - -o bob.zip",
    ),
    (0, 1, 2, 3, 10, 12, 13, 16, 130),
)


def save(
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", "-s", metavar="ID", help="As of this snapshot, not the newest."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="DATE", help="As of the newest snapshot of this day, or an earlier one."
        ),
    ] = None,
    start_date: Annotated[
        str | None,
        typer.Option(
            "--start-date", metavar="DATE", help="All that snapshots from this day on have held."
        ),
    ] = None,
    end_date: Annotated[
        str | None,
        typer.Option("--end-date", metavar="DATE", help="All that those until this day have held."),
    ] = None,
    folder: Annotated[
        list[str] | None,
        typer.Option(
            "--folder",
            "-f",
            metavar="FOLDER",
            help="Only this folder and those below it: a path, a well-known name or an id. "
            "Repeat for several.",
        ),
    ] = None,
    no_subtree: Annotated[
        bool, typer.Option("--no-subtree", help="Without the folders below those named.")
    ] = False,
    received_from: Annotated[
        str | None,
        typer.Option("--received-from", metavar="DATE", help="Received on this day or later."),
    ] = None,
    received_before: Annotated[
        str | None,
        typer.Option("--received-before", metavar="DATE", help="Received before this day."),
    ] = None,
    message: Annotated[
        list[str] | None,
        typer.Option(
            "--message",
            metavar="ID",
            help="Only this message; the start of its id will do. Repeat for several.",
        ),
    ] = None,
    found: Annotated[
        str | None,
        typer.Option(
            "--found",
            metavar="FILE",
            help="What 'atlas find --json' wrote to this file; - is standard input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A zip where it ends with .zip, a directory otherwise.",
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="eml (the default), mbox, maildir or json."
        ),
    ] = "eml",
    no_originals: Annotated[
        bool,
        typer.Option("--no-originals", help="Build messages anew even where their MIME is stored."),
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not read back what was written.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Count what would be written; write nothing.")
    ] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Write mail as files.

    One file a message in Outlook's folders, in a zip or a directory; or mbox, Maildir, JSON. Every
    message is checked on the way. One that was stopped or killed continues with the same command.
    """
    form = form.strip().lower()
    if form not in FORMS:
        raise UsageError(f"--format {form[:40]!r} is none of {', '.join(FORMS)}")
    if output is not None and output.suffix.lower() == ".zip" and form != "eml":
        raise UsageError(
            f"a zip holds eml files, not {form}", hint="give the name of a directory with -o"
        )
    for option, values in (("-m", mailbox), ("-f", folder), ("--message", message)):
        if any(not value.strip() for value in values or []):
            raise UsageError(f"{option} needs a value that is not blank")
    chosen = _chosen(snapshot, at, start_date, end_date)
    narrowed = _narrowed(folder, received_from, received_before, message, subtree=not no_subtree)
    if found is not None and (mailbox or chosen != _chosen() or narrowed != _narrowed()):
        raise UsageError("--found says which messages: give no mailbox, snapshot or folder beside")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)
    selections = [_merged(chosen, narrowed, name) for name in _mailboxes(mailbox, snapshot)]
    if found is not None:
        selections = _of_found(found)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched
        from atlas_async.cli.save_output import show_export
        from atlas_async.export.forms import ExportForm

        report = await watched(
            session.engine,
            session.reporter(),
            lambda stop: session.engine.export(
                selections,
                output,
                form=ExportForm(form),
                originals=not no_originals,
                check=not no_verify,
                dry_run=dry_run,
                stop=stop,
            ),
            settles=not dry_run,
        )
        show_export(session.terminal, report)
        return report.exit_code

    run(common, loaded, work)


def _mailboxes(mailboxes: list[str] | None, snapshot: str | None) -> list[str | None]:
    names: list[str | None] = list(dict.fromkeys(name.strip().lower() for name in mailboxes or []))
    if snapshot is not None and len(names) > 1:
        raise UsageError("a snapshot is of one mailbox: give one -m, or --at for several")
    return names or [None]


def _chosen(
    snapshot: str | None = None,
    at: str | None = None,
    start_date: str | None = None,
    end_date: str | None = None,
) -> Selection:
    """Return which snapshots are meant."""
    from atlas_async.cli.moments import end, moment
    from atlas_async.operations.selection import Selection

    if sum((snapshot is not None, at is not None, bool(start_date or end_date))) > 1:
        raise UsageError(
            "-s, --at, and --start-date or --end-date exclude each other",
            hint="each says which snapshots are meant",
        )
    if snapshot is not None and not snapshot.strip():
        raise UsageError("-s needs a value that is not blank")
    newest = snapshot is None or snapshot.strip().lower() == "latest"
    return Selection(
        snapshot=None if newest else snapshot,
        at=end("--at", at),
        made_from=moment("--start-date", start_date),
        made_before=end("--end-date", end_date),
    )


def _narrowed(
    folders: list[str] | None = None,
    received_from: str | None = None,
    received_before: str | None = None,
    messages: list[str] | None = None,
    *,
    subtree: bool = True,
) -> Selection:
    """Return which messages of a snapshot are meant."""
    from atlas_async.cli.moments import moment
    from atlas_async.operations.selection import Selection

    return Selection(
        received_from=moment("--received-from", received_from),
        received_before=moment("--received-before", received_before),
        folders=tuple(folders or ()),
        subtree=subtree,
        messages=tuple(messages or ()),
    )


def _merged(chosen: Selection, narrowed: Selection, mailbox: str | None) -> Selection:
    from dataclasses import replace

    return replace(
        narrowed,
        mailbox=mailbox,
        snapshot=chosen.snapshot,
        at=chosen.at,
        made_from=chosen.made_from,
        made_before=chosen.made_before,
    )


def _of_found(source: str) -> list[Selection]:
    """Return a selection for every snapshot in which messages were found. Blocking."""
    from atlas_async.cli.found_lines import by_snapshot, read_found
    from atlas_async.operations.selection import Selection

    newest = {(item.mailbox_id, item.object_id): item for item in read_found(source)}
    if not newest:
        raise SnapshotNotFound("the search found nothing, so there is nothing to write")
    return [
        Selection(mailbox=mailbox_id, snapshot=snapshot_id, messages=tuple(ids))
        for (mailbox_id, snapshot_id), ids in by_snapshot(newest.values()).items()
    ]
