"""Samples of a profiler as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.profiles import folded, sampling, store_to_profile

SAMPLES = (
    "main (/srv/app/benchmarks/engine.py:10);seal (/srv/x/atlas_async/crypto/envelope.py:60) 6",
    "main (/srv/app/benchmarks/engine.py:12);put (/srv/x/atlas_async/store/s3.py:9) 2",
    "main (/srv/app/benchmarks/engine.py:12) 2",
    "_worker (/usr/lib/python3/concurrent/futures/thread.py:81) 90",
)


def test_time_is_folded_by_function() -> None:
    """Own time goes to the innermost function, whole time to all; waiting threads count nowhere."""
    own, whole = folded(SAMPLES, "tried").split("With callees")
    assert "tried: 10 samples" in own
    assert "  60.0%        6  seal (crypto/envelope.py)" in own
    assert "  20.0%        2  main (benchmarks/engine.py)" in own
    assert " 100.0%       10  main (benchmarks/engine.py)" in whole
    assert "_worker" not in own + whole
    assert "/srv" not in own + whole


def test_a_store_that_lets_the_engine_wait_least_is_preferred() -> None:
    """The profile is taken over the store in memory when it is among those asked for."""
    assert store_to_profile(("minio", "memory")) == "memory"
    assert store_to_profile(("minio", "rclone")) == "minio"


def test_a_missing_profiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without py-spy the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(FileNotFoundError, match="pip install py-spy"), sampling(1, "x", tmp_path):
        pass
