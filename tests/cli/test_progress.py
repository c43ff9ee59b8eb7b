"""Progress: events in, state and lines out, fitted to any terminal."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from atlas_async.cli import tasks
from atlas_async.cli.dashboard import MOST_MAILBOXES, render
from atlas_async.cli.progress import RunState
from atlas_async.cli.progress_lines import JsonLines, LogLines, NoLines, result_line
from atlas_async.cli.reporter import LiveReporter, reporter_for
from atlas_async.cli.tasks import Task
from atlas_async.cli.terminal import Terminal
from atlas_async.clock import SystemClock
from atlas_async.model.events import (
    DrillProgress,
    Event,
    MailboxFinished,
    MailboxNotice,
    MailboxProgress,
    MailboxStarted,
    MailboxThrottled,
    PruneProgress,
    RunStarted,
    VerifyProgress,
)
from atlas_async.model.report import MailboxResult, Outcome, RunReport


def progress(mailbox: str, done: int, **counts: int) -> MailboxProgress:
    """Return a progress event of a mailbox of a hundred messages."""
    known = {"stored": done, "deduplicated": 0, "unchanged": 0, "failed": 0}
    rest = {"attachments": 0, "bytes_uploaded": 0, "throttled": 0}
    return MailboxProgress(mailbox, "Inbox", done, 100, **(known | rest | counts))


def state_after(events: Sequence[tuple[float, Event]]) -> RunState:
    """Return the state that events at the given seconds lead to."""
    state = RunState(0.0)
    for now, event in events:
        state.take(event, now)
    return state


def shown(state: RunState, now: float, width: int) -> list[str]:
    """Return the dashboard's lines on a terminal of that width."""
    console = Console(file=io.StringIO(), width=width, record=True, color_system=None)
    console.print(render(state, now, width))
    return console.export_text().splitlines()


def test_state_adds_finished_and_active_up() -> None:
    """Totals are the results of finished mailboxes plus the counts of active ones."""
    over = MailboxResult("a", Outcome.PARTIAL, stored=5, deduplicated=2, failed=1, throttled=1)
    state = state_after(
        [
            (0, RunStarted(3)),
            (0, MailboxStarted("a", 2, 8, False)),
            (1, progress("a", 7)),
            (2, MailboxFinished(over)),
            (3, progress("b", 10, failed=2, bytes_uploaded=99, throttled=4)),
        ]
    )
    totals = state.totals()
    assert (totals.mailboxes, totals.finished, totals.active) == (3, 1, 1)
    assert (totals.stored, totals.deduplicated, totals.failed) == (15, 2, 3)
    assert (totals.bytes_uploaded, totals.throttled, totals.done) == (99, 5, 18)


def test_rate_is_that_of_the_last_seconds() -> None:
    """The rate follows what happens now, not the average since the start."""
    state = RunState(0.0)
    state.take(MailboxStarted("a", 1, 100, False), 0.0)
    for second in range(1, 11):
        state.take(progress("a", second * 10), float(second))
    assert state.active["a"].rate(10.0) == pytest.approx(10.0)
    state.take(progress("a", 100), 40.0)
    state.take(progress("a", 102), 42.0)
    assert state.active["a"].rate(42.0) == pytest.approx(1.0)
    assert state.active["a"].rate(60.0) < 1


def test_rate_without_time_or_samples() -> None:
    """A mailbox that has just begun has no rate, and no division by zero."""
    state = state_after([(5, MailboxStarted("a", 1, 100, False))])
    assert state.active["a"].rate(5.0) == 0
    state.take(progress("a", 3), 5.0)
    assert state.active["a"].rate(5.0) == 0


