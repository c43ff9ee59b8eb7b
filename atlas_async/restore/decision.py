"""What to do with a message: create it, skip it, put it in another's place, or go on with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import anyio

from atlas_async.catalog.content import StoredMessage, read_message
from atlas_async.catalog.vault import Vault
from atlas_async.model.message import message_identity
from atlas_async.model.record import MessageRecord
from atlas_async.model.restoring import Conflict, Step
from atlas_async.restore.announced import find_announced
from atlas_async.restore.enclosures import FROM_MIME
from atlas_async.restore.existing import Existing, Shelf
from atlas_async.restore.journal import Journal
from atlas_async.restore.marks import mark_of, slot_of_mark, source_of
from atlas_async.restore.placement import Place
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.visible import VisibleFolders


@dataclass(slots=True)
class Decision:
    """What to do with a message, and where.

    ``stored`` is its content where that had to be read, ``adopted`` the id of what this restore
    has begun to make of it, ``from_mime`` whether that was made from its original, ``others``
    whether the folder has the message of somebody else, ``replaces`` the id of the one that it
    replaces. ``message_id`` is what Graph knows it by, with white space around it; ``key`` is what
    it is compared by.
    """

    step: Step
    place: Place
    mark: str
    shelf: Shelf
    key: str
    stored: StoredMessage | None = None
    adopted: str = ""
    from_mime: bool = False
    others: bool = False
    replaces: str = ""
    message_id: str = ""


class Decider:
    """Decides message by message; in one folder one after the other.

    ``elsewhere`` counts, by the folder that a message was put into, those that the user has moved,
    of those that are still to be compared.

    Args:
        vault: The mailbox that is restored from.
        target: The mailbox that is restored to.
        conflict: What to do where the folder has the message already.
        journal: What this restore has done.
        job_id: Names the restore.
        existing: What the target's folders hold.
        visible: The target's folders.
    """

    def __init__(
        self,
        vault: Vault,
        target: TargetMailbox,
        conflict: Conflict,
        *,
        journal: Journal,
        job_id: str,
        existing: Existing,
        visible: VisibleFolders,
    ) -> None:
        self._vault = vault
        self._target = target
        self._conflict = conflict
        self._journal = journal
        self._job_id = job_id
        self._existing = existing
        self._visible = visible
        self._deciding: dict[str, anyio.Lock] = {}
        self._adopted: set[str] = set()
        self.elsewhere: Counter[str] = Counter()

    async def decide(self, record: MessageRecord, place: Place) -> Decision:
        """Return what to do with a message that belongs into ``place``.

        Raises:
            IntegrityError: Its content is damaged, and only that names it.
            GraphError: The target cannot be asked.
            StoreError: The store failed.
        """
        mark = mark_of(self._job_id, record["object_id"])
        stored: StoredMessage | None = None
        message_id = record["internet_message_id"]
        key = message_id.strip()
        if not key:
            stored = await read_message(self._vault, record)
            message_id = key = message_identity(stored.resource)
        lock = self._deciding.setdefault(place.folder_id, anyio.Lock())
        async with lock:
            shelf = await self._existing.shelf(place, key=key, mark=mark, message_id=message_id)
            decision = Decision(Step.CREATE, place, mark, shelf, key, stored)
            decision.message_id = message_id
            decision.others = shelf.has(key)
            if await self._is_done(decision, record):
                decision.step = Step.ALREADY
            elif place.instead_of and await self._is_where_it_was(decision):
                decision.step = Step.SKIP
            elif self._conflict is Conflict.REPLACE:
                taken = shelf.take(key, source_of(mark), record["object_id"])
                if taken is not None:
                    decision.step, decision.replaces = Step.REPLACE, taken.object_id
            elif self._conflict is Conflict.SKIP and not decision.adopted:
                taken = shelf.take(key, source_of(mark))
                decision.step = Step.CREATE if taken is None else Step.SKIP
            if decision.adopted and decision.step is Step.CREATE:
                decision.step = Step.CONTINUE
        return decision

    async def decide_again(
        self, record: MessageRecord, decision: Decision, place: Place
    ) -> Decision:
        """Decide anew after something was not found: the folder, or the message itself.

        Args:
            record: The message.
            decision: What was decided.
            place: Where it belongs now that the folders were listed again.

        Raises:
            IntegrityError, GraphError, StoreError: As ``decide``.
        """
        if place.folder_id != decision.place.folder_id:
            return await self.decide(record, place)
        # What was created a moment ago may only not be shown yet.
        slot = slot_of_mark(decision.mark)
        half = self._journal.progress.incomplete.get(slot)
        if half is not None and await self._is_kept(half.target_id, place):
            decision.adopted, decision.from_mime = half.target_id, half.enclosed == FROM_MIME
        else:
            await self._adopt_marked(decision, record)
        return decision

    async def _is_where_it_was(self, decision: Decision) -> bool:
        """Tell whether a message is in its own folder, of one that would be put elsewhere."""
        own = Place(decision.place.instead_of, (), fresh=False)
        shelf = await self._existing.shelf(
            own, key=decision.key, mark=decision.mark, message_id=decision.message_id
        )
        if self._conflict is Conflict.COPY:
            return False
        return shelf.take(decision.key, source_of(decision.mark)) is not None

    async def _is_done(self, decision: Decision, record: MessageRecord) -> bool:
        """Tell whether this restore has made the message already, all of it.

        Of one that it has begun, the id is noted in the decision.
        """
        slot = slot_of_mark(decision.mark)
        there = slot in decision.shelf.marks
        progress = self._journal.progress
        if slot in progress.complete:
            half = progress.half_slot_of(slot)
            if there or (half is not None and half in decision.shelf.ids):
                return True
            # It is not where it was put. One that the user has moved is not made again; one that
            # was deleted is.
            known = await self._journal.target_id_of(decision.mark)
            kept = bool(known) and await self._is_kept(known, decision.place)
            self.elsewhere[decision.place.folder_id] += kept and progress.is_due(slot)
            if kept:
                return True
        elif slot in progress.incomplete:
            half_made = progress.incomplete[slot]
            if await self._is_kept(half_made.target_id, decision.place):
                decision.adopted = half_made.target_id
                decision.from_mime = half_made.enclosed == FROM_MIME
        elif there:
            # Made in the last moments before a kill: the mark is there, the journal knows nothing.
            await self._adopt_marked(decision, record)
        if not decision.adopted:
            await self._adopt_announced(decision)
        return False

    async def _is_kept(self, target_id: str, place: Place) -> bool:
        """Tell whether a message is in its place, or somewhere else but not deleted."""
        folder_id = await self._target.folder_of(target_id)
        if folder_id is not None and folder_id == place.folder_id:
            return True
        return await self._visible.keeps(folder_id)

    async def _adopt_marked(self, decision: Decision, record: MessageRecord) -> None:
        place, mark = decision.place, decision.mark
        found = await self._target.find(place.folder_id, decision.message_id, mark)
        marked = next((item for item in found if item.mark == mark), None)
        if marked is not None:
            decision.adopted = marked.object_id
            told = slot_of_mark(mark) in self._journal.progress.announced
            # Only MIME makes a draft of what was none; refused, it is created as others are.
            decision.from_mime = told and marked.draft and not record["is_draft"]

    async def _adopt_announced(self, decision: Decision) -> None:
        """Find what was created from MIME in the last moments before a kill, without its mark."""
        progress = self._journal.progress
        told = progress.announced.get(slot_of_mark(decision.mark))
        for item in await find_announced(self._target, told) if told is not None else ():
            known = progress.fingerprint_of(item.object_id) is not None
            if known or item.mark or item.object_id in self._adopted:
                continue
            self._adopted.add(item.object_id)
            decision.adopted, decision.from_mime = item.object_id, True
            return
