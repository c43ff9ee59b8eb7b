"""A pytest plugin: branch coverage of the core, of every process that runs tests.

``python -m tests`` loads it. Processes that tests start are not measured, and neither are the
attacks in ``tests/torture``: tracing doubles what they cost, and they show what is kept, not which
line runs.
"""

from __future__ import annotations

import pytest

from tests.fakes.core_coverage import ROOT, new_coverage

UNMEASURED = ROOT / "tests" / "torture"


class Measuring:
    """Traces while tests are collected and while those run that are to be measured."""

    def __init__(self) -> None:
        self._coverage = new_coverage(of_this_process=True)
        self._on = False
        self._turn(on=True)

    def _turn(self, *, on: bool) -> None:
        if on != self._on:
            self._on = on
            (self._coverage.start if on else self._coverage.stop)()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Trace, or do not, from here on."""
        self._turn(on=not item.path.is_relative_to(UNMEASURED))

    def pytest_unconfigure(self) -> None:
        """Keep what was seen."""
        self._turn(on=False)
        self._coverage.save()


def pytest_configure(config: pytest.Config) -> None:
    """Begin, in the processes that run tests: workers, or the only one."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None):
        config.pluginmanager.register(Measuring(), "atlas-measuring")
