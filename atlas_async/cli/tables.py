"""Lists for a person, as rich tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table
from rich.text import Text

from atlas_async.catalog.reader import FolderView, SnapshotSummary
from atlas_async.cli.terminal_text import date, folder_name, size, visible
from atlas_async.config.assembly import Origin
from atlas_async.model.record import MessageRecord
from atlas_async.operations.listing import MailboxSummary
from atlas_async.operations.verification import Finding

NUMBERS = frozenset({"snapshots", "messages", "new", "size", "attach."})


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        right = title in NUMBERS
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    return table


def mailboxes_table(mailboxes: Iterable[MailboxSummary]) -> Table:
    """Return the mailboxes that have snapshots."""
    table = _table("mailbox", "snapshots", "latest snapshot", "made at")
    for box in mailboxes:
        table.add_row(
            Text(visible(box.mailbox_id)),
            str(box.snapshots),
            Text(visible(box.latest.snapshot_id) if box.latest else "-"),
            date(box.latest.created_at if box.latest else None),
        )
    return table


def snapshots_table(snapshots: Iterable[SnapshotSummary]) -> Table:
    """Return a mailbox's snapshots, oldest first."""
    table = _table("snapshot", "made at", "messages", "new", "size", "complete", "written by")
    for snapshot in snapshots:
        table.add_row(
            Text(visible(snapshot.snapshot_id)),
            date(snapshot.created_at),
            str(snapshot.messages),
            str(snapshot.new),
            size(snapshot.size_bytes),
            _completeness(snapshot),
            Text(visible(snapshot.written_by)),
        )
    return table


def _completeness(snapshot: SnapshotSummary) -> Text:
    if snapshot.damage:
        return Text("damaged", style="red")
    return Text("yes") if snapshot.complete else Text("no", style="yellow")


def folders_table(views: Iterable[FolderView]) -> Table:
    """Return a snapshot's folders."""
    table = _table("folder", "messages", "well-known name", "hidden")
    for view in views:
        folder = view.folder
        table.add_row(
            Text(folder_name(folder.path)) if folder.name else Text(visible(folder.id)),
            str(view.message_count),
            Text(visible(folder.well_known_name or "")),
            "hidden" if folder.hidden else "",
        )
    return table


def messages_table(
    records: Iterable[MessageRecord], names: Mapping[str, str], *, subjects: bool
) -> Table:
    """Return messages; ``names`` gives each folder id's name, subjects only where asked for."""
    titles = ("received", "folder", "read", "attach.", "size", "message id")
    table = _table(*titles, *(("subject",) if subjects else ()))
    for record in records:
        row = [
            Text(date(record["received"])),
            Text(names.get(record["folder_id"], "?")),
            Text({True: "yes", False: "no", None: "?"}[record["is_read"]]),
            Text(str(len(record.get("attachments", [])))),
            Text(size(record["size_bytes"])),
            Text(visible(record["object_id"])),
        ]
        if subjects:
            row.append(Text(visible(record["subject"]) or "(none)"))
        table.add_row(*row)
    return table


def findings_table(findings: Iterable[Finding]) -> Table:
    """Return objects that are not as they should be."""
    table = _table("kind", "key", "snapshot", "what is wrong")
    for finding in findings:
        table.add_row(
            Text(visible(finding.kind)),
            Text(visible(finding.key)),
            Text(visible(finding.snapshot_id) or "-"),
            Text(visible(finding.detail)),
        )
    return table


def origins_table(origins: Iterable[Origin]) -> Table:
    """Return settings, their values and where those came from."""
    table = _table("setting", "variable", "value", "from")
    for origin in origins:
        value = "-" if origin.value is None else visible(origin.value)
        style = "" if origin.source not in {"default", "not set"} else "dim"
        table.add_row(
            origin.field, origin.variable, Text(value), Text(visible(origin.source)), style=style
        )
    return table
