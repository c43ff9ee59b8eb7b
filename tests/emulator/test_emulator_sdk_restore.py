"""What a restore writes, judged by Microsoft's SDK: its models in, its models out."""

from __future__ import annotations

import base64
from email.message import EmailMessage
from typing import Any

import pytest

from tests.emulator.judge import ADDRESS, Judge, options

MARK = "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name Restored"
WORDS = "StringArray {66f5a359-4659-4830-9070-00047ec6ac6e} Name Words"
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The SDK's generated code uses deprecated parts of its own runtime.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def _single(name: str, value: str) -> Any:
    from msgraph.generated.models.single_value_legacy_extended_property import (
        SingleValueLegacyExtendedProperty,
    )

    return SingleValueLegacyExtendedProperty(id=name, value=value)


def _list(name: str, *values: str) -> Any:
    from msgraph.generated.models.multi_value_legacy_extended_property import (
        MultiValueLegacyExtendedProperty,
    )

    return MultiValueLegacyExtendedProperty(id=name, value=list(values))


def _wanted(*names: str, kind: str = "single") -> str:
    chosen = " or ".join(f"id eq '{name}'" for name in names)
    return f"{kind}ValueExtendedProperties($filter={chosen})"


def _recipient(address: str) -> Any:
    from msgraph.generated.models.email_address import EmailAddress
    from msgraph.generated.models.recipient import Recipient

    return Recipient(email_address=EmailAddress(name=address.partition("@")[0], address=address))


def _message(**values: Any) -> Any:
    from msgraph.generated.models.message import Message

    return Message(**values)


def _one(judge: Judge, message_id: str) -> Any:
    return judge.user.messages.by_message_id(message_id)


async def _shown(judge: Judge, message_id: str, *expand: str, select: list[str]) -> Any:
    from msgraph.generated.users.item.messages.item.message_item_request_builder import (
        MessageItemRequestBuilder,
    )

    query = MessageItemRequestBuilder.MessageItemRequestBuilderGetQueryParameters(
        expand=list(expand), select=select
    )
    return await _one(judge, message_id).get(request_configuration=options(query))


async def _restored(judge: Judge, number: int) -> Any:
    from msgraph.generated.models.date_time_time_zone import DateTimeTimeZone
    from msgraph.generated.models.followup_flag import FollowupFlag
    from msgraph.generated.models.followup_flag_status import FollowupFlagStatus
    from msgraph.generated.models.importance import Importance

    due = DateTimeTimeZone(date_time="2026-03-02T00:00:00.0000000", time_zone="UTC")
    message = _message(
        subject=f"restored {number}",
        importance=Importance.High,
        sender=_recipient("ann@example.org"),
        from_=_recipient("bob@example.org"),
        reply_to=[_recipient("carol@example.org")],
        categories=["Red"],
        flag=FollowupFlag(
            flag_status=FollowupFlagStatus.Flagged, start_date_time=due, due_date_time=due
        ),
        internet_message_id=f"<restored.{number}@example.org>",
        single_value_extended_properties=[
            _single("Integer 0x0E07", "4"),
            _single("SystemTime 0x0E06", "2017-01-02T03:04:05Z"),
            _single("SystemTime 0x0039", "2017-01-02T03:04:00Z"),
            _single("String 0x007D", "Received: from a by b\r\nX-Was: here\r\n\r\n"),
            _single(MARK, f"run-{number}"),
        ],
        multi_value_extended_properties=[_list(WORDS, "one", "two")],
    )
    folder = judge.user.mail_folders.by_mail_folder_id("archive")
    return await folder.messages.post(message)


