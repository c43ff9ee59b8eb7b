"""A tenant, a store and a console for every test, and engines that do not wait for anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio.lowlevel
import pytest
from blockbuster import BlockBuster

from atlas_async.cli import session
from atlas_async.clock import SystemClock
from atlas_async.config.settings import Settings
from atlas_async.sdk import Atlas
from tests.badday.console import Console
from tests.badday.office import Office, open_office


class HastyClock(SystemClock):
    """Tells the time, and never sleeps: what is tried again is tried at once."""

    async def sleep(self, seconds: float) -> None:
        """Let others run."""
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory with an empty home, no proxies and no colours."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTHONASYNCIODEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def office() -> Iterator[Office]:
    """Serve a small tenant."""
    with open_office() as opened:
        yield opened


@pytest.fixture
def console(
    place: Path,
    office: Office,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Console:
    """Return the operator's console; runs in this process lose no time between tries."""
    monkeypatch.setattr(session, "open_atlas", open_hasty)
    return Console(office, place / "store", monkeypatch, capfd)


def open_hasty(settings: Settings) -> Atlas:
    """Return an engine that waits for nobody."""
    return Atlas(settings, clock=HastyClock())


@pytest.fixture(autouse=True)
def own_loop_may_block(no_blocking_calls: BlockBuster | None) -> None:
    """Let code on a thread's own loop block: that is what the thread is for."""
    for function in no_blocking_calls.functions.values() if no_blocking_calls else ():
        function.can_block_in("atlas_async/store/own_loop.py", {"_run_there"})
