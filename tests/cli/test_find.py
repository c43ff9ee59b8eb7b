"""``atlas find`` and ``--found`` over a fake engine: what they ask of it and what they print."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest

from atlas_async.cli.dashboard import render
from atlas_async.cli.found_lines import FoundMessage, parse_found
from atlas_async.cli.progress import RunState
from atlas_async.cli.progress_lines import LOG_SECONDS, LogLines
from atlas_async.errors import IntegrityError, SnapshotNotFound, StoreTransient, UsageError
from atlas_async.model.events import SearchProgress
from atlas_async.operations.found import FindReport, IndexMode, IndexReport, Match, Unsearched
from atlas_async.operations.reading import MessageContent
from atlas_async.operations.selection import Selection
from atlas_async.search.query import Query
from tests.cli.conftest import Atlas
from tests.fakes.engine import FakeEngine, attachment_row, message_row

ANN = "ann@contoso.com"


def match(**changes: Any) -> Match:
    """Return a match with the given fields of its record changed."""
    gone = changes.pop("gone", False)
    return Match(
        mailbox_id=ANN,
        snapshot_id="s1",
        last_seen="2026-04-20T12:00:00.123Z",
        record=message_row(**changes),
        folder=("Inbox", "Projects"),
        is_in_newest=not gone,
    )


def report(**changes: Any) -> FindReport:
    """Return a report of a search."""
    return FindReport(found=2, mailboxes=1, searched=50, opened=3, **changes)


def asked(engine: FakeEngine) -> dict[str, Any]:
    """Return what the engine was asked last."""
    return engine.calls[-1][1]


def test_every_option_reaches_the_engine(atlas: Atlas, engine: FakeEngine) -> None:
    """Texts, sizes, times, folders and the limit are handed on as values."""
    engine.finding = report()
    ended = atlas(
        *("find", "purchase order", "4711", "--from", "bob", "--to", "ann", "--to", "carl"),
        *("--subject", "plan", "--body", "x", "--attachment", "pdf", "--folder", "Inbox"),
        *("--received-from", "2026-04-20", "--received-before", "2026-04-21T13:30+02:00"),
        *("--larger", "5MB", "--smaller", "6MiB", "--has-attachment", "-m", ANN, "--limit", "7"),
    )
    assert ended.code == 0, ended.err
    assert engine.calls[-1] == (
        "find",
        {
            "query": Query(
                words=("purchase order", "4711"),
                sender=("bob",),
                recipient=("ann", "carl"),
                subject=("plan",),
                body=("x",),
                attachment=("pdf",),
                larger=5_000_000,
                smaller=6 << 20,
                has_attachment=True,
                limit=7,
            ),
            "mailboxes": [ANN],
            "selection": Selection(
                folders=("Inbox",),
                received_from=datetime(2026, 4, 20, tzinfo=UTC),
                received_before=datetime(2026, 4, 21, 13, 30, tzinfo=timezone(timedelta(hours=2))),
            ),
            "index": IndexMode.AUTO,
        },
    )


@pytest.mark.parametrize(
    ("arguments", "selection"),
    [
        (("-s", "01a1"), Selection(snapshot="01a1")),
        (("--all-snapshots",), Selection(made_from=datetime(1, 1, 1, tzinfo=UTC))),
        (
            ("--start-date", "2026-04-01", "--end-date", "2026-04-30"),
            Selection(
                made_from=datetime(2026, 4, 1, tzinfo=UTC),
                made_before=datetime(2026, 5, 1, tzinfo=UTC),
            ),
        ),
        (
            ("--end-date", "2026-04-30T10:00"),
            Selection(made_before=datetime(2026, 4, 30, 10, tzinfo=UTC)),
        ),
        (
            ("--end-date", "9999-12-31"),
            Selection(made_before=datetime(9999, 12, 31, tzinfo=UTC)),
        ),
    ],
)
def test_which_snapshots(
    atlas: Atlas, engine: FakeEngine, arguments: tuple[str, ...], selection: Selection
) -> None:
    """A day as an end is a whole day; a time is that moment."""
    engine.finding = report()
    assert atlas("find", "x", *arguments).code == 0
    assert asked(engine)["selection"] == selection


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "what to look for?"),
        (("--limit", "5"), "what to look for?"),
        (("-m", ANN), "what to look for?"),
        (("x", "--limit", "0"), "--limit '0' is not a number from 1 on"),
        (("x", "--larger", "big"), "--larger 'big' is not a size"),
        (("x", "--smaller", "5 apples"), "--smaller '5 apples' is not a size"),
        (("x", "--received-from", "soon"), "--received-from 'soon' is neither a day nor a time"),
        (("x", "-s", "01a1", "--all-snapshots"), "exclude each other"),
        (("x", "--all-snapshots", "--end-date", "2026-04-01"), "exclude each other"),
        (("x", "--no-index", "--update-index"), "exclude each other"),
        (("x", "-m", " "), "-m needs a value"),
        (("x", "-f", " "), "-f needs a value"),
        (("--no-index",), "what to look for?"),
    ],
)
def test_wrong_calls(
    atlas: Atlas, engine: FakeEngine, arguments: tuple[str, ...], part: str
) -> None:
    """Calls that make no sense end with 2 before the engine is opened."""
    ended = atlas("find", *arguments)
    assert ended.code == 2
    assert part in ended.err
    assert not engine.calls


def test_table_is_newest_first_and_hides_subjects(atlas: Atlas, engine: FakeEngine) -> None:
    """A person gets a table; subjects only where asked for, control characters written out."""
    engine.finding = report(index=IndexReport(used=1, updated=4, documents=50, size=4096))
    engine.matches = [
        match(object_id="OLD", received="2026-04-01T00:00:00Z", subject="secret\x1b[2J"),
        match(object_id="NEW", attachments=[attachment_row()]),
    ]
    ended = atlas("find", "x")
    assert ended.code == 0
    assert ended.out.index("NEW") < ended.out.index("OLD")
    assert "Inbox / Projects" in ended.out
    assert "bob@contoso.com" in ended.out
    assert "7.4 KiB" in ended.out
    assert "secret" not in ended.out
    assert "last seen" not in ended.out
    assert (
        "2 matches in 50 messages of 1 mailbox, 3 opened, "
        "index of words 4.0 KiB with 4 messages more" in ended.err
    )
    shown = atlas("find", "x", "-S")
    assert "secret\\x1b[2J" in shown.out
    assert atlas("find", "x", "-q").err == ""


def test_what_is_gone_says_when_it_was_last_seen(atlas: Atlas, engine: FakeEngine) -> None:
    """A match that the newest snapshot lacks has the time of the last one that had it."""
    engine.finding = report()
    engine.matches = [match(gone=True), match(object_id="MSG2")]
    ended = atlas("find", "x", "--all-snapshots")
    assert "last seen" in ended.out
    assert ended.out.count("2026-04-20 12:00:00Z") == 1


def test_json_lines(atlas: Atlas, engine: FakeEngine) -> None:
    """Each match is a line, the summary is the last; nothing else is written."""
    engine.finding = report(
        index=IndexReport(used=1, updated=2, documents=50, size=4096, message_bytes=9_999),
        notices=["a notice"],
    )
    engine.matches = [match(attachments=[attachment_row()], subject="ü"), match(gone=True)]
    first, second, summary = atlas("find", "x", "--json").lines()
    assert first == {
        "message_type": "match",
        "mailbox_id": ANN,
        "snapshot_id": "s1",
        "object_id": "MSG1",
        "folder": ["Inbox", "Projects"],
        "received": "2026-04-20T11:29:59Z",
        "sender": "bob@contoso.com",
        "subject": "ü",
        "size_bytes": 7548,
        "attachments": ["plan.pdf"],
        "is_in_newest": True,
        "last_seen": "2026-04-20T12:00:00.123Z",
        "internet_message_id": "<1@contoso.com>",
    }
    assert second["is_in_newest"] is False
    assert summary == {
        "message_type": "summary",
        "matches": 2,
        "mailboxes": 1,
        "searched": 50,
        "opened": 3,
        "index": {
            "used": 1,
            "updated": 2,
            "bytes": 4096,
            "documents": 50,
            "message_bytes": 9_999,
        },
        "incomplete": [],
        "not_searched": 0,
        "notices": ["a notice"],
        "interrupted": False,
        "exit_code": 0,
    }


def test_nothing_found_is_no_error(atlas: Atlas, engine: FakeEngine) -> None:
    """Without a match the exit code is 0, and a remark says that there is none."""
    engine.finding = FindReport(mailboxes=1, searched=5)
    ended = atlas("find", "x")
    assert (ended.code, ended.out) == (0, "")
    assert "0 matches in 5 messages of 1 mailbox, 0 opened" in ended.err


def test_what_could_not_be_searched_is_named(atlas: Atlas, engine: FakeEngine) -> None:
    """Damaged messages and mailboxes stand below the matches, and the exit code is 16."""
    lost = [
        Unsearched(ANN, "MSG9", "it is damaged"),
        Unsearched("bob@x.y", "", "broken", "mend it"),
    ]
    engine.finding = report(not_searched=2, unsearched=lost)
    ended = atlas("find", "x")
    assert ended.code == 16
    assert f"{ANN}: message MSG9: it is damaged" in ended.out
    assert "bob@x.y: the whole mailbox: broken\n    hint: mend it" in ended.out
    document = atlas("find", "x", "--json").lines()[-1]
    assert document["incomplete"] == [
        {"mailbox_id": ANN, "object_id": "MSG9", "reason": "it is damaged", "hint": ""},
        {"mailbox_id": "bob@x.y", "object_id": None, "reason": "broken", "hint": "mend it"},
    ]


def test_ways_of_using_the_index(atlas: Atlas, engine: FakeEngine) -> None:
    """Each option asks for its own; without anything to look for the index alone is made."""
    engine.finding = report(index=IndexReport(updated=3, documents=9, size=2048))
    atlas("find", "x", "--no-index")
    assert asked(engine)["index"] is IndexMode.NONE
    atlas("find", "x", "--update-index")
    assert asked(engine)["index"] is IndexMode.UPDATE
    ended = atlas("find", "--update-index", "-m", ANN)
    assert engine.calls[-1] == (
        "update_index",
        {"mailboxes": [ANN], "selection": Selection(), "rebuild": False},
    )
    assert ended.out == "3 messages added to the index of words, 9 in it, 2.0 KiB\n"
    atlas("find", "x", "--rebuild-index")
    assert [name for name, _ in engine.calls[-2:]] == ["update_index", "find"]
    assert engine.calls[-2][1]["rebuild"] is True
    (document,) = atlas("find", "--rebuild-index", "--json").lines()
    assert document["index"]["updated"] == 3  # type: ignore[index]
    ended = atlas("find", "--drop-index", "-m", ANN)
    assert engine.calls[-1] == ("drop_index", {"mailboxes": [ANN]})
    assert ended.out == f"{ANN}: 3 objects deleted, 4.0 KiB\n"
    (document,) = atlas("find", "--drop-index", "--json").lines()
    assert document["dropped"] == [{"mailbox_id": ANN, "objects": 3, "bytes": 4096}]


def test_status_lines(atlas: Atlas, engine: FakeEngine) -> None:
    """A program that follows has the counts so far, over all mailboxes."""
    engine.finding = report()
    engine.happenings = [SearchProgress(ANN, 20, 50, 4)]
    status = atlas("find", "x", "--json").lines()[0]
    assert isinstance(status.pop("seconds"), float)
    assert status == {"message_type": "status", "searched": 20, "expected": 50, "indexed": 4}


def test_live_view_and_log_lines() -> None:
    """The live view tells indexing from searching; a log has a line now and then."""
    state = RunState(0.0)
    state.take(SearchProgress(ANN, 3, 9, 3, indexing=True), 1.0)
    assert "3 of 9 messages added to the index of words" in str(render(state, 1.0, 80))
    state.take(SearchProgress(ANN, 20, 50, 9), 2.0)
    assert "20 of 50 messages searched  9 indexed" in str(render(state, 2.0, 80))
    lines = LogLines(0.0)
    event = SearchProgress(ANN, 20, 50, 9)
    assert lines.take(event, 1.0) == []
    assert lines.take(event, LOG_SECONDS + 1) == ["20 of 50 messages searched, 9 indexed"]


def lines_of(*documents: Any) -> bytes:
    """Return documents as lines."""
    return b"".join(orjson.dumps(document) + b"\n" for document in documents)


FOUND = {"message_type": "match", "mailbox_id": ANN, "snapshot_id": "s1", "object_id": "MSG1"}


def test_found_messages_are_read(
    atlas: Atlas, engine: FakeEngine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``read --found`` shows each message as of the snapshot it was found in, from file or pipe."""
    engine.content = MessageContent(ANN, "s1", message_row(), {"subject": "Hello"}, b"{}")
    text = lines_of(
        {"message_type": "status"}, FOUND, FOUND | {"object_id": "MSG2"}, FOUND
    ) + lines_of({"message_type": "summary"})
    (place / "found.jsonl").write_bytes(text)
    ended = atlas("read", "--found", "found.jsonl")
    assert ended.code == 0, ended.err
    wanted = [
        ("read_message", {"object_id": name, "snapshot": "s1", "mailbox": ANN})
        for name in ("MSG1", "MSG2")
    ]
    assert engine.calls[-2:] == wanted
    assert ended.out.count("Hello") == 2
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    ended = atlas("read", "--found", "-", "--json")
    assert [line["mailbox_id"] for line in ended.lines()] == [ANN, ANN]


