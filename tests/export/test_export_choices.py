"""What is taken: mailboxes, folders, times and messages, in one export or in a dry run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atlas_async.errors import SnapshotNotFound, UsageError
from atlas_async.export.forms import ExportForm
from atlas_async.operations.selection import Selection
from atlas_async.pipeline.stop import StopSignal
from atlas_async.sdk import Atlas
from tests.export.exports import FORMS, PLACES, contents, exported, manifest_of
from tests.export.mail import leaves, read, text_of
from tests.fakes.golden import golden_metadata, golden_settings, golden_store
from tests.fakes.rig import SMALL, USER, Rig, open_rig

OTHER = "user0001@contoso.com"
GOLDEN_USERS = (USER, OTHER)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Give a bucket with two mailboxes."""
    async with open_rig(replace(SMALL, mailboxes=2, messages=25)) as rig:
        await rig.backup([USER, OTHER])
        yield rig


async def test_every_mailbox_has_a_directory_of_its_own(rig: Rig, tmp_path: Path) -> None:
    """Without a mailbox all are taken; with several too they are kept apart."""
    every = await exported(rig, tmp_path / "all", Selection())
    named = await exported(
        rig, tmp_path / "named", Selection(mailbox=OTHER), Selection(mailbox=USER)
    )
    assert {path.split("/")[0] for path in contents(every.path)} == {USER, OTHER}
    assert contents(every.path) == contents(named.path)
    assert [box.mailbox_id for box in every.mailboxes] == [USER, OTHER]
    alone = await exported(rig, tmp_path / "alone")
    assert {f"{USER}/{path}" for path in contents(alone.path)} < set(contents(every.path))


async def test_folders_and_those_below(rig: Rig, tmp_path: Path) -> None:
    """A folder lies where it lies in the mailbox, with or without what is below."""
    folders = [f for f in rig.truth()["folders"] if f["belowRoot"] and len(f["path"]) > 1]
    below = folders[0]
    above = below["path"][0]
    whole = await exported(rig, tmp_path / "whole", Selection(mailbox=USER, folders=(above,)))
    assert all(path.startswith(f"{above}/") for path in contents(whole.path))
    assert (tmp_path / "whole" / "/".join(below["path"])).is_dir()
    flat = await exported(
        rig, tmp_path / "flat", Selection(mailbox=USER, folders=(above,), subtree=False)
    )
    assert [folder.names for folder in flat.folders] == [(above,)]
    name = "/".join(below["path"])
    deep = await exported(rig, tmp_path / "deep", Selection(mailbox=USER, folders=(name,)))
    assert (tmp_path / "deep" / name).is_dir()
    assert all(path.startswith(f"{name}/") for path in contents(deep.path))


async def test_folders_are_told_as_a_tree(rig: Rig, tmp_path: Path) -> None:
    """Every folder of the mailbox, each followed by those below it."""
    dry = await exported(rig, tmp_path / "mail", dry_run=True)
    names = [folder.names for folder in dry.folders]
    wanted = [f for f in rig.truth()["folders"] if f["belowRoot"] and not f["search"] and f["path"]]
    assert sorted(names) == sorted(tuple(f["path"]) for f in wanted)
    for place, name in enumerate(names):
        before = names[place - 1]
        assert len(name) == 1 or before[: len(name) - 1] == name[:-1]


async def test_messages_and_times(rig: Rig, tmp_path: Path) -> None:
    """Single messages by their ids, and those received within a time."""
    records = [record async for record in (await rig.view()).messages()]
    ids = (records[3]["object_id"], records[9]["checksum"][:20])
    two = await exported(rig, tmp_path / "two", Selection(mailbox=USER, messages=ids))
    assert {line["object_id"] for line in manifest_of(two)} == {
        records[3]["object_id"],
        records[9]["object_id"],
    }
    moments = sorted(datetime.fromisoformat(record["received"]) for record in records)
    first, last = moments[5], moments[20]
    within = Selection(mailbox=USER, received_from=first, received_before=last)
    some = await exported(rig, tmp_path / "some", within)
    assert some.messages == sum(first <= moment < last for moment in moments)


