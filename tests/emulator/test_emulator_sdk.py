"""Microsoft's own SDK for Python is the judge: it must understand every answer over TLS."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_async.emulator import FaultRule
from tests.emulator.judge import ADDRESS, Judge, options

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The SDK's generated code uses deprecated parts of its own runtime.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


async def test_sdk_lists_users_through_its_page_iterator(judge: Judge) -> None:
    """PageIterator follows the next links of the directory."""
    from msgraph.generated.users.users_request_builder import UsersRequestBuilder
    from msgraph_core.tasks.page_iterator import (  # type: ignore[import-untyped]  # has no types
        PageIterator,
    )

    query = UsersRequestBuilder.UsersRequestBuilderGetQueryParameters(top=2)
    first = await judge.client.users.get(request_configuration=options(query))
    names: list[str] = []

    def keep(user: Any) -> bool:
        names.append(user.user_principal_name)
        return True

    await PageIterator(first, judge.adapter).iterate(keep)

    assert names == [person.upn for person in judge.emulator.corpus.people]


async def test_sdk_walks_folders(judge: Judge) -> None:
    """Folders and search folders deserialise, recursively, with counts."""
    from msgraph.generated.models.mail_search_folder import MailSearchFolder
    from msgraph.generated.users.item.mail_folders.mail_folders_request_builder import (
        MailFoldersRequestBuilder,
    )

    query = MailFoldersRequestBuilder.MailFoldersRequestBuilderGetQueryParameters(
        include_hidden_folders="true", top=100
    )
    root = await judge.user.mail_folders.get(request_configuration=options(query))
    waiting, found = list(root.value), []
    while waiting:
        folder = waiting.pop()
        found.append(folder)
        if folder.child_folder_count:
            inner = await judge.user.mail_folders.by_mail_folder_id(folder.id).child_folders.get()
            waiting += inner.value

    truth = judge.emulator.control.mailbox_truth(ADDRESS, content=False)
    told = {f["id"]: f for f in truth["folders"]}
    assert len(found) > 15
    assert any(isinstance(folder, MailSearchFolder) for folder in found)
    for folder in found:
        assert folder.display_name == told[folder.id]["displayName"]
        assert folder.total_item_count == told[folder.id]["totalItemCount"]


async def test_sdk_follows_delta(judge: Judge) -> None:
    """Delta pages, delta links and removals are understood."""
    builder = judge.user.mail_folders.by_mail_folder_id("inbox").messages.delta
    headers = {"Prefer": 'IdType="ImmutableId", odata.maxpagesize=7'}
    page = await builder.get(request_configuration=options(None, headers))
    messages = list(page.value)
    while page.odata_next_link:
        page = await builder.with_url(page.odata_next_link).get(
            request_configuration=options(None, headers)
        )
        messages += page.value
    truth = judge.emulator.control.mailbox_truth(ADDRESS, content=False)
    inbox = next(f["id"] for f in truth["folders"] if f["wellKnownName"] == "inbox")
    told = {m["immutableId"] for m in truth["messages"] if m["folderId"] == inbox}
    assert {message.id for message in messages} == told
    assert all(message.body.content and message.received_date_time for message in messages)

    judge.emulator.control.mutate(
        ADDRESS, {"op": "delete", "message": messages[0].id, "hard": True}
    )
    after = await builder.with_url(page.odata_delta_link).get(
        request_configuration=options(None, headers)
    )

    assert [message.id for message in after.value] == [messages[0].id]
    assert after.value[0].additional_data["@removed"] == {"reason": "deleted"}


async def test_sdk_reads_attachments_of_each_type(judge: Judge) -> None:
    """File, item and reference attachments become their own classes; $value gives bytes."""
    from msgraph.generated.models.file_attachment import FileAttachment
    from msgraph.generated.models.item_attachment import ItemAttachment
    from msgraph.generated.models.reference_attachment import ReferenceAttachment

    truth = judge.emulator.control.mailbox_truth(ADDRESS)
    seen: set[type] = set()
    for message in truth["messages"]:
        if not message["attachments"]:
            continue
        builder = judge.user.messages.by_message_id(message["immutableId"]).attachments
        listed = (await builder.get()).value
        assert [part.name for part in listed] == [part["name"] for part in message["attachments"]]
        seen |= {type(part) for part in listed}
        for part in listed:
            if isinstance(part, FileAttachment):
                assert part.content_bytes
    mime = await judge.user.messages.by_message_id(
        next(m["immutableId"] for m in truth["messages"] if not m["attachments"])
    ).content.get()

    assert seen == {FileAttachment, ItemAttachment, ReferenceAttachment}
    assert b"MIME-Version: 1.0" in mime


async def test_sdk_creates_changes_moves_and_deletes(judge: Judge) -> None:
    """The whole life of folder and message through the SDK's models."""
    from msgraph.generated.models.body_type import BodyType
    from msgraph.generated.models.file_attachment import FileAttachment
    from msgraph.generated.models.item_body import ItemBody
    from msgraph.generated.models.mail_folder import MailFolder
    from msgraph.generated.models.message import Message
    from msgraph.generated.models.single_value_legacy_extended_property import (
        SingleValueLegacyExtendedProperty,
    )
    from msgraph.generated.users.item.messages.item.move.move_post_request_body import (
        MovePostRequestBody,
    )

    folder = await judge.user.mail_folders.post(MailFolder(display_name="From SDK"))
    flags = SingleValueLegacyExtendedProperty(id="Integer 0x0E07", value="1")
    message = await judge.user.mail_folders.by_mail_folder_id(folder.id).messages.post(
        Message(
            subject="Grüße",
            body=ItemBody(content_type=BodyType.Html, content="<p>x</p>"),
            single_value_extended_properties=[flags],
        )
    )
    one = judge.user.messages.by_message_id(message.id)
    part = FileAttachment(
        odata_type="#microsoft.graph.fileAttachment", name="n.txt", content_bytes=b"bytes"
    )
    attached = await one.attachments.post(part)
    patched = await one.patch(Message(is_read=False))
    moved = await one.move.post(MovePostRequestBody(destination_id="archive"))

    assert (message.subject, message.is_draft, message.is_read) == ("Grüße", False, True)
    assert isinstance(attached, FileAttachment)
    assert patched.is_read is False
    assert moved.has_attachments is True
    await judge.user.messages.by_message_id(moved.id).delete()
    await judge.user.mail_folders.by_mail_folder_id(folder.id).delete()


