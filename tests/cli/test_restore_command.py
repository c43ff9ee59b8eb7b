"""``atlas restore`` over a fake engine: what its options ask for, and what it prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from atlas_async.config.settings import GraphSettings
from atlas_async.model.events import RestoreProgress
from atlas_async.model.restoring import (
    Adjustment,
    Comparing,
    Comparison,
    Conflict,
    Difference,
    FolderOutcome,
    RestoreFailure,
    RestoreJob,
    RestoreOptions,
    RestoreReport,
    UndoReport,
)
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from tests.cli.conftest import Atlas
from tests.fakes.engine import FakeEngine

ANN, BOB = "ann@contoso.com", "bob@contoso.com"


def done(**values: object) -> RestoreReport:
    """Return the report of a restore that went well."""
    report = RestoreReport(ANN, ANN, job_id="0123456789abcdef", root="Restore-x", requests=12)
    report.folders = [FolderOutcome(("Inbox",), ("Restore-x", "Inbox"), create=7, skip=2)]
    report.comparison = Comparison(compared=7)
    for name, value in values.items():
        setattr(report, name, value)
    return report


def asked(engine: FakeEngine) -> dict[str, object]:
    """Return what the engine was asked last."""
    verb, values = engine.calls[-1]
    assert verb == "restore"
    return values


def test_options_become_a_selection(atlas: Atlas, engine: FakeEngine) -> None:
    """Every option that chooses messages, and every one that says how."""
    engine.restores = [done()]
    ended = atlas(
        *(
            "restore",
            "-m",
            "Ann@Contoso.com",
            "--at",
            "2026-04-20",
            "-f",
            "Inbox/A",
            "-f",
            "archive",
        ),
        *(
            "--no-subtree",
            "--received-from",
            "2026-01-01",
            "--received-before",
            "2026-02-01T12:00Z",
        ),
        *("--to", BOB, "--root", " From Ann ", "--on-conflict", "copy", "--compare", "counts"),
    )
    assert ended.code == 0, ended.err
    assert asked(engine) == {
        "wishes": [
            RestoreWish(
                Selection(
                    mailbox=ANN,
                    at=datetime(2026, 4, 20, 23, 59, 59, 999_999, tzinfo=UTC),
                    folders=("Inbox/A", "archive"),
                    subtree=False,
                    received_from=datetime(2026, 1, 1, tzinfo=UTC),
                    received_before=datetime(2026, 2, 1, 12, tzinfo=UTC),
                ),
                BOB,
            )
        ],
        "options": RestoreOptions(
            root="From Ann", conflict=Conflict.COPY, comparing=Comparing.COUNTS
        ),
        "target": None,
    }


def test_ranges_ids_and_several_mailboxes(atlas: Atlas, engine: FakeEngine) -> None:
    """A range ends with its last day; each mailbox is a wish of its own."""
    engine.restores = [done(), done()]
    assert atlas("restore", "-m", ANN, "-m", BOB, "--end-date", "2026-04-30").code == 0
    before = datetime(2026, 5, 1, tzinfo=UTC)
    assert asked(engine)["wishes"] == [
        RestoreWish(Selection(mailbox=name, made_before=before)) for name in (ANN, BOB)
    ]
    assert atlas("restore", "-s", "01a1fa37", "--message", "AAMk", "--in-place").code == 0
    assert asked(engine)["wishes"] == [
        RestoreWish(Selection(snapshot="01a1fa37", messages=("AAMk",)))
    ]
    assert asked(engine)["options"] == RestoreOptions(in_place=True)


def test_what_was_found_is_grouped_by_snapshot(
    atlas: Atlas, engine: FakeEngine, place: Path
) -> None:
    """The lines of a search become one wish for each mailbox and snapshot."""
    found = [(ANN, "s1", "m1"), (BOB, "s2", "m2"), (ANN, "s1", "m3"), (ANN, "s3", "m4")]
    lines = [
        {"message_type": "match", "mailbox_id": m, "snapshot_id": s, "object_id": o}
        for m, s, o in found
    ]
    text = "\n".join(json.dumps(line) for line in [*lines, {"message_type": "summary"}])
    (place / "found.jsonl").write_text(text)
    engine.restores = [done()]
    assert atlas("restore", "--found", "found.jsonl").code == 0
    assert asked(engine)["wishes"] == [
        RestoreWish(Selection(mailbox=ANN, snapshot="s1", messages=("m1", "m3"))),
        RestoreWish(Selection(mailbox=BOB, snapshot="s2", messages=("m2",))),
        RestoreWish(Selection(mailbox=ANN, snapshot="s3", messages=("m4",))),
    ]


def test_a_search_that_found_nothing_restores_nothing(
    atlas: Atlas, engine: FakeEngine, place: Path
) -> None:
    """Exit 10 and a sentence, before anything is opened: no silent end with another code."""
    (place / "found.jsonl").write_text('{"message_type": "summary", "matches": 0}\n')
    ended = atlas("restore", "--found", "found.jsonl")
    assert (ended.code, engine.calls) == (10, [])
    assert "found nothing" in ended.err


def test_another_tenant_is_told_by_its_file_alone(
    atlas: Atlas, engine: FakeEngine, place: Path
) -> None:
    """Nothing of the target's credential comes from the environment, and nothing else is taken."""
    other = "99999999-2222-3333-4444-555555555555"
    values = {
        "tenant_id": other,
        "client_id": "bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee",
        "client_secret": "theirs",
    }
    (place / "other.json").write_text(json.dumps(values))
    engine.restores = [done()]
    assert atlas("restore", "-m", ANN, "--target-config", "other.json").code == 0
    target = asked(engine)["target"]
    assert isinstance(target, GraphSettings)
    assert (target.tenant_id, target.client_id) == (other, values["client_id"])
    calls = len(engine.calls)
    for broken, told in (
        ({"tenant_id": other}, "ATLAS_CLIENT_ID"),
        ({**values, "s3_endpoint": "http://x"}, '"s3_endpoint" is no matter of a tenant'),
        ({**values, "client_id": "x"}, "client_id"),
    ):
        (place / "other.json").write_text(json.dumps(broken))
        ended = atlas("restore", "-m", ANN, "--target-config", "other.json")
        assert ended.code == 2, broken
        assert told in ended.err
        assert "theirs" not in ended.err
    assert len(engine.calls) == calls


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "what to restore?"),
        (["-m", " "], "-m needs a value"),
        (["-m", ANN, "-s", "01", "--at", "2026-01-01"], "exclude each other"),
        (["-m", ANN, "--at", "2026-01-01", "--end-date", "2026-01-01"], "exclude each other"),
        (["-m", ANN, "--at", "yesterday"], "--at 'yesterday' is neither a day nor a time"),
        (["-m", ANN, "--in-place", "--root", "x"], "--in-place and --root exclude"),
        (["-m", ANN, "--root", " "], "--root needs a name"),
        (["-m", ANN, "--on-conflict", "merge"], "is none of skip, copy, replace"),
        (["-m", ANN, "--compare", "all"], "is none of contents, counts, none"),
        (["-m", ANN, "-m", BOB, "--to", BOB], "--to goes with one mailbox"),
        (["-m", ANN, "-m", BOB, "-s", "01"], "-s and --message go with one mailbox"),
        (["--found", "x", "-f", "Inbox"], "--found says which messages"),
        (["-m", ANN, "--found", "x"], "--found says which messages"),
        (["--found", "absent"], "cannot read 'absent'"),
        (["-m", ANN, "--no-subtree"], "--no-subtree goes with -f"),
        (
            ["-m", ANN, "--start-date", "2026-01-02", "--end-date", "2026-01-01"],
            "--end-date is not after --start-date",
        ),
        (
            ["-m", ANN, "--received-from", "2026-01-01", "--received-before", "2026-01-01"],
            "--received-before is not after --received-from",
        ),
        (["--jobs"], "one mailbox must be named"),
        (["-m", ANN, "--jobs", "--undo", "latest"], "exclude each other"),
        (["-m", ANN, "--undo", "latest", "-f", "Inbox"], "--folder does not go with --undo"),
        (["-m", ANN, "--undo", "ab12", "--message", "x"], "--message does not go with --undo"),
        (["-m", ANN, "--undo", "ab12", "--root", "R"], "--root does not go with --undo"),
        (["-m", ANN, "--undo", "ab12", "-s", "01"], "--snapshot does not go with --undo"),
        (["-m", ANN, "--undo", "ab12", "--to", BOB], "--to does not go with --undo"),
        (["-m", ANN, "--undo", "ab12", "--subtree"], "--subtree does not go with --undo"),
        (["--undo", "ab12", "--found", "-"], "--found does not go with --undo"),
        (["-m", ANN, "--undo", "ab12", "--on-conflict", "skip"], "--on-conflict does not go"),
        (["-m", ANN, "--undo", "ab12", "--received-from", "2026-01-01"], "--received-from does"),
        (["-m", ANN, "--jobs", "-f", "Inbox"], "--folder does not go with --jobs"),
        (["-m", ANN, "--jobs", "-n"], "--dry-run does not go with --jobs"),
        (["-m", ANN, "--target-config", "absent.json"], "absent.json"),
        (["-m", ANN, "--to", " "], "--to needs an address"),
    ],
)
def test_bad_calls_are_refused(
    arguments: list[str], told: str, atlas: Atlas, engine: FakeEngine
) -> None:
    """Exit 2 with what is wrong, before anything is opened."""
    ended = atlas("restore", *arguments)
    assert (ended.code, engine.calls) == (2, [])
    assert told in ended.err


