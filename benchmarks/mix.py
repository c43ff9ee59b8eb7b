"""Mail as it is: sizes spread log-normally, attachments of all kinds, duplicates."""

from __future__ import annotations

from atlas_async.emulator import CorpusOptions
from benchmarks.comparison import CPU, PEAK, RATE, WALL, Figure, Workload, backup_table
from benchmarks.report import Options, Table

NAME = "mix"
HELP = "first backup of a realistic mix: spread sizes, attachments, inline images, duplicates"

_MB = Figure("MB stored", lambda run: run.done["bytes"] / 1e6, ratios=False)
_ATTACHMENTS = Figure("attachments", lambda run: run.done["attachments"], ratios=False)


def measure(options: Options) -> Table:
    """Measure first backups."""
    corpus = CorpusOptions(
        mailboxes=2 if options.quick else 4,
        messages=40 if options.quick else 750,
        shared=0,
        rooms=0,
        guests=0,
        unlicensed=0,
    )
    title = (
        f"First backup of {corpus.mailboxes} mailboxes of realistic mail, {corpus.messages:,} "
        "messages each"
    )
    notes = [
        "floor stores every attachment; engine and naive store equal contents once",
        "all three ask for the attachments of messages that have some or show inline images",
    ]
    figures = (CPU, WALL, RATE, PEAK, _MB, _ATTACHMENTS)
    return backup_table(options, Workload(NAME, corpus, attachments=True), title, figures, notes)
