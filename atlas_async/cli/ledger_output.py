"""The ledger for a person: a line for each entry, or everything that is known of one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from atlas_async.cli.progress_lines import count
from atlas_async.cli.terminal_text import date, folder_name, visible
from atlas_async.model.explanations import explain_code
from atlas_async.model.report import NotStored
from atlas_async.operations.ledger import LedgerEntry


def ledger_table(entries: Sequence[LedgerEntry], *, subjects: bool) -> Table:
    """Return a line per entry; subjects and file names only where asked for."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    given_up = any(entry.item.forgotten for entry in entries)
    titles = ["id", "mailbox", "kind", "code", "attempts", "first run", "last run"]
    titles += ["forgotten"] * given_up + ["name"] * subjects
    for title in titles:
        right = title == "attempts"
        folds = title in {"mailbox", "code", "name"}  # the others are short, and ids are copied
        table.add_column(
            title, justify="right" if right else "left", overflow="fold", no_wrap=not folds
        )
    for entry in entries:
        item = entry.item
        row = [
            Text(item.id),
            Text(visible(entry.mailbox_id)),
            Text(visible(item.kind)),
            Text(visible(item.code)),
            Text(str(item.attempts)),
            Text(_day(entry.first_run_at)),
            Text(_day(entry.last_run_at)),
        ]
        row += [Text(_day(item.forgotten), style="dim")] * given_up
        row += [Text(visible(item.name) or "(none)")] * subjects
        table.add_row(*row)
    return table


def _day(moment: str) -> str:
    """Return the day of a moment in UTC: a line has no room for more."""
    return date(moment).partition(" ")[0]


def totals_line(entries: Iterable[LedgerEntry]) -> str:
    """Return how many are missing, and how many of them nobody waits for any more."""
    items = [entry.item for entry in entries]
    forgotten = sum(bool(item.forgotten) for item in items)
    text = f"{count(len(items) - forgotten, 'item')} missing"
    return f"{text}, {forgotten} forgotten" if forgotten else text


def explanation(entry: LedgerEntry, *, subjects: bool) -> str:
    """Return everything known of one entry, as lines."""
    lines = [f"{item_title(entry.item)}"]
    facts = [(title, text) for title, text in _facts(entry, subjects=subjects) if text]
    width = max(len(title) for title, _ in facts)
    lines += [f"  {title + ':':<{width + 1}} {text}" for title, text in facts]
    return "\n".join(lines)


def item_title(item: NotStored) -> str:
    """Return what is missing, and whether anybody waits for it."""
    state = f"forgotten at {date(item.forgotten)}" if item.forgotten else "missing"
    return f"{item.id}  {visible(item.kind)}, {state}"


def _facts(entry: LedgerEntry, *, subjects: bool) -> Iterator[tuple[str, str]]:
    item = entry.item
    told = explain_code(item.code)
    yield "mailbox", visible(entry.mailbox_id)
    yield "folder", folder_name(entry.folder) if entry.folder else visible(item.folder_id)
    if item.kind != "folder":
        yield "message", visible(item.object_id)
    yield "attachment", visible(item.attachment_id)
    if item.kind == "attachment" and not item.attachment_id:
        yield "attachment", "(the list of them)"
    if item.kind != "folder":
        yield "name", (visible(item.name) or "(none)") if subjects else "(-S shows it)"
    yield "code", visible(item.code)
    yield "reason", visible(item.reason)
    yield "meaning", told.meaning
    yield "what to do", told.advice
    yield "tried", _future(item)
    yield "first run", _run(entry.first_run_at, item.first_run)
    yield "last run", f"{_run(entry.last_run_at, item.last_run)}, {count(item.attempts, 'attempt')}"
    yield (
        "request id",
        f"{visible(item.request_id)} (for Microsoft support)" * bool(item.request_id),
    )
    yield "lacking in", f"snapshot {visible(entry.snapshot_id)}"


def _future(item: NotStored) -> str:
    if item.forgotten:
        return "only when Graph shows it again, or by 'atlas ledger retry' with its id"
    doubt = "; that is not expected to help" if item.permanent else ""
    return f"by every run{doubt}"


def _run(moment: str, snapshot_id: str) -> str:
    return f"{date(moment)} ({visible(snapshot_id) or 'unknown'})"
