"""Searches of mailboxes that were backed up: against the emulator's truth, beside runs, and Atlas's."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest

from atlas_async.catalog.layout import index_head_key, index_part_key, index_prefix
from atlas_async.catalog.search_index import read_index_head
from atlas_async.config.settings import Limits
from atlas_async.model.events import SearchProgress
from atlas_async.model.report import Outcome
from atlas_async.operations.found import FindReport, IndexMode
from atlas_async.operations.selection import Selection
from atlas_async.pipeline.stop import StopSignal
from atlas_async.sdk import Atlas
from atlas_async.search.query import Query
from tests.fakes.golden import golden_metadata, golden_settings, golden_store
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.fakes.vaults import plant
from tests.search.posts import ids
from tests.search.test_finding import has

EVERY = Selection(made_from=datetime(1, 1, 1, tzinfo=UTC))
VARIED = replace(SMALL, messages=60)


async def find(rig: Rig, query: Query, **options: Any) -> FindReport:
    """Search the rig's bucket."""
    async with rig.engine() as atlas:
        return await atlas.find(query, **options)


def people(resource: dict[str, Any], *names: str) -> list[str]:
    """Return names and addresses of a message."""
    found = []
    for name in names:
        value = resource.get(name)
        for holder in value if isinstance(value, list) else [value] if value else []:
            found += [text for text in holder["emailAddress"].values() if text]
    return found


def texts(resource: dict[str, Any], record: Any) -> dict[str, list[str]]:
    """Return a message's texts by place; bodies without their markup, taken off by plain rules."""
    body = resource["body"]["content"]
    if resource["body"]["contentType"] == "html":
        body = plain(body)
    return {
        "sender": people(resource, "from", "sender"),
        "recipient": people(resource, "toRecipients", "ccRecipients", "bccRecipients"),
        "subject": [resource["subject"] or ""],
        "body": [body],
        "attachment": [item["name"] for item in record.get("attachments", [])],
        "reply": people(resource, "replyTo"),
    }


def plain(html: str) -> str:
    """Return the text of a body of the emulator's, whose markup is simple."""
    from html import unescape

    inner = html[html.index("<body>") :] if "<body>" in html else html
    pieces = [piece.partition(">")[2] for piece in f">{inner}".split("<")]
    return unescape(" ".join(pieces))


async def test_finds_what_the_mailbox_holds() -> None:
    """Hundreds of queries made of a mailbox's own words find exactly the messages that have them."""
    async with open_rig(VARIED) as rig:
        await rig.back_up_user()
        held: dict[str, dict[str, list[str]]] = {}
        async with rig.engine() as atlas:
            view = await atlas.open_snapshot(mailbox=USER)
            async for record in view.messages():
                shown = await atlas.read_message(record["object_id"], mailbox=USER)
                held[record["object_id"]] = texts(shown.resource, record)
            dice = random.Random(11)
            for _ in range(150):
                place, asked = _asked(dice, held)
                wanted = {
                    name
                    for name, of in held.items()
                    if all(_stands(of, place, text) for text in asked)
                }
                query = in_place(place, asked)
                for mode in (IndexMode.AUTO, IndexMode.NONE):
                    assert ids(await atlas.find(query, index=mode)) == wanted, (query, mode)


def in_place(place: str, asked: list[str]) -> Query:
    """Return a query for texts in one place."""
    fields: dict[str, Any] = {place: tuple(asked)}
    return Query(**fields)


def _asked(dice: random.Random, held: dict[str, dict[str, list[str]]]) -> tuple[str, list[str]]:
    """Return a place and one or two texts cut out of some message."""
    place = dice.choice(["words", "sender", "recipient", "subject", "body", "attachment"])
    found: list[str] = []
    while not found:
        of = held[dice.choice(list(held))]
        source = dice.choice(["subject", "body", "sender"]) if place == "words" else place
        words = [word for text in of[source] for word in text.split() if word.isalnum()]
        if not words:
            place = "words"
            continue
        start = dice.randrange(len(words))
        piece = words[start : start + dice.randint(1, 2)]
        if dice.random() < 0.3:
            piece[-1] = piece[-1][: dice.randint(1, len(piece[-1]))]
        text = " ".join(piece)
        found = [f'"{text}"' if dice.random() < 0.3 else text]
        if dice.random() < 0.3:
            found.append(dice.choice(words))
    return place, found


