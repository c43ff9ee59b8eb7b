"""Zips and directories: whole, standard, cut back to a mark, and checked by strangers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.errors import StoreFull, UsageError
from atlas_async.export import zip_entry
from atlas_async.export.container import Container, writing
from atlas_async.export.forms import Target, Written
from atlas_async.export.manifest import Manifest
from atlas_async.export.tree_files import MOST_OPEN, TreeContainer
from atlas_async.export.zip_entry import ZipEntry, central_rest, read_central
from atlas_async.export.zip_file import ZipContainer

MOMENT = 1_776_684_599.0
"""2026-04-20 11:29:59 UTC."""


def opened(kind: str, place: Path, mark: object = None) -> Container:
    """Open a container of either kind."""
    known = json.loads(json.dumps(mark))
    if kind == "zip":
        return ZipContainer(place / "x.zip", place / "x.directory", known)
    return TreeContainer(place / "x", known)


def filled(container: Container) -> list[Written]:
    """Add a small entry, one in pieces, and one that is rolled back."""
    container.make_folder("Inbox/Ordner ü")
    first = container.put(container.pack(Target("Inbox/a.eml", modified=MOMENT), b"small" * 99))
    container.begin(Target("Inbox/Ordner ü/b.eml", modified=MOMENT))
    for piece in (b"one ", b"", b"two" * 100_000):
        container.write(piece)
    second = container.commit()
    container.begin(Target("Inbox/gone.eml"))
    container.write(os.urandom(300_000))
    container.rollback()
    container.rollback()
    return [first, second]


def held(kind: str, place: Path) -> dict[str, bytes]:
    """Return what a finished container holds, read by others' code."""
    if kind == "zip":
        with zipfile.ZipFile(place / "x.zip") as archive:
            assert archive.testzip() is None
            return {n: archive.read(n) for n in archive.namelist() if not n.endswith("/")}
    root = place / "x"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(params=["zip", "tree"])
def kind(request: pytest.FixtureRequest) -> str:
    """Name each kind of container."""
    return str(request.param)


def test_entries_are_what_was_written(kind: str, tmp_path: Path) -> None:
    """Small entries, those in pieces, and no trace of one that was rolled back."""
    container = opened(kind, tmp_path)
    written = filled(container)
    container.finish()
    assert list(container.damaged(written)) == []
    container.close()
    found = held(kind, tmp_path)
    assert found == {"Inbox/a.eml": b"small" * 99, "Inbox/Ordner ü/b.eml": b"one " + b"two" * 10**5}
    for entry in written:
        assert entry.size == len(found[entry.path])
        assert entry.sha256 == hashlib.sha256(found[entry.path]).hexdigest()


def test_a_mark_is_come_back_to(kind: str, tmp_path: Path) -> None:
    """What came after a mark is gone when the container is opened with it; the rest is there."""
    container = opened(kind, tmp_path)
    container.put(container.pack(Target("a.eml"), b"a"))
    container.put(container.pack(Target("box.mbox", append=True), b"first\n"))
    mark = container.mark()
    container.put(container.pack(Target("box2.mbox", append=True), b"later\n"))
    if kind == "tree":
        container.put(container.pack(Target("box.mbox", append=True), b"second\n"))
    container.begin(Target("half.eml"))
    container.write(b"x" * 500_000)
    container.close()
    again = opened(kind, tmp_path, mark)
    again.put(again.pack(Target("b.eml"), b"b"))
    if kind == "tree":
        entry = again.put(again.pack(Target("box.mbox", append=True), b"third\n"))
        assert entry.offset == len(b"first\n")
        again.put(again.pack(Target("box2.mbox", append=True), b"anew\n"))
    again.finish()
    again.close()
    found = held(kind, tmp_path)
    assert "half.eml" not in found
    assert (found["a.eml"], found["b.eml"]) == (b"a", b"b")
    if kind == "tree":
        assert found["box.mbox"] == b"first\nthird\n"
        assert found["box2.mbox"] == b"anew\n"
        assert set(found) == {"a.eml", "b.eml", "box.mbox", "box2.mbox"}
    else:
        assert set(found) == {"a.eml", "b.eml", "box.mbox"}


