"""What is asked of a bucket's protection, byte for byte, and what refusals of it mean."""

from __future__ import annotations

import pytest

from atlas_async.clock import SystemClock
from atlas_async.errors import ImmutabilityError
from atlas_async.store.protection import Unknown
from atlas_async.store.s3_protection import S3Protection
from tests.fakes.canned_s3 import CannedS3, answer, canned_s3, refusal

KEY = "_meta/dek.enc"


def protection_of(server: CannedS3) -> S3Protection:
    """Return the protection of a bucket there."""
    return S3Protection(server.settings, "atlas-x", clock=SystemClock())


@pytest.mark.parametrize(
    ("reply", "refuses"),
    [
        (answer(204), False),
        (refusal(404, "NoSuchVersion"), False),
        (refusal(403, "AccessDenied"), True),
    ],
)
async def test_the_trial_deletes_a_version_that_is_none(reply: bytes, refuses: bool) -> None:
    """It names a version, so that nothing is marked as deleted, of a key that nobody has."""
    async with canned_s3(reply) as server:
        assert await protection_of(server).refuses_deletion("_meta/") is refuses
        assert await protection_of(server).refuses_deletion("_meta/") is refuses
    first, second = (asked.target for asked in server.asked)
    assert {asked.method for asked in server.asked} == {"DELETE"}
    for target in (first, second):
        path, _, query = target.partition("?")
        assert path.startswith("/atlas-x/_meta/atlas-trial-")
        assert "versionId=null" in query
    assert first != second


async def test_a_server_that_has_none_of_it() -> None:
    """What is not implemented is lacking, each by its name; nothing raises."""
    async with canned_s3(refusal(501, "NotImplemented")) as server:
        seen = await protection_of(server).look(KEY)
        with pytest.raises(ImmutabilityError, match="has no s3:PutBucketPolicy"):
            await protection_of(server).put_policy("{}")
    assert seen.expiry == ()
    for told in (seen.versioning, seen.object_lock, seen.policy, seen.versions, seen.retention):
        assert isinstance(told, Unknown)
        assert told.lacking
    assert {asked.method for asked in server.asked[:-1]} == {"GET"}


async def test_rights_that_are_missing_are_named() -> None:
    """A refusal is not an absence: what is not known says which right would tell."""
    async with canned_s3(refusal(403, "AccessDenied")) as server:
        seen = await protection_of(server).look(KEY)
    told = (seen.versioning, seen.object_lock, seen.policy, seen.versions, seen.expiry)
    rights = (
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetBucketPolicy",
        "s3:ListBucketVersions",
        "s3:GetLifecycleConfiguration",
    )
    for value, right in zip(told, rights, strict=True):
        assert value == Unknown(f"these credentials lack {right}", lacking=False)
    assert isinstance(seen.retention, Unknown)
    assert not seen.retention.lacking
