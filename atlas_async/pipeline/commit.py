"""The commit: what was recorded becomes a snapshot, in one fixed order (I1, I6).

Rows, carry and ledger; merged runs; the descriptor; the manifest, which is the commit point; the
head. A crash before the manifest leaves unreferenced objects and the old snapshot; a crash after it
leaves a head that is one snapshot behind, which costs the next run some repeated reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from atlas_async.catalog.carry import write_carry
from atlas_async.catalog.head import Head, write_head
from atlas_async.catalog.layout import manifest_key
from atlas_async.catalog.ledger import read_ledger, same_entries, write_ledger
from atlas_async.catalog.manifest import write_manifest
from atlas_async.catalog.snapshot import Snapshot, commit_moment
from atlas_async.catalog.state import compact
from atlas_async.model.report import NotStored
from atlas_async.pipeline.journal import Journal
from atlas_async.pipeline.surroundings import Surroundings
from atlas_async.pipeline.tree import FolderTree, same_tree


class Commit:
    """Decides whether there is anything to commit, and commits it.

    Args:
        journal: What the run recorded.
        tree: The folders as they are now.
        around: What mailboxes share: whether a stop was requested, the clock, and how many may
            commit at once, as each then holds rows in memory.
        whole: Every folder of the mailbox was read to its end.
        resumed: The run went on from a checkpoint, which is in the head.
        headless: There was no head that could be read; the base was found without it.
        notice: Told what the user should know.
    """

    def __init__(
        self,
        journal: Journal,
        tree: FolderTree,
        around: Surroundings,
        *,
        whole: bool,
        resumed: bool,
        headless: bool,
        notice: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._tree = tree
        self._interrupted = around.stop.requested
        self._whole = whole and not self._interrupted
        self._resumed = resumed
        self._headless = headless
        self._now = around.clock.now()
        self._at_once = around.commits
        self._notice = notice

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
        if not same_entries(before, journal.ledger.entries):
            return True
        return self._renews_head(base) and not await self._has_manifest(base)

    async def _has_manifest(self, base: Snapshot) -> bool:
        """Tell whether the base is still a snapshot; the head would hide that it is not."""
        vault = self._journal.vault
        if await vault.has(manifest_key(vault.mailbox_id, base.snapshot_id)):
            return True
        self._notice(
            f"the manifest of the newest snapshot {base.snapshot_id} is gone; committing anew"
        )
        return False

    def _renews_head(self, base: Snapshot) -> bool:
        """Tell whether the run looks at everything: once a week, and when it was asked to."""
        relisted = base.folders_listed_at != self._tree.listed_at
        return self._whole and (relisted or self._journal.draft.full_run)

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
        lost = self._resumed or self._headless
        if renewed or lost or self._renews_head(base):
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
