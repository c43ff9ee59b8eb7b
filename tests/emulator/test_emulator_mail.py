"""Reading: users, folders, listings, messages, attachments."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import quote

import pytest

from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from tests.fakes.graph_probe import GraphProbe

ADDRESS = "user0000@contoso.com"
USER = f"users/{ADDRESS}"


async def test_users_are_paged_and_have_every_kind(emulator: Emulator, probe: GraphProbe) -> None:
    """The directory lists mailbox owners, guests and unlicensed users through next links."""
    users, _ = await probe.round("users?$top=2&$select=id,userPrincipalName,mail,userType")

    assert [user["id"] for user in users] == [str(p.id) for p in emulator.corpus.people]
    assert {user["userType"] for user in users} == {"Member", "Guest"}
    assert any("#EXT#" in user["userPrincipalName"] for user in users)


async def test_users_filter_and_count(probe: GraphProbe) -> None:
    """$filter narrows, $count needs the ConsistencyLevel header."""
    query = "users?$count=true&$filter=" + quote("userType eq 'Guest'")

    refused = await probe.get(query)
    counted = await probe.send("GET", query, headers={"ConsistencyLevel": "eventual"})

    assert refused.status == 400
    assert counted.body["@odata.count"] == 1


@pytest.mark.parametrize("path", ["users/{id}", "users/{upn}", "users('{id}')", "users/{escaped}"])
async def test_user_is_found_by_id_and_name(
    emulator: Emulator, probe: GraphProbe, path: str
) -> None:
    """A user answers to object id and user principal name, percent-encoded or in key form."""
    person = emulator.corpus.people[0]
    escaped = person.upn.replace("@", "%40")

    answer = await probe.get(path.format(id=person.id, upn=person.upn, escaped=escaped))

    assert answer.body["id"] == str(person.id)


async def test_principals_without_mailbox_are_refused(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Guests and unlicensed users answer 404 MailboxNotEnabledForRESTAPI to mail calls."""
    people = [p for p in emulator.corpus.people if not p.kind.has_mailbox]

    assert len(people) == 2
    for person in people:
        answer = await probe.get(f"users/{person.id}/mailFolders/inbox")
        assert (answer.status, answer.code) == (404, "MailboxNotEnabledForRESTAPI")


async def test_mailbox_settings_tell_the_purpose(emulator: Emulator, probe: GraphProbe) -> None:
    """UserPurpose tells users, shared mailboxes and rooms apart."""
    purposes = set()
    for person in emulator.corpus.people:
        if person.kind.has_mailbox:
            path = f"users/{person.id}/mailboxSettings?$select=userPurpose"
            purposes.add((await probe.get(path)).body["userPurpose"])

    assert purposes == {"user", "shared", "room"}


async def _walk(probe: GraphProbe, path: str) -> list[Any]:
    found, _ = await probe.round(f"{path}?includeHiddenFolders=true")
    inner = []
    for folder in found:
        if folder["childFolderCount"]:
            inner += await _walk(probe, f"{USER}/mailFolders/{folder['id']}/childFolders")
    return found + inner


async def test_folder_tree_equals_truth(emulator: Emulator, probe: GraphProbe) -> None:
    """Recursion through childFolders, ten at a time, finds every folder below the root."""
    found = await _walk(probe, f"{USER}/mailFolders")

    truth = emulator.control.mailbox_truth(ADDRESS, content=False)
    told = {f["id"]: f for f in truth["folders"] if f["belowRoot"] and f["path"]}
    assert {f["id"] for f in found} == set(told)
    for folder in found:
        assert folder["displayName"] == told[folder["id"]]["displayName"]
        assert folder["isHidden"] == told[folder["id"]]["hidden"]
        assert folder["totalItemCount"] == told[folder["id"]]["totalItemCount"]
        assert "wellKnownName" not in folder
    assert any(f.get("@odata.type") == "#microsoft.graph.mailSearchFolder" for f in found)
    names = [(f["parentFolderId"], f["displayName"]) for f in found]
    assert len(names) > len(set(names))


async def test_hidden_folders_are_left_out_by_default(probe: GraphProbe) -> None:
    """Without includeHiddenFolders no hidden folder is listed."""
    found, _ = await probe.round(f"{USER}/mailFolders?$top=100")

    assert found
    assert not any(folder["isHidden"] for folder in found)


async def test_well_known_names_and_unknown_folders(probe: GraphProbe) -> None:
    """Well-known names resolve in any case; what does not exist is 404, nonsense is 400."""
    inbox = await probe.get(f"{USER}/mailFolders/Inbox")
    by_id = await probe.get(f"{USER}/mailFolders/{inbox.body['id']}")
    purges = await probe.get(f"{USER}/mailFolders/recoverableitemsdeletions")
    missing = await probe.get(f"{USER}/mailFolders/clutter")
    malformed = await probe.get(f"{USER}/mailFolders/AAMkADIyAAAhrbPXAAA=")

    assert inbox.body["displayName"] == by_id.body["displayName"] == "Inbox"
    assert purges.status == 200
    assert (missing.status, missing.code) == (404, "ErrorItemNotFound")
    assert (malformed.status, malformed.code) == (400, "ErrorInvalidIdMalformed")


