"""Copies of the key: made durable and private, put back only where they fit."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from atlas_async.catalog.layout import DEK_KEY
from atlas_async.crypto.keyring import HEADER, KDF_SCRYPT, PARAMS, V1, new_dek
from atlas_async.errors import (
    KeyMaterialError,
    ObjectExists,
    ObjectNotFound,
    SnapshotNotFound,
    StoreAuthError,
    UsageError,
)
from atlas_async.store.memory import MemoryStore
from tests.fakes.keyed import MANIFEST, Keyed, keyed, wrapped


async def test_a_copy_is_what_is_in_the_bucket(tmp_path: Path) -> None:
    """The file holds the wrapped key, for its owner alone; and never the key itself."""
    tenant = await keyed()
    file = tmp_path / "key.enc"
    async with tenant.engine() as atlas:
        made = await atlas.export_key(file)
    body = file.read_bytes()
    assert body == (await tenant.store.get(DEK_KEY)).body
    assert tenant.dek not in body
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (made.size, made.version, made.place) == (60, 0, str(file))


async def test_a_copy_replaces_nothing(tmp_path: Path) -> None:
    """A file that is there, and a link that leads to one, are left alone."""
    tenant = await keyed()
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    async with tenant.engine() as atlas:
        for path in (there, link, tmp_path / "no such directory" / "key", tmp_path):
            with pytest.raises(UsageError):
                await atlas.export_key(path)
    assert there.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


async def test_a_key_that_is_not_good_is_not_copied(tmp_path: Path) -> None:
    """A copy of another key, believed to be the right one, would be worse than none."""
    tenant = await keyed()
    await tenant.put(DEK_KEY, wrapped(new_dek()))
    file = tmp_path / "key.enc"
    async with tenant.engine() as atlas:
        with pytest.raises(KeyMaterialError):
            await atlas.export_key(file)
        await tenant.take_key()
        with pytest.raises(SnapshotNotFound):
            await atlas.export_key(file)
    assert not file.exists()


async def export(tenant: Keyed, file: Path) -> None:
    """Copy the key."""
    async with tenant.engine() as atlas:
        await atlas.export_key(file)


async def test_a_copy_is_put_back_where_the_key_is_missing(tmp_path: Path) -> None:
    """After it the backups open again; putting it back twice changes nothing."""
    tenant = await keyed()
    file = tmp_path / "key.enc"
    await export(tenant, file)
    await tenant.take_key()
    async with tenant.engine() as atlas:
        restored = await atlas.restore_key(file)
        assert restored.changed
        assert "Run `atlas key protect` again" in restored.note
        assert (await atlas.check_key()).opened == MANIFEST
        again = await atlas.restore_key(file)
        assert (again.changed, again.note) == (False, "")


async def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """Whatever lies below the key's name stays, damaged or not."""
    tenant = await keyed()
    file = tmp_path / "key.enc"
    await export(tenant, file)
    await tenant.put(DEK_KEY, b"whatever it is")
    async with tenant.engine() as atlas:
        with pytest.raises(ObjectExists, match="nothing was changed"):
            await atlas.restore_key(file)
    assert (await tenant.store.get(DEK_KEY)).body == b"whatever it is"


async def test_a_rivals_key_is_never_replaced(tmp_path: Path) -> None:
    """One that is written between the look and the write wins: the write is conditional."""
    tenant = await keyed()
    file = tmp_path / "key.enc"
    await export(tenant, file)
    await tenant.take_key()

    class Rival(MemoryStore):
        async def put(self, key: str, body: object, **options: object) -> None:
            assert options["if_absent"] is True
            raise ObjectExists("the key is taken")

    async with tenant.engine() as atlas:
        atlas._opened.store = Rival(tenant.bucket)
        with pytest.raises(ObjectExists, match="already"):
            await atlas.restore_key(file)


HOSTILE = (
    HEADER.pack(V1, KDF_SCRYPT, PARAMS.size) + PARAMS.pack(1 << 31, 8, 1, bytes(32)) + bytes(60)
)
UNFIT = {
    "empty": (b"", "holds no wrapped key: 0 bytes of no known form"),
    "text": (b"remember the milk\n", "holds no wrapped key: 18 bytes of no known form"),
    "large": (b"x" * 5000, "holds no wrapped key: more than 4096 bytes of no known form"),
    "damaged": (b"x" * 60, "cannot be opened: the passphrase does not open"),
    "hostile": (HOSTILE, "asks for refused scrypt parameters"),
    "another": (wrapped(new_dek()), "opens none of 1 objects"),
}


@pytest.mark.parametrize("copy", UNFIT)
@pytest.mark.parametrize("from_version", [False, True])
async def test_a_copy_that_does_not_fit_is_not_put_back(
    copy: str, from_version: bool, tmp_path: Path
) -> None:
    """It must open with the passphrase and open the backups; what is at fault is the copy."""
    tenant = await keyed()
    file = tmp_path / "copy"
    await tenant.take_key()
    body, told = UNFIT[copy]
    file.write_bytes(body)
    tenant.protection.bodies["v1"] = body
    async with tenant.engine() as atlas:
        with pytest.raises(KeyMaterialError, match=told) as caught:
            await (atlas.restore_key(version_id="v1") if from_version else atlas.restore_key(file))
    error = caught.value
    assert ("version v1" if from_version else str(file)) in error.message
    assert DEK_KEY not in error.message
    assert "in the bucket" not in error.message
    asked = "`atlas key check` names" if from_version else f"is {file} what `atlas key export`"
    assert asked in error.hint
    assert DEK_KEY not in tenant.bucket.objects


async def test_a_copy_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    """A file that cannot be read is named, and nothing is written."""
    tenant = await keyed()
    await tenant.take_key()
    async with tenant.engine() as atlas:
        for path in (tmp_path / "absent", tmp_path):
            with pytest.raises(UsageError, match=f"{path} cannot be read"):
                await atlas.restore_key(path)
    assert DEK_KEY not in tenant.bucket.objects


async def test_an_older_version_is_put_back() -> None:
    """A version in the bucket does as a copy; one that is not there is an error."""
    tenant = await keyed()
    tenant.protection.bodies["v1"] = await tenant.take_key()
    async with tenant.engine() as atlas:
        with pytest.raises(ObjectNotFound):
            await atlas.restore_key(version_id="v0")
        made = await atlas.restore_key(version_id="v1")
        assert (made.changed, made.place) == (True, "version v1")
        assert (await atlas.check_key()).opened == MANIFEST
        with pytest.raises(UsageError):
            await atlas.restore_key()
        with pytest.raises(UsageError):
            await atlas.restore_key(Path("x"), version_id="v1")


async def test_a_refused_write_tells_of_our_own_policy(tmp_path: Path) -> None:
    """Our statements keep the key from being written: how to take them out is said."""
    tenant = await keyed()
    file = tmp_path / "key.enc"
    await export(tenant, file)
    await tenant.take_key()

    class Frozen(MemoryStore):
        async def put(self, key: str, body: object, **options: object) -> None:
            raise StoreAuthError("the store denies s3:PutObject", hint="grant it")

    async with tenant.engine() as atlas:
        atlas._opened.store = Frozen(tenant.bucket)
        with pytest.raises(StoreAuthError) as caught:
            await atlas.restore_key(file)
    assert "atlas key protect --remove" in caught.value.hint
