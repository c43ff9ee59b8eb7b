"""Attachments of a message: files, items and links, whether generated or uploaded."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from atlas_async.emulator.blobs import Blob

FILE_OVERHEAD: Final = 218
"""What Exchange adds to ``size``: the property is never the length of the bytes."""


class PartKind(StrEnum):
    """The three kinds of attachment, by their ``@odata.type``."""

    FILE = "#microsoft.graph.fileAttachment"
    ITEM = "#microsoft.graph.itemAttachment"
    REFERENCE = "#microsoft.graph.referenceAttachment"


@dataclass(frozen=True, slots=True)
class Part:
    """One attachment.

    ``blob`` holds a file's bytes or an item's MIME and is None for references. ``item`` is the
    attached item as JSON and ``inner`` its own attachments, ``source_url`` the target of a
    reference.
    """

    kind: PartKind
    name: str
    content_type: str | None
    modified: datetime
    blob: Blob | None = None
    inline: bool = False
    content_id: str | None = None
    item: dict[str, Any] | None = None
    source_url: str = ""
    inner: tuple[Part, ...] = ()

    @property
    def size(self) -> int:
        """What Graph calls ``size``: the bytes plus overhead."""
        return (self.blob.size if self.blob is not None else 0) + FILE_OVERHEAD

    def counts_as_attachment(self) -> bool:
        """Whether this part alone makes ``hasAttachments`` true."""
        return not self.inline


def part_json(
    part: Part, part_id: str, *, inline_limit: int, expand_item: bool, nested: bool = False
) -> dict[str, Any]:
    """Return the attachment resource; files above ``inline_limit`` come without contentBytes.

    An attached item is shown with ``expand_item``, its own attachments only with ``nested``.
    """
    body: dict[str, Any] = {
        "@odata.type": part.kind.value,
        "id": part_id,
        "lastModifiedDateTime": graph_time(part.modified),
        "name": part.name,
        "contentType": part.content_type,
        "size": part.size,
        "isInline": part.inline,
    }
    if part.kind is PartKind.FILE and part.blob is not None:
        body["@odata.mediaContentType"] = part.content_type or "application/octet-stream"
        body["contentId"] = part.content_id
        body["contentLocation"] = None
        if part.blob.size <= inline_limit:
            raw = part.blob.read(0, part.blob.size)
            body["contentBytes"] = base64.b64encode(raw).decode("ascii")
    if part.kind is PartKind.ITEM and expand_item:
        item = dict(part.item or {})
        if nested:
            item["attachments"] = [
                part_json(one, f"{part_id}-{number}", inline_limit=inline_limit, expand_item=False)
                for number, one in enumerate(part.inner)
            ]
        body["item"] = item
    return body


def graph_time(moment: datetime) -> str:
    """Return a time in UTC as Graph writes it for mail: whole seconds and ``Z``."""
    return moment.isoformat(timespec="seconds")[:19] + "Z"
