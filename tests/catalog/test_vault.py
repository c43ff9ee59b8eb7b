"""The vault: every object at most once, few questions asked, everything checked."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from anyio import to_thread

from atlas_async.catalog.vault import HEADS_PER_PAGE, THREAD_BYTES, WHOLE_BYTES, Put, Vault
from atlas_async.crypto.envelope import OVERHEAD_BYTES, Sealer
from atlas_async.crypto.spool import Spool, SpoolSealer
from atlas_async.errors import (
    ForeignObject,
    FormatError,
    IntegrityError,
    ObjectNotFound,
    StoreTransient,
)
from atlas_async.store.base import StoredObject
from atlas_async.store.counting import CountingStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from atlas_async.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.vaults import (
    DEK,
    MAILBOX,
    OTHER_MAILBOX,
    existing_store,
    new_vault,
    plant,
    sha256_of,
)


def key_of(content: bytes, kind: str = "data") -> str:
    """Return the key that content is stored below."""
    return f"{kind}/{MAILBOX}/{sha256_of(content)}"


class Counted:
    """A vault over a bucket in memory, and what it asks of the store."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = existing_store() if store is None else store
        self._counting = CountingStore(self.store)
        self.vault = new_vault(self._counting)

    def asked(self) -> tuple[int, int, int]:
        """Return the listings, HEADs and PUTs since the last call."""
        counter = self._counting.counter.by_op
        numbers = (counter[Op.LIST], counter[Op.HEAD], counter[Op.PUT])
        counter.clear()
        return numbers

    async def put(self, content: bytes) -> Put:
        """Store content below its name."""
        return await self.vault.put_plaintext(key_of(content), content)


async def test_an_empty_prefix_is_listed_once_and_never_asked_again() -> None:
    """A first backup sends one listing, then PUTs alone: no HEAD."""
    counted = Counted()
    assert await counted.put(b"one") is Put.STORED
    assert counted.asked() == (1, 0, 1)
    for number in range(50):
        await counted.put(b"%d" % number)
    assert counted.asked() == (0, 0, 50)


async def test_what_is_there_already_is_not_sent_again() -> None:
    """One listing tells what a prefix holds: those objects cost no further request."""
    first = Counted()
    for number in range(20):
        await first.put(b"%d" % number)
    second = Counted(first.store)
    before = dict(first.store.bucket.objects)
    for number in range(20):
        assert await second.put(b"%d" % number) is Put.DEDUPLICATED
    assert second.asked() == (1, 0, 0)
    assert first.store.bucket.objects == before
    assert second.vault.bytes_uploaded == 0


async def test_the_same_content_twice_in_one_run_is_stored_once() -> None:
    """A second message with the same attachment costs nothing."""
    counted = Counted()
    assert [await counted.put(b"same") for _ in range(3)] == [
        Put.STORED,
        Put.DEDUPLICATED,
        Put.DEDUPLICATED,
    ]
    assert counted.asked() == (1, 0, 1)


@pytest.mark.parametrize("listed", [True, False])
async def test_an_object_of_the_wrong_size_is_replaced(listed: bool) -> None:
    """What lies below the name but cannot be the object is damaged, and is written anew."""
    counted = Counted()
    content = b"the content"
    if listed:
        await plant(counted.store, key_of(content), b"truncated")
    else:
        for number in range(1_100):
            await plant(counted.store, f"data/{MAILBOX}/0{number:063x}", b"x")
        await plant(counted.store, f"data/{MAILBOX}/f{'f' * 63}", b"x")
        await plant(counted.store, key_of(content), b"truncated")
    assert await counted.put(content) is Put.STORED
    key = key_of(content)
    assert await counted.vault.read_content(key, sha256_of(content)) == content


async def test_two_puts_of_one_key_at_once_store_it_once() -> None:
    """The second caller waits for the first and finds it stored."""
    counted = Counted()
    results: list[Put] = []

    async def put() -> None:
        results.append(await counted.put(b"same"))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(put)
    assert sorted(r.name for r in results) == ["DEDUPLICATED"] * 7 + ["STORED"]
    assert counted.asked() == (1, 0, 1)


