"""The layout of a sealed object, and what happens to one that was changed."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.crypto.envelope import OVERHEAD_BYTES, Sealer, sha256_hex
from atlas_async.errors import IntegrityError

DEK = bytes(range(32))
SEALER = Sealer(DEK)


@given(st.binary(max_size=2000))
def test_what_was_sealed_opens_to_itself(plaintext: bytes) -> None:
    """Opening gives the plaintext back; the MD5 is of the sealed bytes, 28 more than the plain."""
    sealed = SEALER.seal(plaintext)
    assert SEALER.open(sealed.body) == plaintext
    assert sealed.md5 == hashlib.md5(sealed.body, usedforsecurity=False).digest()
    assert len(sealed.body) == len(plaintext) + OVERHEAD_BYTES


@given(st.binary(max_size=200))
def test_the_layout_is_iv_tag_ciphertext(plaintext: bytes) -> None:
    """The tag stands before the ciphertext, AES-256-GCM without associated data."""
    body = SEALER.seal(plaintext).body
    iv, tag, ciphertext = body[:12], body[12:28], body[28:]
    assert AESGCM(DEK).decrypt(iv, ciphertext + tag, None) == plaintext


@given(st.binary(max_size=200), st.data())
def test_a_single_flipped_bit_anywhere_is_found(plaintext: bytes, data: st.DataObject) -> None:
    """IV, tag and ciphertext are all authenticated."""
    body = bytearray(SEALER.seal(plaintext).body)
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError, match="authentication"):
        SEALER.open(bytes(body))


def test_every_truncation_is_found() -> None:
    """No prefix of a sealed object opens, and the error names the place and exit code 16."""
    body = SEALER.seal(b"thirty-two bytes of plain text!!").body
    for length in range(len(body)):
        with pytest.raises(IntegrityError) as caught:
            SEALER.open(body[:length], where="data/x/y")
        assert (caught.value.where, caught.value.exit_code) == ("data/x/y", 16)


@given(st.binary(max_size=100), st.binary(min_size=1, max_size=40))
def test_bytes_appended_are_found(plaintext: bytes, more: bytes) -> None:
    """A sealed object with something behind it does not open."""
    with pytest.raises(IntegrityError):
        SEALER.open(SEALER.seal(plaintext).body + more)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_do_not_open(body: bytes) -> None:
    """What was never sealed is refused with the same error, whatever its length."""
    with pytest.raises(IntegrityError):
        SEALER.open(body)


def test_another_key_does_not_open_it() -> None:
    """An object sealed under another tenant's key fails authentication."""
    with pytest.raises(IntegrityError):
        Sealer(bytes(32)).open(SEALER.seal(b"secret").body)


def test_equal_plaintexts_are_sealed_differently() -> None:
    """Every seal takes its own IV."""
    bodies = {SEALER.seal(b"same").body for _ in range(50)}
    assert len({body[:12] for body in bodies}) == 50


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    """Only 32-byte keys are taken: no AES-128 by accident."""
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(bytes(length))


def test_a_sealer_does_not_show_its_key() -> None:
    """Neither ``repr`` nor ``str`` holds key bytes in any notation."""
    shown = f"{SEALER!r} {SEALER!s}"
    assert DEK.hex() not in shown
    assert repr(DEK) not in shown


def test_hashes_are_lower_case_hex() -> None:
    """The names of objects are lower-case SHA-256."""
    assert sha256_hex(b"abc") == hashlib.sha256(b"abc").hexdigest()
