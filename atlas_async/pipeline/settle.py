"""Stage 2: every item of a page gets its outcome. Known? Sparse? Seal, put, fetch attachments.

A message is sealed and put once per content. Read state, flag, categories and the folder live in
the record, so changing them stores nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Final, Protocol
from urllib.parse import quote

import anyio

from atlas_async.catalog.vault import Put, Vault
from atlas_async.errors import (
    ConsentError,
    GraphError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
)
from atlas_async.model.message import (
    MESSAGE_PROPERTIES,
    MessagePlaintext,
    apply_state,
    may_have_attachments,
    message_plaintext,
    message_record,
)
from atlas_async.model.record import (
    STATE_PROPERTIES,
    AttachmentRecord,
    MessageRecord,
    attachment_key,
    message_key,
)
from atlas_async.model.source import JsonObject
from atlas_async.pipeline.attachments import AttachmentFetcher
from atlas_async.pipeline.batch import (
    Change,
    PageBatch,
    SettledItem,
    SettledPage,
    Tally,
    not_stored,
)
from atlas_async.pipeline.originals import Originals, carry_over
from atlas_async.pipeline.page_lease import Returns
from atlas_async.pipeline.ports import MailboxSource
from atlas_async.pipeline.presence import has_left
from atlas_async.pipeline.surroundings import Surroundings

SINGLE_LEASE: Final = 256 << 10
"""Bytes held at first for a message that is fetched by itself."""

METADATA_VALUE_BYTES: Final = 1024
"""Longest metadata value written: S3 allows 2 KB for all of an object's metadata."""


class KnownRecords(Protocol):
    """What is known of messages before this page."""

    async def known(self, object_ids: list[str]) -> Mapping[str, MessageRecord]:
        """Return the newest record of each id that has one."""
        ...


