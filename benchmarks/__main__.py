"""Run tables of measurements: ``python -m benchmarks NAME...``; without a name, list them."""

from __future__ import annotations

import argparse
import ast
import asyncio
import importlib
import inspect
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from benchmarks.report import RESULTS, STORES, Options, Table
from benchmarks.servers import find_minio


@dataclass(frozen=True, slots=True)
class Entry:
    """A table that can be run.

    Attributes:
        module: The module that measures it.
        help: One line about it.
    """

    module: str
    help: str


def find_tables(directory: Path = Path(__file__).parent) -> dict[str, Entry]:
    """Return the tables by name, found without importing the modules that measure them."""
    tables = {}
    for path in sorted(directory.glob("*.py")):
        values = {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(path.read_text(), path.name).body
            if isinstance(statement, ast.Assign)
            and isinstance(statement.targets[0], ast.Name)
            and statement.targets[0].id in {"NAME", "HELP"}
        }
        if len(values) == 2:
            tables[values["NAME"]] = Entry(f"{directory.name}.{path.stem}", values["HELP"])
    return tables


def measure(entry: Entry, options: Options) -> Table:
    """Run one table to its end."""
    function = importlib.import_module(entry.module).measure
    if inspect.iscoroutinefunction(function):
        table = asyncio.run(function(options))
    else:
        table = function(options)
    if not isinstance(table, Table):
        raise TypeError(f"{entry.module}.measure gave no Table")
    return table


def parse(
    arguments: Sequence[str], tables: Mapping[str, Entry]
) -> tuple[list[str], Options, list[str]]:
    """Return the tables' names, the options, and lines about what is not run.

    Raises:
        SystemExit: An unknown name, store or option; the text says which.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    default = ",".join(Options().stores)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a table; none: list them")
    parser.add_argument("--stores", default=default, help=f"of {','.join(STORES)} ({default})")
    parser.add_argument("--repeat", type=int, default=Options().repeat, help="measurements of each")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--profile", action="store_true", help="also profile the engine (py-spy)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for the results")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in tables]:
        parser.error(f"no such table: {', '.join(unknown)}; there are: {', '.join(tables)}")
    stores = [name.strip() for name in given.stores.split(",")]
    if unknown := [name for name in stores if name not in STORES]:
        parser.error(f"no such store: {', '.join(unknown)}; there are: {', '.join(STORES)}")
    if given.repeat < 1:
        parser.error("--repeat must be at least 1")
    not_run = []
    if "minio" in stores and find_minio() is None:
        stores.remove("minio")
        not_run.append("MinIO: not run, there is no `minio` program on the path or in ~/go/bin")
        if not stores:
            parser.error(f"{not_run[0]}; name another store with --stores")
    options = Options(given.repeat, tuple(stores), given.quick, given.profile, given.results)
    return given.names, options, not_run


def main(arguments: Sequence[str]) -> None:
    """Run what the arguments name, print each table and write its results."""
    tables = find_tables()
    names, options, not_run = parse(arguments, tables)
    if not names:
        width = max(map(len, tables), default=0)
        for name, entry in tables.items():
            print(f"{name:<{width}}  {entry.help}")
        return
    for line in not_run:
        print(line, file=sys.stderr)
    for name in names:
        table = measure(tables[name], options)
        table = replace(table, notes=[*table.notes, *not_run])
        print(table.text(), flush=True)
        table.write(options.results)


def _interrupt(*_: object) -> NoReturn:
    """End as Ctrl-C does, so that every ``with`` ends what it started."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been ended", file=sys.stderr)
        sys.exit(130)
