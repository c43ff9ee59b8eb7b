"""The largest attachment Outlook takes: memory must not follow its size."""

from __future__ import annotations

from dataclasses import replace

from atlas_async.emulator import CorpusOptions
from benchmarks.comparison import PEAK, Figure, Workload, backup_table
from benchmarks.report import Options, Table

NAME = "attachment"
HELP = "first backup of one mailbox with one attachment of 150 MB: peak memory"


def measure(options: Options) -> Table:
    """Measure first backups."""
    corpus = replace(
        CorpusOptions.plain(mailboxes=1, messages=10, body_bytes=11_000),
        huge_attachments=1,
        huge_bytes=1_500_000 if options.quick else 150_000_000,
    )
    title = f"First backup of one mailbox with an attachment of {corpus.huge_bytes / 1e6:,.0f} MB"
    figures = (
        Figure("CPU s", lambda run: run.cpu, digits=2),
        Figure("wall s", lambda run: run.wall, digits=2),
        Figure("MB stored", lambda run: run.done["bytes"] / 1e6, ratios=False),
        PEAK,
    )
    return backup_table(options, Workload(NAME, corpus, attachments=True), title, figures)
