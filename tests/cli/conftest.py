"""Runs the command line in process, with a fake engine behind it and settings of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from atlas_async.cli import session
from atlas_async.cli.app import run
from atlas_async.config.settings import Settings
from tests.fakes.engine import FakeEngine

TENANT = "11111111-2222-3333-4444-555555555555"


class Ended(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, object]]:
        """Return standard output as JSON documents, one a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


Atlas = Callable[..., Ended]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty home and complete settings."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    settings = {
        "ATLAS_TENANT_ID": TENANT,
        "ATLAS_CLIENT_ID": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "ATLAS_CLIENT_SECRET": "app-s3cret",
        "ATLAS_STORAGE_URL": (tmp_path / "store").as_uri(),
        "ATLAS_ENCRYPTION_PASSPHRASE": "correct horse",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Put a fake behind the commands; ``calls`` starts with the settings it was opened with."""
    fake = FakeEngine()

    def open_fake(settings: Settings) -> FakeEngine:
        fake.calls.append(("open", {"settings": settings}))
        return fake

    monkeypatch.setattr(session, "open_atlas", open_fake)
    return fake


@pytest.fixture
def atlas(place: Path, engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> Iterator[Atlas]:
    """Return a function that runs one command line and tells how it ended."""

    def invoke(*arguments: str) -> Ended:
        code = run(arguments)
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    handlers = list(logging.getLogger().handlers)
    yield invoke
    logging.getLogger().handlers[:] = handlers
