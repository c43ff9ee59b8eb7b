"""``python -m tests``: all tests on all processors, then branch coverage of the core.

Arguments are handed on to pytest. Ends with pytest's exit code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).parents[1]
CORE = ("pipeline", "crypto", "store", "catalog")


def _coverage() -> coverage.Coverage:
    return coverage.Coverage(
        config_file=str(ROOT / "pyproject.toml"), data_file=str(ROOT / ".coverage")
    )


def main(arguments: list[str]) -> int:
    """Run pytest under coverage, its workers and every Python they start included."""
    measured = _coverage()
    # Workers are processes of their own, and some tests start the program as a user would.
    measured.set_option("run:patch", ["subprocess"])
    measured.erase()
    measured.start()
    code = pytest.main(["-n", "auto", "--dist", "worksteal", *arguments])
    measured.stop()
    measured.save()
    result = _coverage()
    result.combine()
    sys.stdout.write("\nbranch coverage of the core:\n")
    result.report(
        include=[f"{ROOT}/atlas_async/{name}/*" for name in CORE],
        file=sys.stdout,
        show_missing=False,
    )
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
