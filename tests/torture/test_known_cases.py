"""The page of known cases is complete, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "known-cases.md"
NUMBERS = {"D": 18, "S": 17, "C": 42}
RESTORING = "torture/test_restore_cases.py"
HOMES = {
    "D": ("torture/test_rival_defects.py", RESTORING),
    "S": ("torture/test_acceptance.py",),
    "C": ("torture/test_graph_cases.py", RESTORING),
}
"""Where the tests of each kind of case are."""
ALL_HOMES = {path for paths in HOMES.values() for path in paths}
NOT_YET = "Not applicable yet: "


class Row(NamedTuple):
    """One case of the page: its kind and number, what is said of it, and its tests or reason."""

    kind: str
    number: int
    texts: tuple[str, ...]
    tests: tuple[str, ...]
    last: str


def rows() -> list[Row]:
    """Return the rows of the page's tables, in order."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\| ([A-Z])(\d+) \| (.+)\| (.+) \| (.+) \|", line)
        if match is not None:
            kind, number, case, here, last = match.groups()
            named = tuple(re.findall(r"`([\w/]+\.py::\w+)`", last))
            found.append(Row(kind, int(number), (case, here), named, last))
    return found


def names_in(path: str) -> list[str]:
    """Return the names of the tests in a file, without importing it."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    defined = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [n.name for n in tree.body if isinstance(n, defined) and n.name.startswith("test_")]


def test_every_case_has_its_row_once() -> None:
    """D1 to D18, S1 to S17 and C1 to C42 stand on the page, each once and in order."""
    wanted = [(kind, n) for kind, most in NUMBERS.items() for n in range(1, most + 1)]
    assert [(row.kind, row.number) for row in rows()] == wanted


def test_every_row_names_its_own_test_or_says_why_not() -> None:
    """The first test of a row is that case's, and no other case's; a row without one says why."""
    for row in rows():
        if not row.tests:
            assert row.last.startswith(NOT_YET), row
            assert len(row.last) > len(NOT_YET) + 20, row
            continue
        assert row.tests[0].partition("::")[0] in HOMES[row.kind], row
        for test in row.tests:
            path, _, name = test.partition("::")
            own = name.startswith(f"test_{row.kind.lower()}{row.number:02}_")
            assert own or path not in ALL_HOMES, row
        assert all(text.strip(" -") for text in row.texts), row


def test_every_named_test_exists() -> None:
    """No row names a test that is not there."""
    for row in rows():
        for test in row.tests:
            path, _, name = test.partition("::")
            assert name in names_in(path), test


def test_every_test_of_a_case_is_on_the_page() -> None:
    """No test of these files is missing from the page."""
    named = {test for row in rows() for test in row.tests}
    there = {f"{path}::{name}" for path in ALL_HOMES for name in names_in(path)}
    assert there - named == set()
