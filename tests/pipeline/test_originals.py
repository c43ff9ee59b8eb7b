"""Originals: fetched once per content, kept through changes of state, never what mail is told by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.catalog.content import open_original
from atlas_async.catalog.layout import original_key
from atlas_async.crypto.envelope import OVERHEAD_BYTES
from atlas_async.errors import (
    ConsentError,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphThrottled,
    GraphTransient,
)
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import Outcome
from atlas_async.model.source import MessagePage
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.intake import STREAM_LEASE
from atlas_async.pipeline.ports import ContentStream
from tests.fakes.world import ScriptedMailbox, World, nothing

PREFIX = "catalog/fake@contoso.com/originals/"
REFUSED = GraphItemError("no MIME", status=500, code="ErrorMimeContentConversionFailed")


class Asked(ScriptedMailbox):
    """Counts what is asked for by kind; ``broken`` are messages whose MIME is answered so."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[tuple[str, str]] = []
        self.broken: dict[str, GraphError | ConsentError] = {}
        self.hook = self._note

    async def _note(self, kind: str, object_id: str) -> None:
        self.asked.append((kind, object_id))
        if kind == "mime" and object_id in self.broken:
            raise self.broken[object_id]

    def mimes(self) -> list[str]:
        """Return whose MIME was asked for since the last time."""
        found = [object_id for kind, object_id in self.asked if kind == "mime"]
        self.asked.clear()
        return found


def world_of(**options: Any) -> tuple[World, Asked]:
    """Return a world over a mailbox that counts."""
    mailbox = Asked()
    return World(mailbox, **options), mailbox


async def original_of(world: World, record: MessageRecord) -> bytes:
    """Read an original back."""
    async with open_original(world.vault, record) as content:
        read = b"".join([piece async for piece in content])
    assert content.size == record["original"]["size_bytes"] == len(read)
    return read


async def test_every_new_message_gets_the_bytes_it_was_given() -> None:
    """One request a message; the run after it asks for nothing."""
    world, mailbox = world_of()
    ids = {mailbox.add(world.inbox) for _ in range(7)}
    result = await world.back_up(mime=True)
    assert (result.outcome, result.originals_stored) == (Outcome.COMPLETE, 7)
    assert sorted(mailbox.mimes()) == sorted(ids)
    for object_id, record in (await world.records()).items():
        original = await original_of(world, record)
        assert f"Subject: subject of {object_id}\r\n".encode() in original
    assert (await world.back_up(mime=True)).outcome is Outcome.UNCHANGED
    assert mailbox.mimes() == []


async def test_nothing_is_asked_for_without_the_option() -> None:
    """MIME costs a request a message, so nobody gets it unasked."""
    world, mailbox = world_of()
    mailbox.add(world.inbox)
    await world.back_up()
    assert mailbox.mimes() == []
    assert not [key for key in world.bucket.objects if key.startswith(PREFIX)]


@pytest.mark.parametrize("mime", [True, False])
async def test_a_change_of_state_asks_for_nothing_and_keeps_the_original(*, mime: bool) -> None:
    """Read state, flag and folder are no part of it; the next rendering would differ anyway."""
    world, mailbox = world_of()
    other = mailbox.add_folder("Other")
    read, flagged, moved, same = (mailbox.add(world.inbox) for _ in range(4))
    await world.back_up(mime=True)
    before = await world.records()
    mailbox.mimes()
    mailbox.update(read, isRead=True)
    mailbox.update(flagged, flag={"flagStatus": "flagged"})
    mailbox.move(moved, other)
    result = await world.back_up(mime=mime)
    assert (result.outcome, result.stored, result.originals_stored) == (Outcome.COMPLETE, 0, 0)
    assert mailbox.mimes() == []
    after = await world.records()
    for object_id in (read, flagged, moved, same):
        assert after[object_id]["original"] == before[object_id]["original"]
    assert after[moved]["folder_id"] == other


