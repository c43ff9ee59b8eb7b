"""The wrapped data key: both generations, every truncation, hostile parameters."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.config.secret import Secret
from atlas_async.crypto.keyring import (
    ScryptCost,
    new_dek,
    unwrap_dek,
    wrap_dek,
    wrapped_version,
)
from atlas_async.errors import KeyMaterialError

TENANT = "11111111-2222-3333-4444-555555555555"
PASSPHRASE = Secret("pass phrase with ümlaut 🔑")
CHEAP = ScryptCost(n=1 << 14)
DEK = bytes(range(32))


@pytest.fixture(scope="module")
def v0() -> bytes:
    """Give a key wrapped the older way."""
    return wrap_dek(DEK, PASSPHRASE, TENANT, version=0)


@pytest.fixture(scope="module")
def v1() -> bytes:
    """Give a key wrapped the newer way, with the cheapest parameters that are taken."""
    return wrap_dek(DEK, PASSPHRASE, TENANT, cost=CHEAP)


@pytest.fixture
def no_derivation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when a key is derived at all."""

    def derive(*_: object, **__: object) -> bytes:
        pytest.fail("a key was derived")

    monkeypatch.setattr(hashlib, "scrypt", derive)


def v1_blob(n: int, r: int, p: int) -> bytes:
    """Return a v1 blob that asks for the given scrypt parameters."""
    return struct.pack(">BBHIBB", 1, 1, 38, n, r, p) + bytes(32 + 60)


@settings(max_examples=3)
@given(
    st.binary(min_size=32, max_size=32),
    st.text(min_size=1, max_size=40),
    st.text(min_size=1, max_size=40),
    st.sampled_from([0, 1]),
)
def test_a_wrapped_key_opens_to_itself(
    dek: bytes, passphrase: str, tenant: str, version: int
) -> None:
    """Any passphrase and tenant id that are Unicode text work, in both generations."""
    blob = wrap_dek(dek, Secret(passphrase), tenant, version=version, cost=CHEAP)
    assert wrapped_version(blob) == version
    assert len(blob) == (60, 102)[version]
    assert unwrap_dek(blob, Secret(passphrase), tenant) == dek


def test_v0_is_what_older_atlases_read(v0: bytes) -> None:
    """A v0 blob is IV, tag, ciphertext under scrypt(passphrase, tenant id, 16384, 8, 1)."""
    passphrase = PASSPHRASE.reveal().encode()
    kek = hashlib.scrypt(passphrase, salt=TENANT.encode(), n=16384, r=8, p=1, dklen=32)
    assert AESGCM(kek).decrypt(v0[:12], v0[28:] + v0[12:28], None) == DEK


def test_v1_binds_its_header_and_its_tenant(v1: bytes) -> None:
    """The 42 bytes before the IV are authenticated, and the KEK's salt holds the tenant id."""
    assert v1[:4] == b"\x01\x01\x00\x26"
    assert struct.unpack(">IBB", v1[4:10]) == (1 << 14, 8, 1)
    salt = struct.pack(">H", len(TENANT)) + TENANT.encode() + v1[10:42]
    passphrase = PASSPHRASE.reveal().encode()
    kek = hashlib.scrypt(passphrase, salt=salt, n=16384, r=8, p=1, dklen=32)
    assert AESGCM(kek).decrypt(v1[42:54], v1[70:] + v1[54:70], v1[:42]) == DEK


def test_the_default_is_v1_with_the_cost_that_atlas_writes() -> None:
    """Without a choice a key is wrapped with N=65536, r=8, p=1 and a salt of its own."""
    one, other = (wrap_dek(DEK, PASSPHRASE, TENANT) for _ in range(2))
    assert wrapped_version(one) == 1
    assert struct.unpack(">IBB", one[4:10]) == (65536, 8, 1)
    assert one[10:42] != other[10:42]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(("passphrase", "tenant"), [("wrong", TENANT), ("right", "another")])
def test_a_wrong_passphrase_or_tenant_is_told_as_such(
    version: int, passphrase: str, tenant: str
) -> None:
    """Exit code 12, a hint that names the setting, and no secret in any text."""
    blob = wrap_dek(DEK, Secret("right"), TENANT, version=version, cost=CHEAP)
    with pytest.raises(KeyMaterialError, match="passphrase does not open") as caught:
        unwrap_dek(blob, Secret(passphrase), tenant)
    assert caught.value.exit_code == 12
    assert "ATLAS_ENCRYPTION_PASSPHRASE" in caught.value.hint
    assert "right" not in caught.value.message


@pytest.mark.usefixtures("no_derivation")
def test_every_truncation_of_v1_is_damage(v1: bytes) -> None:
    """No prefix is taken for a key, and nothing is derived for it."""
    for length in range(len(v1)):
        if length == 60:
            continue
        with pytest.raises(KeyMaterialError, match=f"{length} bytes"):
            unwrap_dek(v1[:length], PASSPHRASE, TENANT)