async def test_the_same_mail_found_twice_is_written_once(rig: Rig, tmp_path: Path) -> None:
    """Selections of one mailbox share its folders; a folder keeps one place."""
    records = [record async for record in (await rig.view()).messages()]
    snapshot = (await rig.view()).summary.snapshot_id
    parts = [
        Selection(mailbox=USER, snapshot=snapshot, messages=(record["object_id"],))
        for record in records
    ]
    apart = await exported(rig, tmp_path / "apart", *parts)
    whole = await exported(rig, tmp_path / "whole")
    assert contents(apart.path) == contents(whole.path)


@pytest.mark.parametrize(("name", "form"), PLACES)
async def test_overlapping_selections_write_a_message_once(
    rig: Rig, tmp_path: Path, name: str, form: ExportForm
) -> None:
    """However many selections mean it, with damage and in a dry run too, and when it continues."""
    lacking = rig.messages_in("inbox")[0]["immutableId"]
    rig.mutate(op="update", message=lacking, patch={"subject": "newer"})
    rig.emulator.control.trouble(USER, lacking, status=403, code="ErrorAccessDenied")
    await rig.back_up_user()
    parts = [
        Selection(mailbox=USER, folders=("inbox",)),
        Selection(mailbox=USER),
        Selection(mailbox=USER, folders=("inbox",), subtree=False),
    ]
    once = await exported(rig, tmp_path / f"once-{name}", form=form)
    dry = await exported(rig, tmp_path / name, *parts, form=form, dry_run=True)
    stop = StopSignal()
    stop.request()
    first = await exported(rig, tmp_path / name, *parts, form=form, stop=stop)
    assert first.interrupted
    report = await exported(rig, tmp_path / name, *parts, form=form)
    assert (report.resumed, report.messages, dry.messages) == (True, once.messages, once.messages)
    ids = [line["object_id"] for line in manifest_of(report)]
    assert sorted(ids) == sorted(set(ids)) == sorted(m["object_id"] for m in manifest_of(once))
    assert sum(map(len, contents(report.path).values())) == sum(
        map(len, contents(once.path).values())
    )
    assert report.mailboxes == once.mailboxes
    assert report.notes == once.notes
    assert report.not_stored == once.not_stored
    counts = {folder.names: folder.messages for folder in once.folders}
    assert {folder.names: folder.messages for folder in report.folders} == counts


async def test_names_of_paths_and_forms_as_text(rig: Rig, tmp_path: Path) -> None:
    """Both are taken as text; what they cannot be is said."""
    async with rig.engine() as atlas:
        report = await atlas.export([Selection(mailbox=USER)], str(tmp_path / "m"), form="Maildir")
        assert (report.path, report.form) == (tmp_path / "m", ExportForm.MAILDIR)
        with pytest.raises(UsageError, match="'pst'") as refused:
            await atlas.export([Selection(mailbox=USER)], tmp_path / "n", form="pst")
        assert refused.value.hint == "the forms are eml, mbox, maildir, json"
        with pytest.raises(UsageError, match="nothing is selected"):
            await atlas.export([], tmp_path / "n")


