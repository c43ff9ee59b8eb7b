"""A bucket that Atlas 1.3.0 wrote is listed, verified, read and continued."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.errors import KeyMaterialError
from atlas_async.model.report import Outcome
from atlas_async.sdk import Atlas
from tests.fakes.clock import FakeClock
from tests.fakes.golden import (
    GOLDEN,
    golden_metadata,
    golden_objects,
    golden_settings,
    golden_store,
)
from tests.fakes.histories import graph_settings

USERS = ("user0000@contoso.com", "user0001@contoso.com")
NOTED = golden_metadata()
AFTER_ATLAS = datetime(2027, 1, 1, tzinfo=UTC)
SAMPLES = sorted(path.name for path in (GOLDEN / "plain").glob("data__*"))


@pytest.fixture(params=[0, 1], ids=["dek-v0", "dek-v1"])
def atlas(request: pytest.FixtureRequest) -> Atlas:
    """Give an engine over the golden bucket, with the key wrapped in either way."""
    return Atlas(golden_settings(), store=golden_store(dek_version=request.param))


async def test_its_mailboxes_and_snapshots_are_listed_with_their_counts(atlas: Atlas) -> None:
    """Each of Atlas's snapshots is shown with all that Atlas had seen until then, incomplete."""
    async with atlas:
        assert [m.mailbox_id for m in await atlas.list_mailboxes()] == list(USERS)
        for user in USERS:
            listed = await atlas.list_snapshots(user)
            noted = NOTED["snapshots"][user]
            assert [(s.snapshot_id, s.created_at) for s in listed] == [
                (n["snapshot_id"], n["created_at"]) for n in noted
            ]
            assert [s.new + s.changed for s in listed] == [n["entries"] for n in noted]
            assert {(s.complete, s.written_by) for s in listed} == {(False, "atlas")}
        counts = [[s.messages for s in await atlas.list_snapshots(user)] for user in USERS]
        assert counts == [[30, 33, 35], [30, 32, 32]]


async def test_it_verifies_with_the_two_attachments_that_atlas_left_out(atlas: Atlas) -> None:
    """Nothing is damaged, and what Atlas recorded without content is reported: exit code 3."""
    async with atlas:
        report = await atlas.verify()
    assert (report.damaged, report.missing, report.foreign) == ([], [], [])
    assert len(report.not_stored) == 2
    assert {entry.kind for entry in report.not_stored} == {"attachment"}
    assert (report.exit_code, report.snapshots) == (3, 6)
    kinds = [key.split("/")[0] for key in golden_objects()]
    assert report.messages == kinds.count("data")
    assert report.attachments == kinds.count("attachments")
    assert report.checked == report.ok == len(kinds) - 1


async def test_every_message_of_every_snapshot_reads_back_as_it_was_written() -> None:
    """Each message's bytes are those whose hash Atlas's author noted."""
    noted = NOTED["plaintext"]
    async with Atlas(golden_settings(), store=golden_store()) as atlas:
        for user in USERS:
            for summary in NOTED["snapshots"][user]:
                view = await atlas.open_snapshot(summary["snapshot_id"])
                records = [record async for record in view.messages()]
                assert len({r["object_id"] for r in records}) == len(records)
                for record in records:
                    read = await atlas.read_message(
                        record["object_id"], snapshot=summary["snapshot_id"]
                    )
                    key = f"data/{user}/{record['checksum']}"
                    digest = hashlib.sha256(read.plaintext).hexdigest()
                    assert digest == noted[key]["plaintext_sha256"]
                    assert record["size_bytes"] == noted[key]["plaintext_size"]
                    assert read.resource == json.loads(read.plaintext)


@pytest.mark.parametrize("sample", SAMPLES)
async def test_samples_are_read_by_their_checksum(sample: str) -> None:
    """A stored message is found by the checksum in its key, byte for byte."""
    _, mailbox, name = sample.removesuffix(".json").split("__")
    async with Atlas(golden_settings(), store=golden_store()) as atlas:
        for summary in NOTED["snapshots"][mailbox]:
            view = await atlas.open_snapshot(summary["snapshot_id"])
            if name in {r["checksum"] async for r in view.messages()}:
                read = await atlas.read_message(name, snapshot=summary["snapshot_id"])
                assert read.plaintext == (GOLDEN / "plain" / sample).read_bytes()
                return
    pytest.fail("no snapshot shows this object")


