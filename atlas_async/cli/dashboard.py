"""The live view: a run's state as a rich renderable, fitted to the terminal's width. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from atlas_async.cli.progress import MailboxState, RunState
from atlas_async.cli.terminal_text import size, span, visible
from atlas_async.model.events import DrillProgress, ExportProgress

MOST_MAILBOXES: Final = 12
"""Mailboxes shown at once; the others are counted."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, shown from a terminal ``width`` on. ``show`` gives a mailbox's cell."""

    title: str
    width: int
    show: Callable[[MailboxState, float], str]
    justify: Literal["left", "right"] = "right"


def _done(box: MailboxState, now: float) -> str:  # noqa: ARG001 - the columns' signature
    if box.expected and not box.incremental:
        share = min(100 * box.done // box.expected, 100)
        return f"{box.done}/{box.expected} {share:>3}%"
    return str(box.done)


def _throttled(box: MailboxState, now: float) -> str:
    left = box.waits_until - now
    return f"{box.throttled} ({span(left)})" if left > 0 else str(box.throttled)


COLUMNS: Final = (
    Column("mailbox", 0, lambda box, _: visible(box.mailbox_id), "left"),
    Column("folder", 90, lambda box, _: visible(box.folder), "left"),
    Column("messages", 0, _done),
    Column("per s", 70, lambda box, now: f"{box.rate(now):.0f}"),
    Column("stored", 60, lambda box, _: str(box.stored)),
    Column("dedup.", 80, lambda box, _: str(box.deduplicated)),
    Column("attach.", 120, lambda box, _: str(box.attachments)),
    Column("uploaded", 110, lambda box, _: size(box.bytes_uploaded)),
    Column("throttled", 100, _throttled),
    Column("failed", 0, lambda box, _: str(box.failed)),
)


def render(state: RunState, now: float, width: int) -> RenderableType:
    """Return the whole view for a terminal of ``width`` columns at monotonic time ``now``."""
    if state.verify:
        return _verification(state, now)
    if state.prune:
        return _pruning(state, now)
    if state.export is not None:
        return _exporting(state.export, state, now)
    if state.drilling is not None:
        return _drilling(state.drilling, state, now)
    if state.restore:
        return _restoring(state, now)
    if state.search:
        return _searching(state, now)
    if state.beginning:
        return _with_asides(Text(f"{span(now - state.started)}  {state.beginning}"), state, now)
    return Group(_mailboxes(state, now, width), _footer(state, now))


def _mailboxes(state: RunState, now: float, width: int) -> Table:
    columns = [column for column in COLUMNS if width >= column.width]
    table = Table(box=None, pad_edge=False, expand=True, header_style="bold")
    for column in columns:
        stretch = column.justify == "left"
        table.add_column(
            column.title,
            justify=column.justify,
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if stretch else None,
        )
    boxes = list(state.active.values())
    for box in boxes[:MOST_MAILBOXES]:
        style = "red" if box.failed else "yellow" if box.waits_until > now else ""
        table.add_row(*(Text(column.show(box, now)) for column in columns), style=style)
    if len(boxes) > MOST_MAILBOXES:
        table.add_row(Text(f"+{len(boxes) - MOST_MAILBOXES} more", style="dim"))
    return table


def _footer(state: RunState, now: float) -> Text:
    totals = state.totals()
    parts = [
        span(now - state.started),
        f"{totals.finished}/{totals.mailboxes} mailboxes",
        f"{totals.stored} stored",
        f"{totals.deduplicated} deduplicated",
        f"{totals.failed} failed",
        size(totals.bytes_uploaded),
        f"throttled {totals.throttled}",
    ]
    text = Text("  ".join(parts), style="bold", overflow="fold")
    if state.stopping:
        text.append("\nstopping: settling what is in flight; Ctrl-C again stops at once", "yellow")
    return text


def _with_asides(text: Text, state: RunState, now: float) -> Text:
    """Return a line with what holds the work up: Graph's pauses, and being asked to stop."""
    text.overflow = "fold"
    waits = state.waiting(now)
    if waits > 0:
        text.append(f"\nMicrosoft Graph asked to wait {span(waits)}", "yellow")
    if state.stopping:
        text.append("\nstopping: finishing what is in hand; Ctrl-C again stops at once", "yellow")
    return text


def _exporting(event: ExportProgress, state: RunState, now: float) -> Text:
    share = f" {min(100 * event.done // event.expected, 100)}%" if event.expected else ""
    text = Text(
        f"{span(now - state.started)}  {event.done} of {event.expected} messages written{share}  "
        f"{size(event.bytes)}  {event.failed} failed",
        style="bold red" if event.failed else "bold",
    )
    return _with_asides(text, state, now)


def _drilling(event: DrillProgress, state: RunState, now: float) -> Text:
    share = f"{event.done} of {event.expected}" if event.expected else str(event.done)
    text = Text(
        f"{span(now - state.started)}  mailbox {len(state.drill)}, {visible(event.mailbox_id)}: "
        f"{share} messages {event.doing}  {event.failed} failed  {size(event.bytes)}",
        style="bold red" if event.failed else "bold",
    )
    return _with_asides(text, state, now)


def _restoring(state: RunState, now: float) -> Text:
    seen = state.restored()
    elapsed = now - state.started
    share = (
        f" of {seen.expected} {min(100 * seen.done // seen.expected, 100)}%"
        if seen.expected
        else ""
    )
    text = Text(
        f"{span(elapsed)}  {seen.done}{share} messages  {seen.created} created  "
        f"{seen.skipped} skipped  {seen.failed} failed  {size(seen.bytes_sent)}  "
        f"throttled {seen.throttled}",
        style="bold red" if seen.failed else "bold",
    )
    text.append(f"\n{visible(seen.mailbox_id)}  {visible(seen.folder)}", "dim")
    return _with_asides(text, state, now)


def _pruning(state: RunState, now: float) -> Text:
    objects, unreferenced, removed = state.pruned()
    text = f"{objects} objects seen  {unreferenced} unreferenced  {removed} removed"
    return Text(f"{span(now - state.started)}  {text}", style="bold", overflow="fold")


def _searching(state: RunState, now: float) -> Text:
    indexing = [event for event in state.search.values() if event.indexing]
    if indexing:
        done = sum(event.done for event in indexing)
        expected = sum(event.expected for event in indexing)
        text = f"{done} of {expected} messages added to the index of words"
    else:
        text = "{} of {} messages searched  {} indexed".format(*state.searched())
    return _with_asides(Text(f"{span(now - state.started)}  {text}", style="bold"), state, now)


def _verification(state: RunState, now: float) -> Text:
    checked, total, damaged, missing = state.verified()
    share = f" {100 * checked // total}%" if total else ""
    return Text(
        f"{span(now - state.started)}  {checked} of {total} objects checked{share}  "
        f"{damaged} damaged  {missing} missing",
        style="bold red" if damaged or missing else "bold",
        overflow="fold",
    )
