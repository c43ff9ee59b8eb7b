"""Objects that are damaged, missing, foreign or too new: found, named, and never made worse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.badday.console import Console
from tests.badday.documents import rewrite, rewrite_manifest
from tests.badday.office import Office
from tests.fakes.rig import USER


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body[:-1] + bytes([body[-1] ^ 1]), "fails authentication"),
        (lambda body: bytes([body[0] ^ 1]) + body[1:], "fails authentication"),
        (lambda body: body[:-1], "fails authentication"),
        (lambda body: body[:20], "is truncated"),
        (lambda _: b"", "is truncated"),
    ],
    ids=["last-byte", "first-byte", "cut-by-one", "cut-to-20", "empty"],
)
def test_a_damaged_message(console: Console, change: Callable[[bytes], bytes], said: str) -> None:
    """Verify names the damaged object with 16, read refuses it; the original put back is fine."""
    first = str(console.backup()["snapshot_id"])
    path = min((console.bucket / "data" / USER).iterdir())
    good = path.read_bytes()
    console.damage("data/*/*", change)
    verified = console.run("verify")
    assert verified.code == 16
    assert "damaged: 1" in verified.out
    assert f"data/{USER}/{path.name}" in verified.out
    assert said in verified.out
    document = console.run("verify", "--json").documents()[-1]
    assert [finding["key"] for finding in document["damaged"]] == [f"data/{USER}/{path.name}"]
    assert console.run("verify", "-s", first, "--debug").code == 16
    (message,) = [m["object_id"] for m in console.messages() if m["checksum"] == path.name]
    refused = console.fails(16, "read", message, "-m", USER, says=[said, path.name, "copy"])
    assert refused.out == ""
    path.write_bytes(good)
    console.assert_recovers(first)


def test_a_message_is_missing_or_another(console: Console) -> None:
    """A missing object and one in another's place are told apart from damage."""
    first = str(console.backup()["snapshot_id"])
    paths = sorted((console.bucket / "data" / USER).iterdir())
    one, other = paths[0], paths[1]
    good = one.read_bytes()
    one.write_bytes(other.read_bytes())
    ended = console.run("verify")
    assert ended.code == 16
    assert "foreign: 1" in ended.out
    assert "another object lies below this name" in ended.out
    one.unlink()
    ended = console.run("verify")
    assert ended.code == 16
    assert "missing: 1" in ended.out
    (message,) = [m["object_id"] for m in console.messages() if m["checksum"] == one.name]
    console.fails(16, "read", message, says=["missing from the bucket", "atlas verify"])
    one.write_bytes(good)
    console.assert_recovers(first)


@pytest.mark.parametrize("pattern", ["attachments/*/*", "catalog/*/segments/*", "manifests/*/*"])
def test_any_damaged_part_is_found(console: Console, office: Office, pattern: str) -> None:
    """An attachment, a catalog segment or a manifest that is damaged ends verify with 16."""
    first = str(console.backup()["snapshot_id"])
    path = min(console.bucket.glob(pattern))
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    ended = console.run("verify")
    assert ended.code == 16
    assert "damaged: 1" in ended.out
    assert path.name in ended.out
    path.write_bytes(good)
    office.mutate(op="create", folder="inbox", subject="new")
    console.assert_recovers(first)


def test_a_damaged_head_is_found_again(console: Console, office: Office) -> None:
    """A head that is damaged or gone costs a notice; the next run goes on from the newest."""
    first = str(console.backup()["snapshot_id"])
    console.damage("catalog/*/head", lambda body: body[:40])
    office.mutate(op="create", folder="inbox", subject="new")
    ended = console.run("backup")
    assert ended.code == 0, ended
    assert "the mailbox's head is damaged" in ended.out
    assert "1 stored" in ended.out
    (console.bucket / "catalog" / USER / "head").unlink()
    console.assert_recovers(first)


def test_a_replica_is_not_written_to(console: Console, office: Office) -> None:
    """A bucket with a replica marker is refused, untouched, until a flag detaches it."""
    first = str(console.backup()["snapshot_id"])
    marker = console.bucket / "_meta" / "replica.marker"
    marker.write_bytes(b"{}")
    office.mutate(op="create", folder="inbox", subject="new")
    files, requests = console.files(), office.requests()
    console.fails(1, "backup", says=["replica of another", "--allow-replica"])
    assert console.files() == files
    assert office.requests() == requests
    console.assert_kept(first)
    assert console.run("backup", "--allow-replica").code == 0
    marker.unlink()
    console.assert_completes(first)


def raise_format(document: dict[str, Any]) -> None:
    """Make a catalog document one of a version to come."""
    document["format"] = 9
    if isinstance(document.get("snapshot"), dict):
        document["snapshot"]["format"] = 9


def lower_format(document: dict[str, Any]) -> None:
    """Make it one of this version again."""
    document["format"] = 1
    if isinstance(document.get("snapshot"), dict):
        document["snapshot"]["format"] = 1


@pytest.mark.parametrize("head", ["newer", "absent"])
def test_a_bucket_of_a_newer_version(console: Console, office: Office, head: str) -> None:
    """What a newer program wrote is neither read nor replaced; the answer is to update."""
    first = str(console.backup()["snapshot_id"])
    rewrite(console, "catalog/*/snapshots/*", "snapshot", raise_format)
    if head == "newer":
        rewrite(console, "catalog/*/head", "head", raise_format)
    else:
        (console.bucket / "catalog" / USER / "head").unlink()
    office.mutate(op="create", folder="inbox", subject="new")
    files = console.files()
    ended = console.run("backup")
    assert ended.code == 16
    assert "format version 9 is not known to this program" in ended.out
    assert "hint: a newer atlas_async wrote it: update this one; nothing was changed" in ended.out
    for arguments in (["list"], ["list", "-m", USER], ["list", "-m", USER, "-s", "latest"]):
        console.fails(16, *arguments, says=["format version 9", "update"])
    ended = console.run("verify")
    assert ended.code == 16
    assert "update this one" in ended.out
    assert console.files() == files
    rewrite(console, "catalog/*/snapshots/*", "snapshot", lower_format)
    if head == "newer":
        rewrite(console, "catalog/*/head", "head", lower_format)
    console.assert_recovers(first)


def test_a_manifest_of_a_newer_version(console: Console, office: Office) -> None:
    """A manifest whose version is unknown is named by verify; other snapshots are fine."""
    first = str(console.backup()["snapshot_id"])

    def set_format(version: int) -> None:
        rewrite_manifest(console, lambda document: document["atlas_async"].update(format=version))

    set_format(9)
    ended = console.run("verify")
    assert ended.code == 16
    assert "manifest of format version 9" in ended.out
    assert "update this one" in ended.out
    office.mutate(op="create", folder="inbox", subject="new")
    second = str(console.backup()["snapshot_id"])
    assert console.run("verify", "-s", second).code == 0
    set_format(1)
    console.assert_recovers(first)
