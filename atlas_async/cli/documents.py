"""The JSON documents other programs read. Fields are only ever added, never changed or removed.

Pure functions from values to JSON objects, described in ``docs/commands.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from atlas_async.catalog.layout import original_key
from atlas_async.config.sources import Inspection
from atlas_async.errors import AtlasError, ConfigError
from atlas_async.model.explanations import explain_code
from atlas_async.model.record import (
    AttachmentRecord,
    MessageRecord,
    attachment_key,
    message_key,
)
from atlas_async.model.report import MailboxResult, NotStored, RunReport

if TYPE_CHECKING:  # what is only named here must not slow down 'atlas --help'
    from atlas_async.catalog.reader import FolderView, SnapshotSummary
    from atlas_async.operations.key_check import KeyCheck
    from atlas_async.operations.key_copy import KeyCopy
    from atlas_async.operations.key_plan import ProtectionPlan
    from atlas_async.operations.key_protection import ProtectionReport
    from atlas_async.operations.ledger import Forgetting, LedgerEntry
    from atlas_async.operations.listing import MailboxSummary
    from atlas_async.operations.pruning import PruneReport
    from atlas_async.operations.verification import Finding, VerifyReport
    from atlas_async.store.protection import ObjectState

Document = dict[str, Any]

TOTALLED: Final = (
    "stored",
    "deduplicated",
    "unchanged",
    "removed",
    "attachments_stored",
    "attachments_deduplicated",
    "failed",
    "bytes_uploaded",
    "graph_requests",
    "store_requests",
    "throttled",
    "originals_stored",
    "originals_refused",
)
"""Counts of a mailbox's result that are added up over a run."""


def mailboxes_document(tenant_id: str, mailboxes: Iterable[MailboxSummary]) -> Document:
    """Return the document of ``atlas list --json``."""
    return {
        "tenant_id": tenant_id,
        "mailboxes": [
            {
                "mailbox_id": box.mailbox_id,
                "snapshots": box.snapshots,
                "latest": snapshot_line(box.latest) if box.latest else None,
            }
            for box in mailboxes
        ],
    }


def snapshots_document(mailbox_id: str, snapshots: Iterable[SnapshotSummary]) -> Document:
    """Return the document of ``atlas list -m MAILBOX --json``."""
    return {
        "mailbox_id": mailbox_id,
        "snapshots": [snapshot_line(snapshot) for snapshot in snapshots],
    }


def snapshot_line(snapshot: SnapshotSummary) -> Document:
    """Return one of a mailbox's snapshots."""
    return {
        "snapshot_id": snapshot.snapshot_id,
        "created_at": snapshot.created_at,
        "messages": snapshot.messages,
        "new": snapshot.new,
        "complete": snapshot.complete,
        "changed": snapshot.changed,
        "removed": snapshot.removed,
        "not_stored_count": snapshot.not_stored,
        "size_bytes": snapshot.size_bytes,
        "written_by": snapshot.written_by,
        "damage": snapshot.damage,
    }


def snapshot_document(
    summary: SnapshotSummary, folders: Sequence[FolderView], not_stored: Sequence[NotStored]
) -> Document:
    """Return ``atlas list -s SNAPSHOT --json`` without ``messages``, which are streamed."""
    return {
        "snapshot_id": summary.snapshot_id,
        "mailbox_id": summary.mailbox_id,
        "created_at": summary.created_at,
        "complete": summary.complete,
        "written_by": summary.written_by,
        "folders": [folder_document(folder) for folder in folders],
        "not_stored": [not_stored_document(item) for item in not_stored],
    }


def folder_document(view: FolderView) -> Document:
    """Return one of a snapshot's folders."""
    folder = view.folder
    return {
        "id": folder.id,
        "path": list(folder.path),
        "well_known_name": folder.well_known_name,
        "hidden": folder.hidden,
        "message_count": view.message_count,
        "parent_id": folder.parent_id,
    }


def message_document(record: MessageRecord, mailbox_id: str) -> Document:
    """Return one of a snapshot's messages."""
    return {
        "object_id": record["object_id"],
        "folder_id": record["folder_id"],
        "subject": record["subject"],
        "received": record["received"],
        "is_read": record["is_read"],
        "flag": record["flag"],
        "categories": record["categories"],
        "internet_message_id": record["internet_message_id"],
        "size_bytes": record["size_bytes"],
        "storage_key": message_key(mailbox_id, record["checksum"]),
        "checksum": record["checksum"],
        "attachments": [
            attachment_document(item, mailbox_id) for item in record.get("attachments", [])
        ],
        "modified": record["modified"],
        "sender": record["sender"],
        "is_draft": record["is_draft"],
        "original": original_document(record, mailbox_id),
        "original_refused": record.get("original_refused"),
    }


def original_document(record: MessageRecord, mailbox_id: str) -> Document | None:
    """Return where a message's original MIME is stored, None when it is not."""
    original = record.get("original")
    if original is None:
        return None
    return {
        "storage_key": original_key(mailbox_id, original["checksum"]),
        "checksum": original["checksum"],
        "size_bytes": original["size_bytes"],
    }


