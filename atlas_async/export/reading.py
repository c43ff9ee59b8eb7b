"""Reads a message and what belongs to it, each checked; says of what cannot be had why."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Final, cast

from anyio import to_thread

from atlas_async.catalog.content import (
    SealedContent,
    StoredMessage,
    open_attachment,
    open_original,
    read_attachment,
    read_message,
)
from atlas_async.catalog.vault import THREAD_BYTES, Vault
from atlas_async.crypto.envelope import OVERHEAD_BYTES
from atlas_async.errors import IntegrityError, ObjectTooLarge, PartMissing
from atlas_async.export.entries import ORIGINAL, Material
from atlas_async.export.forms import ExportForm
from atlas_async.export.pieces import Enclosure
from atlas_async.export.transfer import Looked, LookStream, look
from atlas_async.model.message import load_json
from atlas_async.model.record import AttachmentRecord, MessageRecord
from atlas_async.model.source import JsonObject

WHOLE_BYTES: Final = 512 << 10
"""A message of at most so many bytes, attachments included, is held whole and made in parallel."""
LINK_BYTES: Final = 1 << 20
"""Most bytes of the resource of a reference attachment."""
NOT_STORED: Final = "it was never stored"
MISSING: Final = "its object is missing from the bucket"
DAMAGED: Final = "its object in the bucket is damaged"


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that a snapshot names and that cannot be had as it was."""

    reason: str
    is_missing: bool

    @classmethod
    def of(cls, error: IntegrityError) -> Loss:
        """Return what an error means."""
        missing = isinstance(error, PartMissing)
        return cls(MISSING if missing else DAMAGED, missing)


@dataclass(slots=True)
class Gathered:
    """A message that was read.

    ``losses`` are of its attachments, by their index, and under ``ORIGINAL`` of its original.
    ``own`` is of the message itself: there is nothing to write without ``material``.
    """

    material: Material | None = None
    own: Loss | None = None
    losses: dict[int, Loss] = field(default_factory=dict)


def is_small(record: MessageRecord) -> bool:
    """Tell whether a message is held whole, by what its row says of sizes."""
    size = record["size_bytes"] + (record["original"]["size_bytes"] if "original" in record else 0)
    for attachment in record.get("attachments", ()):
        size += attachment["content_bytes"] or attachment["size_bytes"]
    return size <= WHOLE_BYTES


class MailReader:
    """Reads messages of one mailbox for an export.

    Args:
        vault: The mailbox's objects.
        form: What they are read for: JSON takes attachments as they are.
        originals: Whether a message's original is taken where there is one.
    """

    def __init__(self, vault: Vault, form: ExportForm, *, originals: bool) -> None:
        self._vault = vault
        self._form = form
        self._originals = originals and form is not ExportForm.JSON

    async def gather(
        self, record: MessageRecord, *, whole: bool, known: Mapping[int, Loss]
    ) -> Gathered:
        """Read a message.

        Args:
            record: Its row.
            whole: Hold its attachments in memory; otherwise large ones are left to be streamed.
            known: What an earlier try has found lost.

        Raises:
            StoreError: The store failed.
        """
        gathered = Gathered(losses=dict(known))
        stored: StoredMessage | None = None
        try:
            stored = await read_message(self._vault, record)
        except IntegrityError as error:
            gathered.own = Loss.of(error)
        resource = stored.resource if stored else _by_record(record)
        material = Material(record, resource, ())
        if self._originals and "original" in record and ORIGINAL not in gathered.losses:
            try:
                original = await self._original(record, whole=whole)
                gathered.material = replace(material, original=original, has_original=True)
            except IntegrityError as error:
                gathered.losses[ORIGINAL] = Loss.of(error)
            else:
                return gathered
        if stored is not None:
            enclosures = [
                await self._enclosure(index, attachment, gathered, whole=whole)
                for index, attachment in enumerate(record.get("attachments", ()))
            ]
            gathered.material = replace(material, enclosures=enclosures)
        return gathered

    def open(self, record: MessageRecord, index: int) -> AbstractAsyncContextManager[SealedContent]:
        """Open an attachment, or the original."""
        if index == ORIGINAL:
            return open_original(self._vault, record)
        return open_attachment(self._vault, record["attachments"][index])

    async def _original(self, record: MessageRecord, *, whole: bool) -> bytes | None:
        if not whole:
            return None
        async with open_original(self._vault, record) as content:
            return b"".join([piece async for piece in content])

    async def _enclosure(
        self, index: int, attachment: AttachmentRecord, gathered: Gathered, *, whole: bool
    ) -> Enclosure:
        if index in gathered.losses:
            return Enclosure(attachment, lost=gathered.losses[index].reason)
        if not attachment["checksum"]:
            return Enclosure(attachment, lost=NOT_STORED)
        try:
            return await self._read(attachment, whole=whole)
        except IntegrityError as error:
            loss = gathered.losses[index] = Loss.of(error)
            return Enclosure(attachment, lost=loss.reason)

    async def _read(self, attachment: AttachmentRecord, *, whole: bool) -> Enclosure:
        kind = "file" if self._form is ExportForm.JSON else attachment["type"]
        content: bytes | None = None
        if whole or kind == "reference":
            most = (LINK_BYTES if kind == "reference" else WHOLE_BYTES) + OVERHEAD_BYTES
            # One that is larger than was recorded is streamed.
            with suppress(ObjectTooLarge):
                content = await read_attachment(self._vault, attachment, most=most)
        if kind == "reference":
            return Enclosure(attachment, content, link=_link(content))
        if kind == "item":
            return Enclosure(attachment, content, looked=await self._looked(attachment, content))
        return Enclosure(attachment, content)

    async def _looked(self, attachment: AttachmentRecord, content: bytes | None) -> Looked:
        if content is not None:
            if len(content) < THREAD_BYTES:
                return look(content)
            return await to_thread.run_sync(look, content)
        stream = LookStream()
        async with open_attachment(self._vault, attachment) as opened:
            async for piece in opened:
                await to_thread.run_sync(stream.feed, piece)
        return stream.finish()


def _link(content: bytes | None) -> JsonObject:
    """Return the resource of a reference; an empty one where it holds none."""
    try:
        resource = load_json(content or b"{}")
    except ValueError:
        return {}
    return cast("JsonObject", resource) if isinstance(resource, dict) else {}


def _by_record(record: MessageRecord) -> JsonObject:
    """Return what a row tells of a message, for the name and time of its original."""
    return {
        "subject": record["subject"],
        "receivedDateTime": record["received"],
        "isRead": record["is_read"],
        "isDraft": record["is_draft"],
        "flag": {"flagStatus": record["flag"]},
    }