def test_a_file_that_lost_its_end_is_not_continued(kind: str, tmp_path: Path) -> None:
    """A file shorter than its mark is an error, never filled with zeros."""
    container = opened(kind, tmp_path)
    container.put(container.pack(Target("box.mbox", append=True), b"first\n"))
    mark = container.mark()
    container.close()
    path = tmp_path / "x.zip" if kind == "zip" else tmp_path / "x" / "box.mbox"
    with path.open("r+b") as file:
        file.truncate(2)
    with pytest.raises(ValueError, match="x"):
        opened(kind, tmp_path, mark)


def test_what_the_disk_lost_is_found(kind: str, tmp_path: Path) -> None:
    """Reading back tells which entry is not what was written, and which is not there at all."""
    container = opened(kind, tmp_path)
    written = filled(container)
    container.finish()
    path = tmp_path / "x.zip" if kind == "zip" else tmp_path / "x" / written[0].path
    begin = path.read_bytes().find(b"Inbox/a.eml") + 30 if kind == "zip" else 100
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff\xff\xff")
    assert list(container.damaged(written)) == ["Inbox/a.eml"]
    never = Written("never.eml", 0, 1, "0" * 64)
    assert list(container.damaged([*written, never])) == ["Inbox/a.eml", "never.eml"]
    if kind == "zip":
        assert list(container.damaged(written[:1])) == ["Inbox/a.eml", "Inbox/Ordner ü/b.eml"]
    container.close()


def test_files_are_for_their_owner(kind: str, tmp_path: Path) -> None:
    """Mail is written for nobody else to read; times are the messages'."""
    container = opened(kind, tmp_path)
    filled(container)
    container.finish()
    container.close()
    for path in tmp_path.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600)
    if kind == "tree":
        assert (tmp_path / "x/Inbox/a.eml").stat().st_mtime == MOMENT
    else:
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            info = archive.getinfo("Inbox/a.eml")
            assert info.date_time == (2026, 4, 20, 11, 29, 58)
            assert info.external_attr >> 16 == 0o100600
            assert archive.getinfo("Inbox/").is_dir()


def test_unzip_takes_it(tmp_path: Path) -> None:
    """Another program tests and lists the zip, names in any language included."""
    program = shutil.which("unzip")
    if program is None:
        pytest.skip("no unzip here: not run")
    container = opened("zip", tmp_path)
    filled(container)
    container.finish()
    container.close()
    subprocess.run([program, "-tq", tmp_path / "x.zip"], check=True, capture_output=True)
    subprocess.run([program, "-q", tmp_path / "x.zip", "-d", tmp_path / "out"], check=True)
    assert (tmp_path / "out/Inbox/a.eml").stat().st_mtime == MOMENT


