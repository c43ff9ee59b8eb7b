"""Rows of a segment checked for their form, before anybody uses more of them than their order.

Merging runs needs ids alone and goes through every row of a mailbox, so it is spared this.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Final, cast

from atlas_async.errors import FormatError
from atlas_async.model.record import MessageRecord, Row

_CHECKSUM_BYTES: Final = 32
_TEXT: Final = {str}
_TEXT_OR_NONE: Final = {str, type(None)}
_NUMBER: Final = {int, bool}  # a size that Graph gave as "true" was once written as it came
_FLAG: Final = {bool}
_FLAG_OR_NONE: Final = {bool, type(None)}
_FLAGS: Final = itemgetter("is_draft", "has_attachments")
_TEXTS: Final = itemgetter(
    "object_id",
    "folder_id",
    "checksum",
    "content",
    "subject",
    "received",
    "modified",
    "change_key",
    "internet_message_id",
    "sender",
)
_ATTACHMENT_TEXTS: Final = itemgetter("attachment_id", "name", "type", "content_type", "checksum")
_ATTACHMENT_NUMBERS: Final = itemgetter("size_bytes", "content_bytes")


def checked(row: Row, *, where: str) -> MessageRecord:
    """Return a message's row, with which everything may be done that is done with rows.

    Args:
        row: No tombstone.
        where: The key of its segment, or what is known of it.

    Raises:
        FormatError: It lacks a field, or one is of another type.
    """
    try:
        _check(cast("dict[str, Any]", row))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        msg = f"a row of mailbox state has another form: {type(error).__name__} {error}"
        raise FormatError(msg, where=where) from None
    return cast("MessageRecord", row)


def _check(row: dict[str, Any]) -> None:
    if set(map(type, _TEXTS(row))) != _TEXT:
        raise TypeError("a field is not text")
    if len(bytes.fromhex(row["checksum"])) != _CHECKSUM_BYTES:
        raise ValueError("not a SHA-256")
    if type(row["size_bytes"]) is not int or type(row["flag"]) not in _TEXT_OR_NONE:
        raise TypeError("size or flag is of another type")
    if type(row["is_read"]) not in _FLAG_OR_NONE or set(map(type, _FLAGS(row))) != _FLAG:
        raise TypeError("a state is neither true nor false")
    categories = row["categories"]
    if type(categories) is not list or (categories and set(map(type, categories)) != _TEXT):
        raise TypeError("a category is not text")
    for attachment in row.get("attachments", ()):
        _check_attachment(attachment)
    if "original" in row or "original_refused" in row:
        _check_original(row)


def _check_attachment(attachment: dict[str, Any]) -> None:
    if set(map(type, _ATTACHMENT_TEXTS(attachment))) != _TEXT:
        raise TypeError("a field of an attachment is not text")
    if len(bytes.fromhex(attachment["checksum"])) != _CHECKSUM_BYTES:
        raise ValueError("not a SHA-256")
    if not set(map(type, _ATTACHMENT_NUMBERS(attachment))) <= _NUMBER:
        raise TypeError("the size of an attachment is not a number")
    if type(attachment["is_inline"]) is not bool:
        raise TypeError("a state is neither true nor false")


def _check_original(row: dict[str, Any]) -> None:
    original = row.get("original", {"checksum": "00" * _CHECKSUM_BYTES, "size_bytes": 0})
    if len(bytes.fromhex(original["checksum"])) != _CHECKSUM_BYTES:
        raise ValueError("not the SHA-256 of an original")
    if type(original["size_bytes"]) is not int or type(row.get("original_refused", "")) is not str:
        raise TypeError("what is known of the original is of another type")
