"""The S3 policies printed in the documentation: each suffices for its role, and permits no more.

They are given to temporary credentials of MinIO, which enforces them.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atlas_async import RestoreWish, Selection
from atlas_async.catalog.layout import DEK_KEY
from atlas_async.config.settings import S3Settings
from atlas_async.model.restoring import Step
from atlas_async.operations.key_check import Protects
from atlas_async.operations.key_plan import ProtectionWish
from atlas_async.store.protection import LockMode
from tests.fakes import s3_servers
from tests.fakes.buckets import s3_client
from tests.fakes.rig import USER
from tests.fakes.yard import FOUR, Yard, open_yard

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
TINY = replace(FOUR, mailboxes=1, messages=12, folders=3)
pytestmark = pytest.mark.real_server


def policy_of(role: str, bucket: str) -> str:
    """Return the policy of a role as the page prints it, for a bucket."""
    found = re.search(
        rf"^\*\*{role}\*\*.*?```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found, role
    text = found[1].replace("atlas-TENANT", bucket)
    json.loads(text)
    return text


@pytest.fixture
def minio(tmp_path: Path) -> Iterator[S3Settings]:
    """Run MinIO, where there is one."""
    if s3_servers.minio_path() is None:
        pytest.skip("MinIO not found: not run")
    with s3_servers.minio(tmp_path) as settings:
        yield settings


@asynccontextmanager
async def yard_over(minio: S3Settings, path: Path) -> AsyncIterator[Yard]:
    """Open a yard whose bucket is made already, with Object Lock."""
    async with open_yard(path, TINY, storage=minio) as yard:
        async with s3_client(minio) as owner:
            await owner.create_bucket(Bucket=yard.settings.bucket, ObjectLockEnabledForBucket=True)
        yield yard


@pytest.fixture
def become(minio: S3Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Any]]:
    """Return a function that takes on a role: settings and environment are then the role's."""

    async def take(role: str, yard: Yard) -> S3Settings:
        async with s3_client(minio, service="sts") as desk:
            given = await desk.assume_role(
                RoleArn="arn:aws:iam::000000000000:role/any",
                RoleSessionName="role",
                Policy=policy_of(role, yard.settings.bucket),
            )
        keys = given["Credentials"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
        own = S3Settings(minio.endpoint, minio.region)
        yard.settings = replace(yard.settings, storage=own)
        return own

    return take


@asynccontextmanager
async def client_of_the_environment(settings: S3Settings) -> AsyncIterator[Any]:
    """Open a plain client with the role's credentials."""
    from aiobotocore.session import AioSession

    async with AioSession().create_client(
        "s3", region_name=settings.region, endpoint_url=settings.endpoint
    ) as client:
        yield client


async def refused(call: Awaitable[Any]) -> None:
    """Assert that the server denies a request."""
    with pytest.raises(Exception, match="AccessDenied"):
        await call


async def test_a_writer_needs_no_right_to_delete(
    minio: S3Settings, become: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """First and later backups, a forced one and verify are complete without s3:DeleteObject."""
    async with yard_over(minio, tmp_path / "yard") as yard:
        role = await become("Backup writer", yard)
        async with yard.engine() as atlas:
            assert (await atlas.backup([USER])).exit_code == 0
            yard.emulator.control.mutate(USER, {"op": "create", "folder": "inbox", "subject": "x"})
            report = await atlas.backup([USER])
            assert (report.exit_code, report.mailboxes[0].stored) == (0, 1)
            assert (await atlas.backup([USER], full=True)).exit_code == 0
            assert (await atlas.verify()).exit_code == 0
        bucket = yard.settings.bucket
        async with client_of_the_environment(role) as client:
            await refused(client.delete_object(Bucket=bucket, Key=DEK_KEY))
            versions = await s3_versions(minio, bucket)
            await refused(client.delete_object(Bucket=bucket, Key=DEK_KEY, VersionId=versions[0]))
            await refused(client.put_object(Bucket="atlas-other", Key="x", Body=b""))
            await refused(client.get_bucket_policy(Bucket=bucket))


async def s3_versions(owner: S3Settings, bucket: str) -> list[str]:
    """Return the versions of the key, as the owner sees them."""
    async with s3_client(owner) as client:
        found = await client.list_object_versions(Bucket=bucket, Prefix=DEK_KEY)
    return [version["VersionId"] for version in found["Versions"]]


async def test_a_reader_reads_and_writes_nothing(
    minio: S3Settings, become: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """List, read, verify, check and export the key; not a byte can be written."""
    async with yard_over(minio, tmp_path / "yard") as yard:
        async with yard.engine() as atlas:
            assert (await atlas.backup([USER])).exit_code == 0
        role = await become("Reader", yard)
        async with yard.engine() as atlas:
            assert len(await atlas.list_mailboxes()) == 1
            view = await atlas.open_snapshot(mailbox=USER)
            records = [record async for record in view.messages()]
            await atlas.read_message(records[0]["object_id"], mailbox=USER)
            assert (await atlas.verify()).exit_code == 0
            assert (await atlas.check_key()).exit_code == 0
            await atlas.export_key(tmp_path / "key.enc")
        bucket = yard.settings.bucket
        async with client_of_the_environment(role) as client:
            await refused(client.put_object(Bucket=bucket, Key="data/x", Body=b""))
            await refused(client.delete_object(Bucket=bucket, Key=DEK_KEY))


async def test_a_restorer_restores_and_changes_no_backup(
    minio: S3Settings, become: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """Restore, restore again, take back, drill; below journals alone anything can be written."""
    async with yard_over(minio, tmp_path / "yard") as yard:
        async with yard.engine() as atlas:
            assert (await atlas.backup([USER])).exit_code == 0
        role = await become("Restorer", yard)
        wish = RestoreWish(Selection(mailbox=USER))
        async with yard.engine() as atlas:
            (report,) = await atlas.restore([wish])
            assert (report.exit_code, report.error) == (0, "")
            assert report.total(Step.CREATE) == TINY.messages
            (again,) = await atlas.restore([wish])
            assert (again.exit_code, again.total(Step.ALREADY)) == (0, TINY.messages)
            undone = await atlas.undo_restore(USER, report.job_id)
            assert (undone.exit_code, undone.removed) == (0, TINY.messages)
            assert (await atlas.drill([USER])).exit_code == 0
        bucket = yard.settings.bucket
        async with client_of_the_environment(role) as client:
            for key in ("data/x", f"catalog/{USER}/head", f"manifests/{USER}/x.json", DEK_KEY):
                await refused(client.put_object(Bucket=bucket, Key=key, Body=b""))
            await refused(client.delete_object(Bucket=bucket, Key=DEK_KEY))


async def test_a_protector_protects_and_reads_no_mail(
    minio: S3Settings, become: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """Plan, policy, lock, hold, check with everything required, removal; mail stays closed."""
    async with yard_over(minio, tmp_path / "yard") as yard:
        async with yard.engine() as atlas:
            assert (await atlas.backup([USER])).exit_code == 0
        role = await become("Key protector", yard)
        wish = ProtectionWish(True, LockMode.GOVERNANCE, 90, legal_hold=True)
        async with yard.engine() as atlas:
            report = await atlas.protect_key(await atlas.plan_key_protection(wish))
            assert [r.done for r in report.results] == [True] * 3, report.results
            assert report.exit_code == 0, report.results
            assert "was not tried" in report.results[0].text
            checked = await atlas.check_key(require=list(Protects))
            assert checked.exit_code == 0, checked.findings
            removed = await atlas.protect_key(
                await atlas.plan_key_protection(ProtectionWish(remove=True))
            )
            assert removed.exit_code == 0, removed.results
        bucket = yard.settings.bucket
        async with client_of_the_environment(role) as client:
            page = await client.list_objects_v2(Bucket=bucket, Prefix="data/", MaxKeys=1)
            await refused(client.get_object(Bucket=bucket, Key=page["Contents"][0]["Key"]))
            await refused(client.put_object(Bucket=bucket, Key=DEK_KEY, Body=b""))
            await refused(client.delete_object(Bucket=bucket, Key=DEK_KEY))


async def test_a_pruner_removes_what_nobody_names_and_nothing_else(
    minio: S3Settings, become: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """An orphan goes; manifests and the key cannot be deleted, and everything verifies."""
    async with yard_over(minio, tmp_path / "yard") as yard:
        async with yard.engine() as atlas:
            assert (await atlas.backup([USER])).exit_code == 0
        bucket, orphan = yard.settings.bucket, f"data/{USER}/{'0' * 64}"
        async with s3_client(minio) as owner:
            await owner.put_object(Bucket=bucket, Key=orphan, Body=b"left behind")
        role = await become("Pruner", yard)
        async with yard.engine() as atlas:
            pruned = await atlas.prune(older_than=0.0)
            assert orphan in pruned.mailboxes[0].keys
            assert pruned.mailboxes[0].kept == 0
            assert (await atlas.verify()).exit_code == 0
        async with client_of_the_environment(role) as client:
            await refused(client.delete_object(Bucket=bucket, Key=DEK_KEY))
            listed = await client.list_objects_v2(Bucket=bucket, Prefix="manifests/")
            manifest = listed["Contents"][0]["Key"]
            await refused(client.delete_object(Bucket=bucket, Key=manifest))
            gone = await client.list_objects_v2(Bucket=bucket, Prefix=orphan)
            assert not gone.get("Contents")


async def test_a_scheduler_without_rights_is_told_what_it_cannot_see(
    minio: S3Settings, become: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """A reader's check with a required protection that it may not look at: 3, naming the right."""
    async with yard_over(minio, tmp_path / "yard") as yard:
        async with yard.engine() as atlas:
            assert (await atlas.backup([USER])).exit_code == 0
        await become("Reader", yard)
        async with yard.engine() as atlas:
            found = await atlas.check_key(require=[Protects.POLICY])
        assert found.exit_code == 3
        assert any("s3:GetBucketPolicy" in finding.text for finding in found.findings)