class Sparse(Asked):
    """Shows nothing of a message but its state, once told to."""

    sparse = False

    async def message_page(self, *args: Any, **options: Any) -> MessagePage:
        page = await super().message_page(*args, **options)
        if not self.sparse:
            return page
        names = ("id", "isRead", "@odata.etag")
        return replace(page, items=tuple({n: item[n] for n in names} for item in page.items))


@pytest.mark.parametrize("first", [True, False])
async def test_a_sparse_update_of_state_is_a_touch_like_any(*, first: bool) -> None:
    """An original that is there stays, one that is lacking is fetched."""
    mailbox = Sparse()
    world = World(mailbox)
    message = mailbox.add(world.inbox)
    await world.back_up(mime=first)
    before = (await world.records())[message].get("original")
    mailbox.mimes()
    mailbox.sparse = True
    mailbox.update(message, isRead=True)
    assert (await world.back_up(mime=True)).exit_code == 0
    assert mailbox.mimes() == ([] if first else [message])
    record = (await world.records())[message]
    assert record["is_read"]
    assert (record["original"] == before) is first


async def test_a_changed_content_gets_a_new_original() -> None:
    """The old one was another message's; it stays for the older snapshot."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    await world.back_up(mime=True)
    old = (await world.records())[message]
    mailbox.update(message, subject="another")
    result = await world.back_up(mime=True)
    assert (result.stored, result.originals_stored) == (1, 1)
    new = (await world.records())[message]
    assert b"Subject: another" in await original_of(world, new)
    assert b"Subject: subject of" in await original_of(world, old)


async def test_a_changed_content_loses_its_original_in_a_run_without() -> None:
    """What is shown as the original must be the message's own."""
    world, mailbox = world_of()
    changed, kept = mailbox.add(world.inbox), mailbox.add(world.inbox)
    await world.back_up(mime=True)
    mailbox.update(changed, subject="another")
    await world.back_up()
    records = await world.records()
    assert "original" not in records[changed]
    assert "original" in records[kept]


async def test_the_rendering_decides_nothing() -> None:
    """Reading all again finds all known, although every MIME would be another one now."""
    world, mailbox = world_of()
    for _ in range(5):
        mailbox.add(world.inbox)
    await world.back_up(mime=True)
    before = await world.records()
    mailbox.mimes()
    objects = set(world.bucket.objects)
    result = await world.back_up(mime=True, full=True)
    assert (result.stored, result.originals_stored, mailbox.mimes()) == (0, 0, [])
    assert await world.records() == before
    assert {k for k in set(world.bucket.objects) - objects if "/originals/" in k} == set()


async def test_mail_stored_earlier_gets_its_original_when_it_is_touched_or_by_a_full_run() -> None:
    """A run with the option asks only for what Graph shows; ``full`` has it show all."""
    world, mailbox = world_of()
    touched, quiet = mailbox.add(world.inbox), mailbox.add(world.inbox)
    await world.back_up()
    mailbox.update(touched, isRead=True)
    result = await world.back_up(mime=True)
    assert (mailbox.mimes(), result.stored, result.originals_stored) == ([touched], 0, 1)
    records = await world.records()
    assert ("original" in records[touched], "original" in records[quiet]) == (True, False)
    result = await world.back_up(mime=True, full=True)
    assert (mailbox.mimes(), result.stored, result.originals_stored) == ([quiet], 0, 1)
    assert all("original" in record for record in (await world.records()).values())


async def test_mail_that_graph_gives_no_mime_of_is_complete_without() -> None:
    """It is stored, counted and listed; nothing is missing, and it is not asked for every time."""
    world, mailbox = world_of()
    secret, plain = mailbox.add(world.inbox), mailbox.add(world.inbox)
    mailbox.broken[secret] = REFUSED
    result = await world.back_up(mime=True)
    assert (result.outcome, result.exit_code, result.not_stored) == (Outcome.COMPLETE, 0, ())
    assert (result.originals_stored, result.originals_refused) == (1, 1)
    (refused,) = result.refused_originals
    assert (refused.object_id, refused.code) == (secret, "ErrorMimeContentConversionFailed")
    assert any("no MIME of 1 message" in notice for notice in result.notices)
    assert (await world.view()).summary.complete
    records = await world.records()
    assert records[secret]["original_refused"] == "ErrorMimeContentConversionFailed"
    assert "original" not in records[secret]
    assert "original_refused" not in records[plain]
    assert mailbox.mimes().count(secret) == 1
    mailbox.update(secret, isRead=True)
    touched = await world.back_up(mime=True)
    assert (touched.originals_refused, mailbox.mimes()) == (0, [])
    assert "original_refused" in (await world.records())[secret]


