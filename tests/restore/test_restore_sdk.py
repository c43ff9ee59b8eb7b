"""Microsoft's own SDK reads back what was restored, and finds it as the source was."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, GraphSettings, Limits, Settings
from atlas_async.model.restoring import MARK_PROPERTY, RestoreOptions
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.sdk import Atlas
from atlas_async.store.memory import MemoryStore
from tests.emulator.judge import ADDRESS, Judge, options
from tests.restore.scene import ROOT

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The SDK's generated code uses deprecated parts of its own runtime.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


def address(recipient: Any) -> str:
    """Return an address as it counts."""
    held = recipient.email_address if recipient is not None else None
    return str(held.address or "").lower() if held is not None else ""


def moment(value: Any) -> Any:
    """Return a date and time zone as one text."""
    return value and (value.date_time, value.time_zone)


def told(message: Any) -> tuple[Any, ...]:
    """Return what the SDK shows of a message, as a restore has to bring it back."""
    people = (
        message.to_recipients,
        message.cc_recipients,
        message.bcc_recipients,
        message.reply_to,
    )
    flag = message.flag
    draft = bool(message.is_draft)
    return (
        message.subject or "",
        message.internet_message_id,
        message.body.content_type,
        hashlib.sha256((message.body.content or "").encode("utf-8", "surrogatepass")).hexdigest(),
        message.is_read,
        draft,
        None if draft else message.received_date_time,
        None if draft else message.sent_date_time,
        message.importance,
        tuple(message.categories or ()),
        flag.flag_status,
        moment(flag.start_date_time),
        moment(flag.due_date_time),
        address(message.from_),
        tuple(tuple(a for a in map(address, group or ()) if "@" in a) for group in people),
    )


def parts(message: Any) -> list[tuple[Any, ...]]:
    """Return the files among a message's attachments, with their bytes."""
    found = []
    for part in message.attachments or ():
        if part.odata_type == "#microsoft.graph.fileAttachment":
            digest = hashlib.sha256(part.content_bytes).hexdigest()
            found.append((part.name, digest, part.content_id, part.is_inline))
    return sorted(found, key=repr)


async def listed(judge: Judge, folder_id: str) -> list[Any]:
    """Return all messages of a folder with attachments and mark."""
    from msgraph.generated.users.item.mail_folders.item.messages.messages_request_builder import (
        MessagesRequestBuilder,
    )

    query = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        top=200,
        expand=["attachments", f"singleValueExtendedProperties($filter=id eq '{MARK_PROPERTY}')"],
    )
    page = await judge.user.mail_folders.by_mail_folder_id(folder_id).messages.get(
        options(query, IMMUTABLE)
    )
    return list(page.value or ())


async def children(judge: Judge, folder_id: str) -> dict[str, str]:
    """Return the folders below one, by name."""
    from msgraph.generated.users.item.mail_folders.item.child_folders import (
        child_folders_request_builder as builders,
    )

    query = builders.ChildFoldersRequestBuilder.ChildFoldersRequestBuilderGetQueryParameters(
        top=200, include_hidden_folders="true"
    )
    found = await judge.user.mail_folders.by_mail_folder_id(folder_id).child_folders.get(
        options(query, IMMUTABLE)
    )
    return {str(folder.display_name): str(folder.id) for folder in found.value or ()}


async def test_the_sdk_reads_what_was_restored(judge: Judge) -> None:
    """Folder by folder: the same messages, with their marks, their files byte for byte."""
    emulator = judge.emulator
    day = {"dateTime": "2026-05-01T00:00:00.0000000", "timeZone": "UTC"}
    emulator.control.mutate(
        ADDRESS,
        {
            "op": "create",
            "folder": "inbox",
            "subject": "Flagged, with a large file",
            "flag": {"flagStatus": "flagged", "startDateTime": day, "dueDateTime": day},
            "categories": ["Red"],
            "importance": "low",
            "attachments": [{"name": "large.bin", "size": 3_500_000, "seed": 5}],
        },
    )
    tenant = emulator.tenant
    settings = Settings(
        graph=GraphSettings(
            tenant_id=str(tenant.id),
            client_id=tenant.client_id,
            credential=Secret(tenant.client_secret),
            authority_url=emulator.authority_url,
            graph_url=emulator.graph_url,
            ca_file=emulator.ca_file,
        ),
        storage=DirectorySettings(Path("unused")),
        tenant_id=str(tenant.id),
        passphrase=Secret("correct horse"),
        limits=replace(Limits(), retries=3),
        dek_version=0,
    )
    async with Atlas(settings, store=MemoryStore()) as atlas:
        await atlas.backup([ADDRESS])
        wish = RestoreWish(Selection(mailbox=ADDRESS))
        (report,) = await atlas.restore([wish], RestoreOptions(root=ROOT))
    assert report.exit_code == 0, (report.error, report.failures)
    source = await children(judge, "msgfolderroot")
    root = await children(judge, source.pop(ROOT))
    assert root.keys() <= source.keys()
    compared = 0
    marks = set()
    for name, folder_id in root.items():
        before = await listed(judge, source[name])
        after = await listed(judge, folder_id)
        assert sorted(map(repr, map(told, after))) == sorted(map(repr, map(told, before)))
        files = {message.internet_message_id: parts(message) for message in after}
        for message in before:
            assert set(parts(message)) <= set(files[message.internet_message_id])
        for message in after:
            (mark,) = [p.value for p in message.single_value_extended_properties]
            assert mark.startswith(f"{report.job_id}/")
            marks.add(mark)
        compared += len(after)
    assert compared == len(marks) > 40