async def test_one_callers_failure_is_not_the_others() -> None:
    """When the first PUT fails, whoever waited for it stores the object itself."""
    store = existing_store()
    faulty = FaultyStore(store, [Fault(Failure.REFUSED, Op.PUT)], clock=FakeClock())
    vault = new_vault(faulty)
    results: list[object] = []

    async def put() -> None:
        try:
            results.append(await vault.put_plaintext(key_of(b"x"), b"x"))
        except StoreTransient as error:
            results.append(type(error))

    async with anyio.create_task_group() as group:
        group.start_soon(put)
        group.start_soon(put)
    assert results == [StoreTransient, Put.STORED]
    assert key_of(b"x") in store.bucket.objects


async def test_a_cancelled_put_leaves_the_next_one_free() -> None:
    """Cancelling a caller neither blocks its key nor marks it as stored."""
    store = existing_store()
    clock = FakeClock()
    delay = Fault(Failure.DELAYED, Op.PUT, seconds=60)
    vault = new_vault(FaultyStore(store, [delay], clock=clock))
    async with anyio.create_task_group() as group:
        group.start_soon(vault.put_plaintext, key_of(b"x"), b"x")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert store.bucket.objects == {}
    assert await vault.put_plaintext(key_of(b"x"), b"x") is Put.STORED


async def test_beyond_the_first_page_objects_are_asked_for_until_a_page_pays() -> None:
    """Keys past the listing cost a HEAD each; after some, the next page of keys is read."""
    counted = Counted()
    for number in range(1_500):
        await plant(counted.store, f"data/{MAILBOX}/{number:064x}", b"x" * 40)
    contents = [b"%d" % number for number in range(HEADS_PER_PAGE + 5)]
    for content in contents:
        assert await counted.put(content) is Put.STORED
    listings, heads, puts = counted.asked()
    assert (listings, heads, puts) == (2, HEADS_PER_PAGE, len(contents))


async def test_prefixes_and_mailboxes_are_listed_apart() -> None:
    """Messages and attachments of one content are two objects."""
    counted = Counted()
    await counted.put(b"same")
    key = key_of(b"same", "attachments")
    assert await counted.vault.put_plaintext(key, b"same") is Put.STORED
    assert counted.asked() == (2, 0, 2)


@pytest.mark.parametrize("size", [0, 10, THREAD_BYTES + 1])
async def test_content_of_any_size_is_sealed_and_read_back(size: int) -> None:
    """Small objects and those handled in threads alike; metadata and sizes are right."""
    counted = Counted()
    content = b"c" * size
    metadata = {"x-plaintext-sha256": sha256_of(content)}
    await counted.vault.put_plaintext(key_of(content), content, metadata=metadata)
    stored = counted.store.bucket.objects[key_of(content)]
    assert stored.info.size == size + OVERHEAD_BYTES == counted.vault.bytes_uploaded
    assert stored.info.metadata == metadata
    assert Sealer(DEK).open(stored.body) == content
    assert await counted.vault.read_content(key_of(content), sha256_of(content)) == content
    assert await counted.vault.check_content(key_of(content), sha256_of(content)) == size


@pytest.mark.parametrize(("cuts", "passes"), [(4, True), (5, False)])
async def test_a_stream_that_breaks_off_is_read_again(cuts: int, passes: bool) -> None:
    """From its beginning, a few times; opening it has tries of its own."""
    inner = existing_store()
    content = b"large" * 300_000
    key = key_of(content, "attachments")
    await new_vault(inner).put_plaintext(key, content)
    cut = Fault(Failure.PARTIAL, Op.OPEN, times=cuts)
    vault = new_vault(FaultyStore(inner, [cut], clock=FakeClock()))
    if passes:
        assert await vault.check_content(key, sha256_of(content)) == len(content)
    else:
        with pytest.raises(StoreTransient):
            await vault.check_content(key, sha256_of(content))


def spool_of(content: bytes) -> Spool:
    """Return a spool of content."""
    sealing = SpoolSealer(Sealer(DEK), None)
    sealing.update(content)
    return sealing.finish()


async def test_a_spool_is_stored_once_like_any_content() -> None:
    """A large attachment deduplicates by the same rules."""
    counted = Counted()
    content = b"large" * 300_000
    key = key_of(content, "attachments")
    spool = await to_thread.run_sync(spool_of, content)
    try:
        assert await counted.vault.put_spool(key, spool) is Put.STORED
        assert await counted.vault.put_spool(key, spool) is Put.DEDUPLICATED
    finally:
        spool.close()
    assert counted.asked() == (1, 0, 1)
    assert await counted.vault.check_content(key, sha256_of(content)) == len(content)
    assert counted.vault.bytes_uploaded == len(content) + OVERHEAD_BYTES