def test_dashboard_shows_every_active_mailbox() -> None:
    """Each active mailbox has its folder, progress, rate, counts and failures."""
    state = state_after(
        [
            (0, RunStarted(2)),
            (0, MailboxStarted("ann@contoso.com", 2, 100, False)),
            (4, progress("ann@contoso.com", 40, deduplicated=3, failed=1)),
            (4, MailboxThrottled("ann@contoso.com", 20.0, "mailbox")),
        ]
    )
    lines = shown(state, 5.0, 160)
    assert lines[0].split() == [
        *("mailbox", "folder", "messages", "per", "s", "stored", "dedup.", "attach."),
        *("uploaded", "throttled", "failed"),
    ]
    assert lines[1].split() == [
        *("ann@contoso.com", "Inbox", "40/100", "40%", "8", "40", "3", "0", "0", "B"),
        *("1", "(19s)", "1"),
    ]
    assert "0/2 mailboxes" in lines[2]


@pytest.mark.parametrize("width", [60, 75, 80, 100, 120, 200])
def test_dashboard_fits_the_terminal(width: int) -> None:
    """No line is wider than the terminal, whatever the names; failures are always shown."""
    state = RunState(0.0)
    name = "日本語メールボックス" * 3 + "@contoso.com"
    state.take(MailboxStarted(name, 2, 100, False), 0.0)
    state.take(progress(name, 40, failed=7), 1.0)
    lines = shown(state, 2.0, width)
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].split()[-1] == "failed"
    assert lines[1].split()[-1] == "7"


def test_dashboard_counts_what_it_does_not_show() -> None:
    """Beyond a dozen mailboxes the rest is a number."""
    boxes = [MailboxStarted(f"m{n}@contoso.com", 1, 1, False) for n in range(MOST_MAILBOXES + 5)]
    lines = shown(state_after([(0, box) for box in boxes]), 1.0, 100)
    assert len(lines) == MOST_MAILBOXES + 3
    assert "+5 more" in lines[-2]


def test_dashboard_says_that_it_is_stopping() -> None:
    """After the first Ctrl-C the view says what a second one does."""
    state = RunState(0.0)
    state.stopping = True
    assert "Ctrl-C again stops at once" in "\n".join(shown(state, 1.0, 100))


def test_dashboard_of_a_verification() -> None:
    """While verifying the view counts objects over all mailboxes."""
    state = state_after(
        [(0, VerifyProgress("a", 5, 10, 1, 0)), (0, VerifyProgress("b", 5, 10, 0, 2))]
    )
    assert "10 of 20 objects checked 50%  1 damaged  2 missing" in shown(state, 1.0, 100)[0]


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("task", [tasks.RESTORE, tasks.UNDO, tasks.SAVE, tasks.FIND, tasks.DRILL])
def test_the_first_moments_say_what_is_done(task: Task, width: int) -> None:
    """Before there is anything to count: no table of a backup, and what holds the work up."""
    state = RunState(0.0, task.beginning)
    lines = shown(state, 3.0, width)
    assert " ".join(line.strip() for line in lines) == f"3.0s  {task.beginning}"
    assert "stored" not in " ".join(lines)
    assert all(cell_len(line) <= width for line in lines)
    state.take(MailboxThrottled("ann@contoso.com", 20.0, "mailbox"), 3.0)
    state.stopping = True
    text = " ".join(line.strip() for line in shown(state, 4.0, width))
    assert "Microsoft Graph asked to wait 19s" in text
    assert "Ctrl-C again stops at once" in text


def test_dashboard_of_a_drill_follows_what_it_does() -> None:
    """In memory, in the scratch mailbox, and in memory again with the next mailbox."""
    state = RunState(0.0, tasks.DRILL.beginning)
    seen = []
    for event in (
        DrillProgress("ann@contoso.com", 25, 25, 2_048, 0),
        DrillProgress("ann@contoso.com", 3, 25, 900, 0, "restored elsewhere"),
        DrillProgress("ann@contoso.com", 3, 0, 0, 1, "removed again"),
        DrillProgress("bob@contoso.com", 4, 25, 900, 0),
    ):
        state.take(event, 1.0)
        seen.append(shown(state, 2.0, 120)[0].strip())
    assert seen == [
        "2.0s  mailbox 1, ann@contoso.com: 25 of 25 messages brought back  0 failed  2.0 KiB",
        "2.0s  mailbox 1, ann@contoso.com: 3 of 25 messages restored elsewhere  0 failed  900 B",
        "2.0s  mailbox 1, ann@contoso.com: 3 messages removed again  1 failed  0 B",
        "2.0s  mailbox 2, bob@contoso.com: 4 of 25 messages brought back  0 failed  900 B",
    ]
    assert state.drilled() == (29, 50, 0, 2_948)
    lines = LogLines(0.0)
    event = DrillProgress("ann@contoso.com", 3, 25, 900, 0, "restored into the scratch mailbox")
    assert lines.take(event, 31.0) == [
        "ann@contoso.com: 3 of 25 messages restored into the scratch mailbox, 0 failed, 900 B"
    ]


