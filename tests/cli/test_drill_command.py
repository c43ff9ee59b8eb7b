"""``atlas drill`` over a fake engine: what it asks, prints and writes."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from atlas_async.cli import drill_output
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.signing import Signer
from atlas_async.model.drill import DrillFailure, DrillOptions, DrillReport, MailboxDrill
from atlas_async.model.events import DrillProgress
from atlas_async.operations.drill import drill_document
from tests.cli.conftest import TENANT, Atlas
from tests.fakes.engine import FakeEngine

ANN = "ann@contoso.com"
SIGNER = Signer(Sealer(bytes(32)))


def report_of(*boxes: MailboxDrill, scratch: str = "") -> DrillReport:
    """Return a signed report."""
    report = DrillReport(
        "2026-04-20T11:30:00.000Z", 7, DrillOptions(scratch=scratch), mailboxes=list(boxes)
    )
    report.signed = SIGNER.sign(drill_document(report, TENANT, "1"))
    return report


GOOD = MailboxDrill(
    ANN,
    snapshot_id="01",
    snapshot_made_at="2026-04-19T02:00:00.000Z",
    messages=400,
    sampled=25,
    tried=25,
    restored=25,
    attachments=9,
    bytes=1 << 20,
)


def test_a_drill_that_passes_says_so(atlas: Atlas, engine: FakeEngine) -> None:
    """The options reach the engine; a table, the verdict and the seed."""
    engine.drilled = report_of(GOOD)
    ended = atlas("drill", "-m", ANN, "--sample", "25", "--seed", "7")
    assert ended.code == 0
    asked = engine.calls[-1]
    assert asked == (
        "drill",
        {"mailboxes": [ANN], "options": DrillOptions(sample=25, seed=7), "target": None},
    )
    assert "drill passed: 25 messages of 1 mailbox, seed 7" in ended.out
    assert "1.0 MiB" in ended.out


def test_what_failed_is_named(atlas: Atlas, engine: FakeEngine) -> None:
    """Failures with their reasons, up to twenty; the worst code is the command's."""
    bad = MailboxDrill(ANN, messages=400, sampled=25, restored=3)
    for number in range(22):
        bad.fail(DrillFailure(f"AAMk{number}", "content", "fails\x1b[2J", damaged=number == 0))
    engine.drilled = report_of(bad)
    ended = atlas("drill")
    assert ended.code == 16
    assert "AAMk19: content: fails\\x1b[2J" in ended.out
    assert "AAMk20" not in ended.out
    assert "... and 2 more" in ended.out
    assert "drill did NOT pass" in ended.out


def test_json_is_the_signed_report(atlas: Atlas, engine: FakeEngine) -> None:
    """Progress, then the very document that was signed."""
    engine.drilled = report_of(GOOD)
    engine.happenings = [DrillProgress(ANN, 3, 25, 900, 0)]
    *status, last = atlas("drill", "--json").lines()
    assert last == engine.drilled.signed
    assert [line["message_type"] for line in status] == ["status"]
    assert status[0]["done"] == 3


