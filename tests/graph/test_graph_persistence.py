"""How long one request is tried again."""

from __future__ import annotations

from atlas_async.config.settings import Limits
from atlas_async.errors import GraphError, GraphThrottled, GraphTransient
from atlas_async.graph.failures import Failure, Remedy
from atlas_async.graph.persistence import LONGEST_PAUSE, LONGEST_REST, Persistence, back_off
from tests.fakes.clock import FakeClock

PASSING = Failure(GraphTransient("x"), Remedy.BACK_OFF)
HEAVY = Failure(GraphTransient("x"), Remedy.BACK_OFF, heavy=True)


def pauses(persistence: Persistence, failure: Failure, most: int = 40) -> list[float]:
    """Return the pauses until it gives up."""
    found: list[float] = []
    while len(found) < most and (pause := persistence.decide(failure)) is not None:
        found.append(pause)
    return found


def persistence(**changes: object) -> Persistence:
    """Return one without randomness."""
    values: dict[str, object] = {"jitter": lambda: 1.0, **changes}
    return Persistence(Limits(retries=4, patience=600.0), FakeClock(), **values)  # type: ignore[arg-type]  # options vary by test


def test_passing_errors_back_off_and_end() -> None:
    """As many further tries as configured, each after twice the pause."""
    assert pauses(persistence(), PASSING) == [1.0, 2.0, 4.0, 8.0]


def test_permanent_errors_are_not_tried_again() -> None:
    """Without a remedy there is no second try."""
    assert pauses(persistence(), Failure(GraphError("x"))) == []


def test_asking_for_less_is_no_retry() -> None:
    """A page may halve as often as it can; the retries count from its smallest size."""
    halves = iter([True] * 8)

    assert len(pauses(persistence(shrink=lambda: next(halves, False)), HEAVY)) == 8 + 4


def test_nonsense_is_repeated_twice_then_shrunk() -> None:
    """Broken JSON gets two further tries at each size."""
    halves = iter([True, True])
    nonsense = Failure(GraphError("x"), Remedy.REPEAT)

    assert len(pauses(persistence(shrink=lambda: next(halves, False)), nonsense)) == 2 + 3 + 3


def test_the_first_fresh_token_is_used_at_once() -> None:
    """A token that expired costs no pause, a burst of refusals does."""
    refused = Failure(GraphError("x"), Remedy.NEW_TOKEN)

    assert pauses(persistence(), refused) == [0.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_retry_after_is_honoured_for_server_errors() -> None:
    """A pause is never shorter than Graph asked for."""
    asked = Failure(GraphTransient("x"), Remedy.BACK_OFF, retry_after=90.0)

    assert pauses(persistence(), asked) == [90.0] * 4


def test_patience_bounds_the_waiting() -> None:
    """A wait that would outlast the patience is not begun."""
    throttled = Failure(GraphThrottled("x"), Remedy.WAIT)
    patient = persistence()

    assert patient.decide(throttled, wait=599.0) == 0.0
    assert patient.decide(throttled, wait=601.0) is None


def test_stubborn_throttling_rests_longer() -> None:
    """Retry-After is honoured exactly at first; a server that always says 1 is asked less often."""
    patient = persistence()
    throttled = Failure(GraphThrottled("x"), Remedy.WAIT, retry_after=1.0)

    assert [patient.throttle_seconds(throttled) for _ in range(7)] == [1, 1, 1, 1, 2, 4, 8]


def test_the_longest_rest_is_a_tenth_of_the_window() -> None:
    """After throttling ends, however long it was, asking again is never more than that away."""
    for window, longest in ((600.0, 60.0), (20.0, 2.0), (6_000.0, LONGEST_REST)):
        limits = Limits(window_seconds=window)
        patient = Persistence(limits, FakeClock(), jitter=lambda: 1.0)
        for asked in (None, 1.0):
            throttled = Failure(GraphThrottled("x"), Remedy.WAIT, retry_after=asked)
            rests = [patient.throttle_seconds(throttled) for _ in range(20)]
            assert max(rests) == longest


def test_throttling_without_retry_after_backs_off() -> None:
    """Without a number from Graph the pause doubles, and is never below one second."""
    patient = persistence()
    throttled = Failure(GraphThrottled("x"), Remedy.WAIT)

    assert [patient.throttle_seconds(throttled) for _ in range(4)] == [1, 2, 4, 8]


def test_back_off_has_full_jitter_and_a_ceiling() -> None:
    """Pauses range from zero to a bound."""
    assert back_off(3, lambda: 0.0) == 0.0
    assert back_off(1000, lambda: 1.0) == LONGEST_PAUSE