def test_a_restore_that_went_well(atlas: Atlas, engine: FakeEngine) -> None:
    """A table of folders, counts, what was compared, and how to take it back."""
    engine.restores = [done()]
    ended = atlas("restore", "-m", ANN)
    assert ended.code == 0
    assert "Restore-x / Inbox" in ended.out
    assert (
        f"{ANN}: to {ANN}, below 'Restore-x': 7 created, 2 skipped, as they are there" in ended.out
    )
    assert "read back: 7 messages, all as sent" in ended.out
    assert "atlas restore --undo 0123456789abcdef" in ended.err


def test_nothing_made_is_nothing_read_back(atlas: Atlas, engine: FakeEngine) -> None:
    """A restore that found everything there says nothing of a comparison."""
    report = done()
    report.comparison = Comparison()
    engine.restores = [report]
    assert "read back" not in atlas("restore", "-m", ANN).out


def test_a_dry_run_says_what_would_be(atlas: Atlas, engine: FakeEngine) -> None:
    """Nothing sounds as if it had happened, and there is nothing to take back."""
    engine.restores = [done(options=RestoreOptions(dry_run=True), comparison=None)]
    ended = atlas("restore", "-m", ANN, "-n")
    assert asked(engine)["options"] == RestoreOptions(dry_run=True)
    assert "would go to" in ended.out
    assert "7 to create" in ended.out
    assert "created" not in ended.out + ended.err
    assert "--undo" not in ended.err


