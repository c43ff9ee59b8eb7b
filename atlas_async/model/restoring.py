"""Restoring as data: what is asked for, what is there already, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MARK_PROPERTY: Final = "String {5f1c0b1e-8a3d-4c52-9f0a-6d2b7e94c318} Name atlas_async-restore"
"""The MAPI property of a restored message that says which restore made it from what.

A named property of a set of our own (MS-OXPROPS, section 1.3.2), as Graph spells it.
"""


class Conflict(StrEnum):
    """What to do with a message that the target folder has already, by internet message id.

    ``SKIP`` leaves what is there. ``COPY`` adds another one. ``REPLACE`` adds the one of the
    snapshot and then moves the one that was there to Deleted Items.
    """

    SKIP = "skip"
    COPY = "copy"
    REPLACE = "replace"


class Comparing(StrEnum):
    """What is compared with the snapshot once everything is restored.

    ``CONTENTS``: every message's properties and body, and every attachment's bytes. ``COUNTS``:
    how many messages each folder has of those that were restored. ``NONE``: nothing.
    """

    CONTENTS = "contents"
    COUNTS = "counts"
    NONE = "none"


class Step(StrEnum):
    """What happens, or would happen, to one message."""

    CREATE = "create"
    REPLACE = "replace"
    SKIP = "skip"
    CONTINUE = "continued"
    """This restore has begun it before, and adds what it lacks."""
    ALREADY = "already"
    """This restore has created it before."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How to restore.

    Args:
        in_place: Into the folders that the messages were in, not below a folder of their own.
        root: Name of that folder; an empty string for one that names the snapshot.
        conflict: What to do with what is there already.
        originals: Create messages from their original MIME where it is stored. Microsoft Graph
            makes drafts of such messages.
        comparing: What is compared at the end.
        dry_run: Say what would be done and change nothing.
        empty_folders: Make the folders too that held no message.
    """

    in_place: bool = False
    root: str = ""
    conflict: Conflict = Conflict.SKIP
    originals: bool = False
    comparing: Comparing = Comparing.CONTENTS
    dry_run: bool = False
    empty_folders: bool = True


@dataclass(frozen=True, slots=True)
class Present:
    """A message that a folder of the target has. ``mark`` is empty where there is none."""

    object_id: str
    key: str
    mark: str
    draft: bool = False


@dataclass(frozen=True, slots=True)
class RestoreFailure:
    """A message or attachment that was not restored, or not taken back.

    ``kind`` is ``message`` or ``attachment``, in undoing also ``folder``; ``integrity`` tells that
    the backup is damaged.
    """

    kind: str
    object_id: str
    folder: tuple[str, ...]
    name: str
    code: str
    reason: str
    integrity: bool = False


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Something about a message that is not as it was; the message itself is restored."""

    object_id: str
    folder: tuple[str, ...]
    text: str


@dataclass(slots=True)
class FolderOutcome:
    """What came of one folder: messages by step."""

    path: tuple[str, ...]
    target: tuple[str, ...]
    create: int = 0
    replace: int = 0
    skip: int = 0
    already: int = 0
    failed: int = 0
    continued: int = 0

    def count(self, step: Step) -> None:
        """Count one message."""
        setattr(self, step.value, getattr(self, step.value) + 1)


@dataclass(frozen=True, slots=True)
class Difference:
    """A restored message that is not what was sent; ``parts`` say in what."""

    target_id: str
    folder: tuple[str, ...]
    parts: tuple[str, ...]


@dataclass(slots=True)
class Comparison:
    """What reading back showed. ``differences`` holds the first of them; all are counted.

    ``changed`` and ``gone`` count what earlier runs made, and compared, that is not as it was, or
    not in its folder any more: people have worked with it since.
    """

    compared: int = 0
    missing: int = 0
    duplicates: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    error: str = ""
    changed: int = 0
    gone: int = 0

    @property
    def equal(self) -> bool:
        """Whether everything was found as it should be; what was changed since is no matter."""
        return not (self.missing or self.duplicates or self.different or self.error)


MOST_LISTED: Final = 1_000
"""Failures, adjustments and differences that a report lists; all are counted."""


