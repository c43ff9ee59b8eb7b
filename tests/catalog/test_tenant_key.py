"""One data key per tenant, however many first runs there are; never a second one beside data."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import pytest

from atlas_async.catalog.tenant_key import (
    SETTLE_SECONDS,
    make_tenant_key,
    open_tenant_key,
)
from atlas_async.config.secret import Secret
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import new_dek, wrap_dek, wrapped_version
from atlas_async.errors import KeyMaterialError, ObjectNotFound, StoreAuthError, StoreError
from atlas_async.store.base import ObjectStore, SpooledBody
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.vaults import existing_store, plant

TENANT = "11111111-2222-3333-4444-555555555555"
PASSPHRASE = Secret("right")
DEK_KEY = "_meta/dek.enc"


async def made(store: ObjectStore, clock: FakeClock | None = None, *, version: int = 0) -> Sealer:
    """Open or make the tenant's key; v0 by default because it is quicker to derive."""
    return await make_tenant_key(
        store, PASSPHRASE, TENANT, version=version, clock=clock or FakeClock()
    )


def same_key(one: Sealer, other: Sealer) -> bool:
    """Tell whether two sealers hold one key."""
    return other.open(one.seal(b"x").body) == b"x"


class UnconditionalStore(MemoryStore):
    """A store that ignores ``if_absent``, as some servers do."""

    conditional_writes: bool | None = False

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store the object, whatever is there."""
        await super().put(key, body, md5=md5, metadata=metadata)


async def test_an_empty_bucket_has_no_key_and_reading_makes_none() -> None:
    """Opening for reading tells that nothing is there and writes nothing."""
    store = existing_store()
    assert await open_tenant_key(store, PASSPHRASE, TENANT) is None
    assert store.bucket.objects == {}


@pytest.mark.parametrize("version", [0, 1])
async def test_a_first_run_makes_the_key_and_later_runs_use_it(version: int) -> None:
    """One object is written, in the form that was asked for, and never again."""
    store = existing_store()
    clock = FakeClock()
    sealer = await made(store, clock, version=version)
    before = dict(store.bucket.objects)
    assert list(before) == [DEK_KEY]
    assert wrapped_version(before[DEK_KEY].body) == version
    opened = await open_tenant_key(store, PASSPHRASE, TENANT)
    assert opened is not None
    assert same_key(sealer, opened)
    assert same_key(sealer, await made(store, version=1 - version))
    assert store.bucket.objects == before
    assert clock.slept == []


async def test_first_runs_at_once_end_with_one_key() -> None:
    """However many race, the store decides for one and all others use it."""
    bucket = MemoryBucket(exists=True)
    sealers: list[Sealer] = []
    clock = FakeClock()

    async def run() -> None:
        sealers.append(await made(MemoryStore(bucket), clock))

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(run)
    assert len(sealers) == 6
    assert list(bucket.objects) == [DEK_KEY]
    stored = await open_tenant_key(MemoryStore(bucket), PASSPHRASE, TENANT)
    assert stored is not None
    assert all(same_key(sealer, stored) for sealer in sealers)
    assert clock.slept == []


async def test_without_conditional_writes_a_fresh_key_must_settle() -> None:
    """Nothing is sealed until the key has stayed the same for a while: racers end with one."""
    bucket = MemoryBucket(exists=True)
    clock = FakeClock()
    sealers: list[Sealer] = []

    async def run() -> None:
        sealers.append(await made(UnconditionalStore(bucket), clock))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(run)
        with anyio.fail_after(30):
            while clock.sleepers < 3:
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(bool)
        assert sealers == []
        await clock.advance(SETTLE_SECONDS)
    stored = await open_tenant_key(UnconditionalStore(bucket), PASSPHRASE, TENANT)
    assert stored is not None
    assert len(sealers) == 3
    assert all(same_key(sealer, stored) for sealer in sealers)


async def test_a_key_that_was_replaced_while_it_settled_is_not_used() -> None:
    """The key that lies in the bucket at the end counts, not the one that was written."""
    store = UnconditionalStore(MemoryBucket(exists=True))
    clock = FakeClock()
    theirs = new_dek()
    sealers: list[Sealer] = []

    async def run() -> None:
        sealers.append(await made(store, clock))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        with anyio.fail_after(30):
            while not clock.sleepers:
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(bool)
        blob = wrap_dek(theirs, PASSPHRASE, TENANT, version=0)
        await plant(store, DEK_KEY, blob)
        await clock.advance(SETTLE_SECONDS)
    assert same_key(sealers[0], Sealer(theirs))


@pytest.mark.parametrize(
    "key",
    [
        "manifests/a@x/s.json",
        "data/a@x/00",
        "attachments/a@x/00",
        "catalog/a@x/head",
    ],
)
async def test_a_lost_key_beside_data_is_refused(key: str) -> None:
    """A second key would make the data unreadable for good, so none is made: exit code 12."""
    store = existing_store()
    await plant(store, key, b"sealed under the lost key")
    before = dict(store.bucket.objects)
    for attempt in (made(store), open_tenant_key(store, PASSPHRASE, TENANT)):
        with pytest.raises(KeyMaterialError, match="missing") as caught:
            await attempt
        assert (caught.value.exit_code, caught.value.where) == (12, store.name)
        assert "restore" in caught.value.hint
    assert store.bucket.objects == before


async def test_a_key_that_appears_while_data_is_found_is_used() -> None:
    """A first run beside this one may write key and data between the two questions."""
    store = existing_store()
    sealer = await made(store)
    await plant(store, "data/a@x/00", b"sealed")
    lost_once = Fault(Failure.REFUSED, Op.GET, key=DEK_KEY, error=_absent)
    opened = await open_tenant_key(
        FaultyStore(store, [lost_once], clock=FakeClock()), PASSPHRASE, TENANT
    )
    assert opened is not None
    assert same_key(sealer, opened)


def _absent() -> StoreError:
    return ObjectNotFound("no such object")


async def test_a_marker_alone_is_no_data() -> None:
    """What lies below ``_meta/`` beside the key needs no key."""
    store = existing_store()
    await plant(store, "_meta/replica.marker", b"{}")
    assert await open_tenant_key(store, PASSPHRASE, TENANT) is None


@pytest.mark.parametrize("blob", [b"", b"x", bytes(61), bytes(5000), b"\x01\x01" + bytes(100)])
async def test_a_damaged_key_is_told_and_not_replaced(blob: bytes) -> None:
    """Whatever lies in the key's place, it is an error with a hint, and stays there."""
    store = existing_store()
    await plant(store, DEK_KEY, blob)
    with pytest.raises(KeyMaterialError, match=r"_meta/dek\.enc is damaged") as caught:
        await made(store)
    assert caught.value.hint
    assert store.bucket.objects[DEK_KEY].body == blob


async def test_a_wrong_passphrase_makes_no_key() -> None:
    """A run with the wrong passphrase ends before anything is written."""
    store = existing_store()
    await made(store)
    before = dict(store.bucket.objects)
    with pytest.raises(KeyMaterialError):
        await make_tenant_key(store, Secret("wrong"), TENANT, version=1, clock=FakeClock())
    assert store.bucket.objects == before


async def test_a_store_that_refuses_is_not_taken_for_an_empty_one() -> None:
    """When the key cannot be read for lack of permission no new one is made."""
    store = existing_store()
    denied = Fault(
        Failure.REFUSED, Op.GET, key=DEK_KEY, times=None, error=lambda: StoreAuthError("denied")
    )
    with pytest.raises(StoreAuthError):
        await made(FaultyStore(store, [denied], clock=FakeClock()))
    assert store.bucket.objects == {}
