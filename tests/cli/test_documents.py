"""The JSON documents, field by field: other programs rely on every name."""

from __future__ import annotations

from dataclasses import replace

from atlas_async.cli.documents import (
    error_document,
    mailbox_line,
    mailboxes_document,
    message_document,
    not_stored_document,
    result_document,
    snapshot_document,
    snapshots_document,
    summary_document,
    verify_document,
)
from atlas_async.errors import ConfigError
from atlas_async.model.report import MailboxResult, NotStored, Outcome, RefusedOriginal, RunReport
from atlas_async.operations.listing import MailboxSummary
from atlas_async.operations.verification import Finding, VerifyReport
from tests.fakes.engine import (
    attachment_row,
    folder_row,
    message_row,
    snapshot_row,
)

NOON = "2026-04-20T12:00:00.123Z"
SNAPSHOT = {
    "snapshot_id": "s1",
    "created_at": NOON,
    "messages": 10,
    "new": 3,
    "complete": True,
    "changed": 2,
    "removed": 1,
    "not_stored_count": 0,
    "size_bytes": 4096,
    "written_by": "atlas_async",
    "damage": "",
}
LOST = NotStored(
    kind="attachment",
    object_id="MSG1",
    folder_id="F1",
    code="ErrorCorruptData",
    reason="the attachment is damaged",
    permanent=True,
    attachment_id="ATT9",
    name="x.doc",
    request_id="req-1",
    first_run="s0",
    last_run="s1",
    attempts=2,
)


def test_mailboxes() -> None:
    """The list of mailboxes names each with its newest snapshot."""
    boxes = [MailboxSummary("ann@contoso.com", 2, snapshot_row()), MailboxSummary("b", 0, None)]
    assert mailboxes_document("t1", boxes) == {
        "tenant_id": "t1",
        "mailboxes": [
            {"mailbox_id": "ann@contoso.com", "snapshots": 2, "latest": SNAPSHOT},
            {"mailbox_id": "b", "snapshots": 0, "latest": None},
        ],
    }


def test_snapshots() -> None:
    """A mailbox's snapshots have the promised fields, times in milliseconds."""
    assert snapshots_document("ann@contoso.com", [snapshot_row()]) == {
        "mailbox_id": "ann@contoso.com",
        "snapshots": [SNAPSHOT],
    }


def test_snapshot() -> None:
    """A snapshot has its folders with paths as lists and its ledger."""
    folder = folder_row("F1", "Inbox", "A/B", count=7, well_known_name="inbox", hidden=True)
    assert snapshot_document(snapshot_row(complete=False), [folder], [LOST]) == {
        "snapshot_id": "s1",
        "mailbox_id": "ann@contoso.com",
        "created_at": NOON,
        "complete": False,
        "written_by": "atlas_async",
        "folders": [
            {
                "id": "F1",
                "path": ["Inbox", "A/B"],
                "well_known_name": "inbox",
                "hidden": True,
                "message_count": 7,
                "parent_id": "root",
            }
        ],
        "not_stored": [not_stored_document(LOST)],
    }


def test_message() -> None:
    """A message has the promised fields, storage keys included; later fields only add to them."""
    inline = attachment_row(is_inline=True, content_id="cid1")
    lost = attachment_row(attachment_id="ATT2", checksum="")
    document = message_document(message_row(attachments=[inline, lost]), "ann@contoso.com")
    promised = {
        "object_id": "MSG1",
        "folder_id": "F1",
        "subject": "Hello",
        "received": "2026-04-20T11:29:59Z",
        "is_read": True,
        "flag": "notFlagged",
        "categories": ["Blue"],
        "internet_message_id": "<1@contoso.com>",
        "size_bytes": 5500,
        "storage_key": f"data/ann@contoso.com/{'a' * 64}",
        "checksum": "a" * 64,
    }
    assert promised.items() <= document.items()
    first, second = document["attachments"]
    assert {
        "name": "plan.pdf",
        "type": "file",
        "size_bytes": 2100,
        "storage_key": f"attachments/ann@contoso.com/{'c' * 64}",
        "checksum": "c" * 64,
        "content_id": "cid1",
        "is_inline": True,
    }.items() <= first.items()
    assert (second["storage_key"], second["checksum"], second["content_id"]) == ("", "", None)


def test_message_without_attachments() -> None:
    """A message without attachments has an empty list, not an absent field."""
    assert message_document(message_row(), "m")["attachments"] == []


