"""Fetching a message's attachments, every kind, each at its own risk (I4).

Small file attachments come inside the list. Everything else is streamed from ``$value``. A
reference attachment has no bytes of its own: its resource (link and metadata) is what is stored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from atlas_async.catalog.vault import Put, Vault
from atlas_async.errors import (
    ConsentError,
    GraphError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
)
from atlas_async.model.message import dump_json
from atlas_async.model.record import AttachmentRecord, AttachmentType, attachment_key
from atlas_async.model.report import NotStored
from atlas_async.pipeline.batch import Tally, not_stored
from atlas_async.pipeline.presence import has_left

if TYPE_CHECKING:
    from atlas_async.model.source import JsonObject
    from atlas_async.pipeline.budget import ByteBudget
    from atlas_async.pipeline.intake import Intake, Taken
    from atlas_async.pipeline.ports import MailboxSource

INLINE_LIMIT: Final = 4 << 20
"""Longest answer (bytes) in which attachments are taken together with their content."""

LIST_LEASE: Final = 1 << 20

TYPES: Final[dict[str, AttachmentType]] = {
    "#microsoft.graph.fileattachment": "file",
    "#microsoft.graph.itemattachment": "item",
    "#microsoft.graph.referenceattachment": "reference",
}


@dataclass(slots=True)
class Fetched:
    """What came of a message's attachments.

    ``message_gone`` tells that Graph finds the message no more; its list is in ``failed`` then.
    """

    records: list[AttachmentRecord] = field(default_factory=list)
    failed: list[NotStored] = field(default_factory=list)
    message_gone: bool = False


class AttachmentFetcher:
    """Fetches and stores attachments of one mailbox.

    Args:
        source: The mailbox.
        vault: Where they go.
        content: Byte budget for content.
        tally: Counts what was stored.
        intake: Puts them there.
    """

    def __init__(
        self,
        source: MailboxSource,
        vault: Vault,
        content: ByteBudget,
        tally: Tally,
        intake: Intake,
    ) -> None:
        self._source = source
        self._vault = vault
        self._content = content
        self._tally = tally
        self._intake = intake

    async def fetch(
        self,
        message_id: str,
        folder_id: str,
        *,
        known: Sequence[AttachmentRecord] = (),
        content: bool = True,
    ) -> Fetched:
        """Return the message's attachments, stored.

        Args:
            message_id: Whose.
            folder_id: For the ledger.
            known: Attachments stored by an earlier run; those still there unchanged are kept
                without being fetched.
            content: Whether to ask for content together with the list. Without it only what is
                not known is fetched, one by one.

        Raises:
            AuthError, GraphThrottled: The mailbox as a whole is affected.
            StoreError: The store is.
        """
        fetched = Fetched()
        async with self._content.lease(LIST_LEASE) as lease:
            try:
                resources = await self._source.list_attachments(
                    message_id, inline_limit=INLINE_LIMIT if content else 0, lease=lease
                )
            except GraphThrottled:
                raise
            except (GraphError, ConsentError) as error:
                if isinstance(error, GraphNotFound):
                    fetched.message_gone = await has_left(self._source, message_id)
                fetched.records = list(known)
                fetched.failed.append(_not_stored(message_id, folder_id, {}, error))
                return fetched
            stored = {a["attachment_id"]: a for a in known}
            large = []
            for resource in resources:
                before = stored.get(str(resource.get("id")))
                if before is not None and _unchanged(before, resource):
                    fetched.records.append(before)
                elif _kind(resource) == "reference" or resource.get("contentBytes") is not None:
                    await self._store_given(message_id, folder_id, resource, fetched)
                else:
                    large.append(resource)
        for resource in large:
            await self._store_streamed(message_id, folder_id, resource, fetched)
        order = {str(resource.get("id")): number for number, resource in enumerate(resources)}
        fetched.records.sort(key=lambda record: order.get(record["attachment_id"], 0))
        return fetched

    async def _store_given(
        self, message_id: str, folder_id: str, resource: JsonObject, fetched: Fetched
    ) -> None:
        """Store what the list itself carried: small files, and links."""
        reference = _kind(resource) == "reference"
        try:
            if reference:
                data = dump_json(resource)
            else:
                data = base64.b64decode(resource["contentBytes"], validate=True)
        except (binascii.Error, ValueError, TypeError):
            what = "the link cannot be written" if reference else "contentBytes is not base64"
            error = GraphProtocolError(what, code="InvalidContent")
            fetched.failed.append(_not_stored(message_id, folder_id, resource, error))
            return
        taken = await self._intake.put(self._key, data)
        fetched.records.append(self._recorded(resource, taken))

    async def _store_streamed(
        self, message_id: str, folder_id: str, resource: JsonObject, fetched: Fetched
    ) -> None:
        """Store what must be asked for by ``$value``; a failure costs this attachment only."""
        attachment_id = str(resource.get("id") or "")
        try:
            taken = await self._intake.take(
                lambda: self._source.open_attachment(message_id, attachment_id), self._key
            )
        except GraphThrottled:
            raise
        except (GraphError, ConsentError) as error:
            fetched.failed.append(_not_stored(message_id, folder_id, resource, error))
        else:
            fetched.records.append(self._recorded(resource, taken))

    def _key(self, checksum: str) -> str:
        return attachment_key(self._vault.mailbox_id, checksum)

    def _recorded(self, resource: JsonObject, taken: Taken) -> AttachmentRecord:
        """Count what was stored, and return its record."""
        if taken.put is Put.STORED:
            self._tally.attachments_stored += 1
        else:
            self._tally.attachments_deduplicated += 1
        return _record(resource, taken.checksum, taken.size)


def _kind(resource: JsonObject) -> AttachmentType:
    return TYPES.get(str(resource.get("@odata.type", "")).lower(), "file")


def _size(resource: JsonObject) -> int:
    """Return Graph's figure for the size, 0 when it gives none."""
    size = resource.get("size")
    return size if isinstance(size, int) and not isinstance(size, bool) else 0


def _unchanged(before: AttachmentRecord, resource: JsonObject) -> bool:
    same_size = before["size_bytes"] == _size(resource)
    return same_size and before.get("modified", "") == str(
        resource.get("lastModifiedDateTime") or ""
    )


def _record(resource: JsonObject, checksum: str, length: int) -> AttachmentRecord:
    kind = _kind(resource)
    fallback = {"file": "application/octet-stream", "item": "message/rfc822", "reference": ""}
    record = AttachmentRecord(
        attachment_id=str(resource.get("id") or ""),
        name=str(resource.get("name") or ""),
        type=kind,
        content_type=str(resource.get("contentType") or fallback[kind]),
        size_bytes=_size(resource) or length,
        content_bytes=length,
        checksum=checksum,
        is_inline=bool(resource.get("isInline")),
    )
    if resource.get("contentId"):
        record["content_id"] = str(resource["contentId"])
    if resource.get("lastModifiedDateTime"):
        record["modified"] = str(resource["lastModifiedDateTime"])
    return record


def _not_stored(
    message_id: str, folder_id: str, resource: JsonObject, error: GraphError | ConsentError
) -> NotStored:
    return not_stored(
        error,
        kind="attachment",
        object_id=message_id,
        attachment_id=str(resource.get("id") or ""),
        folder_id=folder_id,
        name=str(resource.get("name") or ""),
    )
