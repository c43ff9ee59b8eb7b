"""Nobody waits for bytes in a circle: small budgets slow runs down, and never stop them (I5)."""

from __future__ import annotations

import dataclasses
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from atlas_async.config.settings import Limits
from atlas_async.emulator.faults import FaultRule
from atlas_async.errors import GraphItemError, GraphThrottled
from atlas_async.model.report import Outcome
from atlas_async.model.source import MessagePage
from atlas_async.pipeline.budget import Budgets
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, open_rig
from tests.fakes.world import ScriptedMailbox, World

MIB = 1 << 20
PLAIN = dataclasses.replace(
    SMALL, messages=4, attachment_share=0.0, inline_share=0.0, smime_share=0.0
)
TIGHT = dataclasses.replace(Limits(), retries=3, byte_budget=8 * MIB)
ROOMY = dataclasses.replace(TIGHT, byte_budget=16 * MIB)
"""More lists fit into this one than there are places in flight."""


@pytest.fixture
def budgets(monkeypatch: pytest.MonkeyPatch) -> list[Budgets]:
    """Return the budgets that runs make from now on."""
    made: list[Budgets] = []
    of = Budgets.of

    def keep(_cls: type[Budgets], total: int) -> Budgets:
        made.append(of(total))
        return made[-1]

    monkeypatch.setattr(Budgets, "of", classmethod(keep))
    return made


def assert_all_given_back(budgets: Budgets) -> None:
    """Assert that nobody holds bytes or waits for some."""
    for pool in (budgets.pages, budgets.singles, budgets.content):
        assert (pool.statistics.used, pool.statistics.waiting) == (0, 0)


async def test_attachment_lists_that_outgrow_their_leases_never_stop_a_run(
    budgets: list[Budgets],
) -> None:
    """Many lists too long for their leases, on few places in flight, all get through."""
    async with open_rig(PLAIN, limits=ROOMY) as rig:
        for number in range(9):
            files = [
                {"name": f"{k}.bin", "size": 1_400_000, "seed": 10 * number + k} for k in range(3)
            ]
            rig.mutate(op="create", folder="inbox", subject=f"m{number}", attachments=files)
        with anyio.fail_after(20):
            result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.attachments_stored == 27
        await rig.assert_exact(await rig.view(), rig.truth())
    (made,) = budgets
    assert made.content.statistics.peak > made.content.statistics.capacity  # it was tight
    assert_all_given_back(made)


async def test_several_mailboxes_share_a_tight_budget(budgets: list[Budgets]) -> None:
    """Mailboxes that all want more than there is take turns and end."""
    options = dataclasses.replace(PLAIN, mailboxes=2)
    async with open_rig(options, limits=ROOMY) as rig:
        for box in range(2):
            for number in range(5):
                change = {
                    "op": "create",
                    "folder": "inbox",
                    "subject": f"m{number}",
                    "attachments": [
                        {"name": f"{k}.bin", "size": 1_400_000, "seed": 100 * box + 10 * number + k}
                        for k in range(3)
                    ],
                }
                rig.emulator.control.mutate(f"user{box:04}@contoso.com", change)
        with anyio.fail_after(20):
            report = await rig.backup()
        assert report.exit_code == 0
        assert sum(r.attachments_stored for r in report.mailboxes) == 30
    assert_all_given_back(budgets[0])


async def test_pages_that_outgrow_their_leases_get_through_one_place_in_flight(
    budgets: list[Budgets],
) -> None:
    """A gate crowded down to one place and pages larger than the pool do not lock each other."""
    async with open_rig(PLAIN, limits=TIGHT, clock=FakeClock(autojump=True)) as rig:
        for folder in ("inbox", "sentitems", "drafts", "archive", "junkemail"):
            for number in range(6):
                rig.mutate(
                    op="create",
                    folder=folder,
                    subject=f"m{number}",
                    body="x" * 900_000,
                    attachments=[{"name": "a", "size": 2000}],
                )
        rig.emulator.control.add_fault(
            FaultRule(
                path="/messages/delta",
                status=429,
                code="ApplicationThrottled",
                message="Application is over its MailboxConcurrency limit.",
                retry_after="1",
                count=4,
            )
        )
        with anyio.fail_after(20):
            result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.throttled == 4
        assert result.messages == len(rig.reachable())
    (made,) = budgets
    assert made.pages.statistics.peak > made.pages.statistics.capacity
    assert_all_given_back(made)


async def test_pages_that_nobody_settles_give_their_bytes_back() -> None:
    """A mailbox that ends with pages still waiting leaves the shared budget as it found it."""
    shared = Budgets.of(2 * MIB)
    world = World(ScriptedMailbox("throttled@contoso.com"), budgets=shared)
    second = world.mailbox.add_folder("Second")
    for _ in range(60):
        world.mailbox.add(world.inbox)
    held = 0

    async def throttling(kind: str, object_id: str) -> None:
        nonlocal held
        if kind == "page" and object_id == second:
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            held = shared.pages.statistics.used
            raise GraphThrottled("throttled for too long", status=429)

    async def slow(_key: str) -> None:
        for _ in range(2_000):
            await anyio.lowlevel.checkpoint()

    world.mailbox.hook = throttling
    with anyio.fail_after(20):
        result = await world.back_up(before_put=slow)
    assert result.outcome is Outcome.STOPPED
    assert held >= 3 * (256 << 10)  # the refused page's lease was not the only one
    assert_all_given_back(shared)
    healthy = World(ScriptedMailbox("healthy@contoso.com"), budgets=shared)
    healthy.mailbox.add(healthy.inbox)
    with anyio.fail_after(20):
        assert (await healthy.back_up()).outcome is Outcome.COMPLETE


class NoPages(ScriptedMailbox):
    """Gives no pages, so that every message is fetched by itself."""

    async def message_page(self, *_: Any, **__: Any) -> MessagePage:
        raise GraphItemError("the page cannot be read", status=500, code="ErrorCorruptData")


async def test_messages_fetched_one_by_one_hold_bytes_while_they_are_stored() -> None:
    """As many single messages are in flight as the budget has bytes for, not as a page has items."""
    shared = Budgets.of(8 * MIB)
    world = World(NoPages(), budgets=shared)
    for _ in range(40):
        world.mailbox.add(world.inbox)
    most = 0

    async def slow(key: str) -> None:
        nonlocal most
        if key.startswith("data/"):
            most = max(most, shared.singles.statistics.used)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()

    with anyio.fail_after(20):
        result = await world.back_up(before_put=slow, page_size=100)
    assert (result.outcome, result.messages) == (Outcome.COMPLETE, 40)
    assert 0 < most <= shared.singles.statistics.capacity
    assert_all_given_back(shared)