async def test_sdk_reads_back_what_was_restored(judge: Judge) -> None:
    """State, dates, headers and extended properties of both kinds come back as models."""
    made = await _restored(judge, 1)

    shown = await _shown(
        judge,
        made.id,
        _wanted(MARK, "SystemTime 0x0E06"),
        _wanted(WORDS, kind="multi"),
        select=[
            "subject",
            "isDraft",
            "isRead",
            "receivedDateTime",
            "sentDateTime",
            "flag",
            "internetMessageHeaders",
            "sender",
            "from",
            "replyTo",
            "importance",
        ],
    )

    assert (shown.is_draft, shown.is_read, shown.importance.value) == (False, False, "high")
    assert shown.received_date_time.isoformat() == "2017-01-02T03:04:05+00:00"
    assert shown.sent_date_time.isoformat() == "2017-01-02T03:04:00+00:00"
    assert shown.sender.email_address.address == "ann@example.org"
    assert shown.from_.email_address.address == "bob@example.org"
    assert shown.reply_to[0].email_address.address == "carol@example.org"
    assert shown.flag.due_date_time.date_time == "2026-03-02T00:00:00.0000000"
    assert [(h.name, h.value) for h in shown.internet_message_headers] == [
        ("Received", "from a by b"),
        ("X-Was", "here"),
    ]
    assert [(p.id, p.value) for p in shown.single_value_extended_properties] == [
        (MARK, "run-1"),
        ("SystemTime 0xe06", "2017-01-02T03:04:05Z"),
    ]
    assert [(p.id, p.value) for p in shown.multi_value_extended_properties] == [
        (WORDS, ["one", "two"])
    ]


async def test_sdk_finds_what_was_restored(judge: Judge) -> None:
    """By extended property and by Message-ID, with expansion, in the mailbox and a folder."""
    from msgraph.generated.users.item.mail_folders.item.messages import (
        messages_request_builder as in_folder,
    )
    from msgraph.generated.users.item.messages.messages_request_builder import (
        MessagesRequestBuilder,
    )

    made = await _restored(judge, 2)
    mark = f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARK}' and ep/value eq 'run-2')"
    query: Any = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        filter=mark, expand=[_wanted(MARK)], select=["subject"], count=True, top=1000
    )
    everywhere = await judge.user.messages.get(request_configuration=options(query))
    query = in_folder.MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        filter="internetMessageId eq '<restored.2@example.org>'"
    )
    folder = judge.user.mail_folders.by_mail_folder_id("archive")
    there = await folder.messages.get(request_configuration=options(query))

    assert [message.id for message in everywhere.value] == [made.id]
    assert everywhere.odata_count == 1
    assert everywhere.value[0].single_value_extended_properties[0].value == "run-2"
    assert [message.id for message in there.value] == [made.id]


async def test_sdk_updates_properties(judge: Judge) -> None:
    """PATCH with models changes an extended property and nothing else."""
    made = await _restored(judge, 3)

    change = _message(single_value_extended_properties=[_single(MARK, "changed")])
    await _one(judge, made.id).patch(change)
    shown = await _shown(judge, made.id, _wanted(MARK), select=["subject"])

    assert shown.subject == "restored 3"
    assert shown.single_value_extended_properties[0].value == "changed"


async def test_sdk_creates_parts_with_the_message(judge: Judge) -> None:
    """Files, inline images and items of three kinds go with the POST and come back typed."""
    from msgraph.generated.models.contact import Contact
    from msgraph.generated.models.event import Event
    from msgraph.generated.models.file_attachment import FileAttachment
    from msgraph.generated.models.item_attachment import ItemAttachment
    from msgraph.generated.users.item.messages.item.attachments.attachments_request_builder import (
        AttachmentsRequestBuilder,
    )

    inner = _message(subject="inner", internet_message_id="<inner@example.org>")
    file = FileAttachment(
        odata_type="#microsoft.graph.fileAttachment",
        name="i.png",
        content_bytes=b"png",
        content_id="cid1",
        is_inline=True,
    )
    items = [
        ItemAttachment(odata_type="#microsoft.graph.itemAttachment", name=name, item=item)
        for name, item in (
            ("mail", inner),
            ("meeting", Event(odata_type="#microsoft.graph.event", subject="meeting")),
            ("person", Contact(odata_type="#microsoft.graph.contact", display_name="Ann")),
        )
    ]
    inner.odata_type = "#microsoft.graph.message"
    made = await judge.user.messages.post(_message(subject="p", attachments=[file, *items]))
    query = AttachmentsRequestBuilder.AttachmentsRequestBuilderGetQueryParameters(
        expand=["microsoft.graph.itemattachment/item"]
    )
    listed = await _one(judge, made.id).attachments.get(request_configuration=options(query))

    kept, mail, meeting, person = listed.value
    assert (kept.content_bytes, kept.content_id, kept.is_inline) == (b"png", "cid1", True)
    assert (mail.item.subject, mail.item.internet_message_id) == ("inner", "<inner@example.org>")
    assert isinstance(meeting.item, Event)
    assert isinstance(person.item, Contact)
    assert person.item.display_name == "Ann"


