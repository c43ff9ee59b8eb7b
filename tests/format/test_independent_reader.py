"""What the product writes, read by a program that knows nothing but the format page."""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.settings import DirectorySettings
from atlas_async.store.directory import DirectoryStore
from tests.fakes.golden import GOLDEN, golden_metadata, golden_objects
from tests.fakes.histories import (
    PASSPHRASE,
    USERS,
    History,
    folder_named,
    history_tenant_id,
    write_history,
)
from tests.format.independent_reader import Message, Snapshot, read_bucket

KINDS = {
    "#microsoft.graph.fileAttachment": "file",
    "#microsoft.graph.itemAttachment": "item",
    "#microsoft.graph.referenceAttachment": "reference",
}


@dataclass(frozen=True)
class Read:
    """A history, and the bucket it left, read independently."""

    history: History
    mailboxes: dict[str, list[Snapshot]]

    def both(self, user: str) -> list[tuple[Snapshot, dict[str, Any]]]:
        """Return the user's snapshots with the truth as of each."""
        truths = [truth[user] for truth in self.history.truths]
        if truths[0] == truths[1]:
            truths = truths[:1]
        return list(zip(self.mailboxes[user], truths, strict=True))


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Back up a tenant twice into a directory and read that directory."""
    root = tmp_path_factory.mktemp("buckets")
    tenant_id = history_tenant_id()

    async def write() -> History:
        store = DirectoryStore(DirectorySettings(root), f"atlas-{tenant_id}", clock=SystemClock())
        try:
            return await write_history(store)
        finally:
            await store.aclose()

    history = anyio.run(write)
    return Read(history, read_bucket(root, PASSPHRASE, tenant_id))


def listed_folders(truth: dict[str, Any]) -> dict[str, list[str]]:
    """Return the paths of the folders a snapshot must show, by id."""
    return {
        folder["id"]: folder["path"]
        for folder in truth["folders"]
        if folder["belowRoot"]
        and not folder["search"]
        and (folder["path"] or folder["totalItemCount"])
    }


def listed_messages(truth: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the messages a snapshot must show, by id."""
    folders = listed_folders(truth)
    return {m["immutableId"]: m for m in truth["messages"] if m["folderId"] in folders}


def as_told(message: Message) -> dict[str, Any]:
    """Return a message that was read in the words of the emulator's truth."""
    resource = message.resource
    body = str((resource.get("body") or {}).get("content") or "")
    return {
        "immutableId": resource["id"],
        "folderId": resource["parentFolderId"],
        "isRead": resource["isRead"],
        "flag": resource["flag"],
        "categories": resource["categories"],
        "subject": resource["subject"],
        "internetMessageId": resource["internetMessageId"],
        "isDraft": resource["isDraft"],
        "hasAttachments": resource["hasAttachments"],
        "receivedDateTime": resource["receivedDateTime"],
        "sentDateTime": resource["sentDateTime"],
        "bodySha": hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest(),
    }


@pytest.mark.parametrize("user", USERS)
def test_both_snapshots_hold_exactly_the_messages_of_their_moment(read: Read, user: str) -> None:
    """Every message, its state and its body are what they were when each snapshot was made."""
    for snapshot, truth in read.both(user):
        expected = listed_messages(truth)
        told = {i: as_told(m) for i, m in snapshot.messages.items()}
        assert told.keys() == expected.keys()
        for object_id, message in told.items():
            assert message == {name: expected[object_id][name] for name in message}


@pytest.mark.parametrize("user", USERS)
def test_both_snapshots_hold_every_attachment_of_every_kind(read: Read, user: str) -> None:
    """Files, items and links are there with the bytes that Graph had for them."""
    kinds = set()
    for snapshot, truth in read.both(user):
        for object_id, expected in listed_messages(truth).items():
            parts = {
                p["attachment_id"]: (p, c) for p, c in snapshot.messages[object_id].attachments
            }
            assert parts.keys() == {a["id"] for a in expected["attachments"]}
            for attachment in expected["attachments"]:
                part, content = parts[attachment["id"]]
                kinds.add((part["type"], part["is_inline"]))
                check_attachment(part, content, attachment)
    assert kinds == {("file", False), ("file", True), ("item", False), ("reference", False)}


def check_attachment(part: dict[str, Any], content: bytes | None, told: dict[str, Any]) -> None:
    """Compare one attachment with the truth."""
    assert content is not None
    assert part["content_bytes"] == len(content)
    assert (part["type"], part["name"]) == (KINDS[told["type"]], told["name"])
    assert (part["is_inline"], part["size_bytes"]) == (told["isInline"], told["size"])
    assert part.get("content_id") == told["contentId"]
    if told["sha256"] is None:
        assert json.loads(content)["name"] == told["name"]
    else:
        assert hashlib.sha256(content).hexdigest() == told["sha256"]