async def test_empty_folders_belong_to_folders_that_were_asked_for(
    rig: Rig, tmp_path: Path
) -> None:
    """With single messages come only their folders, at the same place; with folders all."""
    records = [record async for record in (await rig.view()).messages()]
    paths = {f["id"]: f["path"] for f in rig.truth()["folders"]}
    deep = max(records, key=lambda record: len(paths[record["folder_id"]]))
    for form in FORMS:
        named = Selection(mailbox=USER, messages=(deep["object_id"],))
        report = await exported(rig, tmp_path / f"one-{form}", named, form=form)
        assert [list(f.names) for f in report.folders] == [paths[deep["folder_id"]]]
        whole = await exported(rig, tmp_path / f"all-{form}", form=form)
        assert any(not folder.messages for folder in whole.folders)
        found, every = (
            {p.relative_to(one.path).as_posix() for p in one.path.rglob("*") if p.is_dir()}
            for one in (report, whole)
        )
        (line,) = manifest_of(report)
        above = {p.as_posix() for p in Path(line["path"]).parents} - {"."}
        assert above <= found < every
        if form is ExportForm.EML:
            assert found == above
        (same,) = [own for own in manifest_of(whole) if own["object_id"] == deep["object_id"]]
        assert same["path"] == line["path"]


async def test_a_point_in_time_and_a_range(rig: Rig, tmp_path: Path) -> None:
    """As of a moment, what was deleted since is there; over a time, all that ever was."""
    before = datetime.now(UTC)
    deleted = rig.messages_in("inbox")[0]["immutableId"]
    rig.mutate(op="delete", message=deleted, hard=True)
    rig.mutate(op="create", folder="inbox", subject="later")
    await rig.back_up_user()
    now = {line["object_id"] for line in manifest_of(await exported(rig, tmp_path / "now"))}
    then = await exported(rig, tmp_path / "then", Selection(mailbox=USER, at=before))
    assert deleted not in now
    assert deleted in {line["object_id"] for line in manifest_of(then)}
    ever = Selection(mailbox=USER, made_from=before - timedelta(days=1))
    report = await exported(rig, tmp_path / "ever", ever)
    found = {line["object_id"] for line in manifest_of(report)}
    assert found == now | {deleted}
    assert len(report.mailboxes[0].snapshot_ids) == 2


async def test_a_stop_begins_no_other_mailbox(rig: Rig, tmp_path: Path) -> None:
    """What was asked to stop does not go on with the next mailbox; the same call does."""
    stop = StopSignal()
    stop.request()
    first = await exported(rig, tmp_path / "mail", Selection(), stop=stop)
    assert first.interrupted
    assert first.messages > 0
    assert {f.mailbox_id for f in first.folders if f.messages} == {USER}
    whole = await exported(rig, tmp_path / "mail", Selection())
    assert whole.resumed
    assert {f.mailbox_id for f in whole.folders if f.messages} == {USER, OTHER}
    assert len(contents(whole.path)) == whole.messages


async def test_what_is_not_there(rig: Rig, tmp_path: Path) -> None:
    """One mailbox without it is an error; among all, it is left out with a note."""
    with pytest.raises(SnapshotNotFound):
        await exported(rig, tmp_path / "a", Selection(mailbox="nobody@contoso.com"))
    with pytest.raises(UsageError, match="no folder"):
        await exported(rig, tmp_path / "b", Selection(mailbox=USER, folders=("Nowhere",)))
    with pytest.raises(UsageError, match="no folder"):  # as of one mailbox
        await exported(rig, tmp_path / "c", Selection(folders=("Nowhere",)))
    with pytest.raises(SnapshotNotFound, match="no message"):
        await exported(rig, tmp_path / "c", Selection(messages=("nosuchid",)))
    records = [record async for record in (await rig.view()).messages()]
    report = await exported(rig, tmp_path / "d", Selection(messages=(records[0]["object_id"],)))
    assert report.messages == 1
    assert [note.partition(":")[0] for note in report.notes] == [OTHER]
    assert report.exit_code == 0
    assert not list(tmp_path.glob("[abc]*"))


