"""A watch over the workers of a test; none may outlive it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.yard import Watch, watch_workers


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watch the workers; when the test is over, all are gone."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc here to look at processes with")
    watching = watch_workers(monkeypatch)
    yield watching
    watching.assert_gone()