@pytest.mark.parametrize("damaged", [True, False])
def test_what_cannot_be_read_costs_itself(
    atlas: Atlas, engine: FakeEngine, place: Path, damaged: bool
) -> None:
    """The others are shown, it is named at the end, and the exit code is that of damage."""
    engine.content = MessageContent(ANN, "s1", message_row(), {"subject": "Hello"}, b"{}")
    engine.unreadable = {"MSG2": SnapshotNotFound("no such message", where="MSG2")}
    if damaged:
        engine.unreadable["MSG1"] = IntegrityError("damaged\x1b[2J", hint="run verify")
    names = ("MSG1", "MSG2", "MSG3", "MSG4")
    (place / "f.jsonl").write_bytes(lines_of(*(FOUND | {"object_id": name} for name in names)))
    ended = atlas("read", "--found", "f.jsonl")
    assert ended.code == (16 if damaged else 10)
    assert ended.out.count("Hello") == (2 if damaged else 3)
    assert f"{2 if damaged else 1} could not be read:" in ended.out
    assert f"{ANN}: message MSG2: no such message (MSG2)" in ended.out
    assert not ended.out.startswith("\n")
    if damaged:
        assert f"{ANN}: message MSG1: damaged\\x1b[2J\n    hint: run verify" in ended.out
    ended = atlas("read", "--found", "f.jsonl", "--json")
    assert ended.code == (16 if damaged else 10)
    *shown, last = ended.lines()
    assert len(shown) == 3
    assert last == {
        "mailbox_id": ANN,
        "snapshot_id": "s1",
        "object_id": "MSG2",
        "error": "no such message (MSG2)",
        "hint": "",
    }


