"""The commands of the key over a fake engine: what they ask of it, what they print, how they end."""

from __future__ import annotations

import os
import pty
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atlas_async.errors import KeyMaterialError
from atlas_async.operations.key_check import KeyCheck, KeyFinding, Protects, Weight
from atlas_async.operations.key_copy import KeyCopy
from atlas_async.operations.key_plan import Kind, ProtectionPlan, ProtectionWish, Step
from atlas_async.operations.key_protection import ProtectionReport, StepResult
from atlas_async.store.protection import LockMode, Retention, Unknown
from tests.cli.conftest import Atlas
from tests.fakes.engine import FakeEngine
from tests.fakes.protection import DELETION, NOON, OLDER, state

KEY, STORE = "_meta/dek.enc", "s3://host/atlas-x"
PLAN = ProtectionPlan(
    KEY,
    STORE,
    ProtectionWish(),
    state(object_lock=False, retention=Unknown("the bucket has no Object Lock", lacking=True)),
    (
        Step(Kind.POLICY, asked=False, todo=True, text="deny everybody"),
        Step(Kind.RETENTION, asked=True, todo=False, text="cannot be set", possible=False),
    ),
)
REPORT = ProtectionReport(
    KEY,
    STORE,
    (
        StepResult(Kind.POLICY, asked=False, done=True, enforced=True, text="nobody may delete"),
        StepResult(Kind.RETENTION, asked=True, done=False, enforced=False, text="cannot be set"),
    ),
    state(retention=Retention(LockMode.GOVERNANCE, NOON)),
    removed=False,
)
CHECKED = KeyCheck(
    KEY,
    STORE,
    size=102,
    version=1,
    opened="manifests/a@b.c/s1.json",
    state=state(),
    policy=False,
    days_left=None,
    findings=(
        KeyFinding("policy", Weight.NOTE, "ours are not there"),
        KeyFinding("lock", Weight.MISSING, "not locked"),
    ),
)


def test_options_of_protect_reach_the_engine(atlas: Atlas, engine: FakeEngine) -> None:
    """Each option says what it says, and nothing else is asked for."""
    engine.plan, engine.protected = PLAN, REPORT
    for arguments, wish in (
        ([], ProtectionWish()),
        (["--policy"], ProtectionWish(policy=True)),
        (["--remove"], ProtectionWish(remove=True)),
        (["--no-policy", "--legal-hold"], ProtectionWish(policy=False, legal_hold=True)),
        (
            ["--lock", "Governance", "--retention-days", "90"],
            ProtectionWish(mode=LockMode.GOVERNANCE, retention_days=90),
        ),
    ):
        engine.calls.clear()
        atlas("key", "protect", *arguments)
        assert engine.calls[1] == ("plan_key_protection", {"wish": wish})
        assert engine.calls[2] == ("protect_key", {"plan": PLAN, "confirmed": True})


def test_protect_tells_the_plan_and_what_holds(atlas: Atlas, engine: FakeEngine) -> None:
    """The plan goes to standard error, what is enforced to standard output; 15 as it must."""
    engine.plan, engine.protected = PLAN, REPORT
    ended = atlas("key", "protect")
    assert ended.code == 15
    assert "bucket policy: to do: deny everybody" in ended.err
    assert "lock: impossible: cannot be set" in ended.err
    assert "bucket policy: enforced: nobody may delete" in ended.out
    assert "lock: NOT ENFORCED: cannot be set" in ended.out
    assert "exit code 15: immutability cannot be enforced" in ended.out


def test_a_dry_run_does_nothing(atlas: Atlas, engine: FakeEngine) -> None:
    """It shows what is there and would be done, also for a program."""
    engine.plan = replace(PLAN, irreversible="until 2030 nobody can")
    ended = atlas("key", "protect", "--dry-run")
    assert ended.code == 0
    assert [name for name, _ in engine.calls] == ["open", "plan_key_protection"]
    assert "Object Lock" in ended.out
    assert "this cannot be undone: until 2030 nobody can" in ended.out
    (document,) = atlas("key", "protect", "--dry-run", "--json").lines()
    assert document["dry_run"] is True
    assert document["irreversible"] == "until 2030 nobody can"
    told: Any = document["state"]
    assert told["retention"] == {"unknown": "the bucket has no Object Lock", "lacking": True}
    assert told["object_lock"] is False


def test_protect_for_a_program(atlas: Atlas, engine: FakeEngine) -> None:
    """One document with the state before and after, and the result of each step."""
    engine.plan, engine.protected = PLAN, REPORT
    (document,) = atlas("key", "protect", "--json").lines()
    told: Any = document
    assert told["state"]["retention"] == {"mode": "GOVERNANCE", "until": "2026-11-21T12:00:00Z"}
    assert told["exit_code"] == 15
    assert [result["enforced"] for result in told["results"]] == [True, False]


