"""What stored originals add to a restore: their headers, or messages made from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from atlas_async.catalog.content import StoredMessage, open_original
from atlas_async.catalog.vault import Vault
from atlas_async.errors import GraphError
from atlas_async.model.record import MessageRecord
from atlas_async.model.restoring import MARK_PROPERTY
from atlas_async.model.source import JsonObject
from atlas_async.restore.delivery import Delivered
from atlas_async.restore.enclosures import FROM_MIME, Enclosed, is_refusal
from atlas_async.restore.fingerprint import fingerprint_of_letter
from atlas_async.restore.journal import Journal
from atlas_async.restore.letter import LONGEST_HEADERS, letter_of
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.progress import Announced, Made

LARGEST: Final = 2_200_000
"""Bytes of MIME up to which Graph has been seen to create a message (graph-docs, issue 3079)."""
_STATE: Final = ("isRead", "categories", "flag", "importance")


class Originals:
    """Uses the original MIME of messages, where it is stored.

    Args:
        vault: The mailbox that is restored from.
        target: The mailbox that is restored to.
        journal: Told of a message before it is created, and when it is there and has neither its
            state nor its mark yet.
        wanted: Create messages from it.
    """

    def __init__(
        self,
        vault: Vault,
        target: TargetMailbox,
        journal: Journal,
        *,
        wanted: bool,
    ) -> None:
        self._journal = journal
        self._vault = vault
        self._target = target
        self._wanted = wanted

    async def create(self, stored: StoredMessage, folder_id: str, *, mark: str) -> Delivered | None:
        """Create a draft from the original; None where that is not wanted or not possible.

        Without an internet message id nothing would tell it from others after a kill.

        Raises: as ``Delivery.create``.
        """
        size = self._size(stored.record)
        message_id = str(stored.resource.get("internetMessageId") or "")
        if size is None or not message_id.strip():
            return None
        mime = await self._first(stored.record, size)
        found = await self._target.find(folder_id, message_id, "")
        before = tuple(item.object_id for item in found)
        await self._journal.announce(Announced(mark, folder_id, message_id, before))
        try:
            target_id = await self._target.create_from_mime(
                folder_id, mime, message_id=message_id, before=before
            )
        except GraphError as error:
            if not is_refusal(error):
                raise
            return None
        delivered = self._delivered(stored, target_id, folder_id, mark)
        self._journal.made(replace(delivered.made, complete=False))
        await self._mark(stored, target_id, mark)
        return delivered

    async def resume(
        self, stored: StoredMessage, target_id: str, folder_id: str, *, mark: str
    ) -> Delivered:
        """Complete a message that an earlier run has created from its original."""
        await self._mark(stored, target_id, mark)
        return self._delivered(stored, target_id, folder_id, mark)

    def _size(self, record: MessageRecord) -> int | None:
        original = record.get("original")
        if not self._wanted or original is None or original["size_bytes"] > LARGEST:
            return None
        return original["size_bytes"]

    async def _mark(self, stored: StoredMessage, target_id: str, mark: str) -> None:
        patch: JsonObject = {
            name: stored.resource[name] for name in _STATE if stored.resource.get(name) is not None
        }
        properties = [{"id": MARK_PROPERTY, "value": mark}]
        await self._target.update_message(
            target_id, {**patch, "singleValueExtendedProperties": properties}
        )

    @staticmethod
    def _delivered(stored: StoredMessage, target_id: str, folder_id: str, mark: str) -> Delivered:
        draft = letter_of({**stored.resource, "isDraft": True}, mark=mark)
        made = Made(
            mark, target_id, folder_id, fingerprint_of_letter(draft.body), FROM_MIME, complete=True
        )
        adjusted = [] if stored.resource.get("isDraft") else ["created from MIME, so it is a draft"]
        return Delivered(made, adjusted, Enclosed())

    async def headers(self, record: MessageRecord) -> str:
        """Return the header block of the original; an empty string where none is stored."""
        if "original" not in record:
            return ""
        head = await self._first(record, LONGEST_HEADERS)
        block, found, _ = head.partition(b"\r\n\r\n")
        if not found:
            block = head.partition(b"\n\n")[0]
        return block.decode("ascii", "replace")

    async def _first(self, record: MessageRecord, most: int) -> bytes:
        """Return the first bytes of the original, read to its end: only that proves them right."""
        first = bytearray()
        async with open_original(self._vault, record) as content:
            async for piece in content:
                if len(first) < most:
                    first += piece[: most - len(first)]
        return bytes(first)