def test_a_store_that_fails_ends_the_reading(atlas: Atlas, engine: FakeEngine, place: Path) -> None:
    """It concerns all messages, so nothing is tried any more."""
    engine.unreadable = {"MSG1": StoreTransient("the store does not answer")}
    names = ("MSG1", "MSG2")
    (place / "f.jsonl").write_bytes(lines_of(*(FOUND | {"object_id": name} for name in names)))
    ended = atlas("read", "--found", "f.jsonl")
    assert ended.code == 1
    assert [args["object_id"] for verb, args in engine.calls if verb == "read_message"] == ["MSG1"]
    assert "the store does not answer" in ended.err


def test_nothing_was_found_to_read(atlas: Atlas, place: Path) -> None:
    """A search without matches gives nothing to show, which is no error."""
    (place / "found.jsonl").write_bytes(lines_of({"message_type": "summary"}))
    ended = atlas("read", "--found", "found.jsonl")
    assert (ended.code, ended.out) == (0, "")
    assert "nothing was found" in ended.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--found", "missing.jsonl"), "cannot read 'missing.jsonl'"),
        (("MSG1", "--found", "-"), "leave MESSAGE_ID"),
        (("--found", "-", "-m", ANN), "leave MESSAGE_ID"),
        ((), "missing argument MESSAGE_ID, or --found"),
    ],
)
def test_wrong_calls_of_read(atlas: Atlas, arguments: tuple[str, ...], part: str) -> None:
    """A file that is not there, or a message beside it, is a usage error."""
    ended = atlas("read", *arguments)
    assert ended.code == 2
    assert part in ended.err


def test_lines_of_a_search() -> None:
    """Matches are taken once each; everything else is passed over."""
    lines = [*lines_of(FOUND, {"message_type": "other"}, FOUND).splitlines(), b""]
    assert parse_found(lines) == [FoundMessage(ANN, "s1", "MSG1")]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b"",
        lines_of({"message_type": "match"}),
        lines_of(FOUND | {"object_id": 7}),
        lines_of({"message_type": "status"}),
        b'{"message_type":"exit_error"}',
    ],
)
def test_lines_that_are_no_result(line: bytes) -> None:
    """What no search wrote, or one that failed, is refused."""
    with pytest.raises(UsageError):
        parse_found([line])
