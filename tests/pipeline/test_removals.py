"""A message leaves a snapshot only when it is proved gone, and whoever is doubtful is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio.lowlevel

from atlas_async.errors import GraphNotFound, GraphThrottled, GraphTransient
from atlas_async.model.report import Outcome
from tests.fakes.world import ScriptedMailbox, World, nothing


async def test_returned_mail_that_could_not_be_fetched_is_fetched_by_the_next_run() -> None:
    """A message shown only as removed stays a candidate until its content has been settled."""
    world = World(quirk=True)
    mailbox = world.mailbox
    other = mailbox.add_folder("Other")
    edited = mailbox.add(world.inbox)
    await world.back_up()
    new = mailbox.add(world.inbox)
    for message in (new, edited):
        mailbox.move(message, other)
        mailbox.update(message, subject="edited on the way")
        mailbox.move(message, world.inbox)
    mailbox.drop_folder(other)

    async def throttled(kind: str, _object_id: str) -> None:
        if kind == "message":
            raise GraphThrottled("throttled", status=429)

    mailbox.hook = throttled
    stopped = await world.back_up()
    assert stopped.outcome is Outcome.STOPPED
    assert new not in await world.shown()
    mailbox.hook = nothing
    healed = await world.back_up()
    assert healed.outcome is Outcome.COMPLETE
    assert await world.shown() == world.state()


async def _not_found_in(world: World, folder_id: str) -> None:
    async def hook(kind: str, object_id: str) -> None:
        if kind in {"page", "ids"} and object_id == folder_id:
            raise GraphNotFound("not found", status=404, code="ErrorItemNotFound")

    world.mailbox.hook = hook


async def test_listed_folder_without_pages_is_reported_not_left_out() -> None:
    """A folder that is listed while its pages answer 404 is in the ledger of a first run."""
    world = World()
    folder = world.mailbox.add_folder("Projects")
    world.mailbox.add(world.inbox)
    for _ in range(7):
        world.mailbox.add(folder)
    await _not_found_in(world, folder)
    result = await world.back_up()
    assert result.outcome is Outcome.PARTIAL
    assert [(e.kind, e.object_id) for e in result.not_stored] == [("folder", folder)]
    assert not (await world.view()).summary.complete
    world.mailbox.hook = nothing
    assert (await world.back_up()).outcome is Outcome.COMPLETE
    assert await world.shown() == world.state()


async def test_listed_folder_without_pages_keeps_its_messages() -> None:
    """A known folder whose pages answer 404 is not emptied by an incremental run."""
    world = World()
    folder = world.mailbox.add_folder("Projects")
    for _ in range(7):
        world.mailbox.add(folder)
    await world.back_up()
    world.mailbox.add(world.inbox)
    await _not_found_in(world, folder)
    result = await world.back_up()
    assert (result.outcome, result.removed) == (Outcome.PARTIAL, 0)
    assert await world.shown() == world.state()


class PagedIds(ScriptedMailbox):
    """Lists ids 10 at a time by position, and loses the first message after the first page."""

    victim: str | None = None

    async def message_ids(self, folder_id: str) -> AsyncIterator[list[str]]:
        start = 0
        while start == 0 or start < len(self.in_folder(folder_id)):
            await anyio.lowlevel.checkpoint()
            yield self.in_folder(folder_id)[start : start + 10]
            if self.victim in self.messages and self.victim in self.in_folder(folder_id):
                self.delete(self.victim)
            start += 10


async def test_message_that_a_paged_listing_skips_is_not_taken_out() -> None:
    """A deletion between two pages of ids shifts a message out of sight; it is looked up instead."""
    mailbox = PagedIds(return_quirk=True)
    world = World(mailbox)
    other = mailbox.add_folder("Other")
    ids = [mailbox.add(world.inbox) for _ in range(40)]
    await world.back_up(page_size=100)
    for message in ids[5:35]:
        mailbox.move(message, other)
        mailbox.move(message, world.inbox)
    mailbox.victim = ids[0]
    await world.back_up(page_size=100)
    assert ids[0] not in mailbox.messages
    assert set(mailbox.messages) <= set(await world.shown())
    await world.back_up(page_size=100)
    assert await world.shown() == world.state()


async def test_move_into_a_folder_made_during_the_run_is_followed() -> None:
    """A message that moves into a folder the run did not know is shown in that folder."""
    world = World()
    mailbox = world.mailbox
    wanderer = mailbox.add(world.inbox)
    await world.back_up()
    mailbox.add(world.inbox)
    made: list[str] = []

    async def tidy(kind: str, _object_id: str) -> None:
        if kind == "page" and not made:
            made.append(mailbox.add_folder("Projects"))
            mailbox.move(wanderer, made[0])

    mailbox.hook = tidy
    result = await world.back_up()
    assert result.outcome is Outcome.COMPLETE
    assert (await world.records())[wanderer]["folder_id"] == made[0]
    assert await world.shown() == world.state()


async def test_removal_that_cannot_be_verified_makes_the_run_partial() -> None:
    """A removal that nobody could verify is kept, said to a person, and is no complete run."""
    world = World()
    gone = world.mailbox.add(world.inbox)
    await world.back_up()
    world.mailbox.delete(gone)
    world.mailbox.add(world.inbox)

    async def failing(kind: str, _object_id: str) -> None:
        if kind == "locate":
            raise GraphTransient("cannot", status=500)

    world.mailbox.hook = failing
    result = await world.back_up()
    assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
    assert any("could not be verified" in notice for notice in result.notices)
    view = await world.view()
    assert not view.summary.complete
    assert gone in await world.shown()
    world.mailbox.hook = nothing
    healed = await world.back_up()
    assert (healed.outcome, healed.removed) == (Outcome.COMPLETE, 1)
    assert await world.shown() == world.state()


class Vague(ScriptedMailbox):
    """Knows that a message is there and does not say where."""

    vague = True

    async def locate_message(self, message_id: str) -> str | None:
        found = await super().locate_message(message_id)
        return "" if found and self.vague else found


async def test_message_at_an_unknown_place_is_kept() -> None:
    """A message that is there, in a folder that Graph does not name, stays in the snapshot."""
    mailbox = Vague(return_quirk=True)
    world = World(mailbox)
    other = mailbox.add_folder("Other")
    message = mailbox.add(world.inbox)
    await world.back_up()
    mailbox.move(message, other)
    mailbox.move(message, world.inbox)
    result = await world.back_up()
    assert (result.outcome, result.removed) == (Outcome.PARTIAL, 0)
    assert await world.shown() == world.state()
    mailbox.vague = False
    assert (await world.back_up()).exit_code == 0
    assert await world.shown() == world.state()