def test_names_cannot_control_the_terminal() -> None:
    """Escapes and overrides in names are written out in every kind of line."""
    evil = "a\x1b[2J\u202eb"
    state = RunState(0.0)
    state.take(MailboxStarted(evil, 1, 1, False), 0.0)
    texts = shown(state, 1.0, 160)
    texts += LogLines(0.0).take(MailboxStarted(evil, 1, 1, False), 0.0)
    texts += LogLines(0.0).take(MailboxNotice(evil, evil), 0.0)
    texts.append(result_line(MailboxResult(evil, Outcome.FAILED, error=evil)))
    text = "\n".join(texts)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"a\x1b[2J\u202eb" in text


def test_log_lines_are_sparse() -> None:
    """In a log a mailbox has a line where it starts and ends, and one in 30 s between."""
    lines = LogLines(0.0)
    assert lines.take(MailboxStarted("a", 3, 100, False), 0.0) == [
        "a: started, 3 folders, about 100 messages"
    ]
    assert lines.take(MailboxStarted("b", 1, 0, True), 0.0) == [
        "b: started, 1 folder, reading changes"
    ]
    between = [lines.take(progress("a", n), float(n)) for n in range(90)]
    assert [n for n, said in enumerate(between) if said] == [30, 60]
    assert "0 of 2 mailboxes finished, 30 stored" in between[30][0]
    assert lines.take(VerifyProgress("a", 1, 2, 0, 0), 95.0) == [
        "1 of 2 objects checked, 0 damaged, 0 missing"
    ]


def test_result_lines() -> None:
    """A mailbox's last line names what was stored, failed and removed, or its error."""
    result = MailboxResult(
        "a", Outcome.PARTIAL, stored=1, failed=2, removed=3, attachments_stored=1, throttled=1
    )
    assert result_line(result) == (
        "a: partial, 1 stored, 0 deduplicated, 3 removed, 2 FAILED, 1 attachment, 0 B, 0.0s, "
        "throttled 1 time"
    )
    failed = MailboxResult("a", Outcome.FAILED, error="no permission")
    assert result_line(failed) == "a: failed: no permission"


def test_json_status_at_most_once_a_second() -> None:
    """Status lines are a second apart; a finished mailbox is told at once."""
    lines = JsonLines(0.0)
    said = [lines.take(progress("a", n), n / 10) for n in range(25)]
    assert [n for n, line in enumerate(said) if line] == [0, 10, 20]
    status = json.loads(said[20][0])
    assert status["message_type"] == "status"
    assert status["active"][0]["done"] == 20
    over = lines.take(MailboxFinished(MailboxResult("a", Outcome.COMPLETE)), 2.5)
    assert json.loads(over[0])["message_type"] == "mailbox"


def test_json_status_of_a_pruning() -> None:
    """Its counts are those over all mailboxes so far."""
    lines = JsonLines(0.0)
    assert lines.take(PruneProgress("a", 1000, 5, 2), 0.0)
    assert not lines.take(PruneProgress("a", 1400, 7, 6), 0.5)
    (line,) = lines.take(PruneProgress("b", 100, 1, 1), 2.0)
    assert json.loads(line) == {
        "message_type": "status",
        "seconds": 2.0,
        "objects": 1500,
        "unreferenced": 8,
        "removed": 7,
    }