@dataclass(slots=True)
class RestoreReport:
    """What a restore of one mailbox did."""

    mailbox_id: str
    target_id: str
    job_id: str = ""
    snapshots: tuple[str, ...] = ()
    root: str = ""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    folders: list[FolderOutcome] = field(default_factory=list)
    failures: list[RestoreFailure] = field(default_factory=list)
    failed: int = 0
    incomplete: int = 0
    damaged: int = 0
    adjustments: list[Adjustment] = field(default_factory=list)
    adjusted: int = 0
    attachments: int = 0
    bytes_sent: int = 0
    requests: int = 0
    throttled: int = 0
    seconds: float = 0.0
    not_stored: int = 0
    notes: tuple[str, ...] = ()
    comparison: Comparison | None = None
    interrupted: bool = False
    error: str = ""
    hint: str = ""
    error_code: int = 0

    def total(self, step: Step) -> int:
        """Return the messages of all folders with this step."""
        return sum(getattr(folder, step.value) for folder in self.folders)

    @property
    def exit_code(self) -> int:
        """The error's own code, 130 when interrupted, 16 or 3 when something is missing, or 0."""
        if self.error_code:
            return self.error_code
        if self.interrupted:
            return 130
        if self.damaged:
            return 16
        differs = self.comparison is not None and not self.comparison.equal
        return 3 if self.failed or self.incomplete or self.not_stored or differs else 0

    def add_failure(self, failure: RestoreFailure) -> None:
        """Note what was not restored."""
        if failure.kind == "message":
            self.failed += 1
        else:
            self.incomplete += 1
        self.damaged += failure.integrity
        if len(self.failures) < MOST_LISTED:
            self.failures.append(failure)

    def add_adjustment(self, adjustment: Adjustment) -> None:
        """Note what is not as it was."""
        self.adjusted += 1
        if len(self.adjustments) < MOST_LISTED:
            self.adjustments.append(adjustment)


@dataclass(slots=True)
class UndoReport:
    """What taking a restore back did.

    ``gone`` counts what was deleted before, ``kept`` what stays because what it replaced is lost,
    ``not_put_back`` what was lost so, ``failed`` what another try may yet take back. ``begun_at``,
    ``root``, ``in_place`` and ``created`` tell which restore it was.
    """

    job_id: str
    mailbox_id: str
    target_id: str
    removed: int = 0
    gone: int = 0
    kept: int = 0
    put_back: int = 0
    not_put_back: int = 0
    folders_removed: int = 0
    folders_kept: list[tuple[str, ...]] = field(default_factory=list)
    failures: list[RestoreFailure] = field(default_factory=list)
    failed: int = 0
    interrupted: bool = False
    dry_run: bool = False
    error: str = ""
    hint: str = ""
    error_code: int = 0
    begun_at: str = ""
    root: str = ""
    in_place: bool = False
    created: int = 0

    @property
    def exit_code(self) -> int:
        """The error's own code, 130 when interrupted, 3 when something is left, or 0."""
        if self.error_code:
            return self.error_code
        if self.interrupted:
            return 130
        return 3 if self.failed or self.kept or self.not_put_back else 0


@dataclass(frozen=True, slots=True)
class RestoreJob:
    """A restore that was begun: what from, where to, and how far it came.

    ``state`` is ``open``, ``done`` or ``undone``; times are ISO 8601. Where the document cannot be
    read, ``problem`` says why, ``state`` is ``damaged``, and only the two ids are known.
    """

    job_id: str
    mailbox_id: str
    target_tenant: str
    target_id: str
    target_user: str
    snapshots: tuple[str, ...]
    root: str
    in_place: bool
    conflict: Conflict
    begun_at: str
    state: str
    changed_at: str
    created: int = 0
    problem: str = ""

    @classmethod
    def damaged(cls, mailbox_id: str, job_id: str, problem: str) -> RestoreJob:
        """Return what is known of a restore whose document cannot be read."""
        return cls(
            job_id,
            mailbox_id,
            target_tenant="",
            target_id="",
            target_user="",
            snapshots=(),
            root="",
            in_place=False,
            conflict=Conflict.SKIP,
            begun_at="",
            state="damaged",
            changed_at="",
            problem=problem,
        )