def test_message_with_an_original_or_a_refusal() -> None:
    """Where its MIME is, or why it is not there; both are null where none was asked for."""
    stored = message_row(original={"checksum": "d" * 64, "size_bytes": 7})
    assert message_document(stored, "m")["original"] == {
        "storage_key": f"catalog/m/originals/{'d' * 64}",
        "checksum": "d" * 64,
        "size_bytes": 7,
    }
    refused = message_document(message_row(original_refused="ErrorCorruptData"), "m")
    assert (refused["original"], refused["original_refused"]) == (None, "ErrorCorruptData")
    plain = message_document(message_row(), "m")
    assert (plain["original"], plain["original_refused"]) == (None, None)


def test_results_tell_of_originals() -> None:
    """How many were stored and refused, the first of the latter by id, and the sums of a run."""
    told = replace(
        result(),
        originals_stored=9,
        originals_refused=2,
        refused_originals=(RefusedOriginal("MSG1", "ErrorCorruptData"),),
    )
    document = result_document(told)
    assert (document["originals_stored"], document["originals_refused"]) == (9, 2)
    assert document["refused_originals"] == [{"object_id": "MSG1", "code": "ErrorCorruptData"}]
    totals = summary_document(RunReport("t1", (told, told), 1.0))["totals"]
    assert (totals["originals_stored"], totals["originals_refused"]) == (18, 4)


def test_not_stored() -> None:
    """A ledger entry says what, why, whether permanent, and since which run."""
    assert not_stored_document(LOST) == {
        "kind": "attachment",
        "object_id": "MSG1",
        "attachment_id": "ATT9",
        "folder_id": "F1",
        "name": "x.doc",
        "code": "ErrorCorruptData",
        "reason": "the attachment is damaged",
        "permanent": True,
        "request_id": "req-1",
        "first_run": "s0",
        "last_run": "s1",
        "attempts": 2,
        "id": LOST.id,
        "forgotten": None,
    }
    given_up = not_stored_document(replace(LOST, forgotten="2026-04-20T12:00:00.000Z"))
    assert given_up["forgotten"] == "2026-04-20T12:00:00.000Z"


def result() -> MailboxResult:
    """Return a result with every count different."""
    return MailboxResult(
        "ann@contoso.com",
        Outcome.PARTIAL,
        snapshot_id="s1",
        stored=1,
        deduplicated=2,
        attachments_stored=3,
        failed=4,
        bytes_uploaded=5,
        graph_requests=6,
        store_requests=7,
        throttled=8,
        seconds=9.87654,
        exit_code=3,
        not_stored=(LOST,),
    )


def test_result_and_mailbox_line() -> None:
    """A mailbox's result has the promised fields; its own line says what type it is."""
    document = result_document(result())
    assert {
        "mailbox_id": "ann@contoso.com",
        "outcome": "partial",
        "snapshot_id": "s1",
        "stored": 1,
        "deduplicated": 2,
        "attachments_stored": 3,
        "failed": 4,
        "bytes_uploaded": 5,
        "graph_requests": 6,
        "store_requests": 7,
        "throttled": 8,
        "seconds": 9.877,
    }.items() <= document.items()
    assert mailbox_line(result()) == {"message_type": "mailbox", **document}


def test_summary() -> None:
    """The summary carries the exit code, totals and every mailbox."""
    failed = MailboxResult("b@contoso.com", Outcome.FAILED, exit_code=1, error="no", failed=1)
    document = summary_document(RunReport("t1", (result(), failed), 12.0))
    assert document["message_type"] == "summary"
    assert (document["tenant_id"], document["exit_code"], document["interrupted"]) == (
        "t1",
        3,
        False,
    )
    assert document["totals"]["mailboxes"] == 2
    assert document["totals"]["failed"] == 5
    assert [box["snapshot_id"] for box in document["mailboxes"]] == ["s1", None]


def test_verify() -> None:
    """Damaged, missing and foreign objects are told apart."""
    finding = Finding("data/m/x", "message", "m", "", "wrong tag")
    report = VerifyReport(checked=3, ok=2, damaged=[finding])
    assert verify_document(report) == {
        "checked": 3,
        "ok": 2,
        "damaged": [
            {
                "key": "data/m/x",
                "kind": "message",
                "mailbox_id": "m",
                "snapshot_id": None,
                "detail": "wrong tag",
            }
        ],
        "missing": [],
        "foreign": [],
        "exit_code": 16,
        "snapshots": 0,
        "messages": 0,
        "attachments": 0,
        "not_stored": [],
        "originals": 0,
    }


def test_error() -> None:
    """An error under --json has type, code, message and hint; configuration errors list all."""
    document = error_document(ConfigError(["a", "b"]), 2, "a; b", "look")
    assert document == {
        "message_type": "exit_error",
        "code": 2,
        "message": "a; b",
        "hint": "look",
        "error": "ConfigError",
        "problems": ["a", "b"],
    }