def test_json_status_of_a_verification() -> None:
    """It tells of objects, not of mailboxes that nobody backs up."""
    lines = JsonLines(0.0)
    assert lines.take(VerifyProgress("a", 5, 10, 1, 0), 0.0)
    (line,) = lines.take(VerifyProgress("b", 7, 20, 0, 2), 2.0)
    assert json.loads(line) == {
        "message_type": "status",
        "seconds": 2.0,
        "checked": 12,
        "known": 30,
        "damaged": 1,
        "missing": 2,
    }


def test_late_results_have_their_lines() -> None:
    """A mailbox whose last event was never taken has its line at the end, others have none."""
    report = RunReport("t", (MailboxResult("a", Outcome.COMPLETE),), 1.0)
    for lines, count in ((LogLines(0.0), 1), (JsonLines(0.0), 1), (NoLines(), 0)):
        assert len(lines.finish(report)) == count
    lines = LogLines(0.0)
    lines.take(MailboxFinished(report.mailboxes[0]), 0.0)
    assert lines.finish(report) == []


class TtyText(io.StringIO):
    """Text that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


async def happening(*events: Event) -> AsyncIterator[Event]:
    """Yield events as an engine would."""
    for event in events:
        yield event


def terminal(*, tty: bool, json_wanted: bool = False, quiet: bool = False) -> Terminal:
    """Return a terminal over text in memory."""
    streams = (TtyText(), TtyText()) if tty else (io.StringIO(), io.StringIO())
    return Terminal(*streams, json=json_wanted, quiet=quiet)


async def test_live_view_leaves_lines_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal finished mailboxes stay as lines above the view, which is taken away."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    screen = terminal(tty=True)
    reporter = reporter_for(screen, SystemClock())
    assert isinstance(reporter, LiveReporter)
    done = MailboxResult("ann@contoso.com", Outcome.COMPLETE, stored=1)
    late = MailboxResult("bob@contoso.com", Outcome.COMPLETE, stored=1)
    await reporter.follow(
        happening(RunStarted(1), MailboxNotice("ann@contoso.com", "seen"), MailboxFinished(done))
    )
    await reporter.stopping()
    await reporter.finish(RunReport("t", (done, late), 1.0))
    file = screen.err.file
    assert isinstance(file, TtyText)
    text = file.getvalue()
    assert text.count("ann@contoso.com: complete, 1 stored") == 1
    assert text.count("bob@contoso.com: complete, 1 stored") == 1
    assert "ann@contoso.com: seen" in text
    assert "\x1b[31m" not in text


@pytest.mark.parametrize(
    ("tty", "json_wanted", "quiet", "said"),
    [
        (False, False, False, "1 mailbox to back up"),
        (False, True, False, '"message_type":"status"'),
        (True, True, False, '"message_type":"status"'),
        (True, False, True, ""),
    ],
)
async def test_kind_of_progress(
    monkeypatch: pytest.MonkeyPatch, tty: bool, json_wanted: bool, quiet: bool, said: str
) -> None:
    """JSON goes to standard output, sentences to standard error, and quiet means nothing."""
    monkeypatch.setenv("TERM", "xterm")
    screen = terminal(tty=tty, json_wanted=json_wanted, quiet=quiet)
    reporter = reporter_for(screen, SystemClock())
    await reporter.follow(happening(RunStarted(1)))
    out, err = screen.out.file, screen.err.file
    assert isinstance(out, io.StringIO)
    assert isinstance(err, io.StringIO)
    assert said in (out.getvalue() if json_wanted else err.getvalue())
    assert (err if json_wanted else out).getvalue() == ""
    if quiet:
        assert err.getvalue() == ""


class GoneText(io.StringIO):
    """A stream whose reader has left."""

    def flush(self) -> None:
        raise BrokenPipeError


async def test_a_reader_of_progress_may_leave() -> None:
    """Progress that nobody reads any more stops, the work it is about does not."""
    screen = Terminal(GoneText(), GoneText(), json=True, quiet=False)
    reporter = reporter_for(screen, SystemClock())
    await reporter.follow(happening(RunStarted(1), RunStarted(1)))
    await reporter.finish(RunReport("t", (MailboxResult("a", Outcome.COMPLETE),), 1.0))
