"""What is particular to a directory as a bucket: its files, and what can go wrong with them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.config.settings import DirectorySettings
from atlas_async.errors import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    StoreAuthError,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreTransient,
)
from atlas_async.store import bucket_walk, durable_files
from atlas_async.store.base import list_all
from atlas_async.store.directory import DirectoryStore
from atlas_async.store.file_errors import translate
from atlas_async.store.file_names import decode_segment, encode_key, encode_segment
from atlas_async.store.listing import cut_page
from tests.fakes.bodies import PatternBody, md5_of
from tests.fakes.clock import FakeClock

BUCKET = "atlas-tenant"
MIB = 1 << 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    """Give a store whose bucket exists."""
    opened = directory_store(tmp_path)
    await opened.open_bucket(create=True)
    yield opened
    await opened.aclose()


def directory_store(root: Path, clock: FakeClock | None = None) -> DirectoryStore:
    """Return a store over ``root``."""
    return DirectoryStore(DirectorySettings(root), BUCKET, clock=clock or FakeClock())


async def put(store: DirectoryStore, key: str, body: bytes = b"body", **metadata: str) -> None:
    """Put a small body."""
    await store.put(key, body, md5=md5_of(body), metadata=metadata)


def files_below(root: Path) -> dict[str, bytes]:
    """Return every file and its content."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


async def test_the_tree_is_the_bucket(store: DirectoryStore, tmp_path: Path) -> None:
    """Bodies stand as they are under their keys; metadata and nothing else beside them."""
    await put(store, "data/anne@example.com/ab", b"one", k="v")
    await put(store, "_meta/dek.enc", b"two")
    assert files_below(tmp_path / BUCKET) == {
        "data/anne@example.com/ab": b"one",
        "_meta/dek.enc": b"two",
        ".atlas-meta/data/anne@example.com/ab.json": b'{"k": "v"}',
    }


