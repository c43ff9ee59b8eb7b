"""Damage, loss, full disks and refusals: each costs only itself, and is told by name."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.cli.save_output import export_document
from atlas_async.errors import IntegrityError, StoreTransient, UsageError
from atlas_async.export import finishing
from atlas_async.export.forms import ExportForm
from atlas_async.export.mime import message_pieces
from atlas_async.export.tree_files import TreeContainer
from atlas_async.export.zip_file import ZipContainer
from atlas_async.model.events import Event, ExportProgress
from atlas_async.model.record import attachment_key, message_key
from atlas_async.operations.selection import Selection
from atlas_async.pipeline.stop import StopSignal
from atlas_async.store.base import StoredObject
from atlas_async.store.memory import MemoryStore
from tests.export.exports import FORMS, contents, exported, leftovers, manifest_of
from tests.export.mail import leaves, read
from tests.fakes.rig import SMALL, USER, Rig, open_rig

RICH = replace(SMALL, messages=30, attachment_share=0.9, item_share=0.0, reference_share=0.0)
HUGE = replace(RICH, huge_attachments=1, huge_bytes=1_500_000)


@asynccontextmanager
async def backed_up(options: Any = RICH) -> AsyncIterator[tuple[Rig, list[Any]]]:
    """Give a rig with one backup, and its records."""
    async with open_rig(options) as rig:
        await rig.back_up_user()
        view = await rig.view()
        yield rig, [record async for record in view.messages()]


def damage(rig: Rig, key: str) -> None:
    """Change the last byte of an object."""
    stored = rig.bucket.objects[key]
    body = stored.body[:-1] + bytes([stored.body[-1] ^ 1])
    rig.bucket.objects[key] = StoredObject(stored.info, body)


def with_files(records: list[Any], *, least: int = 0) -> Any:
    """Return a record with an attachment of so many bytes that no other message shares."""
    counts: dict[str, int] = {}
    for record in records:
        for attachment in record.get("attachments", []):
            counts[attachment["checksum"]] = counts.get(attachment["checksum"], 0) + 1
    for record in records:
        for attachment in record.get("attachments", []):
            if counts[attachment["checksum"]] == 1 and attachment["content_bytes"] >= least:
                return record, attachment
    raise AssertionError


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "missing"])
async def test_a_message_that_cannot_be_read_costs_itself(
    tmp_path: Path, form: ExportForm, gone: bool
) -> None:
    """All others are there; report, manifest and exit code tell of the one."""
    async with backed_up() as (rig, records):
        key = message_key(USER, records[7]["checksum"])
        if gone:
            del rig.bucket.objects[key]
        else:
            damage(rig, key)
        report = await exported(rig, tmp_path / "mail", form=form)
        assert (report.exit_code, report.messages) == (16, len(records) - 1)
        (failure,) = report.failed
        assert (failure.kind, failure.object_id) == ("message", records[7]["object_id"])
        assert failure.is_missing is gone
        (line,) = [line for line in manifest_of(report) if line["error"]]
        assert (line["object_id"], line["path"]) == (failure.object_id, None)
        contents(report.path)
        assert json.dumps(export_document(report))


@pytest.mark.parametrize("options", [RICH, HUGE], ids=["small", "streamed"])
@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "missing"])
@pytest.mark.parametrize("name", ["mail.zip", "mail"])
async def test_an_attachment_that_cannot_be_read_leaves_a_note(
    tmp_path: Path, options: Any, gone: bool, name: str
) -> None:
    """The message is there with its other parts, and says by name what is not."""
    async with backed_up(options) as (rig, records):
        record, attachment = with_files(records, least=1_000_000 if options is HUGE else 0)
        whole = await exported(rig, tmp_path / f"whole-{name}")
        key = attachment_key(USER, attachment["checksum"])
        if gone:
            del rig.bucket.objects[key]
        else:
            damage(rig, key)
        report = await exported(rig, tmp_path / name)
        assert (report.exit_code, report.messages) == (16, len(records))
        (failure,) = report.failed
        assert (failure.kind, failure.name) == ("attachment", attachment["name"])
        assert failure.is_missing is gone
        before, files = contents(whole.path), contents(report.path)
        differing = {path for path in files if files[path] != before.get(path)}
        lines = {line["object_id"]: line for line in manifest_of(report)}
        line = lines[record["object_id"]]
        assert differing == {line["path"]}
        told = [a["error"] for a in line["attachments"] if a["checksum"] == attachment["checksum"]]
        assert told == [failure.reason]
        notes = [part.get_filename() for part in leaves(read(files[line["path"]]))]
        assert f"{attachment['name']}.missing.txt" in notes
        assert len(leaves(read(files[line["path"]]))) == len(leaves(read(before[line["path"]])))


async def test_a_large_message_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    """A message whose attachments would be streamed is left out as any other."""
    async with backed_up(HUGE) as (rig, records):
        record, _ = with_files(records, least=1_000_000)
        damage(rig, message_key(USER, record["checksum"]))
        report = await exported(rig, tmp_path / "mail.zip")
        assert (report.exit_code, report.messages) == (16, len(records) - 1)
        assert [failure.object_id for failure in report.failed] == [record["object_id"]]
        assert len(contents(report.path)) == len(records) - 1


async def test_json_names_what_it_lacks(tmp_path: Path) -> None:
    """An attachment that cannot be had has no file, and its line says why."""
    async with backed_up(HUGE) as (rig, records):
        record, attachment = with_files(records, least=1_000_000)
        damage(rig, attachment_key(USER, attachment["checksum"]))
        report = await exported(rig, tmp_path / "json", form=ExportForm.JSON)
        files = contents(report.path)
        assert f"attachments/{attachment['checksum']}" not in files
        every = b"".join(data for path, data in files.items() if path.endswith(".jsonl"))
        lines = {line["object_id"]: line for line in map(json.loads, every.splitlines())}
        assert len(lines) == len(records)
        described = [
            a
            for a in lines[record["object_id"]]["attachments"]
            if a["checksum"] == attachment["checksum"]
        ]
        assert [(a["file"], bool(a["error"])) for a in described] == [(None, True)]


async def test_a_damaged_part_of_the_snapshot_costs_what_it_held(tmp_path: Path) -> None:
    """Of a mailbox whose rows cannot all be read, what can be is written, and the loss is told."""
    async with backed_up() as (rig, _):
        (segment, *_) = rig.keys(f"catalog/{USER}/segments/")
        damage(rig, segment)
        report = await exported(rig, tmp_path / "mail")
        assert report.exit_code == 16
        assert [failure.kind for failure in report.failed] == ["snapshot"]
        assert contents(report.path) == {}


async def test_what_was_never_stored_is_told(tmp_path: Path) -> None:
    """Exit code 3: the ledger names what the snapshot lacks, and the message says so itself."""
    async with open_rig(RICH) as rig:
        truth = [m for m in rig.messages_in("inbox") if m["attachments"]]
        refused = truth[0]["immutableId"]
        rig.emulator.control.trouble(USER, refused, status=403, code="ErrorAccessDenied")
        await rig.back_up_user()
        report = await exported(rig, tmp_path / "mail")
        assert report.exit_code == 3
        assert {item.object_id for item in report.not_stored} == {refused}
        assert report.failed == []
        named = Selection(mailbox=USER, messages=(truth[1]["immutableId"],))
        alone = await exported(rig, tmp_path / "alone", named)
        assert (alone.exit_code, alone.messages) == (0, 1)


@pytest.mark.parametrize("name", ["mail.zip", "mail"])
async def test_a_store_that_fails_ends_it_and_it_continues(tmp_path: Path, name: str) -> None:
    """The store's own error is raised; what was written stays, and the same call goes on."""

    class Failing(MemoryStore):
        left = 12

        async def get(self, key: str, *, most: int | None = None) -> StoredObject:
            if key.startswith("data/"):
                Failing.left -= 1
                if Failing.left == 0:
                    raise StoreTransient("the store is gone")
            return await super().get(key, most=most)

    async with backed_up() as (rig, records):
        whole = await exported(rig, tmp_path / f"whole-{name}")
        rig.store = Failing(rig.bucket)
        with pytest.raises(StoreTransient):
            await exported(rig, tmp_path / name)
        assert not (tmp_path / name).exists()
        state = json.loads((tmp_path / f"{name}.partial.state").read_bytes())
        assert 0 < state["rows"] < len(records)
        report = await exported(rig, tmp_path / name)
        assert report.resumed
        assert contents(report.path) == contents(whole.path)
        assert leftovers(report.path) == []


