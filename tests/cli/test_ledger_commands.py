"""``atlas ledger`` over a fake engine: what it asks, what it prints, how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.errors import SnapshotNotFound
from atlas_async.graph.codes import GONE_CODES, ITEM_CODES, PASSING_CODES
from atlas_async.model.explanations import explain_code, known_codes
from atlas_async.model.report import MailboxResult, NotStored, Outcome, RunReport
from atlas_async.operations.ledger import Forgetting, LedgerEntry
from tests.cli.conftest import TENANT, Atlas
from tests.fakes.engine import FakeEngine

ANN = "ann@contoso.com"
NOON = "2026-04-20T12:00:00.000Z"
ITEM = NotStored(
    kind="attachment",
    object_id="MSG7",
    attachment_id="ATT9",
    folder_id="F1",
    name="salary\x1b[2J.xlsx",
    code="ErrorCorruptData",
    reason="it is damaged",
    permanent=True,
    request_id="req-77",
    first_run="run-1",
    last_run="run-2",
    attempts=3,
)
ENTRY = LedgerEntry(ANN, "snap-1", ITEM, ("Inbox", "Pay"), NOON, "2026-04-21T12:00:00.000Z")
GIVEN_UP = replace(ENTRY, item=replace(ITEM, forgotten="2026-04-22T12:00:00.000Z"))
PARTIAL = MailboxResult(ANN, Outcome.PARTIAL, "s2", failed=1, exit_code=3, not_stored=(ITEM,))


@pytest.mark.parametrize("verb", [(), ("list",)])
def test_the_list_has_ids_codes_and_dates(
    atlas: Atlas, engine: FakeEngine, verb: tuple[str, ...]
) -> None:
    """``atlas ledger`` lists; names are hidden, like the subjects of ``atlas list``."""
    engine.entries = [ENTRY]
    ended = atlas("ledger", *verb, "-m", ANN)
    assert ended.code == 0
    assert engine.calls[-1] == ("ledger", {"mailbox": ANN, "include_forgotten": False})
    line = ended.out.splitlines()[1]
    for part in (ITEM.id, ANN, "attachment", "ErrorCorruptData", "3"):
        assert part in line.split()
    assert line.split()[-2:] == ["2026-04-20", "2026-04-21"]
    assert "salary" not in ended.out
    assert "forgotten" not in ended.out
    assert "1 item missing" in ended.err


def test_names_and_forgotten_entries_are_shown_when_asked_for(
    atlas: Atlas, engine: FakeEngine
) -> None:
    """``-S`` shows names, fit for a terminal, and ``--all`` what was given up, with its time."""
    engine.entries = [ENTRY, GIVEN_UP]
    ended = atlas("ledger", "-S", "--all")
    assert engine.calls[-1] == ("ledger", {"mailbox": None, "include_forgotten": True})
    assert "salary\\x1b[2J.xlsx" in ended.out
    assert "2026-04-22" in ended.out
    assert "1 item missing, 1 forgotten" in ended.err


def test_an_empty_ledger_says_so(atlas: Atlas, engine: FakeEngine) -> None:
    """Nothing missing is said to a person, and is an empty list to a program."""
    assert "nothing is missing" in atlas("ledger").err
    ended = atlas("ledger", "--json")
    assert (ended.code, ended.lines()) == (0, [{"entries": []}])


def test_the_list_for_a_program(atlas: Atlas, engine: FakeEngine) -> None:
    """Every field that is promised, names included."""
    engine.entries = [GIVEN_UP]
    (document,) = atlas("ledger", "list", "--all", "--json").lines()
    assert document == {
        "entries": [
            {
                "mailbox_id": ANN,
                "snapshot_id": "snap-1",
                "kind": "attachment",
                "object_id": "MSG7",
                "attachment_id": "ATT9",
                "folder_id": "F1",
                "name": ITEM.name,
                "code": "ErrorCorruptData",
                "reason": "it is damaged",
                "permanent": True,
                "request_id": "req-77",
                "first_run": "run-1",
                "last_run": "run-2",
                "attempts": 3,
                "id": ITEM.id,
                "forgotten": "2026-04-22T12:00:00.000Z",
                "folder": ["Inbox", "Pay"],
                "first_run_at": NOON,
                "last_run_at": "2026-04-21T12:00:00.000Z",
            }
        ]
    }


def test_an_entry_is_explained(atlas: Atlas, engine: FakeEngine) -> None:
    """Everything known, what the code means, what to do, and the id for Microsoft support."""
    engine.entries = [ENTRY]
    ended = atlas("ledger", "explain", ITEM.id[:6])
    assert ended.code == 0
    assert engine.calls[-1] == ("find_in_ledger", {"ids": [ITEM.id[:6]], "mailboxes": None})
    told = explain_code("ErrorCorruptData")
    expected = (
        *(f"{ITEM.id}  attachment, missing", ANN, "Inbox / Pay", "MSG7", "ATT9"),
        *("it is damaged", told.meaning, told.advice, "by every run; that is not expected to help"),
        *("2026-04-20 12:00:00Z (run-1)", "2026-04-21 12:00:00Z (run-2), 3 attempts"),
        *("req-77 (for Microsoft support)", "snapshot snap-1"),
    )
    for part in expected:
        assert part in ended.out, part
    assert "salary" not in ended.out
    assert "salary\\x1b[2J.xlsx" in atlas("ledger", "explain", "MSG7", "-S", "-m", ANN).out
    assert engine.calls[-1][1]["mailboxes"] == [ANN]
    engine.entries = [GIVEN_UP]
    ended = atlas("ledger", "explain", "MSG7")
    assert "attachment, forgotten at 2026-04-22 12:00:00Z" in ended.out
    assert "by 'atlas ledger retry' with its id" in ended.out
    (document,) = atlas("ledger", "explain", "MSG7", "--json").lines()
    explained = [(e["meaning"], e["advice"]) for e in document["entries"]]  # type: ignore[attr-defined]  # a list of objects
    assert explained == [(told.meaning, told.advice)]


def test_a_retry_reports_as_a_backup(atlas: Atlas, engine: FakeEngine) -> None:
    """What was asked for reaches the engine; the report and the exit code are those of a run."""
    engine.report = RunReport(TENANT, (PARTIAL,), 1.0)
    ended = atlas("ledger", "retry", ITEM.id, "MSG7", "-m", ANN, "-m", "b@c.d")
    assert engine.calls[-1] == (
        "retry_ledger",
        {"ids": [ITEM.id, "MSG7"], "mailboxes": [ANN, "b@c.d"], "include_forgotten": False},
    )
    assert ended.code == 3
    assert f"[{ITEM.id}] attachment ATT9: ErrorCorruptData" in ended.out
    assert f"'atlas ledger explain {ITEM.id}' explains the first" in ended.out
    summary = atlas("ledger", "retry", "--all", "--json").lines()[-1]
    assert engine.calls[-1][1] == {"ids": (), "mailboxes": None, "include_forgotten": True}
    assert (summary["message_type"], summary["exit_code"]) == ("summary", 3)
    engine.report = RunReport(TENANT, (), 0.0)
    ended = atlas("ledger", "retry")
    assert (ended.code, ended.out) == (0, "")
    assert "nothing is missing, so nothing was tried" in ended.err


def test_forgetting_without_a_terminal_needs_a_word(atlas: Atlas, engine: FakeEngine) -> None:
    """Nothing is given up unless somebody says so."""
    engine.entries = [ENTRY]
    engine.forgetting = Forgetting(ANN, "s9", (GIVEN_UP,))
    ended = atlas("ledger", "forget", "MSG7", "-m", ANN)
    assert ended.code == 2
    assert f"Forget 1 item of {ANN}" in ended.err
    assert "--yes" in ended.err
    assert all(verb != "forget" for verb, _ in engine.calls)
    ended = atlas("ledger", "forget", "MSG7", "-m", ANN, "--yes")
    assert (ended.code, engine.calls[-1]) == (0, ("forget", {"ids": ["MSG7"], "mailbox": ANN}))
    assert "1 item forgotten in snapshot s9" in ended.err
    (document,) = atlas("ledger", "forget", "MSG7", "-m", ANN, "--yes", "--json").lines()
    assert (document["mailbox_id"], document["snapshot_id"]) == (ANN, "s9")
    assert [entry["id"] for entry in document["entries"]] == [ITEM.id]  # type: ignore[attr-defined]  # a list of objects
    engine.forgetting = Forgetting(ANN, None, (GIVEN_UP,))
    ended = atlas("ledger", "forget", "MSG7", "-m", ANN, "--yes")
    assert "forgotten already; nothing was changed" in ended.err


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("forget", "MSG7"), "--mailbox"),
    (("forget", "-m", ANN), "ID"),
    (("explain",), "ID"),
    (("explain", " "), "blank"),
    (("-m", " "), "blank"),
    (("retry", "--all", "MSG7"), "--all"),
    (("frobnicate",), "frobnicate"),
    (("--frobnicate",), "frobnicate"),
]


@pytest.mark.parametrize(("arguments", "part"), WRONG)
def test_wrong_calls_are_explained(
    atlas: Atlas, engine: FakeEngine, arguments: tuple[str, ...], part: str
) -> None:
    """A mistaken call ends with 2 and says what is wrong, before anything is opened."""
    ended = atlas("ledger", *arguments)
    assert ended.code == 2
    assert part in ended.err
    assert engine.calls == []


def test_unknown_names_end_with_10(atlas: Atlas, engine: FakeEngine) -> None:
    """No such mailbox, no such entry."""
    engine.error = SnapshotNotFound("no ledger has an entry 0123")
    for arguments in (("explain", "0123"), ("retry", "0123"), ("list", "-m", "z@x.y")):
        assert atlas("ledger", *arguments).code == 10


def test_the_group_has_help_of_its_own(atlas: Atlas) -> None:
    """``--help`` is the group's, not that of the command it stands for."""
    ended = atlas("ledger", "--help")
    assert ended.code == 0
    for name in ("list", "explain", "retry", "forget"):
        assert f"\n  {name} " in ended.out


def test_every_known_code_has_sentences() -> None:
    """Codes are found in any case; each says what it means and what can be done."""
    assert "errorcorruptdata" in known_codes()
    for code in known_codes():
        told = explain_code(code.upper())
        assert told == explain_code(code)
        assert told.meaning.endswith(".")
        assert told.advice.endswith(".")
        assert told.meaning != explain_code("SomethingElse").meaning
    assert "Graph's own words" in explain_code("SomethingElse").meaning


def test_every_code_that_marks_an_item_is_explained() -> None:
    """What makes Graph's client give an item up is in the table."""
    assert (ITEM_CODES | GONE_CODES | PASSING_CODES) - known_codes() == set()
