"""Passphrases that are wrong and wrapped keys that are damaged: refused before anything happens."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.badday.console import Console
from tests.badday.office import Office

READING = ("list", "verify")


def v1_blob(n: int, r: int, p: int) -> bytes:
    """Return a wrapped key of version 1 that asks for these scrypt parameters."""
    params = struct.pack(">IBB32s", n, r, p, bytes(32))
    return struct.pack(">BBH", 1, 1, len(params)) + params + bytes(60)


def assert_refused(
    console: Console, office: Office, said: str, verbs: tuple[str, ...] = ("backup", *READING)
) -> None:
    """Assert that commands end with 12, having changed nothing and asked nothing of Graph."""
    files, requests = console.files(), office.requests()
    for verb in verbs:
        console.fails(12, verb, says=[said])
    assert console.files() == files
    assert office.requests() == requests


def test_wrong_passphrase(console: Console, office: Office) -> None:
    """A wrong passphrase ends with 12 before anything is written or asked of Graph."""
    first = str(console.backup()["snapshot_id"])
    right = console.secrets[0]
    console.secrets.append("not-the-passphrase")
    console.set(ATLAS_ENCRYPTION_PASSPHRASE="not-the-passphrase")
    assert_refused(console, office, "ATLAS_ENCRYPTION_PASSPHRASE")
    console.set(ATLAS_ENCRYPTION_PASSPHRASE=right)
    console.assert_recovers(first)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda good: good[:30], "is damaged: 30 bytes"),
        (lambda _: b"", "is damaged: 0 bytes"),
        (lambda good: good[:-1] + bytes([good[-1] ^ 1]), "_meta/dek.enc was changed"),
        (lambda _: bytes(5000), "is damaged: it has more than 4096 bytes"),
        (lambda _: v1_blob(1 << 31, 8, 1), "refused scrypt parameters: N=2147483648"),
        (lambda _: v1_blob(3 << 15, 8, 1), "is not a power of two"),
        (lambda _: v1_blob(1 << 20, 255, 1), "would need more than 1 GiB of memory"),
        (lambda _: v1_blob(1 << 14, 8, 255), "p=255 is not from 1 to 16"),
        (lambda _: v1_blob(2, 1, 1), "N=2 is not a power of two from 16384"),
    ],
    ids=["cut", "empty", "flipped", "long", "huge-n", "odd-n", "huge-r", "huge-p", "weak"],
)
def test_a_damaged_wrapped_key(
    console: Console, office: Office, change: Callable[[bytes], bytes], said: str
) -> None:
    """A damaged or hostile _meta/dek.enc is refused with 12; put back, all is as it was."""
    first = str(console.backup()["snapshot_id"])
    path = console.bucket / "_meta" / "dek.enc"
    good = path.read_bytes()
    path.write_bytes(change(good))
    assert_refused(console, office, said, ("backup", "list"))
    path.write_bytes(good)
    console.assert_recovers(first)


def test_a_missing_wrapped_key(console: Console, office: Office) -> None:
    """Where backups are but no key is, none is made: that would orphan them."""
    first = str(console.backup()["snapshot_id"])
    path = console.bucket / "_meta" / "dek.enc"
    good = path.read_bytes()
    path.unlink()
    assert_refused(console, office, "restore _meta/dek.enc")
    assert not path.exists()
    path.write_bytes(good)
    console.assert_recovers(first)
