"""The demo and the emulator command, with the engine behind them replaced."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from atlas_async.cli.demo_tenant import open_tenant
from atlas_async.config.settings import DirectorySettings
from atlas_async.config.sources import load_settings
from atlas_async.model.report import MailboxResult, Outcome, RunReport
from atlas_async.model.restoring import Comparison, FolderOutcome, RestoreReport
from atlas_async.operations.listing import MailboxSummary
from atlas_async.operations.verification import Finding, VerifyReport
from tests.cli.conftest import Atlas
from tests.fakes.engine import FakeEngine, FakeView, folder_row, message_row, snapshot_row

ROOT = Path(__file__).parents[2]
ANN = "ann@contoso.com"


@pytest.fixture
def filled(engine: FakeEngine) -> FakeEngine:
    """Give the engine what a demo meets."""
    engine.report = RunReport("t", (MailboxResult(ANN, Outcome.COMPLETE, "s1", stored=9),), 1.0)
    engine.mailboxes = [MailboxSummary(ANN, 2, snapshot_row(snapshot_id="s2"))]
    engine.snapshots = [snapshot_row(snapshot_id="s2")]
    odd = message_row(subject="🚀 خطة")
    folders = [folder_row("F1", "Inbox", "Deep", count=1)]
    engine.view = FakeView(snapshot_row(snapshot_id="s2"), folders, (), [message_row(), odd])
    report = RestoreReport(ANN, ANN, comparison=Comparison(compared=8))
    report.folders = [FolderOutcome(("Inbox",), ("Inbox",), create=8, skip=5)]
    engine.restores = [report]
    engine.verified = VerifyReport(checked=12, ok=12)
    return engine


def test_the_story(atlas: Atlas, filled: FakeEngine, place: Path) -> None:
    """The demo backs up twice, lists, verifies, says what comes next, and keeps its directory."""
    ended = atlas("demo", "--directory", "kept")
    assert ended.code == 0, ended.err
    verbs = [verb for verb, _ in filled.calls]
    assert verbs.count("backup") == 2
    assert verbs[-2:] == ["restore", "verify"]
    assert [f"{n}. " in ended.err for n in range(1, 8)] == [True] * 7
    assert "8 created, 5 there still; read back and compared: all as they were" in ended.err
    assert "🚀 خطة" in ended.out
    assert "ATLAS_ENCRYPTION_PASSPHRASE" in ended.out
    settings = filled.calls[0][1]["settings"]
    assert settings.storage == DirectorySettings(place / "kept" / "store")
    config = place / "kept" / "atlas.config.json"
    again = load_settings(
        cwd=place, home=place, environ={}, flags={}, need_graph=False, config_file=config
    ).settings
    assert (again.tenant_id, again.passphrase) == (settings.tenant_id, settings.passphrase)
    assert again.storage == settings.storage
    assert (place / "kept" / "passphrase").stat().st_mode & 0o077 == 0
    assert settings.passphrase.reveal() not in ended.out + ended.err


def test_a_demo_that_finds_damage_fails(atlas: Atlas, filled: FakeEngine) -> None:
    """The demo ends with the first exit code that is not 0, and JSON says the same."""
    damaged = Finding("data/x", "message", ANN, "s1", "wrong tag")
    filled.verified = VerifyReport(checked=2, ok=1, damaged=[damaged])
    ended = atlas("demo", "--directory", "kept", "--json")
    assert ended.code == 16
    document = ended.lines()[-1]
    assert document["directory"] == str(Path("kept").resolve())
    verify = document["verify"]
    assert isinstance(verify, dict)
    assert verify["exit_code"] == 16


def test_a_directory_in_use_is_refused(atlas: Atlas, place: Path) -> None:
    """The demo never writes into a directory that holds something."""
    (place / "full").mkdir()
    (place / "full" / "file").touch()
    ended = atlas("demo", "--directory", "full")
    assert ended.code == 2
    assert "not empty" in ended.err


async def test_the_tenant_can_be_changed() -> None:
    """The demo's tenant has three mailboxes, and each of its changes is one that works."""
    async with open_tenant() as tenant:
        assert tenant.description.startswith("3 mailboxes")
        changes = tenant.change_mail()
        assert "gone for good" in tenant.lose_mail()[1]
    assert len(changes) == 5
    assert all("@" in change for change in changes)


def test_the_emulator_serves_until_a_signal() -> None:
    """The emulator prints settings that work, and ends with 0 and nothing left on SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas_async", "emulator", "--json", "--mailboxes", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            document = json.loads(process.stdout.readline())
            variables = document["variables"]
            ca_file = Path(variables["ATLAS_CA_FILE"])
            context = ssl.create_default_context(cafile=ca_file)
            url = f"{variables['ATLAS_AUTHORITY_URL']}/{variables['ATLAS_TENANT_ID']}"
            metadata = f"{url}/v2.0/.well-known/openid-configuration"
            with urllib.request.urlopen(  # noqa: S310 - an https URL of the process just started
                metadata, context=context, timeout=10
            ) as answer:
                assert answer.status == 200
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert not ca_file.exists()


def test_a_taken_port_is_explained(atlas: Atlas) -> None:
    """A port that cannot be listened on ends with 2 and says so."""
    ended = atlas("emulator", "--host", "192.0.2.1", "--plain")
    assert ended.code == 2
    assert "cannot listen on 192.0.2.1" in ended.err