def test_trouble_is_named(atlas: Atlas, engine: FakeEngine) -> None:
    """Failures, adjustments and differences with their places; controls are written out."""
    report = done()
    report.add_failure(RestoreFailure("message", "AAMk1", ("Inbox",), "s", "Err", "too\x07 odd"))
    report.add_failure(RestoreFailure("attachment", "AAMk2", ("Inbox",), "a.pdf", "Err", "no"))
    report.add_adjustment(Adjustment("AAMk3", ("Inbox",), "replyTo: 'x' is no address: left out"))
    report.not_stored = 2
    report.comparison = Comparison(compared=7, missing=1, different=1, duplicates=1)
    report.comparison.differences.append(Difference("T1", ("Inbox",), ("body", "times")))
    engine.restores = [report]
    ended = atlas("restore", "-m", ANN)
    assert ended.code == 3
    for text in (
        "message of AAMk1 in Inbox: too\\x07 odd",
        "attachment 'a.pdf' of AAMk2 in Inbox: no",
        "1 thing not as it was",
        "the snapshot lacks 2 items",
        "1 MISSING, 1 DIFFERENT, 1 there twice",
        "T1 in Inbox: body, times",
        "1 FAILED, 1 attachment MISSING",
    ):
        assert text in ended.out, text


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 0), 0), ((13, 13), 13), ((0, 13), 3), ((0, 130), 130), ((16,), 16), ((14,), 14)],
)
def test_the_exit_code_is_that_of_all(
    codes: tuple[int, ...], expected: int, atlas: Atlas, engine: FakeEngine
) -> None:
    """A lone code is the command's own; mailboxes that ended differently are 3."""
    engine.restores = [
        done(error="x" if code else "", error_code=code, hint="do this") for code in codes
    ]
    ended = atlas("restore", "-m", ANN)
    assert ended.code == expected
    if any(codes):
        assert "hint: do this" in ended.out


def test_json_is_one_document_after_status_lines(atlas: Atlas, engine: FakeEngine) -> None:
    """Progress as lines, then everything of every mailbox."""
    engine.restores = [done()]
    engine.happenings = [RestoreProgress(ANN, "Inbox", 3, 0, 2, 1, 0, 900, 0)]
    status, last = atlas("restore", "-m", ANN, "--json").lines()
    assert (status["message_type"], status["done"], status["expected"]) == ("status", 3, None)
    assert last["exit_code"] == 0
    document = cast("list[dict[str, Any]]", last["restores"])[0]
    assert (document["created"], document["skipped"], document["restore"]) == (
        7,
        2,
        "0123456789abcdef",
    )
    assert document["comparison"]["equal"] is True
    assert document["folders"][0]["target"] == ["Restore-x", "Inbox"]