async def test_a_snapshot_shows_the_newest_version_of_what_atlas_had_seen(atlas: Atlas) -> None:
    """The third run's snapshot has the third version of a message, the first run's the first."""
    changed = NOTED["mutations"][0]["ops"][1]["message"]
    subjects = []
    async with atlas:
        for summary in NOTED["snapshots"][USERS[0]]:
            record = await (await atlas.open_snapshot(summary["snapshot_id"])).find(changed)
            assert record is not None
            subjects.append(record["subject"])
    assert subjects[1:] == ["Aktualisiert ✅ 更新", "third version"]
    assert subjects[0] not in subjects[1:]


async def test_a_wrong_passphrase_is_refused_before_anything_is_read(atlas: Atlas) -> None:
    """The key does not open: exit code 12, and the hint names the setting."""
    wrong = golden_settings(passphrase="not this one")
    async with Atlas(wrong, store=golden_store()) as opened:
        with pytest.raises(KeyMaterialError) as caught:
            await opened.list_mailboxes()
    assert caught.value.exit_code == 12
    assert "ATLAS_ENCRYPTION_PASSPHRASE" in caught.value.hint
    assert "not this one" not in f"{caught.value!r} {caught.value} {caught.value.hint}"


async def test_a_backup_with_a_wrong_passphrase_changes_nothing() -> None:
    """A run that cannot open the key writes no object and replaces none."""
    store = golden_store()
    before = dict(store.bucket.objects)
    async with Emulator(Corpus(CorpusOptions(mailboxes=1, messages=5)), tls=True) as emulator:
        wrong = golden_settings(graph=graph_settings(emulator), passphrase="wrong")
        async with Atlas(wrong, store=store) as atlas:
            with pytest.raises(KeyMaterialError):
                await atlas.backup([USERS[0]])
    assert store.bucket.objects == before


@pytest.mark.parametrize("dek_version", [0, 1])
async def test_it_is_continued_without_touching_what_atlas_wrote(dek_version: int) -> None:
    """A first run over Atlas's bucket adds one exact snapshot; every old object stays as it is."""
    store = golden_store(dek_version=dek_version)
    before = dict(store.bucket.objects)
    options = CorpusOptions(mailboxes=2, messages=40, shared=0, rooms=0, guests=0, unlicensed=0)
    async with Emulator(Corpus(options), tls=True) as emulator:
        settings = golden_settings(graph=graph_settings(emulator))
        clock = FakeClock(AFTER_ATLAS, autojump=True)
        async with Atlas(settings, store=store, clock=clock) as atlas:
            report = await atlas.backup(list(USERS))
            assert [m.outcome for m in report.mailboxes] == [Outcome.COMPLETE] * 2
            truths = {u: emulator.control.mailbox_truth(u, content=False) for u in USERS}
            for user in USERS:
                await check_continued(atlas, user, truths[user])
            again = await atlas.backup(list(USERS))
            assert {m.outcome for m in again.mailboxes} == {Outcome.UNCHANGED}
            verified = await atlas.verify()
    assert (verified.exit_code, verified.damaged, verified.missing, verified.foreign) == (
        3,
        [],
        [],
        [],
    )
    assert {key: store.bucket.objects[key] for key in before} == before


async def check_continued(atlas: Atlas, user: str, truth: dict[str, Any]) -> None:
    """Check that the newest snapshot is the mailbox, and that Atlas's are listed before it."""
    listed = await atlas.list_snapshots(user)
    assert [s.written_by for s in listed[:3]] == ["atlas"] * 3
    assert [s.snapshot_id for s in listed[:3]] == [
        n["snapshot_id"] for n in NOTED["snapshots"][user]
    ]
    assert (listed[-1].written_by, listed[-1].complete) == ("atlas_async", True)
    view = await atlas.open_snapshot(None, user)
    shown = [record["object_id"] async for record in view.messages()]
    inside = {f["id"] for f in truth["folders"] if f["belowRoot"] and not f["search"]}
    expected = {m["immutableId"] for m in truth["messages"] if m["folderId"] in inside}
    assert len(shown) == len(set(shown)) == listed[-1].messages
    assert set(shown) == expected


async def test_folders_of_atlas_are_known_by_id_with_their_counts(atlas: Atlas) -> None:
    """Atlas stores no folder names: ids and how many messages of each are shown."""
    async with atlas:
        view = await atlas.open_snapshot(NOTED["snapshots"][USERS[0]][2]["snapshot_id"])
        shown = {folder.folder.id: folder.message_count for folder in view.folders}
        counted: dict[str, int] = {}
        async for record in view.messages():
            counted[record["folder_id"]] = counted.get(record["folder_id"], 0) + 1
            inside = view.messages(frozenset({record["folder_id"]}))
            assert record["object_id"] in {r["object_id"] async for r in inside}
    assert shown == counted
    assert {folder.folder.name for folder in view.folders} == {""}
