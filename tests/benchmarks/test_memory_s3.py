"""The light S3 server of the benchmarks, seen through the engine's own store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import anyio.to_thread
import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings
from atlas_async.errors import BucketNotFound, ObjectExists, ObjectNotFound
from atlas_async.store.s3 import S3Store
from benchmarks.servers import store


@pytest.fixture
async def bucket() -> AsyncIterator[S3Store]:
    """Serve, and open a store over a bucket that is not made yet."""
    serving = store("memory")
    told = await anyio.to_thread.run_sync(serving.__enter__)
    settings = S3Settings(
        told["ATLAS_S3_ENDPOINT"],
        access_key=told["ATLAS_S3_ACCESS_KEY"],
        secret_key=Secret(told["ATLAS_S3_SECRET_KEY"]),
    )
    opened = S3Store(settings, "atlas-tried", connections=4, clock=SystemClock())
    yield opened
    await opened.aclose()
    await anyio.to_thread.run_sync(serving.__exit__, None, None, None)


async def put(bucket: S3Store, key: str, body: bytes = b"mail", *, if_absent: bool = False) -> None:
    """Store an object."""
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    await bucket.put(key, body, md5=digest, metadata={"kind": "tried"}, if_absent=if_absent)


async def test_objects_come_back_as_they_were_put(bucket: S3Store) -> None:
    """Body, size, ETag and metadata are kept; what was deleted is gone."""
    await bucket.open_bucket(create=True)
    body = bytes(300_000)
    await put(bucket, "data/a b", body)
    got = await bucket.get("data/a b")
    assert got.body == body
    assert got.info.metadata == {"kind": "tried"}
    assert got.info.etag == hashlib.md5(body, usedforsecurity=False).hexdigest()
    info = await bucket.head("data/a b")
    assert info is not None
    assert info.size == len(body)
    await bucket.delete("data/a b")
    await bucket.delete("data/a b")
    assert await bucket.head("data/a b") is None
    with pytest.raises(ObjectNotFound):
        await bucket.get("data/a b")


async def test_a_bucket_exists_once_it_was_made(bucket: S3Store) -> None:
    """An absent bucket is told apart from an empty one."""
    with pytest.raises(BucketNotFound):
        await bucket.open_bucket(create=False)
    await bucket.open_bucket(create=True)
    await bucket.open_bucket(create=False)


async def test_conditions_are_honoured(bucket: S3Store) -> None:
    """``If-None-Match: *`` refuses a key that is taken, and the store finds out that it does."""
    await bucket.open_bucket(create=True)
    await put(bucket, "key", if_absent=True)
    assert bucket.conditional_writes
    with pytest.raises(ObjectExists):
        await put(bucket, "key", b"other", if_absent=True)
    assert (await bucket.get("key")).body == b"mail"


async def test_listings_are_in_order_and_in_pages(bucket: S3Store) -> None:
    """Pages follow each other without loss, with and without a delimiter."""
    await bucket.open_bucket(create=True)
    keys = ["a/1", "a/2", "a/x/1", "a/x/2", "a/y/1", "ab/1", "b", "top"]
    for key in reversed(keys):
        await put(bucket, key)

    async def listed(prefix: str, delimiter: str = "") -> tuple[list[str], list[str]]:
        found: tuple[list[str], list[str]] = ([], [])
        token = None
        while True:
            page = await bucket.list_page(prefix, delimiter=delimiter, token=token, limit=2)
            found[0].extend(info.key for info in page.objects)
            found[1].extend(page.prefixes)
            if page.token is None:
                return found
            token = page.token

    assert await listed("") == (keys, [])
    assert await listed("a/") == (keys[:5], [])
    assert await listed("a/", "/") == (["a/1", "a/2"], ["a/x/", "a/y/"])
    assert await listed("", "/") == (["b", "top"], ["a/", "ab/"])
    assert await listed("nothing/") == ([], [])