async def test_sdk_cannot_attach_links(judge: Judge) -> None:
    """The model of v1.0 has no sourceUrl, without which the service refuses it."""
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError
    from msgraph.generated.models.reference_attachment import ReferenceAttachment

    made = await judge.user.messages.post(_message(subject="links"))
    link = ReferenceAttachment(odata_type="#microsoft.graph.referenceAttachment", name="doc")

    with pytest.raises(ODataError) as refused:
        await _one(judge, made.id).attachments.post(link)

    error: Any = refused.value.error
    assert error.code == "ErrorInvalidProperty"
    assert "SourceUrl" in error.message


async def test_sdk_marks_folders(judge: Judge) -> None:
    """A folder made with an extended property shows it and is found by it."""
    from msgraph.generated.models.mail_folder import MailFolder
    from msgraph.generated.users.item.mail_folders.mail_folders_request_builder import (
        MailFoldersRequestBuilder,
    )

    made = await judge.user.mail_folders.post(
        MailFolder(display_name="Run", single_value_extended_properties=[_single(MARK, "root")])
    )
    query = MailFoldersRequestBuilder.MailFoldersRequestBuilderGetQueryParameters(
        filter=f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARK}' and ep/value eq 'root')",
        expand=[_wanted(MARK)],
    )
    found = await judge.user.mail_folders.get(request_configuration=options(query))
    await judge.user.mail_folders.by_mail_folder_id(made.id).permanent_delete.post()

    assert [folder.id for folder in found.value] == [made.id]
    assert found.value[0].single_value_extended_properties[0].value == "root"
    told = judge.emulator.control.mailbox_truth(ADDRESS, content=False)["folders"]
    assert made.id not in {folder["id"] for folder in told}


async def test_sdk_posts_mime(judge: Judge) -> None:
    """Base64 MIME through the SDK's adapter becomes a draft in the folder, with its parts."""
    from kiota_abstractions.method import Method
    from kiota_abstractions.request_information import RequestInformation
    from msgraph.generated.models.message import Message

    letter = EmailMessage()
    letter["From"], letter["Subject"] = "ann@example.org", "by MIME"
    letter["Date"] = "Fri, 05 Apr 2019 06:07:08 +0000"
    letter.set_content("text")
    letter.add_attachment(b"file", maintype="a", subtype="b", filename="f.bin")
    call = RequestInformation()
    call.http_method = Method.POST
    call.url = f"{judge.adapter.base_url}/users/{ADDRESS}/mailFolders/archive/messages"
    call.set_stream_content(base64.b64encode(letter.as_bytes()), "text/plain")

    made: Any = await judge.adapter.send_async(call, Message, {})
    parts = (await _one(judge, made.id).attachments.get()).value

    assert (made.subject, made.is_draft) == ("by MIME", True)
    assert made.sent_date_time.year == 2019
    assert [(part.name, part.content_bytes) for part in parts] == [("f.bin", b"file")]


async def test_sdk_undoes_a_restore(judge: Judge) -> None:
    """Delete, move back from recoverable items by immutable id, delete for good."""
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError
    from msgraph.generated.users.item.messages.item.move.move_post_request_body import (
        MovePostRequestBody,
    )

    stable = options(None, {"Prefer": 'IdType="ImmutableId"'})
    folder = judge.user.mail_folders.by_mail_folder_id("archive")
    made = await folder.messages.post(_message(subject="undo"), request_configuration=stable)
    one = _one(judge, made.id)

    await one.delete()
    back = await one.move.post(
        MovePostRequestBody(destination_id="archive"), request_configuration=stable
    )
    await one.permanent_delete.post()

    assert back.id == made.id
    with pytest.raises(ODataError) as gone:
        await one.get()
    assert gone.value.response_status_code == 404


async def test_sdk_raises_for_bodies_that_are_too_large(judge: Judge) -> None:
    """413 arrives as the SDK's error with Graph's words."""
    from msgraph.generated.models.item_body import ItemBody
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError

    with pytest.raises(ODataError) as refused:
        await judge.user.messages.post(_message(body=ItemBody(content="x" * (4 << 20))))

    error: Any = refused.value.error
    assert refused.value.response_status_code == 413
    assert "4MB" in error.message
