"""What originals cost: the same first backups without and with ``--mime``."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_async.emulator import CorpusOptions
from benchmarks.comparison import (
    CPU,
    PEAK,
    WALL,
    Figure,
    Round,
    Workload,
    data_of,
    opened,
    plain,
    warmed,
)
from benchmarks.report import Options, Table, median_spread

NAME = "mime"
HELP = "first backups without and with originals: requests, CPU and bytes per message"

COLUMNS = ("mail", "store", "figure", "without", "with", "with/without")
SETTINGS = {"without": {}, "with": {"ATLAS_MIME": "true"}}

_REQUESTS = Figure(
    "Graph requests/message", lambda run: run.done["graph_requests"] / run.done["messages"], 2
)
_BYTES = Figure("KB stored/message", lambda run: run.done["bytes"] / run.done["messages"] / 1e3, 1)
FIGURES = (_REQUESTS, CPU, WALL, _BYTES, PEAK)


def measure(options: Options) -> Table:
    """Measure first backups of equal small messages and of realistic mail."""
    mixed = CorpusOptions(
        mailboxes=1,
        messages=40 if options.quick else 1_500,
        shared=0,
        rooms=0,
        guests=0,
        unlicensed=0,
    )
    workloads = {
        "12 KB each": Workload(NAME, plain(1, 100 if options.quick else 3_000)),
        "realistic": Workload(NAME, mixed, attachments=True),
    }
    rows: list[list[str]] = []
    data = {}
    for mail, workload in workloads.items():
        rounds = _rounds(options, workload)
        rows += [row for kind, taken in rounds.items() for row in _rows(mail, kind, taken)]
        data[mail] = data_of(rounds)
    notes = [
        f"rounds: {options.repeat}; median (least-most); ratios are taken within each round",
        "CPU is user and system time of the program's own process, threads included",
        "the emulator makes MIME as it is asked for, on the servers' core: wall time is its too",
    ]
    return Table(
        NAME, "First backups of one mailbox without and with originals", COLUMNS, rows, notes, data
    )


def _rounds(options: Options, workload: Workload) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {}
    with warmed(workload) as (graph, counts):
        expected = {"messages": sum(counts.values())}
        for kind in options.stores:
            rounds[kind] = []
            for number in range(options.repeat):
                taken: Round = {}
                for name in sorted(SETTINGS, reverse=bool(number % 2)):
                    with opened("engine", kind, graph, workload, SETTINGS[name]) as program:
                        taken[name] = program.run("backup", expected=expected)
                rounds[kind].append(taken)
    return rounds


def _rows(mail: str, kind: str, rounds: Sequence[Round]) -> list[list[str]]:
    return [
        [
            mail,
            kind,
            figure.title,
            *(
                median_spread([figure.of(taken[name]) for taken in rounds], figure.digits)
                for name in SETTINGS
            ),
            median_spread(
                [figure.of(taken["with"]) / figure.of(taken["without"]) for taken in rounds], 2
            ),
        ]
        for figure in FIGURES
    ]
