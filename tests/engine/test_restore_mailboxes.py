"""Several mailboxes restored by one call: each at its own risk (I4)."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from atlas_async import RestoreWish, Selection
from atlas_async.model.restoring import Step
from atlas_async.restore.run import MailboxRestore
from tests.fakes.rig import SMALL, USER, open_rig

OTHER = "user0001@contoso.com"
QUOTED = ("words", "of", "a", "mail")
TWO = replace(SMALL, mailboxes=2, messages=8)


async def test_a_defect_in_one_mailbox_costs_it_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told by its type, not by a text that may quote mail; the other is restored."""
    intact = MailboxRestore.run

    async def broken(self: MailboxRestore) -> None:
        if self.report.mailbox_id == USER:
            raise ValueError(" ".join(QUOTED))
        await intact(self)

    monkeypatch.setattr(MailboxRestore, "run", broken)
    async with open_rig(TWO) as rig:
        await rig.backup()
        async with rig.engine() as atlas:
            with caplog.at_level(logging.ERROR):
                first, second = await atlas.restore(
                    [RestoreWish(Selection(mailbox=name)) for name in (USER, OTHER)]
                )
    assert (first.exit_code, first.error) == (1, "internal error: ValueError")
    assert " ".join(QUOTED) not in caplog.text
    assert "ValueError" in caplog.text
    assert (second.exit_code, second.total(Step.CREATE)) == (0, 8)


async def test_a_mailbox_that_nobody_has_costs_it_alone() -> None:
    """The other wish is fulfilled, and the report of the first says what to do."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        async with rig.engine() as atlas:
            first, second = await atlas.restore(
                [
                    RestoreWish(Selection(mailbox=USER), "nobody@contoso.com"),
                    RestoreWish(Selection(mailbox=OTHER)),
                ]
            )
    assert "nobody@contoso.com" in first.error
    assert first.exit_code == 10
    assert (second.exit_code, second.total(Step.CREATE)) == (0, 8)


async def test_one_mailbox_into_two_others_takes_turns() -> None:
    """Two wishes from one mailbox, which has one lease, are fulfilled one after the other."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        async with rig.engine() as atlas:
            reports = await atlas.restore(
                [RestoreWish(Selection(mailbox=USER), name) for name in (USER, OTHER)]
            )
    assert [(r.exit_code, r.total(Step.CREATE)) for r in reports] == [(0, 8), (0, 8)]
