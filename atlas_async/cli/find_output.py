"""What ``atlas find`` writes: documents for programs, a table and remarks for a person. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from atlas_async.cli.documents import Document
from atlas_async.cli.progress_lines import count
from atlas_async.cli.terminal_text import date, folder_name, size, visible
from atlas_async.operations.found import FindReport, Match


def match_document(match: Match) -> Document:
    """Return one line of ``atlas find --json``."""
    record = match.record
    return {
        "message_type": "match",
        "mailbox_id": match.mailbox_id,
        "snapshot_id": match.snapshot_id,
        "object_id": record["object_id"],
        "folder": list(match.folder),
        "received": record["received"],
        "sender": record["sender"],
        "subject": record["subject"],
        "size_bytes": match.size_bytes,
        "attachments": list(match.attachments),
        "is_in_newest": match.is_in_newest,
        "last_seen": match.last_seen,
        "internet_message_id": record["internet_message_id"],
    }


def find_document(report: FindReport) -> Document:
    """Return the last line of ``atlas find --json``."""
    index = report.index
    return {
        "message_type": "summary",
        "matches": report.found,
        "mailboxes": report.mailboxes,
        "searched": report.searched,
        "opened": report.opened,
        "index": {
            "used": index.used,
            "updated": index.updated,
            "bytes": index.size,
            "documents": index.documents,
            "message_bytes": index.message_bytes,
        },
        "incomplete": [
            {
                "mailbox_id": item.mailbox_id,
                "object_id": item.object_id or None,
                "reason": item.reason,
                "hint": item.hint,
            }
            for item in report.unsearched
        ],
        "not_searched": report.not_searched,
        "notices": report.notices,
        "interrupted": report.interrupted,
        "exit_code": report.exit_code,
    }


def matches_table(matches: Sequence[Match], *, subjects: bool) -> Table:
    """Return matches; a column for when those that are gone were last seen, where there are any."""
    gone = not all(match.is_in_newest for match in matches)
    titles = ["mailbox", "received", "from", "folder", "size", "attach.", "message id"]
    titles += ["last seen"] * gone + ["subject"] * subjects
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        right = title in {"size", "attach."}
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for match in matches:
        record = match.record
        row = [
            visible(match.mailbox_id),
            date(record["received"]),
            visible(record["sender"]) or "-",
            folder_name(match.folder),
            size(match.size_bytes),
            str(len(match.attachments)),
            visible(record["object_id"]),
        ]
        if gone:
            row.append("" if match.is_in_newest else date(match.last_seen))
        if subjects:
            row.append(visible(record["subject"]) or "(none)")
        table.add_row(*map(Text, row))
    return table


def find_remarks(report: FindReport) -> Iterator[str]:
    """Yield what is said beside the matches."""
    for notice in report.notices:
        yield visible(notice)
    used = ""
    if report.index.used:
        used = f", index of words {size(report.index.size)}"
    if report.index.updated:
        used += f" with {count(report.index.updated, 'message')} more"
    if report.interrupted:
        yield "interrupted: not everything was searched"
    yield (
        f"{count(report.found, 'match', 'matches')} in {count(report.searched, 'message')} of "
        f"{count(report.mailboxes, 'mailbox', 'mailboxes')}, {report.opened} opened{used}"
    )


def unsearched_lines(report: FindReport) -> Iterator[str]:
    """Yield what could not be searched."""
    if not report.not_searched:
        return
    yield f"{report.not_searched} could not be searched:"
    for item in report.unsearched:
        what = f"message {visible(item.object_id)}" if item.object_id else "the whole mailbox"
        yield f"  {visible(item.mailbox_id)}: {what}: {visible(item.reason)}"
        if item.hint:
            yield f"    hint: {visible(item.hint)}"
