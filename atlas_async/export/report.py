"""What an export did, as data: counts by folder, and what it could not have."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from atlas_async.export.forms import ExportForm
from atlas_async.model.report import NotStored
from atlas_async.model.source import JsonObject

MOST_FAILED: Final = 1_000
"""Failures listed in a report; the manifest has all of them."""


@dataclass(frozen=True, slots=True)
class ExportFailure:
    """Something that the snapshot names and the export lacks, or has in another form.

    Args:
        mailbox_id: Whose.
        object_id: Graph id of the message; an empty string for a part of the snapshot itself.
        kind: ``message``, ``attachment``, ``original`` (the message was built anew) or
            ``snapshot`` (a part of it cannot be read: nobody knows which messages it held).
        name: Subject or file name.
        reason: A sentence for a person.
        is_missing: Whether the object is not there; it is damaged otherwise.
    """

    mailbox_id: str
    object_id: str
    kind: str
    name: str
    reason: str
    is_missing: bool


@dataclass(slots=True)
class ExportedFolder:
    """One folder: its names as people see them, and what was written of it."""

    mailbox_id: str
    names: tuple[str, ...]
    messages: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ExportedMailbox:
    """One mailbox: what it was taken from. ``exact`` is False for snapshots that Atlas wrote."""

    mailbox_id: str
    snapshot_ids: tuple[str, ...]
    created_at: str
    exact: bool


@dataclass(slots=True)
class Tally:
    """The counts of an export so far; they outlast the process that counted."""

    messages: int = 0
    size_bytes: int = 0
    attachments: int = 0
    originals: int = 0
    folders: dict[str, list[int]] = field(default_factory=dict)
    failed: list[ExportFailure] = field(default_factory=list)
    failed_count: int = 0

    def count(self, folder: str, size: int) -> None:
        """Count a message of ``size`` bytes."""
        self.messages += 1
        self.size_bytes += size
        counts = self.folders.setdefault(folder, [0, 0])
        counts[0] += 1
        counts[1] += size

    def fail(self, failure: ExportFailure) -> None:
        """Note a failure; of a snapshot's part once, however often it is met."""
        if failure.kind == "snapshot" and failure in self.failed:
            return
        self.failed_count += 1
        if len(self.failed) < MOST_FAILED:
            self.failed.append(failure)

    def to_json(self) -> JsonObject:
        """Return it for a state file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: JsonObject) -> Tally:
        """Return what ``to_json`` gave. Raises ``TypeError`` for anything else."""
        failed = [ExportFailure(**failure) for failure in values.get("failed", [])]
        return cls(**{**values, "failed": failed})


@dataclass(slots=True)
class ExportReport:
    """What an export did, or in a dry run would do.

    Args:
        path: The zip or directory.
        form: How messages are written.
        dry_run: Whether nothing was written; sizes are those stored, then.
        mailboxes: What was taken.
        folders: What was written, folder by folder.
        messages: Messages written.
        size_bytes: Bytes of them as written, before compression.
        attachments: Attachments in them.
        originals: Messages written byte for byte as they came.
        failed: What is damaged or missing, the first ``MOST_FAILED``.
        failed_count: How many there are.
        not_stored: What was never stored.
        notes: Sentences about how the selection was taken.
        interrupted: Whether it was stopped; the same call continues it.
        resumed: Whether it continued an earlier one.
    """

    path: Path
    form: ExportForm
    dry_run: bool = False
    mailboxes: list[ExportedMailbox] = field(default_factory=list)
    folders: list[ExportedFolder] = field(default_factory=list)
    messages: int = 0
    size_bytes: int = 0
    attachments: int = 0
    originals: int = 0
    failed: list[ExportFailure] = field(default_factory=list)
    failed_count: int = 0
    not_stored: list[NotStored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    resumed: bool = False

    @property
    def exit_code(self) -> int:
        """130 when stopped, 16 when anything is damaged or missing, 3 when never stored, or 0."""
        if self.interrupted:
            return 130
        if self.failed_count:
            return 16
        return 3 if self.not_stored else 0

    @property
    def manifest(self) -> Path:
        """The list of what the export holds."""
        return self.path.with_name(f"{self.path.name}.manifest.jsonl")

    @property
    def sums(self) -> Path:
        """The hashes, for ``sha256sum -c``."""
        return self.path.with_name(f"{self.path.name}.sha256")

    def take(self, tally: Tally) -> None:
        """Take over the counts."""
        for name in ("messages", "size_bytes", "attachments", "originals", "failed_count"):
            value: Any = getattr(tally, name)
            setattr(self, name, value)
        self.failed = list(tally.failed)
