"""One mailbox of a million messages: memory must not follow their number."""

from __future__ import annotations

from benchmarks.comparison import (
    CPU,
    PEAK,
    RATE,
    WALL,
    Figure,
    Round,
    Workload,
    compared,
    opened,
    plain,
)
from benchmarks.profiles import sampling
from benchmarks.report import Options, Table
from benchmarks.servers import microsoft

NAME = "million"
HELP = "first backup of one mailbox of 1,000,000 tiny messages, once: peak memory (many minutes)"
BODY_BYTES = 500
CACHE_BYTES = 64 << 20
"""Pages are rendered as they are asked for; a million would not fit."""


def measure(options: Options) -> Table:
    """Measure one first backup by the engine, and its quiet run after it."""
    mail = Workload(NAME, plain(1, 2_000 if options.quick else 1_000_000, body_bytes=BODY_BYTES))
    expected = {"messages": mail.corpus.messages}
    kind = options.stores[0]
    first: Round = {}
    second: Round = {}
    with microsoft(mail.corpus, cache_bytes=CACHE_BYTES) as graph:
        with opened("engine", kind, graph, mail) as it:
            first["engine"] = it.run("backup", expected=expected)
            second["engine"] = it.run("backup", expected=expected)
        if options.profile:
            with (
                opened("engine", kind, graph, mail) as it,
                sampling(it.pid, NAME, options.results),
            ):
                it.run("backup", expected=expected)
    figures = (
        CPU,
        WALL,
        RATE,
        Figure("seconds", lambda run: run.wall, digits=1, ratios=False),
        PEAK,
    )
    rounds = {f"{kind}, first": [first], f"{kind}, quiet": [second]}
    title = f"One mailbox of {mail.corpus.messages:,} messages with {BODY_BYTES} bytes of body"
    notes = [
        "run once whatever --repeat says, on the first store only; floor and naive are not run",
        "the emulator renders pages meanwhile, on the servers' core",
    ]
    return compared(NAME, title, rounds, figures, notes)