def attachment_document(item: AttachmentRecord, mailbox_id: str) -> Document:
    """Return one attachment; without stored content, key and checksum are empty."""
    checksum = item["checksum"]
    return {
        "name": item["name"],
        "type": item["type"],
        "size_bytes": item["size_bytes"],
        "storage_key": attachment_key(mailbox_id, checksum) if checksum else "",
        "checksum": checksum,
        "content_id": item.get("content_id"),
        "is_inline": item["is_inline"],
        "attachment_id": item["attachment_id"],
        "content_type": item["content_type"],
        "content_bytes": item["content_bytes"],
    }


def not_stored_document(item: NotStored) -> Document:
    """Return one entry of the ledger: what, why, permanent or retried."""
    return {
        "kind": item.kind,
        "object_id": item.object_id,
        "attachment_id": item.attachment_id or None,
        "folder_id": item.folder_id,
        "name": item.name,
        "code": item.code,
        "reason": item.reason,
        "permanent": item.permanent,
        "request_id": item.request_id,
        "first_run": item.first_run,
        "last_run": item.last_run,
        "attempts": item.attempts,
        "id": item.id,
        "forgotten": item.forgotten or None,
    }


def ledger_document(entries: Iterable[LedgerEntry], *, explained: bool = False) -> Document:
    """Return the document of ``atlas ledger list --json``, or of ``explain``."""
    return {"entries": [ledger_entry_document(entry, explained=explained) for entry in entries]}


def ledger_entry_document(entry: LedgerEntry, *, explained: bool = False) -> Document:
    """Return one entry of a mailbox's newest ledger, with what its code means when asked for."""
    document: Document = {
        "mailbox_id": entry.mailbox_id,
        "snapshot_id": entry.snapshot_id,
        **not_stored_document(entry.item),
        "folder": list(entry.folder),
        "first_run_at": entry.first_run_at or None,
        "last_run_at": entry.last_run_at or None,
    }
    if explained:
        told = explain_code(entry.item.code)
        document |= {"meaning": told.meaning, "advice": told.advice}
    return document


def forgetting_document(done: Forgetting) -> Document:
    """Return the document of ``atlas ledger forget --json``."""
    return {
        "mailbox_id": done.mailbox_id,
        "snapshot_id": done.snapshot_id,
        **ledger_document(done.entries),
    }


def result_document(result: MailboxResult) -> Document:
    """Return what a run did to one mailbox."""
    return {
        "mailbox_id": result.mailbox_id,
        "outcome": result.outcome.value,
        "snapshot_id": result.snapshot_id,
        "stored": result.stored,
        "deduplicated": result.deduplicated,
        "attachments_stored": result.attachments_stored,
        "failed": result.failed,
        "bytes_uploaded": result.bytes_uploaded,
        "graph_requests": result.graph_requests,
        "store_requests": result.store_requests,
        "throttled": result.throttled,
        "seconds": round(result.seconds, 3),
        "messages": result.messages,
        "unchanged": result.unchanged,
        "removed": result.removed,
        "attachments_deduplicated": result.attachments_deduplicated,
        "throttled_seconds": round(result.throttled_seconds, 3),
        "folders": result.folders,
        "error": result.error,
        "hint": result.hint,
        "exit_code": result.exit_code,
        "not_stored": [not_stored_document(item) for item in result.not_stored],
        "notices": list(result.notices),
        "originals_stored": result.originals_stored,
        "originals_refused": result.originals_refused,
        "refused_originals": [
            {"object_id": refused.object_id, "code": refused.code}
            for refused in result.refused_originals
        ],
    }


def summary_document(report: RunReport) -> Document:
    """Return the last line of ``atlas backup --json``."""
    return {
        "message_type": "summary",
        "tenant_id": report.tenant_id,
        "exit_code": report.exit_code,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "totals": totals_document(report.mailboxes),
        "mailboxes": [result_document(result) for result in report.mailboxes],
    }


def totals_document(results: Sequence[MailboxResult]) -> Document:
    """Return the counts of several mailboxes added up."""
    sums: Document = {name: sum(getattr(r, name) for r in results) for name in TOTALLED}
    return {"mailboxes": len(results), **sums}


def verify_document(report: VerifyReport) -> Document:
    """Return the document of ``atlas verify --json``."""
    return {
        "checked": report.checked,
        "ok": report.ok,
        "damaged": [finding_document(finding) for finding in report.damaged],
        "missing": [finding_document(finding) for finding in report.missing],
        "foreign": [finding_document(finding) for finding in report.foreign],
        "exit_code": report.exit_code,
        "snapshots": report.snapshots,
        "messages": report.messages,
        "attachments": report.attachments,
        "not_stored": [not_stored_document(item) for item in report.not_stored],
        "originals": report.originals,
    }