async def test_listing_orders_counts_and_filters(probe: GraphProbe) -> None:
    """A folder listing is newest first, counts, filters by date and finds a Message-ID."""
    path = f"{USER}/mailFolders/inbox/messages"
    everything, _ = await probe.round(f"{path}?$top=7&$select=receivedDateTime,internetMessageId")
    dates = [item["receivedDateTime"] for item in everything]
    assert dates == sorted(dates, reverse=True)

    counted = (await probe.get(f"{path}?$count=true&$top=1")).body["@odata.count"]
    assert counted == len(everything)

    oldest_first = await probe.get(f"{path}?$orderby=receivedDateTime%20asc&$top=1")
    assert oldest_first.body["value"][0]["receivedDateTime"] == dates[-1]

    middle = dates[10]
    newer, _ = await probe.round(f"{path}?$filter=receivedDateTime%20ge%20{middle}&$top=3")
    assert len(newer) == 11

    exact = quote(f"internetMessageId eq '{everything[5]['internetMessageId']}'")
    found, _ = await probe.round(f"{path}?$filter={exact}")
    assert [item["id"] for item in found] == [everything[5]["id"]]

    unread, _ = await probe.round(f"{path}?$filter=isRead%20eq%20false&$select=isRead")
    folder = (await probe.get(f"{USER}/mailFolders/inbox")).body
    assert len(unread) == folder["unreadItemCount"]


async def test_mailbox_wide_listing_spans_folders(emulator: Emulator, probe: GraphProbe) -> None:
    """The mailbox-wide listing merges all folders below the root, newest first."""
    found, _ = await probe.round(f"{USER}/messages?$select=receivedDateTime&$top=50")

    truth = emulator.control.mailbox_truth(ADDRESS, content=False)
    below = {f["id"] for f in truth["folders"] if f["belowRoot"]}
    told = {m["immutableId"] for m in truth["messages"] if m["folderId"] in below}
    dates = [item["receivedDateTime"] for item in found]
    assert {item["id"] for item in found} == told
    assert dates == sorted(dates, reverse=True)


async def test_messages_match_truth(emulator: Emulator, probe: GraphProbe) -> None:
    """Body hash, subject, flags and attachment flag are what truth says."""
    truth = emulator.control.mailbox_truth(ADDRESS)

    for told in truth["messages"][:25]:
        answer = await probe.get(f"{USER}/messages/{told['immutableId']}")
        body = answer.body
        digest = hashlib.sha256(body["body"]["content"].encode()).hexdigest()
        assert digest == told["bodySha"]
        for name in ("subject", "isRead", "flag", "categories", "hasAttachments"):
            assert body[name] == told[name]
        assert body["parentFolderId"] == told["folderId"]
        assert answer.headers["Preference-Applied"] == 'IdType="ImmutableId"'


async def test_unknown_properties_are_refused(probe: GraphProbe) -> None:
    """Selecting what does not exist is a 400 that names the property."""
    answer = await probe.get(f"{USER}/messages?$select=subject,colour")

    assert answer.status == 400
    assert "'colour'" in answer.body["error"]["message"]


async def test_every_attachment_can_be_read(emulator: Emulator, probe: GraphProbe) -> None:
    """Listings carry the bytes of files, $value streams files and items, references refuse."""
    truth = emulator.control.mailbox_truth(ADDRESS)
    kinds = set()
    for message in truth["messages"]:
        if not message["attachments"]:
            continue
        path = f"{USER}/messages/{message['immutableId']}/attachments"
        listed = (await probe.get(path)).body["value"]
        for told, shown in zip(message["attachments"], listed, strict=True):
            kinds.add(told["type"])
            assert (shown["id"], shown["name"], shown["size"]) == (
                told["id"],
                told["name"],
                told["size"],
            )
            value = await probe.get(f"{path}/{told['id']}/$value")
            if told["sha256"] is None:
                assert value.status == 405
                continue
            assert hashlib.sha256(value.raw).hexdigest() == told["sha256"]
            if told["type"].endswith("fileAttachment"):
                raw = base64.b64decode(shown["contentBytes"])
                assert hashlib.sha256(raw).hexdigest() == told["sha256"]
                assert shown["contentId"] == told["contentId"]
    assert len(kinds) == 3


