"""Creating messages as a restore does: parts in the POST, state, flags, items, undoing it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from atlas_async.emulator import Emulator
from tests.fakes.graph_probe import Answer, GraphProbe

ADDRESS = "user0000@contoso.com"
USER = f"users/{ADDRESS}"
INBOX = f"{USER}/mailFolders/inbox/messages"
FILE = "#microsoft.graph.fileAttachment"
ITEM = "#microsoft.graph.itemAttachment"
LINK = "#microsoft.graph.referenceAttachment"


def _file(name: str = "a.txt", raw: bytes = b"bytes", **more: Any) -> dict[str, Any]:
    content = base64.b64encode(raw).decode()
    return {"@odata.type": FILE, "name": name, "contentBytes": content, **more}


def _item(item: dict[str, Any], name: str = "item") -> dict[str, Any]:
    return {"@odata.type": ITEM, "name": name, "item": item}


def _message(**values: Any) -> dict[str, Any]:
    return {"@odata.type": "#microsoft.graph.message", **values}


async def _create(probe: GraphProbe, **values: Any) -> Answer:
    return await probe.send("POST", INBOX, values)


async def _truth(emulator: Emulator, made: Answer) -> dict[str, Any]:
    told: list[dict[str, Any]] = emulator.control.mailbox_truth(ADDRESS)["messages"]
    return next(one for one in told if one["immutableId"] == made.body["id"])


async def test_every_kind_of_part_comes_with_the_post(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """File, inline image, items and link are there at once; the truth tells all of them."""
    emulator.control.configure(reference_writes=True)
    inner = _message(subject="inner", attachments=[_file("deep.txt", b"deep")])
    made = await _create(
        probe,
        subject="parts",
        attachments=[
            _file(),
            _file("i.png", b"png", isInline=True, contentId="cid1", contentType="image/png"),
            _item(inner),
            _item({"@odata.type": "microsoft.graph.event", "subject": "meeting"}, "event"),
            _item({"@odata.type": "microsoft.graph.contact", "displayName": "Ann"}, "contact"),
            {"@odata.type": LINK, "name": "doc", "sourceUrl": "https://x.example/doc"},
        ],
    )
    told = await _truth(emulator, made)
    path = f"{USER}/messages/{made.body['id']}/attachments"
    ids = [part["id"] for part in told["attachments"]]
    values = [(await probe.get(f"{path}/{one}/$value")).raw for one in ids[:5]]

    assert made.status == 201
    assert [part["type"] for part in told["attachments"]] == [FILE, FILE, ITEM, ITEM, ITEM, LINK]
    assert [part["contentId"] for part in told["attachments"][:2]] == [None, "cid1"]
    assert told["attachments"][2]["item"]["subject"] == "inner"
    assert told["attachments"][2]["attachments"][0]["name"] == "deep.txt"
    assert told["attachments"][5]["sourceUrl"] == "https://x.example/doc"
    assert values[:2] == [b"bytes", b"png"]
    assert b"Subject: inner" in values[2]
    assert b"SUMMARY:meeting" in values[3]
    assert b"FN:Ann" in values[4]


async def test_attached_items_are_expanded(emulator: Emulator, probe: GraphProbe) -> None:
    """The item is shown on request, its own attachments only when asked for, too."""
    inner = _message(
        subject="inner", attachments=[_file("deep.txt", b"deep")], internetMessageId="<i@x>"
    )
    made = await _create(probe, attachments=[_item(inner)])
    path = f"{USER}/messages/{made.body['id']}/attachments"
    cast = "$expand=microsoft.graph.itemattachment/item"

    plain = (await probe.get(path)).body["value"][0]
    shown = (await probe.get(f"{path}?{cast}")).body["value"][0]
    nested = (
        await probe.get(f"{path}/{plain['id']}?{cast}($expand=microsoft.graph.message/attachments)")
    ).body

    assert "item" not in plain
    assert shown["item"]["@odata.type"] == "#microsoft.graph.message"
    assert (shown["item"]["subject"], shown["item"]["hasAttachments"]) == ("inner", True)
    assert shown["item"]["internetMessageId"] == "<i@x>"
    assert "attachments" not in shown["item"]
    assert nested["item"]["attachments"][0]["contentBytes"] == "ZGVlcA=="


async def test_attached_messages_follow_the_rules_of_new_ones(probe: GraphProbe) -> None:
    """Dates and draft state of an attached message come from its extended properties."""
    marks = [
        {"id": "Integer 0x0E07", "value": "1"},
        {"id": "SystemTime 0x0039", "value": "2018-01-02T03:04:05Z"},
    ]
    dated = _message(subject="x", sentDateTime="2001-01-01T00:00:00Z")
    made = await _create(
        probe,
        attachments=[_item(dated), _item({**dated, "singleValueExtendedProperties": marks})],
    )
    listed = await probe.get(
        f"{USER}/messages/{made.body['id']}/attachments?$expand=microsoft.graph.itemattachment/item"
    )

    plain, marked = (part["item"] for part in listed.body["value"])
    assert (plain["isDraft"], plain["sentDateTime"][:4] != "2001") == (True, True)
    assert (marked["isDraft"], marked["sentDateTime"]) == (False, "2018-01-02T03:04:05Z")


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"@odata.type": LINK, "name": "doc"}, "ErrorInvalidProperty"),
        ({"@odata.type": LINK, "name": "doc", "sourceUrl": "https://x"}, "RequestBodyRead"),
        (_item({"subject": "of no kind"}), "RequestBodyRead"),
        (_item({"@odata.type": "microsoft.graph.note"}), "RequestBodyRead"),
        ({"@odata.type": FILE, "contentBytes": "YQ=="}, "ErrorInvalidProperty"),
        ({"@odata.type": FILE, "name": "a"}, "ErrorInvalidProperty"),
        ({"@odata.type": FILE, "name": "a", "contentBytes": "%"}, "ErrorInvalidRequest"),
        ({"name": "a", "contentBytes": "YQ=="}, "RequestBodyRead"),
    ],
)
async def test_wrong_parts_are_refused(probe: GraphProbe, part: dict[str, Any], code: str) -> None:
    """Alone and with the message; then there is no message. v1.0 cannot attach links."""
    made = await _create(probe, subject="x")

    alone = await probe.send("POST", f"{USER}/messages/{made.body['id']}/attachments", part)
    together = await _create(probe, subject="y", internetMessageId="<y@x>", attachments=[part])
    found = await probe.get(f"{USER}/messages?$filter=internetMessageId eq '<y@x>'")

    assert (alone.status, alone.code) == (400, code)
    assert (together.status, together.code) == (400, code)
    assert found.body["value"] == []


async def test_attached_items_may_refuse_attachments(emulator: Emulator, probe: GraphProbe) -> None:
    """Nested attachments are refused where that is switched on."""
    emulator.control.configure(nested_attachments=False)

    answer = await _create(probe, attachments=[_item(_message(attachments=[_file()]))])

    assert (answer.status, answer.code) == (400, "ErrorInvalidProperty")


async def test_empty_files_are_attached(probe: GraphProbe) -> None:
    """A file of no bytes is a file."""
    made = await _create(probe, attachments=[_file("empty", b"")])

    parts = await probe.get(f"{USER}/messages/{made.body['id']}/attachments")

    assert parts.body["value"][0]["contentBytes"] == ""


async def test_state_is_kept(emulator: Emulator, probe: GraphProbe) -> None:
    """People, flags with dates, categories, importance and inference are stored as given."""
    ann = {"emailAddress": {"name": "Ann", "address": "ann@example.org"}}
    bob = {"emailAddress": {"name": "Bob", "address": "/o=ex/ou=group/cn=bob"}}
    berlin = {"dateTime": "2026-03-01T01:00:00+01:00", "timeZone": "UTC"}
    utc = {"dateTime": "2026-03-02T00:00:00.0000000", "timeZone": "UTC"}
    made = await _create(
        probe,
        subject="state",
        sender=ann,
        **{"from": bob},
        replyTo=[ann],
        bccRecipients=[bob],
        categories=["Red", "Blue"],
        importance="High",
        inferenceClassification="other",
        isReadReceiptRequested=True,
        flag={"flagStatus": "flagged", "startDateTime": berlin, "dueDateTime": utc},
        isRead=False,
        createdDateTime="2001-01-01T00:00:00Z",
        internetMessageHeaders=[{"name": "x-restored", "value": "1"}],
        singleValueExtendedProperties=[{"id": "Integer 0x0E07", "value": "1"}],
    )
    told = await _truth(emulator, made)

    body = made.body
    assert (body["sender"], body["from"]) == (ann, bob)
    assert (body["importance"], body["isRead"], body["isDraft"]) == ("high", False, False)
    assert body["flag"] == {
        "flagStatus": "flagged",
        "dueDateTime": utc,
        "startDateTime": {"dateTime": "2026-03-01T00:00:00.0000000", "timeZone": "UTC"},
    }
    assert not body["createdDateTime"].startswith("2001")
    assert told["sender"] == ann
    assert told["replyTo"] == [ann]
    assert told["bccRecipients"] == [bob]
    assert told["categories"] == ["Red", "Blue"]
    assert told["inferenceClassification"] == "other"
    assert told["internetMessageHeaders"] == [{"name": "x-restored", "value": "1"}]
    assert told["extended"] == {"Integer 0xe07": "1"}
    assert told["createdDateTime"] == body["createdDateTime"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"flag": {"flagStatus": "waving"}}, "RequestBodyRead"),
        (
            {"flag": {"flagStatus": "flagged", "dueDateTime": {"dateTime": "2026-01-01"}}},
            "ErrorInvalidProperty",
        ),
        (
            {"flag": {"flagStatus": "complete", "completedDateTime": {"dateTime": "soon"}}},
            "ErrorInvalidProperty",
        ),
        ({"importance": "huge"}, "RequestBodyRead"),
        ({"inferenceClassification": "both"}, "RequestBodyRead"),
        (
            {"internetMessageHeaders": [{"name": f"x-{n}", "value": "1"} for n in range(6)]},
            "InvalidInternetMessageHeaderCollection",
        ),
        ({"ccRecipients": [{"emailAddress": {"address": "nobody"}}]}, "ErrorInvalidRecipients"),
    ],
)
async def test_wrong_state_is_refused(probe: GraphProbe, values: dict[str, Any], code: str) -> None:
    """What Outlook does not know is 400."""
    answer = await _create(probe, **values)

    assert (answer.status, answer.code) == (400, code)


async def test_a_restore_can_be_undone(emulator: Emulator, probe: GraphProbe) -> None:
    """Deleted mail lies in recoverable items and can be moved back; a purge is for good."""
    made = await _create(probe, subject="undo", attachments=[_file()])
    path = f"{USER}/messages/{made.body['id']}"

    await probe.send("DELETE", path)
    dumpster = await probe.get(f"{USER}/mailFolders/recoverableitemsdeletions/messages")
    back = await probe.send("POST", f"{path}/move", {"destinationId": "inbox"})
    told = await _truth(emulator, made)
    purged = await probe.send("POST", f"{path}/permanentDelete")

    assert "undo" in {item["subject"] for item in dumpster.body["value"]}
    assert (back.status, back.body["id"]) == (201, made.body["id"])
    assert [part["name"] for part in told["attachments"]] == ["a.txt"]
    assert purged.status == 204
    assert (await probe.get(path)).status == 404


async def test_old_ids_of_deleted_mail_are_gone(probe: GraphProbe) -> None:
    """Without immutable ids a message changes its id when it is deleted."""
    made = await probe.send("POST", INBOX, {"subject": "x"}, prefer="")
    path = f"{USER}/messages/{made.body['id']}"

    deleted = await probe.send("DELETE", path, prefer="")
    again = await probe.send("DELETE", path, prefer="")

    assert (deleted.status, again.status) == (204, 404)


async def test_folders_are_purged_with_what_they_hold(probe: GraphProbe) -> None:
    """PermanentDelete removes folder, subfolders and mail; distinguished folders refuse."""
    folder = await probe.send("POST", f"{USER}/mailFolders", {"displayName": "Gone"})
    path = f"{USER}/mailFolders/{folder.body['id']}"
    child = await probe.send("POST", f"{path}/childFolders", {"displayName": "Inner"})
    below = f"{USER}/mailFolders/{child.body['id']}"
    held = await probe.send("POST", f"{below}/messages", {"subject": "held"})

    purged = await probe.send("POST", f"{path}/permanentDelete")
    refused = await probe.send("POST", f"{USER}/mailFolders/inbox/permanentDelete")

    assert (purged.status, refused.status) == (204, 400)
    for gone in (path, below, f"{USER}/messages/{held.body['id']}"):
        assert (await probe.get(gone)).status == 404
