"""Signed reports: whose key it is, and what a change of any part does."""

from __future__ import annotations

import os
from typing import Any

import pytest

from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.signing import Signer, canonical, check_signature
from atlas_async.errors import IntegrityError

SEALER = Sealer(bytes(range(32)))
REPORT: dict[str, Any] = {
    "kind": "test",
    "passed": True,
    "text": "Grüße \ud83d",
    "n": [1, {"a": 2}],
}


def test_the_key_follows_from_the_tenants_and_tells_nothing_of_it() -> None:
    """The same tenant signs with the same key, another with another; the DEK is not in it."""
    signer = Signer(SEALER)
    assert signer.public_key == Signer(Sealer(bytes(range(32)))).public_key
    assert signer.public_key != Signer(Sealer(os.urandom(32))).public_key
    assert bytes(range(32)).hex() not in signer.public_key
    assert len(bytes.fromhex(signer.public_key)) == 32


def test_what_was_signed_proves_right_in_any_order_of_its_names() -> None:
    """A report that was parsed and written in another order is still the same."""
    signer = Signer(SEALER)
    signed = signer.sign(REPORT)
    check_signature(dict(reversed(signed.items())), signer.public_key)
    assert signer.sign(signed) == signed, "a signature is not part of what is signed"


@pytest.mark.parametrize(
    "change",
    [
        {"passed": False},
        {"more": 1},
        {"n": [1, {"a": 3}]},
        {"text": "Grüße"},
    ],
)
def test_a_change_is_noticed(change: dict[str, Any]) -> None:
    """Any field that differs, is added, or differs deep inside."""
    signer = Signer(SEALER)
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        check_signature({**signer.sign(REPORT), **change}, signer.public_key)


def test_another_key_is_named() -> None:
    """Who replaces signature and key does not get by: the key that was asked for decides."""
    forged = Signer(Sealer(os.urandom(32))).sign({**REPORT, "passed": True})
    with pytest.raises(IntegrityError, match="signed with another key") as caught:
        check_signature(forged, Signer(SEALER).public_key)
    assert forged["signature"]["public_key"] in str(caught.value)


@pytest.mark.parametrize(
    "signature",
    [
        None,
        {},
        {"algorithm": "none"},
        {"algorithm": "Ed25519"},
        {"algorithm": "Ed25519", "value": "!", "public_key": "zz"},
    ],
)
def test_what_is_no_signature_is_none(signature: object) -> None:
    """Missing, emptied, or of another algorithm."""
    key = Signer(SEALER).public_key
    with pytest.raises(IntegrityError):
        check_signature({**REPORT, "signature": signature}, key)
    with pytest.raises(IntegrityError):
        check_signature(Signer(SEALER).sign(REPORT), "not hex")


def test_what_is_signed_is_ascii_with_sorted_names() -> None:
    """The form that drill.md describes, so that others can check a signature as well."""
    assert canonical({"b": "ü", "a": [1.5, None]}) == b'{"a":[1.5,null],"b":"\\u00fc"}'