@pytest.mark.parametrize("options", [{"full": True}, {}])
async def test_a_refusal_is_asked_about_again_by_a_full_run_and_when_content_changes(
    options: dict[str, Any],
) -> None:
    """It may be given then, and stands in the row as any other."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    mailbox.broken[message] = REFUSED
    await world.back_up(mime=True)
    mailbox.broken.clear()
    if not options:
        mailbox.update(message, subject="no longer encrypted")
    result = await world.back_up(mime=True, **options)
    assert (result.originals_stored, result.originals_refused) == (1, 0)
    record = (await world.records())[message]
    assert "original_refused" not in record
    assert await original_of(world, record)


async def test_refusals_are_all_counted_and_the_first_are_listed() -> None:
    """A mailbox of encrypted mail must not make a report of its own size."""
    world, mailbox = world_of()
    for _ in range(120):
        mailbox.broken[mailbox.add(world.inbox)] = GraphItemError("no MIME", status=405)
    result = await world.back_up(mime=True)
    assert (result.originals_refused, len(result.refused_originals)) == (120, 100)
    assert {refused.code for refused in result.refused_originals} == {"GraphItemError"}
    assert result.exit_code == 0


PASSING = [
    GraphTransient("later", status=500, code="ErrorInternalServerError"),
    ConsentError("Access is denied"),
    GraphNotFound("not found", status=404, code="ErrorItemNotFound"),
    GraphError("odd", status=400, code="ErrorInvalidRequest"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
async def test_what_fails_in_passing_is_in_the_ledger_until_it_is_there(
    error: GraphError | ConsentError,
) -> None:
    """The message is stored, the original missing; runs that want none leave it as it is."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    mailbox.add(world.inbox)
    mailbox.broken[message] = error
    result = await world.back_up(mime=True)
    assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
    (entry,) = result.not_stored
    assert (entry.kind, entry.object_id, entry.permanent) == ("original", message, False)
    assert (result.originals_stored, len(await world.records())) == (1, 2)
    assert not (await world.view()).summary.complete
    mailbox.mimes()
    without = await world.back_up()
    assert (without.exit_code, mailbox.mimes()) == (3, [])
    again = await world.back_up(mime=True)
    assert (again.exit_code, mailbox.mimes()) == (3, [message])
    mailbox.broken.clear()
    healed = await world.back_up(mime=True)
    assert (healed.outcome, healed.not_stored) == (Outcome.COMPLETE, ())
    assert mailbox.mimes() == [message]
    assert (await world.view()).summary.complete
    assert await original_of(world, (await world.records())[message])


async def test_a_retry_of_the_ledger_gets_an_original_whatever_the_setting_says() -> None:
    """It was asked for by name; a refusal then ends the matter as well."""
    world, mailbox = world_of()
    message, secret = mailbox.add(world.inbox), mailbox.add(world.inbox)
    for one in (message, secret):
        mailbox.broken[one] = GraphTransient("later", status=503)
    entries = (await world.back_up(mime=True)).not_stored
    mailbox.broken = {secret: REFUSED}
    mailbox.mimes()
    result = await world.back_up(ledger=frozenset(entry.id for entry in entries))
    assert (result.outcome, result.not_stored) == (Outcome.COMPLETE, ())
    assert sorted(mailbox.mimes()) == sorted([message, secret])
    records = await world.records()
    assert "original" in records[message]
    assert "original_refused" in records[secret]


