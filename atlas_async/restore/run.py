"""One mailbox restored: who does what, how many at once, and what ends it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
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
from atlas_async.model.record import MessageRecord
from atlas_async.model.restoring import (
    Adjustment,
    Comparing,
    Conflict,
    FolderOutcome,
    Present,
    RestoreFailure,
    RestoreOptions,
    RestoreReport,
    Step,
)
from atlas_async.model.source import Folder, FolderListing
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.announced import Unmarked
from atlas_async.restore.comparison import Comparer
from atlas_async.restore.decision import Decider, Decision
from atlas_async.restore.delivery import Delivered, Delivery
from atlas_async.restore.existing import FEW, Existing
from atlas_async.restore.journal import Journal
from atlas_async.restore.originals import Originals
from atlas_async.restore.placement import Place, Placement
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.replacing import NOT_REPLACED, Replacer
from atlas_async.restore.visible import VisibleFolders

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
        self._originals = Originals(chosen.vault, target, journal, wanted=options.originals)
        self._folders: dict[str, FolderOutcome] = {}
        self._into: set[str] = set()
        self._transients = 0
        self._noted_folders = 0
        self._done = 0
        self._heavy = anyio.Semaphore(HEAVY)

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
        if self._options.dry_run or self._is_stopped():
            return
        if self._options.comparing is Comparing.NONE:
            self._journal.settle()
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
        await comparer.compare(paths, self._into, self._decider.elsewhere)
        for target_id in comparer.twins:
            await self._target.delete_message(target_id)
        if not self._is_stopped():
            self.report.comparison = comparer.result
            self._journal.settle()

    def _is_stopped(self) -> bool:
        if self._around.stop.requested:
            self.report.interrupted = True
        return self.report.interrupted

    def _prepare(self, listing: FolderListing) -> None:
        counts = {folder.id: folder.total_items for folder in listing.folders}
        self._visible = VisibleFolders(self._target, listing)
        self._placement = self._placing(listing, dry_run=self._options.dry_run)
        self._unmarked = Unmarked(self._journal.progress.announced.values())
        few = self._around.few is not None and self._around.few <= FEW
        existing = Existing(
            self._target,
            self._job_id,
            lambda folder: counts.get(folder, 0),
            self._is_made,
            few=few,
            names=self._options.conflict is Conflict.REPLACE,
        )
        self._replacer = Replacer(self._target, self._journal, self._visible)
        self._decider = Decider(
            self._chosen.vault,
            self._target,
            self._options.conflict,
            journal=self._journal,
            job_id=self._job_id,
            existing=existing,
            visible=self._visible,
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

    def _is_made(self, present: Present) -> bool:
        """Tell whether this restore has made a message: servers may not give marks back."""
        made = self._journal.progress.fingerprint_of(present.object_id) is not None
        return made or self._unmarked.has(present)

    async def _make_root(self) -> None:
        if not self._options.in_place:
            await self._placement.top()
        self._note_folders()

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

    async def _place(self, record: MessageRecord, path: tuple[str, ...]) -> Place:
        """Return where a message belongs; its folder is made when it is absent."""
        place = await self._placement.place(record["folder_id"], path)
        self._note_folders()
        self._outcome(record["folder_id"], path).target = place.path
        self._into.add(place.folder_id)
        return place

    async def _step(self, record: MessageRecord, path: tuple[str, ...]) -> Step:
        decision = await self._decider.decide(record, await self._place(record, path))
        if decision.step in {Step.SKIP, Step.ALREADY} or self._options.dry_run:
            return decision.step
        if _weight(record) > HEAVY_BYTES:
            async with self._heavy:
                return await self._make(record, path, decision)
        return await self._make(record, path, decision)

    async def _make(self, record: MessageRecord, path: tuple[str, ...], decision: Decision) -> Step:
        stored = decision.stored or await read_message(self._chosen.vault, record)
        try:
            delivered = await self._deliver(stored, decision)
        except GraphNotFound:
            await self._placement.forget(record["folder_id"], await self._target.list_folders())
            place = await self._place(record, path)
            decision = await self._decider.decide_again(record, decision, place)
            delivered = await self._deliver(stored, decision)
        if decision.step is Step.REPLACE:
            # Not complete before the one it replaces is put away: a kill between is caught up on.
            self._journal.made(replace(delivered.made, complete=False))
            replaced = decision.replaces, decision.place.folder_id
            if not await self._replacer.put_away(*replaced, mark=decision.mark):
                delivered.adjusted.append(NOT_REPLACED)
                decision.step = Step.CONTINUE if decision.adopted else Step.CREATE
        self._journal.made(delivered.made)
        self._note(record, path, delivered)
        return decision.step

    async def _deliver(self, stored: StoredMessage, decision: Decision) -> Delivered:
        folder_id, mark = decision.place.folder_id, decision.mark
        if decision.adopted:
            resume = self._originals.resume if decision.from_mime else self._delivery.resume
            return await resume(stored, decision.adopted, folder_id, mark=mark)
        original = await self._originals.create(stored, folder_id, mark=mark)
        if original is not None:
            return original
        headers = await self._originals.headers(stored.record)
        return await self._delivery.create(
            stored, folder_id, mark=mark, alone=not decision.others, headers=headers
        )

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
            self._visible.note(made.folder_id, made.path)
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
                skipped=sum(f.skip + f.already + f.continued for f in self._folders.values()),
                failed=self.report.failed,
                bytes_sent=self._target.bytes_sent,
                throttled=usage.throttled,
            )
        )


def _weight(record: MessageRecord) -> int:
    """Return the bytes of a message with its attachments, as far as they are recorded."""
    return record["size_bytes"] + sum(a["content_bytes"] for a in record.get("attachments", []))
