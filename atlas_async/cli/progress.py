"""What the progress display knows: events in, counts out. Pure; knows no terminal."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from atlas_async.model.events import (
    BROUGHT_BACK,
    DrillProgress,
    Event,
    ExportProgress,
    MailboxFinished,
    MailboxNotice,
    MailboxProgress,
    MailboxStarted,
    MailboxThrottled,
    PruneProgress,
    RestoreProgress,
    RunStarted,
    SearchProgress,
    VerifyProgress,
)
from atlas_async.model.report import MailboxResult

RATE_SECONDS: Final = 10.0
"""The rate shown is over the last so many seconds, so that it follows throttling."""


OtherProgress = (
    VerifyProgress
    | PruneProgress
    | ExportProgress
    | SearchProgress
    | RestoreProgress
    | DrillProgress
)


@dataclass(slots=True)
class MailboxState:
    """One mailbox at work. Times are of the monotonic clock, in seconds."""

    mailbox_id: str
    started: float
    expected: int = 0
    incremental: bool = False
    folder: str = ""
    done: int = 0
    stored: int = 0
    deduplicated: int = 0
    unchanged: int = 0
    failed: int = 0
    attachments: int = 0
    bytes_uploaded: int = 0
    throttled: int = 0
    waits_until: float = 0.0
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, event: MailboxProgress, now: float) -> None:
        """Replace the counts by newer ones."""
        self.folder = event.folder
        self.done = event.done
        self.expected = max(event.expected, 0)
        self.stored = event.stored
        self.deduplicated = event.deduplicated
        self.unchanged = event.unchanged
        self.failed = event.failed
        self.attachments = event.attachments
        self.bytes_uploaded = event.bytes_uploaded
        self.throttled = max(event.throttled, self.throttled)
        self.samples.append((now, event.done))
        while now - self.samples[0][0] > RATE_SECONDS:
            self.samples.popleft()

    def rate(self, now: float) -> float:
        """Return messages per second over the last ``RATE_SECONDS``."""
        if not self.samples:
            return 0.0
        since, done = self.samples[0]
        if self.started > now - RATE_SECONDS:
            since, done = self.started, 0
        elapsed = now - since
        return max(self.done - done, 0) / elapsed if elapsed > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over all mailboxes of the run, finished and active."""

    mailboxes: int
    finished: int
    active: int
    done: int
    stored: int
    deduplicated: int
    failed: int
    attachments: int
    bytes_uploaded: int
    throttled: int


