"""A restore run again, after it was cut short or after people have worked with what it brought."""

from __future__ import annotations

from typing import Any

from atlas_async.config.settings import Limits
from atlas_async.model.restoring import Step
from atlas_async.operations.selection import Selection
from tests.fakes.rig import USER, open_rig
from tests.restore.scene import FEW, Scene, created
from tests.torture.faults import BriskClock

INBOX = Selection(mailbox=USER, folders=("inbox",), subtree=False)


async def test_an_attachment_that_is_refused_creates_nothing_again() -> None:
    """Each run says which is missing; the message is continued, and in the end complete."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        parts: list[dict[str, Any]] = [
            {"name": "large.bin", "size": 5_000_000, "seed": 1},
            {"name": "small.txt", "size": 10, "seed": 2},
        ]
        rig.mutate(op="create", folder="inbox", subject="Big", attachments=parts)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        rig.emulator.control.configure(message_limit=1_000_000)
        first = await scene.restore(INBOX)
        assert (first.exit_code, first.incomplete) == (3, 1)
        for _ in range(2):
            dry = await scene.restore(INBOX, dry_run=True)
            again = await scene.restore(INBOX)
            for report in (dry, again):
                steps = (created(report), report.total(Step.CONTINUE), report.total(Step.ALREADY))
                assert steps == (0, 1, created(first) - 1)
            assert (again.exit_code, again.incomplete) == (3, 1)
        rig.emulator.control.configure(message_limit=0)
        last = await scene.restore(INBOX)
        assert (last.exit_code, created(last), last.total(Step.CONTINUE)) == (0, 0, 1)
        (big,) = [m for m in scene.marked() if m["subject"] == "Big"]
        assert {a["name"] for a in big["attachments"]} == {"large.bin", "small.txt"}
        last = await scene.restore(INBOX)
        assert (last.exit_code, last.total(Step.ALREADY)) == (0, created(first))
