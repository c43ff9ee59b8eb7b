"""What every object store promises. The conformance suite enforces each sentence.

A store is one tenant's bucket. Keys are S3 keys: UTF-8, ``/`` as the only separator, no leading
slash. Bodies are opaque ciphertext.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from atlas_async.errors import ObjectTooLarge

CHUNK_BYTES = 1 << 20
"""Largest piece a streamed body is handed over in, in bytes."""
UNKNOWN_SIZE = -1
"""The ``size`` of an object opened for streaming whose length the server did not tell."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What HEAD or a listing tells of one object. Metadata keys are lower case, without prefix."""

    key: str
    size: int
    etag: str = ""
    last_modified: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object read whole."""

    info: ObjectInfo
    body: bytes


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, in key order. ``token`` continues it; None ends it."""

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...]
    token: str | None


class SpooledBody(Protocol):
    """A body too large for memory. May be read more than once, so that a PUT can be retried."""

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body from its start in pieces of at most ``CHUNK_BYTES``."""
        ...


class ObjectReader(Protocol):
    """An open object: its description and its bytes, in order, once."""

    @property
    def info(self) -> ObjectInfo:
        """What the store says of the object; a listing's fields plus metadata.

        Its size is ``UNKNOWN_SIZE`` where the server did not tell it.
        """
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of at most ``CHUNK_BYTES``."""
        ...


class ObjectStore(Protocol):
    """HEAD, GET, PUT, LIST and DELETE on one bucket.

    All methods may be cancelled at any await: a cancelled ``put`` leaves the key either absent
    (or as it was) or complete, never partial. All may be called concurrently. Errors are the
    ``StoreError`` subclasses; ``StoreTransient`` marks those worth another try.
    """

    @property
    def name(self) -> str:
        """The bucket, for messages: ``s3://host/bucket`` or ``file:///path/bucket``."""
        ...

    async def open_bucket(self, *, create: bool) -> None:
        """Check that the bucket can be reached; with ``create``, make it when it is absent.

        Two callers creating at once both succeed. Raises ``BucketNotFound`` when it is absent
        and ``create`` is false.
        """
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description with its metadata, or None when there is no such key."""
        ...

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        """Return the whole object. Raises ``ObjectNotFound``.

        With ``most``, an object of more bytes raises ``ObjectTooLarge`` and is not read whole.
        """
        ...

    def open(self, key: str) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the object for streaming. Entering raises ``ObjectNotFound``.

        A body that ends before its announced length raises ``StoreTransient``.
        """
        ...

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store the object; on return it is durable and visible to every later read and listing.

        Args:
            key: Where to.
            body: Bytes, or a spooled body.
            md5: MD5 digest of ``body``; the store refuses a body that does not match it
                (``StoreTransient``: it was damaged on the way).
            metadata: User metadata; ASCII values.
            if_absent: Write only when no object has the key; raise ``ObjectExists`` otherwise.
                A store that cannot do this atomically says so in ``conditional_writes``.
        """
        ...

    @property
    def conditional_writes(self) -> bool | None:
        """Whether ``if_absent`` is atomic here; None while it is not known yet."""
        ...

    async def list_page(
        self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000
    ) -> ListPage:
        """Return up to ``limit`` keys that start with ``prefix``, sorted by their UTF-8 bytes.

        With ``delimiter``, keys that continue beyond it are folded into ``prefixes``.
        Metadata is not part of a listing.
        """
        ...

    async def delete(self, key: str) -> None:
        """Delete the object; deleting an absent key succeeds."""
        ...

    async def aclose(self) -> None:
        """Release connections; the store is unusable afterwards. Idempotent."""
        ...


def check_size(size: int, most: int | None, where: str) -> None:
    """Raise ``ObjectTooLarge`` when ``size`` bytes are more than ``most``; None is no bound."""
    if most is not None and size > most:
        msg = f"the object has {size} bytes, at most {most} were expected"
        raise ObjectTooLarge(msg, where=where)


async def list_all(store: ObjectStore, prefix: str) -> AsyncIterator[ObjectInfo]:
    """Yield every object below ``prefix``, page by page."""
    token: str | None = None
    while True:
        page = await store.list_page(prefix, token=token)
        for info in page.objects:
            yield info
        if page.token is None:
            return
        token = page.token