async def test_a_throttled_original_stops_the_mailbox_and_the_next_run_goes_on() -> None:
    """As with any request; nothing is taken for stored."""
    world, mailbox = world_of()
    ids = [mailbox.add(world.inbox) for _ in range(9)]
    mailbox.broken[ids[-1]] = GraphThrottled("throttled", status=429)
    assert (await world.back_up(mime=True)).outcome is Outcome.STOPPED
    mailbox.broken.clear()
    assert (await world.back_up(mime=True)).outcome is Outcome.COMPLETE
    assert all("original" in record for record in (await world.records()).values())
    assert await world.shown() == world.state()


async def test_a_message_deleted_before_its_original_was_fetched_is_gone() -> None:
    """The folder is asked once more, and says so; nothing stays behind in the ledger."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    mailbox.add(world.inbox)

    async def deleted(kind: str, object_id: str) -> None:
        if kind == "mime" and object_id == message and message in mailbox.messages:
            mailbox.delete(message)

    mailbox.hook = deleted
    result = await world.back_up(mime=True)
    assert (result.outcome, result.not_stored) == (Outcome.COMPLETE, ())
    assert await world.shown() == world.state()


async def test_a_message_that_leaves_while_it_is_tried_again_stays_for_this_run() -> None:
    """The folder has shown it; that it is gone the folder says to the next run, and the ledger with it."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    mailbox.broken[message] = GraphTransient("later", status=503)
    assert (await world.back_up(mime=True)).exit_code == 3

    async def deleted(kind: str, object_id: str) -> None:
        if kind == "mime" and object_id in mailbox.messages:
            mailbox.delete(object_id)

    mailbox.hook = deleted
    result = await world.back_up(mime=True)
    assert [entry.object_id for entry in result.not_stored] == [message]
    assert set(await world.records()) == {message}
    result = await world.back_up(mime=True)
    assert (result.outcome, result.not_stored) == (Outcome.COMPLETE, ())
    assert await world.shown() == world.state() == {}


def attachment(number: int) -> dict[str, Any]:
    """Return an attachment that comes within the list."""
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "id": f"A{number}",
        "name": f"{number}.txt",
        "size": 5,
        "isInline": False,
        "lastModifiedDateTime": f"2026-01-0{number}T00:00:00Z",
        "contentBytes": "aGVsbG8=",
    }


class Attached(Asked):
    """Gives the content of every attachment by itself, too."""

    @asynccontextmanager
    async def open_attachment(
        self, message_id: str, attachment_id: str
    ) -> AsyncIterator[ContentStream]:
        yield _hello()


async def _hello() -> AsyncIterator[bytes]:
    yield b"hello"


@pytest.mark.parametrize("mime", [True, False])
async def test_another_attachment_makes_another_original(*, mime: bool) -> None:
    """A draft's attachments change without its content; they are part of its MIME."""
    mailbox = Attached()
    world = World(mailbox)
    draft = mailbox.add(world.inbox, isDraft=True, hasAttachments=True)
    mailbox.attachments[draft] = [attachment(1)]
    await world.back_up(mime=True)
    before = (await world.records())[draft]
    mailbox.update(draft)
    await world.back_up(mime=mime)
    assert (await world.records())[draft]["original"] == before["original"]
    mailbox.mimes()
    mailbox.attachments[draft].append(attachment(2))
    mailbox.update(draft)
    await world.back_up(mime=mime)
    after = (await world.records())[draft]
    assert len(after["attachments"]) == 2
    assert mailbox.mimes() == ([draft] if mime else [])
    assert ("original" in after) is mime
    assert after.get("original") != before["original"]


async def test_a_touch_of_encrypted_mail_asks_for_its_attachments_only() -> None:
    """Encrypted mail has an attachment always; that its list is looked at changes no refusal."""
    mailbox = Attached()
    world = World(mailbox)
    secret = mailbox.add(world.inbox, hasAttachments=True)
    mailbox.attachments[secret] = [attachment(1)]
    mailbox.broken[secret] = REFUSED
    await world.back_up(mime=True)
    mailbox.asked.clear()
    mailbox.update(secret)
    result = await world.back_up(mime=True)
    assert ("attachments", secret) in mailbox.asked
    assert (mailbox.mimes(), result.originals_refused) == ([], 0)
    assert "original_refused" in (await world.records())[secret]