def test_sixty_bytes_of_v1_do_not_open_as_v0(v1: bytes) -> None:
    """The one truncation that has v0's length fails authentication."""
    with pytest.raises(KeyMaterialError):
        unwrap_dek(v1[:60], PASSPHRASE, TENANT)


@pytest.mark.usefixtures("no_derivation")
def test_every_truncation_of_v0_is_damage(v0: bytes) -> None:
    """No prefix of the older form is taken for a key either."""
    for length in range(len(v0)):
        with pytest.raises(KeyMaterialError, match="damaged"):
            unwrap_dek(v0[:length], PASSPHRASE, TENANT)


@pytest.mark.usefixtures("no_derivation")
@given(st.binary(max_size=300).filter(lambda blob: len(blob) not in {60, 102}))
def test_bytes_of_no_known_form_are_damage(blob: bytes) -> None:
    """Whatever lies at the key's place, the error is typed and says what to do."""
    with pytest.raises(KeyMaterialError) as caught:
        unwrap_dek(blob, PASSPHRASE, TENANT)
    assert "restore" in caught.value.hint


@pytest.mark.usefixtures("no_derivation")
@pytest.mark.parametrize(
    ("n", "r", "p"),
    [
        (0, 8, 1),
        (1, 8, 1),
        (1 << 13, 8, 1),
        ((1 << 16) + 1, 8, 1),
        (3 << 15, 8, 1),
        (1 << 21, 8, 1),
        (1 << 31, 8, 1),
        (0xFFFFFFFF, 255, 255),
        (1 << 20, 9, 1),
        (1 << 20, 255, 1),
        (1 << 16, 129, 1),
        (1 << 16, 0, 1),
        (1 << 16, 8, 0),
        (1 << 16, 8, 17),
        (1 << 16, 8, 255),
    ],
)
def test_hostile_parameters_are_refused_before_anything_is_derived(n: int, r: int, p: int) -> None:
    """A blob cannot make its reader spend memory or hours, nor weaken the derivation."""
    with pytest.raises(KeyMaterialError, match="refused scrypt parameters"):
        unwrap_dek(v1_blob(n, r, p), PASSPHRASE, TENANT)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255))
def test_parameters_that_are_taken_stay_within_the_bounds(n: int, r: int, p: int) -> None:
    """What is accepted needs at most 1 GiB and is at least as strong as v0."""
    if not ScryptCost(n, r, p).problem():
        assert 1 << 14 <= n <= 1 << 20
        assert n.bit_count() == 1
        assert 0 < 128 * n * r <= 1 << 30
        assert 1 <= p <= 16


@pytest.mark.parametrize("cost", [ScryptCost(), ScryptCost(1 << 14, 8, 16), ScryptCost(1 << 20)])
def test_parameters_that_atlas_may_write_are_taken(cost: ScryptCost) -> None:
    """The bounds include the defaults and stronger choices."""
    assert cost.problem() == ""


@pytest.mark.parametrize("offset", [10, 41, 42, 53, 54, 70, 101])
def test_a_changed_byte_is_found(v1: bytes, offset: int) -> None:
    """Salt, IV, tag and ciphertext are all authenticated."""
    blob = bytearray(v1)
    blob[offset] ^= 1
    with pytest.raises(KeyMaterialError):
        unwrap_dek(bytes(blob), PASSPHRASE, TENANT)


def test_parameters_changed_to_other_good_ones_are_found(v1: bytes) -> None:
    """The header is associated data: a doubled cost derives another key and is refused."""
    blob = v1[:4] + struct.pack(">I", 1 << 15) + v1[8:]
    with pytest.raises(KeyMaterialError, match="does not open"):
        unwrap_dek(blob, PASSPHRASE, TENANT)


@pytest.mark.parametrize("version", [-1, 2, 255])
def test_an_unknown_version_is_not_written(version: int) -> None:
    """Only the two known generations can be asked for."""
    with pytest.raises(ValueError, match="no such version"):
        wrap_dek(DEK, PASSPHRASE, TENANT, version=version)


def test_a_cost_that_would_be_refused_is_not_written() -> None:
    """Nobody can wrap a key that this program would not open again."""
    with pytest.raises(ValueError, match="power of two"):
        wrap_dek(DEK, PASSPHRASE, TENANT, cost=ScryptCost(n=1 << 13))


def test_new_keys_are_random_and_long_enough() -> None:
    """Every new key is 32 bytes and its own."""
    keys = {new_dek() for _ in range(100)}
    assert (len(keys), {len(key) for key in keys}) == (100, {32})
