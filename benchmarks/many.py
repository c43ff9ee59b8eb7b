"""Several mailboxes side by side."""

from __future__ import annotations

from benchmarks.comparison import Workload, backup_table, plain
from benchmarks.report import Options, Table

NAME = "many"
HELP = "first backup of 20 mailboxes with 300 messages of about 12 KB each"


def measure(options: Options) -> Table:
    """Measure first backups."""
    corpus = plain(3, 40) if options.quick else plain(20, 300)
    title = f"First backup of {corpus.mailboxes} mailboxes, {corpus.messages:,} messages each"
    return backup_table(options, Workload(NAME, corpus), title)
