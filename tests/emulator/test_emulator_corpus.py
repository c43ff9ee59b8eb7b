"""The corpus: repeatable, lazy, sized as told; ids, filters and orders over large mailboxes."""

from __future__ import annotations

import tracemalloc
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.emulator import Corpus, CorpusOptions, Emulator, ServeOptions, serve
from atlas_async.emulator.blobs import SyntheticBlob, chunks, sha256_of
from atlas_async.emulator.ids import IdBook, MalformedId, MessageRef
from atlas_async.emulator.letters import generated_key, index_after, received_at
from atlas_async.emulator.shelf import Change, ChangeKind, Shelf
from atlas_async.errors import UsageError
from tests.fakes.graph_probe import GraphProbe

ADDRESS = "user0000@contoso.com"
SELECT = "$select=subject,receivedDateTime"


async def _truths(options: CorpusOptions) -> list[object]:
    async with Emulator(Corpus(options)) as emulator:
        told = emulator.control.truth()
        return [told["users"], told["mailboxes"]]


async def test_same_seed_same_tenant() -> None:
    """Two emulators of one seed agree in every id and byte; another seed differs."""
    options = CorpusOptions(mailboxes=1, messages=40, attachment_median=500, attachment_top=9_000)

    first, again = await _truths(options), await _truths(options)
    other = await _truths(CorpusOptions(seed=2, mailboxes=1, messages=40, attachment_top=9_000))

    assert first == again
    assert first != other


async def test_message_counts_add_up() -> None:
    """The folders below the root hold exactly the asked number of messages."""
    corpus = Corpus(
        CorpusOptions(mailboxes=3, messages=1_001, message_counts=(17,), messages_sigma=0.5)
    )
    async with Emulator(corpus) as emulator:
        counts = []
        for person in corpus.people[:3]:
            truth = emulator.control.mailbox_truth(person.upn, content=False)
            folders = [f for f in truth["folders"] if f["belowRoot"]]
            counts.append(sum(f["totalItemCount"] for f in folders))

    assert counts[0] == 17
    assert counts[1] != counts[2]


async def test_fixed_bodies_have_the_exact_size() -> None:
    """body_bytes fixes every body's length in UTF-8 bytes."""
    corpus = Corpus(CorpusOptions.plain(mailboxes=1, messages=50, body_bytes=12_000))
    letters = corpus.letters(corpus.people[0])

    sizes = {
        len(letters.resource(generated_key(2, i), with_body=True)["body"]["content"].encode())
        for i in range(30)
    }

    assert sizes == {12_000}


async def test_million_messages_cost_no_memory() -> None:
    """First, deep and last pages of a million-message mailbox stay within a few megabytes."""
    corpus = Corpus(CorpusOptions.plain(mailboxes=1, messages=2_500_000, body_bytes=300))
    inbox = f"users/{ADDRESS}/mailFolders/inbox"
    async with Emulator(corpus) as emulator, GraphProbe(emulator) as probe:
        tracemalloc.start()
        try:
            folder = (await probe.get(inbox)).body
            first = (await probe.get(f"{inbox}/messages/delta?{SELECT}")).body
            deep = (await probe.get(f"{inbox}/messages?$skip=999990&$top=10&{SELECT}")).body
            emulator.control.mutate(
                ADDRESS, {"op": "delete", "message": first["value"][0]["id"], "hard": True}
            )
            shifted = (await probe.get(f"{inbox}/messages?$skip=999989&$top=1&{SELECT}")).body
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert folder["totalItemCount"] == 1_000_000
    assert len(first["value"]) == len(deep["value"]) == 10
    assert shifted["value"][0]["id"] == deep["value"][0]["id"]
    assert peak < 20_000_000


async def test_huge_attachments_are_streamed() -> None:
    """A huge file is listed without bytes and streamed; its length is exact."""
    size = 40_000_000
    corpus = Corpus(
        CorpusOptions(mailboxes=1, messages=10, folders=0, huge_attachments=1, huge_bytes=size)
    )
    async with Emulator(corpus) as emulator, GraphProbe(emulator) as probe:
        newest = f"users/{ADDRESS}/mailFolders/inbox/messages?$top=1&$select=hasAttachments"
        message = (await probe.get(newest)).body["value"][0]
        path = f"users/{ADDRESS}/messages/{message['id']}/attachments"
        part = (await probe.get(path)).body["value"][0]
        value = await probe.get(f"{path}/{part['id']}/$value")

    assert message["hasAttachments"] is True
    assert "contentBytes" not in part
    assert len(value.raw) == size


async def test_localised_names_keep_their_well_known_names() -> None:
    """In a Finnish mailbox Inbox has another display name and the same well-known name."""
    corpus = Corpus(CorpusOptions(mailboxes=2, messages=5, languages=("en", "fi")))
    async with Emulator(corpus) as emulator, GraphProbe(emulator) as probe:
        answer = await probe.get("users/user0001@contoso.com/mailFolders/inbox")

    assert answer.body["displayName"] == "Saapuneet"


