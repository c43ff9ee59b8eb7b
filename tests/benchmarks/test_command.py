"""The command line of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import find_tables, main


def test_without_a_name_tables_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each table is listed with one line of help."""
    main([])
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(find_tables())
    assert {
        "small",
        "many",
        "crowd",
        "mix",
        "changed",
        "quiet",
        "large",
        "attachment",
        "verify",
        "million",
    } <= {line.split()[0] for line in listed}


def test_tables_are_found_without_importing_them(tmp_path: Path) -> None:
    """A module is a table when it defines NAME and HELP as literals; others are none."""
    (tmp_path / "new.py").write_text('NAME = "fresh"\nHELP = "helps"\nraise RuntimeError\n')
    (tmp_path / "other.py").write_text('NAME = "other"\n')
    tables = find_tables(tmp_path)
    assert list(tables) == ["fresh"]
    assert tables["fresh"].module == f"{tmp_path.name}.new"
    assert tables["fresh"].help == "helps"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tiny"], "no such table: tiny; there are: "),
        (["small", "--stores", "memory,tape"], "no such store: tape; there are: minio, "),
        (["small", "--repeat", "0"], "--repeat must be at least 1"),
    ],
)
def test_what_is_not_known_is_named(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown tables and stores end the program before anything runs, and say what there is."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert told in capsys.readouterr().err


def test_minio_that_is_absent_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a MinIO program its measurements are named as not run."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["small", "--stores", "minio"])
    assert "MinIO: not run" in capsys.readouterr().err


def test_a_table_is_measured_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Floor, engine and naive copy a tiny mailbox; text and data go to the results."""
    arguments = ["--quick", "--repeat", "1", "--stores", "memory", "--results", str(tmp_path)]
    main(["small", *arguments])
    shown = capsys.readouterr().out
    assert shown in (tmp_path / "small.txt").read_text() + "\n"
    (taken,) = json.loads((tmp_path / "small.json").read_text())["data"]["memory"]
    assert {name: run["messages"] for name, run in taken.items()} == {
        "floor": 200,
        "engine": 200,
        "naive": 200,
    }
    assert all(run["cpu"] > 0 and run["peak_mib"] > 0 for run in taken.values())


def test_an_original_is_one_request_a_message(tmp_path: Path) -> None:
    """The table of originals shows it for small and for realistic mail, and that bytes double."""
    main(["mime", "--quick", "--repeat", "1", "--stores", "memory", "--results", str(tmp_path)])
    data = json.loads((tmp_path / "mime.json").read_text())["data"]
    assert set(data) == {"12 KB each", "realistic"}
    for stores in data.values():
        (taken,) = stores["memory"]
        without, given = taken["without"], taken["with"]
        assert given["graph_requests"] - without["graph_requests"] == without["messages"]
        assert given["bytes"] > 2 * without["bytes"]
