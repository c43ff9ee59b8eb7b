"""``async with Atlas(settings) as atlas:`` - the composition root, and the verbs as coroutines.

An instance owns its connections and nothing else; several may live side by side, under asyncio or
uvloop. Verbs run in the caller's task: cancelling it, or the task group around it, ends the verb,
and what was committed stays.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from atlas_async.catalog.reader import SnapshotSummary, SnapshotView
from atlas_async.clock import Clock, SystemClock
from atlas_async.config.settings import FolderChoice, Settings
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
    from atlas_async.operations.hands import MailSource, OpenHands, OpenSource
    from atlas_async.operations.key_check import KeyCheck, Protects
    from atlas_async.operations.key_copy import KeyCopy
    from atlas_async.operations.key_plan import ProtectionPlan, ProtectionWish
    from atlas_async.operations.key_protection import ProtectionReport
    from atlas_async.operations.ledger import Forgetting, LedgerEntry
    from atlas_async.operations.pruning import PruneReport
    from atlas_async.pipeline.stop import StopSignal
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

    async def verify(
        self, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> VerifyReport:
        """Check a snapshot, a mailbox, or everything."""
        return await verification.verify(
            self._opened, self._emit, snapshot=snapshot, mailbox=mailbox
        )

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


__all__ = ["Atlas"]
