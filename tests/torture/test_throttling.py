"""Throttling of every form, and tokens that end at the wrong moment.

Nothing is lost, and exactly the mailbox that was throttled rests for as long as Graph asked (I10).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.emulator import FaultRule
from atlas_async.emulator.journal import Served
from atlas_async.model.events import MailboxProgress
from atlas_async.model.report import Outcome
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig

LITTLE = replace(SMALL, messages=24, folders=4)
PAGED = replace(Limits(), page_size=5)
MAIL = "/mailFolders|/messages"
SLACK = 0.3
"""Seconds: the emulator notes the end of an answer some answers' latency after it was read."""


def throttle(rig: Rig, **rule: Any) -> None:
    """Make the emulator throttle matching requests."""
    values: dict[str, Any] = {
        "status": 429,
        "code": "ApplicationThrottled",
        "path": MAIL,
        "count": -1,
    }
    rig.emulator.control.add_fault(FaultRule(**(values | rule)))


def served(rig: Rig, mailbox: str = USER) -> list[Served]:
    """Return the requests of a mailbox, oldest first."""
    return [request for request in rig.emulator.log if request.mailbox == mailbox]


def assert_rested(rig: Rig, seconds: float) -> None:
    """Assert that after each refusal no request of the mailbox began for so long."""
    requests = served(rig)
    refused = [request.finished for request in requests if request.status == 429]
    assert refused
    for moment in refused:
        early = [r for r in requests if moment < r.started < moment + seconds - SLACK]
        assert not early, (moment, early)


@pytest.mark.parametrize(
    ("asked", "rest"),
    [("7", 7.0), ("2.5", 2.5), ("date", 1.0), ("", 1.0), ("0", 0.0), ("-30", 1.0), ("soon", 1.0)],
)
@pytest.mark.parametrize("batches", [1, 5])
async def test_a_storm_is_sat_out(asked: str, rest: float, batches: int) -> None:
    """I10: whatever form ``Retry-After`` has, the mailbox rests that long.

    Without one, or with one that says nothing, for a pause of its own. Then all is exact.
    """
    clock = FakeClock(autojump=True)
    async with open_rig(LITTLE, limits=PAGED, clock=clock, service_clock=clock) as rig:
        rig.emulator.control.configure(latency=0.05)
        for number in range(batches):
            throttle(rig, retry_after=asked, count=4, after=5 * number)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE, result
        assert result.throttled >= 4
        assert_rested(rig, rest)
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize(
    "asked",
    ["86400", "9" * 400, "Fri, 01 Jan 9999 00:00:00 GMT", "Mon, 1 Jan 2046 0:0:0 +99999999999999"],
)
async def test_an_absurd_retry_after_is_not_waited_for(asked: str) -> None:
    """A wait beyond all patience ends the mailbox with 14 at once, and the next run is exact.

    What was settled is committed, and the report holds figures that can be reckoned with.
    """
    clock = FakeClock(autojump=True)
    async with open_rig(LITTLE, limits=PAGED, clock=clock) as rig:
        throttle(rig, retry_after=asked, after=30)
        report = await rig.backup([USER])
        (result,) = report.mailboxes
        garbage = asked.endswith(
            "+99999999999999"
        )  # no date at all: a pause of its own, until patience ends
        assert report.exit_code == 14, result
        assert clock.monotonic() <= (PAGED.patience if garbage else 60.0)
        assert result.throttled_seconds < 400 * 86_400.0
        assert "Run again later" in result.hint
        rig.emulator.control.clear_faults()
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE, healed
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize(("asked", "rest"), [("9", 9.0), ("date", 1.0), ("", 1.0)])
async def test_parts_of_a_batch_are_throttled(asked: str, rest: float) -> None:
    """I10: a 429 inside a ``$batch``, which succeeds as a whole, is obeyed like any other."""
    clock = FakeClock(autojump=True)
    async with open_rig(replace(LITTLE, folders=40), clock=clock, service_clock=clock) as rig:
        # The first level's folders are few and asked one by one; of those below, as many are struck
        # as run side by side in a batch, so that none is left for what is asked alone afterwards.
        throttle(rig, retry_after=asked, path="childFolders", after=14, count=4)
        result = await rig.back_up_user()
        log = list(rig.emulator.log)
        batch = next(n for n, request in enumerate(log) if request.path.endswith("/$batch"))
        assert min(n for n, request in enumerate(log) if request.status == 429) > batch
        (rule,) = rig.emulator.control.faults()
        assert rule["fired"] == 4
        assert result.outcome is Outcome.COMPLETE, result
        assert result.throttled >= 1
        assert clock.monotonic() >= rest  # nothing else takes time here
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("granted", [1, 2, 3])
async def test_concurrency_is_refused_below_four(granted: int) -> None:
    """Where other programs use up the four places, fewer are tried, and the run is complete."""
    clock = FakeClock(autojump=True)
    async with open_rig(LITTLE, limits=PAGED, clock=clock, service_clock=clock) as rig:
        rig.emulator.control.configure(throttle=True, mailbox_concurrent=granted, latency=0.2)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE, result
        assert result.throttled >= 1
        refused = sum(request.status == 429 for request in served(rig))
        assert refused <= len(served(rig)) / 3
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_concurrency_is_refused_with_one_in_flight() -> None:
    """A MailboxConcurrency refusal of a single request is waited out; it never halves to none."""
    clock = FakeClock(autojump=True)
    limits = replace(PAGED, requests_per_mailbox=1)
    async with open_rig(LITTLE, limits=limits, clock=clock, service_clock=clock) as rig:
        throttle(
            rig,
            message="Application is over its MailboxConcurrency limit.",
            retry_after="1",
            count=25,
        )
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE, result
        assert result.throttled == 25
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_a_storm_over_one_mailbox_holds_up_no_other() -> None:
    """I10: while one mailbox is throttled for good, the others end complete, and never rest."""
    clock = FakeClock(autojump=True)
    async with open_rig(replace(LITTLE, mailboxes=3), clock=clock, service_clock=clock) as rig:
        throttle(rig, mailbox=USER, retry_after="30")
        report = await rig.backup()
        outcomes = {
            m.mailbox_id: (m.outcome, m.throttled, m.throttled_seconds) for m in report.mailboxes
        }
        assert report.exit_code == 3
        assert outcomes.pop(USER)[0] is Outcome.FAILED
        assert next(m.exit_code for m in report.mailboxes if m.mailbox_id == USER) == 14
        assert set(outcomes.values()) == {(Outcome.COMPLETE, 0, 0.0)}
        for mailbox in outcomes:
            await rig.assert_exact(await rig.view(mailbox=mailbox), rig.truth(mailbox))


