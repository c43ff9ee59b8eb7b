"""From a mailbox through a backup into files: what is read back is what the mailbox held."""

from __future__ import annotations

import hashlib
import json
import mailbox
import zipfile
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from atlas_async.export.forms import ExportForm
from atlas_async.model.record import attachment_key, message_key
from tests.export.exports import FORMS, contents, exported, go_read, leftovers, manifest_of
from tests.export.mail import leaves, read, text_of
from tests.export.test_mime import same_lines
from tests.fakes.rig import SMALL, USER, Rig, open_rig

RICH = replace(
    SMALL,
    messages=60,
    attachment_share=0.5,
    inline_share=0.3,
    item_share=0.3,
    reference_share=0.15,
    smime_share=0.05,
)


async def stored(rig: Rig) -> dict[str, tuple[dict[str, Any], dict[str, Any], list[bytes]]]:
    """Return record, resource and attachments of every message, straight from the bucket."""
    vault = rig.vault()
    found = {}
    view = await rig.view()
    async for record in view.messages():
        key = message_key(USER, record["checksum"])
        resource = json.loads(await vault.read_content(key, record["checksum"]))
        contents = [
            await vault.read_content(attachment_key(USER, a["checksum"]), a["checksum"])
            for a in record.get("attachments", [])
        ]
        found[record["object_id"]] = (dict(record), resource, contents)
    return found


def assert_same(
    message: EmailMessage, truth: dict[str, Any], resource: dict[str, Any], contents: list[bytes]
) -> None:
    """Assert that a message holds what the mailbox held: headers, body, every attachment."""
    assert message["subject"] == truth["subject"] or not truth["subject"]
    assert message["message-id"] == truth["internetMessageId"]
    sent = message["date"].datetime.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert sent == truth["sentDateTime"][:19] + "Z"
    for header, field in (("to", "toRecipients"), ("cc", "ccRecipients")):
        wanted = [p["emailAddress"]["address"] for p in resource[field]]
        shown = message[header].addresses if message[header] else ()
        assert [a.addr_spec for a in shown] == wanted
    body = resource["body"]["content"]
    assert hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest() == truth["bodySha"]
    parts = leaves(message)
    html = resource["body"]["contentType"] == "html"
    text = text_of(parts[1 if html else 0])
    assert text.rstrip("\n") == same_lines(body).rstrip("\n")
    enclosed = parts[2 if html else 1 :]
    assert len(enclosed) == len(truth["attachments"]) == len(contents)
    left = list(enclosed)
    for attachment, content in zip(truth["attachments"], contents, strict=True):
        if attachment["sha256"]:
            assert hashlib.sha256(content).hexdigest() == attachment["sha256"]
        match = [part for part in left if is_it(part, attachment, content)]
        assert match, attachment
        left.remove(match[0])


def is_it(part: EmailMessage, attachment: dict[str, Any], content: bytes) -> bool:
    """Tell whether a part is an attachment with this content."""
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0)
        digest = message_from_bytes(content)
        assert isinstance(inner, EmailMessage)
        return bool(inner["message-id"] == digest["message-id"])
    if attachment["type"].lower().endswith("referenceattachment"):
        shortcut = json.loads(content).get("sourceUrl") or "did not tell where"
        return attachment["name"] in str(part.get_filename()) and shortcut in text_of(part)
    name = part.get_filename()
    payload = part.get_payload(decode=True)
    content_id = (part["content-id"] or "").strip("<>") or None
    told = (name, content_id) == (attachment["name"], attachment["contentId"])
    return told and payload == content


@pytest.mark.parametrize("name", ["mail.zip", "mail"])
async def test_every_message_comes_back_as_eml(tmp_path: Path, name: str) -> None:
    """Bodies, headers, attachments, folders and times of a mailbox are all in the export."""
    async with open_rig(RICH) as rig:
        await rig.back_up_user()
        report = await exported(rig, tmp_path / name)
        assert (report.exit_code, report.messages) == (0, len(rig.reachable()))
        assert leftovers(tmp_path / name) == []
        truth = {m["immutableId"]: m for m in rig.truth()["messages"]}
        folders = {f["id"]: f["path"] for f in rig.truth()["folders"]}
        sources = await stored(rig)
        files = contents(report.path)
        lines = manifest_of(report)
        assert {line["object_id"] for line in lines} == set(sources)
        assert {line["path"] for line in lines} == set(files)
        for line in lines:
            record, resource, attachments = sources[line["object_id"]]
            data = files[line["path"]]
            assert line["sha256"] == hashlib.sha256(data).hexdigest()
            assert line["checksum"] == record["checksum"]
            assert line["folder"] == folders[record["folder_id"]]
            assert line["path"].split("/")[:-1] == line["folder"]
            assert_same(read(data), truth[line["object_id"]], resource, attachments)
        assert {(f.mailbox_id, f.names): f.messages for f in report.folders} == {
            (USER, tuple(f["path"])): sum(line["folder"] == f["path"] for line in lines)
            for f in rig.truth()["folders"]
            if f["belowRoot"] and not f["search"] and f["path"]
        }