@pytest.mark.parametrize("mime", [True, False])
async def test_an_attachment_that_is_got_later_makes_another_original(*, mime: bool) -> None:
    """Nobody knows whether the rendering had it, so only one made afterwards is believed."""
    mailbox = Attached()
    world = World(mailbox)
    message = mailbox.add(world.inbox, hasAttachments=True)
    note = mailbox.hook

    async def refused(kind: str, object_id: str) -> None:
        await note(kind, object_id)
        if kind == "attachments":
            raise GraphTransient("later", status=503)

    mailbox.hook = refused
    assert (await world.back_up(mime=True)).exit_code == 3
    before = (await world.records())[message]["original"]
    mailbox.mimes()
    mailbox.hook = note
    mailbox.attachments[message] = [attachment(1)]
    assert (await world.back_up(mime=mime)).exit_code == 0
    after = (await world.records())[message]
    assert len(after["attachments"]) == 1
    assert mailbox.mimes() == ([message] if mime else [])
    assert after.get("original") != before


async def test_an_original_is_tried_once_a_run_together_with_attachments() -> None:
    """What was tried with a message's attachments is not tried again for itself."""
    mailbox = Attached()
    world = World(mailbox)
    message = mailbox.add(world.inbox, hasAttachments=True)
    mailbox.broken[message] = GraphTransient("later", status=503)
    note = mailbox.hook

    async def refused(kind: str, object_id: str) -> None:
        await note(kind, object_id)
        if kind == "attachments":
            raise GraphTransient("later", status=503)

    mailbox.hook = refused
    first = await world.back_up(mime=True)
    assert sorted(entry.kind for entry in first.not_stored) == ["attachment", "original"]
    mailbox.mimes()
    again = await world.back_up(mime=True)
    assert sorted(entry.kind for entry in again.not_stored) == ["attachment", "original"]
    assert mailbox.mimes() == [message]
    mailbox.hook, mailbox.broken = note, {}
    assert (await world.back_up(mime=True)).exit_code == 0
    assert mailbox.mimes() == [message]


async def test_what_the_store_lost_is_stored_again_by_a_full_run() -> None:
    """With the option; without it nothing is asked for and the row stays as it is."""
    world, mailbox = world_of()
    lost, kept = mailbox.add(world.inbox), mailbox.add(world.inbox)
    await world.back_up(mime=True)
    before = await world.records()
    key = original_key(mailbox.mailbox_id, before[lost]["original"]["checksum"])
    del world.bucket.objects[key]
    mailbox.mimes()
    await world.back_up(full=True)
    assert (mailbox.mimes(), await world.records()) == ([], before)
    await world.back_up(mime=True, full=True)
    assert mailbox.mimes() == [lost]
    after = await world.records()
    assert after[kept]["original"] == before[kept]["original"]
    assert await original_of(world, after[lost])


