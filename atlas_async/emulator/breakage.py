"""Broken answers: what a fault rule makes of a request that would have been served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime
from typing import Final

from atlas_async.clock import Clock
from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.faults import FaultRule

Work = Callable[[], Awaitable[Reply]]
_SPOILED: Final = frozenset({"reset-mid", "truncate", "garbage", "control"})
_UNANSWERED: Final = frozenset({"reset", "silence"})
_DATE_AHEAD: Final = timedelta(seconds=2)


class Breakage:
    """Applies fault rules, and carries out late what a rule put off."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._late: list[tuple[float, Work]] = []

    async def answer(self, rule: FaultRule | None, call: Call, work: Work) -> Reply:
        """Return the answer to a call, as ``rule`` breaks it.

        Raises ``Refusal`` of the work or of the rule.
        """
        if rule is None:
            return await work()
        if rule.delay > 0:
            await self._clock.sleep(rule.delay)
        if rule.action == "stall":
            return await work()
        if rule.action in _SPOILED:
            return _spoiled(await work(), rule.action)
        if rule.commit == "before":
            await _carry_out(work)
        elif rule.commit == "later":
            await call.keep_body()
            self._late.append((self._clock.monotonic() + rule.commit_delay, work))
        return self._replaced(rule)

    async def catch_up(self) -> None:
        """Carry out what was put off until now; its answers have nobody to go to."""
        now = self._clock.monotonic()
        due = [work for moment, work in self._late if moment <= now]
        self._late = [item for item in self._late if item[0] > now]
        for work in due:
            await _carry_out(work)

    def _replaced(self, rule: FaultRule) -> Reply:
        if rule.action in _UNANSWERED:
            return Reply(rule.status, spoil=rule.action)
        headers: dict[str, str] = {}
        if rule.retry_after == "date":
            moment = self._clock.now() + _DATE_AHEAD
            headers["Retry-After"] = format_datetime(moment, usegmt=True)
        elif rule.retry_after:
            headers["Retry-After"] = rule.retry_after
        if rule.action == "redirect":
            return Reply(302, {"Location": rule.location, **headers})
        if not rule.code:
            return Reply(rule.status, headers)
        raise Refusal(rule.status, rule.code, rule.message, headers=headers)


async def _carry_out(work: Work) -> None:
    with suppress(Refusal):
        await work()


def _spoiled(reply: Reply, action: str) -> Reply:
    """Return a copy to be broken while it is sent; a kept page must stay whole."""
    return Reply(
        reply.status, dict(reply.headers), reply.body, reply.stream, reply.length, spoil=action
    )
