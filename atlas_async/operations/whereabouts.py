"""Where matches are: the newest of the snapshots searched that has each, and the newest of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atlas_async.catalog.content import MISSING_HINT
from atlas_async.catalog.reader import MailboxReader
from atlas_async.errors import IntegrityError, ObjectNotFound, PartMissing
from atlas_async.model.record import MessageRecord
from atlas_async.operations.found import Match
from atlas_async.operations.selection import Selected
from atlas_async.search.locating import Locator


class Whereabouts:
    """Makes matches of records.

    Args:
        selected: What is searched.
        notice: Told what a person should know.
    """

    def __init__(self, selected: Selected, notice: Callable[[str], None]) -> None:
        self._selected = selected
        self._notice = notice
        self._vault = selected.vault
        self._newest_id: str | None = None
        self._newest_is_lost = False
        self._locators: dict[tuple[str, ...], Locator | None] = {}
        self._made_at = {item.snapshot_id: item.created_at for item in selected.snapshots}

    async def open(self) -> None:
        """Find out which snapshot is the mailbox's newest.

        Raises:
            IntegrityError: None of them can be read.
            StoreError: The store failed.
        """
        self._newest_id = await MailboxReader(self._vault).newest_id()

    @property
    def are_known(self) -> bool:
        """Whether all that is searched is in the newest snapshot, so that nothing is looked up."""
        return self._is_single and self._selected.snapshot.snapshot_id == self._newest_id

    @property
    def _is_single(self) -> bool:
        """Whether there is but one snapshot that a match can be in."""
        return len(self._selected.snapshots) == 1 or not self._selected.exact

    async def matches(self, records: Sequence[MessageRecord]) -> list[Match]:
        """Return matches in the order of the records.

        Raises:
            IntegrityError: One of the snapshots searched is damaged.
            StoreError: The store failed.
        """
        ids = [record["object_id"] for record in records]
        newest = await self._in_newest(ids)
        last_seen = await self._last_seen(ids, newest)
        found = []
        for record in records:
            object_id = record["object_id"]
            snapshot_id = last_seen.get(object_id, self._selected.snapshot.snapshot_id)
            found.append(
                Match(
                    mailbox_id=self._selected.mailbox_id,
                    snapshot_id=snapshot_id,
                    last_seen=self._made_at[snapshot_id],
                    record=record,
                    folder=self._selected.folder_path(record["folder_id"]),
                    is_in_newest=object_id in newest,
                )
            )
        return found

    async def _in_newest(self, object_ids: Sequence[str]) -> frozenset[str]:
        """Return which messages the mailbox's newest snapshot has."""
        if self.are_known:
            return frozenset(object_ids)
        try:
            newest = await self._locator([self._newest_id] if self._newest_id else [])
            # Atlas's snapshots show all that Atlas had seen until then.
            if newest is None:
                return frozenset() if self._selected.exact else frozenset(object_ids)
            return frozenset(await newest.locate(object_ids))
        except (ObjectNotFound, IntegrityError) as error:
            if not self._newest_is_lost:
                self._newest_is_lost = True
                self._notice(f"what the newest snapshot has is not known: {error}")
            return frozenset()

    async def _last_seen(
        self, object_ids: Sequence[str], in_newest: frozenset[str]
    ) -> dict[str, str]:
        """Return the newest of the selected snapshots that has each message."""
        if self._is_single:
            return {}
        newest = self._selected.snapshot.snapshot_id
        found = {i: newest for i in object_ids if i in in_newest and newest == self._newest_id}
        left = [object_id for object_id in object_ids if object_id not in found]
        if not left:
            return found
        locator = await self._locator([item.snapshot_id for item in self._selected.snapshots])
        try:
            found.update(await locator.locate(left) if locator else {})
        except ObjectNotFound as error:
            msg = "a part of these snapshots is missing from the bucket"
            raise PartMissing(msg, where=error.where, hint=MISSING_HINT) from None
        return found

    async def _locator(self, snapshot_ids: Sequence[str]) -> Locator | None:
        """Return who tells in which of snapshots messages are; None where Atlas wrote them all."""
        names = tuple(snapshot_ids)
        if names not in self._locators:
            reader = MailboxReader(self._vault)
            found = [await reader.descriptor(snapshot_id) for snapshot_id in names]
            pairs = [(item.snapshot_id, item.runs) for item in found if item is not None]
            self._locators[names] = Locator(self._vault, pairs) if pairs else None
        return self._locators[names]
