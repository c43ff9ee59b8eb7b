"""A bucket as a directory: the tree of files is the bucket, byte for byte and name for name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio import to_thread

from atlas_async.clock import Clock
from atlas_async.config.settings import DirectorySettings
from atlas_async.errors import ObjectExists, StoreTransient
from atlas_async.store.base import (
    CHUNK_BYTES,
    ListPage,
    ObjectInfo,
    ObjectReader,
    SpooledBody,
    StoredObject,
    check_size,
)
from atlas_async.store.bucket_files import BucketFiles, Staged
from atlas_async.store.directory_sync import DirectorySync
from atlas_async.store.durable_files import write_all
from atlas_async.store.file_errors import file_errors
from atlas_async.store.listing import KeyPage, cut_page

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 16
"""Worker threads of one store: they mostly wait for fsync, which the disk groups by itself."""
_KEPT_WALKS = 8


@dataclass(frozen=True, slots=True)
class FileReader:
    """An open file, read in pieces of at most ``CHUNK_BYTES``."""

    info: ObjectInfo
    _read: Callable[[], AsyncIterator[bytes]]

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces in order."""
        return self._read()


class DirectoryStore:
    """``ObjectStore`` over ``settings.path / bucket``.

    A put is durable when it returns: body, metadata and their names are synced. A put that is
    cancelled, or meets a full disk, leaves the key as it was. Where two processes race to create
    the same absent key, one body wins; its metadata may be the loser's.

    Args:
        settings: The directory that holds the buckets.
        bucket: The bucket's name.
        clock: Tells which temporary files are old.
    """

    def __init__(self, settings: DirectorySettings, bucket: str, *, clock: Clock) -> None:
        self.name = f"file://{settings.path}/{bucket}"
        self._files = BucketFiles(settings.path, bucket)
        self._clock = clock
        self._threads = anyio.CapacityLimiter(THREADS)
        self._sync = DirectorySync(self._threads)
        self._claims: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._walks: dict[tuple[str, str, str], Iterator[str]] = {}

    @property
    def conditional_writes(self) -> bool | None:
        """True with hard links, False without, None before the first such write."""
        return self._files.hard_links

    async def open_bucket(self, *, create: bool) -> None:
        """Check the directory, or make it; remove what crashed puts left in it a day ago."""
        with file_errors(self.name):
            if create:
                await self._sync.sync(await self._thread(self._files.create))
            await self._thread(self._files.check)
            await self._thread(self._files.sweep, self._clock.now().timestamp())

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description with its metadata, or None."""
        with file_errors(self._where(key)):
            return await self._thread(self._files.head, key)

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        """Return the whole object. Raises ``ObjectNotFound``, ``ObjectTooLarge``."""
        with file_errors(self._where(key)):
            return await self._thread(self._get, key, most)

    def open(self, key: str) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the object for streaming. Entering raises ``ObjectNotFound``."""
        return self._open(key)

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store the object durably. Raises ``ObjectExists``, ``StoreFull``, ``StoreTransient``."""
        with file_errors(self._where(key)):
            await self._thread(self._files.check_name, key)
            staged = await self._stage(key, body, md5, metadata)
            try:
                if if_absent:
                    await self._claim(key, staged)
                else:
                    await self._place(key, staged, if_absent=False)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._thread(self._files.discard, staged)

    async def list_page(
        self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000
    ) -> ListPage:
        """Return one page of keys in order.

        Successive pages continue one walk of the tree, so an object that is put meanwhile into a
        directory already read is not part of them.
        """
        with file_errors(self.name):
            return await self._thread(self._list_page, prefix, delimiter, token, limit)

    async def delete(self, key: str) -> None:
        """Delete the object durably; an absent key is fine."""
        with file_errors(self._where(key)):
            await self._sync.sync(await self._thread(self._files.delete, key))

    async def aclose(self) -> None:
        """Forget listings under way."""
        self._walks.clear()

    async def _stage(
        self, key: str, body: bytes | SpooledBody, md5: bytes, metadata: Mapping[str, str] | None
    ) -> Staged:
        if isinstance(body, bytes):
            return await self._thread(self._stage_bytes, key, body, md5, metadata)
        path, descriptor = await self._thread(self._files.new_temporary)
        staged = Staged(path, None)
        try:
            try:
                await self._spool(key, body, md5, descriptor)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._thread(os.close, descriptor)
            return Staged(path, await self._thread(self._files.stage_metadata, metadata))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._thread(self._files.discard, staged)
            raise

    async def _spool(self, key: str, body: SpooledBody, md5: bytes, descriptor: int) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        async for chunk in body.chunks():
            await self._thread(_append, descriptor, chunk, digest.update)
        self._check(key, digest.digest(), md5)
        await self._thread(os.fsync, descriptor)

    def _stage_bytes(
        self, key: str, body: bytes, md5: bytes, metadata: Mapping[str, str] | None
    ) -> Staged:
        self._check(key, hashlib.md5(body, usedforsecurity=False).digest(), md5)
        path = self._files.write_temporary(body)
        try:
            return Staged(path, self._files.stage_metadata(metadata))
        except BaseException:
            self._files.discard(Staged(path, None))
            raise

    async def _claim(self, key: str, staged: Staged) -> None:
        """Place the object if its key is free; one claim per key at a time in this process."""
        lock = self._claims.setdefault(key, anyio.Lock())
        async with lock:
            # Before the metadata is placed: a loser must not overwrite the winner's.
            if await self._thread(self._files.exists, key):
                raise ObjectExists("the key is taken", where=self._where(key))
            await self._place(key, staged, if_absent=True)

    async def _place(self, key: str, staged: Staged, *, if_absent: bool) -> None:
        changed = await self._thread(self._files.place_metadata, key, staged)
        await self._sync.sync(changed)
        place = partial(self._files.place_body, if_absent=if_absent)
        await self._sync.sync(await self._thread(place, key, staged))

    def _get(self, key: str, most: int | None) -> StoredObject:
        info, descriptor = self._files.open_read(key)
        with os.fdopen(descriptor, "rb") as file:
            check_size(info.size, most, self._where(key))
            body = file.read()
        return StoredObject(info, body)

    @asynccontextmanager
    async def _open(self, key: str) -> AsyncIterator[ObjectReader]:
        with file_errors(self._where(key)):
            info, descriptor = await self._thread(self._files.open_read, key)
        try:
            yield FileReader(info, partial(self._chunks, key, descriptor, info.size))
        finally:
            with anyio.CancelScope(shield=True):
                await self._thread(os.close, descriptor)

    async def _chunks(self, key: str, descriptor: int, size: int) -> AsyncIterator[bytes]:
        left = size
        while left:
            with file_errors(self._where(key)):
                chunk = await self._thread(os.read, descriptor, min(left, CHUNK_BYTES))
            if not chunk:
                raise StoreTransient("the object is shorter than it was", where=self._where(key))
            left -= len(chunk)
            yield chunk

    def _list_page(self, prefix: str, delimiter: str, token: str | None, limit: int) -> ListPage:
        keys = self._walks.pop((prefix, delimiter, token or ""), None)
        if keys is None:
            keys = self._files.walk(prefix, token or "", fold=delimiter == "/")
        page = cut_page(keys, prefix, delimiter=delimiter, token=token, limit=limit)
        self._keep_walk(prefix, delimiter, page, keys)
        found = (self._files.stat(key) for key in page.keys)
        infos = tuple(info for info in found if info is not None)
        return ListPage(infos, tuple(page.prefixes), page.token)

    def _keep_walk(self, prefix: str, delimiter: str, page: KeyPage, keys: Iterator[str]) -> None:
        if page.token is None:
            return
        self._walks[prefix, delimiter, page.token] = chain((page.unread,), keys)
        while len(self._walks) > _KEPT_WALKS:
            del self._walks[next(iter(self._walks))]

    def _check(self, key: str, actual: bytes, expected: bytes) -> None:
        if actual != expected:
            raise StoreTransient("body does not match its MD5", where=self._where(key))

    def _where(self, key: str) -> str:
        return f"{self.name}/{key}"

    async def _thread(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._threads)


def _append(descriptor: int, chunk: bytes, update: Callable[[bytes], None]) -> None:
    update(chunk)
    write_all(descriptor, chunk)
