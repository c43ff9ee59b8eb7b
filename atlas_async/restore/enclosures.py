"""A message's attachments on their way: within the create, one by one, or in ranges."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, cast

from anyio import to_thread

from atlas_async.catalog.content import SealedContent, open_attachment, read_attachment
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import OVERHEAD_BYTES, sha256_hex
from atlas_async.errors import (
    FormatError,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphTooLarge,
    IntegrityError,
    NoMailbox,
    ObjectTooLarge,
)
from atlas_async.model.message import load_json
from atlas_async.model.record import AttachmentRecord
from atlas_async.model.source import JsonObject
from atlas_async.restore.item_mail import (
    CALENDAR,
    CARD,
    FILE,
    ITEM,
    MAIL,
    ItemKind,
    item_of,
    kind_of,
)
from atlas_async.restore.ports import TargetMailbox

SESSION_BYTES: Final = 3_000_000
"""From here on a file needs an upload session.

Source: learn.microsoft.com/graph/outlook-large-attachments.
"""
LARGEST: Final = 150_000_000
"""Bytes of the largest attachment that Outlook takes at all (same page)."""
REQUEST_BYTES: Final = 3_900_000
"""Bytes of a request that creates a message; Graph refuses more than 4 MB."""
ATTACHMENT_FRAME: Final = 700
"""Bytes that an attachment takes in a request beside its content, with a long name."""
NAMELESS: Final = "attachment"
"""What an attachment without a name becomes: Graph takes none whose name is empty."""
REFERENCE: Final = "#microsoft.graph.referenceAttachment"
FROM_MIME: Final = 0xFFFFFFFF
"""In place of a digest: the server has made the attachments from MIME, with names of its own."""
_READ_ONLY: Final = frozenset({"id", "size", "lastModifiedDateTime"})
_REFUSED: Final = frozenset({400, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class Unsent:
    """An attachment that is not in the target."""

    name: str
    code: str
    reason: str
    integrity: bool = False


@dataclass(slots=True)
class Enclosed:
    """What came of a message's attachments.

    ``lines`` describe each one that was sent, for comparing; ``adjusted`` says what is not as it
    was; ``unsent`` is what is missing.
    """

    lines: list[str] = field(default_factory=list)
    adjusted: list[str] = field(default_factory=list)
    unsent: list[Unsent] = field(default_factory=list)

    @property
    def digest(self) -> int:
        """64 bits over what was sent; 0 when that is nothing."""
        return digest_of(self.lines)


@dataclass(frozen=True, slots=True)
class Within:
    """A file that a create request carries."""

    attachment: AttachmentRecord
    resource: JsonObject


class _Held:
    """Content that is in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield it whole."""
        yield self._data


def line_of(attachment: AttachmentRecord) -> str:
    """Return the description of an attachment that is there as it was."""
    if attachment["type"] == "file":
        return line_of_file(_name_of(attachment), attachment["checksum"])
    return line_of_other(attachment["type"], _name_of(attachment))


def digest_of(lines: Sequence[str]) -> int:
    """Return 64 bits over the descriptions of attachments, in any order; 0 for none."""
    if not lines:
        return 0
    text = "\n".join(sorted(lines)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8])


def line_of_file(name: str, checksum: str) -> str:
    """Return the description of a file."""
    return f"file {checksum} {name}"


def line_of_other(kind: str, name: str) -> str:
    """Return the description of an attachment whose bytes the server makes anew."""
    return f"{kind} {name}"


def is_refusal(error: GraphError) -> bool:
    """Tell whether the server took the request and said no to this one thing for good."""
    if isinstance(error, GraphNotFound | NoMailbox):
        return False
    return isinstance(error, GraphItemError) or error.status in _REFUSED


def fitting(attachments: Sequence[AttachmentRecord], room: int) -> list[AttachmentRecord]:
    """Return the first files that fit into ``room`` bytes of a request, as base64."""
    chosen = []
    for attachment in attachments:
        if attachment["type"] != "file" or not attachment["checksum"]:
            continue
        room -= _base64_size(attachment["content_bytes"]) + ATTACHMENT_FRAME
        if room < 0:
            break
        chosen.append(attachment)
    return chosen


def _base64_size(size: int) -> int:
    return 4 * -(-size // 3)


class Encloser:
    """Reads attachments from the backup and brings them into the target.

    Args:
        vault: The mailbox that is restored from.
        target: The mailbox that is restored to.
    """

    def __init__(self, vault: Vault, target: TargetMailbox) -> None:
        self._vault = vault
        self._target = target
        self.sent = 0

    async def forms(self, attachment: AttachmentRecord) -> list[tuple[str, str]]:
        """Return under which names an attachment may be there already, each with its line."""
        name = _name_of(attachment)
        found = [(name, line_of(attachment))]
        if attachment["type"] == "item":
            for kind in (MAIL, CARD, CALENDAR):
                as_file = _file_name(name, kind)
                found.append((as_file, line_of_file(as_file, attachment["checksum"])))
        if attachment["type"] == "reference" and attachment["checksum"]:
            try:
                stand_in, text = _shortcut(name, (await self._link(attachment)).get("sourceUrl"))
            except IntegrityError:
                return found  # it is noted when it is found missing, and read again
            found.append((stand_in, line_of_file(stand_in, sha256_hex(text))))
        return found

    async def inline(self, attachments: Sequence[AttachmentRecord]) -> list[Within]:
        """Return files as a create request takes them.

        What cannot be read, or turns out to be larger than recorded, as may be where Atlas
        recorded it, is left out; ``add`` finds out what is to be said of it.
        """
        found = []
        for attachment in attachments:
            try:
                data = await read_attachment(
                    self._vault, attachment, most=SESSION_BYTES + OVERHEAD_BYTES
                )
            except (ObjectTooLarge, IntegrityError):
                continue
            found.append(Within(attachment, await _file(attachment, data)))
        return found

    def went_along(self, within: Sequence[Within], names: Counter[str], enclosed: Enclosed) -> None:
        """Note the files that were created together with their message."""
        for item in within:
            name = str(item.resource["name"])
            self._added(name, names, enclosed, line_of_file(name, item.attachment["checksum"]))
            note_name(item.attachment, enclosed)

    async def add_text(self, object_id: str, name: str, content_type: str, data: bytes) -> None:
        """Add a body as a file."""
        if len(data) < SESSION_BYTES:
            await self._target.add_attachment(
                object_id,
                _resource(name, content_type, data),
                had=0,
            )
            return
        description: JsonObject = {
            "attachmentType": "file",
            "name": name,
            "size": len(data),
            "contentType": content_type,
        }
        await self._target.upload_attachment(
            object_id, description, lambda: nullcontext(_Held(data)), had=0
        )

    async def add(
        self, object_id: str, attachment: AttachmentRecord, names: Counter[str], enclosed: Enclosed
    ) -> None:
        """Add one attachment to a message; what goes wrong with it is noted (R5).

        Args:
            object_id: The message of the target.
            attachment: Which.
            names: The attachments it has already, by name; the new one is counted in.
            enclosed: Takes what came of it.

        Raises:
            GraphError, AuthError, StoreError: What concerns more than this attachment.
        """
        name = _name_of(attachment)
        try:
            if not attachment["checksum"]:
                enclosed.unsent.append(Unsent(name, "NotStored", "the backup lacks its content"))
                return
            if attachment["type"] == "reference":
                await self._add_reference(object_id, attachment, names, enclosed)
            elif attachment["type"] == "item":
                await self._add_item(object_id, attachment, names, enclosed)
            else:
                await self._add_file(object_id, attachment, name, names, enclosed)
            note_name(attachment, enclosed)
        except IntegrityError as error:
            enclosed.unsent.append(_damaged(attachment, error))
        except GraphError as error:
            if not is_refusal(error):
                raise
            enclosed.unsent.append(Unsent(name, error.code or type(error).__name__, str(error)))

    async def _add_file(
        self,
        object_id: str,
        attachment: AttachmentRecord,
        name: str,
        names: Counter[str],
        enclosed: Enclosed,
        kind: ItemKind | None = None,
    ) -> None:
        """Add a file, or an item as a file of its ``kind``."""
        given = cast("AttachmentRecord", {**attachment, "name": name})
        if kind is not None:
            given["content_type"] = kind.content_type
        if given["content_bytes"] < SESSION_BYTES:
            try:
                data = await read_attachment(
                    self._vault, attachment, most=SESSION_BYTES + OVERHEAD_BYTES
                )
                await self._target.add_attachment(
                    object_id, await _file(given, data), had=names[name]
                )
            except (ObjectTooLarge, GraphTooLarge):
                await self._upload(object_id, given, had=names[name])
        else:
            await self._upload(object_id, given, had=names[name])
        self._added(name, names, enclosed, line_of_file(name, attachment["checksum"]))

    async def _upload(self, object_id: str, attachment: AttachmentRecord, *, had: int) -> None:
        def opened() -> AbstractAsyncContextManager[SealedContent]:
            return open_attachment(self._vault, attachment)

        async with open_attachment(self._vault, attachment) as content:
            size = content.size
        if size > LARGEST:
            raise GraphTooLarge(f"it has {size} bytes; Outlook takes {LARGEST} at most")
        description: JsonObject = {
            "attachmentType": "file",
            "name": attachment["name"],
            "size": size,
            "contentType": attachment["content_type"] or "application/octet-stream",
            "isInline": attachment["is_inline"],
        }
        if attachment.get("content_id"):
            description["contentId"] = attachment["content_id"]
        await self._target.upload_attachment(object_id, description, opened, had=had)

    async def _add_item(
        self, object_id: str, attachment: AttachmentRecord, names: Counter[str], enclosed: Enclosed
    ) -> None:
        """Add a message, contact or event; as a file where Graph does not take it as an item."""
        name = _name_of(attachment)
        head = await self._beginning(attachment)
        kind = kind_of(head)
        whole = attachment["content_bytes"] < SESSION_BYTES // 2
        if kind is MAIL and whole:
            mime = await read_attachment(self._vault, attachment, most=SESSION_BYTES)
            item = await to_thread.run_sync(item_of, mime)
            if item is not None:
                try:
                    await self._target.add_attachment(
                        object_id,
                        {"@odata.type": ITEM, "name": name, "item": item},
                        had=names[name],
                    )
                except GraphError as error:
                    if not is_refusal(error):
                        raise
                else:
                    self._added(name, names, enclosed, line_of_other("item", name))
                    return
        as_file = _file_name(name, kind)
        await self._add_file(object_id, attachment, as_file, names, enclosed, kind)
        enclosed.adjusted.append(f"the attached item {name!r} is now a file, {as_file!r}")

    async def _beginning(self, attachment: AttachmentRecord) -> bytes:
        """Return the first bytes of an attachment, which only say what kind of file it would be."""
        async with open_attachment(self._vault, attachment) as content:
            pieces = aiter(content)
            try:
                return await anext(pieces, b"")
            finally:
                await pieces.aclose()

    async def _add_reference(
        self, object_id: str, attachment: AttachmentRecord, names: Counter[str], enclosed: Enclosed
    ) -> None:
        """Add a link, as far as Graph allows: v1.0 documents no way to say where it leads."""
        name = _name_of(attachment)
        resource = await self._link(attachment)
        link = {
            key: value
            for key, value in resource.items()
            if key not in _READ_ONLY and (not key.startswith("@") or key == "@odata.type")
        }
        try:
            await self._target.add_attachment(
                object_id, {**link, "@odata.type": REFERENCE, "name": name}, had=names[name]
            )
        except GraphError as error:
            if not is_refusal(error):
                raise
        else:
            self._added(name, names, enclosed, line_of_other("reference", name))
            return
        stand_in, text = _shortcut(name, resource.get("sourceUrl"))
        await self._target.add_attachment(
            object_id, _resource(stand_in, "text/plain", text), had=names[stand_in]
        )
        checksum = sha256_hex(text)
        self._added(stand_in, names, enclosed, line_of_file(stand_in, checksum))
        enclosed.adjusted.append(f"the link {name!r} is now a file, {stand_in!r}")

    async def _link(self, attachment: AttachmentRecord) -> JsonObject:
        """Return the resource of a reference attachment."""
        data = await read_attachment(self._vault, attachment, most=SESSION_BYTES)
        resource = load_json(data)
        if not isinstance(resource, dict):
            raise FormatError("the stored link is not a JSON object", where=_name_of(attachment))
        return resource

    def _added(self, name: str, names: Counter[str], enclosed: Enclosed, line: str) -> None:
        names[name] += 1
        self.sent += 1
        enclosed.lines.append(line)


async def _file(attachment: AttachmentRecord, data: bytes) -> JsonObject:
    content_type = attachment["content_type"] or "application/octet-stream"
    resource = await to_thread.run_sync(_resource, _name_of(attachment), content_type, data)
    resource["isInline"] = attachment["is_inline"]
    if attachment.get("content_id"):
        resource["contentId"] = attachment["content_id"]
    return resource


def _resource(name: str, content_type: str, data: bytes) -> JsonObject:
    return {
        "@odata.type": FILE,
        "name": name,
        "contentType": content_type,
        "contentBytes": base64.b64encode(data).decode("ascii"),
    }


def _file_name(name: str, kind: ItemKind) -> str:
    return name if name.lower().endswith(kind.suffix) else f"{name}{kind.suffix}"


def _shortcut(name: str, url: object) -> tuple[str, bytes]:
    """Return a file that holds what is known of a link."""
    if isinstance(url, str) and url.isprintable() and url.lower().startswith(("https:", "http:")):
        return f"{name}.url", f"[InternetShortcut]\r\nURL={url}\r\n".encode()
    told = (
        f"A link to a file, {name!r}, was attached here. Microsoft Graph does not say where such "
        "links lead, so it is not in the backup; the text of the message may show it.\r\n"
    )
    return f"{name}.txt", told.encode("utf-8", "replace")


def note_name(attachment: AttachmentRecord, enclosed: Enclosed) -> None:
    """Say of an attachment without a name that it has one now."""
    if not attachment["name"]:
        enclosed.adjusted.append(f"an attachment without a name is now {NAMELESS!r}")


def _name_of(attachment: AttachmentRecord) -> str:
    """Return a name that Graph takes."""
    return attachment["name"] or NAMELESS


def _damaged(attachment: AttachmentRecord, error: IntegrityError) -> Unsent:
    return Unsent(_name_of(attachment), type(error).__name__, str(error), integrity=True)
