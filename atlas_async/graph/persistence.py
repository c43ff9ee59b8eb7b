"""How long one request is tried again: the decision per failure, and tenacity to act on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tenacity import AsyncRetrying, RetryCallState
from tenacity.retry import retry_if_exception

from atlas_async.graph.failures import Failure, Remedy

if TYPE_CHECKING:
    from atlas_async.clock import Clock
    from atlas_async.config.settings import Limits

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 10.0
"""Bounds in seconds of the exponential back-off, before jitter."""
LONGEST_REST: Final = 60.0
"""Upper bound in seconds of what a throttled scope adds to the rest that Graph asks for."""
TOKEN_TRIES: Final = 6
"""Fresh tokens tried for one request: a burst of 401 in the middle of a run has taken several."""
REPEATS: Final = 2
"""Further tries after answers that make no sense: an empty 404, broken JSON."""
LONGEST_THROTTLE_SHARE: Final = 0.1
"""Part of a window that a throttled scope rests at most of its own accord, beyond Retry-After."""
QUICK_THROTTLES: Final = 3
"""Throttled tries that wait only as long as Graph asks; later ones back off as well."""

Jitter = Callable[[], float]
"""Returns a number from 0 to 1."""


class AttemptFailedError(Exception):
    """One attempt failed; ``failure`` says how. Never leaves the client."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


def back_off(tries: int, jitter: Jitter, longest: float = LONGEST_PAUSE) -> float:
    """Return a pause in seconds with full jitter, for the ``tries``-th failure in a row."""
    ceiling: float = min(longest, FIRST_PAUSE * 2 ** min(tries - 1, 10))
    return ceiling * jitter()


class Persistence:
    """The patience of one request.

    Args:
        limits: ``retries`` bounds further tries after passing errors, ``patience`` the seconds.
            Throttling is waited out within a tenth of ``window_seconds`` of its end.
        clock: Time and sleep.
        jitter: Source of randomness, from 0 to 1.
        shrink: Asks for less the next time and returns True, or returns False when it cannot.
            A smaller question does not count as a retry.
        retries: Replaces ``limits.retries`` when there is another way to ask.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        *,
        jitter: Jitter,
        shrink: Callable[[], bool] | None = None,
        retries: int | None = None,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._shrink = shrink
        self._left = {
            Remedy.BACK_OFF: limits.retries if retries is None else retries,
            Remedy.REPEAT: REPEATS,
            Remedy.NEW_TOKEN: TOKEN_TRIES,
        }
        self._patience = limits.patience
        self._longest_rest = min(LONGEST_REST, limits.window_seconds * LONGEST_THROTTLE_SHARE)
        self._give_up_at: float | None = None
        self._failures = 0
        self._throttles = 0
        self._pause = 0.0

    def retrying(self) -> AsyncRetrying:
        """Return the loop that tries until ``decide`` gives up, then raises the last failure."""
        return AsyncRetrying(
            sleep=self._clock.sleep,
            retry=retry_if_exception(self._again),
            wait=self._wait,
            reraise=True,
        )

    def throttle_seconds(self, failure: Failure) -> float:
        """Return how long a throttled scope must rest: what Graph asks, or a growing pause."""
        self._throttles += 1
        if failure.retry_after is None:
            return max(FIRST_PAUSE, back_off(self._throttles, self._jitter, self._longest_rest))
        stubborn = self._throttles - QUICK_THROTTLES
        pause = back_off(stubborn, self._jitter, self._longest_rest) if stubborn > 0 else 0.0
        return max(failure.retry_after, pause)

    def decide(self, failure: Failure, *, wait: float = 0.0) -> float | None:
        """Return the seconds to pause before the next try, or None to give up.

        Args:
            failure: The failed try.
            wait: Seconds its scope rests anyway; they count against the patience.
        """
        now = self._clock.monotonic()
        if self._give_up_at is None:
            self._give_up_at = now + self._patience
        self._failures += 1
        pause = self._pause_for(failure)
        if pause is None or now + max(pause, wait) > self._give_up_at:
            return None
        return pause

    def _pause_for(self, failure: Failure) -> float | None:
        remedy = failure.remedy
        if remedy is Remedy.NONE:
            return None
        if remedy is Remedy.WAIT:
            return 0.0
        if failure.heavy and self._shrink is not None and self._shrink():
            return self._breather(failure)
        if self._left[remedy] > 0:
            self._left[remedy] -= 1
            first_token = remedy is Remedy.NEW_TOKEN and self._left[remedy] == TOKEN_TRIES - 1
            return 0.0 if first_token else self._breather(failure)
        if remedy is Remedy.REPEAT and self._shrink is not None and self._shrink():
            self._left[remedy] = REPEATS
            return self._breather(failure)
        return None

    def _breather(self, failure: Failure) -> float:
        return max(failure.retry_after or 0.0, back_off(self._failures, self._jitter))

    def _again(self, error: BaseException) -> bool:
        if not isinstance(error, AttemptFailedError):
            return False
        failure = error.failure
        rest = failure.retry_after or 0.0
        pause = self.decide(failure, wait=rest if failure.remedy is Remedy.WAIT else 0.0)
        self._pause = pause or 0.0
        return pause is not None

    def _wait(self, _state: RetryCallState) -> float:
        return self._pause
