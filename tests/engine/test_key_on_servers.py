"""Protecting, losing and restoring the key on real servers, each as far as it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.clock import SystemClock
from atlas_async.config.settings import Limits, S3Settings, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import new_dek
from atlas_async.errors import KeyMaterialError, StoreAuthError
from atlas_async.operations.key_check import Protects
from atlas_async.operations.key_plan import ProtectionWish
from atlas_async.operations.key_protection import ProtectionReport
from atlas_async.sdk import Atlas
from atlas_async.store.opening import open_store
from atlas_async.store.protection import LockMode
from tests.fakes import s3_servers
from tests.fakes.bodies import md5_of
from tests.fakes.buckets import s3_client
from tests.fakes.keyed import MANIFEST, PASSPHRASE, TENANT, wrapped

pytestmark = pytest.mark.real_server
LOCKED = ProtectionWish(policy=True, mode=LockMode.GOVERNANCE, retention_days=90)
NAME = f"atlas-{TENANT}"


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Settings]:
    """Run the server that the test names."""
    if request.param == "minio" and s3_servers.minio_path() is None:
        pytest.skip("MinIO not found: not run")
    with getattr(s3_servers, request.param)(tmp_path) as settings:
        yield settings


@asynccontextmanager
async def engine(settings: S3Settings, *, lock: bool = True) -> AsyncIterator[Atlas]:
    """Make a bucket with a key and a manifest, and open an engine over it."""
    if lock:
        async with s3_client(settings) as client:
            await client.create_bucket(Bucket=NAME, ObjectLockEnabledForBucket=True)
    dek = new_dek()
    async with open_store(settings, NAME, limits=Limits(), clock=SystemClock()) as store:
        await store.open_bucket(create=True)
        for key, body in ((DEK_KEY, wrapped(dek)), (MANIFEST, Sealer(dek).seal(b"{}").body)):
            await store.put(key, body, md5=md5_of(body))
    chosen = Settings(graph=None, storage=settings, tenant_id=TENANT, passphrase=PASSPHRASE)
    async with Atlas(chosen) as atlas:
        yield atlas


async def protect(atlas: Atlas, wish: ProtectionWish = LOCKED) -> ProtectionReport:
    """Plan and do."""
    return await atlas.protect_key(await atlas.plan_key_protection(wish))


async def remove_key(settings: S3Settings) -> None:
    """Delete the key as somebody with the right to would."""
    async with s3_client(settings) as client:
        await client.delete_object(Bucket=NAME, Key=DEK_KEY)


@pytest.mark.parametrize("server", ["moto"], indirect=True)
async def test_where_policies_bind_everything_is_enforced(server: S3Settings) -> None:
    """Policy and lock hold, the check is content, and neither we nor others can write the key."""
    async with engine(server) as atlas:
        report = await protect(atlas)
        assert [r.enforced for r in report.results] == [True, True], report.results
        assert report.exit_code == 0
        checked = await atlas.check_key(require=list(Protects), min_days=80)
        assert (checked.exit_code, checked.days_left) == (0, 89)
        again = await protect(atlas)
        assert [(r.done, r.enforced) for r in again.results if r.kind == "policy"] == [
            (False, True)
        ]
        store = atlas._opened.store
        with pytest.raises(StoreAuthError):
            await store.put(DEK_KEY, b"other", md5=md5_of(b"other"))
        with pytest.raises(StoreAuthError):
            await store.delete(DEK_KEY)
        await store.put("data/a@b.c/0", b"mail", md5=md5_of(b"mail"))
        await store.delete("data/a@b.c/0")
        removed = await protect(atlas, ProtectionWish(remove=True))
        assert removed.exit_code == 0
        assert removed.state.policy == ""
        assert removed.state.retention is not None


@pytest.mark.parametrize("server", ["minio"], indirect=True)
async def test_where_policies_do_not_bind_that_is_said(server: S3Settings) -> None:
    """MinIO keeps a bucket's policy and minds it for strangers only: 15, and the lock holds."""
    async with engine(server) as atlas:
        report = await protect(atlas)
        policy, lock = report.results
        assert (policy.done, policy.enforced) == (True, False)
        assert "let these credentials delete" in policy.text
        assert lock.enforced
        assert report.exit_code == 15
        checked = await atlas.check_key(require=[Protects.LOCK, Protects.VERSIONING])
        assert checked.exit_code == 0


@pytest.mark.parametrize("server", ["minio"], indirect=True)
async def test_a_deleted_key_comes_back_from_its_version(
    server: S3Settings, tmp_path: Path
) -> None:
    """The check names the version that a deletion hides; restoring it makes the check content."""
    async with engine(server) as atlas:
        await protect(atlas, ProtectionWish(policy=False, legal_hold=True))
        newest = (await atlas.check_key()).state.newest
        assert newest is not None
        await remove_key(server)
        with pytest.raises(KeyMaterialError) as caught:
            await atlas.check_key()
        assert f"atlas key restore --version {newest.version_id}" in caught.value.hint
        assert (await atlas.restore_key(version_id=newest.version_id)).changed
        checked = await atlas.check_key(require=[Protects.VERSIONING])
        assert (checked.exit_code, checked.opened) == (0, MANIFEST)


@pytest.mark.parametrize("server", ["rclone"], indirect=True)
async def test_where_there_is_nothing_nothing_is_broken(server: S3Settings) -> None:
    """``rclone serve s3`` has none of it: 15 with the reasons, and the key is as it was."""
    async with engine(server, lock=False) as atlas:
        before = (await atlas._opened.store.get(DEK_KEY)).body
        wishes: list[Any] = [LOCKED, ProtectionWish(), ProtectionWish(policy=True, legal_hold=True)]
        for wish in wishes:
            report = await protect(atlas, wish)
            assert report.exit_code == 15
            assert not any(result.done or result.enforced for result in report.results)
            assert all("cannot be set: " in result.text for result in report.results)
        assert (await protect(atlas, ProtectionWish(remove=True))).exit_code == 0
        assert (await atlas._opened.store.get(DEK_KEY)).body == before
        assert (await atlas.check_key()).exit_code == 0
        assert (await atlas.check_key(require=[Protects.POLICY])).exit_code == 15