@pytest.mark.parametrize("size", [20, THREAD_BYTES + 1, 3_000_000])
async def test_another_object_below_the_name_is_foreign(size: int) -> None:
    """An authentic object that is not what its name says is never handed on."""
    store = existing_store()
    vault = new_vault(store)
    one, other = b"a" * size, b"b" * size
    await vault.put_plaintext(key_of(one), one)
    await vault.put_plaintext(key_of(other), other)
    store.bucket.objects[key_of(one)] = store.bucket.objects[key_of(other)]
    at_once = partial(vault.check_content, size=size)
    for read in (vault.read_content, vault.check_content, at_once):
        with pytest.raises(ForeignObject) as caught:
            await read(key_of(one), sha256_of(one))
        assert (caught.value.where, caught.value.exit_code) == (key_of(one), 16)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer"])
async def test_a_damaged_object_is_told(damage: str) -> None:
    """Whatever was done to the bytes, both ways of reading find it, and it is not foreign."""
    store = existing_store()
    vault = new_vault(store)
    content = b"some content" * 100
    key = key_of(content)
    await vault.put_plaintext(key, content)
    body = store.bucket.objects[key].body
    flipped = bytes([body[0] ^ 1]) + body[1:]
    changed = {"flip": flipped, "cut": body[:-1], "empty": b"", "longer": body + b"x"}
    await plant(store, key, changed[damage])
    at_once = partial(vault.check_content, size=len(content))
    for read in (vault.read_content, vault.check_content, at_once):
        with pytest.raises(IntegrityError) as caught:
            await read(key, sha256_of(content))
        assert type(caught.value) is IntegrityError


@pytest.mark.parametrize("recorded", [0, 99, 100, 101, WHOLE_BYTES + 1])
async def test_a_wrongly_recorded_size_changes_nothing(recorded: int) -> None:
    """What is recorded chooses the way of reading; the object itself decides the outcome."""
    vault = new_vault()
    content = b"x" * 100
    await vault.put_plaintext(key_of(content), content)
    size = await vault.check_content(key_of(content), sha256_of(content), size=recorded)
    assert size == len(content)


async def test_an_object_that_should_be_small_is_never_held_whole() -> None:
    """Something huge in the place of a small message is read piece by piece, and found foreign."""
    store = existing_store()
    vault = new_vault(store)
    small, huge = b"mail", b"h" * (4 << 20)
    await vault.put_plaintext(key_of(small), small)
    await vault.put_plaintext(key_of(huge), huge)
    store.bucket.objects[key_of(small)] = store.bucket.objects[key_of(huge)]
    held: list[int] = []
    whole = store.get

    async def watched(key: str, *, most: int | None = None) -> StoredObject:
        stored = await whole(key, most=most)
        if most is not None:
            held.append(len(stored.body))
        return stored

    store.get = watched  # type: ignore[method-assign]  # to see what is held
    with pytest.raises(ForeignObject):
        await vault.check_content(key_of(small), sha256_of(small), size=len(small))
    assert held == []


async def test_a_missing_object_is_told() -> None:
    """Nothing below the name is its own error."""
    vault = new_vault()
    for read in (vault.read_content, vault.check_content, partial(vault.check_content, size=1)):
        with pytest.raises(ObjectNotFound):
            await read(key_of(b"x"), sha256_of(b"x"))
    assert not await vault.has(key_of(b"x"))


async def test_documents_are_bound_to_their_mailbox_and_kind() -> None:
    """A document that was copied from another mailbox is foreign, one of another kind unknown."""
    store = existing_store()
    own = new_vault(store)
    document = {"format": 1, "kind": "head", "mailbox_id": MAILBOX}
    await own.put_document("catalog/x", document)
    assert await own.read_document("catalog/x", kind="head") == document
    with pytest.raises(ForeignObject, match="another mailbox"):
        await new_vault(store, OTHER_MAILBOX).read_document("catalog/x", kind="head")
    with pytest.raises(FormatError):
        await own.read_document("catalog/x", kind="ledger")


async def test_documents_are_replaced() -> None:
    """A document's name says nothing of its content, so a second one takes its place."""
    vault: Vault = new_vault()
    for number in range(2):
        document = {"format": 1, "kind": "head", "mailbox_id": MAILBOX, "n": number}
        await vault.put_document("catalog/x", document)
    assert (await vault.read_document("catalog/x", kind="head"))["n"] == 1