def test_restores_are_listed_and_taken_back(atlas: Atlas, engine: FakeEngine) -> None:
    """``--jobs`` needs no Graph; ``--undo`` says what was removed, what is left and why."""
    engine.jobs = [
        RestoreJob(
            "ab12",
            ANN,
            "t",
            BOB,
            "u",
            ("s",),
            "R",
            False,
            Conflict.SKIP,
            "2026-04-20T11:30:00.000Z",
            "done",
            "",
            4,
        )
    ]
    ended = atlas("restore", "-m", ANN, "--jobs")
    assert engine.calls[-1] == ("restore_jobs", {"mailbox": ANN})
    assert "ab12" in ended.out
    report = UndoReport("ab12", ANN, BOB, removed=4, gone=1, put_back=2, folders_removed=1)
    report.folders_kept.append(("R", "Inbox"))
    engine.undone = report
    ended = atlas("restore", "-m", ANN, "--undo", "ab12")
    assert engine.calls[-1] == (
        "undo_restore",
        {"mailbox": ANN, "job_id": "ab12", "target": None, "dry_run": False},
    )
    assert ended.code == 0
    assert "4 messages removed, 1 gone already, 2 put back, 1 folder removed" in ended.out
    assert "kept, as it holds other things: R / Inbox" in ended.out


def test_what_goes_beside_taking_back(atlas: Atlas, engine: FakeEngine) -> None:
    """What chooses no mail is taken: a dry run, waiting, and the options of every command."""
    engine.undone = UndoReport("ab12", ANN, BOB, removed=4, dry_run=True)
    ended = atlas("restore", "-m", ANN, "--undo", "ab12", "-n", "--lock-wait", "5s", "-q", "--json")
    assert ended.code == 0, ended.err
    assert engine.calls[-1][1]["dry_run"] is True


def test_which_restore_was_taken_back_and_what_stays(atlas: Atlas, engine: FakeEngine) -> None:
    """It is told apart by when, where and how much; what stays is named with its reason."""
    report = UndoReport(
        *("ab12", ANN, BOB),
        begun_at="2026-04-20T11:30:00.000Z",
        in_place=True,
        created=5,
        removed=4,
        kept=1,
        not_put_back=1,
    )
    report.failures.append(
        RestoreFailure("message", "AAMk9", ("Inbox",), "", "Kept", "it stays: gone")
    )
    engine.undone = report
    ended = atlas("restore", "-m", ANN, "--undo", "ab12")
    assert ended.code == 3
    assert "restore ab12, begun 2026-04-20 11:30:00Z, in place: 5 messages created" in ended.err
    assert "4 messages removed, 1 CANNOT be put back any more, 1 left in their place" in ended.out
    assert "AAMk9 in Inbox: it stays: gone" in ended.out
    (document,) = atlas("restore", "-m", ANN, "--undo", "ab12", "--json").lines()
    assert (document["kept"], document["not_put_back"], document["exit_code"]) == (1, 1, 3)
    assert (document["begun_at"], document["root"], document["in_place"], document["created"]) == (
        "2026-04-20T11:30:00.000Z",
        None,
        True,
        5,
    )


def test_a_restore_that_cannot_be_read_is_listed_as_such(atlas: Atlas, engine: FakeEngine) -> None:
    """It is named beside the others, and the exit code says that something is damaged."""
    whole = RestoreJob(
        *("ab12", ANN, "t", BOB, "u", ("s",), "R", False, Conflict.SKIP),
        *("2026-04-20T11:30:00.000Z", "done", "", 4),
    )
    engine.jobs = [whole, RestoreJob.damaged(ANN, "cd34", "its seal is broken")]
    ended = atlas("restore", "-m", ANN, "--jobs")
    assert ended.code == 16
    assert "ab12" in ended.out
    assert "cd34 cannot be read: its seal is broken" in ended.out
    (document,) = atlas("restore", "-m", ANN, "--jobs", "--json").lines()
    assert document["exit_code"] == 16
    listed = cast("list[dict[str, Any]]", document["restores"])
    assert [job["state"] for job in listed] == ["done", "damaged"]
    assert listed[1]["problem"] == "its seal is broken"
