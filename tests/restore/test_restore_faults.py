"""Requests fail in every way, and what comes back is exact and there once all the same.

The engine's clock jumps, so that no pause costs time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import anyio
import pytest

from atlas_async.model.restoring import Comparison, Conflict, Step
from atlas_async.operations.selection import Selection
from atlas_async.restore.comparison import Comparer
from atlas_async.restore.journal import part_prefix, read_parts
from tests.fakes.rig import USER
from tests.restore.scene import (
    FEW,
    RICH,
    ROOT,
    assert_once,
    brisk_scene,
    created,
    large_scene,
)
from tests.torture.faults import GRAPH_FAULTS

WRITES: Final = "POST|PUT|PATCH|DELETE"
LOST: Final[dict[str, dict[str, Any]]] = {
    "lost-503": {"status": 503, "commit": "before", "method": WRITES},
    "lost-504": {"status": 504, "code": "UnknownError", "commit": "before", "method": WRITES},
    "lost-reset": {"action": "reset", "commit": "before", "method": WRITES},
    "conflict": {
        "status": 409,
        "code": "ErrorIrresolvableConflict",
        "method": "POST",
        "path": "attachments",
    },
}
"""Writes that are carried out and answered with an error, and those that must be tried again."""
MANNERS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"in_place": True, "conflict": Conflict.COPY},
    {"in_place": True, "conflict": Conflict.REPLACE},
)


@pytest.mark.parametrize("manner", MANNERS, ids=["below", "copy", "replace"])
@pytest.mark.parametrize(("seed", "share"), [(1, 0.2), (3, 0.6)])
async def test_a_share_of_all_requests_fails(
    seed: int, share: float, manner: dict[str, Any]
) -> None:
    """Whatever fails, the restore and its undoing come to their end, and both are exact."""
    async with brisk_scene() as scene:
        scene.rig.emulator.control.configure(fresh_misses=2)
        every = {**GRAPH_FAULTS, **LOST}
        for number, rule in enumerate(every.values()):
            part = share / len(every)
            scene.fault(**rule, count=-1, probability=part, seed=100 * seed + number)
        report = await scene.restore(**manner)
        assert report.exit_code == 0, (report.error, report.failures)
        assert_once(scene)
        if not manner:
            scene.assert_whole()
        undone = await scene.undo()
        assert undone.exit_code == 0, (undone.error, undone.failures)
        scene.assert_untouched()


@pytest.mark.parametrize("rule", ["lost-503", "lost-504", "lost-reset"])
async def test_every_write_is_carried_out_and_its_answer_lost(rule: str) -> None:
    """R1: each create is looked for before it is sent again."""
    async with brisk_scene() as scene:
        # Of two tries in a row one fails, so that every write is tried twice.
        scene.fault(**LOST[rule], count=-1, probability=0.5, seed=4)
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures)
        assert_once(scene)
        scene.assert_whole()


async def test_a_write_that_is_carried_out_late_leaves_no_twin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A create that was given up and then carried out after all is removed again."""
    compare = Comparer.compare

    async def compare_once_all_is_there(comparer: Comparer, *chosen: Any) -> Comparison:
        await anyio.sleep(0.2)  # several times what the last of them is late
        return await compare(comparer, *chosen)

    monkeypatch.setattr(Comparer, "compare", compare_once_all_is_there)
    async with brisk_scene(
        corpus=replace(RICH, messages=20, item_share=0, reference_share=0)
    ) as scene:
        scene.fault(
            method="POST",
            path="/messages$",
            status=503,
            commit="later",
            commit_delay=0.02,
            count=12,
            probability=0.5,
        )
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures)
        scene.assert_whole()
        assert_once(scene)


