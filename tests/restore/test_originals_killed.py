"""Messages made from MIME have no mark at first: killed before they get one, they are known again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from atlas_async.model.restoring import Conflict, Present, Step
from atlas_async.restore.announced import Unmarked
from atlas_async.restore.journal import Journal
from atlas_async.restore.progress import Announced, Made
from tests.restore.scene import Scene, assert_once, created, mark_of
from tests.restore.test_restore_originals import scene_with_originals

MANNERS: list[dict[str, Any]] = [
    {},
    {"in_place": True, "conflict": Conflict.COPY},
    {"in_place": True, "conflict": Conflict.REPLACE},
]


async def killed_before_marking(scene: Scene, **manner: Any) -> int:
    """Restore until a kill between creating some messages and marking them.

    Return how many are there without a mark.
    """
    known = {m["immutableId"] for m in scene.rig.truth()["messages"]}

    def forget(_: Journal, __: Made) -> None:
        """What is in memory is lost with the process."""

    scene.fault(method="PATCH", path="/messages/", status=503, count=-1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Journal, "made", forget)
        report = await scene.restore(originals=True, **manner)
    scene.calm()
    assert report.error or report.failed
    fresh = [m for m in scene.rig.truth()["messages"] if m["immutableId"] not in known]
    assert fresh
    assert not any(map(mark_of, fresh))
    return len(fresh)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("originals", [True, False])
async def test_what_a_kill_left_without_a_mark_is_gone_on_with(
    manner: dict[str, Any], originals: bool
) -> None:
    """Nothing is made twice or passed over; each gets its mark and its state; undone, all goes."""
    async with scene_with_originals() as scene:
        left = await killed_before_marking(scene, **manner)
        dry = await scene.restore(originals=originals, dry_run=True, **manner)
        report = await scene.restore(originals=originals, **manner)
        assert report.exit_code == 0, (report.error, report.failures, report.comparison)
        if manner.get("conflict") is not Conflict.REPLACE:
            assert report.total(Step.CONTINUE) == dry.total(Step.CONTINUE) == left
        assert created(report) == created(dry)
        assert_once(scene)
        sources = Counter((m["internetMessageId"], m["isRead"]) for m in scene.before["messages"])
        made = Counter((m["internetMessageId"], m["isRead"]) for m in scene.marked())
        assert not made - sources
        again = await scene.restore(originals=True, **manner)
        assert again.total(Step.ALREADY) == scene.source().total()
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


@pytest.mark.parametrize("manner", MANNERS)
async def test_what_a_kill_left_without_a_mark_is_taken_back(manner: dict[str, Any]) -> None:
    """Without another run in between."""
    async with scene_with_originals() as scene:
        left = await killed_before_marking(scene, **manner)
        undone = await scene.undo()
        assert (undone.exit_code, undone.removed) == (0, left)
        scene.assert_untouched()


async def test_a_message_without_an_id_is_restored_as_usual() -> None:
    """Made from MIME it could not be known again."""
    async with scene_with_originals() as scene:
        scene.rig.mutate(op="create", folder="inbox", subject="No id", internetMessageId=None)
        await scene.rig.back_up_user()
        report = await scene.restore(originals=True)
        assert report.exit_code == 0
        (made,) = [m for m in scene.marked() if m["subject"] == "No id"]
        assert not made["isDraft"]


def test_only_what_was_not_there_and_is_a_draft_may_be_ours() -> None:
    """Others of the same id are left alone."""
    told = Announced("job/1", "f", " <a> ", ("old",))
    unmarked = Unmarked([told])
    assert unmarked.has(Present("new", "<a>", "", draft=True))
    for other in (
        Present("old", "<a>", "", draft=True),
        Present("new", "<a>", "", draft=False),
        Present("new", "<b>", "", draft=True),
        Present("new", "<a>", "other/1", draft=True),
    ):
        assert not unmarked.has(other)