def test_a_report_is_written_once_and_checked(
    atlas: Atlas, engine: FakeEngine, place: Path
) -> None:
    """A file that is there is not replaced; what was written proves right, and wrong once changed."""
    engine.drilled = report_of(GOOD)
    file = place / "drill.json"
    assert atlas("drill", "--report", str(file)).code == 0
    assert json.loads(file.read_bytes()) == engine.drilled.signed
    calls = len(engine.calls)
    assert atlas("drill", "--report", str(file)).code == 2
    assert len(engine.calls) == calls, "nothing was drilled for a report that cannot be written"

    engine.public_key = SIGNER.public_key
    ended = atlas("drill", "--check", str(file))
    assert (ended.code, engine.calls[-1][0]) == (0, "report_key")
    assert "authentic; the drill of 2026-04-20T11:30:00.000Z passed" in ended.out
    ended = atlas("drill", "--check", str(file), "--public-key", SIGNER.public_key, "--json")
    assert ended.lines()[-1]["authentic"] is True
    assert len(engine.calls) == calls + 2, "with the key at hand no backup is opened"

    file.write_text(file.read_text().replace('"restored":25', '"restored":24'))
    ended = atlas("drill", "--check", str(file), "--public-key", SIGNER.public_key)
    assert ended.code == 16
    assert "changed after it was signed" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--sample", "0"], "--sample '0' is not a number from 1 to 1000000"),
        (["--sample", "x"], "--sample 'x'"),
        (["--sample", "1000001"], "is not a number from 1 to 1000000"),
        (["--seed", "-1"], "--seed '-1'"),
        (["--seed", str(1 << 53)], "is not a number from 0 to 9007199254740991"),
        (["--report", "absent/x.json"], "cannot write the report absent/x.json: No such file"),
        (["--report", "x" * 300], "File name too long"),
        (["--report", "/proc/x.json"], "cannot write the report /proc/x.json"),
        (["--report", "."], "exists already"),
        (["--check", "x.json", "--public-key", "zz"], "'zz' is no public key"),
        (["--check", "x.json", "--public-key", ""], "is no public key"),
        (["--check", "x.json", "--sample", "25"], "--check goes with --public-key"),
        (["--check", "x.json", "--seed", "1"], "--check goes with --public-key"),
        (["--check", "x.json", "-m", ANN], "--check goes with --public-key"),
        (["--check", "x.json", "--report", "y.json"], "--check goes with --public-key"),
        (["--check", "x.json", "--scratch", ANN], "--check goes with --public-key"),
        (["--check", "x.json", "--target-config", "y"], "--check goes with --public-key"),
        (["--scratch", " "], "--scratch needs an address"),
        (["-m", ""], "-m needs a value"),
        (["--public-key", "00"], "--public-key goes with --check"),
        (["--target-config", "x.json"], "--target-config goes with --scratch"),
        (["--check", "absent.json"], "cannot read absent.json"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], told: str, atlas: Atlas, engine: FakeEngine
) -> None:
    """Exit 2, before anything is opened."""
    ended = atlas("drill", *arguments)
    assert ended.code == 2
    assert told in ended.err
    assert engine.calls == []


def test_what_is_no_report_is_refused(atlas: Atlas, place: Path) -> None:
    """JSON without a signature, and what is not JSON."""
    for text in ("{}", "[]", "no"):
        (place / "x.json").write_text(text)
        ended = atlas("drill", "--check", "x.json")
        assert ended.code == 2
        assert "is no signed report" in ended.err