async def test_objects_put_there_by_other_programs_are_objects(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """A tree that was copied into place, without this program's directories, is a bucket."""
    (tmp_path / BUCKET / "data" / "a").mkdir(parents=True)
    (tmp_path / BUCKET / "data" / "a" / "1").write_bytes(b"copied")
    assert (await store.get("data/a/1")).body == b"copied"
    assert [info.key async for info in list_all(store, "")] == ["data/a/1"]


async def test_metadata_of_an_overwritten_object_goes_with_it(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """Overwriting and deleting leave no metadata behind."""
    await put(store, "a", k="v")
    await put(store, "a")
    await put(store, "b", k="v")
    await store.delete("b")
    assert files_below(tmp_path / BUCKET) == {"a": b"body"}


async def test_temporary_files_are_no_objects_and_are_swept_when_old(tmp_path: Path) -> None:
    """What a crash left is invisible, and removed when a day old; younger ones may be in use."""
    clock = FakeClock(datetime.now(UTC))
    store = directory_store(tmp_path, clock)
    await store.open_bucket(create=True)
    leftovers = tmp_path / BUCKET / ".atlas-tmp"
    leftovers.mkdir()
    (leftovers / "left").write_bytes(b"part")
    await store.open_bucket(create=False)
    assert [info.key async for info in list_all(store, "")] == []
    assert (leftovers / "left").exists()
    clock.jump(timedelta(days=2).total_seconds())
    await store.open_bucket(create=False)
    assert not (leftovers / "left").exists()


async def test_failed_and_cancelled_puts_leave_no_files(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """A wrong MD5, a taken key and a cancelled body leave no temporary file."""
    await put(store, "a")
    with pytest.raises(StoreTransient):
        await store.put("b", b"body", md5=md5_of(b"other"), metadata={"k": "v"})
    with pytest.raises(ObjectExists):
        await store.put("a", b"other", md5=md5_of(b"other"), if_absent=True, metadata={"k": "v"})

    async def between(index: int) -> None:
        if index == 1:
            scope.cancel()

    body = PatternBody(3 * MIB, between=between)
    with anyio.CancelScope() as scope:
        await store.put("c", body, md5=body.md5())
    assert files_below(tmp_path / BUCKET) == {"a": b"body"}


async def test_links_do_not_lead_out(store: DirectoryStore, tmp_path: Path) -> None:
    """Symbolic links, of files or directories, are neither followed nor listed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tmp_path / BUCKET / "data").symlink_to(outside)
    (tmp_path / BUCKET / "file").symlink_to(outside / "secret")
    for key in ("data/secret", "file"):
        with pytest.raises(StoreError, match="symbolic link"):
            await store.get(key)
    with pytest.raises(StoreError, match="symbolic link"):
        await put(store, "data/new")
    assert [info.key async for info in list_all(store, "")] == []
    assert files_below(outside) == {"secret": b"secret"}


async def test_a_bucket_that_is_a_link_elsewhere_is_refused(tmp_path: Path) -> None:
    """The bucket itself may not lead out of the storage directory."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / BUCKET).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="leads out"):
        await directory_store(tmp_path / "root").open_bucket(create=False)


@pytest.mark.parametrize(
    "key", ["../escape", "a/../../escape", "./a", "a/./b", ".atlas-tmp/x", ".atlas-meta/x"]
)
async def test_dots_are_ordinary_characters(
    store: DirectoryStore, tmp_path: Path, key: str
) -> None:
    """Keys with dot segments are kept inside the bucket, and read back as themselves."""
    await put(store, key, b"dots", k="v")
    assert (await store.get(key)).body == b"dots"
    assert [info.key async for info in list_all(store, "")] == [key]
    assert {path.name for path in tmp_path.iterdir()} == {BUCKET}


async def test_a_bucket_name_cannot_leave_the_root(tmp_path: Path) -> None:
    """A bucket is one name."""
    with pytest.raises(StoreMisconfigured):
        DirectoryStore(DirectorySettings(tmp_path), "../etc", clock=FakeClock())


async def test_a_vanished_volume_is_not_an_empty_bucket(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """When the directory goes away while in use, no request takes it for an empty one."""
    await put(store, "data/a")
    (tmp_path / BUCKET).rename(tmp_path / "unmounted")
    with pytest.raises(BucketNotFound):
        await store.head("data/a")
    with pytest.raises(BucketNotFound):
        await store.get("data/a")
    with pytest.raises(BucketNotFound):
        await store.list_page("")
    with pytest.raises(BucketNotFound):
        await store.delete("data/a")
    with pytest.raises(BucketNotFound):
        await put(store, "data/a")


async def test_a_key_below_another_objects_key_is_refused(store: DirectoryStore) -> None:
    """A file cannot be a directory too; the message says so."""
    await put(store, "a")
    await put(store, "d/x")
    with pytest.raises(StoreError, match="beginning of another"):
        await put(store, "a/b")
    with pytest.raises(StoreError, match="beginning of another"):
        await put(store, "d")
    with pytest.raises(ObjectNotFound):
        await store.get("d")
    assert await store.head("a/b") is None


async def test_damaged_metadata_does_not_cost_the_object(
    store: DirectoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A metadata file that is not a JSON object is told of; the object proves itself."""
    await put(store, "a", k="v")
    for text in ("{", "[]"):
        caplog.clear()
        (tmp_path / BUCKET / ".atlas-meta" / "a.json").write_text(text)
        info = await store.head("a")
        assert info is not None
        assert not info.metadata
        assert "damaged" in caplog.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 1 MiB, where the test may mount one."""
    point = tmp_path / "small"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)]
    if (
        not sys.platform.startswith("linux")
        or os.geteuid()
        or subprocess.run(mount, check=False).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield point
    subprocess.run(["umount", str(point)], check=True)


async def test_a_full_disk_leaves_nothing_partial(small_disk: Path) -> None:
    """ENOSPC is ``StoreFull`` with a hint; the key stays absent and the space is free again."""
    store = directory_store(small_disk)
    await store.open_bucket(create=True)
    body = PatternBody(3 * MIB)
    for attempt in (b"x" * 2 * MIB, body):
        md5 = md5_of(attempt) if isinstance(attempt, bytes) else attempt.md5()
        with pytest.raises(StoreFull) as caught:
            await store.put("data/a", attempt, md5=md5)
        assert "free space" in caught.value.hint
    assert await store.head("data/a") is None
    await put(store, "data/a", b"x" * (MIB // 2))


async def test_a_read_only_file_system_says_so(small_disk: Path) -> None:
    """EROFS is an access error; reading goes on."""
    store = directory_store(small_disk)
    await store.open_bucket(create=True)
    await put(store, "data/a")
    await anyio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
    with pytest.raises(StoreAuthError, match="read-only"):
        await put(store, "data/b")
    await store.open_bucket(create=False)
    assert (await store.get("data/a")).body == b"body"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreAuthError),
        (errno.EACCES, StoreAuthError),
        (errno.EPERM, StoreAuthError),
        (errno.ENOENT, BucketNotFound),
        (errno.ENOTDIR, StoreError),
        (errno.EMFILE, StoreTransient),
        (errno.ESTALE, StoreTransient),
        (errno.EIO, StoreError),
    ],
)
def test_system_errors_are_store_errors(code: int, kind: type[StoreError]) -> None:
    """Each errno a disk can give has its meaning."""
    error = translate(OSError(code, os.strerror(code)), "where")
    assert type(error) is kind
    assert error.where == "where"


@pytest.mark.parametrize("failing", ["fsync", "link", "replace", "write"])
async def test_an_error_in_the_middle_of_a_put_leaves_the_key_as_it_was(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Whatever system call fails, the key is absent and no temporary file remains."""

    def broken(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, broken)
        with pytest.raises(StoreError, match="file system failed"):
            await store.put("data/a", b"body", md5=md5_of(b"body"), if_absent=failing == "link")
    assert await store.head("data/a") is None
    assert files_below(tmp_path / BUCKET) == {}
    await put(store, "data/a")


async def test_without_hard_links_conditions_are_not_atomic_and_say_so(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without hard links a conditional put works, and is known not to be safe."""

    def unsupported(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    await store.put("a", b"body", md5=md5_of(b"body"), if_absent=True)
    assert store.conditional_writes is False
    with pytest.raises(ObjectExists):
        await store.put("a", b"other", md5=md5_of(b"other"), if_absent=True)
    assert (await store.get("a")).body == b"body"


async def test_concurrent_puts_share_directory_syncs(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts that end together wait for one fsync of their directory, not for one each."""
    await put(store, "data/a/first")
    synced: list[int] = []
    real = os.fsync

    def counting(descriptor: int) -> None:
        real(descriptor)
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112 - a descriptor's link
            synced.append(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(put, store, f"data/a/{number}")
    assert 0 < len(synced) < 40


async def test_a_failed_shared_sync_fails_nobody_wrongly(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one shared fsync fails, those who waited for it sync for themselves."""
    await put(store, "data/a/first")
    failures = [OSError(errno.EIO, "Input/output error")]
    failed: list[StoreError] = []
    real = durable_files.sync_directory

    def once_broken(path: Path) -> None:
        if failures and path.name == "a":
            raise failures.pop()
        real(path)

    monkeypatch.setattr("atlas_async.store.directory_sync.sync_directory", once_broken)

    async def try_put(number: int) -> None:
        try:
            await put(store, f"data/a/{number}")
        except StoreError as error:
            failed.append(error)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(try_put, number)
    assert len(failed) == 1


@pytest.mark.parametrize("delimiter", ["", "/"])
async def test_a_listing_of_a_large_directory_holds_few_names(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, delimiter: str
) -> None:
    """Whatever a directory holds, a bounded number of its names is kept; none is left out."""
    monkeypatch.setattr(bucket_walk, "FIRST_NAMES", 4)
    monkeypatch.setattr(bucket_walk, "MOST_NAMES", 16)
    kept: list[int] = []

    def spied(most: int, names: Iterator[str]) -> list[str]:
        found = nsmallest(most, names)
        kept.append(len(found))
        return found

    monkeypatch.setattr(bucket_walk, "nsmallest", spied)
    keys = {f"data/{number * 7919 % 100:02}" for number in range(100)}
    keys |= {f"data/{number:02}x/deep" for number in range(0, 100, 9)} | {"other/1"}
    for key in keys:
        await put(store, key)
    shown: list[str] = []
    token: str | None = None
    while True:
        page = await store.list_page("data/", delimiter=delimiter, token=token, limit=7)
        shown += sorted([info.key for info in page.objects] + list(page.prefixes))
        token = page.token
        if token is None:
            break
    below = sorted(key for key in keys if key.startswith("data/"))
    folded = sorted({key.removesuffix("deep") for key in below})
    assert shown == (folded if delimiter else below)
    assert max(kept) == 16
    assert len(kept) > 8


async def test_a_listing_goes_on_where_it_was_without_reading_again(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages of one listing read each directory once."""
    for number in range(30):
        await put(store, f"data/a/{number:02}")
    scans: list[object] = []
    real: Callable[..., object] = os.scandir

    def counting(path: str) -> object:
        scans.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", counting)
    token, keys = None, []
    while True:
        page = await store.list_page("data/", token=token, limit=4)
        keys += [info.key for info in page.objects]
        token = page.token
        if token is None:
            break
    assert keys == [f"data/a/{number:02}" for number in range(30)]
    assert len(scans) == 3


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40))
def test_any_segment_becomes_a_safe_name_and_back(segment: str) -> None:
    """Encoding is reversible, and never yields a hidden, special or separating name."""
    name = encode_segment(segment)
    assert decode_segment(name) == segment
    assert not name.startswith(".")
    assert not set(name) & {"/", "\\", ":", "\0", "\n"}


@given(
    st.sets(st.text("ab/-.", min_size=1, max_size=6), max_size=12),
    st.text("ab/", max_size=3),
    st.sampled_from(["", "/", "-"]),
    st.integers(1, 4),
)
def test_pages_of_any_size_join_to_the_whole(
    keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    """Cut into pages of any size, a listing is what one large page holds."""
    chosen = sorted(key for key in keys if key.startswith(prefix))
    whole = cut_page(chosen, prefix, delimiter=delimiter, token=None, limit=1000)
    found: tuple[list[str], list[str]] = ([], [])
    token: str | None = None
    while True:
        page = cut_page(chosen, prefix, delimiter=delimiter, token=token, limit=limit)
        assert len(page) <= limit
        found[0].extend(page.keys)
        found[1].extend(page.prefixes)
        token = page.token
        if token is None:
            break
    assert found == (whole.keys, whole.prefixes)


def test_a_name_too_long_for_a_file_is_refused() -> None:
    """A key whose part exceeds what file systems take is refused with a hint."""
    with pytest.raises(StoreError, match="200 bytes") as caught:
        encode_key("data/" + "ü" * 101)
    assert "S3" in caught.value.hint


@pytest.mark.parametrize("name", ["%41", "a%2fb", "%zz%00", "x%ff", "%2E"])
def test_a_foreign_name_that_is_no_encoding_is_no_object(name: str) -> None:
    """A file that no key encodes to has no key."""
    assert decode_segment(name) is None or encode_segment(decode_segment(name) or "") == name