@pytest.mark.parametrize("form", FORMS)
async def test_a_dry_run_writes_nothing(rig: Rig, tmp_path: Path, form: ExportForm) -> None:
    """Counts are those of the export that would follow."""
    dry = await exported(rig, tmp_path / "mail", dry_run=True, form=form)
    assert list(tmp_path.iterdir()) == []
    report = await exported(rig, tmp_path / "mail", form=form)
    assert (dry.dry_run, dry.messages, dry.attachments) == (
        True,
        report.messages,
        report.attachments,
    )
    assert [(f.names, f.messages) for f in dry.folders] == [
        (f.names, f.messages) for f in report.folders
    ]
    assert dry.size_bytes > 0


async def test_names_made_of_mailbox_and_day(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path the name says whose mail it is, and of which day."""
    monkeypatch.chdir(tmp_path)
    day = (await rig.view()).summary.created_at[:10]
    one = await exported(rig, None)
    assert one.path == Path(f"atlas-{USER}-{day}.zip")
    assert len(contents(tmp_path / one.path)) == one.messages
    every = await exported(rig, None, Selection(), form=ExportForm.MAILDIR)
    assert every.path == Path(f"atlas-2-mailboxes-{day}-maildir")
    with pytest.raises(UsageError, match="exists already"):
        await exported(rig, None)


async def test_an_atlas_bucket_as_far_as_it_goes(tmp_path: Path) -> None:
    """Atlas's own mail is written whole; folders without names and contents it left out are told."""
    async with Atlas(golden_settings(), store=golden_store()) as atlas:
        report = await atlas.export([Selection()], tmp_path / "mail.zip")
        counts = {box: (await atlas.list_snapshots(box))[-1].messages for box in GOLDEN_USERS}
    assert report.exit_code == 3
    assert len(report.not_stored) == 2
    assert not report.failed
    assert not any(box.exact for box in report.mailboxes)
    assert report.messages == sum(counts.values())
    files = contents(report.path)
    lines = manifest_of(report)
    assert {line["path"] for line in lines} == set(files)
    assert all(path.split("/")[1].startswith("Folder ") for path in files)
    assert all(line["internet_message_id"].startswith("<") for line in lines)
    assert all(line["received"].endswith("Z") for line in lines)
    lost = 0
    for line in lines:
        message = read(files[line["path"]])
        assert message["message-id"] == line["internet_message_id"]
        assert line["path"].split("/")[2][:4].isdigit()
        for part in leaves(message):
            lost += (part.get_filename() or "").endswith(".missing.txt")
    assert lost == 2
    bodies = " ".join(text_of(leaves(read(data))[0]) for data in files.values())
    assert len(bodies) > 1000
    assert golden_metadata()["tenant_id"]


async def test_originals_are_written_byte_for_byte(tmp_path: Path) -> None:
    """Where a backup stored the original MIME it is what is written, unless that is not wanted."""
    async with open_rig(replace(SMALL, messages=20)) as rig:
        await rig.back_up_user(mime=True)
        records = {r["object_id"]: r async for r in (await rig.view()).messages()}
        report = await exported(rig, tmp_path / "mail")
        files = contents(report.path)
        assert report.originals > 0
        for line in manifest_of(report):
            record = records[line["object_id"]]
            assert line["original"] == ("original" in record)
            if "original" in record:
                assert line["sha256"] == record["original"]["checksum"]
                assert len(files[line["path"]]) == record["original"]["size_bytes"]
        built = await exported(rig, tmp_path / "built", originals=False)
        assert built.originals == 0
        assert not any(line["original"] for line in manifest_of(built))
        some = next(record for record in records.values() if "original" in record)
        key = f"catalog/{USER}/originals/{some['original']['checksum']}"
        del rig.bucket.objects[key]
        damaged = await exported(rig, tmp_path / "damaged")
        assert damaged.exit_code == 16
        assert [failure.kind for failure in damaged.failed] == ["original"]
        assert damaged.messages == report.messages
        (line,) = [line for line in manifest_of(damaged) if line["error"]]
        (same,) = [own for own in manifest_of(built) if own["object_id"] == some["object_id"]]
        assert line["sha256"] == same["sha256"]
        assert json.dumps(line)
