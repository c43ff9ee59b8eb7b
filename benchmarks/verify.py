"""Checking what was stored: every object read, opened and hashed."""

from __future__ import annotations

from benchmarks import small
from benchmarks.comparison import (
    CPU,
    PEAK,
    RATE,
    WALL,
    Round,
    compared,
    in_turns,
    opened_together,
    programs_for,
    warmed,
)
from benchmarks.profiles import sampling, store_to_profile
from benchmarks.report import Options, Table

NAME = "verify"
HELP = "verification of one mailbox's snapshot: 5,000 messages of about 12 KB"


def measure(options: Options) -> Table:
    """Measure verifications of the mailbox of ``small``."""
    mail = small.workload(options, NAME)
    rounds: dict[str, list[Round]] = {}
    with warmed(mail) as (graph, counts):
        expected = {"messages": sum(counts.values())}
        for kind in options.stores:
            with opened_together(kind, graph, mail, programs_for(kind)) as programs:
                for it in programs.values():
                    it.run("backup", expected=expected)
                rounds[kind] = [
                    {
                        name: programs[name].run("verify", expected=expected)
                        for name in in_turns(list(programs), number)
                    }
                    for number in range(options.repeat)
                ]
                if options.profile and kind == store_to_profile(options.stores):
                    engine = programs["engine"]
                    with sampling(engine.pid, NAME, options.results):
                        engine.run("verify", expected=expected)
    title = f"Verification of one mailbox: {mail.corpus.messages:,} messages of about 12 KB"
    notes = ["the engine also reads the manifest, the descriptor and the segments of the snapshot"]
    return compared(NAME, title, rounds, (CPU, WALL, RATE, PEAK), notes)
