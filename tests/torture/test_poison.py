"""Poisoned items cost themselves only, in every run until they are given, gone or given up (I3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.emulator import FaultRule
from atlas_async.errors import GraphNotFound
from atlas_async.model.report import Outcome
from tests.fakes.rig import USER
from tests.fakes.world import World
from tests.torture.poison import (
    GHOST,
    POISONS,
    Dose,
    Poison,
    check_killed,
    check_poisoned,
    cure,
    keys_of,
    open_poisoned,
    poison,
)

MANY = 2_000
FEW = 60


async def test_everything_but_the_poisoned_items_is_in_the_snapshot() -> None:
    """I3, I4: one item of every kind among 2,000 is named, asked for again, and healed."""
    async with open_poisoned(MANY, seed=1) as rig:
        figures = await check_poisoned(rig, poison(rig, seed=1))
        reachable = len(rig.reachable())
        assert [figure.result.messages for figure in figures] == [reachable - 4] * 2 + [reachable]


async def test_passing_errors_and_a_kill_cost_no_second_download() -> None:
    """I2, I6: what a checkpoint holds is not fetched again, and no object is stored twice."""
    killed = await check_killed(300, 220, seed=3, page_size=20, checkpoint=60)
    assert killed.errors == 220
    assert killed.kept >= 100


@pytest.mark.parametrize("kind", POISONS, ids=[kind.name for kind in POISONS])
async def test_the_ledger_is_tried_on_demand(kind: Poison) -> None:
    """I3: a retry asks for the item and nothing else, keeps its place, and commits what it got.

    Cursors, folders and everything else of the snapshot stay as the last backup left them.
    """
    async with open_poisoned(FEW, seed=2) as rig:
        dose = poison(rig, 2, (kind,))
        await rig.back_up_user()
        before = (await rig.view()).snapshot
        assert before is not None
        assert (before.whole, before.complete) == (True, False)
        rig.emulator.control.clear_log()
        async with rig.engine() as atlas:
            in_vain = await atlas.retry_ledger()
        assert in_vain.exit_code == 3
        assert keys_of(in_vain.mailboxes[0].not_stored).keys() == dose.entries.keys()
        assert sum(dose.asked_for(rig).values())
        paths = [served.path for served in rig.emulator.log]
        assert not [path for path in paths if "mailFolders" in path]
        cure(rig)
        rig.mutate(op="create", folder="inbox", subject="not asked for")
        async with rig.engine() as atlas:
            healed = await atlas.retry_ledger()
        (result,) = healed.mailboxes
        assert (healed.exit_code, result.outcome) == (0, Outcome.COMPLETE)
        after = (await rig.view()).snapshot
        assert after is not None
        assert (after.snapshot_id, after.parent) == (result.snapshot_id, before.snapshot_id)
        assert (after.complete, after.whole, after.ledger) == (True, True, None)
        assert (after.cursors, after.folders) == (before.cursors, before.folders)
        assert after.folder_link == before.folder_link
        assert (
            after.messages
            == before.messages + len(dose.messages)
            == sum(after.folder_counts.values())
        )
        assert (after.new, after.changed) == (len(dose.messages), 0)
        await rig.back_up_user()
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_a_ghost_that_is_deleted_leaves_the_ledger() -> None:
    """What Graph shows and does not find stays missing until its folder takes it back."""
    async with open_poisoned(FEW, seed=4) as rig:
        dose = poison(rig, 4, (GHOST,))
        (ghost,) = dose.messages
        for _ in range(2):
            assert (await rig.back_up_user()).exit_code == 3
        cure(rig)
        rig.mutate(op="delete", message=ghost, hard=True)
        async with rig.engine() as atlas:
            unsure = await atlas.retry_ledger()
        assert unsure.exit_code == 3, "only its folder can say that it was deleted"
        result = await rig.back_up_user()
        assert (result.exit_code, result.not_stored) == (0, ())
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_a_ghost_that_an_enumeration_does_not_show_leaves_the_ledger() -> None:
    """A folder that is enumerated anew without the item says that it is gone."""
    async with open_poisoned(FEW, seed=5) as rig:
        (ghost,) = poison(rig, 5, (GHOST,)).messages
        assert (await rig.back_up_user()).exit_code == 3
        cure(rig)
        rig.mutate(op="delete", message=ghost, hard=True)
        rig.emulator.control.expire_delta(USER)
        result = await rig.back_up_user()
        assert (result.exit_code, result.not_stored) == (0, ())
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("mime", [False, True], ids=["", "originals"])
async def test_a_message_shown_whole_stays_although_it_answers_404(mime: bool) -> None:
    """Additions are believed: what a page gave is kept, only what is behind the 404 is missing.

    A later run asks again and takes nothing out of the snapshot either.
    """
    async with open_poisoned(FEW, seed=6) as rig:
        message = rig.mutate(
            op="create", folder="inbox", attachments=[{"name": "a", "size": 9000}]
        )["immutableId"]
        rule = FaultRule(path=f"/messages/{message}", status=404, code="ErrorItemNotFound")
        rig.emulator.control.add_fault(replace(rule, count=-1))
        lost = next(m for m in rig.truth()["messages"] if m["immutableId"] == message)
        dose = Dose(attachments={part["id"] for part in lost["attachments"]})
        for attempts in (1, 2):
            rig.emulator.control.clear_log()
            result = await rig.back_up_user(mime=mime)
            assert result.exit_code == 3
            kinds = ["attachment", "original"] if mime else ["attachment"]
            missing = sorted((e.kind, e.object_id, e.attempts) for e in result.not_stored)
            assert missing == [(kind, message, attempts) for kind in kinds]
            assert any(message in served.path for served in rig.emulator.log)
            await rig.assert_exact(await rig.view(), dose.without(rig.truth()))
        rig.emulator.control.clear_faults()
        assert (await rig.back_up_user(mime=mime)).exit_code == 0
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("expired", [False, True], ids=["removed", "not shown again"])
async def test_a_message_that_lacked_attachments_and_is_deleted(expired: bool) -> None:
    """Asking for its attachments again does not keep it in the snapshot, nor in the ledger."""
    async with open_poisoned(FEW, seed=7) as rig:
        message = rig.mutate(
            op="create", folder="inbox", attachments=[{"name": "a", "size": 9000}]
        )["immutableId"]
        rule = FaultRule(
            path=f"/messages/{message}/attachments", status=500, code="ErrorCorruptData", count=-1
        )
        rig.emulator.control.add_fault(rule)
        result = await rig.back_up_user()
        assert (result.exit_code, len(result.not_stored)) == (3, 1)
        rig.emulator.control.clear_faults()
        rig.mutate(op="delete", message=message, hard=True)
        if expired:
            rig.emulator.control.expire_delta(USER)
        result = await rig.back_up_user()
        assert (result.exit_code, result.not_stored) == (0, ())
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("back", [False, True], ids=["moved", "there and back"])
@pytest.mark.parametrize("part", ["attachment", "original"])
async def test_what_a_message_lacked_comes_although_it_moved_meanwhile(
    part: str, back: bool
) -> None:
    """One folder says that it has left, and that is true: what is missing of it is asked for."""
    async with open_poisoned(FEW, seed=8) as rig:
        made = rig.mutate(op="create", folder="inbox", attachments=[{"name": "a", "size": 9000}])
        message = made["immutableId"]
        asked = {"attachment": "attachments", "original": r"\$value"}[part]
        rule = FaultRule(
            path=f"/messages/{message}/{asked}", status=403, code="ErrorAccessDenied", count=-1
        )
        rig.emulator.control.add_fault(rule)
        wanted = {"mime": part == "original"}
        result = await rig.back_up_user(**wanted)
        assert [entry.kind for entry in result.not_stored] == [part]
        rig.emulator.control.clear_faults()
        rig.mutate(op="move", message=message, folder="archive")
        if back:
            rig.mutate(op="move", message=message, folder="inbox")
        result = await rig.back_up_user(**wanted)
        assert (result.exit_code, result.not_stored) == (0, ())
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("asked", ["attachments", "message"])
async def test_a_message_deleted_while_it_is_fetched_is_not_missing(asked: str) -> None:
    """A 404 between enumeration and fetch is a deletion once the folder says so: exit 0."""
    world = World()
    kept = {world.mailbox.add(world.inbox) for _ in range(4)}
    victim = world.mailbox.add(world.inbox, hasAttachments=True)
    if asked == "message":
        del world.mailbox.messages[victim]["body"]  # so that it is asked for by itself

    async def vanish(kind: str, object_id: str) -> None:
        if (kind, object_id) == (asked, victim):
            if victim in world.mailbox.messages:
                world.mailbox.delete(victim)
            raise GraphNotFound("no such message", status=404, code="ErrorItemNotFound")

    world.mailbox.hook = vanish
    result = await world.back_up()
    assert (result.outcome, result.exit_code, result.not_stored) == (Outcome.COMPLETE, 0, ())
    assert set(await world.records()) == kept
    assert (await world.back_up()).outcome is Outcome.UNCHANGED