def _stands(of: dict[str, list[str]], place: str, text: str) -> bool:
    where = list(of) if place == "words" else [place]
    return any(has(one, text) for name in where for one in of[name])


async def test_mail_that_was_deleted_is_found_where_it_was_last() -> None:
    """After a deletion the newest snapshot lacks the mail, and all snapshots together have it."""
    async with open_rig() as rig:
        await rig.back_up_user()
        gone, moved = (m["immutableId"] for m in rig.messages_in("inbox")[:2])
        first = (await rig.view()).summary
        rig.mutate(op="delete", message=gone, hard=True)
        rig.mutate(op="move", message=moved, folder="archive")
        await rig.back_up_user()
        second = (await rig.view()).summary
        assert first.snapshot_id != second.snapshot_id
        subjects = {m["immutableId"]: m["subject"] for m in rig.truth()["messages"]}
        assert gone not in subjects
        now = await find(rig, Query(words=("a",)), index=IndexMode.NONE)
        assert gone not in ids(now)
        every = await find(rig, Query(), selection=EVERY)
        shown = {m.record["object_id"]: m for m in every.matches}
        assert (shown[gone].snapshot_id, shown[gone].is_in_newest) == (first.snapshot_id, False)
        assert shown[gone].last_seen == first.created_at
        assert (shown[moved].snapshot_id, shown[moved].is_in_newest) == (second.snapshot_id, True)
        assert shown[moved].folder == ("Archive",)
        async with rig.engine() as atlas:
            match = shown[gone]
            read = await atlas.read_message(
                gone, snapshot=match.snapshot_id, mailbox=match.mailbox_id
            )
            assert read.record == match.record


async def test_index_follows_new_mail() -> None:
    """What a later run stored is found, and only that is indexed."""
    async with open_rig() as rig:
        await rig.back_up_user()
        first = await find(rig, Query(body=("zz",)))
        assert first.index.updated == 40
        rig.mutate(op="bulk-create", folder="inbox", count=7)
        await rig.back_up_user()
        second = await find(rig, Query(body=("the",)))
        assert (second.index.updated, second.index.documents) == (7, 47)
        assert ids(second) == ids(await find(rig, Query(body=("the",)), index=IndexMode.NONE))


async def test_a_search_takes_no_lease_and_disturbs_no_run() -> None:
    """A search that makes an index while a backup runs: both come to their end, both are right."""
    async with open_rig(VARIED, limits=replace(Limits(), page_size=5, retries=2)) as rig:
        await rig.back_up_user()
        rig.mutate(op="bulk-create", folder="inbox", count=60)
        rig.emulator.control.configure(latency=0.02)
        results: list[Any] = []

        async def back_up() -> None:
            results.append(await rig.back_up_user())

        async with anyio.create_task_group() as group:
            group.start_soon(back_up)
            for _ in range(3):
                report = await find(rig, Query(body=("the",)))
                assert report.notices == []
        assert results[0].outcome is Outcome.COMPLETE
        rig.emulator.control.configure(latency=0.0)
        await rig.assert_exact(await rig.view(), rig.truth())
        assert not rig.keys(f"catalog/{USER}/lease/")


async def test_pruning_keeps_the_index_and_removes_what_it_left() -> None:
    """Parts that the index names stay, others go; the next search needs no repair."""
    async with open_rig() as rig:
        await rig.back_up_user()
        await find(rig, Query(body=("the",)))
        before = rig.keys(index_prefix(USER))
        litter = index_part_key(USER, "7" * 64)
        await plant(rig.store, litter, b"z" * 50)
        async with rig.engine() as atlas:
            report = await atlas.prune(older_than=0)
            assert report.mailboxes[0].keys == [litter]
            assert rig.keys(index_prefix(USER)) == before
            again = await atlas.find(Query(body=("the",)))
            assert (again.notices, again.index.updated) == ([], 0)
            await plant(rig.store, index_head_key(USER), b"y" * 50)
            report = await atlas.prune(older_than=0)
            assert report.exit_code == 0
            assert rig.keys(index_prefix(USER)) == [index_head_key(USER)]
            vault = rig.vault()
            newer = {"format": 2, "kind": "index", "mailbox_id": USER}
            await vault.put_document(index_head_key(USER), newer)
            assert (await atlas.prune(older_than=0)).exit_code == 16


