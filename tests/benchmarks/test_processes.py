"""The table of processes: the replayed servers are good for whole backups, again and again."""

from __future__ import annotations

import pytest

from benchmarks.processes import measure
from benchmarks.report import Options


@pytest.mark.timeout(300)
def test_one_and_two_processes_back_everything_up() -> None:
    """Both runs store every message from replayed answers into a sink that was emptied."""
    table = measure(Options(repeat=1, quick=True))
    assert [row[0] for row in table.rows] == ["1", "2"]
    one, two = table.data["runs"]
    assert one["messages"] == two["messages"] == 160
    assert one["workers"] == 0.0
    assert two["workers"] > 0.0
    assert one["servers"] > 0.0
    assert "times the messages per second" in table.text()
