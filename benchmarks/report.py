"""What a table of measurements is made of: options in, rows and data out, as text and as JSON.

A module of ``benchmarks`` that defines ``NAME``, ``HELP`` (both literals) and ``measure(options)``,
plain or async, giving a ``Table``, is a table that ``python -m benchmarks NAME`` runs.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
STORES = ("minio", "rclone", "moto", "memory", "directory")
_LIBRARIES = ("aiohttp", "uvloop", "orjson", "cryptography", "aiobotocore", "anyio")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks of every table.

    Attributes:
        repeat: How often each measurement is taken.
        stores: The stores to measure against, of ``STORES``; tables without a store ignore them.
        quick: Whether sizes are to be tiny: for seeing that the table works, not for its figures.
        profile: Whether to record where the engine spends its time, besides measuring.
        results: Directory for results; profiles go below it.
    """

    repeat: int = 3
    stores: tuple[str, ...] = ("minio", "memory")
    quick: bool = False
    profile: bool = False
    results: Path = RESULTS


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what is shown, and the data behind it.

    Attributes:
        name: The table's ``NAME``; files of the results bear it.
        title: One line that says what was measured.
        columns: The columns' headings, units included.
        rows: One text per column each.
        notes: What one must know to read the figures.
        data: Everything measured, as values JSON can hold.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """Return the table for reading: aligned columns, then the notes.

        Raises:
            ValueError: A row has not as many cells as there are columns.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                msg = f"table {self.name}: {len(row)} cells under {len(self.columns)} columns"
                raise ValueError(msg)
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]
        shown = [
            "  ".join(_cell(*each) for each in zip(line, widths, strict=True)) for line in lines
        ]
        shown.insert(1, "  ".join("-" * width for width in widths))
        notes = [f"- {note}" for note in self.notes]
        parts = [[self.title], [line.rstrip() for line in shown], notes]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def write(self, directory: Path = RESULTS) -> None:
        """Write ``NAME.txt`` and ``NAME.json`` into a directory, with the machine's description."""
        directory.mkdir(parents=True, exist_ok=True)
        described = machine()
        lines = [f"{name}: {value}" for name, value in described.items()]
        (directory / f"{self.name}.txt").write_text(self.text() + "\n" + "\n".join(lines) + "\n")
        written = {
            "name": self.name,
            "title": self.title,
            "machine": described,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "notes": list(self.notes),
            "data": dict(self.data),
        }
        (directory / f"{self.name}.json").write_text(json.dumps(written, indent=1) + "\n")


def _cell(text: str, width: int) -> str:
    """Align figures to the right, words to the left."""
    return text.rjust(width) if text[:1].isdigit() else text.ljust(width)


def machine() -> dict[str, str]:
    """Describe where and with what the figures were taken."""
    versions = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": _memory(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": ", ".join(versions),
    }


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not this system's
        return "unknown"
    return f"{total / 2**30:.1f} GiB"


def median_spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median and, of several values, the least and the most: ``12.3 (11.9-13.0)``."""
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
