"""``atlas prune``: remove objects that no snapshot names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from atlas_async.cli import exits, options
from atlas_async.cli.session import Common, Session, run
from atlas_async.errors import UsageError

if TYPE_CHECKING:
    from atlas_async.operations.pruning import PrunedMailbox, PruneReport

MOST_KEYS: Final = 20
"""Keys listed for a person; ``--json`` has up to a thousand of a mailbox."""

ENDING: Final = exits.ending(
    (
        "atlas prune --dry-run            say what would be removed",
        "atlas prune                      remove what is older than a day",
        "atlas prune -m ann@contoso.com   in one mailbox",
        "atlas prune --older-than 7d      leave what is younger than a week",
    ),
    (0, 1, 2, 3, 10, 11, 12, 13, 16, 130),
)


def prune(
    mailbox: Annotated[
        list[str] | None,
        typer.Option(
            "--mailbox", "-m", metavar="ADDRESS", help="Only this mailbox. Repeat for several."
        ),
    ] = None,
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than",
            metavar="TIME",
            help="Leave what is younger than so long, such as 24h or 7d.",
        ),
    ] = "24h",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be removed; remove nothing.")
    ] = False,
    lock_wait: Annotated[
        str | None,
        typer.Option(
            "--lock-wait",
            metavar="TIME",
            help="Wait so long, such as 90s or 2h, for a backup that holds a mailbox.",
        ),
    ] = None,
    tenant: options.Tenant = None,
    config: options.Config = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    log_level: options.LogLevel = None,
    debug: options.Debug = False,
) -> None:
    """Remove what no snapshot names.

    Backups that were killed or given up leave objects behind that no snapshot names. Those that are
    old enough are removed; whatever a snapshot or an unfinished run names stays.
    """
    for value in mailbox or []:
        if not value.strip():
            raise UsageError("-m needs a value that is not blank")
    seconds = _seconds(older_than)
    common = Common(tenant, config, json, quiet, log_level, debug)
    loaded = common.load({"lock_wait": lock_wait}, need_graph=False)

    async def work(session: Session) -> int:
        from atlas_async.cli.interrupt import watched

        report = await watched(
            session.engine,
            session.reporter(),
            lambda _: session.engine.prune(mailbox, older_than=seconds, dry_run=dry_run),
            settles=False,
        )
        _show(session, report)
        return report.exit_code

    run(common, loaded, work)


def _seconds(text: str) -> float:
    from atlas_async.config.checks import Malformed, duration

    try:
        return duration(text)
    except Malformed:
        raise UsageError(
            f"--older-than {text[:40]!r} is not a time", hint="give 90s, 10m, 24h or 7d"
        ) from None


def _show(session: Session, report: PruneReport) -> None:
    from atlas_async.cli.documents import prune_document
    from atlas_async.cli.terminal_text import size, visible

    terminal = session.terminal
    if terminal.json:
        terminal.document(prune_document(report))
        return
    for box in report.mailboxes:
        if box.error:
            terminal.show(f"{visible(box.mailbox_id)}: {visible(box.error)}")
            if box.hint:
                terminal.show(f"  hint: {visible(box.hint)}")
        if box.looked_at and not terminal.quiet:
            terminal.show(f"{visible(box.mailbox_id)}: {_counts(box, dry_run=report.dry_run)}")
            for key in box.keys[:MOST_KEYS]:
                terminal.show(f"  {visible(key)}")
            if box.removed > MOST_KEYS:
                terminal.show(f"  ... and {box.removed - MOST_KEYS} more")
    if any(box.looked_at for box in report.mailboxes) and not terminal.quiet:
        verb = "would be removed" if report.dry_run else "removed"
        removed = sum(box.removed for box in report.mailboxes)
        freed = sum(box.removed_bytes for box in report.mailboxes)
        terminal.show(f"{removed} objects {verb}, {size(freed)}")


def _counts(box: PrunedMailbox, *, dry_run: bool) -> str:
    parts = [f"{box.objects} objects", f"{box.unreferenced} that no snapshot names"]
    if box.young:
        parts.append(f"{box.young} of them too young")
    parts.append(f"{box.removed} {'to be removed' if dry_run else 'removed'}")
    if box.kept:
        parts.append(f"{box.kept} that the store refused to delete")
    return ", ".join(parts)
