"""Restores that are killed leave nothing twice and nothing behind: the short form of ``restore``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.restore.scene import RICH
from tests.torture.restore import MANNERS, Figures, Manner, torture

CHOSEN = [(n, m) for n, m in enumerate(MANNERS) if m.name in {"below", "replace", "missing"}]
SMALL = replace(RICH, messages=18, folders=3)


@pytest.mark.parametrize(("chapter", "manner"), CHOSEN, ids=[manner.name for _, manner in CHOSEN])
def test_killed_restores(tmp_path: Path, chapter: int, manner: Manner) -> None:
    """Killed twice, run to the end, taken back with a kill between: exact at both ends."""
    figures = Figures()
    torture(
        seed=3,
        chapter=chapter,
        kills=2,
        place=tmp_path,
        figures=figures,
        manners=[manner],
        options=SMALL,
    )
    assert not figures.failures, "\n".join(figures.failures)
    assert figures.killed
    assert figures.compared
