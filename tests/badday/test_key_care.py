"""The key of a tenant in a directory, looked after by an operator: protected, copied, lost, put back."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.badday.console import Console


def test_a_key_is_protected_and_the_backup_goes_on(console: Console) -> None:
    """The file becomes read-only, which is said to be all; backups and checks go on as before."""
    console.backup()
    file = console.bucket / "_meta" / "dek.enc"
    ended = console.run("key", "protect")
    assert ended.code == 0, ended
    assert "whoever may write its directory can still remove or replace it" in ended.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    console.office.mutate(op="create", folder="inbox", subject="later")
    console.assert_completes()
    checked = console.run("key", "check", "--json")
    (document,) = checked.documents()
    assert (checked.code, document["exit_code"]) == (0, 0)
    assert document["opened"].startswith("catalog/")
    assert document["state"]["permissions"] == "0400"


def test_what_a_directory_cannot_do_ends_with_15(console: Console) -> None:
    """Asked for by name, a policy or a lock is refused with the reason; the rest is done."""
    console.backup()
    for arguments in (["--policy"], ["--lock", "governance", "--retention-days", "9"]):
        ended = console.run("key", "protect", *arguments)
        assert ended.code == 15, ended
        assert "NOT ENFORCED: cannot be set: a directory has no" in ended.out
        assert "file: enforced" in ended.out
    required = console.run("key", "check", "--require", "versioning")
    assert required.code == 15
    assert "impossible: versioning: a directory has no versions" in required.out


def test_a_lost_key_is_put_back_from_its_copy(console: Console, tmp_path: Path) -> None:
    """Copied, deleted by somebody, noticed by the check, restored: every message is there again."""
    console.backup()
    copy = tmp_path / "contoso-key.enc"
    assert console.run("key", "export", str(copy)).code == 0
    assert console.run("key", "export", str(copy)).code == 2
    (console.bucket / "_meta" / "dek.enc").unlink()
    console.fails(12, "key", "check", says=["_meta/dek.enc is missing", "from a copy"])
    assert console.run("backup").code == 12
    restored = console.run("key", "restore", str(copy))
    assert restored.code == 0, restored
    assert "note: what `atlas key protect` did for the lost key does not cover" in restored.out
    assert console.run("key", "check").code == 0
    console.assert_completes()


@pytest.mark.parametrize("text", ["", "remember the milk\n"])
def test_a_file_that_is_no_key_is_named(console: Console, tmp_path: Path, text: str) -> None:
    """Whoever names the wrong file reads that, and nothing ill of the key in the bucket."""
    console.backup()
    (console.bucket / "_meta" / "dek.enc").unlink()
    file = tmp_path / "notes.txt"
    file.write_text(text)
    says = [f"{file} holds no wrapped key", "`atlas key export` wrote"]
    ended = console.fails(12, "key", "restore", str(file), says=says)
    assert "dek.enc" not in ended.said


def test_a_key_that_is_put_back_is_protected_again(console: Console, tmp_path: Path) -> None:
    """The protection is lost with the key; the command that is named renews it."""
    console.backup()
    file, copy = console.bucket / "_meta" / "dek.enc", tmp_path / "copy"
    assert console.run("key", "export", str(copy)).code == 0
    assert console.run("key", "protect").code == 0
    file.unlink()
    restored = console.run("key", "restore", str(copy), "--json")
    (document,) = restored.documents()
    assert "`atlas key protect` again" in document["note"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert console.run("key", "protect").code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o400


def test_nothing_to_check_without_a_backup(console: Console) -> None:
    """Before the first backup there is no bucket: 10, as for every command that reads."""
    console.fails(10, "key", "check", says=["does not exist"])
    console.fails(10, "key", "protect", says=["does not exist"])
