"""One row of a mailbox's state: a message as of a snapshot, without its content.

Records are plain JSON objects (typed dictionaries), because a mailbox may have a million of them
and they go from parser to writer untouched. ``docs/format.md`` describes every field.
"""

from __future__ import annotations

from typing import Final, Literal, NotRequired, TypedDict

from atlas_async.model.source import JsonObject

AttachmentType = Literal["file", "item", "reference"]


class AttachmentRecord(TypedDict):
    """An attachment of a message. ``size_bytes`` is Graph's figure, ``content_bytes`` is exact."""

    attachment_id: str
    name: str
    type: AttachmentType
    content_type: str
    size_bytes: int
    content_bytes: int
    checksum: str
    is_inline: bool
    content_id: NotRequired[str]
    modified: NotRequired[str]


class OriginalRecord(TypedDict):
    """A message's original MIME: hex SHA-256 and exact length in bytes of what is stored."""

    checksum: str
    size_bytes: int


class MessageRecord(TypedDict):
    """A message of a snapshot.

    ``content`` is the first half of the SHA-256 over the properties that make the message what it
    is; ``checksum`` is over the stored object and stays when only read state, flag, categories or
    the folder change. ``original_refused`` is Graph's code where it gives no MIME of the message.
    """

    object_id: str
    folder_id: str
    checksum: str
    size_bytes: int
    content: str
    subject: str
    received: str
    modified: str
    change_key: str
    is_read: bool | None
    flag: str | None
    categories: list[str]
    internet_message_id: str
    sender: str
    is_draft: bool
    has_attachments: bool
    flag_detail: NotRequired[JsonObject]
    attachments: NotRequired[list[AttachmentRecord]]
    original: NotRequired[OriginalRecord]
    original_refused: NotRequired[str]


class Tombstone(TypedDict):
    """A message that the snapshot no longer has."""

    object_id: str
    gone: Literal[True]


Row = MessageRecord | Tombstone

STATE_PROPERTIES: Final = frozenset(
    {
        "isRead",
        "flag",
        "categories",
        "parentFolderId",
        "lastModifiedDateTime",
        "changeKey",
    }
)
"""Properties that change without the message becoming another one. They are kept in the record."""


def is_state(name: str) -> bool:
    """Tell whether a property is no part of what the message is: state, or an annotation."""
    return name in STATE_PROPERTIES or name.startswith("@")


def is_gone(row: Row) -> bool:
    """Tell a tombstone from a message."""
    return "gone" in row


def message_key(mailbox_id: str, checksum: str) -> str:
    """Return the storage key of a message object."""
    return f"data/{mailbox_id}/{checksum}"


def attachment_key(mailbox_id: str, checksum: str) -> str:
    """Return the storage key of an attachment object."""
    return f"attachments/{mailbox_id}/{checksum}"
