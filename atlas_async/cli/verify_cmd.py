"""``atlas verify``: read every object back and check it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.operations.verification import VerifyReport


ENDING: Final = exits.ending(
    (
        "atlas verify                          the whole bucket",
        "atlas verify -m ann@contoso.com       one mailbox",
        "atlas verify -s 01a1fa37-cc23 --json  one snapshot, for a program",
    ),
    (0, 1, 2, 3, 10, 12, 13, 16, 130),
)


def verify(
    snapshot: Annotated[
        str | None,
        typer.Option(
            "--snapshot",
            "-s",
            metavar="ID",
            help="Check this snapshot; the start of its id will do.",
        ),
    ] = None,
    mailbox: Annotated[
        str | None,
        typer.Option("--mailbox", "-m", metavar="ADDRESS", help="Check this mailbox."),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Check every stored object.

    Messages and attachments are decrypted and compared with their checksums.

    Without options everything in the bucket is checked. Objects are told apart as damaged (not
    what was written), missing (a snapshot names them) and foreign (intact, but not what belongs
    under their name, or written by a newer version).
    """
    for name, value in (("-m", mailbox), ("-s", snapshot)):
        if value is not None and not value.strip():
            raise UsageError(f"{name} needs a value that is not blank")
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load(need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched

        address = mailbox.lower() if mailbox else None
        report = await watched(
            session.engine,
            session.reporter(),
            lambda _: session.engine.verify(snapshot=snapshot, mailbox=address),
            settles=False,
        )
        _show(session, report)
        return report.exit_code

    run(common, loaded, work)


def _show(session: Session, report: VerifyReport) -> None:
    from atlas_async.cli.documents import verify_document
    from atlas_async.cli.exits import CODES
    from atlas_async.cli.progress_lines import count
    from atlas_async.cli.summary import MOST_ITEMS, not_stored_line
    from atlas_async.cli.tables import findings_table

    terminal = session.terminal
    if terminal.json:
        terminal.document(verify_document(report))
        return
    groups = (
        ("damaged", report.damaged),
        ("missing", report.missing),
        ("foreign", report.foreign),
    )
    for title, findings in groups:
        if findings:
            terminal.show(f"{title}: {len(findings)}", findings_table(findings))
    if report.not_stored:
        terminal.show(f"never stored, by the ledger: {count(len(report.not_stored), 'item')}")
        for item in report.not_stored[:MOST_ITEMS]:
            terminal.show(f"  {not_stored_line(item)}")
    if not terminal.quiet:
        terminal.show(
            f"{count(report.snapshots, 'snapshot')}, {count(report.messages, 'message')}, "
            f"{count(report.attachments, 'attachment')}"
        )
        terminal.show(
            f"{report.checked} objects checked: {report.ok} as written, "
            f"{len(report.damaged)} damaged, {len(report.missing)} missing, "
            f"{len(report.foreign)} foreign"
        )
        if report.exit_code:
            terminal.show(
                f"exit code {report.exit_code}: {CODES.get(report.exit_code, 'an error')}"
            )