@pytest.mark.parametrize("name", ["mail.zip", "mail"])
async def test_stopped_in_order_it_continues(tmp_path: Path, name: str) -> None:
    """A stop finishes what is in flight, ends with 130, and gives nothing its final name."""
    async with backed_up() as (rig, records):
        whole = await exported(rig, tmp_path / f"whole-{name}")
        stop = StopSignal()
        async with rig.engine() as atlas:
            stop.request()
            first = await atlas.export([Selection(mailbox=USER)], tmp_path / name, stop=stop)
        assert first.interrupted
        assert first.exit_code == 130
        assert 0 < first.messages < len(records)
        assert not first.path.exists()
        assert not first.manifest.exists()
        report = await exported(rig, tmp_path / name)
        assert report.resumed
        assert (report.messages, report.exit_code) == (len(records), 0)
        assert contents(report.path) == contents(whole.path)
        assert report.folders == whole.folders


async def test_cancelled_it_continues(tmp_path: Path) -> None:
    """Cancelling at any await leaves something that the same call continues."""
    async with backed_up(HUGE) as (rig, records):
        whole = await exported(rig, tmp_path / "whole")
        begun = anyio.Event()

        class Slow(MemoryStore):
            async def get(self, key: str, *, most: int | None = None) -> StoredObject:
                if key.startswith("data/") and not begun.is_set():
                    begun.set()
                    await anyio.sleep_forever()
                return await super().get(key, most=most)

        kept, rig.store = rig.store, Slow(rig.bucket)
        async with anyio.create_task_group() as group:

            async def work() -> None:
                await exported(rig, tmp_path / "mail")

            group.start_soon(work)
            await begun.wait()
            group.cancel_scope.cancel()
        rig.store = kept
        report = await exported(rig, tmp_path / "mail")
        assert (report.resumed, report.messages) == (True, len(records))
        assert contents(report.path) == contents(whole.path)


