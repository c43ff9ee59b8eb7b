"""What ``atlas drill`` writes and reads: its signed report, and lines for a person."""

from __future__ import annotations

import errno
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from anyio import to_thread
from rich.table import Table

from atlas_async.cli.progress_lines import count
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import date, size, span, visible
from atlas_async.crypto.signing import check_signature
from atlas_async.errors import AtlasError, IntegrityError, UsageError
from atlas_async.model.drill import DrillReport, MailboxDrill
from atlas_async.model.message import dump_json
from atlas_async.model.source import JsonObject
from atlas_async.store.durable_files import sync_directory

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
SHOWN: Final = 20
LARGEST: Final = 64 << 20
"""Bytes of a report that is read: one of 10,000 mailboxes has 5 MB."""


def check_place(path: Path) -> None:
    """Make sure that a report can be written there, before hours go into it. Blocks.

    Raises:
        UsageError: Something is there already, or nothing can be written.
    """
    hint = "give the name of a new file in a directory that can be written to"
    try:
        with suppress(FileNotFoundError):
            path.lstat()
            raise UsageError(f"{path} exists already", hint=hint)
        trial = _beside(path)
        os.close(os.open(trial, NEW_FILE, 0o600))
        trial.unlink()
    except OSError as error:
        msg = f"cannot write the report {path}: {error.strerror}"
        raise UsageError(msg, hint=hint) from None


async def write_report(path: Path, report: DrillReport) -> None:
    """Write the signed report to a new file that only this user can read; whole, or not at all.

    Raises:
        AtlasError: It cannot be written.
    """
    await to_thread.run_sync(_write, path, dump_json(report.signed) + b"\n")


def _write(path: Path, data: bytes) -> None:
    made: Path | None = None
    try:
        trial = _beside(path)
        with os.fdopen(os.open(trial, NEW_FILE, 0o600), "wb") as file:
            made = trial
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _name(trial, path)
        sync_directory(path.absolute().parent)
    except OSError as error:
        raise AtlasError(
            f"the report {path} is not written: {error.strerror}",
            hint="what the drill came to is said on standard output; with --json that is the "
            "signed report",
        ) from None
    finally:
        if made is not None:
            with suppress(OSError):
                made.unlink(missing_ok=True)


def _name(trial: Path, path: Path) -> None:
    """Give a file that is whole its name, and replace nothing. Raises ``OSError``."""
    try:
        os.link(trial, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        trial.rename(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".atlas-{secrets.token_hex(6)}.partial")


def read_report(path: Path) -> JsonObject:
    """Read a report. Blocks.

    Raises:
        UsageError: It cannot be read, or is none.
        IntegrityError: A name is there twice, so that programs would read different things.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    try:
        document = _parsed(data) if len(data) <= LARGEST else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or "signature" not in document:
        raise UsageError(
            f"{path} is no signed report", hint="give a file of `atlas drill --report`"
        )
    return cast("JsonObject", document)


def _parsed(data: bytes) -> object:
    def object_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            msg = "the report has a name twice, so it was changed after it was signed"
            raise IntegrityError(msg, hint="do not rely on it")
        return found

    # Not orjson, which does not tell of names that are there twice.
    return json.loads(data, object_pairs_hook=object_of)


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
        if document.get("interrupted") is True:
            verdict = "was interrupted"
        made = visible(str(document.get("made_at")))
        terminal.show(f"{visible(str(path))}: authentic; the drill of {made} {verdict}")
    return 0


def show_drill(terminal: Terminal, report: DrillReport, path: Path | None) -> None:
    """Show what a drill came to."""
    if report.options.dry_run:
        _show_dry_run(terminal, report)
        return
    if terminal.json:
        terminal.document(report.signed)
        return
    if report.mailboxes and not terminal.quiet:
        terminal.show(_table(report))
    for box in report.mailboxes:
        _show_trouble(terminal, box)
    tried = sum(box.tried for box in report.mailboxes)
    verdict = "passed" if report.exit_code == 0 else "did NOT pass"
    if report.interrupted:
        verdict = "interrupted"
    terminal.show(
        f"drill {verdict}: {count(tried, 'message')} of "
        f"{count(len(report.mailboxes), 'mailbox', 'mailboxes')}, seed {report.seed}"
    )
    if path is not None:
        key = report.signed["signature"]["public_key"]
        terminal.remark(f"report: {visible(str(path))}, signed; public key {key}")


def _show_dry_run(terminal: Terminal, report: DrillReport) -> None:
    boxes = [
        {
            "mailbox_id": box.mailbox_id,
            "snapshot_id": box.snapshot_id,
            "messages": box.messages,
            "sampled": box.sampled,
            "error": box.error,
            "exit_code": box.exit_code,
        }
        for box in report.mailboxes
    ]
    into = report.options.scratch or "memory"
    if terminal.json:
        terminal.document(
            {
                "dry_run": True,
                "into": into,
                "seed": report.seed,
                "mailboxes": boxes,
                "exit_code": report.exit_code,
            }
        )
        return
    for box in report.mailboxes:
        name = visible(box.mailbox_id)
        terminal.show(f"{name}: {box.sampled} of {count(box.messages, 'message')}")
        _show_trouble(terminal, box)
    total = sum(box.sampled for box in report.mailboxes)
    terminal.show(
        f"dry run: {count(total, 'message')} would be brought back into {visible(into)}, "
        f"seed {report.seed}; nothing was tried"
    )


def _show_trouble(terminal: Terminal, box: MailboxDrill) -> None:
    name = visible(box.mailbox_id)
    for failure in box.failures[:SHOWN]:
        what = ": ".join(filter(None, (visible(failure.object_id), visible(failure.what))))
        terminal.show(f"{name}: {what}: {visible(failure.reason)}")
    if box.failed > SHOWN:
        terminal.show(f"{name}: ... and {box.failed - SHOWN} more")
    if box.error:
        terminal.show(f"{name}: {visible(box.error)}")
        if box.hint:
            terminal.show(f"  hint: {visible(box.hint)}")
    if box.different:
        terminal.show(f"{name}: {box.different} read back differently")
    if box.not_stored:
        lacking = f"the snapshot lacks {count(box.not_stored, 'item')} that could not be stored"
        terminal.show(f"{name}: {lacking}; `atlas ledger` lists what")


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
            str(box.tried),
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