async def test_a_message_whose_object_is_stored_again_keeps_its_original() -> None:
    """A full run without the option restores what is lost, and nothing else changes."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    await world.back_up(mime=True)
    before = (await world.records())[message]
    del world.bucket.objects[f"data/{mailbox.mailbox_id}/{before['checksum']}"]
    assert (await world.back_up(full=True)).stored == 1
    assert (await world.records())[message]["original"] == before["original"]


class Breaking(Asked):
    """Streams break off so many times before they are whole; MIME has ``size`` bytes."""

    def __init__(self, size: int, breaks: int = 0) -> None:
        super().__init__()
        self.size = size
        self.breaks = breaks
        self.at_once = 0
        self.most_at_once = 0

    def mime(self, message_id: str) -> bytes:
        head = super().mime(message_id)
        return head + b"x" * (self.size - len(head))

    @asynccontextmanager
    async def open_mime(self, message_id: str) -> AsyncIterator[ContentStream]:
        async with super().open_mime(message_id) as stream:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                yield self._cut(stream)
            finally:
                self.at_once -= 1

    async def _cut(self, stream: ContentStream) -> AsyncIterator[bytes]:
        async for piece in stream:
            await anyio.lowlevel.checkpoint()
            yield piece
            if self.breaks:
                self.breaks -= 1
                raise GraphTransient("cut short")


@pytest.mark.parametrize("size", [200_000, 3 << 20])
async def test_a_stream_that_breaks_off_is_opened_again(size: int, tmp_path: Path) -> None:
    """Long ones pass through a spool; what is stored is one whole rendering."""
    mailbox = Breaking(size, breaks=2)
    world = World(mailbox, budgets=Budgets.of(16 << 20))
    message = mailbox.add(world.inbox)
    result = await world.back_up(mime=True, spool_directory=tmp_path)
    assert (result.outcome, result.originals_stored) == (Outcome.COMPLETE, 1)
    assert mailbox.mimes() == [message] * 3
    record = (await world.records())[message]
    read = await original_of(world, record)
    assert len(read) == size
    assert b"X-Rendering: 3\r\n" in read
    (key,) = [key for key in world.bucket.objects if key.startswith(PREFIX)]
    assert len(world.bucket.objects[key].body) == size + OVERHEAD_BYTES
    assert list(tmp_path.iterdir()) == []


async def test_a_stream_that_always_breaks_off_is_given_up() -> None:
    """After three times it is left to the next run, and nothing of it to the bucket."""
    mailbox = Breaking(1000, breaks=99)
    world = World(mailbox)
    message = mailbox.add(world.inbox)
    result = await world.back_up(mime=True)
    assert [entry.kind for entry in result.not_stored] == ["original"]
    assert mailbox.mimes() == [message] * 3
    assert not [key for key in world.bucket.objects if key.startswith(PREFIX)]


async def test_a_stream_that_cannot_be_opened_is_left_alone() -> None:
    """Opening has had all its tries by then: each costs minutes where Graph fails over one item."""
    world, mailbox = world_of()
    message = mailbox.add(world.inbox)
    mailbox.broken[message] = GraphTransient("later", status=500)
    await world.back_up(mime=True)
    assert mailbox.mimes() == [message]


async def test_an_empty_answer_is_no_original() -> None:
    """Not even the shortest message has no bytes."""
    world, mailbox = world_of()
    mailbox.add(world.inbox)
    mailbox.mime = lambda message_id: message_id[:0].encode()  # type: ignore[method-assign]
    result = await world.back_up(mime=True)
    assert [(e.kind, e.code) for e in result.not_stored] == [("original", "EmptyContent")]
    assert not [key for key in world.bucket.objects if key.startswith(PREFIX)]


async def test_long_originals_stay_within_the_byte_budget(tmp_path: Path) -> None:
    """As many at once as their leases fit into the budget for content, however many there are."""
    mailbox = Breaking(2 << 20)
    world = World(mailbox, budgets=Budgets.of(16 << 20))
    for _ in range(12):
        mailbox.add(world.inbox)
    result = await world.back_up(mime=True, page_size=12, spool_directory=tmp_path)
    assert result.originals_stored == 12
    budget = world.budgets.content.statistics
    assert mailbox.most_at_once == budget.capacity // STREAM_LEASE == 2
    assert budget.peak <= budget.capacity
    assert budget.used == 0


async def test_a_run_killed_at_any_put_goes_on_to_have_every_original() -> None:
    """Whatever was written last, the next run's snapshot is whole and names what is there."""
    stops = 0
    while True:
        world, mailbox = world_of()
        for _ in range(5):
            mailbox.add(world.inbox)
        mailbox.broken[mailbox.add(world.inbox)] = REFUSED
        left = stops
        with anyio.CancelScope() as scope:

            async def stop(_key: str, scope: anyio.CancelScope = scope) -> None:
                nonlocal left
                if not left:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                left -= 1

            await world.back_up(mime=True, before_put=stop)
        if not scope.cancelled_caught:
            break
        stops += 1
        mailbox.hook = nothing if stops % 2 else mailbox.hook
        assert (await world.back_up(mime=True)).exit_code == 0
        assert await world.shown() == world.state()
        for record in (await world.records()).values():
            if "original_refused" not in record:
                assert await original_of(world, record)
    assert stops > 12
