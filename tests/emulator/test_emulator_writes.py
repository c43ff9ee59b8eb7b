"""Writing: folders, messages, attachments, upload sessions, id translation, batches."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from atlas_async.emulator import Emulator
from tests.fakes.graph_probe import GraphProbe

ADDRESS = "user0000@contoso.com"
USER = f"users/{ADDRESS}"


def _extended(name: str, value: str) -> dict[str, str]:
    return {"id": name, "value": value}


async def _create(probe: GraphProbe, folder: str = "inbox", **values: Any) -> dict[str, Any]:
    answer = await probe.send("POST", f"{USER}/mailFolders/{folder}/messages", values)
    assert answer.status == 201, answer.raw
    body: dict[str, Any] = answer.body
    return body


async def test_folders_are_created_renamed_moved_and_deleted(probe: GraphProbe) -> None:
    """A folder's life: create, duplicate refused, rename, move, delete to Deleted Items."""
    made = await probe.send("POST", f"{USER}/mailFolders", {"displayName": "Restored"})
    twin = await probe.send("POST", f"{USER}/mailFolders", {"displayName": "restored"})
    path = f"{USER}/mailFolders/{made.body['id']}"
    child = await probe.send("POST", f"{path}/childFolders", {"displayName": "Inner"})
    renamed = await probe.send("PATCH", path, {"displayName": "Änderung"})
    moved = await probe.send("POST", f"{path}/move", {"destinationId": "inbox"})
    deleted = await probe.send("DELETE", path)
    after = await probe.get(path)
    purged = await probe.send("DELETE", path)
    inbox = await probe.get(f"{USER}/mailFolders/inbox")
    trash = await probe.get(f"{USER}/mailFolders/deleteditems")

    assert made.status == child.status == moved.status == 201
    assert (twin.status, twin.code) == (409, "ErrorFolderExists")
    assert renamed.body["displayName"] == "Änderung"
    assert moved.body["parentFolderId"] == inbox.body["id"]
    assert deleted.status == purged.status == 204
    assert after.body["parentFolderId"] == trash.body["id"]
    assert (await probe.get(path)).status == 404
    assert (await probe.get(f"{USER}/mailFolders/{child.body['id']}")).status == 404


async def test_well_known_folders_cannot_be_deleted(probe: GraphProbe) -> None:
    """Distinguished folders refuse deletion."""
    answer = await probe.send("DELETE", f"{USER}/mailFolders/inbox")

    assert (answer.status, answer.code) == (400, "ErrorDeleteDistinguishedFolder")


async def test_plain_create_makes_a_draft(probe: GraphProbe) -> None:
    """Without the flags property a created message is a draft with today's dates."""
    body = await _create(
        probe, subject="x", receivedDateTime="2001-01-01T00:00:00Z", body={"content": "hi"}
    )

    assert body["isDraft"] is True
    assert not body["receivedDateTime"].startswith("2001")
    assert body["body"] == {"contentType": "text", "content": "hi"}


@pytest.mark.parametrize(("flags", "draft", "read"), [("1", False, True), ("4", False, False)])
async def test_extended_properties_restore_state_and_dates(
    probe: GraphProbe, flags: str, draft: bool, read: bool
) -> None:
    """0x0E07, 0x0E06 and 0x0039 decide draft state, read state and both dates."""
    body = await _create(
        probe,
        subject="old",
        internetMessageId="<kept@example.org>",
        singleValueExtendedProperties=[
            _extended("Integer 0x0E07", flags),
            _extended("SystemTime 0x0E06", "2019-04-05T06:07:08Z"),
            _extended("SystemTime 0x0039", "2019-04-05T06:07:00Z"),
        ],
    )

    assert (body["isDraft"], body["isRead"]) == (draft, read)
    assert body["receivedDateTime"] == "2019-04-05T06:07:08Z"
    assert body["sentDateTime"] == "2019-04-05T06:07:00Z"
    assert body["internetMessageId"] == "<kept@example.org>"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"replyTo": [{"emailAddress": {"address": "nonsense"}}]}, "ErrorInvalidRecipients"),
        ({"internetMessageHeaders": [{"name": "Received", "value": "x"}]}, "InvalidInternet"),
        ({"colour": "red"}, "RequestBodyRead"),
        ({"singleValueExtendedProperties": [{"id": "Integer 0x0E07"}]}, "ErrorInvalidProperty"),
    ],
)
async def test_bad_creates_are_refused(
    probe: GraphProbe, values: dict[str, Any], code: str
) -> None:
    """Invalid recipients, headers, names and extended properties are 400."""
    answer = await probe.send("POST", f"{USER}/messages", values)

    assert answer.status == 400
    assert answer.code.startswith(code)


