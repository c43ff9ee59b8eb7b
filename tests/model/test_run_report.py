"""Which exit code a run ends with."""

from __future__ import annotations

import pytest

from atlas_async.model.report import MailboxResult, Outcome, RunReport


def report_of(*codes: int, interrupted: bool = False) -> RunReport:
    """Return a report of mailboxes that ended with the given exit codes."""
    results = tuple(
        MailboxResult(f"m{i}@x", Outcome.FAILED if code else Outcome.COMPLETE, exit_code=code)
        for i, code in enumerate(codes)
    )
    return RunReport("tenant", results, 1.0, interrupted)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((), 0),
        ((0, 0), 0),
        ((13,), 13),
        ((13, 13), 13),
        ((13, 14), 3),
        ((0, 13), 3),
        ((0, 3), 3),
        ((3,), 3),
    ],
)
def test_the_exit_code_is_the_lone_errors_own_or_incomplete(
    codes: tuple[int, ...], expected: int
) -> None:
    """One kind of error for all mailboxes is told as it is; anything mixed is incomplete."""
    assert report_of(*codes).exit_code == expected


def test_an_interrupted_run_ends_with_130_whatever_else_happened() -> None:
    """Stopping on request comes first."""
    assert report_of(0, 13, interrupted=True).exit_code == 130