class RunState:
    """The run as its events tell it.

    Args:
        started: Monotonic time of the start, in seconds.
        beginning: What is done before there is anything to count; empty in a backup.
    """

    def __init__(self, started: float, beginning: str = "") -> None:
        self.started = started
        self.beginning = beginning
        self.mailboxes = 0
        self.active: dict[str, MailboxState] = {}
        self.results: dict[str, MailboxResult] = {}
        self.verify: dict[str, VerifyProgress] = {}
        self.prune: dict[str, PruneProgress] = {}
        self.export: ExportProgress | None = None
        self.search: dict[str, SearchProgress] = {}
        self.restore: dict[str, RestoreProgress] = {}
        self.drill: dict[str, DrillProgress] = {}
        self.drilling: DrillProgress | None = None
        self.stopping = False

    def take(self, event: Event, now: float) -> None:
        """Bring the state up to date with one event."""
        match event:
            case RunStarted():
                self.mailboxes = event.mailboxes
            case MailboxStarted():
                box = self._box(event.mailbox_id, now)
                box.expected, box.incremental = event.expected, event.incremental
            case MailboxProgress():
                self._box(event.mailbox_id, now).take(event, now)
            case MailboxThrottled():
                box = self._box(event.mailbox_id, now)
                box.throttled += 1
                box.waits_until = max(box.waits_until, now + event.seconds)
            case MailboxFinished():
                self.active.pop(event.result.mailbox_id, None)
                self.results[event.result.mailbox_id] = event.result
            case MailboxNotice():
                pass
            case _:
                self._take_other(event)

    def _take_other(self, event: OtherProgress) -> None:
        """Note the progress of another verb than backup."""
        match event:
            case VerifyProgress():
                self.verify[event.mailbox_id] = event
            case PruneProgress():
                self.prune[event.mailbox_id] = event
            case ExportProgress():
                self.export = event
            case SearchProgress():
                self.search[event.mailbox_id] = event
            case RestoreProgress():
                self.restore[event.mailbox_id] = event
            case DrillProgress():
                self.drilling = event
                if event.doing == BROUGHT_BACK:
                    self.drill[event.mailbox_id] = event

    def _box(self, mailbox_id: str, now: float) -> MailboxState:
        if mailbox_id not in self.active:
            self.active[mailbox_id] = MailboxState(mailbox_id, now)
        return self.active[mailbox_id]

    def totals(self) -> Totals:
        """Add everything up."""
        active = list(self.active.values())
        over = list(self.results.values())
        return Totals(
            mailboxes=max(self.mailboxes, len(active) + len(over)),
            finished=len(over),
            active=len(active),
            done=sum(box.done for box in active)
            + sum(r.stored + r.deduplicated + r.unchanged + r.failed for r in over),
            stored=sum(box.stored for box in active) + sum(r.stored for r in over),
            deduplicated=sum(box.deduplicated for box in active)
            + sum(r.deduplicated for r in over),
            failed=sum(box.failed for box in active) + sum(r.failed for r in over),
            attachments=sum(box.attachments for box in active)
            + sum(r.attachments_stored for r in over),
            bytes_uploaded=sum(box.bytes_uploaded for box in active)
            + sum(r.bytes_uploaded for r in over),
            throttled=sum(box.throttled for box in active) + sum(r.throttled for r in over),
        )

    def verified(self) -> tuple[int, int, int, int]:
        """Return objects checked, known, damaged and missing, over all mailboxes."""
        seen = self.verify.values()
        return (
            sum(event.checked for event in seen),
            sum(event.total for event in seen),
            sum(event.damaged for event in seen),
            sum(event.missing for event in seen),
        )

    def pruned(self) -> tuple[int, int, int]:
        """Return objects looked at, unreferenced and removed, over all mailboxes."""
        seen = self.prune.values()
        return (
            sum(event.objects for event in seen),
            sum(event.unreferenced for event in seen),
            sum(event.removed for event in seen),
        )

    def drilled(self) -> tuple[int, int, int, int]:
        """Return messages brought back, chosen and failed, and bytes, over all mailboxes."""
        seen = self.drill.values()
        return (
            sum(event.done for event in seen),
            sum(event.expected for event in seen),
            sum(event.failed for event in seen),
            sum(event.bytes for event in seen),
        )

    def waiting(self, now: float) -> float:
        """Return the seconds that Microsoft Graph asked to wait, where a request waits; else 0."""
        return max((box.waits_until - now for box in self.active.values()), default=0.0)

    def restored(self) -> RestoreProgress:
        """Return the counts of restores, over all mailboxes; the folder is one of them."""
        seen = list(self.restore.values())
        return RestoreProgress(
            mailbox_id=seen[-1].mailbox_id,
            folder=seen[-1].folder,
            done=sum(event.done for event in seen),
            expected=sum(event.expected for event in seen) if all(e.expected for e in seen) else 0,
            created=sum(event.created for event in seen),
            skipped=sum(event.skipped for event in seen),
            failed=sum(event.failed for event in seen),
            bytes_sent=sum(event.bytes_sent for event in seen),
            throttled=sum(event.throttled for event in seen),
        )

    def searched(self) -> tuple[int, int, int]:
        """Return messages searched, expected and indexed, over all mailboxes.

        While messages of a mailbox are indexed, none of it counts as searched.
        """
        seen = self.search.values()
        return (
            sum(event.done for event in seen if not event.indexing),
            sum(event.expected for event in seen if not event.indexing),
            sum(event.indexed for event in seen),
        )

    def status(self, now: float) -> dict[str, Any]:
        """Return the fields of a JSON status line."""
        if self.export is not None:
            return {
                "seconds": round(now - self.started, 3),
                "mailbox_id": self.export.mailbox_id,
                "done": self.export.done,
                "expected": self.export.expected,
                "bytes": self.export.bytes,
                "failed": self.export.failed,
            }
        if self.search:
            done, expected, indexed = self.searched()
            return {
                "seconds": round(now - self.started, 3),
                "searched": done,
                "expected": expected,
                "indexed": indexed,
            }
        if self.drill:
            done, expected, failed, read = self.drilled()
            return {
                "seconds": round(now - self.started, 3),
                "mailboxes": len(self.drill),
                "done": done,
                "expected": expected,
                "failed": failed,
                "bytes": read,
            }
        if self.restore:
            seen = self.restored()
            return {
                "seconds": round(now - self.started, 3),
                "mailboxes": len(self.restore),
                "done": seen.done,
                "expected": seen.expected or None,
                "created": seen.created,
                "skipped": seen.skipped,
                "failed": seen.failed,
                "bytes_sent": seen.bytes_sent,
                "throttled": seen.throttled,
            }
        if self.prune:
            objects, unreferenced, removed = self.pruned()
            return {
                "seconds": round(now - self.started, 3),
                "objects": objects,
                "unreferenced": unreferenced,
                "removed": removed,
            }
        if self.verify:
            checked, total, damaged, missing = self.verified()
            return {
                "seconds": round(now - self.started, 3),
                "checked": checked,
                "known": total,
                "damaged": damaged,
                "missing": missing,
            }
        totals = self.totals()
        return {
            "seconds": round(now - self.started, 3),
            "mailboxes": totals.mailboxes,
            "mailboxes_finished": totals.finished,
            "messages_done": totals.done,
            "stored": totals.stored,
            "deduplicated": totals.deduplicated,
            "failed": totals.failed,
            "attachments_stored": totals.attachments,
            "bytes_uploaded": totals.bytes_uploaded,
            "throttled": totals.throttled,
            "active": [
                {
                    "mailbox_id": box.mailbox_id,
                    "folder": box.folder,
                    "done": box.done,
                    "expected": box.expected,
                    "rate": round(box.rate(now), 1),
                    "stored": box.stored,
                    "deduplicated": box.deduplicated,
                    "failed": box.failed,
                    "throttled": box.throttled,
                }
                for box in self.active.values()
            ],
        }
