"""Stage 0: the folder tree, at the price of one request when it did not change.

The folder delta tells that something changed; what the tree is then comes from a whole listing,
which also sees hidden folders. A listing is made anew at least every ``RELIST_DAYS``, in case the
delta kept something back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from atlas_async.catalog.snapshot import Snapshot
from atlas_async.clock import Clock, iso_millis
from atlas_async.config.settings import FolderChoice
from atlas_async.errors import GraphError, GraphThrottled, UsageError
from atlas_async.model.source import Folder, FolderChanges, JsonObject
from atlas_async.pipeline.ports import MailboxSource

RELIST_DAYS: Final = 7
MOST_ITEMS: Final = 1 << 31
"""More than any folder can hold: a figure beyond it is no count."""


@dataclass(frozen=True, slots=True)
class FolderTree:
    """The folders of a snapshot and those this run reads.

    ``folders`` excludes what an option excludes; ``read`` is all of them, or those named, in the
    order in which to read them.
    """

    folders: tuple[Folder, ...]
    read: tuple[Folder, ...]
    root_id: str
    link: str | None
    listed_at: str

    @property
    def ids(self) -> frozenset[str]:
        """Ids of all folders of the snapshot."""
        return frozenset(folder.id for folder in self.folders)


async def read_tree(
    source: MailboxSource, base: Snapshot | None, choice: FolderChoice, clock: Clock
) -> FolderTree:
    """Return the folder tree as it is now.

    Raises:
        UsageError: A folder asked for by name does not exist.
        GraphError: The mailbox cannot be read.
    """
    if base is not None and base.folder_link and _is_fresh(base, choice, clock):
        try:
            changes = await source.folder_changes(base.folder_link)
        except GraphThrottled:
            raise
        except GraphError:
            # NoMailbox too: a stored link may name what is no more, so the mailbox itself is asked.
            changes = None
        folders = None if changes is None else with_changes(base.folders, changes)
        if changes is not None and folders is not None:
            return choose(folders, choice, base.root_id, changes.link, base.folders_listed_at)
    return await list_anew(source, choice, clock)


async def list_anew(source: MailboxSource, choice: FolderChoice, clock: Clock) -> FolderTree:
    """List everything.

    Raises: as ``read_tree``.
    """
    listing = await source.list_folders(recoverable=choice.recoverable)
    return choose(listing.folders, choice, listing.root_id, listing.link, iso_millis(clock.now()))


def recorded_tree(snapshot: Snapshot) -> FolderTree:
    """Return the tree as a snapshot has it, nothing of it to be read."""
    return FolderTree(
        folders=snapshot.folders,
        read=(),
        root_id=snapshot.root_id,
        link=snapshot.folder_link,
        listed_at=snapshot.folders_listed_at,
    )


def with_changes(folders: tuple[Folder, ...], changes: FolderChanges) -> tuple[Folder, ...] | None:
    """Return the tree with new item counts, or None when the tree itself changed."""
    if changes.removed:
        return None
    known = {folder.id: folder for folder in folders}
    for resource in changes.changed:
        folder = known.get(str(resource.get("id")))
        if folder is None and not _is_search_folder(resource):
            return None
        if folder is None:
            continue
        if _differs(folder, resource):
            return None
        total = resource.get("totalItemCount")
        if isinstance(total, int) and 0 <= total <= MOST_ITEMS:
            known[folder.id] = replace(folder, total_items=total)
    return tuple(known[folder.id] for folder in folders)


def choose(
    folders: tuple[Folder, ...],
    choice: FolderChoice,
    root_id: str,
    link: str | None,
    listed_at: str,
) -> FolderTree:
    """Apply a run's choice of folders.

    Raises:
        UsageError: A folder asked for by name does not exist.
    """
    excluded = _subtrees(folders, lambda f: (f.well_known_name or "") in choice.exclude_well_known)
    kept = tuple(folder for folder in folders if folder.id not in excluded)
    read = kept
    if choice.only:
        for name in choice.only:
            if not any(_is_named(folder, name) for folder in kept):
                msg = f"no folder named {name!r} in this mailbox"
                raise UsageError(msg, hint="give a path such as Inbox/Projects, or `inbox`")
        wanted = _subtrees(kept, lambda f: any(_is_named(f, name) for name in choice.only))
        read = tuple(folder for folder in kept if folder.id in wanted)
    # Pages of one folder come one after the other, so the longest folder must not begin last.
    read = tuple(sorted(read, key=lambda folder: folder.total_items, reverse=True))
    return FolderTree(kept, read, root_id, link, listed_at)


def same_tree(one: tuple[Folder, ...], other: tuple[Folder, ...]) -> bool:
    """Tell whether two trees are the same apart from item counts."""
    return {replace(f, total_items=0) for f in one} == {replace(f, total_items=0) for f in other}


def _is_fresh(base: Snapshot, choice: FolderChoice, clock: Clock) -> bool:
    if base.recoverable != choice.recoverable or base.excluded != tuple(
        sorted(choice.exclude_well_known)
    ):
        return False
    try:
        listed_at = datetime.fromisoformat(base.folders_listed_at)
    except ValueError:
        return False
    # A listing of the future was made when the clock was wrong: it may be of any age.
    return abs(clock.now() - listed_at) < timedelta(days=RELIST_DAYS)


def _differs(folder: Folder, resource: JsonObject) -> bool:
    name = resource.get("displayName", folder.name)
    parent = resource.get("parentFolderId", folder.parent_id)
    hidden = resource.get("isHidden", folder.hidden)
    return bool(name != folder.name or parent != folder.parent_id or bool(hidden) != folder.hidden)


def _is_search_folder(resource: JsonObject) -> bool:
    return "searchfolder" in str(resource.get("@odata.type", "")).lower()


def _is_named(folder: Folder, name: str) -> bool:
    wanted = name.strip("/").casefold()
    return (
        folder.id == name
        or "/".join(folder.path).casefold() == wanted
        or (folder.well_known_name or "") == wanted
    )


def _subtrees(folders: tuple[Folder, ...], matches: Callable[[Folder], bool]) -> set[str]:
    """Return the ids of matching folders and of all below them; parents come first."""
    found: set[str] = set()
    for folder in folders:
        if folder.parent_id in found or matches(folder):
            found.add(folder.id)
    return found
