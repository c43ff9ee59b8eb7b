"""The stores that the conformance suite is asked of."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Protocol

import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.settings import DirectorySettings, S3Settings
from atlas_async.store.base import ObjectStore
from atlas_async.store.directory import DirectoryStore
from atlas_async.store.memory import MemoryStore
from atlas_async.store.s3 import S3Store

CONDITIONS = "conditional writes"
MD5 = "the check of Content-MD5"
LACKING = {"moto": {MD5}, "rclone": {CONDITIONS}}
"""What servers were found to lack when the suite was run against them."""


def new_bucket_name() -> str:
    """Return a bucket name that no other test uses."""
    return f"atlas-{secrets.token_hex(8)}"


class Backend(Protocol):
    """Makes stores of one kind."""

    def store(self, like: ObjectStore | None = None) -> ObjectStore:
        """Return a store over a new, absent bucket, or over the bucket of ``like``."""
        ...

    def require(self, feature: str) -> None:
        """Skip the test where the server is known to lack ``feature``."""
        ...


class LocalBackend:
    """Stores that can do everything."""

    def require(self, feature: str) -> None:
        """Have it."""


class MemoryBackend(LocalBackend):
    """Stores in memory."""

    def store(self, like: ObjectStore | None = None) -> ObjectStore:
        """Return a store over a new bucket, or over that of ``like``."""
        return MemoryStore(like.bucket if isinstance(like, MemoryStore) else None)


class DirectoryBackend(LocalBackend):
    """Stores below a directory."""

    def __init__(self, root: Path) -> None:
        self._settings = DirectorySettings(root)

    def store(self, like: ObjectStore | None = None) -> ObjectStore:
        """Return a store over a new bucket, or over that of ``like``."""
        bucket = like.name.rpartition("/")[2] if like else new_bucket_name()
        return DirectoryStore(self._settings, bucket, clock=SystemClock())


class S3Backend:
    """Stores on an S3 server."""

    def __init__(self, kind: str, settings: S3Settings) -> None:
        self.kind = kind
        self.settings = settings

    def store(self, like: ObjectStore | None = None) -> ObjectStore:
        """Return a store over a new bucket, or over that of ``like``."""
        bucket = like.name.rpartition("/")[2] if like else new_bucket_name()
        return S3Store(self.settings, bucket, connections=16, clock=SystemClock())

    def require(self, feature: str) -> None:
        """Skip the test where this kind of server lacks ``feature``."""
        if feature in LACKING.get(self.kind, ()):
            pytest.skip(f"{self.kind} lacks {feature}")
