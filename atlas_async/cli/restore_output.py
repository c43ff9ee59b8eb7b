"""What ``atlas restore`` writes: documents for programs, tables and sentences for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from atlas_async.cli.documents import Document
from atlas_async.cli.progress_lines import count
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import date, folder_name, size, span, visible
from atlas_async.model.restoring import (
    Comparison,
    FolderOutcome,
    RestoreFailure,
    RestoreJob,
    RestoreReport,
    Step,
    UndoReport,
)

SHOWN: Final = 20
"""Failures, adjustments and differences listed for a person; ``--json`` has up to a thousand."""


def show_restores(terminal: Terminal, reports: Sequence[RestoreReport]) -> int:
    """Show what restores did and return the exit code of the command."""
    code = _exit_code(reports)
    if terminal.json:
        terminal.document(
            {"exit_code": code, "restores": [restore_document(report) for report in reports]}
        )
        return code
    for report in reports:
        _show(terminal, report)
    return code


def _exit_code(reports: Sequence[RestoreReport]) -> int:
    """Return a lone code as it is; of several mailboxes with other codes, 3."""
    codes = {report.exit_code for report in reports}
    if len(codes) == 1:
        return codes.pop()
    return 130 if 130 in codes else 3  # noqa: PLR2004 -- interrupted


def restore_document(report: RestoreReport) -> Document:
    """Return the document of one restore."""
    return {
        "mailbox_id": report.mailbox_id,
        "target": report.target_id,
        "restore": report.job_id,
        "snapshots": list(report.snapshots),
        "root": report.root or None,
        "in_place": report.options.in_place,
        "on_conflict": report.options.conflict.value,
        "dry_run": report.options.dry_run,
        "created": report.total(Step.CREATE),
        "replaced": report.total(Step.REPLACE),
        "skipped": report.total(Step.SKIP),
        "already": report.total(Step.ALREADY),
        "continued": report.total(Step.CONTINUE),
        "failed": report.failed,
        "attachments_failed": report.incomplete,
        "attachments": report.attachments,
        "not_stored": report.not_stored,
        "bytes_sent": report.bytes_sent,
        "graph_requests": report.requests,
        "throttled": report.throttled,
        "seconds": round(report.seconds, 3),
        "folders": [_folder_document(folder) for folder in report.folders],
        "failures": [_failure_document(failure) for failure in report.failures],
        "adjusted": report.adjusted,
        "adjustments": [
            {"object_id": item.object_id, "folder": list(item.folder), "text": item.text}
            for item in report.adjustments
        ],
        "comparison": None
        if report.comparison is None
        else _comparison_document(report.comparison),
        "notes": list(report.notes),
        "interrupted": report.interrupted,
        "error": report.error,
        "hint": report.hint,
        "exit_code": report.exit_code,
    }


def _folder_document(folder: FolderOutcome) -> Document:
    return {
        "path": list(folder.path),
        "target": list(folder.target),
        "created": folder.create,
        "replaced": folder.replace,
        "skipped": folder.skip,
        "already": folder.already,
        "continued": folder.continued,
        "failed": folder.failed,
    }


def _failure_document(failure: RestoreFailure) -> Document:
    return {
        "kind": failure.kind,
        "object_id": failure.object_id,
        "folder": list(failure.folder),
        "name": failure.name,
        "code": failure.code,
        "reason": failure.reason,
    }


def _comparison_document(comparison: Comparison) -> Document:
    return {
        "equal": comparison.equal,
        "compared": comparison.compared,
        "missing": comparison.missing,
        "duplicates": comparison.duplicates,
        "different": comparison.different,
        "changed": comparison.changed,
        "gone": comparison.gone,
        "differences": [
            {"target_id": item.target_id, "folder": list(item.folder), "parts": list(item.parts)}
            for item in comparison.differences
        ],
        "error": comparison.error,
    }


def _show(terminal: Terminal, report: RestoreReport) -> None:
    for note in report.notes:
        terminal.remark(visible(note))
    place = "in place" if report.options.in_place else f"below {visible(report.root)!r}"
    would = "would go " if report.options.dry_run else ""
    if report.folders and not terminal.quiet:
        terminal.show(_folders_table(report))
    if report.error:
        terminal.show(f"{visible(report.mailbox_id)}: {visible(report.error)}")
        if report.hint:
            terminal.show(f"  hint: {visible(report.hint)}")
    if report.error and not any(report.total(step) for step in Step):
        return
    terminal.show(
        f"{visible(report.mailbox_id)}: {would}to {visible(report.target_id)}, {place}: "
        f"{_counts(report)}"
    )
    if report.options.dry_run:
        return
    if report.requests and not terminal.quiet:
        terminal.show(
            f"  {count(report.attachments, 'attachment')}, {size(report.bytes_sent)} sent with "
            f"{count(report.requests, 'request')} in {span(report.seconds)}, throttled "
            f"{count(report.throttled, 'time')}"
        )
    _show_trouble(terminal, report)
    if report.comparison is not None:
        _show_comparison(terminal, report.comparison)
    if report.job_id and report.total(Step.CREATE) + report.total(Step.REPLACE):
        name = visible(report.mailbox_id)
        terminal.remark(f"  'atlas restore --undo {report.job_id} -m {name}' takes it back")


def _counts(report: RestoreReport) -> str:
    made = "to create" if report.options.dry_run else "created"
    parts = [f"{report.total(Step.CREATE)} {made}"]
    for step, text in (
        (Step.REPLACE, "to replace" if report.options.dry_run else "replaced"),
        (Step.SKIP, "skipped, as they are there"),
        (Step.ALREADY, "restored before"),
        (Step.CONTINUE, "begun before, to continue" if report.options.dry_run else "continued"),
    ):
        if report.total(step):
            parts.append(f"{report.total(step)} {text}")
    if report.failed:
        parts.append(f"{report.failed} FAILED")
    if report.incomplete:
        parts.append(f"{count(report.incomplete, 'attachment')} MISSING")
    if report.interrupted:
        parts.append("interrupted: run it again to continue")
    return ", ".join(parts)


def _show_trouble(terminal: Terminal, report: RestoreReport) -> None:
    for failure in report.failures[:SHOWN]:
        name = f" {visible(failure.name)!r}" if failure.kind == "attachment" else ""
        terminal.show(
            f"  {failure.kind}{name} of {visible(failure.object_id)} in "
            f"{folder_name(failure.folder)}: {visible(failure.reason)}"
        )
    more = report.failed + report.incomplete - SHOWN
    if more > 0:
        terminal.show(f"  ... and {more} more; --json lists them")
    if report.adjusted:
        terminal.show(f"  {count(report.adjusted, 'thing')} not as it was:")
        for item in report.adjustments[:SHOWN]:
            terminal.show(f"    {folder_name(item.folder)}: {visible(item.text)}")
        if report.adjusted > SHOWN:
            terminal.show(f"    ... and {report.adjusted - SHOWN} more; --json lists them")
    if report.not_stored:
        terminal.show(
            f"  the snapshot lacks {count(report.not_stored, 'item')}: see 'atlas ledger'"
        )


def _show_comparison(terminal: Terminal, comparison: Comparison) -> None:
    since = comparison.changed or comparison.gone
    if comparison.equal:
        but = "all as sent but for changes since" if since else "all as sent"
        if comparison.compared:
            terminal.show(f"  read back: {count(comparison.compared, 'message')}, {but}")
    else:
        terminal.show(
            f"  read back: {count(comparison.compared, 'message')}, {comparison.missing} MISSING, "
            f"{comparison.different} DIFFERENT, {comparison.duplicates} there twice"
        )
    if since:
        terminal.show(
            f"  of what was restored before, {comparison.changed} changed and {comparison.gone} "
            "moved or deleted since"
        )
    if comparison.error:
        terminal.show(f"  {visible(comparison.error)}")
    for item in comparison.differences[:SHOWN]:
        terminal.show(
            f"    {visible(item.target_id)} in {folder_name(item.folder)}: {', '.join(item.parts)}"
        )


def _folders_table(report: RestoreReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    made = "to create" if report.options.dry_run else "created"
    titles = ["folder", "into", made, "replaced", "skipped", "already", "failed"]
    continued = report.total(Step.CONTINUE) > 0
    if continued:
        titles.append("continued")
    for title in titles:
        left = title in {"folder", "into"}
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    for folder in report.folders:
        table.add_row(
            visible(folder_name(folder.path)),
            visible(folder_name(folder.target)),
            str(folder.create),
            str(folder.replace),
            str(folder.skip),
            str(folder.already),
            str(folder.failed),
            *([str(folder.continued)] if continued else []),
        )
    return table


def show_jobs(terminal: Terminal, mailbox: str, jobs: Sequence[RestoreJob]) -> int:
    """Show the restores of a mailbox; 16 where one cannot be read."""
    damaged = [job for job in jobs if job.problem]
    code = 16 if damaged else 0
    if terminal.json:
        terminal.document(
            {
                "exit_code": code,
                "mailbox_id": mailbox,
                "restores": [_job_document(job) for job in jobs],
            }
        )
        return code
    if not jobs:
        terminal.remark(f"nothing was restored from {visible(mailbox)}")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("restore", "begun", "into", "where", "created", "state"):
        table.add_column(title, justify="right" if title == "created" else "left", overflow="fold")
    for job in jobs:
        if job.problem:
            table.add_row(visible(job.job_id), "", "", "", "", "DAMAGED")
            continue
        where = "in place" if job.in_place else visible(job.root)
        table.add_row(
            job.job_id,
            date(job.begun_at),
            visible(job.target_id),
            where,
            str(job.created),
            visible(job.state),
        )
    terminal.show(table)
    for job in damaged:
        terminal.show(f"{visible(job.job_id)} cannot be read: {visible(job.problem)}")
    return code


def _job_document(job: RestoreJob) -> Document:
    if job.problem:
        return {
            "restore": job.job_id,
            "mailbox_id": job.mailbox_id,
            "state": job.state,
            "problem": job.problem,
        }
    return {
        "restore": job.job_id,
        "mailbox_id": job.mailbox_id,
        "target_tenant": job.target_tenant,
        "target": job.target_id,
        "snapshots": list(job.snapshots),
        "root": job.root or None,
        "in_place": job.in_place,
        "on_conflict": job.conflict.value,
        "begun_at": job.begun_at,
        "changed_at": job.changed_at,
        "state": job.state,
        "created": job.created,
    }


def show_undo(terminal: Terminal, report: UndoReport) -> int:
    """Show what taking a restore back did."""
    if terminal.json:
        terminal.document(_undo_document(report))
        return report.exit_code
    if report.error:
        terminal.show(f"{visible(report.target_id)}: {visible(report.error)}")
        if report.hint:
            terminal.show(f"  hint: {visible(report.hint)}")
    where = "in place" if report.in_place else f"below {visible(report.root)!r}"
    terminal.remark(
        f"restore {visible(report.job_id)}, begun {date(report.begun_at)}, {where}: "
        f"{count(report.created, 'message')} created"
    )
    terminal.show(f"{visible(report.target_id)}: {', '.join(_undo_counts(report))}")
    for path in report.folders_kept:
        terminal.show(f"  kept, as it holds other things: {folder_name(path)}")
    for failure in report.failures[:SHOWN]:
        place = f" in {folder_name(failure.folder)}" if failure.folder else ""
        terminal.show(f"  {visible(failure.object_id)}{place}: {visible(failure.reason)}")
    more = max(report.failed + report.kept, len(report.failures)) - SHOWN
    if more > 0:
        terminal.show(f"  ... and {more} more; --json lists them")
    return report.exit_code


def _undo_document(report: UndoReport) -> Document:
    return {
        "restore": report.job_id,
        "mailbox_id": report.mailbox_id,
        "target": report.target_id,
        "begun_at": report.begun_at,
        "root": report.root or None,
        "in_place": report.in_place,
        "created": report.created,
        "dry_run": report.dry_run,
        "removed": report.removed,
        "gone": report.gone,
        "kept": report.kept,
        "put_back": report.put_back,
        "not_put_back": report.not_put_back,
        "folders_removed": report.folders_removed,
        "folders_kept": [list(path) for path in report.folders_kept],
        "failed": report.failed,
        "failures": [_failure_document(failure) for failure in report.failures],
        "interrupted": report.interrupted,
        "error": report.error,
        "hint": report.hint,
        "exit_code": report.exit_code,
    }


def _undo_counts(report: UndoReport) -> list[str]:
    would = "would be " if report.dry_run else ""
    parts = [f"{count(report.removed, 'message')} {would}removed"]
    if report.gone:
        parts.append(f"{report.gone} gone already")
    if report.put_back:
        parts.append(f"{report.put_back} {would}put back")
    if report.not_put_back:
        parts.append(f"{report.not_put_back} CANNOT be put back any more")
    if report.kept:
        parts.append(f"{report.kept} left in their place")
    parts.append(f"{count(report.folders_removed, 'folder')} {would}removed")
    if report.failed:
        parts.append(f"{report.failed} FAILED")
    if report.interrupted:
        parts.append("interrupted: run it again to continue")
    return parts
