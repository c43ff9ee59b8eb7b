"""A snapshot written out piece by piece: a mailbox may have a million messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from anyio import to_thread
from rich.text import Text

from atlas_async.catalog.reader import FolderView
from atlas_async.cli.documents import message_document, snapshot_document
from atlas_async.cli.engine import OpenSnapshot
from atlas_async.cli.progress_lines import count, json_line
from atlas_async.cli.summary import not_stored_line
from atlas_async.cli.tables import folders_table, messages_table
from atlas_async.cli.terminal import Terminal
from atlas_async.cli.terminal_text import date, folder_name, visible
from atlas_async.model.record import MessageRecord

BATCH: Final = 500
"""Messages written at a time; a table's columns are fitted once per batch."""


async def write_snapshot_json(
    terminal: Terminal,
    view: OpenSnapshot,
    chosen: Sequence[FolderView] | None,
    everything: bool,
) -> None:
    """Write one JSON document. With ``chosen`` or ``everything`` it has ``messages``, last."""
    head = snapshot_document(view.summary, view.folders, await view.not_stored())
    text = json_line(head)
    if chosen is None and not everything:
        await to_thread.run_sync(terminal.raw, text + "\n")
        return
    await to_thread.run_sync(terminal.raw, text[:-1] + ',"messages":[')
    separator = ""
    async for batch in _batches(view, chosen):
        rows = (json_line(message_document(row, view.summary.mailbox_id)) for row in batch)
        await to_thread.run_sync(terminal.raw, separator + ",".join(rows))
        separator = ","
    await to_thread.run_sync(terminal.raw, "]}\n")


async def write_snapshot_tables(
    terminal: Terminal,
    view: OpenSnapshot,
    chosen: Sequence[FolderView] | None,
    everything: bool,
    subjects: bool,
) -> None:
    """Write the snapshot for a person: its folders, or messages of some or all, newest first."""
    summary = view.summary
    whole = "complete" if summary.complete else "not complete"
    words = (visible(summary.mailbox_id), date(summary.created_at), whole)
    terminal.remark(Text("  ".join((visible(summary.snapshot_id), *words)), style="bold"))
    if chosen is None and not everything:
        terminal.show(folders_table(view.folders))
    else:
        names = {v.folder.id: folder_name(v.folder.path) for v in view.folders}
        records = [record async for batch in _batches(view, chosen) for record in batch]
        records.sort(key=lambda record: record["received"], reverse=True)
        for start in range(0, len(records), BATCH):
            part = records[start : start + BATCH]
            table = messages_table(part, names, subjects=subjects)
            await to_thread.run_sync(terminal.show, table)
    lost = await view.not_stored()
    if lost:
        terminal.show(Text(f"{count(len(lost), 'item')} not stored", style="yellow"))
        for item in lost:
            terminal.show(f"  {not_stored_line(item)}")


async def _batches(
    view: OpenSnapshot, folders: Sequence[FolderView] | None
) -> AsyncIterator[list[MessageRecord]]:
    wanted = None if folders is None else frozenset(item.folder.id for item in folders)
    batch: list[MessageRecord] = []
    async for record in view.messages(wanted):
        batch.append(record)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
