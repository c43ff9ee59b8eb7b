"""The commit: what was recorded becomes a snapshot, in one fixed order (I1, I6).

Rows, carry and ledger; merged runs; the descriptor; the manifest, which is the commit point; the
head. A crash before the manifest leaves unreferenced objects and the old snapshot; a crash after it
leaves a head that is one snapshot behind, which costs the next run some repeated reading.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import anyio

from atlas_async.catalog.carry import write_carry
from atlas_async.catalog.head import Head, write_head
from atlas_async.catalog.ledger import read_ledger, same_entries, write_ledger
from atlas_async.catalog.manifest import write_manifest
from atlas_async.catalog.snapshot import Snapshot, commit_moment
from atlas_async.catalog.state import compact
from atlas_async.clock import iso_millis
from atlas_async.model.report import NotStored
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.tree import FolderTree, same_tree

REFRESH_DAYS: Final = 7
"""A quiet mailbox's head is rewritten this often, so that its delta tokens stay young."""


class Commit:
    """Decides whether there is anything to commit, and commits it.

    Args:
        journal: What the run recorded.
        tree: The folders as they are now.
        interrupted: The run was asked to stop.
        whole: Every folder of the mailbox was read to its end.
        resumed: The run went on from a checkpoint, which is in the head.
        headless: There was no head that could be read; the base was found without it.
        now: The moment of the commit.
        at_once: Bounds the commits at once, over all mailboxes: each holds rows in memory.
    """

    def __init__(
        self,
        journal: Journal,
        tree: FolderTree,
        *,
        interrupted: bool,
        whole: bool,
        resumed: bool,
        headless: bool,
        now: datetime,
        at_once: anyio.Semaphore,
    ) -> None:
        self._journal = journal
        self._tree = tree
        self._interrupted = interrupted
        self._whole = whole and not interrupted
        self._resumed = resumed
        self._headless = headless
        self._now = now
        self._at_once = at_once

    @property
    def _failed(self) -> bool:
        return bool(self._journal.ledger.entries)

    @property
    def _complete(self) -> bool:
        """Nothing that Graph showed is missing from the snapshot."""
        journal = self._journal
        return self._whole and not self._failed and journal.carry.empty

    async def run(
        self, before: tuple[NotStored, ...], *, spool_directory: Path | None
    ) -> str | None:
        """Return the id of the snapshot committed, or None when there was nothing to commit.

        Args:
            before: The ledger this run began with.
            spool_directory: Where a large manifest is spooled.

        Raises:
            StoreError: The store failed; the previous snapshot stands.
        """
        await self._journal.settle_late()
        base = self._journal.base
        if base is not None and not await self._differs(base, before):
            await self._refresh_head(base)
            return None
        if base is None and not self._whole and not self._journal.touched and not self._failed:
            return None  # an empty snapshot of a run that was stopped would only mislead
        async with self._at_once:
            snapshot = await self._write(spool_directory)
            await write_head(self._journal.vault, Head(snapshot), last=True)
        return snapshot.snapshot_id

    async def _differs(self, base: Snapshot, before: tuple[NotStored, ...]) -> bool:
        journal = self._journal
        if journal.touched or not same_tree(base.folders, self._tree.folders):
            return True
        if self._complete and not base.complete:
            return True
        if self._resumed:
            before = await read_ledger(journal.vault, base.ledger)
        return not same_entries(before, journal.ledger.entries)

    async def _refresh_head(self, base: Snapshot) -> None:
        """Keep new delta links of a run that changed nothing, when the old ones are of no use.

        A head that was missing or damaged is written anew as well: without it every run lists the
        manifests, and ``verify`` reports the damage for ever.
        """
        if not self._whole:
            return
        journal = self._journal
        restarted = journal.restarted & journal.cursors.keys()
        renewed = any(journal.cursors[folder].link for folder in restarted)
        relisted = base.folders_listed_at != self._tree.listed_at
        lost = self._resumed or self._headless
        if renewed or relisted or lost or self._is_old(base):
            current = replace(
                base,
                cursors=dict(journal.cursors),
                folders=self._tree.folders,
                folder_link=self._tree.link,
                excluded=journal.draft.excluded,
                recoverable=journal.draft.recoverable,
                folders_listed_at=self._tree.listed_at,
                carry=await write_carry(journal.vault, journal.carry),
            )
            await write_head(journal.vault, Head(current), last=True)

    def _is_old(self, base: Snapshot) -> bool:
        oldest = min((c.made_at for c in base.cursors.values() if c.made_at), default="")
        return bool(oldest) and oldest < iso_millis(self._now - timedelta(days=REFRESH_DAYS))

    async def _write(self, spool_directory: Path | None) -> Snapshot:
        journal = self._journal
        await journal.flush_all()
        snapshot = replace(
            journal.current(),
            created_at=self._created_at(),
            complete=self._complete,
            interrupted=self._interrupted,
            whole=self._whole,
            runs=await compact(journal.vault, journal.runs),
            carry=await write_carry(journal.vault, journal.carry),
            ledger=await write_ledger(journal.vault, journal.ledger.entries),
        )
        await write_manifest(
            journal.vault,
            snapshot,
            journal.own_rows,
            journal.own_count,
            spool_directory=spool_directory,
        )
        return snapshot

    def _created_at(self) -> str:
        """Return the moment of the commit, later than the previous one even if the clock is not."""
        return commit_moment(self._now, self._journal.base)
