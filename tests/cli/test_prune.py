"""``atlas prune`` and ``--lock-wait`` over a fake engine: what they ask of it and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from atlas_async.model.events import PruneProgress
from atlas_async.model.report import MailboxResult, Outcome, RunReport
from atlas_async.operations.pruning import PrunedMailbox, PruneReport
from tests.cli.conftest import TENANT, Atlas, Ended
from tests.fakes.engine import FakeEngine

ANN = "ann@contoso.com"
KEYS = [f"data/{ANN}/{number:064}" for number in range(25)]
BOX = PrunedMailbox(
    ANN,
    objects=100,
    unreferenced=28,
    unreferenced_bytes=5000,
    young=3,
    removed=25,
    removed_bytes=4096,
    keys=KEYS,
)


def test_dry_run_says_what_would_go(atlas: Atlas, engine: FakeEngine) -> None:
    """Counts, the first keys, and that nothing was removed."""
    engine.pruned = PruneReport(dry_run=True, mailboxes=[BOX])
    engine.happenings = [PruneProgress(ANN, objects=100, unreferenced=28, removed=0)]
    ended = atlas("prune", "--dry-run", "-m", ANN, "--older-than", "2h")
    assert ended.code == 0
    assert engine.calls[-1] == (
        "prune",
        {"mailboxes": [ANN], "older_than": 7200.0, "dry_run": True},
    )
    assert (
        f"{ANN}: 100 objects, 28 that no snapshot names, 3 of them too young, 25 to be removed"
        in (ended.out)
    )
    assert KEYS[19] in ended.out
    assert KEYS[20] not in ended.out
    assert "... and 5 more" in ended.out
    assert "25 objects would be removed, 4.0 KiB" in ended.out


def test_prune_ends_with_what_was_left(atlas: Atlas, engine: FakeEngine) -> None:
    """A locked mailbox beside others is exit 3, alone 11; what the store kept is exit 3."""
    locked = PrunedMailbox("bob@contoso.com", error="held", hint="wait", exit_code=11)
    engine.pruned = PruneReport(dry_run=False, mailboxes=[BOX, locked])
    ended = atlas("prune")
    assert ended.code == 3
    assert engine.calls[-1] == (
        "prune",
        {"mailboxes": None, "older_than": 86400.0, "dry_run": False},
    )
    assert "bob@contoso.com: held\n  hint: wait" in ended.out
    assert "25 objects removed, 4.0 KiB" in ended.out
    engine.pruned = PruneReport(dry_run=False, mailboxes=[locked])
    assert atlas("prune").code == 11
    kept = PrunedMailbox(ANN, kept=2)
    engine.pruned = PruneReport(dry_run=False, mailboxes=[kept])
    assert atlas("prune", "-q").code == 3


def only_mailbox(ended: Ended) -> dict[str, Any]:
    """Return the one mailbox of the document that a pruning wrote last."""
    (box,) = cast("list[dict[str, Any]]", ended.lines()[-1]["mailboxes"])
    return box


@pytest.mark.parametrize(("dry_run", "code"), [(False, 11), (False, 13), (True, 16)])
def test_no_counts_of_what_was_not_looked_at(
    atlas: Atlas, engine: FakeEngine, dry_run: bool, code: int
) -> None:
    """A mailbox that failed before its objects were listed has its error, and no zeros."""
    failed = PrunedMailbox(ANN, error="refused", hint="do this", exit_code=code)
    engine.pruned = PruneReport(dry_run=dry_run, mailboxes=[failed])
    ended = atlas("prune")
    assert (ended.code, ended.out) == (code, f"{ANN}: refused\n  hint: do this\n")
    box = only_mailbox(atlas("prune", "--json"))
    for name in ("objects", "unreferenced", "unreferenced_bytes", "young"):
        assert box[name] is None
    assert (box["removed"], box["removed_bytes"], box["kept"], box["keys"]) == (0, 0, 0, [])


def test_counts_of_what_was_done_before_an_error(atlas: Atlas, engine: FakeEngine) -> None:
    """A mailbox that failed half-way has its error and what was seen and removed until then."""
    half = PrunedMailbox(ANN, objects=9, unreferenced=2, removed=1, error="lost", exit_code=11)
    engine.pruned = PruneReport(dry_run=False, mailboxes=[half])
    ended = atlas("prune")
    assert f"{ANN}: lost\n{ANN}: 9 objects, 2 that no snapshot names, 1 removed\n" in ended.out
    box = only_mailbox(atlas("prune", "--json"))
    assert (box["objects"], box["removed"]) == (9, 1)


@pytest.mark.parametrize("dry_run", [False, True])
def test_status_lines_are_those_of_pruning(atlas: Atlas, engine: FakeEngine, dry_run: bool) -> None:
    """A program that follows has the counts so far, and nothing of backups."""
    engine.pruned = PruneReport(dry_run=dry_run, mailboxes=[BOX])
    engine.happenings = [PruneProgress(ANN, objects=100, unreferenced=28, removed=7)]
    status, document = atlas("prune", "--json").lines()
    assert isinstance(status.pop("seconds"), float)
    assert status == {
        "message_type": "status",
        "objects": 100,
        "unreferenced": 28,
        "removed": 7,
    }
    assert document["dry_run"] is dry_run


def test_prune_document(atlas: Atlas, engine: FakeEngine) -> None:
    """The document has every count and the keys."""
    engine.pruned = PruneReport(dry_run=False, mailboxes=[BOX])
    document = atlas("prune", "--json").lines()[-1]
    assert document["dry_run"] is False
    assert document["exit_code"] == 0
    assert document["mailboxes"] == [
        {
            "mailbox_id": ANN,
            "objects": 100,
            "unreferenced": 28,
            "unreferenced_bytes": 5000,
            "young": 3,
            "removed": 25,
            "removed_bytes": 4096,
            "kept": 0,
            "keys": KEYS,
            "error": "",
            "hint": "",
            "exit_code": 0,
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["prune", "--older-than", "yesterday"], "--older-than 'yesterday' is not a time"),
        (["prune", "-m", " "], "-m needs a value"),
        (["prune", "--lock-wait", "soon"], "expected a time such as 90s, 10m or 2h"),
        (["backup", "--lock-wait", "-1"], "expected a time such as 90s, 10m or 2h"),
    ],
)
def test_times_are_judged(
    atlas: Atlas, engine: FakeEngine, arguments: list[str], told: str
) -> None:
    """What is no time is a mistake of usage, and nothing is begun."""
    ended = atlas(*arguments)
    assert ended.code == 2
    assert told in ended.err
    assert not [call for call in engine.calls if call[0] != "open"]


@pytest.mark.parametrize(
    ("given", "seconds"), [("0", 0.0), ("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("2h", 7200.0)]
)
def test_lock_wait_is_a_time(
    atlas: Atlas, engine: FakeEngine, place: Path, given: str, seconds: float
) -> None:
    """The option ends up in the limits, in seconds."""
    engine.report = RunReport(TENANT, (), 0.1)
    assert atlas("backup", "--lock-wait", given).code == 0
    settings = engine.calls[0][1]["settings"]
    assert settings.limits.lock_wait == seconds


def test_locked_mailbox_is_told(atlas: Atlas, engine: FakeEngine) -> None:
    """A mailbox that another run holds is named with the reason, and the command ends with 11."""
    locked = MailboxResult(
        ANN, Outcome.LOCKED, error="another run holds this mailbox", hint="wait", exit_code=11
    )
    engine.report = RunReport(TENANT, (locked,), 0.1)
    ended = atlas("backup")
    assert ended.code == 11
    assert "locked" in ended.out
    assert "another run holds this mailbox" in ended.out
