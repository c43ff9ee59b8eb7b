"""A restore drill as data: what was tried, and what it proved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from atlas_async.model.source import JsonObject

MOST_FAILURES: Final = 1_000
LARGEST_SEED: Final = (1 << 53) - 1
"""The seed is part of what is signed, and every program must read it as the same number."""


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """How to drill.

    Args:
        sample: Messages of each mailbox, chosen at random; 0 for all of them.
        seed: Chooses the same messages again, from 0 to ``LARGEST_SEED``; None chooses others each
            time.
        scratch: Restore the sample into this mailbox, read it back and remove it again. An empty
            string restores into memory: everything is read, opened and compared, and no mailbox is
            touched.
        dry_run: Choose the messages, and bring none back: nothing is proved, and nothing signed.
    """

    sample: int = 25
    seed: int | None = None
    scratch: str = ""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DrillFailure:
    """Something that could not be brought back. ``damaged`` tells that the backup is at fault.

    ``what`` is a part of the message: reports are shown around, so that they name no subject and no
    file.
    """

    object_id: str
    what: str
    reason: str
    damaged: bool


@dataclass(slots=True)
class MailboxDrill:
    """What was tried of one mailbox.

    ``messages`` is how many the snapshot has, ``not_stored`` what it lacks by its ledger; of
    ``sampled`` messages ``tried`` were tried before the end. ``estimated_seconds`` is how long
    restoring all of them into Microsoft 365 would take by its limits; 0 where nothing is known.
    """

    mailbox_id: str
    snapshot_id: str = ""
    snapshot_made_at: str = ""
    messages: int = 0
    not_stored: int = 0
    sampled: int = 0
    tried: int = 0
    restored: int = 0
    attachments: int = 0
    bytes: int = 0
    read_back: int = 0
    different: int = 0
    seconds: float = 0.0
    estimated_seconds: float = 0.0
    failures: list[DrillFailure] = field(default_factory=list)
    failed: int = 0
    damaged: int = 0
    error: str = ""
    hint: str = ""
    error_code: int = 0

    def fail(self, failure: DrillFailure) -> None:
        """Note what could not be brought back."""
        self.failed += 1
        self.damaged += failure.damaged
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(failure)

    @property
    def exit_code(self) -> int:
        """16 where the backup is damaged, an error's code, 3 where something is missing, or 0."""
        if self.damaged:
            return 16
        if self.error_code:
            return self.error_code
        return 3 if self.failed or self.different or self.not_stored else 0


@dataclass(slots=True)
class DrillReport:
    """A drill. ``signed`` is the document that was signed; empty after a dry run."""

    made_at: str
    seed: int
    options: DrillOptions
    mailboxes: list[MailboxDrill] = field(default_factory=list)
    interrupted: bool = False
    signed: JsonObject = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """130 when interrupted, else the worst of the mailboxes': 16, another one, 3, 0."""
        if self.interrupted:
            return 130
        codes = {box.exit_code for box in self.mailboxes}
        if 16 in codes:  # noqa: PLR2004 -- integrity
            return 16
        codes.discard(0)
        return codes.pop() if len(codes) == 1 else 3 if codes else 0
