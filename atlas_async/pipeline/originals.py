"""Stage 2, where originals are wanted: the MIME of a message beside its JSON, one request each.

Exchange renders MIME anew for every request, so two of one message may differ: what a message is,
and whether it is stored already, is never read from it. A message of which Graph gives no MIME
(signed or encrypted mail) is stored all the same, as JSON with its attachments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas_async.catalog.layout import original_key
from atlas_async.catalog.vault import Vault
from atlas_async.errors import (
    ConsentError,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphThrottled,
)
from atlas_async.model.record import MessageRecord, OriginalRecord
from atlas_async.pipeline.batch import SettledPage, Tally, not_stored
from atlas_async.pipeline.presence import has_left

if TYPE_CHECKING:
    from atlas_async.pipeline.intake import Intake
    from atlas_async.pipeline.ports import MailboxSource


class Originals:
    """Gives records of one mailbox their originals.

    Args:
        source: The mailbox.
        vault: Where they go.
        intake: Puts them there.
        tally: Counts what was stored and refused.
        wanted: Whether this run fetches those that are lacking.
        thorough: Ask again for what was refused, and store again what the store has lost.
    """

    def __init__(
        self,
        source: MailboxSource,
        vault: Vault,
        intake: Intake,
        tally: Tally,
        *,
        wanted: bool,
        thorough: bool,
    ) -> None:
        self._source = source
        self._vault = vault
        self._intake = intake
        self._tally = tally
        self._wanted = wanted
        self._thorough = thorough

    async def complete(self, record: MessageRecord, page: SettledPage) -> bool:
        """Fetch the original of a record that lacks it, if this run wants originals.

        Returns, and raises: as ``fetch``.
        """
        if not self._wanted or await self._is_settled(record):
            return False
        return await self.fetch(record, page)

    async def fetch(self, record: MessageRecord, page: SettledPage) -> bool:
        """Store the original and note it in the record, or why there is none.

        What fails in passing goes to the page's failures, for the ledger. Returns whether the
        message turned out to have left the mailbox.

        Raises:
            AuthError, GraphThrottled: The mailbox as a whole is affected.
            StoreError: The store is.
        """
        object_id = record["object_id"]
        record.pop("original", None)
        record.pop("original_refused", None)
        try:
            taken = await self._intake.take(
                lambda: self._source.open_mime(object_id),
                lambda checksum: original_key(self._vault.mailbox_id, checksum),
                may_be_empty=False,
            )
        except GraphThrottled:
            raise
        except GraphItemError as error:
            code = error.code or type(error).__name__
            record["original_refused"] = code
            self._tally.refuse_original(object_id, code)
        except (GraphError, ConsentError) as error:
            page.failed.append(
                not_stored(
                    error,
                    kind="original",
                    object_id=object_id,
                    folder_id=record["folder_id"],
                    name=record["subject"],
                )
            )
            return isinstance(error, GraphNotFound) and await has_left(self._source, object_id)
        else:
            record["original"] = OriginalRecord(checksum=taken.checksum, size_bytes=taken.size)
            self._tally.originals_stored += 1
        page.originals_settled.append(object_id)
        return False

    async def _is_settled(self, record: MessageRecord) -> bool:
        """Tell whether there is nothing to ask for."""
        original = record.get("original")
        if original is None:
            return "original_refused" in record and not self._thorough
        if not self._thorough:
            return True
        key = original_key(self._vault.mailbox_id, original["checksum"])
        return await self._vault.is_whole(key, original["size_bytes"])


def carry_over(record: MessageRecord, before: MessageRecord | None) -> None:
    """Leave a record the original that was known before, if it is of the same message still.

    Attachments are part of the MIME, so they must be the same by what Graph says of them.
    """
    record.pop("original", None)
    record.pop("original_refused", None)
    if before is None or before["content"] != record["content"] or _parts(before) != _parts(record):
        return
    if "original" in before:
        record["original"] = before["original"]
    if "original_refused" in before:
        record["original_refused"] = before["original_refused"]


def _parts(record: MessageRecord) -> set[tuple[str, int, str]]:
    return {
        (part["attachment_id"], part["size_bytes"], part.get("modified", ""))
        for part in record.get("attachments", ())
    }
