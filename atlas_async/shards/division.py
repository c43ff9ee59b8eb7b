"""How a run's limits are divided among its workers: together they never do more than one would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from atlas_async.config.settings import Limits


@dataclass(frozen=True, slots=True)
class Division:
    """How many workers, what each may use, and how many mailboxes each takes at once.

    ``places`` are the same for all; the run bounds their sum by its own ``mailboxes``.
    """

    shares: Sequence[Limits]
    places: int


def divide(limits: Limits, mailboxes: int, processes: int) -> Division:
    """Divide ``limits`` for so many mailboxes among at most so many workers.

    No worker is started that could never have a mailbox, or an upload. What holds for a mailbox
    holds unchanged, as each is done by one worker.

    Args:
        limits: Those of the whole run.
        mailboxes: Mailboxes of the run.
        processes: Workers wanted.
    """
    at_once = min(limits.mailboxes, mailboxes)
    count = min(processes, at_once, limits.uploads)
    uploads = _parts(limits.uploads, count)
    budgets = _parts(limits.byte_budget, count)
    places = -(-at_once // count) if count else 0
    shares = [
        replace(limits, processes=1, mailboxes=places, uploads=puts, byte_budget=budget)
        for puts, budget in zip(uploads, budgets, strict=True)
    ]
    return Division(shares, places)


def _parts(whole: int, count: int) -> list[int]:
    """Return ``count`` numbers that add up to ``whole`` and differ by one at most."""
    return [(whole + number) // count for number in range(count)]
