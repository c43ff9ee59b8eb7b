"""What the commands ask of the SDK. ``sdk.Atlas`` is one engine, the tests' fake another."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from atlas_async.config.settings import FolderChoice
from atlas_async.model.events import Event
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import NotStored, RunReport

if TYPE_CHECKING:  # what is only named here must not slow down 'atlas --help'
    from atlas_async.catalog.reader import FolderView, SnapshotSummary
    from atlas_async.config.settings import GraphSettings
    from atlas_async.export.forms import ExportForm
    from atlas_async.export.report import ExportReport
    from atlas_async.model.drill import DrillOptions, DrillReport
    from atlas_async.model.restoring import (
        RestoreJob,
        RestoreOptions,
        RestoreReport,
        UndoReport,
    )
    from atlas_async.operations.found import FindReport, IndexMode, Take
    from atlas_async.operations.key_check import KeyCheck, Protects
    from atlas_async.operations.key_copy import KeyCopy
    from atlas_async.operations.key_plan import ProtectionPlan, ProtectionWish
    from atlas_async.operations.key_protection import ProtectionReport
    from atlas_async.operations.ledger import Forgetting, LedgerEntry
    from atlas_async.operations.listing import MailboxSummary
    from atlas_async.operations.pruning import PruneReport
    from atlas_async.operations.reading import MessageContent
    from atlas_async.operations.restore import RestoreWish
    from atlas_async.operations.selection import Selection
    from atlas_async.operations.verification import VerifyReport
    from atlas_async.pipeline.stop import StopSignal
    from atlas_async.search.query import Query


class OpenSnapshot(Protocol):
    """A mailbox as of one snapshot."""

    @property
    def summary(self) -> SnapshotSummary:
        """Its id, mailbox, time and counts."""
        ...

    @property
    def folders(self) -> Sequence[FolderView]:
        """All folders, parents first."""
        ...

    def messages(self, folder_ids: frozenset[str] | None = None) -> AsyncIterator[MessageRecord]:
        """Yield the messages, of some folders or of all."""
        ...

    async def not_stored(self) -> Sequence[NotStored]:
        """Return the ledger."""
        ...


class Engine(Protocol):
    """The verbs. Each may be cancelled at any await."""

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Open the stream of what happens from now on."""
        ...

    async def backup(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        folders: FolderChoice | None = None,
        full: bool = False,
        allow_replica: bool = False,
        stop: StopSignal | None = None,
    ) -> RunReport:
        """Back up the named mailboxes, or all."""
        ...

    async def list_mailboxes(self) -> Sequence[MailboxSummary]:
        """Return the mailboxes in the bucket."""
        ...

    async def list_snapshots(self, mailbox: str) -> Sequence[SnapshotSummary]:
        """Return a mailbox's snapshots, oldest first."""
        ...

    async def open_snapshot(
        self, snapshot: str | None = None, mailbox: str | None = None
    ) -> OpenSnapshot:
        """Open a snapshot by its id or the start of it, or a mailbox's newest."""
        ...

    async def read_message(
        self, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> MessageContent:
        """Read one message by its id or the start of it."""
        ...

    def open_original(
        self, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterable[bytes]]:
        """Open one message's original MIME, checked already."""
        ...

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
        """Find messages; each is handed to ``take``."""
        ...

    async def update_index(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        selection: Selection | None = None,
        rebuild: bool = False,
        stop: StopSignal | None = None,
    ) -> FindReport:
        """Bring the index of words up to date, or make it anew."""
        ...

    async def drop_index(
        self, mailboxes: Sequence[str] | None = None
    ) -> Mapping[str, tuple[int, int]]:
        """Delete the index of words; return objects and bytes by mailbox."""
        ...

    async def restore(
        self,
        wishes: Sequence[RestoreWish],
        options: RestoreOptions | None = None,
        *,
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
    ) -> Sequence[RestoreReport]:
        """Bring mail back into mailboxes."""
        ...

    async def restore_jobs(self, mailbox: str) -> Sequence[RestoreJob]:
        """Return the restores of a mailbox."""
        ...

    async def undo_restore(
        self,
        mailbox: str,
        job_id: str,
        *,
        target: GraphSettings | None = None,
        dry_run: bool = False,
        stop: StopSignal | None = None,
    ) -> UndoReport:
        """Take a restore back."""
        ...

    async def drill(
        self,
        mailboxes: Sequence[str] | None = None,
        options: DrillOptions | None = None,
        *,
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
    ) -> DrillReport:
        """Bring a sample back and compare it."""
        ...

    async def report_key(self) -> str:
        """Return the public key that reports are signed with."""
        ...

    async def verify(
        self, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> VerifyReport:
        """Check every object of a snapshot, a mailbox, or the bucket."""
        ...

    async def export(
        self,
        selections: Sequence[Selection],
        path: Path | None = None,
        *,
        form: ExportForm | None = None,
        originals: bool = True,
        check: bool = True,
        dry_run: bool = False,
        stop: StopSignal | None = None,
    ) -> ExportReport:
        """Write mail as files."""
        ...

    async def prune(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        older_than: float = ...,
        dry_run: bool = False,
    ) -> PruneReport:
        """Remove what no snapshot names."""
        ...

    async def ledger(
        self, mailbox: str | None = None, *, include_forgotten: bool = False
    ) -> Sequence[LedgerEntry]:
        """Return what the newest snapshots lack."""
        ...

    async def find_in_ledger(
        self, ids: Sequence[str], mailboxes: Sequence[str] | None = None
    ) -> Sequence[LedgerEntry]:
        """Return entries by the start of their ids."""
        ...

    async def retry_ledger(
        self,
        ids: Sequence[str] = (),
        *,
        mailboxes: Sequence[str] | None = None,
        include_forgotten: bool = False,
        stop: StopSignal | None = None,
    ) -> RunReport:
        """Try now for what is missing."""
        ...

    async def forget(self, ids: Sequence[str], mailbox: str) -> Forgetting:
        """Give items of a mailbox up."""
        ...

    async def plan_key_protection(self, wish: ProtectionWish) -> ProtectionPlan:
        """Say what protects the wrapped key, and what ``wish`` would change."""
        ...

    async def protect_key(
        self, plan: ProtectionPlan, *, confirmed: bool = False
    ) -> ProtectionReport:
        """Do what a plan says and read it back."""
        ...

    async def check_key(
        self, *, require: Collection[Protects] = (), min_days: int | None = None
    ) -> KeyCheck:
        """Check the wrapped key and what protects it."""
        ...

    async def export_key(self, path: Path) -> KeyCopy:
        """Write the wrapped key to a new file."""
        ...

    async def restore_key(
        self, path: Path | None = None, *, version_id: str | None = None
    ) -> KeyCopy:
        """Put a copy or an older version of the key back."""
        ...
