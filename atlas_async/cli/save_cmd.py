"""``atlas save``, also ``atlas export``: mail as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from atlas_async.cli import choosing, exits, options, tasks
from atlas_async.cli.choosing import Chosen
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

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
    mailbox: choosing.Mailboxes = None,
    snapshot: choosing.Snapshot = None,
    at: choosing.At = None,
    start_date: choosing.StartDate = None,
    end_date: choosing.EndDate = None,
    folder: choosing.Folders = None,
    subtree: choosing.Subtree = True,
    received_from: choosing.ReceivedFrom = None,
    received_before: choosing.ReceivedBefore = None,
    message: choosing.Messages = None,
    found: choosing.Found = None,
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
    from atlas_async.export.forms import ExportForm, check_form

    form = form.strip().lower()
    if form not in FORMS:
        raise UsageError(f"--format {form[:40]!r} is none of {', '.join(FORMS)}")
    if output is not None:
        check_form(output, ExportForm(form))
    selections = Chosen(
        mailbox,
        snapshot,
        at,
        start_date,
        end_date,
        folder,
        subtree,
        received_from,
        received_before,
        message,
        found,
    ).selections("write")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched
        from atlas_async.cli.save_output import show_export

        report = await watched(
            session.engine,
            session.reporter(tasks.SAVE),
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
            task=tasks.SAVE,
        )
        show_export(session.terminal, report)
        return report.exit_code

    run(common, loaded, work)