def test_names_that_are_there_twice_are_refused(atlas: Atlas, place: Path) -> None:
    """One program reads the first, another the last: neither is what was signed."""
    text = json.dumps(report_of(GOOD).signed)
    for changed in (
        text.replace("{", '{"passed": true, ', 1),
        text.replace('"mailboxes": [{', '"mailboxes": [{"failed": 0, '),
        text.replace('"signature": {', '"signature": {"value": "", '),
    ):
        (place / "x.json").write_text(changed)
        ended = atlas("drill", "--check", "x.json", "--public-key", SIGNER.public_key)
        assert ended.code == 16
        assert "a name twice" in ended.err


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_report_that_cannot_be_written_hides_nothing(
    atlas: Atlas,
    engine: FakeEngine,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    damaged: bool,
) -> None:
    """The result is shown, its exit code stays; no file is left that the next drill stumbles over."""
    box = MailboxDrill(ANN, sampled=1, tried=1)
    if damaged:
        box.fail(DrillFailure("AAMk", "message", "fails", damaged=True))
    engine.drilled = report_of(box)
    before = set(place.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC if call == "fsync" else errno.EDQUOT, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", full)
        if call == "link":
            patch.setattr(Path, "rename", full)
        for form in ("", "--json"):
            ended = atlas("drill", "--report", "x.json", *filter(None, [form]))
            assert ended.code == (16 if damaged else 1)
            assert "the report x.json is not written: no space" in ended.err
            assert "report: x.json, signed" not in ended.err
            assert form or f"drill {'did NOT pass' if damaged else 'passed'}" in ended.out
            assert not form or ended.lines()[-1] == engine.drilled.signed
            assert set(place.iterdir()) == before
    assert atlas("drill", "--report", "x.json").code == (16 if damaged else 0)
    assert (place / "x.json").stat().st_mode & 0o777 == 0o600
    assert set(place.iterdir()) == before | {place / "x.json"}


def test_a_file_that_appears_meanwhile_is_not_replaced(
    atlas: Atlas, engine: FakeEngine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With hard links and where there are none."""
    engine.drilled = report_of(GOOD)
    monkeypatch.setattr(drill_output, "check_place", lambda _: None)
    for name in ("a", "b"):
        if name == "b":
            monkeypatch.setattr("os.link", _no_links)
        (place / name).write_text("mine")
        ended = atlas("drill", "--report", name)
        assert ended.code == 1
        assert "File exists" in ended.err
        assert (place / name).read_text() == "mine"
    assert atlas("drill", "--report", "c").code == 0
    assert json.loads((place / "c").read_bytes()) == engine.drilled.signed


def _no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_an_interrupted_drill_says_so(atlas: Atlas, engine: FakeEngine, place: Path) -> None:
    """What was tried is told, and that this is not all of it; a check of the report says it too."""
    report = DrillReport("2026-04-20T11:30:00.000Z", 7, DrillOptions(), interrupted=True)
    report.mailboxes.append(MailboxDrill(ANN, messages=400, sampled=25, tried=9, restored=9))
    report.signed = SIGNER.sign(drill_document(report, TENANT, "1"))
    engine.drilled = report
    ended = atlas("drill", "--report", "x.json")
    assert ended.code == 130
    assert "drill interrupted: 9 messages of 1 mailbox, seed 7" in ended.out
    assert "NOT pass" not in ended.out
    ended = atlas("drill", "--check", "x.json", "--public-key", SIGNER.public_key)
    assert "was interrupted" in ended.out


def test_what_was_never_stored_is_told(atlas: Atlas, engine: FakeEngine) -> None:
    """What the ledger has cannot be brought back: the backup did not pass."""
    engine.drilled = report_of(MailboxDrill(ANN, sampled=1, tried=1, restored=1, not_stored=3))
    ended = atlas("drill")
    assert ended.code == 3
    assert "the snapshot lacks 3 items that could not be stored" in ended.out


def test_sample_all_and_scratch(atlas: Atlas, engine: FakeEngine) -> None:
    """``all`` is everything; a scratch mailbox adds what was read back and how long all would take."""
    box = MailboxDrill(ANN, messages=100, sampled=100, restored=100, read_back=100)
    box.estimated_seconds = 3_600.0
    engine.drilled = report_of(box, scratch="drills@contoso.com")
    ended = atlas("drill", "--sample", "all", "--scratch", "drills@contoso.com")
    assert engine.calls[-1][1]["options"] == DrillOptions(sample=0, scratch="drills@contoso.com")
    assert "read back" in ended.out
    assert "1h" in ended.out


def test_a_dry_run_says_what_would_be_tried(atlas: Atlas, engine: FakeEngine) -> None:
    """For a person and for a program; nothing is proved, so nothing can be kept as a report."""
    engine.drilled = DrillReport("", 7, DrillOptions(dry_run=True, scratch="x@y"), [GOOD])
    ended = atlas("drill", "-n", "--scratch", "x@y")
    assert ended.code == 0
    assert engine.calls[-1][1]["options"] == DrillOptions(scratch="x@y", dry_run=True)
    assert f"{ANN}: 25 of 400 messages" in ended.out
    assert "dry run: 25 messages would be brought back into x@y, seed 7" in ended.out
    (document,) = atlas("drill", "--dry-run", "--json").lines()
    assert (document["dry_run"], document["into"], document["seed"]) == (True, "x@y", 7)
    assert atlas("drill", "-n", "--report", "r.json").code == 2
    assert atlas("drill", "-n", "--check", "r.json").code == 2
