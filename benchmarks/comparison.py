"""Floor, engine and naive one after the other, and the table that compares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from atlas_async.emulator import CorpusOptions
from benchmarks.profiles import sampling, store_to_profile
from benchmarks.programs import PROGRAMS, Program, Run, program
from benchmarks.report import Options, Table, median_spread
from benchmarks.servers import Microsoft, microsoft, pinning_works, store

COLUMNS = ("store", "figure", "floor", "engine", "naive", "engine/floor", "naive/engine")
Round = dict[str, Run]
"""One run of each program, by its name: the runs whose ratio is taken."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Mail, and how it is read.

    Attributes:
        name: Of the table.
        corpus: What the emulator holds.
        attachments: Whether there are any to look for.
        settings: Further ``ATLAS_*`` settings, for all programs.
        naive_mailboxes: How many mailboxes the naive program copies; 0: all. What it costs per
            message does not depend on their number, and it takes long.
        everybody: Whether the engine asks the directory whose mail there is, as in a nightly run,
            and is not told names.
    """

    name: str
    corpus: CorpusOptions
    attachments: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    naive_mailboxes: int = 0
    everybody: bool = False

    def mailboxes(self, program_name: str = "engine") -> list[str]:
        """Return the addresses that a program copies."""
        count = self.corpus.mailboxes
        if program_name == "naive" and self.naive_mailboxes:
            count = min(count, self.naive_mailboxes)
        return [f"user{number:04}@{self.corpus.domain}" for number in range(count)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value of a run.

    Attributes:
        title: Its name and unit.
        of: Takes it from a run.
        digits: Behind the point.
        ratios: Whether to show ratios between programs.
    """

    title: str
    of: Callable[[Run], float]
    digits: int = 0
    ratios: bool = True


def per_message(run: Run, seconds: float) -> float:
    """Return microseconds per message of a run."""
    return seconds / float(run.done["messages"]) * 1e6


CPU = Figure("CPU us/message", lambda run: per_message(run, run.cpu))
WALL = Figure("wall us/message", lambda run: per_message(run, run.wall))
RATE = Figure("messages/s", lambda run: run.done["messages"] / run.wall, ratios=False)
PEAK = Figure("peak MiB", lambda run: run.peak_mib, ratios=False)


@contextmanager
def warmed(workload: Workload) -> Iterator[tuple[Microsoft, dict[str, int]]]:
    """Serve a workload with all pages rendered; give the emulator and messages by mailbox."""
    with microsoft(workload.corpus) as graph:
        counts = {name: graph.count_messages(name) for name in workload.mailboxes()}
        with opened("floor", "memory", graph, workload) as reader:
            reader.run("read", expected={"messages": sum(counts.values())})
        yield graph, counts