async def test_nothing_is_replaced(tmp_path: Path) -> None:
    """A file, a directory, or what stands beside them, is never written over."""
    async with backed_up() as (rig, _):
        for name in ("a.zip", "b", "c.zip.manifest.jsonl", "d.sha256"):
            (tmp_path / name).write_text("mine")
        (tmp_path / "e").symlink_to("nowhere")
        for name in ("a.zip", "b", "c.zip", "d", "e"):
            with pytest.raises(UsageError, match="exists already"):
                await exported(rig, tmp_path / name)
        (tmp_path / "f.partial").mkdir()
        with pytest.raises(UsageError, match="left of something"):
            await exported(rig, tmp_path / "f")
        (tmp_path / "g.partial.state").write_text("{}")
        with pytest.raises(UsageError, match="cannot be continued"):
            await exported(rig, tmp_path / "g")
        with pytest.raises(UsageError, match="no such directory"):
            await exported(rig, tmp_path / "h" / "i")
        with pytest.raises(UsageError, match="a zip holds eml"):
            await exported(rig, tmp_path / "j.zip", form=ExportForm.MBOX)
        assert (tmp_path / "a.zip").read_text() == "mine"


async def test_a_name_that_is_taken_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes the name while an export runs keeps it; the export waits for another call."""
    async with backed_up() as (rig, _):
        sums = finishing._sums

        def taken(*arguments: Any) -> Any:
            (tmp_path / "mail.zip").write_text("mine")
            return sums(*arguments)

        monkeypatch.setattr(finishing, "_sums", taken)
        with pytest.raises(UsageError, match="exists already"):
            await exported(rig, tmp_path / "mail.zip")
        assert (tmp_path / "mail.zip").read_text() == "mine"
        (tmp_path / "mail.zip").unlink()
        monkeypatch.undo()
        report = await exported(rig, tmp_path / "mail.zip")
        assert report.resumed
        assert len(contents(report.path)) == report.messages


async def test_a_disk_that_loses_what_was_written_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading back finds it, and the export never gets its name; unless that was not wanted."""
    finish = ZipContainer.finish

    def losing(self: ZipContainer) -> None:
        finish(self)
        with self._path.open("r+b") as file:
            file.seek(2000)
            file.write(bytes(400))

    async with backed_up() as (rig, _):
        monkeypatch.setattr(ZipContainer, "finish", losing)
        with pytest.raises(IntegrityError, match="is the disk sound"):
            await exported(rig, tmp_path / "mail.zip")
        assert not (tmp_path / "mail.zip").exists()
        unchecked = await exported(rig, tmp_path / "other.zip", check=False)
        assert unchecked.exit_code == 0


