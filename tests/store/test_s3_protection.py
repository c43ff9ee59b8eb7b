"""What protects an object on real servers: read, set and read back, and never harmed by asking."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.settings import Limits, S3Settings
from atlas_async.errors import (
    BucketNotFound,
    ImmutabilityError,
    ObjectNotFound,
    ObjectTooLarge,
    StoreAuthError,
)
from atlas_async.operations import key_policy
from atlas_async.store.opening import open_protection, open_store
from atlas_async.store.protection import LockMode, Retention, Unknown
from atlas_async.store.s3_protection import S3Protection
from tests.fakes.bodies import md5_of
from tests.fakes.buckets import s3_client
from tests.store.backends import new_bucket_name

KEY = "_meta/dek.enc"
pytestmark = pytest.mark.real_server


@pytest.fixture(params=["moto", "minio"])
def server(request: pytest.FixtureRequest) -> S3Settings:
    """Give the servers that know policies, versions and locks in turn."""
    settings: S3Settings = request.getfixturevalue(request.param)
    return settings


@asynccontextmanager
async def bucket(
    settings: S3Settings, *, lock: bool = False
) -> AsyncIterator[tuple[S3Protection, Any, str]]:
    """Make a bucket with one object, and give its protection, a plain client, and its name."""
    name = new_bucket_name()
    async with s3_client(settings) as client:
        await client.create_bucket(
            Bucket=name, **({"ObjectLockEnabledForBucket": True} if lock else {})
        )
        await client.put_object(Bucket=name, Key=KEY, Body=b"first")
        yield S3Protection(settings, name, clock=SystemClock()), client, name


def ours(protection: S3Protection) -> list[dict[str, Any]]:
    """Return our statements for the bucket."""
    keep, freeze = (protection.resource(pattern) for pattern in key_policy.patterns())
    return key_policy.our_statements(keep, freeze)


async def test_a_plain_bucket_is_described(server: S3Settings) -> None:
    """Without versions, locks, policy and rules, that is what is said; nothing is guessed."""
    async with bucket(server) as (protection, _, _):
        seen = await protection.look(KEY)
    assert (seen.versioning, seen.object_lock, seen.policy) == (False, False, "")
    assert isinstance(seen.retention, Unknown)
    assert seen.retention.lacking
    assert seen.retention == seen.legal_hold
    assert seen.expiry == ()
    assert seen.newest is not None
    assert (seen.newest.version_id, seen.newest.size) == ("null", 5)


async def test_a_lock_and_a_hold_are_set_and_seen(server: S3Settings) -> None:
    """The newest version is locked to the day asked for; a deletion of it is refused."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    async with bucket(server, lock=True) as (protection, client, name):
        seen = await protection.look(KEY)
        assert (seen.versioning, seen.object_lock) == (True, True)
        assert (seen.retention, seen.legal_hold) == (None, False)
        assert seen.newest is not None
        version = seen.newest.version_id
        await protection.retain(KEY, version, Retention(LockMode.GOVERNANCE, until))
        await protection.hold(KEY, version)
        locked = await protection.look(KEY)
        assert locked.retention == Retention(LockMode.GOVERNANCE, until)
        assert locked.legal_hold is True
        with pytest.raises(Exception, match=r"WORM|AccessDenied|Forbidden|protected"):
            await client.delete_object(Bucket=name, Key=KEY, VersionId=version)


async def test_a_compliance_lock_is_set(minio: S3Settings) -> None:
    """A compliance lock can be set, and extended, and nothing shortens it."""
    now = datetime.now(UTC).replace(microsecond=0)
    first, later = (
        Retention(LockMode.COMPLIANCE, now + timedelta(days=2)),
        Retention(LockMode.COMPLIANCE, now + timedelta(days=3)),
    )
    async with bucket(minio, lock=True) as (protection, _, _):
        newest = (await protection.look(KEY)).newest
        assert newest is not None
        await protection.retain(KEY, newest.version_id, first)
        await protection.retain(KEY, newest.version_id, later)
        assert (await protection.look(KEY)).retention == later
        with pytest.raises(Exception, match="WORM"):
            await protection.retain(KEY, newest.version_id, first)


async def test_a_policy_is_put_read_and_removed(server: S3Settings) -> None:
    """Our statements are found again in whatever form the server gives them."""
    async with bucket(server) as (protection, _, _):
        await protection.put_policy(key_policy.with_ours("", ours(protection)))
        seen = (await protection.look(KEY)).policy
        assert isinstance(seen, str)
        assert key_policy.has_ours(seen, ours(protection))
        await protection.put_policy("")
        assert (await protection.look(KEY)).policy == ""


@pytest.mark.parametrize(("kind", "binds"), [("moto", True), ("minio", False)])
async def test_the_trial_deletion_tells_and_leaves_nothing(
    kind: str, binds: bool, request: pytest.FixtureRequest
) -> None:
    """Deletion is allowed before; moto then refuses it, MinIO minds no policy of a bucket.

    The trial leaves neither an object nor the mark of a deletion.
    """
    async with bucket(request.getfixturevalue(kind), lock=True) as (protection, client, name):
        assert not await protection.refuses_deletion("_meta/")
        await protection.put_policy(key_policy.with_ours("", ours(protection)))
        assert await protection.refuses_deletion("_meta/") is binds
        found = await client.list_object_versions(Bucket=name)
        assert [v["Key"] for v in found["Versions"]] == [KEY]
        assert not found.get("DeleteMarkers")
        if binds:
            with pytest.raises(Exception, match="Forbidden"):
                await client.put_object(Bucket=name, Key=KEY, Body=b"second")


