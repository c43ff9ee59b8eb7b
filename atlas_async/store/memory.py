"""A bucket in memory, for tests and demonstrations: every promise but outliving the process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from atlas_async.errors import BucketNotFound, ObjectExists, ObjectNotFound, StoreTransient
from atlas_async.store.base import (
    CHUNK_BYTES,
    ListPage,
    ObjectInfo,
    ObjectReader,
    SpooledBody,
    StoredObject,
    check_size,
)
from atlas_async.store.keys import check_key
from atlas_async.store.listing import cut_page

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class MemoryBucket:
    """The objects, apart from the store, so that several stores can look at one bucket."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    exists: bool = False


@dataclass(frozen=True, slots=True)
class BytesReader:
    """An object held in memory, read in pieces of at most ``CHUNK_BYTES``."""

    info: ObjectInfo
    body: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces in order."""
        for start in range(0, len(self.body), CHUNK_BYTES):
            await checkpoint()
            yield self.body[start : start + CHUNK_BYTES]


async def read_body(body: bytes | SpooledBody) -> bytes:
    """Return the whole body."""
    if isinstance(body, bytes):
        return body
    return b"".join([chunk async for chunk in body.chunks()])


class MemoryStore:
    """``ObjectStore`` over a ``MemoryBucket``. ETags are the MD5 in hex, as in S3.

    Every method yields to the event loop once before it takes effect, so that callers race here
    as they would over a network.

    Args:
        bucket: The bucket's contents; a new and absent one by default.
        name: What messages call it.
    """

    conditional_writes: bool | None = True

    def __init__(
        self, bucket: MemoryBucket | None = None, *, name: str = "memory://bucket"
    ) -> None:
        self.bucket = MemoryBucket() if bucket is None else bucket
        self.name = name

    async def open_bucket(self, *, create: bool) -> None:
        """Check that the bucket exists, or make it. Raises ``BucketNotFound``."""
        await checkpoint()
        self.bucket.exists = self.bucket.exists or create
        self._check()

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description, or None."""
        await checkpoint()
        self._check()
        check_key(key)
        stored = self.bucket.objects.get(key)
        return None if stored is None else stored.info

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        """Return the whole object. Raises ``ObjectNotFound``, ``ObjectTooLarge``."""
        await checkpoint()
        self._check()
        check_key(key)
        try:
            stored = self.bucket.objects[key]
        except KeyError:
            raise ObjectNotFound("no such object", where=f"{self.name}/{key}") from None
        check_size(stored.info.size, most, f"{self.name}/{key}")
        return stored

    def open(self, key: str) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the object for streaming. Entering raises ``ObjectNotFound``."""
        return self._open(key)

    @asynccontextmanager
    async def _open(self, key: str) -> AsyncIterator[ObjectReader]:
        stored = await self.get(key)
        yield BytesReader(stored.info, stored.body)

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store the object. Raises ``ObjectExists``, or ``StoreTransient`` on an MD5 mismatch."""
        check_key(key)
        whole = await read_body(body)
        await checkpoint()
        self._check()
        digest = hashlib.md5(whole, usedforsecurity=False).digest()
        if digest != md5:
            raise StoreTransient("body does not match its MD5", where=f"{self.name}/{key}")
        if if_absent and key in self.bucket.objects:
            raise ObjectExists("the key is taken", where=f"{self.name}/{key}")
        info = ObjectInfo(key, len(whole), digest.hex(), _EPOCH, dict(metadata or {}))
        self.bucket.objects[key] = StoredObject(info, whole)

    async def list_page(
        self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000
    ) -> ListPage:
        """Return one page of keys in order."""
        await checkpoint()
        self._check()
        keys = sorted(key for key in self.bucket.objects if key.startswith(prefix))
        page = cut_page(keys, prefix, delimiter=delimiter, token=token, limit=limit)
        infos = tuple(replace(self.bucket.objects[key].info, metadata={}) for key in page.keys)
        return ListPage(infos, tuple(page.prefixes), page.token)

    async def delete(self, key: str) -> None:
        """Delete the object if it is there."""
        await checkpoint()
        self._check()
        check_key(key)
        self.bucket.objects.pop(key, None)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""

    def _check(self) -> None:
        if not self.bucket.exists:
            raise BucketNotFound(
                "the bucket does not exist", hint="open it with create=True", where=self.name
            )
