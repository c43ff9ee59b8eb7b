"""Limits divided among workers: together never more than configured, never less than one each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.config.settings import Limits
from atlas_async.shards.division import divide

whole = st.integers(min_value=1, max_value=300)


@given(whole, whole, whole, whole, st.integers(min_value=1 << 24, max_value=1 << 34))
def test_shares_add_up(
    at_once: int, mailboxes: int, processes: int, uploads: int, budget: int
) -> None:
    """Bytes and uploads add up exactly; mailboxes too, unless workers are to have as many each."""
    limits = replace(Limits(), mailboxes=at_once, uploads=uploads, byte_budget=budget)
    division = divide(limits, mailboxes, processes)
    count = len(division.shares)
    assert count == min(at_once, mailboxes, processes, uploads)
    assert sum(share.byte_budget for share in division.shares) == budget
    assert sum(share.uploads for share in division.shares) == uploads
    assert all(share.uploads >= 1 for share in division.shares)
    assert all(share.mailboxes == division.places for share in division.shares)
    assert 0 <= division.places * count - min(at_once, mailboxes) < count


@pytest.mark.parametrize(
    ("mailboxes", "processes", "workers", "places"),
    [(20, 2, 2, 4), (20, 3, 3, 3), (4, 2, 2, 2), (3, 5, 3, 1), (1, 8, 1, 1), (0, 4, 0, 0)],
)
def test_workers_and_places(mailboxes: int, processes: int, workers: int, places: int) -> None:
    """No worker is without work, and few mailboxes are spread as evenly as many."""
    division = divide(Limits(), mailboxes, processes)
    assert (len(division.shares), division.places) == (workers, places)


def test_what_holds_for_a_mailbox_is_not_divided() -> None:
    """Each worker keeps the limits that Graph has for a mailbox."""
    limits = replace(Limits(), processes=2, requests_per_mailbox=3, window_requests=99, retries=1)
    for share in divide(limits, 10, 2).shares:
        whole_run = replace(
            share,
            mailboxes=limits.mailboxes,
            processes=limits.processes,
            uploads=limits.uploads,
            byte_budget=limits.byte_budget,
        )
        assert whole_run == limits