async def test_inline_images_do_not_count_as_attachments(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """A message with inline images alone has hasAttachments false and names them in its body."""
    truth = emulator.control.mailbox_truth(ADDRESS)
    only_inline = [
        m
        for m in truth["messages"]
        if m["attachments"] and all(a["isInline"] for a in m["attachments"])
    ]

    assert only_inline
    for told in only_inline:
        body = (await probe.get(f"{USER}/messages/{told['immutableId']}")).body
        assert body["hasAttachments"] is False
        for part in told["attachments"]:
            assert f"cid:{part['contentId']}" in body["body"]["content"]


async def test_large_files_are_listed_without_bytes(emulator: Emulator, probe: GraphProbe) -> None:
    """Above the inline limit contentBytes is missing, and $value has the whole file."""
    size = 5 * 1024 * 1024
    made = emulator.control.mutate(
        ADDRESS,
        {"op": "create", "folder": "inbox", "attachments": [{"size": size, "name": "big.bin"}]},
    )
    path = f"{USER}/messages/{made['immutableId']}/attachments"

    listed = (await probe.get(path)).body["value"]
    value = await probe.get(f"{path}/{listed[0]['id']}/$value")

    assert "contentBytes" not in listed[0]
    assert len(value.raw) == size == int(value.headers["Content-Length"])


async def test_attachment_select_needs_the_cast(emulator: Emulator, probe: GraphProbe) -> None:
    """Properties of fileAttachment are selected with their type, else 400."""
    made = emulator.control.mutate(
        ADDRESS,
        {"op": "create", "folder": "inbox", "attachments": [{"size": 9, "contentId": "c1"}]},
    )
    path = f"{USER}/messages/{made['immutableId']}/attachments"

    plain = await probe.get(f"{path}?$select=id,name,contentId")
    cast = await probe.get(f"{path}?$select=id,microsoft.graph.fileAttachment/contentId")

    assert plain.status == 400
    assert cast.body["value"][0]["contentId"] == "c1"
    assert "contentBytes" not in cast.body["value"][0]


async def test_mime_of_message_and_smime(emulator: Emulator, probe: GraphProbe) -> None:
    """$value renders MIME, and fails for S/MIME as Exchange does while JSON works."""
    truth = emulator.control.mailbox_truth(ADDRESS)
    smime = [
        m for m in truth["messages"] if any(a["name"] == "smime.p7m" for a in m["attachments"])
    ]
    plain = next(m for m in truth["messages"] if m not in smime)

    mime = await probe.get(f"{USER}/messages/{plain['immutableId']}/$value")
    broken = await probe.get(f"{USER}/messages/{smime[0]['immutableId']}/$value")

    assert plain["internetMessageId"].encode() in mime.raw
    assert (broken.status, broken.code) == (500, "ErrorMimeContentConversionFailed")
    expand = quote("singleValueExtendedProperties($filter=id eq 'String 0x001A')")
    json_form = await probe.get(f"{USER}/messages/{smime[0]['immutableId']}?$expand={expand}")
    assert json_form.body["singleValueExtendedProperties"][0]["value"] == "IPM.Note.SMIME"


async def test_expand_brings_attachments_and_items(emulator: Emulator, probe: GraphProbe) -> None:
    """$expand returns attachments with the message, and the item of an item attachment."""
    truth = emulator.control.mailbox_truth(ADDRESS)
    message, part = next(
        (m, a)
        for m in truth["messages"]
        for a in m["attachments"]
        if a["type"].endswith("itemAttachment")
    )
    path = f"{USER}/messages/{message['immutableId']}"

    expanded = (await probe.get(f"{path}?$expand=attachments")).body
    item = await probe.get(
        f"{path}/attachments/{part['id']}?$expand=microsoft.graph.itemattachment/item"
    )

    assert [a["id"] for a in expanded["attachments"]] == [a["id"] for a in message["attachments"]]
    assert item.body["item"]["@odata.type"] == "#microsoft.graph.message"


async def test_text_bodies_on_request(emulator: Emulator, probe: GraphProbe) -> None:
    """Prefer outlook.body-content-type converts HTML bodies to text."""
    made = emulator.control.mutate(
        ADDRESS, {"op": "create", "folder": "inbox", "body": "<html><b>Hi</b></html>"}
    )

    answer = await probe.get(
        f"{USER}/messages/{made['immutableId']}",
        prefer='IdType="ImmutableId", outlook.body-content-type="text"',
    )

    assert answer.body["body"] == {"contentType": "text", "content": "Hi"}


async def test_me_is_refused_for_applications(probe: GraphProbe) -> None:
    """/me has no meaning for an application."""
    answer = await probe.get("me/messages")

    assert answer.status == 400
    assert "delegated" in answer.body["error"]["message"]


async def test_users_can_have_names_of_their_own() -> None:
    """The first users bear the given names, by which they are found; the others are numbered."""
    names = ("o'brien@contoso.com", "ann_partner.example#EXT#@contoso.com")
    corpus = Corpus(CorpusOptions(mailboxes=3, messages=4, addresses=names))
    async with Emulator(corpus) as emulator, GraphProbe(emulator) as probe:
        found = [u["userPrincipalName"] for u in (await probe.get("users")).body["value"]]
        inbox = await probe.get("users/ann_partner.example%23EXT%23@contoso.com/mailFolders/inbox")

    assert found[:3] == [*names, "user0002@contoso.com"]
    assert inbox.status == 200


async def test_created_messages_can_name_who_gets_replies(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """``replyTo`` of a message made behind the clients' backs is shown as it was given."""
    wrong = [{"emailAddress": {"name": "Nobody", "address": "not an address"}}]
    change = {"op": "create", "folder": "inbox", "replyTo": wrong}
    made = emulator.control.mutate(ADDRESS, change)["immutableId"]

    shown = await probe.get(f"users/{ADDRESS}/messages/{made}")

    assert shown.body["replyTo"] == wrong
