"""What the tables of limits and latency compare with: the formulas, on cases worked by hand."""

from __future__ import annotations

import pytest

from benchmarks.latency import Need, Workload, count
from benchmarks.limits import CASES, LATENCY, STRUCK, optimum, told


@pytest.mark.parametrize(
    ("requests", "windows", "rest"),
    [(1, 0, 1), (100, 0, 100), (101, 1, 1), (200, 1, 100), (1_001, 10, 1)],
)
def test_the_optimum_waits_for_full_windows_only(requests: int, windows: int, rest: int) -> None:
    """Whole windows pass while there is more to ask; the rest goes four at a time."""
    assert optimum(requests, 100, 30.0) == pytest.approx(windows * 30.0 + rest / 4 * LATENCY)


def test_the_optimum_is_never_below_four_in_flight() -> None:
    """A window that is shorter than its requests take does not bound anything."""
    assert optimum(1_000, 100, 0.01) == pytest.approx(1_000 / 4 * LATENCY)


@pytest.mark.parametrize(
    ("need", "seconds"), [(Need(20, 60, 36), 0.2 + 0.9 + 2.0), (Need(2, 60, 8), 0.2 + 0.6 + 1.5)]
)
def test_the_bound_is_the_longest_chain_or_four_at_a_time(need: Need, seconds: float) -> None:
    """Listing and reading are each as slow as the slower of their chain and their number."""
    work = Workload("x", 1, 1, graph=0.1, store=0.02)
    assert need.bound(work) == pytest.approx(seconds + 6 * 0.02)


def test_computing_bounds_what_comes_after_the_tree() -> None:
    """CPU seconds count where they are more than the pages take, and add to the listing."""
    work, need = Workload("x", 1, 1, graph=0.1, store=0.02), Need(20, 60, 36)
    assert need.bound(work, 1.9) == need.bound(work)
    assert need.bound(work, 2.5) == pytest.approx(need.bound(work) + 0.5)


def test_pages_are_counted_by_folder_whatever_their_address() -> None:
    """First pages and links that lead on belong to one folder; all else is for the tree."""
    paths = [
        "/v1.0/users/u/mailFolders/A=/messages/delta",
        "/v1.0/users/u/mailFolders('A=')/messages/delta",
        "/v1.0/users/u/mailFolders/B/messages/delta",
        "/v1.0/users/u/mailFolders/A=/childFolders",
        "/v1.0/users/u/mailFolders/delta",
    ]
    served = [{"mailbox": "m", "path": path} for path in paths]
    served.append({"mailbox": "", "path": "/v1.0/users"})
    assert count(served) == [Need(longest=2, pages=3, tree=2)]


def request(mailbox: str, finished: float, status: int = 200) -> dict[str, object]:
    """Return a request as the server tells of it."""
    return {"mailbox": mailbox, "finished": finished, "status": status}


def test_a_storm_is_told_by_those_it_struck() -> None:
    """The first success after it, and the pace in the second window after it, are of the struck."""
    case = next(case for case in CASES if case.storm == "one")
    second, third = 105.0 + case.window, 105.0 + 2 * case.window
    after = [106.5, *(second + n / 100 for n in range(30))]
    later = [third + n / 100 for n in range(39)]
    served = [request(STRUCK, 102.0, 429), request("other", 105.1)]
    served += [request(STRUCK, moment) for moment in (*after, *later)]
    storm = told(case, served, 7, 100.0, 105.0)
    assert (storm.refused, storm.back) == (7, 1.5)
    assert storm.pace == pytest.approx(100 * 30 / 39)


def test_a_storm_that_strikes_nobody_is_an_error() -> None:
    """A storm between two windows, or after the last request, would show nothing."""
    case = next(case for case in CASES if case.storm == "all")
    calm = [request("a", 102.0), request("b", 103.0, 429)]
    with pytest.raises(RuntimeError, match="1 mailboxes were not struck"):
        told(case, calm, 0, 100.0, 105.0)
    with pytest.raises(RuntimeError, match="left to ask"):
        told(case, [request("b", 103.0, 429), request("b", 107.0)], 1, 100.0, 105.0)