def prune_document(report: PruneReport) -> Document:
    """Return the document of ``atlas prune --json``."""
    return {
        "dry_run": report.dry_run,
        "exit_code": report.exit_code,
        "mailboxes": [
            {
                "mailbox_id": box.mailbox_id,
                "objects": box.objects if box.looked_at else None,
                "unreferenced": box.unreferenced if box.looked_at else None,
                "unreferenced_bytes": box.unreferenced_bytes if box.looked_at else None,
                "young": box.young if box.looked_at else None,
                "removed": box.removed,
                "removed_bytes": box.removed_bytes,
                "kept": box.kept,
                "keys": box.keys,
                "error": box.error,
                "hint": box.hint,
                "exit_code": box.exit_code,
            }
            for box in report.mailboxes
        ],
    }


def finding_document(finding: Finding) -> Document:
    """Return one object that is not as it should be."""
    return {
        "key": finding.key,
        "kind": finding.kind,
        "mailbox_id": finding.mailbox_id,
        "snapshot_id": finding.snapshot_id or None,
        "detail": finding.detail,
    }


def key_state_document(state: ObjectState) -> Document:
    """Return what protects the key; what is not known is ``{"unknown", "lacking"}``."""
    from atlas_async.store.protection import Retention, Unknown

    def told(value: Any) -> Any:
        if isinstance(value, Unknown):
            return {"unknown": value.reason, "lacking": value.lacking}
        if isinstance(value, Retention):
            until = value.until.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            return {"mode": value.mode.value, "until": until}
        return value

    newest = state.newest
    return {
        "versioning": told(state.versioning),
        "object_lock": told(state.object_lock),
        "policy": told(state.policy),
        "retention": told(state.retention),
        "legal_hold": told(state.legal_hold),
        "expiry": told(state.expiry),
        "newest_version": newest.version_id if newest else None,
        "permissions": None if state.permissions is None else f"{state.permissions:04o}",
    }


def key_plan_document(plan: ProtectionPlan) -> Document:
    """Return the document of ``atlas key protect --dry-run --json``."""
    return {
        "key": plan.key,
        "store": plan.store,
        "dry_run": True,
        "state": key_state_document(plan.state),
        "steps": [
            {
                "kind": step.kind.value,
                "asked": step.asked,
                "todo": step.todo,
                "possible": step.possible,
                "text": step.text,
            }
            for step in plan.steps
        ],
        "irreversible": plan.irreversible,
    }


def key_protection_document(plan: ProtectionPlan, report: ProtectionReport) -> Document:
    """Return the document of ``atlas key protect --json``."""
    return {
        "key": report.key,
        "store": report.store,
        "dry_run": False,
        "before": key_state_document(plan.state),
        "state": key_state_document(report.state),
        "results": [
            {
                "kind": result.kind.value,
                "asked": result.asked,
                "done": result.done,
                "enforced": result.enforced,
                "text": result.text,
            }
            for result in report.results
        ],
        "removed": report.removed,
        "exit_code": report.exit_code,
    }


def key_check_document(found: KeyCheck) -> Document:
    """Return the document of ``atlas key check --json``."""
    return {
        "key": found.key,
        "store": found.store,
        "size_bytes": found.size,
        "version": found.version,
        "opened": found.opened or None,
        "policy": found.policy,
        "days_left": found.days_left,
        "state": key_state_document(found.state),
        "findings": [
            {"about": finding.about, "weight": finding.weight.value, "text": finding.text}
            for finding in found.findings
        ],
        "exit_code": found.exit_code,
    }


def key_copy_document(made: KeyCopy) -> Document:
    """Return the document of ``atlas key export`` and ``restore`` with ``--json``."""
    return {
        "store": made.store,
        "place": made.place,
        "size_bytes": made.size,
        "version": made.version,
        "changed": made.changed,
        "note": made.note,
    }


def config_document(seen: Inspection) -> Document:
    """Return the document of ``atlas config show --json``. Secrets are masks already."""
    return {
        "settings": {
            origin.field: {
                "value": origin.value,
                "source": origin.source,
                "variable": origin.variable,
                "secret": origin.secret,
            }
            for origin in seen.origins
        },
        "problems": list(seen.problems),
        "notes": list(seen.notes),
    }


def error_document(error: AtlasError | None, code: int, message: str, hint: str) -> Document:
    """Return the line on standard error that ends a failed command under ``--json``."""
    document: Document = {
        "message_type": "exit_error",
        "code": code,
        "message": message,
        "hint": hint,
        "error": type(error).__name__ if error else "",
    }
    if isinstance(error, ConfigError):
        document["problems"] = error.problems
    return document


def status_document(fields: Mapping[str, Any]) -> Document:
    """Return a passing status line of a command with ``--json``."""
    return {"message_type": "status", **fields}


def mailbox_line(result: MailboxResult) -> Document:
    """Return the line of ``atlas backup --json`` that ends one mailbox."""
    return {"message_type": "mailbox", **result_document(result)}
