"""One page that takes long holds back the pages after it, and no more than a few of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.config.settings import Limits
from atlas_async.emulator import FaultRule
from atlas_async.pipeline import rounds
from atlas_async.pipeline.batch import SettledPage
from atlas_async.pipeline.journal import Journal
from tests.fakes.rig import SMALL, open_rig

BARE = replace(SMALL, messages=0, folders=1, attachment_share=0.0, inline_share=0.0)
MOST = 20
PAGE = 5


async def test_settled_messages_wait_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """I6: what a crash repeats is bounded, also while one attachment takes its time.

    Settled pages cannot be in a checkpoint before their predecessors are. While one is late, at
    most ``WAITING_MESSAGES`` and the page in hand wait for it, in memory and to be repeated.
    """
    monkeypatch.setattr(rounds, "WAITING_MESSAGES", MOST)
    waiting: list[int] = []
    take = Journal.take

    def noted(self: Journal, page: SettledPage) -> list[SettledPage]:
        applied = take(self, page)
        waiting.append(self.waiting)
        return applied

    monkeypatch.setattr(Journal, "take", noted)
    async with open_rig(BARE, limits=replace(Limits(), page_size=PAGE)) as rig:
        rig.mutate(op="bulk-create", folder="inbox", count=10)
        rig.mutate(op="create", folder="inbox", attachments=[{"size": 100, "seed": 1}])
        rig.mutate(op="bulk-create", folder="inbox", count=150)
        rig.emulator.control.add_fault(FaultRule(path="/attachments", action="stall", delay=1.0))
        result = await rig.back_up_user()
        await rig.assert_exact(await rig.view(), rig.truth())
    assert result.messages == 161
    assert PAGE <= max(waiting) < MOST + PAGE
    assert waiting[-1] == 0
