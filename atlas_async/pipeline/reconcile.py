"""Stage 4: take out of the snapshot what is really gone, and nothing else.

A delta's ``@removed`` means deleted or moved away, and with immutable ids a message that went
A -> B -> A is reported only as removed from A, even one that arrived since the last run. So every
candidate that no folder showed again is looked up before it is taken out: one by one while that is
cheap, by listing ids otherwise. What turns out to be there is fetched: it may have changed, too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from atlas_async.catalog.segment import slot_of
from atlas_async.errors import ConsentError, GraphError, GraphNotFound, GraphThrottled
from atlas_async.model.record import MessageRecord
from atlas_async.pipeline.batch import loose_batch, not_stored
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.ports import MailboxSource
from atlas_async.pipeline.settle import Settler
from atlas_async.pipeline.tree import FolderTree
from atlas_async.side_by_side import side_by_side

LOOKUPS_AT_ONCE: Final = 4
FEW: Final = 20
"""So many candidates are always looked up one by one."""

IDS_PER_REQUEST: Final = 1_000
CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A message said to have left a folder, with its record if there is one."""

    folder_id: str
    record: MessageRecord | None


class Reconciler:
    """Verifies removals of one mailbox.

    Args:
        source: The mailbox.
        journal: What the run recorded.
        tree: The folders as they are now.
        settler: Fetches and records what is there after all.
        next_sequence: Numbers things in the order they are fetched.
        list_again: Lists the folder tree anew.

    ``tree`` is the newest tree known afterwards.
    """

    def __init__(
        self,
        source: MailboxSource,
        journal: Journal,
        tree: FolderTree,
        settler: Settler,
        next_sequence: Callable[[], int],
        list_again: Callable[[], Awaitable[FolderTree]],
    ) -> None:
        self._source = source
        self._journal = journal
        self.tree = tree
        self._settler = settler
        self._next_sequence = next_sequence
        self._list_again = list_again
        self.unverified = 0

    async def run(self, vanished: frozenset[str]) -> None:
        """Apply what is verified; keep for the next run what could not be.

        Args:
            vanished: Folders of the tree that Graph said are gone when they were read.

        Raises:
            AuthError, GraphThrottled: The mailbox as a whole is affected. What was not settled by
                then stays with what the next run verifies.
        """
        await self._journal.settle_late()
        if vanished:
            await self._confirm(vanished)
        if await self._settle_removals():
            # What the new listing lacks was read while it was there.
            await self._settle_removals()
        self._journal.carry.removed = {
            folder: left for folder, left in self._journal.carry.removed.items() if left
        }

    async def _settle_removals(self) -> bool:
        """Look up what may be gone and apply it; tell whether a new listing lacks more folders."""
        before = self.tree
        self.unverified = 0
        await self._collect_unseen()
        candidates = await self._candidates()
        if candidates:
            located = await self._locate(candidates)
            if any(f not in self.tree.ids for f in located.values() if f):
                # Perhaps a folder that was made, or renamed into sight, during the run.
                self.tree = await self._list_again()
            await self._apply(candidates, located)
        return not before.ids <= self.tree.ids

    async def _confirm(self, vanished: frozenset[str]) -> None:
        """Believe that folders are gone only when a new listing lacks them."""
        self.tree = await self._list_again()
        for folder in self.tree.folders:
            if folder.id in vanished:
                error = GraphNotFound("the folder is listed, but its messages are not found")
                self._journal.fail(
                    not_stored(
                        error,
                        kind="folder",
                        object_id=folder.id,
                        folder_id=folder.id,
                        name="/".join(folder.path),
                    )
                )

    async def _collect_unseen(self) -> None:
        """Add as candidates what full enumerations did not show, and what lost folders held."""
        journal = self._journal
        carry = journal.carry
        lost = (set(journal.folder_counts) | set(journal.cursors)) - self.tree.ids
        for folder_id in lost:
            journal.cursors.pop(folder_id, None)
            carry.seen.pop(folder_id, None)
        ended = {
            folder_id: slots
            for folder_id, slots in carry.seen.items()
            if folder_id in journal.cursors and not journal.cursors[folder_id].round_open
        }
        if not ended and not lost & set(journal.folder_counts):
            return
        async for rows in journal.all_rows():
            for row in rows:
                folder_id = row["folder_id"]  # type: ignore[typeddict-item]  # no tombstones here
                slots = ended.get(folder_id)
                unseen = slots is not None and slot_of(row["object_id"]) not in slots
                if unseen or folder_id in lost:
                    carry.removed.setdefault(folder_id, set()).add(row["object_id"])
        for folder_id in ended:
            del carry.seen[folder_id]

    async def _candidates(self) -> dict[str, _Candidate]:
        """Return what removals concern: records still in that folder, and ids never recorded."""
        candidates: dict[str, _Candidate] = {}
        for folder_id, ids in self._journal.carry.removed.items():
            for part in _parts(sorted(ids)):
                known = await self._journal.known(part)
                for object_id in part:
                    record = known.get(object_id)
                    if record is None or record["folder_id"] == folder_id:
                        candidates[object_id] = _Candidate(folder_id, record)
                    else:
                        ids.discard(object_id)
        return candidates

    async def _apply(
        self, candidates: dict[str, _Candidate], located: dict[str, str | None]
    ) -> None:
        """Take out what is gone, and record anew what is there: it may have changed."""
        here: dict[str, list[str]] = {}
        sequence = self._next_sequence()
        for object_id, folder_id in located.items():
            candidate = candidates[object_id]
            if folder_id == "":
                self.unverified += 1  # there, but Graph does not say where: ask again next time
            elif folder_id is not None and folder_id in self.tree.ids:
                here.setdefault(folder_id, []).append(object_id)
            else:
                self._done(object_id, candidate)
                if candidate.record is not None:
                    self._journal.remove(candidate.record, sequence)
                else:
                    self._journal.ledger.forget_object(object_id)
        folders = {folder.id: folder for folder in self.tree.folders}
        for folder_id, ids in here.items():
            for part in _parts(ids):
                batch = loose_batch(folders[folder_id], part, self._next_sequence())
                self._journal.absorb(await self._settler.settle(batch))
                for object_id in part:
                    self._done(object_id, candidates[object_id])
        await self._journal.settle_late()

    def _done(self, object_id: str, candidate: _Candidate) -> None:
        # A message that was never recorded may have been seen leaving more than one folder.
        folders = [candidate.folder_id] if candidate.record else list(self._journal.carry.removed)
        for folder_id in folders:
            self._journal.carry.removed[folder_id].discard(object_id)

    async def _locate(self, candidates: dict[str, _Candidate]) -> dict[str, str | None]:
        """Return where each candidate is: a folder, None for gone; what is unclear is left out."""
        listing_cost = sum(1 + f.total_items // IDS_PER_REQUEST for f in self.tree.folders)
        if len(candidates) <= max(FEW, listing_cost):
            return await self._look_up(sorted(candidates))
        # A listing that is paged while the folder changes can skip a message, so it proves only
        # what is there. What it does not show is looked up.
        present = await self._list_ids(candidates)
        absent = sorted(candidates.keys() - present.keys())
        return present | await self._look_up(absent)

    async def _look_up(self, object_ids: list[str]) -> dict[str, str | None]:
        located: dict[str, str | None] = {}

        async def look_up(object_id: str) -> None:
            try:
                located[object_id] = await self._source.locate_message(object_id)
            except GraphThrottled:
                raise
            except (GraphError, ConsentError):
                self.unverified += 1  # stays in carry.removed: the next run asks again

        await side_by_side(look_up, object_ids, at_once=LOOKUPS_AT_ONCE)
        return located

    async def _list_ids(self, candidates: dict[str, _Candidate]) -> dict[str, str | None]:
        """Return the candidates that listing the ids of every folder shows to be there."""
        present: dict[str, str | None] = {}
        for folder in self.tree.folders:
            try:
                async for ids in self._source.message_ids(folder.id):
                    present.update((i, folder.id) for i in ids if i in candidates)
            except GraphThrottled:
                raise
            except (GraphError, ConsentError):
                continue  # what it would have shown is looked up one by one
        return present


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
