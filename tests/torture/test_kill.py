"""Runs that are killed at seeded instants lose nothing: the short form of ``kill``.

I6: kill -9 at any instant loses no committed snapshot; the next run continues from the last
checkpoint.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from atlas_async.emulator import CorpusOptions
from tests.fakes import s3_servers
from tests.fakes.rig import SMALL
from tests.fakes.yard import alive, children
from tests.torture.kill import Figures, open_store_named, torture
from tests.torture.running import ROOT

FEW = replace(SMALL, mailboxes=2, messages=24)
MANY = replace(SMALL, mailboxes=1, messages=120)
"""Twice as many as may be in flight: without checkpoints a kill would cost more than that."""
PATIENCE = 40.0


def kill(
    store: str,
    place: Path,
    *,
    chapter: int,
    kills: int,
    options: CorpusOptions = FEW,
    mime: bool = False,
) -> Figures:
    """Kill runs over a fresh tenant and return the figures; the checks are in there."""
    figures = Figures()
    with open_store_named(store, place) as opened:
        torture(
            seed=1,
            chapter=chapter,
            kills=kills,
            store=opened,
            place=place,
            figures=figures,
            options=options,
            patience=PATIENCE,
            mime=mime,
        )
    assert not figures.failures, "\n".join(figures.failures)
    assert figures.killed == kills
    assert figures.calm
    return figures


@pytest.mark.parametrize(("chapter", "options"), [(0, FEW), (3, MANY)], ids=["few", "many"])
def test_killed_runs_over_a_directory(tmp_path: Path, chapter: int, options: CorpusOptions) -> None:
    """Snapshots stay exact, the key stays, and no settled message is asked for again."""
    figures = kill("directory", tmp_path, chapter=chapter, kills=3, options=options)
    assert figures.settled_again == 0
    assert figures.stored_again == 0


def test_killed_runs_with_originals(tmp_path: Path) -> None:
    """Every message of a calm run has its original, whatever the runs before were killed at."""
    figures = kill("directory", tmp_path, chapter=1, kills=3, mime=True)
    assert figures.settled_again == 0


@pytest.mark.real_server
def test_killed_runs_over_rclone(tmp_path: Path) -> None:
    """The same over an S3 server that has no conditional writes."""
    kill("rclone", tmp_path, chapter=0, kills=2)


@pytest.mark.real_server
def test_killed_runs_over_minio(tmp_path: Path) -> None:
    """The same over an S3 server that has them."""
    if s3_servers.minio_path() is None:
        pytest.skip("MinIO not found: not run")
    kill("minio", tmp_path, chapter=0, kills=1)


def test_the_driver_ends_what_it_started() -> None:
    """The long form that is told to end leaves no backup and no server behind."""
    command = [sys.executable, "-m", "tests.torture", "kill", "--kills", "1", "--store", "rclone"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as driver:
        try:
            while driver.poll() is None and len(started := children(driver.pid)) < 2:
                time.sleep(0.02)
            driver.send_signal(signal.SIGTERM)
            _, said = driver.communicate(timeout=PATIENCE)
        finally:
            driver.kill()
    assert said.rstrip().endswith("KeyboardInterrupt: SIGTERM")
    assert len(started) == 2
    assert not [pid for pid in started if alive(pid)]
