"""One mailbox, wired: the only place of the pipeline where tasks start, and where it commits."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import anyio

from atlas_async.catalog.carry import read_carry
from atlas_async.catalog.head import Head, read_head, readable_head
from atlas_async.catalog.lease import BaseMoved
from atlas_async.catalog.ledger import Ledger, read_ledger
from atlas_async.catalog.reader import MailboxReader
from atlas_async.catalog.snapshot import Snapshot, new_snapshot_id
from atlas_async.catalog.vault import Vault
from atlas_async.clock import iso_millis
from atlas_async.errors import (
    AtlasError,
    IntegrityError,
    NewerFormat,
    ObjectNotFound,
)
from atlas_async.model.events import MailboxNotice, MailboxProgress, MailboxStarted
from atlas_async.model.report import MailboxResult, NotStored
from atlas_async.model.source import Folder
from atlas_async.pipeline.attachments import AttachmentFetcher
from atlas_async.pipeline.batch import SettledPage, Tally
from atlas_async.pipeline.commit import Commit
from atlas_async.pipeline.intake import Intake
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.originals import Originals
from atlas_async.pipeline.outcome import failed_result, leaves, outcome_of, worst
from atlas_async.pipeline.ports import MailboxSource
from atlas_async.pipeline.produce import Producer
from atlas_async.pipeline.reconcile import Reconciler
from atlas_async.pipeline.retry import (
    as_recorded,
    entries_to_try,
    folders_to_read,
    retry_messages,
    retry_parts,
    still_missing,
)
from atlas_async.pipeline.rounds import Rounds
from atlas_async.pipeline.settle import Settler
from atlas_async.pipeline.surroundings import RunOptions, Surroundings
from atlas_async.pipeline.tree import FolderTree, list_anew, read_tree, same_tree

OVERTAKEN: Final = 5
"""A run that meets a newer snapshot at its first write goes on from that, so often at most."""


class MailboxBackup:
    """Backs one mailbox up once.

    Args:
        source: The mailbox.
        vault: Its part of the bucket.
        options: What to do.
        around: What is shared with other mailboxes.
    """

    def __init__(
        self, source: MailboxSource, vault: Vault, options: RunOptions, around: Surroundings
    ) -> None:
        self._source = source
        self._vault = vault
        self._options = options
        self._around = around
        self._clock = around.clock
        self._tally = Tally()
        self._notices: list[str] = []
        self._snapshot_id = new_snapshot_id(self._clock.now())
        self._started_at = iso_millis(self._clock.now())
        self._found: Head | None = None
        self._checkpoint: Snapshot | None = None
        self._expected = 0

    async def run(self) -> MailboxResult:
        """Read the mailbox and commit a snapshot when anything changed.

        Never raises an ``AtlasError``: what went wrong is in the result (I4). Cancellation leaves
        the last checkpoint and every committed snapshot as they are.
        """
        began = self._clock.monotonic()
        result, errors = await self._attempt()
        for _ in range(OVERTAKEN):
            if not any(isinstance(error, BaseMoved) for error in errors):
                break
            self._notice("another run has committed meanwhile; going on from its snapshot")
            self._tally = Tally()
            result, errors = await self._attempt()
        if errors and _is_damage(errors[0]):
            # The state of earlier runs cannot be read. Mail can: start over beside it.
            self._notice(f"the last snapshot cannot be continued, all is read anew: {errors[0]}")
            result, errors = await self._attempt(anew=True)
        if result is None:
            result = failed_result(self._vault, self._tally, errors[0])
        usage = self._source.usage
        return replace(
            result,
            seconds=self._clock.monotonic() - began,
            graph_requests=usage.requests,
            throttled=usage.throttled,
            throttled_seconds=usage.throttled_seconds,
            notices=tuple(self._notices),
        )

    async def _attempt(
        self, *, anew: bool = False
    ) -> tuple[MailboxResult | None, list[AtlasError]]:
        """Run once; return the result, or what went wrong."""
        result: MailboxResult | None = None
        errors: list[AtlasError] = []
        self._checkpoint = None
        try:
            result = await self._run(anew=anew)
        except* AtlasError as group:
            errors.extend(leaves(group))
        return result, errors

    async def _run(self, *, anew: bool) -> MailboxResult:
        head = Head() if anew else await self._begin()
        base = head.snapshot
        if self._options.ledger is None:
            tree = await read_tree(self._source, base, self._options.folders, self._clock)
        else:
            self._options, tree = as_recorded(head, self._options)
        journal = await self._open_journal(head, tree)
        try:
            return await self._read_and_commit(journal, tree)
        finally:
            journal.close()

    async def _read_and_commit(self, journal: Journal, tree: FolderTree) -> MailboxResult:
        producer = Producer(
            self._source,
            self._around.budgets.pages,
            expectation=self._around.expectation,
            page_size=self._options.page_size,
            clock=self._clock,
            notice=self._notice,
        )
        settler = self._settler(journal)
        before = journal.ledger.entries
        tried = entries_to_try(journal.ledger, self._options.ledger)
        if self._options.ledger is not None:
            tree = folders_to_read(tree, tried)
        self._announce(tree, journal)
        rounds = Rounds(
            producer,
            settler,
            journal,
            self._options,
            self._around,
            tally=self._tally,
            applied=self._progress,
            checkpoint=self._checkpoint,
        )
        error = await rounds.run(tree.read)
        if error is None and not self._around.stop.requested:
            error, tree = await self._finish(producer, settler, journal, tree, tried)
        return await self._commit(journal, tree, error, before, tried)

    async def _begin(self) -> Head:
        """Read where to start, and have the lease, once it is taken, make sure that it stands."""
        lease = self._vault.lease
        if lease is not None:
            # Should the head and what it leads to be unreadable, there is nothing to compare.
            lease.begin(None, _nothing_to_compare)
        head = await self._read_head()

        async def stands() -> bool:
            return await readable_head(self._vault) == self._found

        if lease is not None:
            lease.begin(head.lease, stands)
        return head

    async def _read_head(self) -> Head:
        """Return where to start; a missing or damaged head is found again from the manifests."""
        try:
            head = await read_head(self._vault)
        except NewerFormat:
            raise
        except IntegrityError as error:
            self._notice(f"the mailbox's head is damaged ({error}); finding the newest snapshot")
            head = None
        self._found = head
        return head or Head(await MailboxReader(self._vault).latest())

    async def _open_journal(self, head: Head, tree: FolderTree) -> Journal:
        base = head.snapshot
        start = head.checkpoint
        if start is None or start.parent != (base.snapshot_id if base else None):
            start = self._fresh_start(base)
        else:
            self._checkpoint = head.checkpoint
            self._notice(f"continuing an unfinished run of {start.started_at}")
        draft = replace(
            start,
            snapshot_id=self._snapshot_id,
            parent=base.snapshot_id if base else None,
            started_at=self._started_at,
            folders=tree.folders,
            root_id=tree.root_id,
            folder_link=tree.link,
            folders_listed_at=tree.listed_at,
            excluded=tuple(sorted(self._options.folders.exclude_well_known)),
            recoverable=self._options.folders.recoverable,
            full_run=self._options.full,
        )
        carry = await read_carry(self._vault, start.carry)
        ledger = Ledger(await read_ledger(self._vault, start.ledger), self._snapshot_id)
        journal = Journal(
            self._vault, base, draft, carry, ledger, self._clock, held=self._around.held
        )
        await journal.open()
        return journal

    def _fresh_start(self, base: Snapshot | None) -> Snapshot:
        if base is not None:
            return base.without_counts()
        return Snapshot(
            snapshot_id=self._snapshot_id,
            mailbox_id=self._vault.mailbox_id,
            created_at=self._started_at,
            started_at=self._started_at,
            complete=False,
        )

    def _settler(self, journal: Journal) -> Settler:
        content = self._around.budgets.content
        intake = Intake(self._vault, content, self._options.spool_directory)
        return Settler(
            self._source,
            self._vault,
            journal,
            self._tally,
            self._around,
            attachments=AttachmentFetcher(self._source, self._vault, content, self._tally, intake),
            originals=Originals(
                self._source,
                self._vault,
                intake,
                self._tally,
                wanted=self._options.mime,
                thorough=self._options.full,
            ),
            thorough=self._options.full,
        )

    def _announce(self, tree: FolderTree, journal: Journal) -> None:
        anew = [f for f in tree.read if self._options.full or not _has_link(journal, f)]
        self._expected = sum(folder.total_items for folder in anew)
        self._around.emit(
            MailboxStarted(
                self._vault.mailbox_id,
                folders=len(tree.read),
                expected=self._expected,
                incremental=journal.base is not None,
            )
        )

    async def _finish(
        self,
        producer: Producer,
        settler: Settler,
        journal: Journal,
        tree: FolderTree,
        tried: tuple[NotStored, ...],
    ) -> tuple[AtlasError | None, FolderTree]:
        """Try the ledger again and verify removals; return what stopped it and the newest tree.

        A stop request ends it; what was not verified by then waits for the next run.
        """
        errors: list[AtlasError] = []
        reconciler = Reconciler(
            self._source,
            journal,
            tree,
            settler,
            producer.next_sequence,
            lambda: list_anew(self._source, self._options.folders, self._clock),
        )
        try:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._around.stop.cancel, scope)
                    await journal.settle_late()
                    await retry_messages(
                        self._source,
                        settler,
                        journal,
                        tried,
                        producer.next_sequence,
                        read_all=self._options.ledger is None,
                    )
                    await reconciler.run(frozenset(producer.vanished))
                    await retry_parts(
                        settler,
                        journal,
                        tried,
                        producer.next_sequence,
                        originals=self._options.mime or self._options.ledger is not None,
                    )
                    group.cancel_scope.cancel()
        except* AtlasError as failed:
            errors.extend(leaves(failed))
        if reconciler.unverified:
            self._notice(
                f"{reconciler.unverified} removals could not be verified; "
                "they are kept until the next run"
            )
        return worst(errors), reconciler.tree

    async def _commit(
        self,
        journal: Journal,
        tree: FolderTree,
        error: AtlasError | None,
        before: tuple[NotStored, ...],
        tried: tuple[NotStored, ...],
    ) -> MailboxResult:
        """Commit what was recorded, unless nothing changed, and say how it ended."""
        if self._tally.originals_refused:
            self._notice(
                f"Microsoft Graph gives no MIME of {self._tally.originals_refused} messages; "
                "they are stored without, with their attachments"
            )
        for entry in journal.ledger.entries:
            if entry.kind == "folder" and entry.object_id not in tree.ids:
                journal.ledger.forget_object(entry.object_id)
        journal.draft = replace(
            journal.draft,
            folders=tree.folders,
            folder_link=tree.link,
            folders_listed_at=tree.listed_at,
        )
        commit = Commit(
            journal,
            tree,
            self._around,
            whole=error is None and self._reads_all(journal, tree),
            resumed=self._checkpoint is not None,
            headless=self._found is None,
            notice=self._notice,
        )
        snapshot_id = await commit.run(before, spool_directory=self._options.spool_directory)
        entries = journal.ledger.open
        if self._options.ledger is not None:
            entries = still_missing(journal.ledger, before, tried)
        outcome, exit_code = outcome_of(
            error,
            snapshot_id,
            interrupted=self._around.stop.requested,
            missing=bool(entries) or not journal.carry.empty,
        )
        return MailboxResult(
            mailbox_id=self._vault.mailbox_id,
            outcome=outcome,
            snapshot_id=snapshot_id,
            messages=journal.messages,
            stored=self._tally.stored,
            deduplicated=self._tally.deduplicated,
            unchanged=self._tally.unchanged,
            removed=journal.removed,
            attachments_stored=self._tally.attachments_stored,
            attachments_deduplicated=self._tally.attachments_deduplicated,
            failed=len(entries),
            bytes_uploaded=self._vault.bytes_uploaded,
            folders=len(tree.folders),
            error=str(error) if error else "",
            hint=error.hint if error else "",
            exit_code=exit_code,
            not_stored=entries,
            originals_stored=self._tally.originals_stored,
            originals_refused=self._tally.originals_refused,
            refused_originals=tuple(self._tally.refused_originals),
        )

    def _reads_all(self, journal: Journal, tree: FolderTree) -> bool:
        """Tell whether the folders are read as far as the run that ends well claims.

        One that tries the ledger alone has its base's word for that, and no newer folders.
        """
        if self._options.ledger is None:
            return not self._options.folders.only
        base = journal.base
        same = base is not None and same_tree(base.folders, tree.folders)
        return same and base is not None and base.whole and self._checkpoint is None

    def _notice(self, text: str) -> None:
        self._notices.append(text)
        self._around.emit(MailboxNotice(self._vault.mailbox_id, text))

    def _progress(self, page: SettledPage) -> None:
        tally = self._tally
        self._around.emit(
            MailboxProgress(
                mailbox_id=self._vault.mailbox_id,
                folder="/".join(page.batch.folder.path),
                done=tally.done,
                expected=max(self._expected, tally.done),
                stored=tally.stored,
                deduplicated=tally.deduplicated,
                unchanged=tally.unchanged,
                failed=tally.failed,
                attachments=tally.attachments_stored,
                bytes_uploaded=self._vault.bytes_uploaded,
                throttled=self._source.usage.throttled,
            )
        )


async def _nothing_to_compare() -> bool:
    """Confirm that a run which starts from nothing may go on."""
    return True


def _has_link(journal: Journal, folder: Folder) -> bool:
    cursor = journal.cursors.get(folder.id)
    return cursor is not None and cursor.link is not None


def _is_damage(error: AtlasError) -> bool:
    """Tell whether the state of earlier runs is damaged, which a run from the start gets around."""
    damaged = isinstance(error, IntegrityError | ObjectNotFound)
    return damaged and not isinstance(error, NewerFormat)