class Trigger(FakeClock):
    """The emulator's clock: before its Nth sleep, which is an answer on its way, it acts."""

    def __init__(self, *sleeps: int) -> None:
        super().__init__(autojump=True)
        self.sleeps = sleeps
        self.number = 0
        self.act: Callable[[], object] = lambda: None

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.number += 1
        if self.number in self.sleeps:
            self.act()


@pytest.mark.parametrize("how", ["expires", "is revoked"])
@pytest.mark.parametrize("when", ["between pages", "within a body"])
async def test_a_token_that_ends_in_the_middle(how: str, when: str) -> None:
    """A token that ends between pages, or while one arrives, costs a refused request each time.

    The pages go on where they were.
    """
    service = Trigger(9, 17, 30)
    async with open_rig(
        LITTLE, limits=PAGED, clock=FakeClock(autojump=True), service_clock=service
    ) as rig:
        between = when == "between pages"
        rig.emulator.control.configure(**({"latency": 0.1} if between else {"bandwidth": 20_000}))
        control = rig.emulator.control
        service.act = control.revoke_tokens if how == "is revoked" else lambda: service.jump(4_000)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE, result
        assert rig.emulator.log.statuses[401] >= 3
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_an_application_that_is_disabled_in_the_middle() -> None:
    """When tokens are revoked for good the mailbox ends with 13 and says why.

    What was settled is an incomplete snapshot; once the application is enabled again, the next
    run is exact.
    """
    clock = FakeClock(autojump=True)
    async with open_rig(SMALL, limits=PAGED, clock=clock) as rig:
        first = await rig.back_up_user()
        for number in range(20):
            rig.mutate(op="create", folder="inbox", subject=f"new {number}")

        def disable(event: object) -> None:
            if isinstance(event, MailboxProgress) and event.stored >= 5:
                rig.emulator.tenant.app.enabled = False
                rig.emulator.control.revoke_tokens()

        async with rig.engine() as atlas:
            atlas._listeners.append(disable)
            (result,) = (await atlas.backup([USER])).mailboxes
        assert (result.outcome, result.exit_code) == (Outcome.FAILED, 13)
        assert "AADSTS7000112" in result.error
        assert "Enable it" in result.hint
        assert result.snapshot_id is not None
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0
            ids = [row.snapshot_id for row in await atlas.list_snapshots(USER)]
            assert ids == [first.snapshot_id, result.snapshot_id]
        assert not (await rig.view()).summary.complete
        rig.emulator.tenant.app.enabled = True
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE, healed
        await rig.assert_exact(await rig.view(), rig.truth())
