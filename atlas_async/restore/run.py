"""One mailbox restored: who does what, how many at once, and what ends it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from atlas_async.catalog.content import StoredMessage, read_message
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock
from atlas_async.errors import (
    AtlasError,
    GraphError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
    GraphTransient,
    IntegrityError,
    MailboxOverQuota,
    NoMailbox,
)
from atlas_async.model.events import Event, RestoreProgress
from atlas_async.model.message import message_identity
from atlas_async.model.record import MessageRecord
from atlas_async.model.restoring import (
    Adjustment,
    Comparing,
    Conflict,
    FolderOutcome,
    RestoreFailure,
    RestoreOptions,
    RestoreReport,
    Step,
)
from atlas_async.model.source import Folder, FolderListing
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.comparison import Comparer
from atlas_async.restore.delivery import Delivered, Delivery
from atlas_async.restore.existing import FEW, Existing, Shelf
from atlas_async.restore.journal import Journal
from atlas_async.restore.marks import mark_of, slot_of_mark
from atlas_async.restore.originals import Originals
from atlas_async.restore.placement import Place, Placement
from atlas_async.restore.ports import TargetMailbox

WORKERS: Final = 12
"""Messages in hand at once: enough that four requests are always in flight while others read."""
HEAVY_BYTES: Final = 512 << 10
HEAVY: Final = 3
"""Messages that weigh more, at once: each is held several times over while it is sent. What a
mailbox takes in five minutes is the limit for those, so that more of them gain nothing."""
TRANSIENTS: Final = 3
"""Messages in a row that fail for want of an answer, after which it is the network that fails."""


class Chosen(Protocol):
    """The messages to restore."""

    @property
    def vault(self) -> Vault:
        """Where they are."""
        ...

    @property
    def folders(self) -> Sequence[Folder]:
        """All folders of the snapshot."""
        ...

    @property
    def chosen_folders(self) -> Sequence[Folder]:
        """Those that messages are taken from."""
        ...

    def messages(self) -> AsyncIterator[MessageRecord]:
        """Yield the messages."""
        ...

    def folder_path(self, folder_id: str) -> tuple[str, ...]:
        """Return a folder's names from the root, or a stand-in."""
        ...


@dataclass(slots=True)
class Around:
    """What a restore is given beside its mailboxes.

    ``few`` is the number of messages where that is known beforehand, else None.
    """

    clock: Clock
    emit: Callable[[Event], None]
    stop: StopSignal
    few: int | None = None


@dataclass(slots=True)
class _Decision:
    """What to do with a message, and where."""

    step: Step
    place: Place
    mark: str
    shelf: Shelf
    key: str
    stored: StoredMessage | None = None
    adopted: str = ""
    others: bool = field(default=False)