def test_a_zip_of_many_entries_and_far_offsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes, offsets and counts beyond 32 and 16 bits have their 64-bit records."""
    container = opened("zip", tmp_path)
    assert isinstance(container, ZipContainer)
    packed = container.pack(Target("x"), b"x")
    count = 70_000
    for number in range(count):
        container.put(type(packed)(Target(f"{number}"), packed.data, 1, packed.crc, packed.sha256))
    container.finish()
    container.close()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert len(archive.namelist()) == count
        assert archive.read("69999") == b"x"


@given(
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.text(max_size=20).filter(lambda text: not text.endswith("/")),
    st.one_of(st.none(), st.floats(0, 1e10)),
)
def test_directory_records_hold_what_they_were_given(
    offset: int, size: int, packed: int, name: str, modified: float | None
) -> None:
    """A record is read back as it was written, 64-bit values included."""
    name = name.encode("utf-8", "replace").decode()
    entry = ZipEntry(name, modified, offset, crc=7, packed=packed, size=size)
    record = entry.central()
    head, rest = record[: zip_entry.CENTRAL_BYTES], record[zip_entry.CENTRAL_BYTES :]
    assert central_rest(head) == len(rest)
    found = read_central(head, rest)
    assert (found.name, found.offset, found.size, found.packed, found.crc) == (
        name,
        offset,
        size,
        packed,
        7,
    )


def test_a_zip_beyond_four_gigabytes_is_read_by_others(tmp_path: Path) -> None:
    """An entry that begins behind 4 GiB, and one that is larger, are found (sparse, so quick)."""
    far = 5 << 30
    path = tmp_path / "far.zip"
    entry = ZipEntry("far.eml", MOMENT, far, crc=zlib.crc32(b"a"), size=1, packed=3)
    with path.open("wb") as file:
        file.seek(far)
        file.write(entry.local() + b"\x4b\x04\x00")
        start = file.tell()
        central = entry.central()
        file.write(central + zip_entry.ending(1, start, len(central)))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("far.eml") == b"a"
        assert archive.getinfo("far.eml").header_offset == far


def test_many_entries_are_counted_in_64_bits() -> None:
    """A count beyond 16 bits, or a directory beyond 32, has the record that can hold it."""
    assert zip_entry.ending(65_534, 10, 20).startswith(b"PK\5\6")
    for values in ((65_535, 10, 20), (1, 1 << 32, 20), (1, 10, 1 << 32)):
        tail = zip_entry.ending(*values)
        assert tail.startswith(b"PK\6\6")
        entries, start, size = values
        assert tail[24:56] == b"".join(
            value.to_bytes(8, "little") for value in (entries, entries, size, start)
        )


def test_nothing_stays_of_what_was_rolled_back(tmp_path: Path) -> None:
    """Bytes of an entry that was taken back are not left between others."""
    sizes = []
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        container = opened("zip", tmp_path / name)
        if name == "with":
            container.begin(Target("gone.eml"))
            container.write(os.urandom(300_000))
            container.rollback()
        container.put(container.pack(Target("a.eml"), b"a"))
        container.finish()
        container.close()
        sizes.append((tmp_path / name / "x.zip").read_bytes())
    assert sizes[0] == sizes[1]


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    """Folders beyond the number of open files are added to all the same, in any order."""
    container = opened("tree", tmp_path)
    for turn in range(2):
        for number in range(MOST_OPEN + 10):
            data = f"{turn}\n".encode()
            container.put(container.pack(Target(f"{number}.mbox", append=True), data))
    container.finish()
    found = held("tree", tmp_path)
    assert len(found) == MOST_OPEN + 10
    assert set(found.values()) == {b"0\n1\n"}


def test_an_appended_entry_is_rolled_back(tmp_path: Path) -> None:
    """Half an entry leaves a shared file as it was."""
    container = opened("tree", tmp_path)
    container.put(container.pack(Target("box.mbox", append=True), b"first\n"))
    container.begin(Target("box.mbox", append=True))
    container.write(b"half")
    container.rollback()
    entry = container.put(container.pack(Target("box.mbox", append=True), b"second\n"))
    container.finish()
    assert entry.offset == 6
    assert held("tree", tmp_path) == {"box.mbox": b"first\nsecond\n"}


def test_once_is_once(tmp_path: Path) -> None:
    """A file whose name tells its content is known to be there."""
    container = opened("tree", tmp_path)
    target = Target("attachments/abc", once=True)
    assert not container.has(target)
    container.put(container.pack(target, b"x"))
    assert container.has(target)
    assert not container.has(Target("attachments/abc"))
    container.close()


def test_what_the_system_refuses_is_told() -> None:
    """A full disk can be freed; anything else is where the export shall go."""
    with pytest.raises(StoreFull, match="no space"), writing("here"):
        raise OSError(28, "No space left on device")
    with pytest.raises(UsageError, match="cannot write"), writing("here"):
        raise PermissionError(13, "Permission denied")


def test_a_manifest_is_cut_back_to_its_mark(tmp_path: Path) -> None:
    """Lines after a mark are gone, whatever is written in their place; a shorter file is refused."""
    path = tmp_path / "manifest"
    manifest = Manifest(path, 0)
    manifest.add({"path": "a", "offset": 0, "size_bytes": 1, "sha256": "x"})
    length = manifest.mark()
    manifest.add({"path": "b" * 5_000, "offset": 0, "size_bytes": 1, "sha256": "y"})
    manifest.mark()
    manifest.close()
    again = Manifest(path, length)
    again.add({"path": None})
    assert [entry.path for entry in again.written()] == ["a"]
    again.close()
    assert [json.loads(line)["path"] for line in path.read_bytes().splitlines()] == ["a", None]
    with pytest.raises(ValueError, match="manifest"):
        Manifest(path, 10_000)
