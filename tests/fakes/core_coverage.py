"""What is measured of the core's branches, and where the measurements lie."""

from __future__ import annotations

from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
CORE = ("pipeline", "crypto", "store", "catalog")


def new_coverage(*, of_this_process: bool = False) -> coverage.Coverage:
    """Return what measures this process, or what brings the measurements together."""
    return coverage.Coverage(
        config_file=str(ROOT / "pyproject.toml"),
        data_file=str(ROOT / ".coverage"),
        data_suffix=True if of_this_process else None,
        source_pkgs=[f"atlas_async.{name}" for name in CORE],
    )