async def test_zip_and_directory_hold_the_same_and_empty_folders_too(tmp_path: Path) -> None:
    """The container changes no byte; times are those of the messages; empty folders are there."""
    async with open_rig(RICH) as rig:
        await rig.back_up_user()
        packed = await exported(rig, tmp_path / "mail.zip")
        loose = await exported(rig, tmp_path / "mail")
        assert contents(packed.path) == contents(loose.path)
        assert manifest_of(packed) == manifest_of(loose)
        paths = {"/".join(folder.names) for folder in packed.folders}
        assert any(not folder.messages for folder in packed.folders)
        with zipfile.ZipFile(packed.path) as archive:
            assert paths == {n.rstrip("/") for n in archive.namelist() if n.endswith("/")}
            moments = {info.filename: info.date_time for info in archive.infolist()}
        for line in manifest_of(packed):
            second = (loose.path / line["path"]).stat().st_mtime
            received = message_from_bytes((loose.path / line["path"]).read_bytes())
            assert received is not None
            stamp = line["received"][:19].replace("T", " ").replace(":", "").replace("-", "")
            year, month, day, hour, minute, _ = moments[line["path"]]
            assert f"{year:04}{month:02}{day:02} {hour:02}{minute:02}" == stamp[:13]
            assert line["received"][:19] == _iso(second)
        assert {p.relative_to(loose.path).as_posix() for p in loose.path.rglob("*/")} >= paths


