"""``async with Atlas(settings) as atlas:`` - the composition root, and the verbs as coroutines.

An instance owns its connections and nothing else; several may live side by side, under asyncio or
uvloop. Verbs run in the caller's task: cancelling it, or the task group around it, ends the verb,
and what was committed stays.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import anyio
import anyio.to_thread

from atlas_async.catalog.reader import SnapshotSummary, SnapshotView
from atlas_async.clock import Clock, SystemClock
from atlas_async.config.settings import FolderChoice, GraphSettings, Settings
from atlas_async.errors import ConfigError, UsageError
from atlas_async.model.events import Event
from atlas_async.model.report import RunReport
from atlas_async.operations import listing, reading, verification
from atlas_async.operations.listing import MailboxSummary
from atlas_async.operations.reading import MessageContent
from atlas_async.operations.tenant import Tenant
from atlas_async.operations.verification import VerifyReport
from atlas_async.store.base import ObjectStore

if TYPE_CHECKING:  # loaded by the verbs that need it, which nothing else waits for
    from atlas_async.catalog.content import SealedContent
    from atlas_async.export.forms import ExportForm
    from atlas_async.export.report import ExportReport
    from atlas_async.model.drill import DrillOptions, DrillReport
    from atlas_async.model.restoring import (
        RestoreJob,
        RestoreOptions,
        RestoreReport,
        UndoReport,
    )
    from atlas_async.operations.export import Checkpoints
    from atlas_async.operations.found import FindReport, IndexMode, Take
    from atlas_async.operations.hands import MailSource, OpenHands, OpenSource
    from atlas_async.operations.key_check import KeyCheck, Protects
    from atlas_async.operations.key_copy import KeyCopy
    from atlas_async.operations.key_plan import ProtectionPlan, ProtectionWish
    from atlas_async.operations.key_protection import ProtectionReport
    from atlas_async.operations.ledger import Forgetting, LedgerEntry
    from atlas_async.operations.pruning import PruneReport
    from atlas_async.operations.restore import OpenTarget, RestoreWish
    from atlas_async.operations.selection import Selection
    from atlas_async.pipeline.stop import StopSignal
    from atlas_async.search.query import Query
    from atlas_async.store.protection import ObjectProtection


class Atlas:
    """The engine for one tenant.

    Args:
        settings: Where mail comes from and goes to. ``settings.graph`` may be None for everything
            but ``backup``.
        clock: Time; the machine's own unless a test brings another.
        store: Takes the place of the store that the settings name; not closed by the instance.
        source: Takes the place of Microsoft Graph.
        protection: What protects the objects of ``store``; only the verbs of the key ask for it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        store: ObjectStore | None = None,
        source: OpenSource | None = None,
        protection: ObjectProtection | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._given_store = store
        self._given_protection = protection
        self._open_source = source or self._graph
        parts = {"clock": clock, "store": store, "source": source}
        self._own_parts = [name for name, part in parts.items() if part is not None]
        self._listeners: list[Callable[[Event], None]] = []
        self._stack = AsyncExitStack()
        self._tenant: Tenant | None = None

    async def __aenter__(self) -> Self:
        """Assemble the store; nothing is asked of it yet."""
        store = self._given_store
        if store is None:
            from atlas_async.store.opening import open_store  # noqa: PLC0415 -- start-up time

            store = await self._stack.enter_async_context(
                open_store(
                    self.settings.storage,
                    self.settings.bucket,
                    limits=self.settings.limits,
                    clock=self._clock,
                )
            )
        self._tenant = Tenant(self.settings, store, self._clock)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release connections."""
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Event]]:
        """Open an endless stream of events, from now on.

        A listener that does not keep up delays nobody: events wait for it in memory.
        """
        send, receive = anyio.create_memory_object_stream[Event](math.inf)
        self._listeners.append(send.send_nowait)
        try:
            async with send, receive:
                yield receive
        finally:
            self._listeners.remove(send.send_nowait)

    async def backup(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        folders: FolderChoice | None = None,
        full: bool = False,
        mime: bool | None = None,
        allow_replica: bool = False,
        stop: StopSignal | None = None,
        processes: int | None = None,
        lock_wait: float | None = None,
    ) -> RunReport:
        """Back up the named mailboxes, or every one the directory knows.

        Args:
            mailboxes: Addresses or directory ids; None for all.
            folders: Which folders; every mail folder by default.
            full: Enumerate folders anew instead of asking for changes.
            mime: Store the original MIME of every new or changed message, and of those met that
                lack it, beside it: one request and all its bytes for each. None: as
                ``settings.mime`` says. With ``full`` every message is met.
            allow_replica: Back up into a bucket that is marked as a replica.
            stop: Ends the run early, in order, with partial snapshots.
            processes: Spread the mailboxes over so many worker processes; the limits hold for
                all of them together. None: as ``settings.limits`` say. 1: in this process.
            lock_wait: Seconds a mailbox waits for another run that holds it and is alive; such a
                mailbox is ``LOCKED`` in the report otherwise. None: as ``settings.limits`` say.

        Returns:
            What was done, mailbox by mailbox. A mailbox that failed does not raise.

        Raises:
            KeyMaterialError, StoreError, ReplicaRefused, UsageError: Before anything is written.
            AuthError: Entra ID refuses the credential.
        """
        from atlas_async.operations.backup import Backup  # noqa: PLC0415 -- start-up time
        from atlas_async.pipeline.stop import StopSignal  # noqa: PLC0415
        from atlas_async.pipeline.surroundings import RunOptions  # noqa: PLC0415

        limits = self.settings.limits
        options = RunOptions(
            folders=folders or FolderChoice(),
            full=full,
            mime=self.settings.mime if mime is None else mime,
            page_size=limits.page_size,
            requests_at_once=limits.requests_per_mailbox,
            spool_directory=self.settings.spool_directory,
            lock_wait=limits.lock_wait if lock_wait is None else lock_wait,
        )
        hands = self._hands(limits.processes if processes is None else processes)
        run = Backup(self._opened, options, stop or StopSignal(), self._emit)
        return await run.run(self._open_source, hands, mailboxes, allow_replica=allow_replica)

    async def list_mailboxes(self) -> list[MailboxSummary]:
        """Return the mailboxes in the bucket."""
        return await listing.list_mailboxes(self._opened)

    async def list_snapshots(self, mailbox: str) -> list[SnapshotSummary]:
        """Return a mailbox's snapshots, oldest first."""
        return await listing.list_snapshots(self._opened, mailbox)

    async def open_snapshot(
        self, snapshot: str | None = None, mailbox: str | None = None
    ) -> SnapshotView:
        """Open a snapshot by (the beginning of) its id, or a mailbox's newest."""
        return await listing.open_snapshot(self._opened, snapshot, mailbox)

    async def read_message(
        self, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> MessageContent:
        """Return one message, checked."""
        return await reading.read_message(
            self._opened, object_id, snapshot=snapshot, mailbox=mailbox
        )

    def open_original(
        self, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> AbstractAsyncContextManager[SealedContent]:
        """Open one message's original MIME, checked already; ``size`` and pieces of bytes.

        Raises:
            SnapshotNotFound: No such message, or no original of it is stored.
        """
        from atlas_async.operations.originals import open_original  # noqa: PLC0415 -- start-up time

        return open_original(self._opened, object_id, snapshot=snapshot, mailbox=mailbox)

    async def find(
        self,
        query: Query,
        *,
        mailboxes: Sequence[str] | None = None,
        selection: Selection | None = None,
        index: IndexMode | None = None,
        take: Take | None = None,
        stop: StopSignal | None = None,
    ) -> FindReport:
        """Find messages.

        Args:
            query: What they must have.
            mailboxes: Addresses; None for all, or for the one whose snapshot ``selection`` names.
            selection: Which snapshots, folders and times: the newest snapshots by default. Its
                mailbox is not looked at.
            index: What to do with the index of words; None: use it, and bring it up to date.
            take: Handed each match as it is found; without it the report has them, newest first.
            stop: Ends the search early, in order: what was found and indexed stays.

        Raises:
            UsageError: The query has nothing to look for, or no mailbox has such a folder.
            SnapshotNotFound: No such mailbox or snapshot.
            KeyMaterialError, StoreError: The bucket cannot be opened or read.
        """
        from atlas_async.operations import finding  # noqa: PLC0415 -- start-up time
        from atlas_async.operations.found import IndexMode  # noqa: PLC0415

        return await finding.find(
            self._opened,
            self._emit,
            query,
            mailboxes=mailboxes,
            selection=selection,
            index=index or IndexMode.AUTO,
            take=take,
            stopped=lambda: stop is not None and stop.requested,
        )

    async def update_index(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        selection: Selection | None = None,
        rebuild: bool = False,
        stop: StopSignal | None = None,
    ) -> FindReport:
        """Bring the index of words of mailboxes up to date, without searching.

        Args:
            mailboxes: Addresses; None for all.
            selection: Whose messages: those of the newest snapshots by default.
            rebuild: Delete it first.
            stop: Ends it early, in order: what was indexed stays.

        Raises: as ``find``.
        """
        from atlas_async.operations import finding  # noqa: PLC0415 -- start-up time

        return await finding.update_index(
            self._opened,
            self._emit,
            mailboxes=mailboxes,
            selection=selection,
            rebuild=rebuild,
            stopped=lambda: stop is not None and stop.requested,
        )

    async def drop_index(
        self, mailboxes: Sequence[str] | None = None
    ) -> dict[str, tuple[int, int]]:
        """Delete the index of words of mailboxes, or of all; nothing else is lost.

        Returns:
            Objects and bytes deleted, by mailbox.

        Raises:
            SnapshotNotFound: The bucket has nothing of such a mailbox.
            StoreError: The store failed, or refuses.
        """
        from atlas_async.operations.finding import drop_index  # noqa: PLC0415 -- start-up time

        return await drop_index(self._opened, mailboxes=mailboxes)

    async def restore(
        self,
        wishes: Sequence[RestoreWish],
        options: RestoreOptions | None = None,
        *,
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
    ) -> list[RestoreReport]:
        """Bring mail back into mailboxes.

        Running the same restore again creates nothing twice and continues one that was stopped or
        killed. Cancelling it is safe at any moment.

        Args:
            wishes: What to restore, and into which mailbox.
            options: How; below a folder of its own by default.
            target: The tenant to restore to; the tenant of the settings when None.
            stop: Ends it early, in order; what is in hand is finished.

        Returns:
            A report for every wish. A mailbox that fails does not raise.

        Raises:
            SnapshotNotFound, UsageError, IntegrityError: A selection means nothing, or what it
                means cannot be read; nothing was written.
            AuthError: Entra ID refuses the credential.
            StoreError, KeyMaterialError: The bucket cannot be opened.
        """
        from atlas_async.model.restoring import RestoreOptions  # noqa: PLC0415 -- start-up time
        from atlas_async.operations.restore import Restore  # noqa: PLC0415
        from atlas_async.pipeline.stop import StopSignal  # noqa: PLC0415

        restore = Restore(
            self._opened,
            self._target_tenant(target),
            self._emit,
            stop or StopSignal(),
            mailboxes=self.settings.limits.mailboxes,
        )
        return await restore.run(self._target(target), wishes, options or RestoreOptions())

    async def restore_jobs(self, mailbox: str) -> list[RestoreJob]:
        """Return the restores that were begun from a mailbox's snapshots, oldest first.

        Those that cannot be read are last; their ``problem`` says why.
        """
        from atlas_async.operations.restore import restore_jobs  # noqa: PLC0415 -- start-up time

        return await restore_jobs(self._opened, mailbox)

    async def undo_restore(
        self,
        mailbox: str,
        job_id: str,
        *,
        target: GraphSettings | None = None,
        dry_run: bool = False,
        stop: StopSignal | None = None,
    ) -> UndoReport:
        """Remove what a restore has made, and put back what it has replaced.

        Args:
            mailbox: The mailbox that it restored from.
            job_id: Its id, the beginning of it, or ``latest``.
            target: The tenant that it restored to; the tenant of the settings when None.
            dry_run: Say what would be removed.
            stop: Ends it early, in order; running it again continues.

        Raises:
            SnapshotNotFound, UsageError: There is no such restore, it was taken back already, or it
                restored to another tenant.
            IntegrityError: It cannot be read.
            LockedError: A restore from this mailbox is under way.
            AuthError, StoreError, KeyMaterialError: As they come.
        """
        from atlas_async.operations.restore import undo_restore  # noqa: PLC0415 -- start-up time
        from atlas_async.pipeline.stop import StopSignal  # noqa: PLC0415

        return await undo_restore(
            self._opened,
            self._target(target),
            self._target_tenant(target),
            mailbox,
            job_id,
            emit=self._emit,
            stop=stop or StopSignal(),
            dry_run=dry_run,
        )

    async def drill(
        self,
        mailboxes: Sequence[str] | None = None,
        options: DrillOptions | None = None,
        *,
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
    ) -> DrillReport:
        """Bring a sample of the newest snapshots back, compare it, and sign what came of it.

        Args:
            mailboxes: Addresses; None for all.
            options: How many messages, and whether into a mailbox or into memory.
            target: The tenant of that mailbox; the tenant of the settings when None.
            stop: Ends it early, in order.

        Raises:
            UsageError: No mailbox is named, or the options cannot be.
            SnapshotNotFound: The bucket has no such mailbox.
            StoreError, KeyMaterialError: The bucket cannot be opened.
        """
        from atlas_async.model.drill import DrillOptions  # noqa: PLC0415 -- start-up time
        from atlas_async.operations.drill import Drill  # noqa: PLC0415
        from atlas_async.pipeline.stop import StopSignal  # noqa: PLC0415

        drill = Drill(
            self._opened,
            self._target(target),
            self._target_tenant(target),
            self._emit,
            stop or StopSignal(),
            version=await anyio.to_thread.run_sync(_version),
        )
        return await drill.run(mailboxes, options or DrillOptions())

    async def report_key(self) -> str:
        """Return the public key, in hex, that the tenant's reports are signed with.

        Raises:
            SnapshotNotFound, StoreError, KeyMaterialError: The bucket cannot be opened.
        """
        from atlas_async.crypto.signing import Signer  # noqa: PLC0415 -- start-up time

        await self._opened.open_for_reading()
        return Signer(self._opened.sealer).public_key

    async def verify(
        self, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> VerifyReport:
        """Check a snapshot, a mailbox, or everything."""
        return await verification.verify(
            self._opened, self._emit, snapshot=snapshot, mailbox=mailbox
        )

    async def export(
        self,
        selections: Sequence[Selection],
        path: Path | str | None = None,
        *,
        form: ExportForm | str | None = None,
        originals: bool = True,
        check: bool = True,
        dry_run: bool = False,
        stop: StopSignal | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> ExportReport:
        """Write mail as files: an eml for each message, mbox, Maildir or JSON.

        Every message and attachment is checked while it is read. What is damaged or missing is in
        the report and costs only itself. A call that was stopped, cancelled or killed leaves its
        work beside ``path``, and the same call continues it; ``path`` itself appears last.

        Args:
            selections: What; one without mailbox and snapshot means every mailbox. A message that
                several mean is written once, as the first of them shows it.
            path: A zip where it ends with ``.zip``, a directory otherwise; None makes a name of
                mailbox and date in the working directory. Nothing that exists is replaced.
            form: How messages are written, also by its name; eml by default. A zip holds eml only.
            originals: Take the original MIME of messages that have it stored.
            check: Read back what was written before it gets its name.
            dry_run: Count, and write nothing; sizes are of what is stored.
            stop: Ends it early, in order.
            checkpoints: How much may have to be done again after a kill.

        Raises:
            SnapshotNotFound: No such mailbox, snapshot or message.
            UsageError: There is no selection, one contradicts itself or names no folder, there is
                no such form, or ``path`` exists, cannot be written or lies in the store.
            StoreFull: No space is left; the same call continues.
            IntegrityError: A snapshot is damaged as a whole, or the disk has lost what was written.
            KeyMaterialError, StoreError: The bucket cannot be opened or read.
        """
        from atlas_async.export.forms import form_of  # noqa: PLC0415 -- start-up time
        from atlas_async.operations.export import Checkpoints, Export  # noqa: PLC0415
        from atlas_async.pipeline.stop import StopSignal  # noqa: PLC0415

        if not selections:
            raise UsageError("nothing is selected", hint="Selection() means every mailbox")
        export = Export(
            self._opened,
            self._emit,
            stop or StopSignal(),
            form=form_of(form),
            originals=originals,
            check=check,
            checkpoints=checkpoints or Checkpoints(),
        )
        work = export.dry_run if dry_run else export.run
        return await work(selections, None if path is None else Path(path))

    async def ledger(
        self, mailbox: str | None = None, *, include_forgotten: bool = False
    ) -> list[LedgerEntry]:
        """Return what the newest snapshot of every mailbox, or of one, lacks.

        Args:
            mailbox: Address; None for all.
            include_forgotten: With what was given up.

        Raises:
            SnapshotNotFound: The mailbox has no snapshots.
        """
        from atlas_async.operations.ledger import list_ledger  # noqa: PLC0415 -- start-up time

        chosen = None if mailbox is None else [mailbox]
        return await list_ledger(self._opened, chosen, include_forgotten=include_forgotten)

    async def find_in_ledger(
        self, ids: Sequence[str], mailboxes: Sequence[str] | None = None
    ) -> list[LedgerEntry]:
        """Return entries by the start of their ids, or by Graph's ids; forgotten ones too.

        Raises:
            SnapshotNotFound: There is no such mailbox or entry.
            UsageError: A start is too short, or fits several entries.
        """
        from atlas_async.operations.ledger import find_in_ledger  # noqa: PLC0415 -- start-up time

        return await find_in_ledger(self._opened, ids, mailboxes)

    async def retry_ledger(
        self,
        ids: Sequence[str] = (),
        *,
        mailboxes: Sequence[str] | None = None,
        include_forgotten: bool = False,
        stop: StopSignal | None = None,
        lock_wait: float | None = None,
    ) -> RunReport:
        """Try now for what is missing, without asking folders for changes.

        Args:
            ids: Of entries, as ``find_in_ledger`` takes them; none means all that are missing.
                Those that were forgotten count as missing again.
            mailboxes: Addresses; None for all.
            include_forgotten: Without ``ids``: those too that were given up.
            stop: Ends the run early, in order.
            lock_wait: As for ``backup``.

        Returns:
            The mailboxes that had something to try. What is still missing of it is in
            ``not_stored``; the exit code is 0 when that is nothing.

        Raises:
            SnapshotNotFound, UsageError: As ``find_in_ledger``; Graph was not asked.
            KeyMaterialError, StoreError, ReplicaRefused: Before anything is written.
            AuthError: Entra ID refuses the credential.
        """
        from atlas_async.operations.backup import Backup  # noqa: PLC0415 -- start-up time
        from atlas_async.operations.hands import own_hands  # noqa: PLC0415
        from atlas_async.operations.ledger import find_in_ledger, list_ledger  # noqa: PLC0415
        from atlas_async.pipeline.stop import StopSignal  # noqa: PLC0415
        from atlas_async.pipeline.surroundings import RunOptions  # noqa: PLC0415

        if ids:
            entries = await find_in_ledger(self._opened, ids, mailboxes)
        else:
            entries = await list_ledger(
                self._opened, mailboxes, include_forgotten=include_forgotten
            )
        if not entries:
            return RunReport(self.settings.tenant_id, (), 0.0)
        limits = self.settings.limits
        options = RunOptions(
            mime=self.settings.mime,
            page_size=limits.page_size,
            requests_at_once=limits.requests_per_mailbox,
            spool_directory=self.settings.spool_directory,
            lock_wait=limits.lock_wait if lock_wait is None else lock_wait,
            ledger=frozenset(entry.item.id for entry in entries),
        )
        run = Backup(self._opened, options, stop or StopSignal(), self._emit)
        return await run.run(
            self._open_source,
            own_hands,
            list(dict.fromkeys(entry.mailbox_id for entry in entries)),
        )

    async def forget(self, ids: Sequence[str], mailbox: str) -> Forgetting:
        """Give items of a mailbox up: they count as missing no more and are not tried again.

        The entries stay in the ledger, marked. This commits a new snapshot of the same mail.

        Raises:
            SnapshotNotFound, UsageError: As ``find_in_ledger``; nothing was written.
            ReplicaRefused: The bucket is a replica.
        """
        from atlas_async.operations.ledger import forget  # noqa: PLC0415 -- start-up time

        return await forget(self._opened, ids, mailbox)

    async def plan_key_protection(self, wish: ProtectionWish) -> ProtectionPlan:
        """Look at what protects the wrapped key, and say what ``wish`` would change."""
        from atlas_async.operations.key_plan import plan_protection  # noqa: PLC0415 -- start-up time

        return await plan_protection(self._opened, self._protection, wish)

    async def protect_key(
        self, plan: ProtectionPlan, *, confirmed: bool = False
    ) -> ProtectionReport:
        """Do what a plan says and read it back; ``confirmed`` allows what nobody can undo."""
        from atlas_async.operations.key_protection import protect  # noqa: PLC0415 -- start-up time

        return await protect(self._opened, self._protection, plan, confirmed=confirmed)

    async def check_key(
        self, *, require: Collection[Protects] = (), min_days: int | None = None
    ) -> KeyCheck:
        """Check that the key is there, opens, is the right one; and what protects it."""
        from atlas_async.operations.key_check import MIN_DAYS, check_key  # noqa: PLC0415 -- start-up time

        days = MIN_DAYS if min_days is None else min_days
        return await check_key(self._opened, self._protection, require=require, min_days=days)

    async def export_key(self, path: Path) -> KeyCopy:
        """Write the wrapped key, still sealed, to a new file."""
        from atlas_async.operations.key_copy import export_key  # noqa: PLC0415 -- start-up time

        return await export_key(self._opened, path)

    async def restore_key(
        self, path: Path | None = None, *, version_id: str | None = None
    ) -> KeyCopy:
        """Put a copy, or an older version, of the key back into a bucket that has none."""
        from atlas_async.operations.key_copy import restore_key  # noqa: PLC0415 -- start-up time

        return await restore_key(self._opened, self._protection, path=path, version_id=version_id)

    @property
    def _protection(self) -> ObjectProtection:
        if self._given_protection is not None:
            return self._given_protection
        if self._given_store is not None:
            raise UsageError(
                "an Atlas with its own store needs its protection too, for the verbs of the key"
            )
        from atlas_async.store.opening import open_protection  # noqa: PLC0415 -- start-up time

        return open_protection(self.settings.storage, self.settings.bucket, clock=self._clock)

    async def prune(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        older_than: float = 86_400.0,
        dry_run: bool = False,
        lock_wait: float | None = None,
    ) -> PruneReport:
        """Remove objects that no snapshot names and that are older than so many seconds.

        Args:
            mailboxes: Addresses; None for all that have any object.
            older_than: Age in seconds, by the store's own clock.
            dry_run: Count and list, remove nothing.
            lock_wait: Seconds to wait for a run that holds a mailbox. None: as the settings say.

        Raises:
            SnapshotNotFound: The bucket has no such mailbox.
            KeyMaterialError, StoreError: The bucket cannot be opened.
        """
        from atlas_async.operations import pruning  # noqa: PLC0415 -- start-up time

        return await pruning.prune(
            self._opened,
            self._emit,
            mailboxes=mailboxes,
            older_than=older_than,
            dry_run=dry_run,
            lock_wait=self.settings.limits.lock_wait if lock_wait is None else lock_wait,
        )

    @property
    def _opened(self) -> Tenant:
        if self._tenant is None:
            msg = "use `async with Atlas(settings) as atlas:`"
            raise RuntimeError(msg)
        return self._tenant

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _graph(self) -> AbstractAsyncContextManager[MailSource]:
        if self.settings.graph is None:
            raise ConfigError(
                ["no Microsoft Graph settings: tenant_id, client_id and a credential are needed"]
            )
        from atlas_async.graph.opening import open_graph  # noqa: PLC0415 -- start-up time

        return open_graph(
            self.settings.graph, self.settings.limits, clock=self._clock, emit=self._emit
        )

    def _target(self, settings: GraphSettings | None) -> OpenTarget:
        """Return how to open the tenant that is restored to."""
        if settings is None:
            return cast("OpenTarget", self._open_source)
        from atlas_async.graph.opening import open_graph  # noqa: PLC0415 -- start-up time

        return partial(
            open_graph, settings, self.settings.limits, clock=self._clock, emit=self._emit
        )

    def _target_tenant(self, settings: GraphSettings | None) -> str:
        """Return the id of the tenant that is restored to."""
        return (settings or self.settings.graph or self.settings).tenant_id

    def _hands(self, processes: int) -> OpenHands:
        """Return who does the mailboxes. Raises ``UsageError`` before anything is asked."""
        if processes == 1:
            from atlas_async.operations.hands import own_hands  # noqa: PLC0415 -- start-up time

            return own_hands
        from atlas_async.shards.crew import spread_over  # noqa: PLC0415 -- start-up time

        if self._own_parts:
            raise UsageError(
                f"an Atlas with its own {' and '.join(self._own_parts)} cannot use several "
                "processes: workers are handed settings, not objects",
                hint="use processes=1, or let the settings name the store and the source",
            )
        return spread_over(processes)


def _version() -> str:
    """Return the program's version. Blocks: it is looked for among what is installed."""
    import atlas_async  # noqa: PLC0415 -- the package is what imports this module

    return str(atlas_async.__version__)


__all__ = ["Atlas"]
