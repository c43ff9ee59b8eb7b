"""A night in which nothing changed: requests, and how many mailboxes pass in a minute."""

from __future__ import annotations

import math
from dataclasses import replace

from benchmarks.comparison import (
    Figure,
    Round,
    Workload,
    compared,
    in_turns,
    opened_together,
    plain,
    programs_for,
    warmed,
)
from benchmarks.profiles import sampling, store_to_profile
from benchmarks.programs import Run
from benchmarks.report import Options, Table

NAME = "quiet"
HELP = "a run in which nothing changed, over 1,000 mailboxes, at 0 and 50 ms latency of Graph"
LATENCIES_MS = (0, 50)
AT_ONCE = 8
PER_MAILBOX = 4
MESSAGES = 4


def measure(options: Options) -> Table:
    """Measure quiet runs, in processes that have done a full run before."""
    count = 6 if options.quick else 1_000
    corpus = replace(plain(count, MESSAGES, body_bytes=1_000), folders=0)
    mail = Workload(NAME, corpus, settings={"ATLAS_CONCURRENCY": str(AT_ONCE)}, everybody=True)
    rounds: dict[str, list[Round]] = {}
    with warmed(mail) as (graph, counts):
        held = sum(counts.values())
        for kind in options.stores:
            with opened_together(kind, graph, mail, programs_for(kind)) as programs:
                graph.control("settings", {"latency": 0.0})
                for it in programs.values():
                    it.run("backup", expected={"messages": held})
                expected = dict.fromkeys(programs, 0) | {"engine": held}
                for name, it in programs.items():  # the server has rendered their links' pages now
                    it.run("backup", expected={"messages": expected[name]})
                for latency in LATENCIES_MS:
                    graph.control("settings", {"latency": latency / 1000})
                    rounds[f"{kind}, {latency} ms"] = [
                        {
                            name: programs[name].run(
                                "backup", expected={"messages": expected[name]}
                            )
                            for name in in_turns(list(programs), number)
                        }
                        for number in range(options.repeat)
                    ]
                if options.profile and kind == store_to_profile(options.stores):
                    graph.control("settings", {"latency": 0.0})
                    with sampling(programs["engine"].pid, NAME, options.results):
                        programs["engine"].run("backup")

    def each(run: Run, name: str) -> float:
        return float(run.done[name]) / count

    figures = (
        Figure("mailboxes/min", lambda run: count / run.wall * 60, ratios=False),
        Figure("CPU us/mailbox", lambda run: run.cpu / count * 1e6),
        Figure("wall us/mailbox", lambda run: run.wall / count * 1e6),
        Figure("Graph requests/mailbox", lambda run: each(run, "graph_requests"), 2, ratios=False),
        Figure("store requests/mailbox", lambda run: each(run, "store_requests"), 2, ratios=False),
    )
    title = f"A run in which nothing changed, over {count:,} mailboxes"
    some_run = next(iter(rounds.values()))[0]["engine"]
    return compared(NAME, title, rounds, figures, [_optimum(some_run, count)])


def _optimum(run: Run, count: int) -> str:
    """Say how fast the latency alone would let one be, for the requests a run needed."""
    each = run.done["graph_requests"] / count
    trips = math.ceil(each / PER_MAILBOX)
    seconds = trips * max(LATENCIES_MS) / 1000 / AT_ONCE
    return (
        f"at {max(LATENCIES_MS)} ms the latency allows {60 / seconds:,.0f} mailboxes/min: "
        f"{AT_ONCE} mailboxes at once, {each:.2f} requests each, {PER_MAILBOX} in flight, so "
        f"{trips} round trips"
    )
