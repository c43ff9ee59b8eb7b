"""Tables of measurements as text and as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Table, machine, median_spread

TABLE = Table(
    "tried",
    "What was tried",
    ("store", "CPU us"),
    (("memory", "1,234 (1,200-1,300)"), ("minio", "7")),
    notes=("once only",),
    data={"memory": [1234.5]},
)


def test_text_has_title_aligned_columns_and_notes() -> None:
    """A table reads as title, heading, rule, rows and notes, figures to the right."""
    assert TABLE.text().splitlines() == [
        "What was tried",
        "",
        "store   CPU us",
        "------  -------------------",
        "memory  1,234 (1,200-1,300)",
        "minio                     7",
        "",
        "- once only",
    ]


def test_a_row_of_another_length_is_refused() -> None:
    """A row that lacks a cell is an error that names the table."""
    broken = Table("tried", "", ("a", "b"), (("1",),))
    with pytest.raises(ValueError, match="table tried: 1 cells under 2 columns"):
        broken.text()


def test_results_hold_text_and_data_with_the_machine(tmp_path: Path) -> None:
    """Both files of a result say on what machine it was taken."""
    TABLE.write(tmp_path / "results")
    written = json.loads((tmp_path / "results" / "tried.json").read_text())
    assert written["data"] == {"memory": [1234.5]}
    assert written["columns"] == ["store", "CPU us"]
    assert written["machine"].keys() == machine().keys()
    text = (tmp_path / "results" / "tried.txt").read_text()
    assert text.startswith(TABLE.text())
    assert f"python: {machine()['python']}" in text


def test_median_and_spread() -> None:
    """Of one value only itself is shown, of several the median and the extremes."""
    assert median_spread([1234.4]) == "1,234"
    assert median_spread([3.0, 1.0, 2.25], 2) == "2.25 (1.00-3.00)"
