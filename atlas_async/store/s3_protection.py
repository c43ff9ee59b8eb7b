"""What protects an object on an S3 server: policy, versions, Object Lock.

Some servers take what they do not know for something else. ``rclone serve s3`` takes the setting
of a retention for a PUT of the object, which would replace the object by the retention's XML. So
locks are set only where the server says that the bucket has Object Lock and versions, and a policy
is taken away only where one was read.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeVar

from atlas_async.clock import Clock
from atlas_async.config.settings import S3Settings
from atlas_async.errors import (
    BucketNotFound,
    ImmutabilityError,
    ObjectNotFound,
    StoreMisconfigured,
    StoreTransient,
)
from atlas_async.store.base import check_size
from atlas_async.store.protection import (
    LockMode,
    ObjectState,
    ObjectVersion,
    Retention,
    Unknown,
)
from atlas_async.store.s3_control import S3Control, answer_of
from atlas_async.store.s3_credentials import credential_source
from atlas_async.store.s3_errors import Fault, store_error
from atlas_async.store.s3_safekeeping import deletion_by, newest_first, partition_of, version_of

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

T = TypeVar("T")

TRIES: Final = 4
"""Tries of each request; it is rare, and nobody tries it again above."""
_NO_POLICY: Final = {"NoSuchBucketPolicy"}
_NO_LOCK: Final = {"ObjectLockConfigurationNotFoundError"}
_NO_LIFECYCLE: Final = {"NoSuchLifecycleConfiguration"}
_NO_VERSION: Final = {"NoSuchVersion", "NoSuchKey", "InvalidArgument", "MethodNotAllowed"}
"""Answers to a GET of a version that is not there, or is the mark of a deletion."""
_UNSUPPORTED: Final = {
    "NotImplemented",
    "MethodNotAllowed",
    "UnsupportedOperation",
    "XNotImplemented",
}
_UNSUPPORTED_STATUS: Final = {405, 501}
_DENIED_STATUS: Final = {401, 403}
_NO_LOCKS: Final = Unknown("the bucket has no Object Lock", lacking=True)


class S3Protection:
    """``ObjectProtection`` of a bucket on an S3 server.

    Args:
        settings: Endpoint, region, credentials and trust.
        bucket: The bucket's name.
        clock: Tells how old credentials of AWS's chain are.
    """

    def __init__(self, settings: S3Settings, bucket: str, *, clock: Clock) -> None:
        self._control = S3Control(settings, bucket)
        self._credentials = credential_source(settings, clock)
        self._bucket = bucket
        self._partition = partition_of(settings)
        self._name = f"{settings.endpoint or 'AWS'}/{bucket}"

    def resource(self, pattern: str) -> str:
        """Return the ARN of the keys of ``pattern``."""
        return f"arn:{self._partition}:s3:::{self._bucket}/{pattern}"

    async def look(self, key: str) -> ObjectState:
        """Return the state of an object. Raises ``BucketNotFound``, ``StoreTransient``."""
        return await self._do("s3:GetBucketVersioning", lambda client: self._look(client, key))

    async def put_policy(self, policy: str) -> None:
        """Replace the bucket policy, or remove it."""
        if policy:
            await self._do(
                "s3:PutBucketPolicy",
                lambda client: client.put_bucket_policy(Bucket=self._bucket, Policy=policy),
            )
        else:
            await self._do(
                "s3:DeleteBucketPolicy",
                lambda client: client.delete_bucket_policy(Bucket=self._bucket),
            )

    async def retain(self, key: str, version_id: str, retention: Retention) -> None:
        """Lock a version; the server refuses what would weaken a lock."""

        async def lock(client: S3Client) -> None:
            await self._require_locks(client)
            await client.put_object_retention(
                Bucket=self._bucket,
                Key=key,
                VersionId=version_id,
                Retention={"Mode": retention.mode.value, "RetainUntilDate": retention.until},
            )

        await self._do("s3:PutObjectRetention", lock)

    async def hold(self, key: str, version_id: str) -> None:
        """Put a version under legal hold."""

        async def hold(client: S3Client) -> None:
            await self._require_locks(client)
            await client.put_object_legal_hold(
                Bucket=self._bucket, Key=key, VersionId=version_id, LegalHold={"Status": "ON"}
            )

        await self._do("s3:PutObjectLegalHold", hold)

    async def make_read_only(self, key: str) -> None:
        """Refuse: objects have no permissions of their own."""
        raise ImmutabilityError("an S3 object is no file", where=f"{self._name}/{key}")

    async def refuses_deletion(self, prefix: str) -> bool:
        """Try to delete the version ``null`` of a key that nobody has."""
        key = f"{prefix}atlas-trial-{secrets.token_hex(16)}"

        async def attempt(client: S3Client) -> bool:
            # With a version id, no deletion marker is left where the deletion is allowed.
            deletion = client.delete_object(Bucket=self._bucket, Key=key, VersionId="null")
            answer = await answer_of(deletion)
            return isinstance(answer, Fault) and answer.status in _DENIED_STATUS

        return await self._do("s3:DeleteObjectVersion", attempt)

    async def read_version(self, key: str, version_id: str, *, most: int) -> bytes:
        """Return a version's body. Raises ``ObjectNotFound``, ``ObjectTooLarge``."""

        async def read(client: S3Client) -> bytes | Fault | None:
            found = await answer_of(
                client.get_object(Bucket=self._bucket, Key=key, VersionId=version_id)
            )
            if isinstance(found, Fault):
                return None if found.code in _NO_VERSION else found
            check_size(found["ContentLength"], most, f"{self._name}/{key}")
            async with found["Body"] as body:
                return bytes(await body.read())

        found = await self._do("s3:GetObjectVersion", read)
        if found is None:
            msg = f"there is no version {version_id}"
            raise ObjectNotFound(msg, where=f"{self._name}/{key}")
        return found

    async def _do(self, action: str, work: Callable[[S3Client], Awaitable[T | Fault]]) -> T:
        credentials = await self._credentials.current()
        done = await self._control.run(credentials, work, tries=TRIES)
        if isinstance(done, Fault):
            if _is_unsupported(done):
                text = f"this server has no {action}: {_said(done)}"
                raise ImmutabilityError(text, where=self._name)
            raise store_error(done, action, self._bucket, self._name)
        return done

    async def _require_locks(self, client: S3Client) -> None:
        """Raise ``ImmutabilityError`` unless the server says that versions can be locked."""
        if await self._versioning(client) is True and await self._object_lock(client) is True:
            return
        raise ImmutabilityError(_NO_LOCKS.reason, where=self._name)

    async def _look(self, client: S3Client, key: str) -> ObjectState:
        versioning = await self._versioning(client)
        lock = await self._object_lock(client)
        versions = await self._versions(client, key)
        retention: Retention | Unknown | None
        hold: bool | Unknown
        if versioning is not True or lock is not True:
            retention = hold = lock if isinstance(lock, Unknown) else _NO_LOCKS
        elif isinstance(versions, Unknown):
            retention = hold = versions
        else:
            newest = next((v for v in versions if v.latest and not v.deletion), None)
            retention, hold = None, False
            if newest is not None:
                retention, hold = await self._lock(client, key, newest.version_id)
        return ObjectState(
            versioning=versioning,
            object_lock=lock,
            policy=await self._policy(client),
            versions=versions,
            retention=retention,
            legal_hold=hold,
            expiry=await self._expiry(client, key),
        )

    async def _versioning(self, client: S3Client) -> bool | Unknown:
        answer = await answer_of(client.get_bucket_versioning(Bucket=self._bucket))
        if isinstance(answer, Fault):
            return self._unknown(answer, "s3:GetBucketVersioning")
        return answer.get("Status") == "Enabled"

    async def _object_lock(self, client: S3Client) -> bool | Unknown:
        answer = await answer_of(client.get_object_lock_configuration(Bucket=self._bucket))
        if isinstance(answer, Fault):
            if answer.code in _NO_LOCK:
                return False
            return self._unknown(answer, "s3:GetBucketObjectLockConfiguration")
        return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"

    async def _policy(self, client: S3Client) -> str | Unknown:
        answer = await answer_of(client.get_bucket_policy(Bucket=self._bucket))
        if isinstance(answer, Fault):
            return "" if answer.code in _NO_POLICY else self._unknown(answer, "s3:GetBucketPolicy")
        try:
            document = json.loads(answer["Policy"])
        except ValueError:
            document = None
        if not isinstance(document, dict):
            return Unknown("the server has no bucket policies: its answer is none", lacking=True)
        return answer["Policy"]

    async def _versions(self, client: S3Client, key: str) -> tuple[ObjectVersion, ...] | Unknown:
        answer = await answer_of(client.list_object_versions(Bucket=self._bucket, Prefix=key))
        if isinstance(answer, Fault):
            return self._unknown(answer, "s3:ListBucketVersions")
        entries: list[tuple[Any, bool]] = [
            *((entry, False) for entry in answer.get("Versions", [])),
            *((entry, True) for entry in answer.get("DeleteMarkers", [])),
        ]
        found = [version_of(entry, deletion=gone) for entry, gone in entries if entry["Key"] == key]
        return tuple(sorted(found, key=newest_first))

    async def _lock(
        self, client: S3Client, key: str, version_id: str
    ) -> tuple[Retention | Unknown | None, bool | Unknown]:
        """Return a version's lock.

        HEAD tells it, and leaves it out for whoever may not see it; so where it tells none, the
        question proper is asked, of which only a refusal counts.
        """
        where: Any = {"Bucket": self._bucket, "Key": key, "VersionId": version_id}
        # The stubs take fields for given that only locked versions have.
        head: Any = await answer_of(client.head_object(**where))
        if isinstance(head, Fault):
            unknown = self._unknown(head, "s3:GetObjectVersion")
            return unknown, unknown
        retention: Retention | Unknown | None = None
        if "ObjectLockMode" in head and "ObjectLockRetainUntilDate" in head:
            until = head["ObjectLockRetainUntilDate"].astimezone(UTC)
            retention = Retention(LockMode(head["ObjectLockMode"]), until)
        else:
            asked = await answer_of(client.get_object_retention(**where))
            if isinstance(asked, Fault) and asked.status in _DENIED_STATUS:
                retention = self._unknown(asked, "s3:GetObjectRetention")
        hold: bool | Unknown = head.get("ObjectLockLegalHoldStatus") == "ON"
        if not hold:
            status = await answer_of(client.get_object_legal_hold(**where))
            if isinstance(status, Fault) and status.status in _DENIED_STATUS:
                hold = self._unknown(status, "s3:GetObjectLegalHold")
        return retention, hold

    async def _expiry(self, client: S3Client, key: str) -> tuple[str, ...] | Unknown:
        asked = client.get_bucket_lifecycle_configuration(Bucket=self._bucket)
        answer = await answer_of(asked)
        if isinstance(answer, Fault):
            if answer.code in _NO_LIFECYCLE or _is_unsupported(answer):
                return ()
            return self._unknown(answer, "s3:GetLifecycleConfiguration")
        rules: list[Any] = list(answer.get("Rules", []))
        return tuple(text for rule in rules if (text := deletion_by(rule, key)))

    def _unknown(self, fault: Fault, action: str) -> Unknown:
        """Return why something is not known. Raises where the whole question makes no sense."""
        if _is_unsupported(fault):
            return Unknown(f"the server has no {action}: {_said(fault)}", lacking=True)
        error = store_error(fault, action, self._bucket, self._name)
        if isinstance(error, BucketNotFound | StoreMisconfigured | StoreTransient):
            raise error
        if fault.status in _DENIED_STATUS:
            return Unknown(f"these credentials lack {action}", lacking=False)
        return Unknown(f"the server refuses {action}: {_said(fault)}", lacking=False)


def _is_unsupported(fault: Fault) -> bool:
    return fault.code in _UNSUPPORTED or fault.status in _UNSUPPORTED_STATUS


def _said(fault: Fault) -> str:
    return fault.code or f"HTTP {fault.status}"