async def test_two_at_once_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process writing the same export is refused; the first is not disturbed."""
    async with backed_up() as (rig, records):
        make = TreeContainer.make_folder
        answers: list[str] = []

        def meanwhile(self: TreeContainer, path: str) -> None:
            if not answers:
                answers.append("asked")

                async def other() -> None:
                    async with rig.engine() as atlas:
                        await atlas.export([Selection(mailbox=USER)], tmp_path / "mail")

                try:
                    anyio.run(other)
                except UsageError as error:
                    answers.append(error.message)
            make(self, path)

        monkeypatch.setattr(TreeContainer, "make_folder", meanwhile)
        report = await exported(rig, tmp_path / "mail")
        assert answers == ["asked", "another process is writing this export"]
        assert (report.exit_code, report.messages) == (0, len(records))


async def test_progress_is_told(tmp_path: Path) -> None:
    """Events count what is written of what there is, and end with all of it."""
    async with backed_up(replace(RICH, messages=120)) as (rig, records):
        seen: list[Event] = []
        async with rig.engine() as atlas:
            atlas._listeners.append(seen.append)
            report = await atlas.export([Selection(mailbox=USER)], tmp_path / "mail")
        told = [event for event in seen if isinstance(event, ExportProgress)]
        assert len(told) >= 3
        assert [event.done for event in told] == sorted(event.done for event in told)
        last = told[-1]
        assert (last.done, last.expected, last.failed) == (len(records), len(records), 0)
        assert (last.bytes, last.mailbox_id) == (report.size_bytes, USER)


async def test_the_message_itself_is_no_part_of_any_error(tmp_path: Path) -> None:
    """Reports name ids, never what a message says (its subject is a field of its own)."""
    async with backed_up() as (rig, records):
        damage(rig, message_key(USER, records[3]["checksum"]))
        report = await exported(rig, tmp_path / "mail")
        (failure,) = report.failed
        assert records[3]["subject"] not in failure.reason


@pytest.mark.parametrize("options", [RICH, HUGE], ids=["small", "streamed"])
async def test_a_defect_of_ours_costs_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: Any,
) -> None:
    """A message that we fail to build is named, without its text, and all others are there."""
    async with backed_up(options) as (rig, records):
        record, _ = with_files(records, least=1_000_000 if options is HUGE else 0)

        def failing(resource: Any, *arguments: Any, **options: Any) -> Any:
            if resource["id"] == record["object_id"]:
                raise RuntimeError(resource["internetMessageId"])
            return message_pieces(resource, *arguments, **options)

        monkeypatch.setattr("atlas_async.export.entries.message_pieces", failing)
        report = await exported(rig, tmp_path / "mail")
        assert (report.exit_code, report.messages) == (16, len(records) - 1)
        (failure,) = report.failed
        assert (failure.kind, failure.object_id) == ("message", record["object_id"])
        assert "internal error (RuntimeError)" in failure.reason
        assert record["object_id"] in caplog.text
        assert record["internet_message_id"] not in caplog.text
        assert len(contents(report.path)) == len(records) - 1
