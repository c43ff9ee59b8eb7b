"""Runs that end in the middle, tokens that expire, other options: the next run is exact."""

from __future__ import annotations

import anyio
import pytest

from atlas_async.catalog.head import read_head
from atlas_async.config.settings import FolderChoice
from atlas_async.model.report import Outcome
from atlas_async.pipeline import journal
from atlas_async.pipeline.stop import StopSignal
from tests.fakes.world import World, nothing


async def die_at(world: World, folder_id: str, page: int, *, recorded: int) -> None:
    """Run until a page of a folder is asked for and so much is in a checkpoint, then die."""
    scope = anyio.CancelScope()
    left = page

    async def hook(kind: str, object_id: str) -> None:
        nonlocal left
        left -= kind == "page" and object_id == folder_id
        if left == 0:
            with anyio.fail_after(20):
                while await checkpointed(world) < recorded:
                    await anyio.lowlevel.checkpoint()
            scope.cancel()

    world.mailbox.hook = hook
    with scope, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "CHECKPOINT_MESSAGES", 1)
        await world.back_up()
    assert scope.cancelled_caught
    world.mailbox.hook = nothing


async def checkpointed(world: World) -> int:
    """Return how many messages the open checkpoint holds, 0 without one."""
    head = await read_head(world.vault)
    return head.checkpoint.messages if head and head.checkpoint else 0


async def assert_exact(world: World) -> None:
    """Assert that the newest snapshot is complete and shows what the mailbox holds."""
    assert await world.shown() == world.state()
    assert (await world.view()).summary.complete


async def test_first_run_that_died_shows_nothing_of_what_was_deleted_since() -> None:
    """Mail recorded by a first run that died and deleted before the restart is not shown."""
    world = World()
    ids = [world.mailbox.add(world.inbox) for _ in range(12)]
    await die_at(world, world.inbox, 3, recorded=6)
    world.mailbox.delete(ids[0])
    world.mailbox.expire(world.inbox)
    assert (await world.back_up()).outcome is Outcome.COMPLETE
    await assert_exact(world)


async def test_token_that_expires_within_the_first_enumeration_leaves_nothing_behind() -> None:
    """Mail deleted while a first enumeration starts anew is not shown."""
    world = World()
    ids = [world.mailbox.add(world.inbox) for _ in range(12)]
    pages = 0

    async def expiring(kind: str, folder_id: str) -> None:
        nonlocal pages
        pages += kind == "page"
        if kind == "page" and pages == 3:
            world.mailbox.delete(ids[0])
            world.mailbox.expire(folder_id)

    world.mailbox.hook = expiring
    assert (await world.back_up()).outcome is Outcome.COMPLETE
    await assert_exact(world)


async def test_folder_that_vanishes_before_the_restart_is_gone_with_its_mail() -> None:
    """What a run that died had recorded of a folder deleted since is in no snapshot."""
    world = World()
    folder = world.mailbox.add_folder("Old")
    for _ in range(3):
        world.mailbox.add(world.inbox)
    for _ in range(9):
        world.mailbox.add(folder)
    await die_at(world, folder, 3, recorded=3 + 6)
    world.mailbox.drop_folder(folder)
    assert (await world.back_up()).outcome is Outcome.COMPLETE
    await assert_exact(world)


async def test_folder_deleted_within_its_open_full_round_hurts_no_later_run() -> None:
    """A stopped ``--full`` run and the deletion of the folder it was in leave a working mailbox."""
    world = World()
    folder = world.mailbox.add_folder("Projects")
    world.mailbox.add(world.inbox)
    for _ in range(12):
        world.mailbox.add(folder)
    await world.back_up()
    world.mailbox.add(folder)
    world.mailbox.add(world.inbox)
    stop = StopSignal()
    pages = 0

    async def stopping(kind: str, folder_id: str) -> None:
        nonlocal pages
        pages += kind == "page" and folder_id == folder
        if pages == 3:
            stop.request()

    world.mailbox.hook = stopping
    stopped = await world.back_up(full=True, stop=stop)
    assert stopped.outcome is Outcome.INTERRUPTED
    world.mailbox.hook = nothing
    world.mailbox.drop_folder(folder)
    for full in (False, False, True):
        assert (await world.back_up(full=full)).exit_code == 0
        await assert_exact(world)


async def test_full_run_after_a_crashed_incremental_one_starts_every_folder_anew() -> None:
    """``--full`` is not satisfied by what an incremental run that died had read."""
    world = World()
    other = world.mailbox.add_folder("Other")
    for folder in (world.inbox, other):
        for _ in range(6):
            world.mailbox.add(folder)
    await world.back_up()
    world.mailbox.add(world.inbox)
    world.mailbox.add(other)
    await die_at(world, other, 1, recorded=6 + 1 + 6)
    pages = dict.fromkeys((world.inbox, other), 0)

    async def counting(kind: str, folder_id: str) -> None:
        if kind == "page":
            pages[folder_id] += 1

    world.mailbox.hook = counting
    await world.back_up(full=True)
    assert pages == {world.inbox: 3, other: 3}  # seven messages each, three to a page
    await assert_exact(world)


async def test_choice_that_changes_nothing_is_written_down_once() -> None:
    """Quiet runs that exclude a folder the mailbox lacks cost a quiet run's two requests."""
    world = World()
    world.mailbox.add(world.inbox)
    await world.back_up()
    choice = FolderChoice(exclude_well_known=frozenset({"clutter"}))
    await world.back_up(folders=choice)
    before = dict(world.bucket.objects)
    for _ in range(3):
        asked = world.mailbox.requests
        assert (await world.back_up(folders=choice)).outcome is Outcome.UNCHANGED
        assert world.mailbox.requests - asked == 2
    assert world.bucket.objects == before


async def test_stop_during_the_verification_of_removals_is_heard() -> None:
    """A stop request ends the verification too; the next run makes it good."""
    world = World(quirk=True)
    other = world.mailbox.add_folder("Other")
    ids = [world.mailbox.add(world.inbox) for _ in range(15)]
    await world.back_up(page_size=100)
    for message in ids:
        world.mailbox.move(message, other)
        world.mailbox.update(message, subject="edited")
        world.mailbox.move(message, world.inbox)
    stop = StopSignal()
    after = 0

    async def stopping(kind: str, _object_id: str) -> None:
        nonlocal after
        if kind in {"locate", "message"}:
            after += stop.requested
            stop.request()
            await anyio.lowlevel.checkpoint()

    world.mailbox.hook = stopping
    result = await world.back_up(page_size=100, stop=stop)
    assert (result.outcome, result.exit_code) == (Outcome.INTERRUPTED, 130)
    assert after <= 4  # lookups in flight when it was asked
    assert set(await world.shown()) == set(ids)
    world.mailbox.hook = nothing
    assert (await world.back_up(page_size=100)).outcome is Outcome.COMPLETE
    await assert_exact(world)
