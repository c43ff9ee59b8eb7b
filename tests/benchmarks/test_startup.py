"""The measurement of start-up: what it runs, and how it reads the interpreter's report."""

from __future__ import annotations

import os
import subprocess

import pytest

from benchmarks.startup import TARGETS, commands, described, split_of, timed

REPORT = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |     posix
import time:       250 |        350 |   rich.style
import time:      1500 |       1850 | rich
import time:        40 |         40 |   asyncio.events
"""


def test_imports_are_added_up_by_package() -> None:
    """Modules count for their package by their own time; the standard library is one, bar asyncio."""
    split = split_of(REPORT)
    assert split == {"rich": 1750, "standard library": 100, "asyncio": 40}
    assert described(split) == "rich 1.8, standard library 0.1, asyncio 0.0; all 1.9"


def test_every_target_is_measured() -> None:
    """What has a target is among the commands."""
    assert TARGETS.keys() <= commands().keys()


def test_each_run_counts_but_the_first() -> None:
    """The run that compiles bytecode is not among the timings."""
    timing = timed(["-c", "pass"], os.environ, 2)
    assert len(timing.wall) == len(timing.cpu) == 2
    assert all(cpu >= 0 for cpu in timing.cpu)


def test_a_command_that_fails_is_no_measurement() -> None:
    """A failing command ends the measurement instead of being timed."""
    with pytest.raises(subprocess.CalledProcessError):
        timed(["-c", "raise SystemExit(3)"], os.environ, 1)