async def test_verify_looks_past_the_index() -> None:
    """A damaged index is no damage to a backup: verify says nothing of it, a search repairs it."""
    async with open_rig() as rig:
        await rig.back_up_user()
        await find(rig, Query(body=("the",)))
        for key in rig.keys(index_prefix(USER)):
            await plant(rig.store, key, b"x" * 50)
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0
            assert (await atlas.find(Query(body=("the",)))).exit_code == 0
            assert (await read_index_head(rig.vault())) is not None


async def test_bytes_of_requests_of_a_search_with_an_index() -> None:
    """A search of an indexed mailbox reads the rows, a few parts, and the messages that match."""
    async with open_rig(VARIED) as rig:
        await rig.back_up_user()
        async with rig.engine() as atlas:
            await atlas.update_index()
            report = await atlas.find(Query(body=("7244",)))
        assert report.opened == report.found < 10


async def test_the_sdk_stops_in_order() -> None:
    """A stop signal ends a search with what it has; events tell how far it came."""
    async with open_rig() as rig:
        await rig.back_up_user()
        stop = StopSignal()
        async with rig.engine() as atlas, atlas.events() as events:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    async for event in events:
                        if isinstance(event, SearchProgress) and event.done >= 5:
                            stop.request()

                group.start_soon(watch)
                report = await atlas.find(Query(body=("the",)), stop=stop)
                group.cancel_scope.cancel()
            assert report.exit_code == 130
            assert 5 <= report.index.updated < 40
            again = await atlas.find(Query(body=("the",)))
            assert again.index.updated == 40 - report.index.updated


GOLDEN_USER = "user0000@contoso.com"
NOTED = golden_metadata()


@pytest.mark.parametrize("mode", [IndexMode.AUTO, IndexMode.NONE])
async def test_what_atlas_wrote_is_found(mode: IndexMode) -> None:
    """Atlas's snapshots name no senders, times or folders: the messages themselves tell."""
    async with Atlas(golden_settings(), store=golden_store()) as atlas:
        held: dict[str, dict[str, list[str]]] = {}
        times: dict[str, str] = {}
        view = await atlas.open_snapshot(mailbox=GOLDEN_USER)
        async for record in view.messages():
            assert record["sender"] == ""
            shown = await atlas.read_message(record["object_id"], mailbox=GOLDEN_USER)
            held[record["object_id"]] = texts(shown.resource, record)
            times[record["object_id"]] = shown.resource["receivedDateTime"]
        assert len(held) == 35
        dice = random.Random(5)
        for _ in range(40):
            place, asked = _asked(dice, held)
            wanted = {n for n, of in held.items() if all(_stands(of, place, t) for t in asked)}
            query = in_place(place, asked)
            report = await atlas.find(query, mailboxes=[GOLDEN_USER], index=mode)
            assert ids(report) == wanted, query
        report = await atlas.find(Query(), mailboxes=[GOLDEN_USER], index=mode)
        assert ids(report) == set(held)
        for match in report.matches:
            assert match.record["received"] == times[match.record["object_id"]]
            assert match.record["sender"]
            assert match.is_in_newest
            assert match.folder[0].startswith("Folder ")
        name = sorted(times, key=times.__getitem__)[20]
        first = NOTED["snapshots"][GOLDEN_USER][0]["snapshot_id"]
        old = await atlas.find(Query(), selection=Selection(snapshot=first), index=mode)
        assert {match.snapshot_id for match in old.matches} == {first}
        assert {match.is_in_newest for match in old.matches} == {True}
        address = held[name]["sender"][-1]
        assert "@" in address
        report = await atlas.find(Query(sender=(address,)), mailboxes=[GOLDEN_USER], index=mode)
        assert name in ids(report)
        moment = datetime.fromisoformat(times[name])
        late = await atlas.find(
            Query(), mailboxes=[GOLDEN_USER], selection=Selection(received_from=moment)
        )
        assert ids(late) == {one for one, when in times.items() if when >= times[name]}
        older = await atlas.find(Query(), mailboxes=[GOLDEN_USER], selection=EVERY, index=mode)
        assert len(ids(older)) >= 35
