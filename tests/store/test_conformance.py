"""Every sentence of ``atlas_async.store.base``, asked of every store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import anyio
import pytest

from atlas_async.errors import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StoreError,
    StoreTransient,
)
from atlas_async.store.base import CHUNK_BYTES, ObjectStore, list_all
from tests.fakes.bodies import PatternBody, md5_of
from tests.store.backends import CONDITIONS, MD5, Backend

MIB = 1 << 20

ODD_KEYS = [
    "data/anne+tag@example.com/00ff",
    "data/ünïcode ßß@exämple.com/日本語",
    "data/with space/and  two",
    "data/100%/%41%2F%",
    "data/a=b&c=d;e,f/$!'()*~",
    "data/?query#fragment/[brackets]{braces}|pipe^",
    'data/quote"less<more>/`tick`',
    "data/colon:here/x",
    "data/" + "long" * 46 + "@example.com/" + "0" * 64,
    "data/emoji \U0001f4e7/\U0001f680",
    "data/trailing./dot",
]


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[ObjectStore]:
    """Give a store whose new bucket exists."""
    opened = backend.store()
    try:
        await opened.open_bucket(create=True)
        yield opened
    finally:
        await opened.aclose()


async def put(
    store: ObjectStore, key: str, body: bytes = b"body", *, if_absent: bool = False
) -> None:
    """Put a small body."""
    await store.put(key, body, md5=md5_of(body), if_absent=if_absent)


async def keys_of(store: ObjectStore, prefix: str) -> list[str]:
    """Return all keys below a prefix."""
    return [info.key async for info in list_all(store, prefix)]


async def test_put_is_visible_to_get_head_open_and_listing(store: ObjectStore) -> None:
    """What a put returned from, every way of reading sees at once."""
    await put(store, "data/a/1", b"one")
    stored = await store.get("data/a/1")
    head = await store.head("data/a/1")
    async with store.open("data/a/1") as reader:
        streamed = b"".join([chunk async for chunk in reader])
        assert reader.info.size == 3
    assert stored.body == streamed == b"one"
    assert head is not None
    assert (head.key, head.size, stored.info.size) == ("data/a/1", 3, 3)
    assert head.last_modified is not None
    assert await keys_of(store, "data/") == ["data/a/1"]


async def test_put_survives_the_store_object(backend: Backend, store: ObjectStore) -> None:
    """Another store over the same bucket reads what was put."""
    await put(store, "data/a/1", b"one")
    other = backend.store(store)
    await other.open_bucket(create=False)
    assert (await other.get("data/a/1")).body == b"one"
    await other.aclose()


async def test_put_replaces_the_whole_object(store: ObjectStore) -> None:
    """A later put without condition replaces body and metadata."""
    await store.put("data/a/1", b"a longer one", md5=md5_of(b"a longer one"), metadata={"x": "1"})
    await put(store, "data/a/1", b"two")
    stored = await store.get("data/a/1")
    assert stored.body == b"two"
    assert dict(stored.info.metadata) == {}


async def test_empty_object_is_an_object(store: ObjectStore) -> None:
    """A body of no bytes is stored, headed, listed and read."""
    await put(store, "data/a/empty", b"")
    head = await store.head("data/a/empty")
    assert head is not None
    assert head.size == 0
    assert (await store.get("data/a/empty")).body == b""
    async with store.open("data/a/empty") as reader:
        assert [chunk async for chunk in reader] == []


async def test_absent_key_is_none_or_not_found(store: ObjectStore) -> None:
    """HEAD answers None, GET and opening raise ``ObjectNotFound``."""
    assert await store.head("data/a/none") is None
    with pytest.raises(ObjectNotFound):
        await store.get("data/a/none")
    with pytest.raises(ObjectNotFound):
        async with store.open("data/a/none"):
            pass


@pytest.mark.parametrize("size", [0, 1, 100, 300_000, 3 << 20])
async def test_a_bound_on_what_is_read(store: ObjectStore, size: int) -> None:
    """An object of just the bound comes whole; a byte more is refused, and hurts nobody else."""
    body = b"b" * size
    await store.put("data/a/1", body, md5=hashlib.md5(body, usedforsecurity=False).digest())
    assert (await store.get("data/a/1", most=size)).body == body
    if size:
        with pytest.raises(ObjectTooLarge) as caught:
            await store.get("data/a/1", most=size - 1)
        assert "data/a/1" in caught.value.where
    assert (await store.get("data/a/1")).body == body
    with pytest.raises(ObjectNotFound):
        await store.get("data/a/none", most=0)


async def test_missing_bucket_is_bucket_not_found(backend: Backend) -> None:
    """Every request to a bucket that is not there says so."""
    store = backend.store()
    with pytest.raises(BucketNotFound):
        await store.open_bucket(create=False)
    with pytest.raises(BucketNotFound):
        await put(store, "data/a/1")
    with pytest.raises(BucketNotFound):
        await store.get("data/a/1")
    with pytest.raises(BucketNotFound):
        await store.list_page("")
    await store.aclose()


async def test_creating_twice_at_once_succeeds_twice(backend: Backend) -> None:
    """Callers that create the bucket at the same time all succeed, and so does a later one."""
    first = backend.store()
    stores = [first, *(backend.store(first) for _ in range(3))]
    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(lambda store=store: store.open_bucket(create=True))  # type: ignore[misc] # mypy cannot infer a lambda with a default
    await first.open_bucket(create=True)
    for store in stores:
        await store.aclose()


async def test_body_that_does_not_match_its_md5_is_refused(
    backend: Backend, store: ObjectStore
) -> None:
    """A body damaged on the way is not stored, whole or spooled."""
    backend.require(MD5)
    with pytest.raises(StoreTransient):
        await store.put("data/a/1", b"body", md5=md5_of(b"other"))
    with pytest.raises(StoreTransient):
        await store.put("data/a/2", PatternBody(3 * MIB), md5=md5_of(b"other"))
    assert await keys_of(store, "") == []


async def test_metadata_comes_back_from_head_get_and_open(store: ObjectStore) -> None:
    """User metadata is kept with lower-case names and without a prefix; listings leave it out."""
    metadata = {"x-message-id": "AAMk=/+", "x-plaintext-sha256": "ab" * 32}
    await store.put("data/a/1", b"body", md5=md5_of(b"body"), metadata=metadata)
    head = await store.head("data/a/1")
    assert head is not None
    assert dict(head.metadata) == metadata
    assert dict((await store.get("data/a/1")).info.metadata) == metadata
    async with store.open("data/a/1") as reader:
        assert dict(reader.info.metadata) == metadata
    page = await store.list_page("data/")
    assert [dict(info.metadata) for info in page.objects] == [{}]


async def test_if_absent_writes_once(backend: Backend, store: ObjectStore) -> None:
    """A conditional put of an absent key succeeds, of a present one raises ``ObjectExists``."""
    backend.require(CONDITIONS)
    await put(store, "locks/a", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        await put(store, "locks/a", b"second", if_absent=True)
    assert (await store.get("locks/a")).body == b"first"
    assert store.conditional_writes is True
    await store.delete("locks/a")
    await put(store, "locks/a", b"third", if_absent=True)


async def test_of_many_conditional_writers_exactly_one_wins(
    backend: Backend, store: ObjectStore
) -> None:
    """Writers that race for one absent key end with one winner, whose body and metadata stay."""
    backend.require(CONDITIONS)
    others = [backend.store(store) for _ in range(2)]
    won: list[str] = []

    async def write(number: int) -> None:
        body = b"writer %d" % number
        target = (store, *others)[number % 3]
        try:
            await target.put(
                "locks/a", body, md5=md5_of(body), metadata={"by": str(number)}, if_absent=True
            )
        except ObjectExists:
            return
        won.append(body.decode())

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(write, number)
    assert [(await store.get("locks/a")).body.decode()] == won
    for other in others:
        await other.aclose()


async def test_large_body_streams_both_ways(store: ObjectStore) -> None:
    """A spooled body of 32 MiB and a rest is put and read in pieces of at most ``CHUNK_BYTES``."""
    body = PatternBody(32 * MIB + 12345)
    await store.put("attachments/a/1", body, md5=body.md5(), metadata={"k": "v"})
    digest, longest = hashlib.md5(usedforsecurity=False), 0
    async with store.open("attachments/a/1") as reader:
        assert reader.info.size == body.size
        async for chunk in reader:
            digest.update(chunk)
            longest = max(longest, len(chunk))
    assert digest.digest() == body.md5()
    assert 0 < longest <= CHUNK_BYTES


async def test_leaving_a_stream_early_is_fine(store: ObjectStore) -> None:
    """A reader that is closed after its first piece leaves the store usable."""
    body = PatternBody(8 * MIB)
    await store.put("attachments/a/1", body, md5=body.md5())
    async with store.open("attachments/a/1") as reader:
        async for _ in reader:
            break
    await put(store, "data/a/1")
    assert await store.head("data/a/1") is not None


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_odd_keys_are_themselves(store: ObjectStore, key: str) -> None:
    """Keys with characters that URLs, XML or file systems treat specially round trip exactly."""
    await store.put(key, b"body", md5=md5_of(b"body"), metadata={"k": "v"})
    head = await store.head(key)
    assert head is not None
    assert (head.key, dict(head.metadata)) == (key, {"k": "v"})
    assert (await store.get(key)).body == b"body"
    assert await keys_of(store, key) == [key]
    assert await keys_of(store, "data/") == [key]
    await store.delete(key)
    assert await keys_of(store, "") == []


@pytest.mark.parametrize("key", ["", "/data/a", "data/a/", "data//a", "x" * 1025, "data/\udc80"])
async def test_impossible_keys_are_refused(store: ObjectStore, key: str) -> None:
    """Keys that no bucket could hold raise ``StoreError`` before anything is sent."""
    with pytest.raises(StoreError):
        await put(store, key)
    assert await keys_of(store, "") == []


async def test_listing_is_sorted_by_bytes_and_paged(store: ObjectStore) -> None:
    """Keys come in the order of their UTF-8 bytes, ``limit`` at a time, each exactly once."""
    keys = [
        "p/a",
        "p/a-b",
        "p/a.b",
        "p/a/b",
        "p/a0",
        "p/ab",
        "p/B",
        "p/é",
        "p/z",
        "p/～",
        "p/𐀀",
        "q/a",
    ]
    keys.remove("p/a")  # a directory cannot hold both p/a and p/a/b
    for key in reversed(keys):
        await put(store, key)
    expected = sorted((key for key in keys if key.startswith("p/")), key=str.encode)
    seen: list[str] = []
    token: str | None = None
    while True:
        page = await store.list_page("p/", token=token, limit=3)
        assert len(page.objects) <= 3
        seen += [info.key for info in page.objects]
        token = page.token
        if token is None:
            break
    assert seen == expected
    sizes = {info.size for info in (await store.list_page("")).objects}
    assert sizes == {4}
    assert await keys_of(store, "p/a") == [key for key in expected if key.startswith("p/a")]
    assert await keys_of(store, "none/") == []


async def test_delimiter_folds_what_lies_beyond(store: ObjectStore) -> None:
    """With a delimiter a page holds the keys of one level and the prefixes of the next."""
    for key in ["m/top.json", "m/a@x/1", "m/a@x/2", "m/b@x/1", "m/b@x/c/d", "n/x"]:
        await put(store, key)
    page = await store.list_page("m/", delimiter="/")
    assert [info.key for info in page.objects] == ["m/top.json"]
    assert page.prefixes == ("m/a@x/", "m/b@x/")
    assert (await store.list_page("", delimiter="/")).prefixes == ("m/", "n/")
    prefixes: list[str] = []
    objects: list[str] = []
    token: str | None = None
    while True:
        page = await store.list_page("m/", delimiter="/", token=token, limit=1)
        prefixes += page.prefixes
        objects += [info.key for info in page.objects]
        token = page.token
        if token is None:
            break
    assert (prefixes, objects) == (["m/a@x/", "m/b@x/"], ["m/top.json"])


async def test_delete_is_idempotent(store: ObjectStore) -> None:
    """Deleting removes the object from every reading; deleting it again succeeds."""
    await store.put("data/a/1", b"body", md5=md5_of(b"body"), metadata={"k": "v"})
    await store.delete("data/a/1")
    await store.delete("data/a/1")
    assert await store.head("data/a/1") is None
    assert await keys_of(store, "") == []
    await put(store, "data/a/1")
    head = await store.head("data/a/1")
    assert head is not None
    assert dict(head.metadata) == {}


async def test_cancelled_put_leaves_the_key_absent_or_complete(store: ObjectStore) -> None:
    """A put cancelled at any of its chunks never leaves a part of the body."""
    for stop_at in range(4):
        key = f"attachments/a/{stop_at}"

        async def between(index: int, stop_at: int = stop_at) -> None:
            if index == stop_at:
                scope.cancel()

        body = PatternBody(4 * MIB, between=between)
        with anyio.CancelScope() as scope:
            await store.put(key, body, md5=body.md5())
        head = await store.head(key)
        assert head is None or head.size == body.size
    await put(store, "attachments/a/after")


async def test_cancelled_put_keeps_the_old_object(store: ObjectStore) -> None:
    """A cancelled overwrite leaves the old object or the new one, whole."""
    await put(store, "data/a/1", b"old")

    async def between(index: int) -> None:
        if index == 2:
            scope.cancel()

    body = PatternBody(4 * MIB, between=between)
    with anyio.CancelScope() as scope:
        await store.put("data/a/1", body, md5=body.md5())
    head = await store.head("data/a/1")
    assert head is not None
    assert head.size in {3, body.size}


async def test_failing_body_leaves_nothing(store: ObjectStore) -> None:
    """An error while the body is read passes through, and the key stays absent."""

    class SpoolError(Exception):
        pass

    async def between(index: int) -> None:
        if index == 2:
            raise SpoolError

    body = PatternBody(4 * MIB, between=between)
    with pytest.raises(SpoolError):
        await store.put("data/a/1", body, md5=body.md5())
    assert await keys_of(store, "") == []
    await put(store, "data/a/1")


async def test_many_requests_at_once(store: ObjectStore) -> None:
    """All methods may be called concurrently."""

    async def use(number: int) -> None:
        body = b"%d" % number * 1000
        await put(store, f"data/a/{number:03}", body)
        assert (await store.get(f"data/a/{number:03}")).body == body
        assert await store.head(f"data/b/{number:03}") is None

    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(use, number)
    assert len(await keys_of(store, "data/a/")) == 40


async def test_closing_twice_is_fine(backend: Backend) -> None:
    """``aclose`` is idempotent."""
    store = backend.store()
    await store.open_bucket(create=True)
    await store.aclose()
    await store.aclose()
