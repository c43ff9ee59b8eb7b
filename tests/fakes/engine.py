"""A stand-in for the SDK behind the commands: answers with what a test gave it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.lowlevel

from atlas_async.catalog.reader import FolderView, SnapshotSummary
from atlas_async.config.settings import FolderChoice, GraphSettings
from atlas_async.errors import SnapshotNotFound
from atlas_async.export.forms import ExportForm
from atlas_async.export.report import ExportReport
from atlas_async.model.drill import DrillOptions, DrillReport
from atlas_async.model.events import Event
from atlas_async.model.record import AttachmentRecord, MessageRecord
from atlas_async.model.report import NotStored, RunReport
from atlas_async.model.restoring import RestoreJob, RestoreOptions, RestoreReport, UndoReport
from atlas_async.model.source import Folder
from atlas_async.operations.found import FindReport, IndexMode, Match, Take
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


@dataclass(frozen=True)
class FakeView:
    """A snapshot held in memory."""

    summary: SnapshotSummary
    folders: Sequence[FolderView] = ()
    lost: Sequence[NotStored] = ()
    records: Sequence[MessageRecord] = ()

    async def messages(
        self, folder_ids: frozenset[str] | None = None
    ) -> AsyncIterator[MessageRecord]:
        for record in self.records:
            if folder_ids is None or record["folder_id"] in folder_ids:
                yield record

    async def not_stored(self) -> Sequence[NotStored]:
        return self.lost


@dataclass
class FakeEngine:
    """Answers from its fields and keeps what it was asked. ``error`` is raised by every verb."""

    report: RunReport | None = None
    happenings: Sequence[Event] = ()
    mailboxes: Sequence[MailboxSummary] = ()
    snapshots: Sequence[SnapshotSummary] = ()
    view: FakeView | None = None
    content: MessageContent | None = None
    unreadable: Mapping[str, Exception] = field(default_factory=dict)
    original: Sequence[bytes] = ()
    matches: Sequence[Match] = ()
    finding: FindReport | None = None
    verified: VerifyReport | None = None
    pruned: PruneReport | None = None
    restores: Sequence[RestoreReport] = ()
    jobs: Sequence[RestoreJob] = ()
    undone: UndoReport | None = None
    drilled: DrillReport | None = None
    public_key: str = ""
    exported: ExportReport | None = None
    entries: Sequence[LedgerEntry] = ()
    forgetting: Forgetting | None = None
    plan: ProtectionPlan | None = None
    protected: ProtectionReport | None = None
    checked: KeyCheck | None = None
    copied: KeyCopy | None = None
    error: BaseException | None = None
    hangs: bool = False
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    closed: bool = False
    at_work: anyio.Event = field(default_factory=anyio.Event)
    stopped: RunReport | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed = True

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Event]]:
        yield self._happen()

    async def _happen(self) -> AsyncIterator[Event]:
        for event in self.happenings:
            yield event

    def _asked(self, verb: str, **arguments: Any) -> None:
        self.calls.append((verb, arguments))
        if self.error is not None:
            raise self.error

    async def backup(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        folders: FolderChoice | None = None,
        full: bool = False,
        allow_replica: bool = False,
        stop: StopSignal | None = None,
    ) -> RunReport:
        self._asked(
            "backup", mailboxes=mailboxes, folders=folders, full=full, allow_replica=allow_replica
        )
        await anyio.lowlevel.checkpoint()
        self.at_work.set()
        if self.stopped is not None:
            assert stop is not None
            await stop.wait()
            if not self.hangs:
                return self.stopped
            await anyio.sleep_forever()
        assert self.report is not None
        return self.report

    async def list_mailboxes(self) -> Sequence[MailboxSummary]:
        self._asked("list_mailboxes")
        self.at_work.set()
        if self.hangs:
            await anyio.sleep_forever()
        return self.mailboxes

    async def list_snapshots(self, mailbox: str) -> Sequence[SnapshotSummary]:
        self._asked("list_snapshots", mailbox=mailbox)
        return self.snapshots

    async def open_snapshot(
        self, snapshot: str | None = None, mailbox: str | None = None
    ) -> FakeView:
        self._asked("open_snapshot", snapshot=snapshot, mailbox=mailbox)
        if self.view is None:
            raise SnapshotNotFound(f"no snapshot starts with {snapshot}")
        return self.view

    async def read_message(
        self, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> MessageContent:
        self._asked("read_message", object_id=object_id, snapshot=snapshot, mailbox=mailbox)
        if object_id in self.unreadable:
            raise self.unreadable[object_id]
        assert self.content is not None
        return self.content

    @asynccontextmanager
    async def open_original(
        self, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._asked("open_original", object_id=object_id, snapshot=snapshot, mailbox=mailbox)
        yield self._give()

    async def _give(self) -> AsyncIterator[bytes]:
        for piece in self.original:
            yield piece

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
        self._asked(
            "export",
            selections=list(selections),
            path=path,
            form=form,
            originals=originals,
            check=check,
            dry_run=dry_run,
        )
        self.at_work.set()
        if self.hangs:
            assert stop is not None
            await stop.wait()
        assert self.exported is not None
        return self.exported

    async def ledger(
        self, mailbox: str | None = None, *, include_forgotten: bool = False
    ) -> Sequence[LedgerEntry]:
        self._asked("ledger", mailbox=mailbox, include_forgotten=include_forgotten)
        return self.entries

    async def find_in_ledger(
        self, ids: Sequence[str], mailboxes: Sequence[str] | None = None
    ) -> Sequence[LedgerEntry]:
        self._asked("find_in_ledger", ids=ids, mailboxes=mailboxes)
        return self.entries

    async def retry_ledger(
        self,
        ids: Sequence[str] = (),
        *,
        mailboxes: Sequence[str] | None = None,
        include_forgotten: bool = False,
        stop: StopSignal | None = None,
    ) -> RunReport:
        self._asked(
            "retry_ledger", ids=ids, mailboxes=mailboxes, include_forgotten=include_forgotten
        )
        assert stop is not None
        assert self.report is not None
        return self.report

    async def forget(self, ids: Sequence[str], mailbox: str) -> Forgetting:
        self._asked("forget", ids=ids, mailbox=mailbox)
        assert self.forgetting is not None
        return self.forgetting

    async def restore(
        self,
        wishes: Sequence[RestoreWish],
        options: RestoreOptions | None = None,
        *,
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
    ) -> Sequence[RestoreReport]:
        self._asked("restore", wishes=list(wishes), options=options, target=target)
        return self.restores

    async def restore_jobs(self, mailbox: str) -> Sequence[RestoreJob]:
        self._asked("restore_jobs", mailbox=mailbox)
        return self.jobs

    async def undo_restore(
        self,
        mailbox: str,
        job_id: str,
        *,
        target: GraphSettings | None = None,
        dry_run: bool = False,
        stop: StopSignal | None = None,
    ) -> UndoReport:
        self._asked("undo_restore", mailbox=mailbox, job_id=job_id, target=target, dry_run=dry_run)
        assert self.undone is not None
        return self.undone

    async def drill(
        self,
        mailboxes: Sequence[str] | None = None,
        options: DrillOptions | None = None,
        *,
        target: GraphSettings | None = None,
        stop: StopSignal | None = None,
    ) -> DrillReport:
        self._asked("drill", mailboxes=mailboxes, options=options, target=target)
        assert self.drilled is not None
        return self.drilled

    async def report_key(self) -> str:
        self._asked("report_key")
        return self.public_key

    async def prune(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        older_than: float = 86_400.0,
        dry_run: bool = False,
    ) -> PruneReport:
        self._asked("prune", mailboxes=mailboxes, older_than=older_than, dry_run=dry_run)
        assert self.pruned is not None
        return self.pruned

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
        self._asked("find", query=query, mailboxes=mailboxes, selection=selection, index=index)
        assert take is not None
        assert self.finding is not None
        for match in self.matches:
            await take(match)
        return self.finding

    async def update_index(
        self,
        mailboxes: Sequence[str] | None = None,
        *,
        selection: Selection | None = None,
        rebuild: bool = False,
        stop: StopSignal | None = None,
    ) -> FindReport:
        self._asked("update_index", mailboxes=mailboxes, selection=selection, rebuild=rebuild)
        assert self.finding is not None
        return self.finding

    async def drop_index(
        self, mailboxes: Sequence[str] | None = None
    ) -> dict[str, tuple[int, int]]:
        self._asked("drop_index", mailboxes=mailboxes)
        return {"ann@contoso.com": (3, 4096)}

    async def verify(
        self, *, snapshot: str | None = None, mailbox: str | None = None
    ) -> VerifyReport:
        self._asked("verify", snapshot=snapshot, mailbox=mailbox)
        assert self.verified is not None
        return self.verified

    async def plan_key_protection(self, wish: ProtectionWish) -> ProtectionPlan:
        self._asked("plan_key_protection", wish=wish)
        assert self.plan is not None
        return self.plan

    async def protect_key(
        self, plan: ProtectionPlan, *, confirmed: bool = False
    ) -> ProtectionReport:
        self._asked("protect_key", plan=plan, confirmed=confirmed)
        assert self.protected is not None
        return self.protected

    async def check_key(
        self, *, require: Collection[Protects] = (), min_days: int | None = None
    ) -> KeyCheck:
        self._asked("check_key", require=require, min_days=min_days)
        assert self.checked is not None
        return self.checked

    async def export_key(self, path: Path) -> KeyCopy:
        self._asked("export_key", path=path)
        assert self.copied is not None
        return self.copied

    async def restore_key(
        self, path: Path | None = None, *, version_id: str | None = None
    ) -> KeyCopy:
        self._asked("restore_key", path=path, version_id=version_id)
        assert self.copied is not None
        return self.copied


def attachment_row(**changes: Any) -> AttachmentRecord:
    """Return an attachment's record with the given fields changed."""
    row: dict[str, Any] = {
        "attachment_id": "ATT1",
        "name": "plan.pdf",
        "type": "file",
        "content_type": "application/pdf",
        "size_bytes": 2100,
        "content_bytes": 2048,
        "checksum": "c" * 64,
        "is_inline": False,
    }
    return row | changes  # type: ignore[return-value]  # tests change single fields by name