@pytest.mark.parametrize(("reads", "filters"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("manner", MANNERS, ids=["below", "copy", "replace"])
async def test_servers_that_show_no_marks_or_cannot_look(
    reads: bool, filters: bool, manner: dict[str, Any]
) -> None:
    """Nothing is there twice, although every third answer to a create is lost."""
    async with brisk_scene(corpus=replace(RICH, messages=16)) as scene:
        scene.rig.emulator.control.configure(property_reads=reads, message_filters=filters)
        scene.fault(status=503, commit="before", method="POST", count=-1, probability=0.35, seed=5)
        report = await scene.restore(**manner)
        assert report.exit_code == 0, (report.error, report.failures)
        assert_once(scene)
        report = await scene.restore(**manner)
        assert report.exit_code == 0, (report.error, report.failures)
        assert_once(scene)
        assert report.total(Step.ALREADY) == scene.source().total()
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


async def test_without_marks_a_message_begun_is_completed_by_the_next_run() -> None:
    """A message whose attachment failed is known from the journal, and not taken for another's."""
    async with large_scene() as scene:
        scene.rig.emulator.control.configure(property_reads=False)
        scene.fault(method="POST", path="createUploadSession", status=500, count=-1)
        report = await scene.restore()
        assert report.exit_code == 3
        assert report.failed == 1
        scene.calm()
        report = await scene.restore()
        assert report.exit_code == 0
        assert (created(report), report.total(Step.CONTINUE)) == (0, 1)
        scene.assert_whole()
        assert_once(scene)


async def test_folders_that_are_there_already_are_used() -> None:
    """A create answered with 409, as when somebody else was faster, finds the folder."""
    async with brisk_scene(corpus=FEW) as scene:
        scene.rig.mutate(op="folder-create", name=ROOT)
        before = scene.rig.truth()
        scene.fault(
            method="POST",
            path="childFolders",
            status=409,
            code="ErrorFolderExists",
            commit="before",
            count=2,
        )
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()
        undone = await scene.undo()
        assert undone.exit_code == 0
        assert {f["id"] for f in scene.rig.truth()["folders"]} == {
            f["id"] for f in before["folders"]
        }


@pytest.mark.parametrize("commit", ["never", "before"])
async def test_a_target_folder_that_is_not_found_for_once(commit: str) -> None:
    """It is looked for anew; and so is the message, which may have been created all the same."""
    async with brisk_scene(corpus=replace(FEW, messages=30)) as scene:
        scene.fault(
            method="POST",
            path="/messages$",
            status=404,
            code="ErrorItemNotFound",
            commit=commit,
            after=6,
            count=2,
        )
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures)
        scene.assert_whole()
        assert_once(scene)


async def test_a_folder_that_is_deleted_meanwhile_is_made_again() -> None:
    """What is left goes into a new folder of the same name; nothing is there twice."""
    async with brisk_scene(corpus=replace(FEW, messages=30)) as scene:
        await scene.restore(Selection(mailbox=USER, folders=("inbox",)))
        scene.rig.mutate(op="folder-delete", folder=[ROOT, "Inbox"], hard=True)
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures)
        scene.assert_whole()
        assert_once(scene)


@pytest.mark.parametrize("manner", MANNERS[:2], ids=["below", "copy"])
async def test_a_kill_before_the_journal_was_written(manner: dict[str, Any]) -> None:
    """R1: marks tell what was made, and what it still lacks is added; it can be taken back, too.

    Folders carry no marks: what was absent is written down before the first of them is made.
    """
    async with brisk_scene(corpus=replace(RICH, reference_share=0.0)) as scene:
        report = await scene.restore(**manner)
        prefix = part_prefix(USER, report.job_id)
        kept = 0
        async for number, entries in read_parts(scene.rig.vault(), report.job_id):
            if {kind for kind, *_ in entries} == {"absent"}:
                kept += 1
            else:
                del scene.rig.bucket.objects[f"{prefix}{number:08x}"]
        assert kept or manner
        for message in scene.marked()[::3]:
            scene.rig.mutate(op="update", message=message["immutableId"], patch={}, attachments=[])
        report = await scene.restore(**manner)
        assert report.exit_code == 0, (report.error, report.failures, report.comparison)
        assert_once(scene)
        if not manner:
            scene.assert_whole()
        undone = await scene.undo()
        assert undone.exit_code == 0
        scene.assert_untouched()


async def test_what_was_to_be_put_away_and_was_not_stays() -> None:
    """R2: the move is written down before it is made; undone, what was not moved is left alone."""
    async with brisk_scene(corpus=FEW) as scene:
        scene.fault(method="POST", path="/move$", status=500, count=-1)
        report = await scene.restore(in_place=True, conflict=Conflict.REPLACE)
        assert report.failed
        scene.calm()
        undone = await scene.undo()
        assert (undone.exit_code, undone.put_back) == (0, 0)
        scene.assert_untouched()
