"""What the stages hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from atlas_async.catalog.snapshot import FolderCursor
from atlas_async.errors import ConsentError, GraphError, GraphItemError
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import NotStored, RefusedOriginal
from atlas_async.model.source import Folder, JsonObject
from atlas_async.pipeline.budget import Lease

LISTED_REFUSALS: Final = 100
"""Refused originals of a mailbox that a report lists; all are counted."""


@dataclass(frozen=True, slots=True)
class PageBatch:
    """One fetched page of one folder.

    Args:
        folder: Where it comes from.
        number: Counts the folder's pages of this run from 0, without gaps.
        sequence: Counts the mailbox's pages in the order they were fetched.
        items: Message resources.
        removed: Ids that left the folder.
        cursor: Where the folder continues once this page is settled.
        restart: The folder's enumeration starts (anew) with this page.
        lease: Bytes held for the page; given back when it is recorded.
        loose: The items were not shown by the folder but are asked for by their ids.
    """

    folder: Folder
    number: int
    sequence: int
    items: tuple[JsonObject, ...]
    removed: tuple[str, ...]
    cursor: FolderCursor
    restart: bool
    lease: Lease | None
    loose: bool = False


class Change(Enum):
    """What a page's item means for the snapshot."""

    NEW = auto()
    CHANGED = auto()
    STATE = auto()
    SAME = auto()


@dataclass(frozen=True, slots=True)
class SettledItem:
    """One message with its outcome. ``before`` is what was known of it, if anything."""

    record: MessageRecord
    change: Change
    before: MessageRecord | None


@dataclass(slots=True)
class SettledPage:
    """A page of which every item has its outcome: in ``items``, ``failed`` or ``gone``.

    ``attachments_read`` are messages whose attachments were gone through; those that failed are in
    ``failed`` as well. ``originals_settled`` are messages whose original was stored or refused.
    ``doubted`` tells that the folder showed a message that Graph does not find.
    """

    batch: PageBatch
    items: list[SettledItem] = field(default_factory=list)
    failed: list[NotStored] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    attachments_read: list[str] = field(default_factory=list)
    originals_settled: list[str] = field(default_factory=list)
    doubted: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of one mailbox and run, for progress and the report."""

    done: int = 0
    stored: int = 0
    deduplicated: int = 0
    unchanged: int = 0
    failed: int = 0
    removed: int = 0
    attachments_stored: int = 0
    attachments_deduplicated: int = 0
    originals_stored: int = 0
    originals_refused: int = 0
    refused_originals: list[RefusedOriginal] = field(default_factory=list)

    def refuse_original(self, object_id: str, code: str) -> None:
        """Count a message whose MIME Graph does not give; the first of them are listed."""
        self.originals_refused += 1
        if len(self.refused_originals) < LISTED_REFUSALS:
            self.refused_originals.append(RefusedOriginal(object_id, code))


def loose_batch(folder: Folder, object_ids: list[str], sequence: int) -> PageBatch:
    """Return a batch of messages to fetch one by one, outside any round: it moves no cursor."""
    return PageBatch(
        folder=folder,
        number=0,
        sequence=sequence,
        items=tuple({"id": object_id} for object_id in object_ids),
        removed=(),
        cursor=FolderCursor(),
        restart=False,
        lease=None,
        loose=True,
    )


def not_stored(
    error: GraphError | ConsentError,
    *,
    kind: str,
    object_id: str,
    folder_id: str,
    name: str,
    attachment_id: str = "",
) -> NotStored:
    """Return the ledger entry for something that Graph would not give."""
    graph = error if isinstance(error, GraphError) else None
    return NotStored(
        kind=kind,
        object_id=object_id,
        attachment_id=attachment_id,
        folder_id=folder_id,
        name=name,
        code=(graph.code if graph else "") or type(error).__name__,
        reason=error.message,
        permanent=isinstance(error, GraphItemError),
        request_id=graph.request_id if graph else "",
    )