def message_row(**changes: Any) -> MessageRecord:
    """Return a message's record with the given fields changed."""
    row: dict[str, Any] = {
        "object_id": "MSG1",
        "folder_id": "F1",
        "checksum": "a" * 64,
        "size_bytes": 5500,
        "content": "b" * 32,
        "subject": "Hello",
        "received": "2026-04-20T11:29:59Z",
        "modified": "2026-04-21T00:00:00Z",
        "change_key": "",
        "is_read": True,
        "flag": "notFlagged",
        "categories": ["Blue"],
        "internet_message_id": "<1@contoso.com>",
        "sender": "bob@contoso.com",
        "is_draft": False,
        "has_attachments": False,
    }
    return row | changes  # type: ignore[return-value]  # tests change single fields by name


def snapshot_row(**changes: Any) -> SnapshotSummary:
    """Return a snapshot's summary with the given fields changed."""
    fields: dict[str, Any] = {
        "snapshot_id": "s1",
        "mailbox_id": "ann@contoso.com",
        "created_at": "2026-04-20T12:00:00.123Z",
        "messages": 10,
        "new": 3,
        "changed": 2,
        "removed": 1,
        "complete": True,
        "size_bytes": 4096,
        "not_stored": 0,
        "written_by": "atlas_async",
    }
    return SnapshotSummary(**(fields | changes))


def folder_row(folder_id: str, *path: str, count: int = 0, **changes: Any) -> FolderView:
    """Return a folder with so many messages."""
    name = path[-1] if path else ""
    return FolderView(Folder(folder_id, "root", name, path, **changes), count)
