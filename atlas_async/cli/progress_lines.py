"""Progress as lines: sparse sentences for a log, JSON documents for a program. Pure."""

from __future__ import annotations

import re
from typing import Final, Protocol

from atlas_async.cli.documents import Document, mailbox_line, status_document
from atlas_async.cli.progress import RunState
from atlas_async.cli.terminal_text import size, span, visible
from atlas_async.model.events import (
    DrillProgress,
    Event,
    ExportProgress,
    MailboxFinished,
    MailboxNotice,
    MailboxStarted,
    PruneProgress,
    RestoreProgress,
    RunStarted,
    SearchProgress,
    VerifyProgress,
)
from atlas_async.model.message import dump_json
from atlas_async.model.report import MailboxResult, Outcome, RunReport

LOG_SECONDS: Final = 30.0
"""At least so long between two lines that only say that work goes on."""
STATUS_SECONDS: Final = 1.0
"""At least so long between two JSON status lines."""
CONTROLLING: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""DEL, C1 controls, line separators, embeddings, overrides and isolates."""


class Lines(Protocol):
    """Turns events into the lines to be written now."""

    def take(self, event: Event, now: float) -> list[str]:
        """Return the lines that this event calls for."""
        ...

    def finish(self, report: RunReport) -> list[str]:
        """Return lines for results whose events never came."""
        ...


class LogLines:
    """One line where a mailbox starts and ends, and one in 30 s while it works.

    Args:
        started: Monotonic time of the start, in seconds.
    """

    def __init__(self, started: float) -> None:
        self._state = RunState(started)
        self._last = started

    def take(self, event: Event, now: float) -> list[str]:
        """Return the lines that this event calls for."""
        self._state.take(event, now)
        match event:
            case RunStarted():
                return [f"{count(event.mailboxes, 'mailbox', 'mailboxes')} to back up"]
            case MailboxStarted():
                how = "reading changes" if event.incremental else f"about {event.expected} messages"
                folders = count(event.folders, "folder")
                return [f"{visible(event.mailbox_id)}: started, {folders}, {how}"]
            case MailboxFinished():
                return [result_line(event.result)]
            case MailboxNotice():
                return [f"{visible(event.mailbox_id)}: {visible(event.text)}"]
            case _:
                return self._beat(event, now)

    def finish(self, report: RunReport) -> list[str]:
        """Return lines for results whose events never came."""
        return [result_line(r) for r in report.mailboxes if r.mailbox_id not in self._state.results]

    def _beat(self, event: Event, now: float) -> list[str]:
        if now - self._last < LOG_SECONDS:
            return []
        self._last = now
        if isinstance(event, VerifyProgress):
            checked, total, damaged, missing = self._state.verified()
            return [f"{checked} of {total} objects checked, {damaged} damaged, {missing} missing"]
        if isinstance(event, ExportProgress):
            done = f"{event.done} of {event.expected} messages written"
            return [f"{done}, {size(event.bytes)}, {event.failed} failed"]
        if isinstance(event, PruneProgress):
            return ["{} objects seen, {} unreferenced, {} removed".format(*self._state.pruned())]
        if isinstance(event, DrillProgress):
            share = f"{event.done} of {event.expected}" if event.expected else str(event.done)
            done = f"{visible(event.mailbox_id)}: {share} messages {event.doing}"
            return [f"{done}, {event.failed} failed, {size(event.bytes)}"]
        if isinstance(event, RestoreProgress):
            seen = self._state.restored()
            of = f" of {seen.expected}" if seen.expected else ""
            line = (
                f"{seen.done}{of} messages: {seen.created} created, {seen.skipped} skipped, "
                f"{seen.failed} failed, {size(seen.bytes_sent)} sent, "
                f"throttled {count(seen.throttled, 'time')}"
            )
            return [line]
        if isinstance(event, SearchProgress):
            return ["{} of {} messages searched, {} indexed".format(*self._state.searched())]
        totals = self._state.totals()
        line = (
            f"{span(now - self._state.started)}: {totals.finished} of "
            f"{count(totals.mailboxes, 'mailbox', 'mailboxes')} finished, "
            f"{totals.stored} stored, {totals.deduplicated} deduplicated, "
            f"{totals.failed} failed, {size(totals.bytes_uploaded)}, "
            f"throttled {count(totals.throttled, 'time')}"
        )
        return [line]


class JsonLines:
    """``status`` at most once a second, ``mailbox`` where one ends.

    Args:
        started: Monotonic time of the start, in seconds.
    """

    def __init__(self, started: float) -> None:
        self._state = RunState(started)
        self._last = started - STATUS_SECONDS

    def take(self, event: Event, now: float) -> list[str]:
        """Return the lines that this event calls for."""
        self._state.take(event, now)
        if isinstance(event, MailboxFinished):
            return [json_line(mailbox_line(event.result))]
        if now - self._last < STATUS_SECONDS:
            return []
        self._last = now
        return [json_line(status_document(self._state.status(now)))]

    def finish(self, report: RunReport) -> list[str]:
        """Return lines for results whose events never came."""
        late = [r for r in report.mailboxes if r.mailbox_id not in self._state.results]
        return [json_line(mailbox_line(result)) for result in late]


class NoLines:
    """Says nothing: ``--quiet``."""

    def take(self, event: Event, now: float) -> list[str]:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        return []

    def finish(self, report: RunReport) -> list[str]:  # noqa: ARG002 - the protocol's
        """Return nothing."""
        return []


def json_line(document: Document) -> str:
    """Return a document on one line, without its line break.

    Characters that could control a terminal stand as escapes; JSON itself asks for half of them.
    """
    text = dump_json(document).decode("utf-8")
    return CONTROLLING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def count(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 folder``, ``2 folders``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def result_line(result: MailboxResult) -> str:
    """Return how a mailbox ended, on one line."""
    name = visible(result.mailbox_id)
    if result.outcome is Outcome.NO_MAILBOX and result.exit_code == 0:
        return f"{name}: no mailbox"
    if result.error:
        return f"{name}: {result.outcome.value}: {visible(result.error)}"
    parts = [
        f"{result.stored} stored",
        f"{result.deduplicated} deduplicated",
        count(result.attachments_stored, "attachment"),
        size(result.bytes_uploaded),
        span(result.seconds),
    ]
    if result.failed:
        parts.insert(2, f"{result.failed} FAILED")
    if result.removed:
        parts.insert(2, f"{result.removed} removed")
    if result.throttled:
        parts.append(f"throttled {count(result.throttled, 'time')}")
    return f"{name}: {result.outcome.value}, {', '.join(parts)}"
