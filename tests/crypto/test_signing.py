"""Signed reports: whose key it is, and what a change of any part does."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.signing import Signer, canonical, check_signature
from atlas_async.errors import IntegrityError, UsageError

SEALER = Sealer(bytes(range(32)))
REPORT: dict[str, Any] = {
    "kind": "test",
    "passed": True,
    "text": "Grüße \x7f \U0001f600",
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


@pytest.mark.parametrize("key", ["", "zz", "not hex", "00", "0" * 63, "é" * 64])
def test_what_is_no_key_is_a_mistake_of_the_caller(key: str) -> None:
    """It says nothing about the report."""
    with pytest.raises(UsageError, match="is no public key"):
        check_signature(Signer(SEALER).sign(REPORT), key)


@pytest.mark.parametrize(
    "change", [{"public_key": "00" * 32}, {"more": 1}, {"algorithm": "Ed448"}, {"value": ""}]
)
def test_the_signature_itself_cannot_be_changed(change: dict[str, Any]) -> None:
    """Neither the key that it names, nor anything that is added to it."""
    signer = Signer(SEALER)
    signed = signer.sign(REPORT)
    signed["signature"] |= change
    with pytest.raises(IntegrityError):
        check_signature(signed, signer.public_key)


@pytest.mark.parametrize("value", [1.5, 0.0, float("nan"), 1 << 53, -(1 << 53), b"x", (1,)])
def test_what_programs_write_in_different_ways_is_not_signed(value: object) -> None:
    """0.0 is 0 elsewhere, and a number that a float cannot hold another one."""
    with pytest.raises(TypeError, match="is not signed"):
        Signer(SEALER).sign({"a": [{"b": value}]})


def test_lone_surrogates_are_replaced() -> None:
    """No program but this one could read them."""
    signer = Signer(SEALER)
    signed = signer.sign({"a": ["x\ud83d"]})
    assert signed["a"] == ["x?"]
    check_signature(signed, signer.public_key)


JQ = ("jq", "-acjS", "del(.signature)")
NODE = (
    "node",
    "-e",
    """
    const text = require("fs").readFileSync(0, "utf8");
    const sorted = (v) => Array.isArray(v) ? v.map(sorted) : v && typeof v == "object"
      ? Object.fromEntries(Object.keys(v).sort().map((k) => [k, sorted(v[k])])) : v;
    const { signature, ...report } = JSON.parse(text);
    const escaped = (c) => "\\\\u" + c.charCodeAt(0).toString(16).padStart(4, "0");
    process.stdout.write(JSON.stringify(sorted(report)).replace(/[\\x7f-\\uffff]/g, escaped));
    """,
)


@pytest.mark.parametrize("program", [JQ, NODE], ids=["jq", "node"])
def test_other_programs_make_the_same_bytes_and_openssl_checks_them(
    program: tuple[str, ...], tmp_path: Path
) -> None:
    """As docs/drill.md shows: the report without its signature, sorted, in ASCII."""
    if not (shutil.which(program[0]) and shutil.which("openssl")):
        pytest.skip(f"{program[0]} or openssl is not here")
    signer = Signer(SEALER)
    texts = {"control": '\b\t\n\f\r\x01\x1f"\\\\/', "other": "\x80\u2028\ufeff\uffff é"}
    numbers = {"n": [0, -1, (1 << 53) - 1, 1_000_000_000_000_000], "z": {}, "y": []}
    signed = signer.sign(REPORT | texts | numbers | {"é": 1, "Z": 1, "a": {"b": None, "B": True}})
    # Written in any order and manner, as a report may be that went through other hands.
    report = json.dumps(dict(reversed(signed.items())), indent=1, ensure_ascii=False).encode()
    made = subprocess.run(program, input=report, capture_output=True, check=True).stdout
    unsigned = {name: value for name, value in signed.items() if name != "signature"}
    assert made == canonical(unsigned)
    (tmp_path / "signed").write_bytes(made)
    (tmp_path / "signature").write_bytes(base64.b64decode(signed["signature"]["value"]))
    prefix = bytes.fromhex("302a300506032b6570032100")
    (tmp_path / "key").write_bytes(prefix + bytes.fromhex(signer.public_key))
    check = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in signed -sigfile signature"
    done = subprocess.run(check.split(), cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "signed").write_bytes(made.replace(b"true", b"fals"))
    assert subprocess.run(check.split(), cwd=tmp_path, capture_output=True, check=False).returncode


def test_what_is_signed_is_ascii_with_sorted_names() -> None:
    """The form that drill.md describes, so that others can check a signature as well."""
    assert canonical({"b": "ü", "a": [1, None]}) == b'{"a":[1,null],"b":"\\u00fc"}'