def test_what_cannot_be_undone_is_asked_for(atlas: Atlas, engine: FakeEngine) -> None:
    """Without a terminal, and without --yes, nothing is done: exit 2."""
    engine.plan, engine.protected = replace(PLAN, irreversible="for ever"), REPORT
    for arguments in ((), ("--json",)):
        engine.calls.clear()
        ended = atlas("key", "protect", *arguments)
        assert ended.code == 2
        assert "cannot be undone: for ever" in ended.err
        assert [name for name, _ in engine.calls] == ["open", "plan_key_protection"]
    assert atlas("key", "protect", "--yes").code == 15
    assert engine.calls[-1][0] == "protect_key"


@pytest.mark.parametrize(("answer", "does"), [("yes", True), ("no", False), ("", False)])
def test_the_answer_on_a_terminal(
    answer: str, does: bool, atlas: Atlas, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a yes does it."""
    engine.plan, engine.protected = replace(PLAN, irreversible="for ever"), REPORT
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(ours, f"{answer}\n".encode())
        ended = atlas("key", "protect")
    os.close(ours)
    assert "This cannot be undone: for ever." in ended.err
    assert (engine.calls[-1][0] == "protect_key") is does
    assert ended.code == (15 if does else 2)


def test_check_tells_what_it_found(atlas: Atlas, engine: FakeEngine) -> None:
    """What is required and missing ends with 3; notes are left out of a quiet run."""
    engine.checked = CHECKED
    ended = atlas("key", "check", "--require", "lock", "--require", "policy", "--min-days", "60")
    assert engine.calls[1] == (
        "check_key",
        {"require": [Protects.LOCK, Protects.POLICY], "min_days": 60},
    )
    assert ended.code == 3
    assert "102 bytes, version 1, opened with the passphrase" in ended.out
    assert "opens manifests/a@b.c/s1.json" in ended.out
    assert "note: policy: ours are not there" in ended.out
    quiet = atlas("key", "check", "--quiet")
    assert quiet.out == "missing: lock: not locked\n"
    assert quiet.err == ""


def test_check_for_a_program(atlas: Atlas, engine: FakeEngine) -> None:
    """One document, with every finding and the code."""
    engine.checked = replace(CHECKED, findings=(), state=state(versions=(DELETION, OLDER)))
    (document,) = atlas("key", "check", "--json").lines()
    assert document["exit_code"] == 0
    assert document["opened"] == "manifests/a@b.c/s1.json"
    engine.error = KeyMaterialError("gone", hint="restore it")
    ended = atlas("key", "check", "--json")
    assert ended.code == 12
    assert '"hint":"restore it"' in ended.err.replace(" ", "").replace("restoreit", "restore it")


def test_copies(atlas: Atlas, engine: FakeEngine) -> None:
    """Export and restore say what they did, from a file or a version."""
    engine.copied = KeyCopy(STORE, "/x/key", 102, 1)
    ended = atlas("key", "export", "/x/key")
    assert engine.calls[1] == ("export_key", {"path": Path("/x/key")})
    assert ended.out == "the key (102 bytes) was copied to /x/key\n"
    engine.calls.clear()
    engine.copied = replace(engine.copied, note="protect it")
    restored = atlas("key", "restore", "/x/key")
    assert restored.out == ("the key (102 bytes) was restored from /x/key\n  note: protect it\n")
    assert engine.calls[1] == ("restore_key", {"path": Path("/x/key"), "version_id": None})
    engine.calls.clear()
    (document,) = atlas("key", "restore", "--version", "v1", "--json").lines()
    assert engine.calls[1] == ("restore_key", {"path": None, "version_id": "v1"})
    assert document["changed"] is True
    assert document["note"] == "protect it"
    engine.copied = replace(engine.copied, changed=False)
    assert "nothing was changed" in atlas("key", "restore", "/x/key").out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["protect", "--lock", "forever", "--retention-days", "9"], "governance or compliance"),
        (["protect", "--lock", "governance"], "both its mode and the days"),
        (["protect", "--lock", "governance", "--retention-days", "many"], "whole number of days"),
        (["protect", "--lock", "governance", "--retention-days", "99999"], "from 1 to 36500"),
        (["protect", "--no-policy"], "nothing is asked for"),
        (["protect", "--remove", "--legal-hold"], "goes with nothing else"),
        (["check", "--require", "luck"], "policy, versioning, lock"),
        (["check", "--min-days", "-1"], "whole number of days"),
        (["restore"], "either a FILE or a --version"),
        (["restore", "f", "--version", "v"], "either a FILE or a --version"),
        (["export"], "FILE"),
    ],
)
def test_wrong_calls(arguments: list[str], part: str, atlas: Atlas, engine: FakeEngine) -> None:
    """They end with 2 before anything is opened."""
    ended = atlas("key", *arguments)
    assert ended.code == 2
    assert part in ended.err
    assert engine.calls == []
