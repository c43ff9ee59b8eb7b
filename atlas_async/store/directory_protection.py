"""What protects an object in a directory: little, and this says so."""

from __future__ import annotations

from typing import Final

from anyio import to_thread

from atlas_async.config.settings import DirectorySettings
from atlas_async.errors import ImmutabilityError
from atlas_async.store.bucket_files import BucketFiles
from atlas_async.store.file_errors import file_errors
from atlas_async.store.protection import ObjectState, Retention, Unknown

HINT: Final = "keep the backup in an S3 store with Object Lock, or a copy of the key elsewhere"


class DirectoryProtection:
    """``ObjectProtection`` of a bucket in a directory: file permissions and nothing else.

    Args:
        settings: The directory that holds the buckets.
        bucket: The bucket's name.
    """

    def __init__(self, settings: DirectorySettings, bucket: str) -> None:
        self._name = f"file://{settings.path}/{bucket}"
        self._files = BucketFiles(settings.path, bucket)

    def resource(self, pattern: str) -> str:
        """Return the path; there is no policy to name it in."""
        return f"{self._name}/{pattern}"

    async def look(self, key: str) -> ObjectState:
        """Return the file's permissions; of everything else, that a directory has it not."""
        with file_errors(f"{self._name}/{key}"):
            permissions = await to_thread.run_sync(self._files.permissions, key)
        return ObjectState(
            versioning=_lacking("versions"),
            object_lock=_lacking("Object Lock"),
            policy=_lacking("policy"),
            versions=_lacking("versions"),
            retention=_lacking("Object Lock"),
            legal_hold=_lacking("Object Lock"),
            expiry=(),
            permissions=permissions,
        )

    async def put_policy(self, policy: str) -> None:  # noqa: ARG002 -- the protocol's
        """Refuse."""
        raise self._refusal("policy")

    async def retain(self, key: str, version_id: str, retention: Retention) -> None:  # noqa: ARG002 -- the protocol's
        """Refuse."""
        raise self._refusal("Object Lock")

    async def hold(self, key: str, version_id: str) -> None:  # noqa: ARG002 -- the protocol's
        """Refuse."""
        raise self._refusal("Object Lock")

    async def make_read_only(self, key: str) -> None:
        """Set the file's mode to 0400."""
        with file_errors(f"{self._name}/{key}"):
            await to_thread.run_sync(self._files.make_read_only, key)

    async def refuses_deletion(self, prefix: str) -> bool:  # noqa: ARG002 -- the protocol's
        """Return False: whoever may write the directory may delete in it."""
        return False

    async def read_version(self, key: str, version_id: str, *, most: int) -> bytes:  # noqa: ARG002 -- the protocol's
        """Refuse."""
        raise self._refusal("versions")

    def _refusal(self, what: str) -> ImmutabilityError:
        return ImmutabilityError(_lacking(what).reason, hint=HINT, where=self._name)


def _lacking(what: str) -> Unknown:
    return Unknown(f"a directory has no {what}", lacking=True)
