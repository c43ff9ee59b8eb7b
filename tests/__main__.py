"""``python -m tests``: all tests on all processors, then branch coverage of the core.

Arguments are handed on to pytest. Ends with pytest's exit code.
"""

from __future__ import annotations

import sys

import pytest

from tests.fakes.core_coverage import new_coverage


def main(arguments: list[str]) -> int:
    """Run pytest and print what it covered of the core."""
    new_coverage().erase()
    plugin = ["-p", "tests.fakes.measured"]
    code = pytest.main(["-n", "auto", "--dist", "worksteal", *plugin, *arguments])
    result = new_coverage()
    result.combine()
    sys.stdout.write("\nbranch coverage of the core:\n")
    result.report(file=sys.stdout, show_missing=False)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
