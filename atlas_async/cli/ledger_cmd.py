"""``atlas ledger``: list, explain, retry and forget what Graph showed and the snapshots lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.cli.typed_values import VerbCommand, VerbGroup
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.model.report import RunReport
    from atlas_async.operations.ledger import LedgerEntry


class LedgerGroup(VerbGroup):
    """A group that lists when it is not told what else to do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` before options that are not the group's own."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


ledger = typer.Typer(
    cls=LedgerGroup,
    rich_markup_mode=None,
    help="Look after what could not be stored. Without a command: list it.",
    add_completion=False,
)

READING: Final = (0, 1, 2, 10, 12, 13, 16, 130)
LIST_ENDING: Final = exits.ending(
    (
        "atlas ledger                            what is missing, of all mailboxes",
        "atlas ledger list -m ann@contoso.com -S  of one, with subjects",
        "atlas ledger list --all --json          with what was forgotten, for a program",
    ),
    READING,
)
EXPLAIN_ENDING: Final = exits.ending(("atlas ledger explain 3f2a91",), READING)
RETRY_ENDING: Final = exits.ending(
    (
        "atlas ledger retry                      all that is missing, now",
        "atlas ledger retry -m ann@contoso.com   of one mailbox",
        "atlas ledger retry 3f2a91 77c0e5        these, forgotten or not",
    ),
    (0, 1, 2, 3, 10, 11, 12, 13, 14, 16, 130),
)
FORGET_ENDING: Final = exits.ending(
    ("atlas ledger forget 3f2a91 -m ann@contoso.com",), (0, 1, 2, 10, 11, 12, 13, 16, 130)
)

Ids = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="An entry's id or the start of it, or a whole Graph id of a message, attachment or "
        "folder.",
        show_default=False,
    ),
]
Mailbox = Annotated[
    str | None, typer.Option("--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox.")
]
Subjects = Annotated[
    bool,
    typer.Option("--subjects", "-S", help="Show subjects and file names. JSON always has them."),
]


@ledger.command("list", cls=VerbCommand, epilog=LIST_ENDING)
def list_entries(
    mailbox: Mailbox = None,
    everything: Annotated[bool, typer.Option("--all", help="With what was forgotten.")] = False,
    subjects: Subjects = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """List what could not be stored.

    What Graph showed and the newest snapshot of a mailbox lacks. Only the bucket is read.
    """
    _check([], [mailbox])
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.documents import ledger_document
        from atlas_async.cli.interrupt import until_interrupted
        from atlas_async.cli.ledger_output import ledger_table, totals_line

        terminal = session.terminal
        found = await until_interrupted(
            lambda: session.engine.ledger(mailbox, include_forgotten=everything)
        )
        if terminal.json:
            terminal.document(ledger_document(found))
        elif found:
            terminal.show(ledger_table(found, subjects=subjects))
            terminal.remark(totals_line(found))
        else:
            terminal.remark("nothing is missing")
        return 0

    run(common, loaded, work)


@ledger.command("explain", cls=VerbCommand, epilog=EXPLAIN_ENDING)
def explain(
    ids: Ids,
    mailbox: Mailbox = None,
    subjects: Subjects = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Say all that is known of an entry.

    What the code means, what can be done, and the request id that Microsoft support asks for.
    """
    _check(ids, [mailbox])
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.documents import ledger_document
        from atlas_async.cli.interrupt import until_interrupted
        from atlas_async.cli.ledger_output import explanation

        found = await until_interrupted(
            lambda: session.engine.find_in_ledger(ids, [mailbox] if mailbox else None)
        )
        if session.terminal.json:
            session.terminal.document(ledger_document(found, explained=True))
        for entry in [] if session.terminal.json else found:
            session.terminal.show(explanation(entry, subjects=subjects))
        return 0

    run(common, loaded, work)


@ledger.command("retry", cls=VerbCommand, epilog=RETRY_ENDING)
def retry(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...]",
            help="Only these entries: an id, the start of one, or a whole Graph id. Forgotten ones "
            "count as missing again.",
            show_default=False,
        ),
    ] = None,
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="What was forgotten too; it counts as missing again."),
    ] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Try again now.

    No folder is asked for changes; a folder that could not be read is read. What is got goes into
    a new snapshot. Ends with 3 while something of what was asked for is still missing.
    """
    _check(ids or [], mailbox or [])
    if ids and everything:
        raise UsageError("--all tries every entry: leave out the ids")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=True)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched

        reporter = session.reporter()
        report = await watched(
            session.engine,
            reporter,
            lambda stop: session.engine.retry_ledger(
                ids or (), mailboxes=mailbox, include_forgotten=everything, stop=stop
            ),
            settles=True,
        )
        await reporter.finish(report)
        _show_retry(session, report)
        return report.exit_code

    run(common, loaded, work)


@ledger.command("forget", cls=VerbCommand, epilog=FORGET_ENDING)
def forget(
    ids: Ids,
    mailbox: Annotated[
        str,
        typer.Option("--mailbox", "-m", metavar="ADDRESS", help="Whose.", show_default=False),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Give items up.

    They count as missing no more and are not tried again, unless Graph shows them anew. They stay
    in the ledger: 'atlas ledger list --all' shows them, 'atlas ledger retry' takes them up again.
    """
    _check(ids, [mailbox])
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.documents import forgetting_document
        from atlas_async.cli.interrupt import until_interrupted
        from atlas_async.cli.progress_lines import count

        terminal = session.terminal
        if not yes:
            await until_interrupted(lambda: _ask(session, ids, mailbox))
        done = await until_interrupted(lambda: session.engine.forget(ids, mailbox))
        if terminal.json:
            terminal.document(forgetting_document(done))
        elif done.snapshot_id is None:
            terminal.remark("forgotten already; nothing was changed")
        else:
            forgotten = count(len(done.entries), "item")
            terminal.remark(f"{forgotten} forgotten in snapshot {done.snapshot_id}")
        return 0

    run(common, loaded, work)


async def _ask(session: Session, ids: list[str], mailbox: str) -> None:
    """Show what is about to be forgotten and have it confirmed."""
    from atlas_async.cli.confirm import confirm
    from atlas_async.cli.ledger_output import ledger_table
    from atlas_async.cli.progress_lines import count

    found: list[LedgerEntry] = [*await session.engine.find_in_ledger(ids, [mailbox])]
    session.terminal.remark(ledger_table(found, subjects=False))
    question = f"Forget {count(len(found), 'item')} of {found[0].mailbox_id}"
    await confirm(session.terminal, question, otherwise="confirm with --yes")


def _show_retry(session: Session, report: RunReport) -> None:
    from atlas_async.cli.summary import show_run

    if report.mailboxes or session.terminal.json:
        show_run(session.terminal, report)
    else:
        session.terminal.remark("nothing is missing, so nothing was tried")


def _check(ids: list[str], mailboxes: list[str] | list[str | None]) -> None:
    for name, values in (("ID", ids), ("-m", mailboxes)):
        for value in values:
            if value is not None and not value.strip():
                raise UsageError(f"{name} needs a value that is not blank")
