"""What a snapshot's records stand for: messages and attachments read back, checked (I9)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, cast

from anyio import to_thread

from atlas_async.catalog.layout import original_key
from atlas_async.catalog.vault import CUT_STREAMS, THREAD_BYTES, Vault
from atlas_async.crypto.envelope import OVERHEAD_BYTES
from atlas_async.crypto.spool import StreamOpener
from atlas_async.errors import (
    ForeignObject,
    FormatError,
    ObjectNotFound,
    PartMissing,
    StoreTransient,
)
from atlas_async.model.message import load_json
from atlas_async.model.record import AttachmentRecord, MessageRecord, attachment_key, message_key
from atlas_async.model.source import JsonObject
from atlas_async.store.base import UNKNOWN_SIZE, ObjectReader

MISSING_HINT: Final = "restore this object from a copy of the bucket; `atlas verify` lists all"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as of a snapshot.

    ``plaintext`` is what is stored; ``resource`` is it with the read state, flag, categories and
    folder that the record holds.
    """

    record: MessageRecord
    resource: JsonObject
    plaintext: bytes


async def read_message(vault: Vault, record: MessageRecord) -> StoredMessage:
    """Read the message that a record stands for.

    Raises:
        PartMissing: Its object is not in the bucket.
        IntegrityError: The object is not what was written, or no message (``FormatError``).
        StoreError: The store failed.
    """
    key = message_key(vault.mailbox_id, record["checksum"])
    with _named(key, "message"):
        plaintext = await vault.read_content(key, record["checksum"])
    if len(plaintext) < THREAD_BYTES:
        resource = _parsed(plaintext, key)
    else:
        resource = await to_thread.run_sync(_parsed, plaintext, key)
    return StoredMessage(record, as_of(resource, record), plaintext)


async def read_attachment(vault: Vault, attachment: AttachmentRecord, *, most: int) -> bytes:
    """Return the whole content of an attachment.

    Args:
        vault: The mailbox's objects.
        attachment: Which; its checksum must not be empty.
        most: Bytes of the sealed object that the caller is ready to hold.

    Raises:
        ObjectTooLarge: It has more.
        PartMissing, IntegrityError, StoreError: As ``read_message``.
    """
    key = attachment_key(vault.mailbox_id, attachment["checksum"])
    with _named(key, "attachment"):
        return await vault.read_content(key, attachment["checksum"], most=most)


class SealedContent:
    """The plaintext of one object as it is read, once, piece by piece.

    Whether it is what was written is only known at its end, so whoever takes pieces must put them
    where nobody sees them until the iteration has ended without an error.

    Args:
        vault: The mailbox's objects.
        key: Which object.
        checksum: Hex SHA-256 that its plaintext must have.
        reader: The object, opened.
        size: Bytes of the plaintext.
    """

    def __init__(
        self, vault: Vault, key: str, checksum: str, reader: ObjectReader, size: int
    ) -> None:
        self._vault = vault
        self._key = key
        self._checksum = checksum
        self._reader = reader
        self.size = size

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield the plaintext in order.

        A stream that breaks off is read again from its beginning, some times.

        Raises:
            IntegrityError: At the end: the object is not what was written.
            StoreError: The store failed.
        """
        given = _Given()
        left = CUT_STREAMS
        reader: ObjectReader | None = self._reader
        while True:
            opener = StreamOpener(self._vault.sealer, where=self._key)
            try:
                if reader is not None:
                    async for piece in _opened(opener, reader, given):
                        yield piece
                else:
                    async with self._vault.store.open(self._key) as again:
                        async for piece in _opened(opener, again, given):
                            yield piece
            except StoreTransient:
                if not left:
                    raise
                left -= 1
                reader = None
                continue
            break
        if opener.finish() != self._checksum or given.digest() != self._checksum:
            msg = "another object lies below this name: its SHA-256 is not the expected one"
            raise ForeignObject(msg, where=self._key, hint=MISSING_HINT)


class _Given:
    """What was handed on so far, over all tries."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    def take(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.size += len(piece)

    def digest(self) -> str:
        return self._hash.hexdigest()


