"""What an export came to, for a person and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from atlas_async.cli.documents import Document, not_stored_document
from atlas_async.cli.exits import CODES
from atlas_async.cli.progress_lines import count
from atlas_async.cli.summary import MOST_ITEMS, not_stored_line
from atlas_async.cli.terminal_text import folder_name, size, visible

if TYPE_CHECKING:
    from atlas_async.cli.terminal import Terminal
    from atlas_async.export.report import ExportFailure, ExportReport

MOST_FOLDERS: Final = 200
"""Folders listed; ``--json`` has them all."""


def show_export(terminal: Terminal, report: ExportReport) -> None:
    """Write the end of ``atlas save``. Blocking."""
    if terminal.json:
        terminal.document(export_document(report))
        return
    if not terminal.quiet:
        for note in report.notes:
            terminal.show(f"note: {visible(note)}")
        terminal.show(_folders_table(report))
    for failure in report.failed[:MOST_ITEMS]:
        terminal.show(f"FAILED {_failure_line(failure)}")
    if report.failed_count > MOST_ITEMS:
        where = "" if report.dry_run else f"; {visible(str(report.manifest))} has all"
        terminal.show(f"... and {report.failed_count - MOST_ITEMS} more{where}")
    if report.not_stored:
        terminal.show(f"never stored, by the ledger: {count(len(report.not_stored), 'item')}")
        for item in report.not_stored[:MOST_ITEMS]:
            terminal.show(f"  {not_stored_line(item)}")
    if not terminal.quiet:
        for line in _closing(report):
            terminal.show(line)


def _closing(report: ExportReport) -> list[str]:
    parts = [count(report.messages, "message"), count(report.attachments, "attachment")]
    if report.originals:
        parts.append(f"{report.originals} as they came")
    parts.append(size(report.size_bytes))
    where = visible(str(report.path))
    if report.dry_run:
        return [f"would write to {where}: {', '.join(parts)} as stored"]
    if report.interrupted:
        lines = [
            f"stopped: {', '.join(parts)} so far",
            "the same command continues; nothing has its final name yet",
        ]
    else:
        lines = [f"{where}: {', '.join(parts)}"]
    if report.exit_code:
        lines.append(f"exit code {report.exit_code}: {CODES[report.exit_code]}")
    return lines


def _folders_table(report: ExportReport) -> Table:
    several = len({folder.mailbox_id for folder in report.folders}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    if several:
        table.add_column("mailbox", overflow="fold")
    table.add_column("folder", overflow="fold")
    table.add_column("messages", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for folder in report.folders[:MOST_FOLDERS]:
        cells = [folder_name(folder.names), str(folder.messages), size(folder.size_bytes)]
        mailbox = [visible(folder.mailbox_id)] if several else []
        table.add_row(*(Text(cell) for cell in (*mailbox, *cells)))
    if len(report.folders) > MOST_FOLDERS:
        table.add_row(f"... and {len(report.folders) - MOST_FOLDERS} more")
    return table


def _failure_line(failure: ExportFailure) -> str:
    what = f"{failure.kind} {visible(failure.object_id)}".strip()
    return f"{visible(failure.mailbox_id)}: {what}: {visible(failure.reason)}"


def export_document(report: ExportReport) -> Document:
    """Return the document of ``atlas save --json``."""
    written = not (report.dry_run or report.interrupted)
    return {
        "message_type": "summary",
        "path": str(report.path),
        "format": report.form.value,
        "dry_run": report.dry_run,
        "interrupted": report.interrupted,
        "resumed": report.resumed,
        "messages": report.messages,
        "size_bytes": report.size_bytes,
        "attachments": report.attachments,
        "originals": report.originals,
        "manifest": str(report.manifest) if written else None,
        "sums": str(report.sums) if written else None,
        "mailboxes": [
            {
                "mailbox_id": box.mailbox_id,
                "snapshot_ids": list(box.snapshot_ids),
                "created_at": box.created_at,
                "exact": box.exact,
            }
            for box in report.mailboxes
        ],
        "folders": [
            {
                "mailbox_id": folder.mailbox_id,
                "path": list(folder.names),
                "messages": folder.messages,
                "size_bytes": folder.size_bytes,
            }
            for folder in report.folders
        ],
        "failed": [
            {
                "mailbox_id": failure.mailbox_id,
                "object_id": failure.object_id or None,
                "kind": failure.kind,
                "name": failure.name,
                "reason": failure.reason,
                "missing": failure.is_missing,
            }
            for failure in report.failed
        ],
        "failed_count": report.failed_count,
        "not_stored": [not_stored_document(item) for item in report.not_stored],
        "notes": list(report.notes),
        "exit_code": report.exit_code,
    }