async def test_versions_are_listed_newest_first(server: S3Settings) -> None:
    """A replaced and then deleted object has two versions and a deletion, which is the newest."""
    async with bucket(server, lock=True) as (protection, client, name):
        await client.put_object(Bucket=name, Key=KEY, Body=b"second!")
        await client.put_object(Bucket=name, Key=KEY + ".old", Body=b"another's")
        await client.delete_object(Bucket=name, Key=KEY)
        seen = await protection.look(KEY)
        assert not isinstance(seen.versions, Unknown)
        assert seen.versions[0].deletion
        assert seen.versions[0].latest
        assert sorted(v.size for v in seen.versions[1:]) == [5, 7]
        assert not any(v.deletion or v.latest for v in seen.versions[1:])
        first = next(v for v in seen.versions if v.size == 5)
        assert await protection.read_version(KEY, first.version_id, most=10) == b"first"
        with pytest.raises(ObjectTooLarge):
            await protection.read_version(KEY, first.version_id, most=4)
        with pytest.raises(ObjectNotFound):
            await protection.read_version(KEY, "00000000-0000-0000-0000-000000000000", most=10)


async def test_rules_that_delete_the_key_are_seen(server: S3Settings) -> None:
    """A lifecycle rule counts when it is on, reaches the key, and deletes what is current."""
    rules: list[Any] = [
        {
            "ID": "all",
            "Status": "Enabled",
            "Filter": {"Prefix": "_meta/"},
            "Expiration": {"Days": 9},
        },
        {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 8}},
        {
            "ID": "mail",
            "Status": "Enabled",
            "Filter": {"Prefix": "data/"},
            "Expiration": {"Days": 7},
        },
        {
            "ID": "tagged",
            "Status": "Enabled",
            "Filter": {"Tag": {"Key": "a", "Value": "b"}},
            "Expiration": {"Days": 6},
        },
    ]
    async with bucket(server) as (protection, client, name):
        await client.put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": rules}
        )
        assert (await protection.look(KEY)).expiry == ("all: 9 days after it was written",)


async def test_an_absent_bucket_and_wrong_keys_are_errors(minio: S3Settings) -> None:
    """Neither is taken for a bucket without protection."""
    absent = S3Protection(minio, new_bucket_name(), clock=SystemClock())
    with pytest.raises(BucketNotFound):
        await absent.look(KEY)


async def test_a_lock_that_may_not_be_seen_is_not_taken_for_none(
    minio: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD leaves a lock out for whoever may not see it: then it is not known, and why is said."""
    everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
    hidden = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    denial = {"Effect": "Deny", "Action": hidden, "Resource": ["arn:aws:s3:::*"]}
    policy = {"Version": "2012-10-17", "Statement": [everything, denial]}
    async with bucket(minio, lock=True) as (_, _, name), s3_client(minio, service="sts") as desk:
        given = await desk.assume_role(
            RoleArn="arn:aws:iam::000000000000:role/any",
            RoleSessionName="role",
            Policy=json.dumps(policy),
        )
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["Credentials"]["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["Credentials"]["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", given["Credentials"]["SessionToken"])
        blind = S3Protection(S3Settings(minio.endpoint), name, clock=SystemClock())
        seen = await blind.look(KEY)
    assert seen.retention == Unknown("these credentials lack s3:GetObjectRetention", lacking=False)
    assert seen.legal_hold == Unknown("these credentials lack s3:GetObjectLegalHold", lacking=False)


async def test_a_server_without_any_of_it_says_so_and_keeps_the_object(rclone: S3Settings) -> None:
    """``rclone serve s3`` takes a retention for a PUT of the object: it is never sent one."""
    name = new_bucket_name()
    async with open_store(rclone, name, limits=Limits(), clock=SystemClock()) as store:
        await store.open_bucket(create=True)
        await store.put(KEY, b"first", md5=md5_of(b"first"))
        protection = open_protection(rclone, name, clock=SystemClock())
        seen = await protection.look(KEY)
        assert (seen.versioning, seen.object_lock) == (False, False)
        assert isinstance(seen.policy, Unknown)
        assert seen.policy.lacking
        assert isinstance(seen.versions, Unknown)
        assert seen.versions.lacking
        until = datetime.now(UTC) + timedelta(days=1)
        with pytest.raises(ImmutabilityError):
            await protection.retain(KEY, "null", Retention(LockMode.GOVERNANCE, until))
        with pytest.raises(ImmutabilityError):
            await protection.hold(KEY, "null")
        with pytest.raises(StoreAuthError):
            await protection.put_policy(json.dumps({"Statement": []}))
        assert (await store.get(KEY)).body == b"first"


@pytest.mark.parametrize(
    ("region", "endpoint", "start"),
    [
        ("eu-central-1", None, "arn:aws:s3:::"),
        ("cn-north-1", None, "arn:aws-cn:s3:::"),
        ("us-gov-west-1", "https://s3.us-gov-west-1.amazonaws.com", "arn:aws-us-gov:s3:::"),
        ("cn-north-1", "http://localhost:9000", "arn:aws:s3:::"),
    ],
)
def test_resources_name_the_right_aws(region: str, endpoint: str | None, start: str) -> None:
    """A policy in China or for the US government names resources of that AWS."""
    protection = S3Protection(S3Settings(endpoint, region), "atlas-x", clock=SystemClock())
    assert protection.resource("_meta/*") == f"{start}atlas-x/_meta/*"