class MailboxRestore:
    """Restores chosen messages into one mailbox.

    Args:
        chosen: The messages.
        target: Where to.
        options: How.
        journal: What was done and is done; in a dry run it is only asked.
        job_id: Names the restore.
        around: Clock, events, stop signal.
        report: Takes what comes of it.
    """

    def __init__(
        self,
        chosen: Chosen,
        target: TargetMailbox,
        options: RestoreOptions,
        *,
        journal: Journal,
        job_id: str,
        around: Around,
        report: RestoreReport,
    ) -> None:
        self._chosen = chosen
        self._target = target
        self._options = options
        self._journal = journal
        self._job_id = job_id
        self._around = around
        self.report = report
        self._delivery = Delivery(chosen.vault, target, journal.made)
        self._originals = Originals(chosen.vault, target, journal.made, wanted=options.originals)
        self._folders: dict[str, FolderOutcome] = {}
        self._transients = 0
        self._noted_folders = 0
        self._done = 0
        self._deciding: dict[str, anyio.Lock] = {}
        self._heavy = anyio.Semaphore(HEAVY)
        self._elsewhere: Counter[str] = Counter()
        self._put_aside: set[str] = set()
        self._deleted_folders: set[str] = set()
        self._kept_folders: set[str] = set()
        self._listing = anyio.Lock()

    async def run(self) -> None:
        """Restore everything; what came of it is in the report.

        Raises:
            ConsentError: Mail.ReadWrite is missing for this mailbox.
            GraphThrottled, GraphTransient, MailboxOverQuota, NoMailbox: The mailbox cannot be
                written to (any more); running again continues.
            StoreError: The store failed.
        """
        listing = await self._target.list_folders()
        self._prepare(listing)
        try:
            if not self._options.dry_run:
                await self._journal.intend(await self._absent(listing))
                # The first write shows whether the permission is there, before anything is read.
                await self._make_root()
            await self._each()
            await self._make_empty_folders()
        finally:
            self._note_folders()
            self._count_costs()
            self.report.folders = sorted(self._folders.values(), key=lambda f: f.path)

    async def compare(self) -> None:
        """Read back what was made, as far as the options ask for it."""
        if self._options.dry_run or self._options.comparing is Comparing.NONE:
            return
        if self._is_stopped():
            return
        await self._journal.flush()
        comparer = Comparer(
            self._target,
            self._journal.progress,
            self._options.comparing,
            f"{self._job_id}/",
            self._around.stop,
        )
        paths = {place.folder_id: place.path for place in self._placement.places}
        await comparer.compare(paths, self._elsewhere)
        for target_id in comparer.twins:
            await self._target.delete_message(target_id)
        if not self._is_stopped():
            self.report.comparison = comparer.result

    def _is_stopped(self) -> bool:
        if self._around.stop.requested:
            self.report.interrupted = True
        return self.report.interrupted

    def _prepare(self, listing: FolderListing) -> None:
        counts = {folder.id: folder.total_items for folder in listing.folders}
        self._sort_folders(listing)
        self._placement = self._placing(listing, dry_run=self._options.dry_run)
        few = self._around.few is not None and self._around.few <= FEW
        self._existing = Existing(
            self._target, self._job_id, lambda folder: counts.get(folder, 0), self._is_made, few=few
        )

    def _placing(self, listing: FolderListing, *, dry_run: bool) -> Placement:
        async def intend(path: tuple[str, ...]) -> None:
            await self._journal.intend([path])

        return Placement(
            self._target,
            listing,
            self._chosen.folders,
            in_place=self._options.in_place,
            root=self._options.root,
            dry_run=dry_run,
            intended=self._journal.progress.absent,
            intend=None if dry_run else intend,
        )

    async def _absent(self, listing: FolderListing) -> list[tuple[str, ...]]:
        """Return the paths of the folders that are to be made, where that is known beforehand.

        Of chosen messages the folders are only known as they come; each is then noted by itself.
        """
        if self._around.few is not None:
            return []
        trial = self._placing(listing, dry_run=True)
        if not self._options.in_place:
            await trial.top()
        for folder in self._chosen.chosen_folders:
            await trial.place(folder.id, self._chosen.folder_path(folder.id))
        return list(trial.absent)

    def _is_made(self, target_id: str) -> bool:
        return self._journal.progress.fingerprint_of(target_id) is not None

    async def _make_root(self) -> None:
        if not self._options.in_place:
            await self._placement.top()
        self._note_folders()

    def _sort_folders(self, listing: FolderListing) -> None:
        """Tell folders that somebody keeps mail in from those below Deleted Items."""
        bins = [f.path for f in listing.folders if f.well_known_name == "deleteditems"]
        for folder in listing.folders:
            deleted = any(folder.path[: len(path)] == path for path in bins)
            (self._deleted_folders if deleted else self._kept_folders).add(folder.id)

    async def _is_kept(self, target_id: str, place: Place) -> bool:
        """Tell whether a message is in its place, or somewhere else but not deleted."""
        folder_id = await self._target.folder_of(target_id)
        if folder_id is None or folder_id == place.folder_id:
            return folder_id is not None
        async with self._listing:
            if folder_id not in self._kept_folders and folder_id not in self._deleted_folders:
                self._sort_folders(await self._target.list_folders())
                if folder_id not in self._kept_folders:
                    # Users do not see it: it lies among the recoverable items.
                    self._deleted_folders.add(folder_id)
        return folder_id in self._kept_folders

    async def _each(self) -> None:
        """Hand the messages to workers; the first error that concerns all of them ends it."""
        send, receive = anyio.create_memory_object_stream[MessageRecord](WORKERS)
        errors: list[AtlasError] = []
        async with anyio.create_task_group() as group:
            for _ in range(WORKERS):
                group.start_soon(self._work, receive.clone(), errors, group.cancel_scope)
            receive.close()
            await self._produce(send, errors, group.cancel_scope)
        if errors:
            raise errors[0]

    async def _produce(
        self,
        send: MemoryObjectSendStream[MessageRecord],
        errors: list[AtlasError],
        scope: anyio.CancelScope,
    ) -> None:
        async with send:
            try:
                async for record in self._chosen.messages():
                    if self._around.stop.requested:
                        self.report.interrupted = True
                        return
                    await send.send(record)
            except AtlasError as error:
                errors.append(error)
                scope.cancel()

    async def _work(
        self,
        receive: MemoryObjectReceiveStream[MessageRecord],
        errors: list[AtlasError],
        scope: anyio.CancelScope,
    ) -> None:
        async with receive:
            async for record in receive:
                if self._around.stop.requested:
                    self.report.interrupted = True
                    return
                try:
                    await self._restore(record)
                except AtlasError as error:
                    errors.append(error)
                    scope.cancel()

    async def _restore(self, record: MessageRecord) -> None:
        """Bring one message to its step; what goes wrong with it alone is reported (R5)."""
        path = self._chosen.folder_path(record["folder_id"])
        try:
            step = await self._step(record, path)
        except IntegrityError as error:
            self._fail(record, path, error, integrity=True)
            step = Step.FAILED
        except GraphError as error:
            if self._concerns_all(error):
                raise
            self._fail(record, path, error)
            step = Step.FAILED
        else:
            self._transients = 0
        self._outcome(record["folder_id"], path).count(step)
        self._tell(path)

    async def _step(self, record: MessageRecord, path: tuple[str, ...]) -> Step:
        decision = await self._decide(record, path)
        if decision.step in {Step.SKIP, Step.ALREADY} or self._options.dry_run:
            return decision.step
        if _weight(record) > HEAVY_BYTES:
            async with self._heavy:
                return await self._make(record, path, decision)
        return await self._make(record, path, decision)

    async def _make(
        self, record: MessageRecord, path: tuple[str, ...], decision: _Decision
    ) -> Step:
        stored = decision.stored or await read_message(self._chosen.vault, record)
        try:
            delivered = await self._deliver(stored, decision)
        except GraphNotFound:
            decision = await self._decide_again(record, path, decision)
            delivered = await self._deliver(stored, decision)
        if decision.step is Step.REPLACE:
            # Not complete before the one it replaces is put away: a kill between is caught up on.
            self._journal.made(replace(delivered.made, complete=False))
            await self._put_away(decision)
        self._journal.made(delivered.made)
        self._note(record, path, delivered)
        return decision.step

    async def _decide(self, record: MessageRecord, path: tuple[str, ...]) -> _Decision:
        mark = mark_of(self._job_id, record["object_id"])
        folder_id = record["folder_id"]
        place = await self._placement.place(folder_id, path)
        self._note_folders()
        self._outcome(folder_id, path).target = place.path
        stored: StoredMessage | None = None
        key = record["internet_message_id"].strip()
        if not key:
            stored = await read_message(self._chosen.vault, record)
            key = message_identity(stored.resource)
        lock = self._deciding.setdefault(place.folder_id, anyio.Lock())
        async with lock:
            shelf = await self._existing.shelf(place, key=key, mark=mark)
            decision = _Decision(Step.CREATE, place, mark, shelf, key, stored)
            decision.others = shelf.has(key)
            if await self._is_done(decision):
                decision.step = Step.ALREADY
            elif place.instead_of and await self._is_where_it_was(decision):
                decision.step = Step.SKIP
            elif self._options.conflict is Conflict.REPLACE and shelf.take(key):
                decision.step = Step.REPLACE
            elif self._options.conflict is Conflict.SKIP and not decision.adopted:
                decision.step = Step.SKIP if shelf.take(key) else Step.CREATE
        return decision

    async def _decide_again(
        self, record: MessageRecord, path: tuple[str, ...], decision: _Decision
    ) -> _Decision:
        """Decide anew after something was not found: the folder, or the message itself."""
        await self._placement.forget(record["folder_id"], await self._target.list_folders())
        place = await self._placement.place(record["folder_id"], path)
        if place.folder_id != decision.place.folder_id:
            return await self._decide(record, path)
        # What was created a moment ago may only not be shown yet.
        slot = slot_of_mark(decision.mark)
        half = self._journal.progress.incomplete.get(slot)
        if half is not None and await self._is_kept(half.target_id, place):
            decision.adopted = half.target_id
        else:
            decision.adopted = await self._marked(decision)
        return decision

    async def _is_where_it_was(self, decision: _Decision) -> bool:
        """Tell whether a message is in its own folder, of one that would be put elsewhere."""
        own = Place(decision.place.instead_of, (), fresh=False)
        shelf = await self._existing.shelf(own, key=decision.key, mark=decision.mark)
        return self._options.conflict is not Conflict.COPY and shelf.take(decision.key)

    async def _is_done(self, decision: _Decision) -> bool:
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
            self._elsewhere[decision.place.folder_id] += kept
            return kept
        if slot in progress.incomplete:
            target_id = progress.incomplete[slot].target_id
            if await self._is_kept(target_id, decision.place):
                decision.adopted = target_id
        elif there:
            # Made in the last moments before a kill: the mark is there, the journal knows nothing.
            decision.adopted = await self._marked(decision)
        return False

    async def _marked(self, decision: _Decision) -> str:
        found = await self._target.find(decision.place.folder_id, decision.key, decision.mark)
        return next((item.object_id for item in found if item.mark == decision.mark), "")

    async def _deliver(self, stored: StoredMessage, decision: _Decision) -> Delivered:
        folder_id, mark = decision.place.folder_id, decision.mark
        if decision.adopted:
            begun = await self._originals.resume(stored, decision.adopted, folder_id, mark=mark)
            return begun or await self._delivery.resume(
                stored, decision.adopted, folder_id, mark=mark
            )
        original = await self._originals.create(stored, folder_id, mark=mark)
        if original is not None:
            return original
        headers = await self._originals.headers(stored.record)
        return await self._delivery.create(
            stored, folder_id, mark=mark, alone=not decision.others, headers=headers
        )

    async def _put_away(self, decision: _Decision) -> None:
        """Move the message that was replaced to Deleted Items; its successor is there (R2)."""
        folder_id = decision.place.folder_id
        found = await self._target.find(folder_id, decision.key, "")
        own = f"{self._job_id}/"
        for item in found:
            ours = item.mark.startswith(own) or self._is_made(item.object_id)
            if item.key != decision.key or ours or item.object_id in self._put_aside:
                continue
            self._put_aside.add(item.object_id)
            self._journal.replaced(item.object_id, folder_id)
            await self._journal.flush()
            if folder_id in self._deleted_folders:
                # In Deleted Items itself there is only one place further down.
                await self._target.delete_message(item.object_id)
            else:
                await self._target.move_message(item.object_id, "deleteditems")
            return

    async def _make_empty_folders(self) -> None:
        if (
            self.report.interrupted
            or not self._options.empty_folders
            or self._around.few is not None
        ):
            return
        for folder in self._chosen.chosen_folders:
            path = self._chosen.folder_path(folder.id)
            place = await self._placement.place(folder.id, path)
            if folder.path or folder.id in self._folders:
                self._outcome(folder.id, path).target = place.path

    def _note_folders(self) -> None:
        """Put folders that were made since into the journal."""
        for made in self._placement.created[self._noted_folders :]:
            if made.folder_id not in self._journal.progress.folders:
                self._journal.made_folder(made.folder_id, made.path)
            self._kept_folders.add(made.folder_id)
        self._noted_folders = len(self._placement.created)

    def _note(self, record: MessageRecord, path: tuple[str, ...], delivered: Delivered) -> None:
        for text in delivered.adjusted:
            self.report.add_adjustment(Adjustment(record["object_id"], path, text))
        for unsent in delivered.enclosed.unsent:
            self.report.add_failure(
                RestoreFailure(
                    "attachment",
                    record["object_id"],
                    path,
                    unsent.name,
                    unsent.code,
                    unsent.reason,
                    unsent.integrity,
                )
            )

    def _fail(
        self,
        record: MessageRecord,
        path: tuple[str, ...],
        error: AtlasError,
        *,
        integrity: bool = False,
    ) -> None:
        code = error.code if isinstance(error, GraphError) else ""
        failure = RestoreFailure(
            "message",
            record["object_id"],
            path,
            record["subject"],
            code or type(error).__name__,
            str(error),
            integrity,
        )
        self.report.add_failure(failure)

    def _concerns_all(self, error: GraphError) -> bool:
        if isinstance(error, GraphThrottled | MailboxOverQuota | NoMailbox):
            return True
        if isinstance(error, GraphTransient | GraphProtocolError):
            self._transients += 1
            return self._transients >= TRANSIENTS
        return False

    def _outcome(self, folder_id: str, path: tuple[str, ...]) -> FolderOutcome:
        found = self._folders.get(folder_id)
        if found is None:
            found = self._folders[folder_id] = FolderOutcome(path, ())
        return found

    def _count_costs(self) -> None:
        usage = self._target.usage
        self.report.requests = usage.requests
        self.report.throttled = usage.throttled
        self.report.bytes_sent = self._target.bytes_sent
        self.report.attachments = self._delivery.attachments_sent

    def _tell(self, path: tuple[str, ...]) -> None:
        self._done += 1
        usage = self._target.usage
        self._around.emit(
            RestoreProgress(
                mailbox_id=self.report.mailbox_id,
                folder="/".join(path),
                done=self._done,
                expected=self._around.few or 0,
                created=sum(f.create + f.replace for f in self._folders.values()),
                skipped=sum(f.skip + f.already for f in self._folders.values()),
                failed=self.report.failed,
                bytes_sent=self._target.bytes_sent,
                throttled=usage.throttled,
            )
        )


def _weight(record: MessageRecord) -> int:
    """Return the bytes of a message with its attachments, as far as they are recorded."""
    return record["size_bytes"] + sum(a["content_bytes"] for a in record.get("attachments", []))