class Settler:
    """Settles pages of one mailbox. Several pages may be settled at once.

    Args:
        source: The mailbox.
        vault: Where messages go.
        known: Looks up what earlier pages and runs recorded.
        tally: Counts outcomes.
        around: What is shared with other mailboxes.
        attachments: Fetches theirs.
        originals: Fetches their MIME, where that is wanted.
        thorough: Compare the attachments of every message that has some, touched or not, and
            store again what the store has lost.
    """

    def __init__(
        self,
        source: MailboxSource,
        vault: Vault,
        known: KnownRecords,
        tally: Tally,
        around: Surroundings,
        *,
        attachments: AttachmentFetcher,
        originals: Originals,
        thorough: bool,
    ) -> None:
        self._source = source
        self._vault = vault
        self._attachments = attachments
        self._originals = originals
        self._known = known
        self._tally = tally
        self._clock = around.clock
        self._singles = around.budgets.singles
        self._share = around.share
        self._thorough = thorough
        self._never_given: set[str] = set()

    async def settle(self, batch: PageBatch) -> SettledPage:
        """Return the page with an outcome for every item.

        Raises:
            StoreError: The store fails as a whole.
            AuthError, GraphThrottled, NoMailbox: The mailbox does.
        """
        page = SettledPage(batch)
        # The last occurrence of an id within a page is the one that counts.
        latest = {str(item.get("id") or ""): item for item in batch.items}
        known = await self._known.known(list(latest))
        waiting = iter(latest.items())
        returns = Returns(batch.lease, len(latest))
        with self._share.page() as most:
            workers = min(len(latest), most)
            if workers == 1:
                await self._work(waiting, known, page, returns)
            elif workers:
                async with anyio.create_task_group() as group:
                    for _ in range(workers):
                        group.start_soon(self._work, waiting, known, page, returns)
        return page

    async def refetch_attachments(self, record: MessageRecord, page: SettledPage) -> None:
        """Try again for attachments that an earlier run could not get."""
        object_id = record["object_id"]
        fetched = await self._attachments.fetch(
            object_id, record["folder_id"], known=record.get("attachments", ()), content=False
        )
        updated = copy(record)
        if fetched.records:
            updated["attachments"] = fetched.records
        page.attachments_read.append(object_id)
        page.failed.extend(fetched.failed)
        carry_over(updated, record)
        await self._record(updated, record, page)

    async def fetch_original(self, record: MessageRecord, page: SettledPage) -> None:
        """Try again for a message's original, whether this run fetches others or not."""
        updated = copy(record)
        left = await self._originals.fetch(updated, page)
        if not self._has_left(record["object_id"], page, left=left):
            change = Change.SAME if updated == record else Change.STATE
            page.items.append(SettledItem(updated, change, record))

    async def _work(
        self,
        waiting: Iterator[tuple[str, JsonObject]],
        known: Mapping[str, MessageRecord],
        page: SettledPage,
        returns: Returns,
    ) -> None:
        for object_id, resource in waiting:
            try:
                await self._settle_item(object_id, resource, known.get(object_id), page)
            except GraphThrottled:
                raise
            except (GraphError, ConsentError) as error:
                # The mailbox itself was opened: what is refused here is this message alone.
                absent = isinstance(error, GraphNotFound)
                if absent and page.batch.loose and await has_left(self._source, object_id):
                    page.gone.append(object_id)
                else:
                    page.doubted |= absent
                    self._fail(object_id, resource, error, page)
            resource.pop("body", None)
            self._tally.done += 1
            returns.settled()

    async def _settle_item(
        self,
        object_id: str,
        resource: JsonObject,
        before: MessageRecord | None,
        page: SettledPage,
    ) -> None:
        folder_id = page.batch.folder.id
        if not object_id:
            msg = "Graph gave a message without an id"
            raise GraphProtocolError(msg, code="MissingId")
        if before is not None and self._only_state(resource):
            await self._record(_with_state(before, resource, folder_id), before, page)
            self._tally.unchanged += 1
            return
        if not self._is_sparse(resource, before):
            await self._take(resource, before, page)
            return
        async with self._singles.lease(SINGLE_LEASE) as lease:
            whole = await self._source.get_message(object_id, lease=lease)
            if "body" in whole:
                # A proper message tells which properties this mailbox's Graph never gives.
                missing = (name for name in MESSAGE_PROPERTIES if name not in whole)
                self._never_given.update(missing)
            await self._take(whole, before, page)

    async def _take(
        self, resource: JsonObject, before: MessageRecord | None, page: SettledPage
    ) -> None:
        """Store a whole message, or record that its content is stored already."""
        try:
            plaintext = message_plaintext(resource)
        except ValueError as error:
            msg = f"the message cannot be written: {error}"
            raise GraphProtocolError(msg, code="InvalidContent") from None
        same = before is not None and before["content"] == plaintext.content
        if before is not None and same and not await self._is_lost(before):
            await self._keep(resource, before, page)
        else:
            await self._store(resource, plaintext, before, page)

    async def _is_lost(self, before: MessageRecord) -> bool:
        """Tell whether a thorough run has to store a message again: its object is not there."""
        key = message_key(self._vault.mailbox_id, before["checksum"])
        return self._thorough and not await self._vault.is_whole(key, before["size_bytes"])

    async def _known_attachments(self, before: MessageRecord | None) -> list[AttachmentRecord]:
        """Return the attachments that need not be fetched again.

        A thorough run asks the store whether it has them; others take what was recorded for it.
        """
        known = before.get("attachments", []) if before else []
        if not self._thorough:
            return known
        mailbox_id = self._vault.mailbox_id
        return [
            attachment
            for attachment in known
            if await self._vault.is_whole(
                attachment_key(mailbox_id, attachment["checksum"]), attachment["content_bytes"]
            )
        ]

    def _only_state(self, resource: JsonObject) -> bool:
        """Tell whether an update carries changeable state and nothing else."""
        names = {name for name in resource if name != "id" and not name.startswith("@")}
        return bool(names) and names <= STATE_PROPERTIES

    def _is_sparse(self, resource: JsonObject, before: MessageRecord | None) -> bool:
        """Tell whether properties are missing that Graph would give when asked.

        Graph promises only "at least the properties updated" for changed messages. A message that
        is new to the mailbox's state is taken as it is when it has a body; one without a body never
        is.
        """
        if "body" not in resource:
            return True
        if before is None:
            return False
        missing = {name for name in MESSAGE_PROPERTIES if name not in resource}
        return not missing <= self._never_given

    async def _keep(self, resource: JsonObject, before: MessageRecord, page: SettledPage) -> None:
        """Record new state for a message whose content is stored already.

        A touch that changes nothing visible, or any touch of a draft, may mean that an attachment
        was added or removed; then the list is compared, and only what is new is fetched.
        """
        folder_id = page.batch.folder.id
        record = _with_state(before, resource, folder_id)
        touched = _version(before) != _version(record)
        unseen = record["is_draft"] or not _visible_change(before, record)
        if self._thorough or (touched and unseen):
            has_any = may_have_attachments(resource) or bool(before.get("attachments"))
            if has_any:
                await self._compare_attachments(record, before, page)
                return
        await self._record(record, before, page)
        self._tally.unchanged += 1

    async def _compare_attachments(
        self, record: MessageRecord, before: MessageRecord, page: SettledPage
    ) -> None:
        known = await self._known_attachments(before)
        fetched = await self._attachments.fetch(
            record["object_id"], record["folder_id"], known=known, content=False
        )
        if self._has_left(record["object_id"], page, left=fetched.message_gone):
            return
        record.pop("attachments", None)
        if fetched.records:
            record["attachments"] = fetched.records
        page.attachments_read.append(record["object_id"])
        page.failed.extend(fetched.failed)
        carry_over(record, before)
        await self._record(record, before, page)
        self._tally.unchanged += 1

    async def _record(
        self, record: MessageRecord, before: MessageRecord, page: SettledPage
    ) -> None:
        """Take the row of a message whose content is stored already, with its original."""
        left = await self._originals.complete(record, page)
        if not self._has_left(record["object_id"], page, left=left):
            change = Change.SAME if record == before else Change.STATE
            page.items.append(SettledItem(record, change, before))

    async def _store(
        self,
        resource: JsonObject,
        plaintext: MessagePlaintext,
        before: MessageRecord | None,
        page: SettledPage,
    ) -> None:
        """Put a message that is new, or whose content changed, and its attachments."""
        record = message_record(resource, page.batch.folder.id, plaintext)
        object_id = record["object_id"]
        had_some = before is not None and bool(before.get("attachments"))
        if had_some or may_have_attachments(resource):
            known = await self._known_attachments(before)
            fetched = await self._attachments.fetch(
                object_id, record["folder_id"], known=known, content=not known
            )
            if self._has_left(object_id, page, left=fetched.message_gone):
                return
            if fetched.records:
                record["attachments"] = fetched.records
            page.attachments_read.append(object_id)
            page.failed.extend(fetched.failed)
        carry_over(record, before)
        left = await self._originals.complete(record, page)
        if self._has_left(object_id, page, left=left):
            return
        metadata = {
            "x-message-id": _quoted(object_id)[:METADATA_VALUE_BYTES],
            "x-plaintext-sha256": plaintext.checksum,
        }
        key = message_key(self._vault.mailbox_id, plaintext.checksum)
        began = self._clock.monotonic()
        put = await self._vault.put_plaintext(key, plaintext.data, metadata=metadata)
        if put is Put.STORED:
            self._share.learn(self._clock.monotonic() - began)
            self._tally.stored += 1
        else:
            self._tally.deduplicated += 1
        change = Change.NEW if before is None else Change.CHANGED
        page.items.append(SettledItem(record, change, before))

    @staticmethod
    def _has_left(object_id: str, page: SettledPage, *, left: bool) -> bool:
        """Tell whether a message that was asked for by its id turned out to be gone.

        One that its folder has just shown is recorded as it was shown: the folder is asked once
        more, and only what it takes back is gone.
        """
        if not left:
            return False
        if page.batch.loose:
            page.gone.append(object_id)
        else:
            page.doubted = True
        return page.batch.loose

    def _fail(
        self,
        object_id: str,
        resource: JsonObject,
        error: GraphError | ConsentError,
        page: SettledPage,
    ) -> None:
        self._tally.failed += 1
        page.failed.append(
            not_stored(
                error,
                kind="message",
                object_id=object_id,
                folder_id=page.batch.folder.id,
                name=str(resource.get("subject") or ""),
            )
        )


def _quoted(object_id: str) -> str:
    """Return an id as ASCII; JSON can give one that holds a lone surrogate."""
    return quote(object_id.encode("utf-8", "surrogatepass"), safe="=+/-_")


def _with_state(before: MessageRecord, resource: JsonObject, folder_id: str) -> MessageRecord:
    """Return the record brought up to date from a message whose content is the same."""
    record = copy(before)
    apply_state(record, resource)
    record["folder_id"] = folder_id
    if "hasAttachments" in resource:
        record["has_attachments"] = bool(resource["hasAttachments"])
    return record


def _visible_change(before: MessageRecord, after: MessageRecord) -> bool:
    """Tell whether anything but the version differs."""
    return {**before, "modified": "", "change_key": ""} != {
        **after,
        "modified": "",
        "change_key": "",
    }


def _version(record: MessageRecord) -> tuple[str, str]:
    """Return what Graph changes with every touch; times have whole seconds, so both are needed."""
    return record["modified"], record["change_key"]
