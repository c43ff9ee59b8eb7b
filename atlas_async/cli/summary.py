"""What a run came to, for a person: a table, what is missing and why, what the code means."""

from __future__ import annotations

from typing import Final

from rich.table import Table
from rich.text import Text

from atlas_async.cli.documents import summary_document, totals_document
from atlas_async.cli.exits import CODES
from atlas_async.cli.progress_lines import count
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import size, span, visible
from atlas_async.model.report import MailboxResult, NotStored, Outcome, RunReport

MOST_ITEMS: Final = 20
"""Items listed per mailbox; ``atlas list -s`` and ``--json`` have them all."""
MOST_LINES: Final = 100
"""Mailboxes listed in the table of a run; ``--json`` has them all."""
MOST_NAMES: Final = 5
"""Names listed of those that have no mailbox."""
STYLES: Final = {
    Outcome.COMPLETE: "green",
    Outcome.UNCHANGED: "",
    Outcome.PARTIAL: "yellow",
    Outcome.INTERRUPTED: "yellow",
    Outcome.STOPPED: "yellow",
    Outcome.FAILED: "red",
    Outcome.LOCKED: "yellow",
    Outcome.NO_MAILBOX: "dim",
}


def show_run(terminal: Terminal, report: RunReport) -> None:
    """Write the end of ``atlas backup``. Blocking."""
    if terminal.json:
        terminal.document(summary_document(report))
        return
    if not terminal.quiet:
        terminal.show(results_table(report))
    for result in report.mailboxes:
        if not _is_absent(result):
            _explain(terminal, result)
    if not terminal.quiet:
        terminal.show(*closing_lines(report))


def _is_absent(result: MailboxResult) -> bool:
    """Tell whether discovery merely met somebody without a mailbox: nothing is missing then."""
    return result.outcome is Outcome.NO_MAILBOX and result.exit_code == 0


def results_table(report: RunReport) -> Table:
    """Return a line per mailbox, those that need attention first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("mailbox", "outcome", "snapshot"):
        table.add_column(title, overflow="fold")
    for title in ("stored", "dedup.", "attach.", "failed", "uploaded", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    present = [result for result in report.mailboxes if not _is_absent(result)]
    ranked = sorted(present, key=lambda result: (-result.exit_code, result.mailbox_id))
    for result in ranked[:MOST_LINES]:
        table.add_row(
            Text(visible(result.mailbox_id)),
            Text(result.outcome.value, style=STYLES[result.outcome]),
            Text(result.snapshot_id or "-"),
            str(result.stored),
            str(result.deduplicated),
            str(result.attachments_stored),
            Text(str(result.failed), style="red" if result.failed else ""),
            size(result.bytes_uploaded),
            span(result.seconds),
        )
    if len(ranked) > MOST_LINES:
        table.add_row(f"+{len(ranked) - MOST_LINES} more")
    return table


def closing_lines(report: RunReport) -> list[str]:
    """Return the totals and the meaning of the exit code."""
    totals = totals_document(report.mailboxes)
    outcomes = [result.outcome for result in report.mailboxes]
    spread = ", ".join(
        f"{outcomes.count(kind)} {kind.value}" for kind in Outcome if kind in outcomes
    )
    over = f"{count(totals['mailboxes'], 'mailbox', 'mailboxes')} in {span(report.seconds)}"
    done = (
        f"{totals['stored']} stored, {totals['deduplicated']} deduplicated, "
        f"{count(totals['attachments_stored'], 'attachment')}, {totals['failed']} failed, "
        f"{size(totals['bytes_uploaded'])} uploaded"
    )
    cost = (
        f"{count(totals['graph_requests'], 'Graph request')} "
        f"(throttled {count(totals['throttled'], 'time')}), "
        f"{count(totals['store_requests'], 'store request')}"
    )
    lines = ["", f"{over}: {spread or 'the tenant has none that can be backed up'}", done, cost]
    if totals["originals_stored"] or totals["originals_refused"]:
        given = count(totals["originals_stored"], "original")
        lines.append(f"{given}, {totals['originals_refused']} that Microsoft Graph does not give")
    absent = [visible(r.mailbox_id) for r in report.mailboxes if _is_absent(r)]
    if absent:
        more = f" and {len(absent) - MOST_NAMES} more" if len(absent) > MOST_NAMES else ""
        lines.append(f"without a mailbox: {', '.join(absent[:MOST_NAMES])}{more}")
    code = report.exit_code
    if code:
        lines.append(f"exit code {code}: {CODES.get(code, 'an error')}")
    return lines


def _explain(terminal: Terminal, result: MailboxResult) -> None:
    name = visible(result.mailbox_id)
    if result.error:
        terminal.show(Text(f"{name}: {visible(result.error)}", style=STYLES[result.outcome]))
        if result.hint:
            terminal.show(f"  hint: {visible(result.hint)}")
    if not terminal.quiet:
        for notice in result.notices:
            terminal.show(f"{name}: {visible(notice)}")
    if result.not_stored:
        terminal.show(f"{name}: {count(len(result.not_stored), 'item')} not stored")
        for item in result.not_stored[:MOST_ITEMS]:
            terminal.show(f"  {not_stored_line(item)}")
        if len(result.not_stored) > MOST_ITEMS:
            terminal.show(
                f"  +{len(result.not_stored) - MOST_ITEMS} more, in --json and atlas list"
            )
        if not terminal.quiet:
            terminal.show(f"  'atlas ledger explain {result.not_stored[0].id}' explains the first")


def not_stored_line(item: NotStored) -> str:
    """Return what is missing and why, without its subject: that may be confidential."""
    what = item.attachment_id or item.object_id
    future = "permanent" if item.permanent else "retried by the next run"
    request = f", request {visible(item.request_id)}" if item.request_id else ""
    return (
        f"[{item.id}] {item.kind} {visible(what)}: {visible(item.code)}: {visible(item.reason)} "
        f"({future}, {count(item.attempts, 'attempt')}{request})"
    )
