"""What a run is to do, and what its mailboxes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import anyio

from atlas_async.clock import Clock
from atlas_async.config.settings import FolderChoice
from atlas_async.model.events import Event
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.journal import MOST_ROWS, RowCount
from atlas_async.pipeline.page_lease import Expectation
from atlas_async.pipeline.stop import StopSignal
from atlas_async.pipeline.workers import MOST_WORKERS, WorkerShare

COMMITS: Final = 8
"""Mailboxes that write their snapshot at once."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What one run is to do, the same for every mailbox.

    ``ledger`` has the run try the entries of these ids and nothing else: no folder is asked for
    changes.
    ``mime`` has the original MIME of every message stored beside it.
    ``lock_wait`` is how many seconds a mailbox waits for another run that is alive.
    """

    folders: FolderChoice = field(default_factory=FolderChoice)
    full: bool = False
    mime: bool = False
    page_size: int = 100
    requests_at_once: int = 4
    spool_directory: Path | None = None
    lock_wait: float = 0.0
    ledger: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all mailboxes of a run share."""

    budgets: Budgets
    clock: Clock
    stop: StopSignal
    emit: Callable[[Event], None]
    held: RowCount = field(default_factory=RowCount)
    expectation: Expectation = field(default_factory=Expectation)
    share: WorkerShare = field(default_factory=WorkerShare)
    commits: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(COMMITS))

    @classmethod
    def of_one_process(
        cls,
        processes: int,
        *,
        budgets: Budgets,
        clock: Clock,
        stop: StopSignal,
        emit: Callable[[Event], None],
    ) -> Self:
        """Return the surroundings of one of so many processes, which hold together what one would.

        Args:
            processes: How many the run is spread over.
            budgets: This process's own.
            clock: Time and sleep.
            stop: Asks the run to end.
            emit: Told of events.
        """
        return cls(
            budgets,
            clock,
            stop,
            emit,
            held=RowCount(MOST_ROWS // processes),
            share=WorkerShare(max(1, MOST_WORKERS // processes)),
            commits=anyio.Semaphore(max(1, COMMITS // processes)),
        )
