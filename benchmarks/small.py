"""One mailbox of small messages: what a message costs."""

from __future__ import annotations

from benchmarks.comparison import Workload, backup_table, plain
from benchmarks.report import Options, Table

NAME = "small"
HELP = "first backup of one mailbox: 5,000 messages of about 12 KB in 6 folders"


def workload(options: Options, name: str = NAME) -> Workload:
    """Return the mailbox, which other tables use too."""
    return Workload(name, plain(1, 200 if options.quick else 5_000))


def measure(options: Options) -> Table:
    """Measure first backups."""
    mail = workload(options)
    title = f"First backup of one mailbox: {mail.corpus.messages:,} messages of about 12 KB"
    return backup_table(options, mail, title)
