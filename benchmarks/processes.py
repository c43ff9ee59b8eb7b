"""What several processes gain: one first backup over one and over two, both on all cores.

The servers need the same two cores, so they are as light as can be: ``replay_server`` answers Graph
from memory and swallows objects. How far the gain can go at most follows from the CPU split: with
E seconds of engine and S of servers on C cores, one process takes at least max(E, S), several take
at least (E + S) / C.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from atlas_async.emulator import CorpusOptions
from benchmarks.programs import PASSPHRASE, Program
from benchmarks.report import Options, Table
from benchmarks.servers import KEYS, Child, Core, microsoft, process

NAME = "processes"
HELP = "first backup of 16 mailboxes over one and over two processes, with the lightest servers"


@dataclass(frozen=True, slots=True)
class Servers:
    """The replay server in front of an emulator.

    Attributes:
        settings: The ``ATLAS_*`` settings that lead to both of its ports.
        control: Where it is asked.
    """

    settings: Mapping[str, str]
    control: str

    def ask(self, verb: str) -> dict[str, Any]:
        """Return what the server tells after ``reset`` or ``told``."""
        with urllib.request.urlopen(f"{self.control}/_replay/{verb}", timeout=60) as answer:  # noqa: S310 -- loopback
            told: dict[str, Any] = json.load(answer)
        return told


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: seconds that passed, CPU seconds of everybody, and what was done."""

    processes: int
    wall: float
    parent: float
    workers: float
    servers: float
    messages: int

    @property
    def engine(self) -> float:
        """CPU seconds of the engine, over all its processes."""
        return self.parent + self.workers

    @property
    def rate(self) -> float:
        """Messages per second."""
        return self.messages / self.wall


@contextmanager
def _spread_out(child: Child) -> Iterator[Child]:
    """Let a process that was started on one core, and what it starts, run on all of them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(child.pid, os.sched_getaffinity(0))
    yield child


@contextmanager
def replay(corpus: CorpusOptions) -> Iterator[Servers]:
    """Serve a corpus that is rendered once, and a sink."""
    with microsoft(corpus) as graph:
        upstream = graph.settings["ATLAS_GRAPH_URL"]
        command = [sys.executable, "-m", "benchmarks.replay_server", upstream]
        with process(command) as child, _spread_out(child):
            told = json.loads(child.hear())
            moved = {
                name: value.replace(upstream, told["graph"])
                for name, value in graph.settings.items()
            }
            sink = {
                "ATLAS_S3_ENDPOINT": told["s3"],
                "ATLAS_S3_ACCESS_KEY": KEYS[0],
                "ATLAS_S3_SECRET_KEY": KEYS[1],
            }
            yield Servers(moved | sink, told["graph"])


def run_once(servers: Servers, corpus: CorpusOptions, processes: int) -> Figures:
    """Back everything up into an empty bucket."""
    servers.ask("reset")
    names = [f"user{number:04}@{corpus.domain}" for number in range(corpus.mailboxes)]
    settings = {
        **servers.settings,
        "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
        "ATLAS_PROCESSES": str(processes),
    }
    command = [sys.executable, "-m", "benchmarks.spread_engine"]
    with process(command, core=Core.PROGRAM) as child, _spread_out(child):
        child.tell(json.dumps({"settings": settings, "mailboxes": names}))
        engine = Program("engine", child)
        before = servers.ask("told")
        expected = {"messages": corpus.mailboxes * corpus.messages}
        run = engine.run("backup", expected=expected)
    after = servers.ask("told")
    return Figures(
        processes,
        run.wall,
        run.cpu,
        run.done["workers_cpu"],
        after["cpu"] - before["cpu"],
        run.done["messages"],
    )


def measure(options: Options) -> Table:
    """Measure one and two processes, one after the other in each repeat."""
    mailboxes, messages = (4, 40) if options.quick else (16, 6_000)
    corpus = CorpusOptions.plain(mailboxes=mailboxes, messages=messages)
    with replay(corpus) as servers:
        run_once(servers, corpus, 1)  # records every answer
        pairs = [
            (run_once(servers, corpus, 1), run_once(servers, corpus, 2))
            for _ in range(options.repeat)
        ]
        recorded = servers.ask("told")["recorded"]
    return _table(corpus, pairs, recorded)


def _table(corpus: CorpusOptions, pairs: list[tuple[Figures, Figures]], recorded: int) -> Table:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    rows = [_row([pair[at] for pair in pairs]) for at in (0, 1)]
    gains = [two.rate / one.rate for one, two in pairs]
    implied = [
        max(one.engine, one.servers) * cores / (two.engine + two.servers) for one, two in pairs
    ]
    most = [max(one.engine, one.servers) * cores / (one.engine + one.servers) for one, _ in pairs]
    return Table(
        NAME,
        f"First backup of {corpus.mailboxes} mailboxes, {corpus.messages:,} messages each, "
        f"on {cores} cores that engine and servers share",
        (
            "processes",
            "messages/s",
            "wall s",
            "engine CPU s",
            "of it parent",
            "servers CPU s",
            "CPU us/message",
        ),
        rows,
        (
            (
                f"two processes over one: {median(gains):.2f} times the messages per second "
                f"({min(gains):.2f}-{max(gains):.2f}), taken within each repeat"
            ),
            (
                f"by CPU seconds alone: {median(implied):.2f} times: C * max(E, S) with one "
                "process over E + S with two, which other load on the machine changes little"
            ),
            (
                f"at most {median(most):.2f} times is possible here: C * max(E, S) / (E + S), with "
                f"E and S the CPU seconds of engine and servers with one process, C = {cores} cores"
            ),
            "starting the workers is part of the wall and CPU seconds of two processes",
            f"{recorded} answers were recorded before measuring or not kept; the rest is replayed",
        ),
        {
            "cores": cores,
            "gain": gains,
            "implied": implied,
            "most": most,
            "runs": [
                {name: getattr(run, name) for name in Figures.__slots__}
                for pair in pairs
                for run in pair
            ],
        },
    )


def _row(runs: list[Figures]) -> list[str]:
    engine = median(run.engine for run in runs)
    return [
        str(runs[0].processes),
        f"{median(run.rate for run in runs):,.0f}",
        f"{median(run.wall for run in runs):.2f}",
        f"{engine:.2f}",
        f"{median(run.parent for run in runs):.2f}",
        f"{median(run.servers for run in runs):.2f}",
        f"{median(run.engine / run.messages for run in runs) * 1e6:,.0f}",
    ]
