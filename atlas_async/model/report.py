"""Outcomes as data: what a run did, item by item where something is missing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ID_DIGITS: Final = 16
"""Hex digits of an entry's id: enough to tell the entries of a tenant apart."""


class Outcome(StrEnum):
    """How a mailbox ended.

    ``COMPLETE``: a snapshot was committed and nothing is missing. ``UNCHANGED``: nothing to
    commit. ``PARTIAL``: committed, with items in the ledger. ``INTERRUPTED``: stopped on request,
    a partial snapshot was committed where there was anything to commit. ``STOPPED``: throttling
    outlasted the patience; resumable. ``FAILED``: nothing committed. ``LOCKED``: nothing
    committed, because another run holds the mailbox. ``NO_MAILBOX``: the principal has none.
    """

    COMPLETE = "complete"
    UNCHANGED = "unchanged"
    PARTIAL = "partial"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    FAILED = "failed"
    LOCKED = "locked"
    NO_MAILBOX = "no_mailbox"


@dataclass(frozen=True, slots=True)
class NotStored:
    """One thing that Graph showed and the snapshot lacks.

    Args:
        kind: ``message``, ``attachment``, ``folder`` or ``original`` (a message's MIME).
        object_id: Graph id of the message (or folder).
        attachment_id: Graph id of the attachment, for that kind.
        folder_id: Folder it was seen in.
        name: Subject or file name, for the report.
        code: Graph's or the store's error code, or the error's class.
        reason: A sentence for a person.
        permanent: Whether trying again is not expected to help. It is retried all the same.
        request_id: Graph's request id of the last try.
        first_run: Snapshot id of the run that met it first.
        last_run: Snapshot id of the run that met it last.
        attempts: Runs that have tried.
        forgotten: When the operator gave it up, ISO 8601; an empty string while it counts as
            missing.
    """

    kind: str
    object_id: str
    folder_id: str
    code: str
    reason: str
    permanent: bool
    attachment_id: str = ""
    name: str = ""
    request_id: str = ""
    first_run: str = ""
    last_run: str = ""
    attempts: int = 1
    forgotten: str = ""

    @property
    def id(self) -> str:
        """What a person names it by: 16 hex digits of a hash over what identifies it."""
        name = f"{self.kind}\0{self.object_id}\0{self.attachment_id}"
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:ID_DIGITS]


@dataclass(frozen=True, slots=True)
class RefusedOriginal:
    """A message whose MIME Graph does not give: its id and Graph's code."""

    object_id: str
    code: str


@dataclass(frozen=True, slots=True)
class MailboxResult:
    """What one run did to one mailbox. Counts are of this run.

    ``refused_originals`` are the first of the ``originals_refused``. They are not missing: the
    messages are stored, with their attachments.
    """

    mailbox_id: str
    outcome: Outcome
    snapshot_id: str | None = None
    messages: int = 0
    stored: int = 0
    deduplicated: int = 0
    unchanged: int = 0
    removed: int = 0
    attachments_stored: int = 0
    attachments_deduplicated: int = 0
    failed: int = 0
    bytes_uploaded: int = 0
    graph_requests: int = 0
    store_requests: int = 0
    throttled: int = 0
    throttled_seconds: float = 0.0
    seconds: float = 0.0
    folders: int = 0
    error: str = ""
    hint: str = ""
    exit_code: int = 0
    not_stored: tuple[NotStored, ...] = ()
    notices: tuple[str, ...] = ()
    originals_stored: int = 0
    originals_refused: int = 0
    refused_originals: tuple[RefusedOriginal, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one run did to a tenant."""

    tenant_id: str
    mailboxes: tuple[MailboxResult, ...]
    seconds: float
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """The process's exit code: 130, then a lone error's own, then 3 when anything is missing.

        Mailboxes that do not exist count as missing only when they were asked for by name; those
        found by discovery are reported and change nothing.
        """
        if self.interrupted:
            return 130
        codes = {r.exit_code for r in self.mailboxes if r.exit_code}
        if not codes:
            return 0
        done = any(r.exit_code == 0 for r in self.mailboxes)
        if not done and len(codes) == 1:
            return codes.pop()
        return 3
