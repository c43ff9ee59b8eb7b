"""What ``atlas drill`` writes and reads: its signed report, and lines for a person."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, cast

from anyio import to_thread
from rich.table import Table

from atlas_async.cli.progress_lines import count
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import date, size, span, visible
from atlas_async.crypto.signing import check_signature
from atlas_async.errors import UsageError
from atlas_async.model.drill import DrillReport, MailboxDrill
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.source import JsonObject

SHOWN: Final = 20
LARGEST: Final = 64 << 20
"""Bytes of a report that is read: one of 10,000 mailboxes has 5 MB."""


async def write_report(path: Path, report: DrillReport) -> None:
    """Write the signed report to a new file.

    Raises:
        UsageError: The file exists, or cannot be written.
    """
    data = dump_json(report.signed) + b"\n"

    def write() -> None:
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UsageError(f"cannot write the report {path}: {error.strerror}") from None

    await to_thread.run_sync(write)


def read_report(path: Path) -> JsonObject:
    """Read a report. Blocks.

    Raises:
        UsageError: It cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        document = load_json(data) if len(data) <= LARGEST else None
    except ValueError:
        document = None
    if not isinstance(document, dict) or "signature" not in document:
        raise UsageError(
            f"{path} is no signed report", hint="give a file of `atlas drill --report`"
        )
    return cast("JsonObject", document)


def show_check(terminal: Terminal, path: Path, document: JsonObject, public_key: str) -> int:
    """Check a report's signature, say so, and return the exit code: of the report's own verdict.

    Raises:
        IntegrityError: It was changed, or signed with another key.
    """
    check_signature(document, public_key)
    passed = document.get("passed") is True
    if terminal.json:
        terminal.document(
            {
                "report": str(path),
                "authentic": True,
                "made_at": document.get("made_at"),
                "passed": passed,
                "exit_code": document.get("exit_code"),
            }
        )
    else:
        verdict = "passed" if passed else f"did NOT pass (exit {document.get('exit_code')})"
        made = visible(str(document.get("made_at")))
        terminal.show(f"{visible(str(path))}: authentic; the drill of {made} {verdict}")
    return 0


def show_drill(terminal: Terminal, report: DrillReport, path: Path | None) -> None:
    """Show what a drill came to."""
    if terminal.json:
        terminal.document(report.signed)
        return
    if report.mailboxes and not terminal.quiet:
        terminal.show(_table(report))
    for box in report.mailboxes:
        _show_trouble(terminal, box)
    sampled = sum(box.sampled for box in report.mailboxes)
    verdict = "passed" if report.exit_code == 0 else "did NOT pass"
    terminal.show(
        f"drill {verdict}: {count(sampled, 'message')} of "
        f"{count(len(report.mailboxes), 'mailbox', 'mailboxes')}, seed {report.seed}"
    )
    if path is not None:
        key = report.signed["signature"]["public_key"]
        terminal.remark(f"report: {visible(str(path))}, signed; public key {key}")


def _show_trouble(terminal: Terminal, box: MailboxDrill) -> None:
    name = visible(box.mailbox_id)
    for failure in box.failures[:SHOWN]:
        what = f"{visible(failure.object_id)}: {visible(failure.what)}"
        terminal.show(f"{name}: {what}: {visible(failure.reason)}")
    if box.failed > SHOWN:
        terminal.show(f"{name}: ... and {box.failed - SHOWN} more")
    if box.error:
        terminal.show(f"{name}: {visible(box.error)}")
        if box.hint:
            terminal.show(f"  hint: {visible(box.hint)}")
    if box.different:
        terminal.show(f"{name}: {box.different} read back differently")


def _table(report: DrillReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ["mailbox", "snapshot of", "messages", "tried", "brought back", "attach.", "bytes"]
    if report.options.scratch:
        titles += ["read back", "all of it in about"]
    for title in titles:
        left = title in {"mailbox", "snapshot of"}
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    for box in report.mailboxes:
        row = [
            visible(box.mailbox_id),
            date(box.snapshot_made_at) if box.snapshot_made_at else "-",
            str(box.messages),
            str(box.sampled),
            str(box.restored),
            str(box.attachments),
            size(box.bytes),
        ]
        if report.options.scratch:
            row += [
                str(box.read_back),
                span(box.estimated_seconds) if box.estimated_seconds else "-",
            ]
        table.add_row(*row)
    return table