def _iso(second: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


async def test_an_independent_reader_reads_every_message(tmp_path: Path) -> None:
    """Go's packages for mail and MIME, which share nothing with Python's, read the same."""
    async with open_rig(RICH) as rig:
        await rig.back_up_user()
        report = await exported(rig, tmp_path / "mail")
        lines = {str(report.path / line["path"]): line for line in manifest_of(report)}
        sources = await stored(rig)
    answers = go_read([Path(path) for path in lines], tmp_path)
    assert len(answers) == len(lines)
    for answer in answers:
        assert answer["error"] == "", answer
        record, resource, contents = sources[lines[answer["path"]]["object_id"]]
        assert answer["subject"] == (resource["subject"] or "")
        assert answer["id"] == resource["internetMessageId"]
        assert answer["date"] == resource["sentDateTime"][:19] + "Z"
        wanted = [p["emailAddress"]["address"] for p in resource["toRecipients"]]
        assert [p["address"] for p in answer["to"] or []] == wanted
        digests = {part["sha256"] for part in answer["parts"]}
        for attachment, content in zip(record.get("attachments", []), contents, strict=True):
            if attachment["type"] == "file":
                assert hashlib.sha256(content).hexdigest() in digests


async def test_mailbox_files_and_maildir_hold_the_same_messages(tmp_path: Path) -> None:
    """The standard library's mailbox readers find every message, with its flags, once."""
    async with open_rig(RICH) as rig:
        await rig.back_up_user()
        eml = await exported(rig, tmp_path / "eml")
        single = {line["object_id"]: line for line in manifest_of(eml)}
        files = contents(eml.path)
        boxes = await exported(rig, tmp_path / "boxes", form=ExportForm.MBOX)
        maildir = await exported(rig, tmp_path / "maildir", form=ExportForm.MAILDIR)
        states = {m["immutableId"]: m for m in rig.truth()["messages"]}
    lines = manifest_of(boxes)
    assert {line["object_id"] for line in lines} == set(single)
    held = contents(boxes.path)
    for folder in boxes.folders:
        path = boxes.path / ("/".join(folder.names) + ".mbox")
        found = mailbox.mbox(path, create=False)
        assert len(found) == folder.messages
        found.close()
    for line in lines:
        entry = held[line["path"]][line["offset"] :][: line["size_bytes"]]
        assert hashlib.sha256(entry).hexdigest() == line["sha256"]
        wanted = files[single[line["object_id"]]["path"]].replace(b"\r\n", b"\n")
        first, _, rest = entry.partition(b"\n")
        assert first.startswith(b"From ")
        head, _, body = rest.partition(b"\n\n")
        kept = [h for h in head.split(b"\n") if not h.startswith((b"Status:", b"X-Status:"))]
        unquoted = b"\n".join(kept) + b"\n\n" + body
        assert unquoted.removesuffix(b"\n").replace(b"\n>From ", b"\nFrom ") == wanted
        status = message_from_bytes(rest)
        assert ("R" in status["status"]) == states[line["object_id"]]["isRead"]
        flagged = states[line["object_id"]]["flag"]["flagStatus"] == "flagged"
        assert ("F" in (status["x-status"] or "")) == flagged
    for line in manifest_of(maildir):
        state = states[line["object_id"]]
        data = (maildir.path / line["path"]).read_bytes()
        assert data == files[single[line["object_id"]]["path"]].replace(b"\r\n", b"\n")
        flags = line["path"].rpartition(":2,")[2]
        assert ("S" in flags) == state["isRead"]
        assert ("D" in flags) == state["isDraft"]
    top = mailbox.Maildir(maildir.path, create=False)
    inbox = next(f for f in maildir.folders if f.names == ("Inbox",))
    assert len(top) == inbox.messages
    assert len(top.list_folders()) == len(maildir.folders) - 1
    found_all = len(top) + sum(len(top.get_folder(name)) for name in top.list_folders())
    assert found_all == maildir.messages


async def test_json_holds_resources_and_each_attachment_once(tmp_path: Path) -> None:
    """A line is the message as of the snapshot; attachments lie beside by their hash."""
    async with open_rig(replace(RICH, duplicate_share=0.9)) as rig:
        await rig.back_up_user()
        report = await exported(rig, tmp_path / "json", form=ExportForm.JSON)
        sources = await stored(rig)
        states = {m["immutableId"]: m for m in rig.truth()["messages"]}
    files = contents(report.path)
    read_back = {}
    for line in manifest_of(report):
        text = files[line["path"]][line["offset"] :][: line["size_bytes"]]
        read_back[line["object_id"]] = json.loads(text)
    assert set(read_back) == set(sources)
    named = set()
    for object_id, line in read_back.items():
        record, resource, contents_of = sources[object_id]
        assert line["message"]["isRead"] == states[object_id]["isRead"]
        assert line["message"]["subject"] == resource["subject"]
        for attachment, content in zip(line["attachments"], contents_of, strict=True):
            assert files[attachment["file"]] == content
            named.add(attachment["file"])
        assert len(line["attachments"]) == len(record.get("attachments", []))
    assert named == {path for path in files if path.startswith("attachments/")}
    assert len(named) < report.attachments


@pytest.mark.parametrize("form", FORMS)
async def test_the_same_export_twice_is_the_same(tmp_path: Path, form: ExportForm) -> None:
    """Nothing in an export depends on the moment or on what was read first."""
    async with open_rig(RICH) as rig:
        await rig.back_up_user()
        one = await exported(rig, tmp_path / "one", form=form)
        other = await exported(rig, tmp_path / "other", form=form)
    assert contents(one.path) == contents(other.path)
    assert manifest_of(one) == manifest_of(other)


async def test_large_attachments_are_streamed_and_whole(tmp_path: Path) -> None:
    """What does not fit into memory comes out byte for byte, in every form."""
    large = replace(RICH, messages=12, huge_attachments=2, huge_bytes=3_000_001)
    async with open_rig(large) as rig:
        await rig.back_up_user()
        sources = await stored(rig)
        truth = {m["immutableId"]: m for m in rig.truth()["messages"]}
        packed = await exported(rig, tmp_path / "mail.zip")
        files = contents(packed.path)
        assert max(map(len, files.values())) > 4_000_000
        for line in manifest_of(packed):
            _, resource, attachments = sources[line["object_id"]]
            assert_same(read(files[line["path"]]), truth[line["object_id"]], resource, attachments)
        for form in FORMS[1:]:
            report = await exported(rig, tmp_path / form.value, form=form)
            assert (report.exit_code, report.messages) == (0, packed.messages)
            contents(report.path)
