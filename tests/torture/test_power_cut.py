"""Power cuts under a directory store lose nothing that was promised: the short form.

I1 and I6: ``ObjectStore.put`` is durable on return, and a manifest names only what is durable.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.fakes.rig import SMALL
from tests.torture.powercut import Figures, power_cuts

FEW = replace(SMALL, mailboxes=1, messages=16, folders=3)


async def test_power_cuts(tmp_path: Path) -> None:
    """At twenty instants: returned puts are there, snapshots exact, the next run complete."""
    figures = Figures()
    await power_cuts(seed=1, story=0, cuts=20, place=tmp_path, figures=figures, options=FEW, runs=2)
    assert not figures.failures, "\n".join(figures.failures)
    assert figures.cuts >= 20
    assert figures.puts
    assert figures.lost_files