@pytest.mark.parametrize("user", USERS)
def test_both_snapshots_hold_originals_but_of_encrypted_mail(read: Read, user: str) -> None:
    """Each is the MIME of its message, as it was then; of the others the row says why not."""
    stored = refused = 0
    for snapshot, truth in read.both(user):
        for object_id, expected in listed_messages(truth).items():
            message = snapshot.messages[object_id]
            if message.original is None:
                refused += 1
                assert message.record["original_refused"] == "ErrorMimeContentConversionFailed"
                assert [a["name"] for a in expected["attachments"]] == ["smime.p7m"]
                continue
            stored += 1
            told = email.message_from_bytes(message.original, policy=email.policy.default)
            assert told["Message-ID"] == expected["internetMessageId"]
            assert "original_refused" not in message.record
    assert stored > refused


@pytest.mark.parametrize("user", USERS)
def test_both_snapshots_hold_the_folders_of_their_moment(read: Read, user: str) -> None:
    """Folders, nested and renamed ones included, have the paths they had at each moment."""
    for snapshot, truth in read.both(user):
        assert snapshot.folders == listed_folders(truth)


def test_totals_in_descriptors_are_those_of_the_rows(read: Read) -> None:
    """Message counts, sizes and counts per folder agree with what the segments hold."""
    for snapshots in read.mailboxes.values():
        for snapshot in snapshots:
            descriptor = snapshot.descriptor
            assert descriptor is not None
            assert descriptor["messages"] == len(snapshot.messages)
            sizes = [len(m.plaintext) for m in snapshot.messages.values()]
            assert descriptor["size_bytes"] == sum(sizes)
            counts: dict[str, int] = {}
            for message in snapshot.messages.values():
                folder = message.record["folder_id"]
                counts[folder] = counts.get(folder, 0) + 1
            assert descriptor["folder_counts"] == counts


def test_a_second_run_tells_what_it_did(read: Read) -> None:
    """The second descriptor continues the first and counts the changes made in between."""
    first, second = read.mailboxes[USERS[0]]
    assert first.descriptor is not None
    assert second.descriptor is not None
    assert (first.complete, second.complete) == (True, True)
    assert second.descriptor["parent"] == first.snapshot_id
    counted = {name: second.descriptor[name] for name in ("new", "changed", "removed")}
    assert counted == {"new": 2, "changed": 1, "removed": 1}
    assert first.snapshot_id < second.snapshot_id


def test_a_state_change_keeps_the_stored_object(read: Read) -> None:
    """A message that was flagged, read or moved is the same object in both snapshots."""
    before, after = (s.messages for s in read.mailboxes[USERS[0]])
    changed_state = [
        i for i in before.keys() & after.keys() if before[i].resource != after[i].resource
    ]
    kept = [i for i in changed_state if before[i].plaintext == after[i].plaintext]
    assert len(changed_state) == len(kept) + 1
    assert len(kept) >= 3


def test_nothing_else_lies_in_the_ledger(read: Read) -> None:
    """Complete snapshots have an empty ledger, and an unchanged mailbox gets no second one."""
    assert all(s.ledger == [] for snapshots in read.mailboxes.values() for s in snapshots)
    assert len(read.mailboxes[USERS[1]]) == 1


@pytest.mark.parametrize("dek_version", [0, 1])
def test_the_format_page_tells_enough_to_read_a_bucket_that_atlas_wrote(
    tmp_path: Path, dek_version: int
) -> None:
    """All golden objects that manifests name are opened, and the sample plaintexts agree."""
    noted = golden_metadata()
    for key, body in golden_objects(dek_version=dek_version).items():
        path = tmp_path / noted["bucket"] / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    mailboxes = read_bucket(tmp_path, noted["passphrase"], noted["tenant_id"])
    assert [s.snapshot_id for snapshots in mailboxes.values() for s in snapshots] == [
        s["snapshot_id"] for snapshots in noted["snapshots"].values() for s in snapshots
    ]
    samples = {path.read_bytes() for path in (GOLDEN / "plain").glob("data__*")}
    plaintexts = {
        m.plaintext
        for snapshots in mailboxes.values()
        for s in snapshots
        for m in s.messages.values()
    }
    assert samples <= plaintexts
    shutil.rmtree(tmp_path / noted["bucket"])


def test_the_changes_of_the_second_run_are_really_there(read: Read) -> None:
    """The mutations reached the truth, so that the comparisons above compare something."""
    before, after = (truth[USERS[0]] for truth in read.history.truths)
    assert listed_messages(before).keys() != listed_messages(after).keys()
    assert "R" in {name for path in listed_folders(after).values() for name in path}
    assert (
        folder_named(after, "archive")["totalItemCount"]
        == 1 + (folder_named(before, "archive")["totalItemCount"])
    )
