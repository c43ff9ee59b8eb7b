"""The JSON documents other programs read. Fields are only ever added, never changed or removed.

Pure functions from values to JSON objects, described in ``docs/commands.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from atlas_async.config.sources import Inspection
from atlas_async.errors import AtlasError, ConfigError
from atlas_async.model.record import (
    AttachmentRecord,
    MessageRecord,
    attachment_key,
    message_key,
)
from atlas_async.model.report import MailboxResult, NotStored, RunReport

if TYPE_CHECKING:  # what is only named here must not slow down 'atlas --help'
    from atlas_async.catalog.reader import FolderView, SnapshotSummary
    from atlas_async.operations.listing import MailboxSummary
    from atlas_async.operations.verification import Finding, VerifyReport

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
    """Return a passing status line of ``atlas backup --json``."""
    return {"message_type": "status", **fields}


def mailbox_line(result: MailboxResult) -> Document:
    """Return the line of ``atlas backup --json`` that ends one mailbox."""
    return {"message_type": "mailbox", **result_document(result)}