async def test_update_move_copy_delete(emulator: Emulator, probe: GraphProbe) -> None:
    """PATCH changes, move keeps the immutable id, copy makes a new one, delete recovers."""
    made = await _create(probe, subject="one")
    path = f"{USER}/messages/{made['id']}"

    patched = await probe.send("PATCH", path, {"isRead": False, "categories": ["A"]})
    moved = await probe.send("POST", f"{path}/move", {"destinationId": "archive"})
    copied = await probe.send("POST", f"{path}/copy", {"DestinationId": "inbox"})
    deleted = await probe.send("DELETE", path)

    assert (patched.body["isRead"], patched.body["categories"]) == (False, ["A"])
    assert moved.body["id"] == made["id"]
    assert copied.body["id"] != made["id"]
    assert copied.body["internetMessageId"] == made["internetMessageId"]
    assert deleted.status == 204
    dumpster = await probe.get(f"{USER}/mailFolders/recoverableitemsdeletions")
    assert (await probe.get(path)).body["parentFolderId"] == dumpster.body["id"]
    assert (await probe.send("POST", f"{path}/permanentDelete")).status == 204
    assert (await probe.get(path)).code == "ErrorItemNotFound"


async def test_generated_messages_change_like_created_ones(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """A message of the corpus can be patched, moved and deleted; counts follow."""
    before = (await probe.get(f"{USER}/mailFolders/inbox")).body
    item = (await probe.get(f"{USER}/mailFolders/inbox/messages?$top=1")).body["value"][0]
    path = f"{USER}/messages/{item['id']}"

    await probe.send("PATCH", path, {"isRead": not item["isRead"]})
    middle = (await probe.get(f"{USER}/mailFolders/inbox")).body
    await probe.send("POST", f"{path}/move", {"destinationId": "junkemail"})
    after = (await probe.get(f"{USER}/mailFolders/inbox")).body

    step = 1 if item["isRead"] else -1
    assert middle["unreadItemCount"] == before["unreadItemCount"] + step
    assert after["totalItemCount"] == before["totalItemCount"] - 1


async def test_attachments_of_each_type_are_added(emulator: Emulator, probe: GraphProbe) -> None:
    """File, item and reference attachments can be posted; files decide hasAttachments."""
    made = await _create(probe, subject="with parts")
    path = f"{USER}/messages/{made['id']}/attachments"
    raw = b"payload \x00\xff"
    file = {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": "a.bin",
        "contentBytes": base64.b64encode(raw).decode(),
    }
    item = {
        "@odata.type": "#microsoft.graph.itemAttachment",
        "name": "mail",
        "item": {"@odata.type": "microsoft.graph.message", "subject": "inner"},
    }
    link = {
        "@odata.type": "#microsoft.graph.referenceAttachment",
        "name": "doc",
        "sourceUrl": "https://contoso.sharepoint.example/doc",
    }
    emulator.control.configure(reference_writes=True)

    added = [await probe.send("POST", path, part) for part in (file, item, link)]
    hollow = await probe.send("POST", path, {**item, "item": None})
    listed = (await probe.get(path)).body["value"]
    values = [(await probe.get(f"{path}/{part['id']}/$value")).raw for part in listed[:2]]
    removed = await probe.send("DELETE", f"{path}/{added[1].body['id']}")

    assert [answer.status for answer in added] == [201, 201, 201]
    assert (hollow.status, hollow.code) == (400, "ErrorInvalidProperty")
    assert [part["name"] for part in listed] == ["a.bin", "mail", "doc"]
    assert values[0] == raw
    assert b"Subject: inner" in values[1]
    assert removed.status == 204
    assert [p["id"] for p in (await probe.get(path)).body["value"]] == [
        added[0].body["id"],
        added[2].body["id"],
    ]
    assert (await probe.get(f"{USER}/messages/{made['id']}")).body["hasAttachments"] is True


async def test_bodies_above_four_megabytes_are_413(probe: GraphProbe) -> None:
    """Ordinary writes above the request limit are refused."""
    answer = await probe.send(
        "POST", f"{USER}/messages", {"subject": "x", "body": {"content": "y" * (4 << 20)}}
    )

    assert answer.status == 413


async def test_upload_session_takes_ranges_in_order(probe: GraphProbe) -> None:
    """Ranges go to a pre-authenticated URL without token; the last one answers 201."""
    made = await _create(probe, subject="large")
    path = f"{USER}/messages/{made['id']}/attachments"
    data = bytes(range(256)) * 13_000
    wanted = {
        "attachmentType": "file",
        "name": "large.bin",
        "size": len(data),
        "isInline": True,
        "contentId": "cid7",
    }
    opened = await probe.send("POST", f"{path}/createUploadSession", {"AttachmentItem": wanted})
    url = opened.body["uploadUrl"]
    half = 2_000_000

    async def put(start: int, stop: int) -> Any:
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        return await probe.raw("PUT", url, data=data[start:stop], headers=headers)

    first = await put(0, half)
    wrong = await put(half + 10, half + 20)
    progress = await probe.raw("GET", url)
    last = await put(half, len(data))

    assert opened.status == 201
    assert opened.body["nextExpectedRanges"] == ["0-"]
    assert first.body["nextExpectedRanges"] == [str(half)]
    assert wrong.status == 416
    assert progress.body["nextExpectedRanges"] == [str(half)]
    assert last.status == 201
    assert "/attachments(" in last.headers["Location"]
    listed = (await probe.get(path)).body["value"][0]
    assert (listed["isInline"], listed["contentId"]) == (True, "cid7")
    value = await probe.get(f"{path}/{listed['id']}/$value")
    assert hashlib.sha256(value.raw).digest() == hashlib.sha256(data).digest()
    assert (await probe.raw("GET", url)).status == 404


async def test_upload_session_refuses_small_files(probe: GraphProbe) -> None:
    """Files below three megabytes belong into an ordinary POST."""
    made = await _create(probe, subject="small")
    item = {"attachmentType": "file", "name": "a", "size": 1000}

    answer = await probe.send(
        "POST",
        f"{USER}/messages/{made['id']}/attachments/createUploadSession",
        {"AttachmentItem": item},
    )

    assert answer.code == "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"


async def test_mime_create_is_a_draft(probe: GraphProbe) -> None:
    """Base64 MIME posted as text/plain becomes a draft with its attachments."""
    mime = (
        b"From: A <a@example.org>\r\nTo: b@example.org\r\nSubject: =?utf-8?b?w4Q=?=\r\n"
        b"Message-ID: <m1@example.org>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n"
    )
    headers = {"Content-Type": "text/plain"}

    answer = await probe.send(
        "POST", f"{USER}/messages", headers=headers, data=base64.b64encode(mime)
    )
    broken = await probe.send("POST", f"{USER}/messages", headers=headers, data=b"%%%")

    assert (answer.body["subject"], answer.body["isDraft"]) == ("Ä", True)
    assert answer.body["internetMessageId"] == "<m1@example.org>"
    assert broken.status == 400


async def test_ids_are_translated(emulator: Emulator, probe: GraphProbe) -> None:
    """TranslateExchangeIds converts both ways and reports what it does not know."""
    made = emulator.control.mutate(ADDRESS, {"op": "create", "folder": "inbox"})

    answer = await probe.send(
        "POST",
        f"{USER}/translateExchangeIds",
        {
            "inputIds": [made["defaultId"], "rubbish"],
            "sourceIdType": "restId",
            "targetIdType": "restImmutableEntryId",
        },
    )

    value = answer.body["value"]
    assert value[0] == {"sourceId": made["defaultId"], "targetId": made["immutableId"]}
    assert value[1]["errorDetails"]["code"] == "ErrorInvalidIdMalformed"


def _step(number: int, url: str, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "method": "GET", "url": url, **more}


async def test_batch_answers_each_step(emulator: Emulator, probe: GraphProbe) -> None:
    """Steps have their own status and headers; binary bodies are base64; each step counts."""
    made = emulator.control.mutate(
        ADDRESS, {"op": "create", "folder": "inbox", "attachments": [{"size": 50}]}
    )
    path = f"/{USER}/messages/{made['immutableId']}/attachments"
    part = (await probe.get(path[1:])).body["value"][0]
    before = emulator.log.requests
    steps = [
        _step(1, f"/{USER}/mailFolders/inbox"),
        _step(2, f"/{USER}/mailFolders/clutter"),
        _step(3, f"{path}/{part['id']}/$value"),
        _step(4, f"/{USER}/messages?$top=1", headers={"Prefer": 'IdType="ImmutableId"'}),
        _step(5, f"/{USER}/mailFolders", method="POST", body={"displayName": "Batch"}),
    ]

    answer = await probe.send("POST", "$batch", {"requests": steps})

    told = {item["id"]: item for item in answer.body["responses"]}
    assert [told[str(n)]["status"] for n in range(1, 6)] == [200, 404, 200, 200, 201]
    assert told["2"]["body"]["error"]["code"] == "ErrorItemNotFound"
    assert told["3"]["body"] == part["contentBytes"]
    assert told["4"]["body"]["value"][0]["id"].startswith("AAkA")
    assert emulator.log.requests == before + 6


async def test_batch_dependencies_fail_together(probe: GraphProbe) -> None:
    """A step that depends on a failed one answers 424."""
    steps = [
        _step(1, f"/{USER}/mailFolders/clutter"),
        _step(2, f"/{USER}/mailFolders/inbox", dependsOn=["1"]),
        _step(3, f"/{USER}/mailFolders/inbox"),
    ]

    answer = await probe.send("POST", "$batch", {"requests": steps})

    assert [item["status"] for item in answer.body["responses"]] == [404, 424, 200]


async def test_batch_is_limited_to_twenty(probe: GraphProbe) -> None:
    """Twenty-one steps are refused as a whole."""
    steps = [_step(n, "/users") for n in range(21)]

    answer = await probe.send("POST", "$batch", {"requests": steps})

    assert answer.status == 400


async def test_protected_writes_need_the_advanced_permission(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """With the protection on, content of sent messages needs Mail-Advanced.ReadWrite.All."""
    emulator.control.configure(advanced_writes=True)
    sent = emulator.control.mutate(ADDRESS, {"op": "create", "folder": "inbox"})["immutableId"]
    draft = (await _create(probe, "drafts", subject="d"))["id"]

    refused = await probe.send("PATCH", f"{USER}/messages/{sent}", {"subject": "no"})
    state = await probe.send("PATCH", f"{USER}/messages/{sent}", {"isRead": True})
    allowed = await probe.send("PATCH", f"{USER}/messages/{draft}", {"subject": "yes"})

    assert (refused.status, state.status, allowed.status) == (403, 200, 200)
