"""What keeps one object from being deleted or replaced: what the store can do, and what it does.

Apart from ``ObjectStore``, because it concerns the bucket itself and is asked for rarely.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class LockMode(StrEnum):
    """The modes of S3 Object Lock, the weaker first."""

    GOVERNANCE = "GOVERNANCE"
    """Whoever has ``s3:BypassGovernanceRetention`` can lift it."""
    COMPLIANCE = "COMPLIANCE"
    """Nobody can lift or shorten it, the account's owner included."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be learned, or does not exist there.

    Args:
        reason: Why, as a clause: "a directory has no versions".
        lacking: Whether the store has no such thing at all; otherwise it did not tell.
    """

    reason: str
    lacking: bool


@dataclass(frozen=True, slots=True)
class Retention:
    """A version that may not be deleted before ``until``, an aware time."""

    mode: LockMode
    until: datetime


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or a mark that it was deleted."""

    version_id: str
    latest: bool
    deletion: bool
    modified: datetime | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class ObjectState:
    """Everything that protects, or threatens, one object.

    Args:
        versioning: Whether the bucket keeps what is overwritten or deleted.
        object_lock: Whether versions in the bucket can be locked.
        policy: The bucket policy, a JSON object as text; "" when there is none.
        versions: Every version of the object, the newest first.
        retention: Of the newest version; None when it has none.
        legal_hold: Of the newest version.
        expiry: Lifecycle rules that delete the object, each described.
        permissions: The file's mode bits in a directory, otherwise None.
    """

    versioning: bool | Unknown
    object_lock: bool | Unknown
    policy: str | Unknown
    versions: tuple[ObjectVersion, ...] | Unknown
    retention: Retention | Unknown | None
    legal_hold: bool | Unknown
    expiry: tuple[str, ...] | Unknown
    permissions: int | None = None

    @property
    def newest(self) -> ObjectVersion | None:
        """The newest version, which may be a deletion; None when there is or is known none."""
        known = () if isinstance(self.versions, Unknown) else self.versions
        return next((version for version in known if version.latest), None)


class ObjectProtection(Protocol):
    """Looks at, and adds to, what protects objects of one bucket.

    Nothing is sent that a server without the function could take for something else: whoever
    calls has looked first. What the store refuses or cannot do raises ``StoreError``, or
    ``ImmutabilityError`` where it has no such thing at all.
    """

    def resource(self, pattern: str) -> str:
        """Return how a bucket policy names the keys of ``pattern``."""
        ...

    async def look(self, key: str) -> ObjectState:
        """Return the state of an object, which need not exist. Changes nothing."""
        ...

    async def put_policy(self, policy: str) -> None:
        """Replace the bucket policy; "" removes it."""
        ...

    async def retain(self, key: str, version_id: str, retention: Retention) -> None:
        """Lock a version. Never asks the store to bypass a lock that is there."""
        ...

    async def hold(self, key: str, version_id: str) -> None:
        """Put a version under legal hold."""
        ...

    async def make_read_only(self, key: str) -> None:
        """Take the permission to write away from a file."""
        ...

    async def refuses_deletion(self, prefix: str) -> bool:
        """Tell whether these credentials may not delete below ``prefix``.

        A version is deleted that does not exist, of a key that does not exist.
        """
        ...

    async def read_version(self, key: str, version_id: str, *, most: int) -> bytes:
        """Return a version's body. Raises ``ObjectNotFound``, ``ObjectTooLarge``."""
        ...
