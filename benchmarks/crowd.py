"""Many mailboxes in flight at once: memory must not follow their number."""

from __future__ import annotations

from benchmarks.comparison import Workload, backup_table, plain
from benchmarks.report import Options, Table

NAME = "crowd"
HELP = "first backup of 200 mailboxes with 500 messages each, all in flight at once: peak memory"


def measure(options: Options) -> Table:
    """Measure first backups."""
    corpus = plain(8, 30) if options.quick else plain(200, 500)
    workload = Workload(
        NAME,
        corpus,
        settings={"ATLAS_CONCURRENCY": str(corpus.mailboxes)},
        naive_mailboxes=10,
    )
    title = (
        f"First backup of {corpus.mailboxes} mailboxes, all in flight, {corpus.messages:,} "
        "messages of about 12 KB each"
    )
    return backup_table(
        options, workload, title, notes=["the engine's byte budget is its default, 256 MiB"]
    )
