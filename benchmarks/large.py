"""Large attachments: memory must follow the byte budget, not their size."""

from __future__ import annotations

from atlas_async.emulator import CorpusOptions
from benchmarks.comparison import (
    PEAK,
    Figure,
    Round,
    Workload,
    compared,
    opened,
    programs_for,
    warmed,
)
from benchmarks.profiles import sampling, store_to_profile
from benchmarks.programs import Run
from benchmarks.report import Options, Table

NAME = "large"
HELP = "first backup of 50 mailboxes with one attachment of 30 MB each: peak memory by byte budget"
BUDGETS = ("256MiB", "64MiB")


def _megabytes(run: Run) -> float:
    return float(run.done["bytes"]) / 1e6


def measure(options: Options) -> Table:
    """Measure first backups, the engine's with each byte budget."""
    corpus = CorpusOptions(
        mailboxes=2 if options.quick else 50,
        messages=10,
        folders=0,
        shared=0,
        rooms=0,
        guests=0,
        unlicensed=0,
        attachment_share=0.0,
        inline_share=0.0,
        item_share=0.0,
        reference_share=0.0,
        huge_attachments=1,
        huge_bytes=3_000_000 if options.quick else 30_000_000,
    )
    mail = Workload(NAME, corpus, attachments=True)
    rounds: dict[str, list[Round]] = {}
    with warmed(Workload(NAME, corpus)) as (graph, counts):
        expected = {"messages": sum(counts.values())}
        for kind in options.stores:
            for _ in range(options.repeat):
                taken: Round = {}
                for name in programs_for(kind):
                    for budget in BUDGETS if name == "engine" else BUDGETS[:1]:
                        settings = {"ATLAS_BYTE_BUDGET": budget}
                        with opened(name, kind, graph, mail, settings) as it:
                            run = it.run("backup", expected=expected)
                        if budget == BUDGETS[0]:
                            taken[name] = run
                        else:
                            rounds.setdefault(f"{kind}, {budget}", []).append({name: run})
                rounds.setdefault(f"{kind}, {BUDGETS[0]}", []).append(taken)
        if options.profile:
            with (
                opened("engine", store_to_profile(options.stores), graph, mail) as it,
                sampling(it.pid, NAME, options.results),
            ):
                it.run("backup", expected=expected)
    figures = (
        Figure("CPU ms/MB", lambda run: run.cpu * 1e3 / _megabytes(run), digits=2),
        Figure("wall ms/MB", lambda run: run.wall * 1e3 / _megabytes(run), digits=2),
        Figure("MB stored", _megabytes, ratios=False),
        PEAK,
    )
    title = (
        f"First backup of {corpus.mailboxes} mailboxes with one attachment of "
        f"{corpus.huge_bytes / 1e6:,.0f} MB each, 8 mailboxes at once"
    )
    notes = ["the label names the engine's byte budget; floor and naive have none"]
    return compared(NAME, title, dict(sorted(rounds.items())), figures, notes)