@contextmanager
def opened(
    name: str,
    kind: str,
    graph: Microsoft,
    workload: Workload,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Open a program over an empty store of its own."""
    with (
        store(kind) as place,
        program(
            name,
            {**graph.settings, **place, **workload.settings, **(settings or {})},
            workload.mailboxes(name),
            attachments=workload.attachments,
            everybody=workload.everybody,
        ) as started,
    ):
        yield started


@contextmanager
def opened_together(
    kind: str, graph: Microsoft, workload: Workload, names: Sequence[str] = PROGRAMS
) -> Iterator[dict[str, Program]]:
    """Open programs over one store, each with a bucket of its own, to run in turns."""
    with ExitStack() as stack:
        place = stack.enter_context(store(kind))
        settings = {**graph.settings, **place, **workload.settings}
        yield {
            name: stack.enter_context(
                program(
                    name,
                    settings,
                    workload.mailboxes(name),
                    attachments=workload.attachments,
                    everybody=workload.everybody,
                )
            )
            for name in names
        }


def programs_for(kind: str) -> tuple[str, ...]:
    """Return the programs that can work with a kind of store."""
    return ("engine",) if kind == "directory" else PROGRAMS


def in_turns(names: Sequence[str], number: int) -> list[str]:
    """Return the programs in the order of a round: each is first, and last, in its turn."""
    start = number % len(names)
    return [*names[start:], *names[:start]]


def first_backups(options: Options, workload: Workload) -> dict[str, list[Round]]:
    """Copy everything into empty stores; return the rounds by store.

    Raises:
        IncompleteError: A program did not store every message, or found other attachments.
    """
    rounds: dict[str, list[Round]] = {}
    with warmed(workload) as (graph, counts):
        for kind in options.stores:
            rounds[kind] = []
            for number in range(options.repeat):
                taken: Round = {}
                for name in in_turns(programs_for(kind), number):
                    wanted = {"messages": sum(counts[box] for box in workload.mailboxes(name))}
                    found = {run.done["attachments"] for run in taken.values()}
                    if workload.attachments and found:
                        (wanted["attachments"],) = found
                    with opened(name, kind, graph, workload) as it:
                        taken[name] = it.run("backup", expected=wanted)
                rounds[kind].append(taken)
        if options.profile:
            with (
                opened("engine", store_to_profile(options.stores), graph, workload) as it,
                sampling(it.pid, workload.name, options.results),
            ):
                it.run("backup", expected={"messages": sum(counts.values())})
    return rounds


def rows_of(label: str, rounds: Sequence[Round], figures: Sequence[Figure]) -> list[list[str]]:
    """Return one row per figure: the programs' values, and ratios taken within each round."""
    return [
        [
            label,
            figure.title,
            *(_values(rounds, figure, name) for name in PROGRAMS),
            _ratios(rounds, figure, "engine", "floor"),
            _ratios(rounds, figure, "naive", "engine"),
        ]
        for figure in figures
    ]


def _values(rounds: Sequence[Round], figure: Figure, name: str) -> str:
    values = [figure.of(taken[name]) for taken in rounds if name in taken]
    return median_spread(values, figure.digits) if values else "-"


def _ratios(rounds: Sequence[Round], figure: Figure, upper: str, lower: str) -> str:
    if not figure.ratios:
        return "-"
    values = [
        figure.of(taken[upper]) / figure.of(taken[lower])
        for taken in rounds
        if upper in taken and lower in taken
    ]
    return median_spread(values, 2) if values else "-"


def compared(
    name: str,
    title: str,
    rounds: Mapping[str, Sequence[Round]],
    figures: Sequence[Figure],
    notes: Sequence[str] = (),
) -> Table:
    """Return the table of rounds, by store or any other label."""
    rows = [row for label, taken in rounds.items() for row in rows_of(label, taken, figures)]
    repeat = max((len(taken) for taken in rounds.values()), default=0)
    pinned = "servers on one core, the program on another" if pinning_works() else "nothing pinned"
    return Table(
        name,
        title,
        COLUMNS,
        rows,
        [
            *notes,
            f"rounds: {repeat}; median (least-most); ratios are taken within each round; {pinned}",
            "CPU is user and system time of the program's own process, threads included",
        ],
        data_of(rounds),
    )


def data_of(rounds: Mapping[str, Sequence[Round]]) -> dict[str, Any]:
    """Return rounds as JSON."""
    return {
        label: [{name: run.as_json() for name, run in each.items()} for each in taken]
        for label, taken in rounds.items()
    }


def backup_table(
    options: Options,
    workload: Workload,
    title: str,
    figures: Sequence[Figure] = (CPU, WALL, RATE, PEAK),
    notes: Sequence[str] = (),
) -> Table:
    """Measure first backups of a workload and return their table."""
    rounds = first_backups(options, workload)
    if workload.naive_mailboxes and workload.naive_mailboxes < workload.corpus.mailboxes:
        notes = [*notes, f"naive copies {workload.naive_mailboxes} of the mailboxes only"]
    return compared(workload.name, title, rounds, figures, notes)


def plain(
    mailboxes: int, messages: int, folders: int = 6, body_bytes: int = 11_000
) -> CorpusOptions:
    """Return a corpus of users with equal messages: 11,000 bytes of body make about 12 KB."""
    corpus = CorpusOptions.plain(mailboxes=mailboxes, messages=messages, body_bytes=body_bytes)
    return replace(corpus, folders=folders)