async def test_properties_need_a_running_server() -> None:
    """Asking for control before the start, or for a CA without TLS, says what to do."""
    idle = Emulator(Corpus(CorpusOptions(mailboxes=1, messages=1)))

    with pytest.raises(UsageError):
        _ = idle.control
    with pytest.raises(UsageError):
        _ = idle.ca_file


async def test_serve_runs_until_cancelled_and_cleans_up() -> None:
    """serve() announces the running emulator; its files are gone after cancellation."""
    seen: list[Emulator] = []
    options = ServeOptions(
        corpus=CorpusOptions(mailboxes=1, messages=3), client_secret="chosen", tls=True
    )

    async def run(announce: Callable[[Emulator], None]) -> None:
        await serve(options, announce=announce)

    async with anyio.create_task_group() as group:

        def announce(emulator: Emulator) -> None:
            seen.append(emulator)
            group.cancel_scope.cancel()

        group.start_soon(run, announce)

    assert seen[0].tenant.client_secret == "chosen"
    assert not await anyio.Path(seen[0].ca_file).exists()


@given(
    size=st.integers(0, 300_000),
    start=st.integers(0, 300_000),
    length=st.integers(0, 140_000),
    head=st.binary(max_size=20),
)
def test_synthetic_bytes_can_be_read_anywhere(
    size: int, start: int, length: int, head: bytes
) -> None:
    """Any slice equals the same slice of the whole, and every blob has its own hash."""
    blob = SyntheticBlob(7, size, head)
    whole = b"".join(chunks(blob))

    assert len(whole) == size
    assert blob.read(start, start + length) == whole[start : start + length]
    assert size < 40 or sha256_of(blob) != sha256_of(SyntheticBlob(8, size, head))


@given(
    key=st.integers(0, 2**63 - 1),
    folder=st.integers(0, 2**40),
    moves=st.integers(0, 2**31),
    immutable=st.booleans(),
    number=st.integers(0, 10_000),
)
def test_ids_read_back_what_was_written(
    key: int, folder: int, moves: int, immutable: bool, number: int
) -> None:
    """Message and attachment ids carry their numbers; other mailboxes and cases refuse them."""
    book, other = IdBook(uuid.UUID(int=1)), IdBook(uuid.UUID(int=2))
    text = book.message(key, folder, moves, immutable=immutable)
    ref = book.read_message(text)
    part = book.attachment(MessageRef(key, folder, moves, immutable), number)

    assert (ref.key, ref.immutable) == (key, immutable)
    assert immutable or (ref.folder, ref.moves) == (folder, moves)
    assert book.read_attachment(part) == (key, number)
    for wrong in (text.swapcase(), text[:-6], part, "x"):
        with pytest.raises(MalformedId):
            book.read_message(wrong)
    with pytest.raises(MalformedId):
        other.read_message(text)


@given(
    generated=st.integers(0, 12),
    taken=st.sets(st.integers(0, 11)),
    arrived=st.lists(st.integers(-5_000, 25_000), max_size=5),
)
def test_shelf_positions_are_sorted_by_time(
    generated: int, taken: set[int], arrived: list[int]
) -> None:
    """Whatever left or arrived, positions enumerate all that is held, newest first, once."""
    shelf = Shelf(2, generated)
    dates: dict[int, datetime] = {generated_key(2, i): received_at(i) for i in range(generated)}
    for seq, index in enumerate(sorted(taken)):
        if index < generated:
            shelf.take(Change(seq, generated_key(2, index), ChangeKind.DELETED))
            del dates[generated_key(2, index)]
    for serial, seconds in enumerate(arrived):
        key = (1 << 62) + serial
        dates[key] = received_at(0) - timedelta(seconds=seconds)
        shelf.put(Change(100 + serial, key, ChangeKind.CREATED))

    keys = list(shelf.keys(dates.__getitem__, 0))

    assert len(keys) == len(shelf) == len(dates)
    assert set(keys) == set(dates)
    moments = [dates[key] for key in keys]
    assert moments == sorted(moments, reverse=True)
    assert list(shelf.keys(dates.__getitem__, 0, newest_first=False)) == keys[::-1]
    assert list(shelf.keys(dates.__getitem__, 3)) == keys[3:]


@given(seconds=st.integers(-100_000, 100_000))
def test_index_after_counts_newer_messages(seconds: int) -> None:
    """index_after tells how many generated messages are newer than a moment."""
    moment = datetime(2026, 10, 1, 12, tzinfo=UTC) - timedelta(seconds=seconds)

    assert index_after(moment) == sum(1 for i in range(100) if received_at(i) > moment)
