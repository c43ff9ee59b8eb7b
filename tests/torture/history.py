"""Time, the long form: ``python -m tests.torture history [--days 400] [--moves 10000] ...``.

Folders that change in the midst of runs, a message that a rule moves ten thousand times, ten
thousand messages whose state flips, and a snapshot a day for 400 days. Nothing of it is timed: what
must hold is counted and compared with what was true.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

from tests.fakes.clock import FakeClock
from tests.fakes.rig import open_rig
from tests.torture.folder_changes import CHANGES, TINY, meddle_with_runs
from tests.torture.instruments import Figures, run_parts, say, steady
from tests.torture.moving_mail import flipped, moved_by_a_rule
from tests.torture.years import daily_snapshots

MESSAGES = 3_000
CHANGES_A_DAY = 300
MOVES_A_RUN = 250


async def folders_during_runs(attacks: int, seed: int) -> Figures:
    """Change folders in the midst of runs; raises ``AssertionError`` where a snapshot is wrong."""
    clock = FakeClock(autojump=True)
    async with open_rig(TINY, clock=clock, service_clock=clock) as rig, steady(rig):
        meddled = await meddle_with_runs(rig, attacks, seed)
    figures = Figures(f"{len(CHANGES)} kinds of changes of folders in the midst of {attacks} runs")
    figures.add("runs meddled with", meddled.runs)
    figures.add("of these, ended before the change", meddled.ended_before)
    figures.add("moved mail that only the run after a first one showed", meddled.late)
    figures.add("later snapshots, each exact", meddled.runs)
    return figures


def main(arguments: list[str]) -> int:
    """Run every part, or one, and return 0 when all that must hold did."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture history", description=__doc__)
    parser.add_argument("--days", type=int, default=400, help="daily snapshots")
    parser.add_argument("--moves", type=int, default=10_000, help="moves of one message")
    parser.add_argument("--flags", type=int, default=10_000, help="messages whose state flips")
    parser.add_argument("--folders", type=int, default=240, help="runs to change folders during")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="in the daily mailbox")
    parser.add_argument("--changes", type=int, default=CHANGES_A_DAY, help="a day, about")
    parser.add_argument("--part", choices=("days", "moves", "flags", "folders"), help="only this")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    seed = given.seed
    runs = max(1, given.moves // MOVES_A_RUN)
    parts: dict[str, Callable[[], Awaitable[Figures]]] = {
        "folders": lambda: folders_during_runs(given.folders, seed),
        "moves": lambda: moved_by_a_rule(given.moves, runs, seed),
        "flags": lambda: flipped(given.flags, seed),
        "days": lambda: daily_snapshots(given.days, given.messages, given.changes, seed, say),
    }
    say(f"seed {seed}\n")
    return run_parts({n: part for n, part in parts.items() if given.part in (None, n)})
