"""Checking the key: what is an error, what is amiss, and what counts of it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.config.secret import Secret
from atlas_async.crypto.keyring import new_dek
from atlas_async.errors import KeyMaterialError, SnapshotNotFound
from atlas_async.operations import key_policy
from atlas_async.operations.key_check import KeyCheck, Protects, Weight
from atlas_async.operations.key_plan import ProtectionWish
from atlas_async.store.protection import LockMode, Retention, Unknown
from tests.fakes.keyed import MANIFEST, Keyed, keyed, wrapped
from tests.fakes.protection import DELETION, NEWEST, OLDER, state

LACKING = Unknown("a directory has no such thing", lacking=True)
DENIED = Unknown("these credentials lack it", lacking=False)


async def check(
    tenant: Keyed, require: Collection[Protects] = (), min_days: int | None = None
) -> KeyCheck:
    """Check the key of a tenant."""
    async with tenant.engine() as atlas:
        return await atlas.check_key(require=require, min_days=min_days)


def locked(days: float) -> Retention:
    """Return a lock that ends in so many days."""
    return Retention(LockMode.GOVERNANCE, datetime.now(UTC) + timedelta(days=days))


async def test_a_good_key_is_proved_by_what_it_opens() -> None:
    """The key opens with the passphrase and opens what a run wrote; nothing else is asked."""
    tenant = await keyed()
    found = await check(tenant)
    assert (found.opened, found.size, found.version) == (MANIFEST, 60, 0)
    assert found.exit_code == 0
    assert tenant.protection.done == []


async def test_a_key_that_opens_nothing_is_another_key() -> None:
    """It unwraps, and is not the one the backups were sealed with: 12, not a word of success."""
    tenant = await keyed()
    await tenant.put(DEK_KEY, wrapped(new_dek()))
    with pytest.raises(KeyMaterialError, match="opens none of 1 objects") as caught:
        await check(tenant)
    assert "atlas key restore" in caught.value.hint


async def test_one_damaged_object_does_not_condemn_the_key() -> None:
    """When another object opens, the key is right and the damaged one is named."""
    tenant = await keyed()
    await tenant.put_sealed("manifests/aaa@contoso.com/s1.json", new_dek())
    found = await check(tenant)
    assert found.opened == MANIFEST
    assert [(f.about, f.weight) for f in found.findings if f.about == "sample"] == [
        ("sample", Weight.NOTE)
    ]
    assert "aaa@contoso.com" in found.findings[0].text


@pytest.mark.parametrize("where", ["catalog/ann@contoso.com/head", "data/ann@contoso.com/00"])
async def test_heads_and_contents_prove_a_key_too(where: str) -> None:
    """A head is tried before the manifest; without any, what was stored so far."""
    tenant = await keyed()
    await tenant.put_sealed(where)
    if where.startswith("data/"):
        await tenant.store.delete(MANIFEST)
    assert (await check(tenant)).opened == where


async def test_a_new_bucket_has_nothing_to_open() -> None:
    """A key without any object is good; a bucket without either was never backed up into: 10."""
    tenant = await keyed()
    await tenant.store.delete(MANIFEST)
    assert (await check(tenant)).opened == ""
    await tenant.take_key()
    with pytest.raises(SnapshotNotFound):
        await check(tenant)


@pytest.mark.parametrize("blob", [b"", b"x" * 59, b"x" * 5000])
async def test_a_damaged_key_is_an_error(blob: bytes) -> None:
    """Truncated, of no form, or far too large: 12."""
    tenant = await keyed()
    await tenant.put(DEK_KEY, blob)
    with pytest.raises(KeyMaterialError):
        await check(tenant)


async def test_a_wrong_passphrase_is_an_error() -> None:
    """It is told as such, without either passphrase."""
    tenant = await keyed()
    tenant.passphrase = Secret("mistyped")
    with pytest.raises(KeyMaterialError, match="passphrase") as caught:
        await check(tenant)
    assert "mistyped" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("data", [True, False])
async def test_a_deleted_key_is_named_with_the_version_to_restore(data: bool) -> None:
    """The newest version is a deletion: which version is there, and how it is put back."""
    tenant = await keyed()
    await tenant.take_key()
    if not data:
        await tenant.store.delete(MANIFEST)
    tenant.protection.state = state(versions=(DELETION, OLDER))
    with pytest.raises(KeyMaterialError) as caught:
        await check(tenant)
    assert "it was deleted on 2026-11-21" in caught.value.hint
    assert "version v1 of 2026-11-21 12:00:00Z (60 bytes)" in caught.value.hint
    assert "atlas key restore --version v1" in caught.value.hint


async def test_a_missing_key_without_versions_says_to_use_a_copy() -> None:
    """Where the bucket keeps no versions only a copy helps."""
    tenant = await keyed()
    await tenant.take_key()
    tenant.protection.state = state(versions=())
    with pytest.raises(KeyMaterialError, match="is missing") as caught:
        await check(tenant)
    assert "from a copy" in caught.value.hint
    assert "--version" not in caught.value.hint


async def test_a_replaced_key_is_named_with_its_older_versions() -> None:
    """Another key on top of the right one: the older version is named."""
    tenant = await keyed()
    await tenant.put(DEK_KEY, wrapped(new_dek()))
    tenant.protection.state = state(versions=(NEWEST, OLDER))
    with pytest.raises(KeyMaterialError) as caught:
        await check(tenant)
    assert "it has older versions: version v1" in caught.value.hint


@pytest.mark.parametrize(
    ("required", "changes", "code"),
    [
        ([], {"versioning": False}, 0),
        (["versioning"], {"versioning": False}, 3),
        (["versioning"], {"versioning": True}, 0),
        (["versioning"], {"versioning": DENIED}, 3),
        (["versioning"], {"versioning": LACKING}, 15),
        (["policy"], {}, 3),
        (["policy"], {"policy": DENIED}, 3),
        (["policy"], {"policy": LACKING}, 15),
        (["lock"], {}, 3),
        (["lock"], {"retention": locked(40)}, 0),
        (["lock"], {"retention": locked(20)}, 3),
        (["lock"], {"retention": locked(-1)}, 3),
        ([], {"retention": locked(20)}, 0),
        (["lock"], {"legal_hold": True}, 0),
        (["lock"], {"retention": DENIED}, 3),
        (["lock"], {"object_lock": False, "retention": LACKING}, 15),
        (["lock"], {"object_lock": LACKING, "retention": LACKING}, 15),
        ([], {"expiry": ("old: 30 days",)}, 3),
        ([], {"permissions": 0o644}, 0),
    ],
)
async def test_what_is_amiss_counts_when_it_is_required(
    required: list[str], changes: dict[str, Any], code: int
) -> None:
    """3 for missing, running out or unknown; 15 for what the store cannot have; else a note.

    A rule that deletes the key counts always.
    """
    tenant = await keyed()
    tenant.protection.state = state(**changes)
    found = await check(tenant, [Protects(name) for name in required])
    assert found.exit_code == code
    assert found.findings or changes == {"versioning": True}


async def test_the_threshold_of_a_lock_is_the_callers() -> None:
    """``min_days`` says when a lock runs out; the days left are told."""
    tenant = await keyed()
    tenant.protection.state = state(retention=locked(20.5))
    found = await check(tenant, [Protects.LOCK], min_days=10)
    assert (found.days_left, found.exit_code) == (20, 0)
    late = await check(tenant, [Protects.LOCK], min_days=21)
    assert late.exit_code == 3
    assert any("ends in 20 days" in finding.text for finding in late.findings)


async def test_after_protecting_everything_required_is_there() -> None:
    """What ``protect`` sets is what ``check`` asks for."""
    tenant = await keyed()
    async with tenant.engine() as atlas:
        wish = ProtectionWish(mode=LockMode.GOVERNANCE, retention_days=90)
        await atlas.protect_key(await atlas.plan_key_protection(wish))
    found = await check(tenant, list(Protects))
    assert (found.policy, found.exit_code, found.findings) == (True, 0, ())
    assert key_policy.holds_any_of_ours(str(found.state.policy))
