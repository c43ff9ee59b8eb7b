"""Sightings of one message in several pages, with a checkpoint in between: the last one stands."""

from __future__ import annotations

from copy import copy
from typing import Any

import anyio
import pytest

from atlas_async.catalog.carry import Carry
from atlas_async.catalog.ledger import Ledger
from atlas_async.catalog.snapshot import FolderCursor
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import Folder
from atlas_async.pipeline.batch import Change, PageBatch, SettledItem, SettledPage
from atlas_async.pipeline.journal import Journal, RowCount
from tests.fakes.world import World


async def opened(world: World) -> Journal:
    """Return the journal of a run that follows the newest snapshot."""
    base = (await world.view()).snapshot
    assert base is not None
    journal = Journal(
        world.vault,
        base,
        base.without_counts(),
        Carry(),
        Ledger((), "run"),
        world.clock,
        held=RowCount(),
    )
    await journal.open()
    return journal


def seen(before: MessageRecord, folder: str, sequence: int, **state: Any) -> SettledPage:
    """Return a settled page that shows one message, compared with ``before``."""
    record = copy(before)
    record.update(state)  # type: ignore[typeddict-item]  # tests change single fields by name
    record["folder_id"] = folder
    batch = PageBatch(
        Folder(folder, "", "", ()),
        number=0,
        sequence=sequence,
        items=(),
        removed=(),
        cursor=FolderCursor("link"),
        restart=False,
        lease=None,
    )
    change = Change.SAME if record == before else Change.STATE
    return SettledPage(batch, [SettledItem(record, change, before)])


async def test_move_over_two_folders_with_a_checkpoint_between_is_counted_once() -> None:
    """A page that looked a message up before another page was written leaves the counts right."""
    world = World()
    second, third = world.mailbox.add_folder("Second"), world.mailbox.add_folder("Third")
    message = world.mailbox.add(world.inbox)
    await world.back_up()
    journal = await opened(world)
    before = (await journal.known([message]))[message]
    late = seen(before, third, 2)
    journal.take(seen(before, second, 1))
    await journal.checkpoint()
    journal.take(late)
    await journal.settle_late()
    assert (journal.folder_counts, journal.messages) == ({third: 1}, 1)
    assert (await journal.known([message]))[message]["folder_id"] == third


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_later_fetched_sighting_stands_whichever_is_written_first(
    order: tuple[int, int],
) -> None:
    """Of two states in two pages the one fetched later is recorded, in either order of arrival."""
    world = World()
    message = world.mailbox.add(world.inbox)
    await world.back_up()
    journal = await opened(world)
    before = (await journal.known([message]))[message]
    first, last = (
        seen(before, world.inbox, number, categories=[f"page {number}"]) for number in order
    )
    journal.absorb(first)
    await journal.checkpoint()
    journal.absorb(last)
    await journal.settle_late()
    assert (await journal.known([message]))[message]["categories"] == ["page 2"]
    assert (journal.folder_counts, journal.messages) == ({world.inbox: 1}, 1)


async def test_return_to_the_old_state_is_recorded_after_a_checkpoint() -> None:
    """Read, then unread again: what equals the last snapshot differs from what was written since."""
    world = World()
    message = world.mailbox.add(world.inbox)
    await world.back_up()
    journal = await opened(world)
    before = (await journal.known([message]))[message]
    again = seen(before, world.inbox, 2)
    journal.absorb(seen(before, world.inbox, 1, is_read=True))
    await journal.checkpoint()
    journal.absorb(again)
    await journal.settle_late()
    assert (await journal.known([message]))[message]["is_read"] is False


async def test_cancelling_loses_no_sighting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sighting whose look-up was cut off is recorded by the next call: its cursor has moved."""
    world = World()
    message = world.mailbox.add(world.inbox)
    await world.back_up()
    journal = await opened(world)
    before = (await journal.known([message]))[message]
    journal.absorb(seen(before, world.inbox, 1, is_read=True))
    await journal.checkpoint()
    journal.absorb(seen(before, world.inbox, 2, is_read=True, categories=["late"]))
    known = journal.known

    async def never(_object_ids: list[str]) -> Any:
        scope.cancel()
        await anyio.sleep_forever()

    monkeypatch.setattr(journal, "known", never)
    with anyio.CancelScope() as scope:
        await journal.settle_late()
    monkeypatch.setattr(journal, "known", known)
    await journal.settle_late()
    assert (await journal.known([message]))[message]["categories"] == ["late"]
