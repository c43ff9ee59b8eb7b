"""What a running engine tells whoever listens. Events carry values only, never live objects.

They describe progress for people and programs; the outcome itself is the report
(``model.report``), which does not depend on anybody having listened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atlas_async.model.report import MailboxResult

BROUGHT_BACK: Final = "brought back"
"""What a drill does with messages in memory; what it does in a mailbox has other names."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run knows which mailboxes it will visit."""

    mailboxes: int


@dataclass(frozen=True, slots=True)
class MailboxStarted:
    """A mailbox's folders are known. ``expected`` messages may change meanwhile.

    ``expected`` is Graph's own count over the folders to be enumerated in full; 0 when only
    changes are read.
    """

    mailbox_id: str
    folders: int
    expected: int
    incremental: bool


@dataclass(frozen=True, slots=True)
class MailboxProgress:
    """Cumulative counts of one mailbox, sent when a page is settled."""

    mailbox_id: str
    folder: str
    done: int
    expected: int
    stored: int
    deduplicated: int
    unchanged: int
    failed: int
    attachments: int
    bytes_uploaded: int
    throttled: int


@dataclass(frozen=True, slots=True)
class MailboxThrottled:
    """Graph asked to wait; only requests in ``scope`` do."""

    mailbox_id: str
    seconds: float
    scope: str


@dataclass(frozen=True, slots=True)
class MailboxNotice:
    """Something a person should know that changes no outcome (a folder read anew, say)."""

    mailbox_id: str
    text: str


@dataclass(frozen=True, slots=True)
class MailboxFinished:
    """A mailbox reached its outcome."""

    result: MailboxResult


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Objects checked so far of those that a verification knows of."""

    mailbox_id: str
    checked: int
    total: int
    damaged: int
    missing: int


@dataclass(frozen=True, slots=True)
class PruneProgress:
    """Objects of a mailbox looked at so far, those no snapshot names, and those removed."""

    mailbox_id: str
    objects: int
    unreferenced: int
    removed: int


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """Messages of a mailbox searched so far of ``expected``.

    While ``indexing``, both count those that the index of words lacks. ``indexed`` are the messages
    that this search has added to it.
    """

    mailbox_id: str
    done: int
    expected: int
    indexed: int
    indexing: bool = False


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """Cumulative counts of the restore of one mailbox; ``expected`` is 0 while it is not known."""

    mailbox_id: str
    folder: str
    done: int
    expected: int
    created: int
    skipped: int
    failed: int
    bytes_sent: int
    throttled: int


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """Messages of an export written so far of ``expected``, over all its mailboxes.

    ``bytes`` are those of the messages as written; ``failed`` counts what is damaged or missing.
    """

    mailbox_id: str
    done: int
    expected: int
    bytes: int
    failed: int


@dataclass(frozen=True, slots=True)
class DrillProgress:
    """Messages of a mailbox that a drill has brought back so far, of those chosen.

    ``doing`` says what was done with them; ``expected`` is 0 where it is not known.
    """

    mailbox_id: str
    done: int
    expected: int
    bytes: int
    failed: int
    doing: str = BROUGHT_BACK


Event = (
    RunStarted
    | MailboxStarted
    | MailboxProgress
    | MailboxThrottled
    | MailboxNotice
    | MailboxFinished
    | VerifyProgress
    | PruneProgress
    | ExportProgress
    | RestoreProgress
    | DrillProgress
    | SearchProgress
)
