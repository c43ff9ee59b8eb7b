"""What Graph refuses costs what was asked for and nothing else (I4), and is asked for again (I3)."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from atlas_async.config.settings import FolderChoice
from atlas_async.errors import (
    ConsentError,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphTransient,
)
from atlas_async.model.record import message_key
from atlas_async.model.report import Outcome
from atlas_async.model.source import FolderListing, MessagePage
from atlas_async.pipeline.ports import ContentStream
from tests.fakes.world import ScriptedMailbox, World, nothing


class OnlyById(ScriptedMailbox):
    """Gives no page at all, and of one message nothing but its id."""

    odd = ""

    async def message_page(self, *_: Any, **__: Any) -> MessagePage:
        raise GraphItemError("the page cannot be read", status=500, code="ErrorCorruptData")

    async def get_message(self, message_id: str, **options: Any) -> dict[str, Any]:
        whole = await super().get_message(message_id, **options)
        return {"id": message_id} if message_id == self.odd else whole


async def test_one_odd_message_does_not_make_stubs_of_its_neighbours() -> None:
    """After a message that Graph gives without properties, others are still fetched whole."""
    mailbox = OnlyById()
    world = World(mailbox)
    mailbox.odd = mailbox.add(world.inbox)
    whole = [mailbox.add(world.inbox) for _ in range(60)]
    await world.back_up(page_size=100)
    records = await world.records()
    for message in whole:
        checksum = records[message]["checksum"]
        key = message_key(mailbox.mailbox_id, checksum)
        stored = json.loads(await world.vault.read_content(key, checksum))
        assert stored["body"]["content"] == f"body of {message}"
        assert stored["subject"] == f"subject of {message}"


REFUSALS = [
    ConsentError("Access is denied"),
    GraphNotFound("Resource not found", status=404, code="ResourceNotFound"),
    GraphItemError("Access is denied", status=403, code="ErrorAccessDenied"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda e: type(e).__name__)
async def test_refused_attachments_cost_themselves(error: GraphError | ConsentError) -> None:
    """One message whose attachments are refused is in the ledger; all the other mail is stored."""
    world = World()
    guarded = world.mailbox.add(world.inbox, hasAttachments=True)
    for _ in range(8):
        world.mailbox.add(world.inbox)

    async def refusing(kind: str, object_id: str) -> None:
        if (kind, object_id) == ("attachments", guarded):
            raise error

    world.mailbox.hook = refusing
    for _ in range(2):
        result = await world.back_up()
        assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
        assert [(e.kind, e.object_id) for e in result.not_stored] == [("attachment", guarded)]
        assert await world.shown() == world.state()
    world.mailbox.hook = nothing
    assert (await world.back_up()).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("error", REFUSALS, ids=lambda e: type(e).__name__)
async def test_refused_folder_costs_itself(error: GraphError | ConsentError) -> None:
    """One folder that is refused is in the ledger; the other folders are read."""
    world = World()
    folder = world.mailbox.add_folder("Guarded")
    world.mailbox.add(folder)
    for _ in range(4):
        world.mailbox.add(world.inbox)

    async def refusing(kind: str, object_id: str) -> None:
        if kind in {"page", "ids"} and object_id == folder:
            raise error

    world.mailbox.hook = refusing
    result = await world.back_up()
    assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
    assert [(e.kind, e.object_id) for e in result.not_stored] == [("folder", folder)]
    assert set(await world.shown()) == set(world.mailbox.in_folder(world.inbox))
    world.mailbox.hook = nothing
    assert (await world.back_up()).outcome is Outcome.COMPLETE
    assert await world.shown() == world.state()


async def test_ledger_entry_of_a_folder_ends_with_the_folder() -> None:
    """A folder that could not be read and was deleted since is missing from nothing."""
    world = World()
    folder = world.mailbox.add_folder("Bad")
    world.mailbox.add(world.inbox)
    world.mailbox.add(folder)

    async def failing(kind: str, object_id: str) -> None:
        if kind in {"page", "ids"} and object_id == folder:
            raise GraphTransient("cannot", status=500)

    world.mailbox.hook = failing
    assert (await world.back_up()).outcome is Outcome.PARTIAL
    world.mailbox.hook = nothing
    world.mailbox.drop_folder(folder)
    result = await world.back_up()
    assert (result.outcome, result.not_stored) == (Outcome.COMPLETE, ())
    assert (await world.view()).summary.complete


class Bodiless(ScriptedMailbox):
    """Shows some messages in pages without their body, and names a junk folder."""

    bodiless: frozenset[str] = frozenset()
    junk = ""

    async def message_page(self, folder_id: str, **options: Any) -> MessagePage:
        page = await super().message_page(folder_id, **options)
        items = (
            {k: v for k, v in item.items() if k != "body" or item["id"] not in self.bodiless}
            for item in page.items
        )
        return dataclasses.replace(page, items=tuple(items))

    async def list_folders(self, *, recoverable: bool) -> FolderListing:
        listing = await super().list_folders(recoverable=recoverable)
        named = (
            dataclasses.replace(f, well_known_name="junkemail" if f.id == self.junk else None)
            for f in listing.folders
        )
        return dataclasses.replace(listing, folders=tuple(named))


@pytest.mark.parametrize("excluded", [True, False])
async def test_failed_message_is_retried_where_it_is_now(excluded: bool) -> None:
    """A message that failed and moved is recorded in its new folder, or not at all if excluded."""
    mailbox = Bodiless()
    world = World(mailbox)
    mailbox.junk = mailbox.add_folder("Junk Email")
    names = frozenset({"junkemail"} if excluded else ())
    choice = FolderChoice(exclude_well_known=names)
    mailbox.add(world.inbox)
    await world.back_up(folders=choice)
    spam = mailbox.add(world.inbox)
    mailbox.bodiless = frozenset({spam})

    async def failing(kind: str, object_id: str) -> None:
        if (kind, object_id) == ("message", spam):
            raise GraphTransient("cannot", status=500)

    mailbox.hook = failing
    failed = await world.back_up(folders=choice)
    assert [(e.kind, e.object_id) for e in failed.not_stored] == [("message", spam)]
    mailbox.hook = nothing
    mailbox.move(spam, mailbox.junk)
    result = await world.back_up(folders=choice)
    assert (result.outcome, result.not_stored) == (Outcome.COMPLETE, ())
    records = await world.records()
    where = records[spam]["folder_id"] if spam in records else None
    assert where == (None if excluded else mailbox.junk)


def _attachment(number: int) -> dict[str, Any]:
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "id": f"A{number}",
        "name": f"{number}.txt",
        "size": 5,
        "isInline": False,
        "lastModifiedDateTime": f"2026-01-0{number}T00:00:00Z",
        "contentBytes": base64.b64encode(b"hello").decode(),
    }


class Streaming(ScriptedMailbox):
    """Gives the content of every attachment by itself, too."""

    @asynccontextmanager
    async def open_attachment(
        self, message_id: str, attachment_id: str
    ) -> AsyncIterator[ContentStream]:
        yield _hello()


async def _hello() -> AsyncIterator[bytes]:
    yield b"hello"


async def test_full_run_finds_an_attachment_added_together_with_a_change_of_state() -> None:
    """``--full`` compares all attachments, also those of mail whose touch had another reason."""
    world = World(Streaming())
    message = world.mailbox.add(world.inbox, hasAttachments=True)
    world.mailbox.attachments[message] = [_attachment(1)]
    await world.back_up()
    world.mailbox.attachments[message].append(_attachment(2))
    world.mailbox.update(message, isRead=True)
    await world.back_up()
    await world.back_up(full=True)
    record = (await world.records())[message]
    assert [a["attachment_id"] for a in record["attachments"]] == ["A1", "A2"]