async def test_sdk_opens_an_upload_session(judge: Judge) -> None:
    """The session deserialises; ranges sent to its URL become a FileAttachment of the message."""
    from msgraph.generated.models.attachment_item import AttachmentItem
    from msgraph.generated.models.attachment_type import AttachmentType
    from msgraph.generated.models.message import Message
    from msgraph.generated.users.item.messages.item.attachments.create_upload_session import (
        create_upload_session_post_request_body as request_body,
    )

    message = await judge.user.messages.post(Message(subject="large"))
    data = bytes(4_000_000)
    item = AttachmentItem(attachment_type=AttachmentType.File, name="zeros.bin", size=len(data))
    builder = judge.user.messages.by_message_id(message.id).attachments
    session = await builder.create_upload_session.post(
        request_body.CreateUploadSessionPostRequestBody(attachment_item=item)
    )

    # The SDK's own upload task cannot parse the single number that Outlook answers with.
    statuses = []
    for start in (0, 2_000_000):
        piece = data[start : start + 2_000_000]
        span = {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(data)}"}
        sent = await judge.http.put(session.upload_url, content=piece, headers=span)
        statuses.append(sent.status_code)

    assert session.next_expected_ranges == ["0-"]
    assert statuses == [200, 201]
    listed = (await builder.get()).value
    assert [len(part.content_bytes) for part in listed] == [len(data)]


async def test_sdk_raises_its_error_object(judge: Judge) -> None:
    """Errors arrive as ODataError with Graph's code, for 404s and injected faults."""
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError

    judge.emulator.control.add_fault(
        FaultRule(path="/mailFolders/archive", status=500, code="ErrorCorruptData", message="bad")
    )
    with pytest.raises(ODataError) as missing:
        await judge.user.mail_folders.by_mail_folder_id("clutter").get()
    with pytest.raises(ODataError) as broken:
        await judge.user.mail_folders.by_mail_folder_id("archive").get()

    gone: Any = missing.value.error
    bad: Any = broken.value.error
    assert missing.value.response_status_code == 404
    assert (gone.code, bool(gone.inner_error.request_id)) == ("ErrorItemNotFound", True)
    assert (bad.code, bad.message) == ("ErrorCorruptData", "bad")