async def _opened(
    opener: StreamOpener, reader: ObjectReader, given: _Given
) -> AsyncIterator[bytes]:
    """Yield what the reader's pieces open to and was not given before."""

    def take(sealed: bytes) -> bytes:
        begun = opener.plaintext_size
        fresh = opener.update(sealed)[max(0, given.size - begun) :]
        given.take(fresh)
        return fresh

    async for sealed in reader:
        fresh = (
            take(sealed) if len(sealed) < THREAD_BYTES else await to_thread.run_sync(take, sealed)
        )
        if fresh:
            yield fresh


@asynccontextmanager
async def open_attachment(
    vault: Vault, attachment: AttachmentRecord
) -> AsyncIterator[SealedContent]:
    """Open the content of an attachment whose checksum is not empty.

    Raises: as ``read_attachment``.
    """
    key = attachment_key(vault.mailbox_id, attachment["checksum"])
    recorded = attachment["content_bytes"]
    async with open_content(
        vault, key, attachment["checksum"], recorded=recorded, what="attachment"
    ) as content:
        yield content


@asynccontextmanager
async def open_original(vault: Vault, record: MessageRecord) -> AsyncIterator[SealedContent]:
    """Open the original MIME of a message whose record has one (``"original" in record``).

    Raises: as ``read_attachment``; ``KeyError`` for a record without.
    """
    original = record["original"]
    checksum = original["checksum"]
    key = original_key(vault.mailbox_id, checksum)
    async with open_content(
        vault, key, checksum, recorded=original["size_bytes"], what="original"
    ) as content:
        yield content


@asynccontextmanager
async def open_content(
    vault: Vault, key: str, checksum: str, *, recorded: int, what: str
) -> AsyncIterator[SealedContent]:
    """Open any object that is named by its content.

    Args:
        vault: The mailbox's objects.
        key: Which object.
        checksum: Hex SHA-256 that its plaintext must have.
        recorded: Bytes of its plaintext as recorded, for servers that do not tell a length. What
            Atlas recorded is Graph's figure, so the stored object's own length goes first.
        what: What it is, said when it is missing.

    Raises: as ``read_attachment``.
    """
    with _named(key, what):
        async with vault.store.open(key) as reader:
            told = reader.info.size
            size = recorded if told == UNKNOWN_SIZE else max(0, told - OVERHEAD_BYTES)
            yield SealedContent(vault, key, checksum, reader, size)


@contextmanager
def _named(key: str, what: str) -> Iterator[None]:
    """Say of an object that is not there that a snapshot names it."""
    try:
        yield
    except ObjectNotFound:
        msg = f"the object of this {what} is missing from the bucket"
        raise PartMissing(msg, where=key, hint=MISSING_HINT) from None


def _parsed(plaintext: bytes, key: str) -> JsonObject:
    try:
        resource = load_json(plaintext)
    except ValueError as error:
        msg = f"the stored message is not JSON: {error}"
        raise FormatError(msg, where=key) from None
    if not isinstance(resource, dict):
        msg = "the stored message is not a JSON object"
        raise FormatError(msg, where=key)
    return cast("JsonObject", resource)


def as_of(resource: JsonObject, record: MessageRecord) -> JsonObject:
    """Lay a snapshot's state over a stored resource. Atlas's snapshots have none to lay."""
    if record["is_read"] is None and not record["modified"]:
        return resource
    state: JsonObject = {"categories": record["categories"], "parentFolderId": record["folder_id"]}
    if record["is_read"] is not None:
        state["isRead"] = record["is_read"]
    if record["flag"] is not None:
        state["flag"] = record.get("flag_detail") or {"flagStatus": record["flag"]}
    if record["modified"]:
        state["lastModifiedDateTime"] = record["modified"]
    return {**resource, **state}
