"""Names that have no UTF-8, and names that a file system does not take: in mail and of exports."""

from __future__ import annotations

import base64
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.errors import StoreTransient, UsageError
from atlas_async.export.container import writing
from atlas_async.export.destination import check_destination
from atlas_async.export.forms import ExportForm
from atlas_async.export.workspace import Workspace
from atlas_async.model.record import attachment_key
from atlas_async.store.base import StoredObject
from atlas_async.store.memory import MemoryStore
from tests.export.exports import PLACES, contents, exported, leftovers, manifest_of
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.fakes.yard import open_yard

HALF = "half \ud83d"
"""A name with one half of a pair of surrogates: JSON has it, UTF-8 has not."""


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Give a bucket whose folder, subject and attachment have such a name."""
    async with open_rig(replace(SMALL, messages=10)) as rig:
        folder = rig.mutate(op="folder-create", name=HALF)["id"]
        content = base64.b64encode(b"content").decode()
        rig.mutate(
            op="create",
            folder=folder,
            subject=HALF,
            categories=[HALF],
            attachments=[{"name": f"{HALF}.bin", "bytes": content}],
        )
        await rig.back_up_user()
        yield rig


@pytest.mark.parametrize(("name", "form"), PLACES)
async def test_lone_surrogates_in_names_are_exported(
    rig: Rig, tmp_path: Path, name: str, form: ExportForm
) -> None:
    """They cost nothing: all is written, read back, hashed, and in the manifest as it was."""
    report = await exported(rig, tmp_path / name, form=form)
    assert (report.exit_code, report.messages) == (0, len(rig.reachable()))
    contents(report.path)
    (line,) = [line for line in manifest_of(report) if line["folder"] == [HALF]]
    assert [attachment["name"] for attachment in line["attachments"]] == [f"{HALF}.bin"]


async def test_an_export_that_failed_at_such_a_name_continues(rig: Rig, tmp_path: Path) -> None:
    """What failed is in the state with its name, and the same call goes on from there."""
    records = [record async for record in (await rig.view()).messages()]
    (record,) = [record for record in records if record["subject"] == HALF]
    checksum = record["attachments"][0]["checksum"]
    del rig.bucket.objects[attachment_key(USER, checksum)]

    class Failing(MemoryStore):
        gets = 0

        async def get(self, key: str, *, most: int | None = None) -> StoredObject:
            if key.startswith("data/"):
                Failing.gets += 1
                if Failing.gets == len(records):
                    raise StoreTransient("the store is gone")
            return await super().get(key, most=most)

    rig.store = Failing(rig.bucket)
    with pytest.raises(StoreTransient):
        await exported(rig, tmp_path / "mail")
    assert b"\\ud83d" in (tmp_path / "mail.partial.state").read_bytes()
    report = await exported(rig, tmp_path / "mail")
    assert (report.resumed, report.exit_code, report.messages) == (True, 16, len(records))
    assert [failure.name for failure in report.failed] == [f"{HALF}.bin"]


def settings_of(store: Path) -> Settings:
    """Return the settings of a bucket below a directory."""
    return Settings(None, DirectorySettings(store), "t", Secret("p"))


def look(path: Path) -> None:
    """Look at a destination as an export does before anything else."""
    check_destination(path, settings_of(Path("elsewhere")))
    Workspace(path).load()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "a name of its own"),
        (".", "a name of its own"),
        ("/", "a name of its own"),
        ("..", "a name of its own"),
        ("a/..", "a name of its own"),
        ("a\0b/c", "a name of its own"),
        ("a\nb", "line breaks"),
        ("a\rb.zip", "line breaks"),
        ("x" * 240, "at most 237 bytes"),
        ("ü" * 119 + ".zip", "at most 237 bytes"),
        ("x/" * 3000 + "y", "File name too long"),
        ("nowhere/mail", "no such directory"),
    ],
)
def test_names_that_no_export_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """They are refused with a sentence, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said) as refused:
        look(Path(name))
    assert refused.value.hint or refused.value.where
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's refusal is a wrong call, and no error of the program."""

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        look(tmp_path / "mail")


@pytest.mark.parametrize("dry_run", [False, True], ids=["write", "count"])
async def test_a_wrong_name_is_told_before_any_work(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool
) -> None:
    """The store is not even opened for it."""
    monkeypatch.chdir(tmp_path)
    rig.bucket.objects.clear()
    with pytest.raises(UsageError, match="a name of its own"):
        await exported(rig, Path(), dry_run=dry_run)
    assert list(tmp_path.iterdir()) == []


async def test_the_longest_name_works(rig: Rig, tmp_path: Path) -> None:
    """One byte more and it is refused: every file beside it has its name too."""
    assert contents((await exported(rig, tmp_path / ("x" * 233 + ".zip"))).path)
    with pytest.raises(UsageError, match="at most 237"):
        await exported(rig, tmp_path / ("x" * 234 + ".zip"))


@pytest.mark.skipif(sys.platform != "linux", reason="only there a name may be any bytes")
@pytest.mark.parametrize("ending", ["", ".zip"])
async def test_a_name_that_is_no_text(rig: Rig, tmp_path: Path, ending: str) -> None:
    """A destination in another encoding is written, and its hashes can be checked."""
    name = os.fsdecode(b"caf\xe9") + ending
    report = await exported(rig, tmp_path / name)
    assert leftovers(report.path) == []
    subprocess.run(
        ["sha256sum", "-c", "--quiet", f"{name}.sha256"], cwd=tmp_path, check=True, text=False
    )


@pytest.mark.parametrize("name", [".zip", "mail.ZIP"])
async def test_what_ends_with_zip_is_a_zip(rig: Rig, tmp_path: Path, name: str) -> None:
    """However it is written, and though nothing stands before it."""
    assert (await exported(rig, tmp_path / name)).path.is_file()


def test_systems_that_cannot_hold_names() -> None:
    """A locale without the letters of a name is said, with a way out."""
    with pytest.raises(UsageError, match="cannot hold the names") as refused, writing("mail"):
        "日本".encode("ascii")
    assert "UTF-8 locale" in refused.value.hint


@pytest.mark.parametrize(
    "place",
    [
        "store",
        "store/inside",
        "store/atlas-t/data/a/b/mail",
        "../way/store/x",
        "real/store/x",
        "way",
        "link/mail",
        "real",
    ],
)
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("named", ["store", "way/store"])
def test_no_place_in_a_store_is_a_destination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, relative: bool, named: str
) -> None:
    """At, below or above it, whatever links or relative paths lead there, from either side."""
    top = tmp_path / "top"
    inner = top / "real" / "store" / "atlas-t" / "data"
    inner.mkdir(parents=True)
    for link, target in {
        "way": "real",
        "store": "real/store",
        "link": "real/store/atlas-t",
    }.items():
        (top / link).symlink_to(top / target)
    (tmp_path / "way").symlink_to(top / "real")
    path = top / place
    if relative:
        monkeypatch.chdir(inner)
        path = Path("../../../..") / place
    with pytest.raises(UsageError, match="cannot lie in the store"):
        check_destination(path, settings_of(top / named))
    check_destination(top / "store-mail", settings_of(top / named))
    check_destination(top / "mail", settings_of(top / "absent" / "store"))


def test_a_bucket_that_is_a_link(tmp_path: Path) -> None:
    """The bucket may lie elsewhere than the directory that names it."""
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "atlas-t").symlink_to(tmp_path / "disk")
    for name in ("disk/data/x", "disk/x", "store/x"):
        with pytest.raises(UsageError, match="cannot lie in the store"):
            check_destination(tmp_path / name, settings_of(tmp_path / "store"))


async def test_an_export_never_lies_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There prune would remove it. Also where the working directory chooses the place."""
    async with open_yard(tmp_path / "store", replace(SMALL, messages=3)) as yard:
        async with yard.engine() as atlas:
            await atlas.backup([USER])
        monkeypatch.chdir(yard.place / "data")
        before = sorted(yard.place.rglob("*"))
        for path, dry_run in ((Path("x"), False), (Path("x"), True), (None, False)):
            with pytest.raises(UsageError, match="cannot lie in the store"):
                await exported(yard, path, dry_run=dry_run)
        assert sorted(yard.place.rglob("*")) == before
        assert (await exported(yard, tmp_path / "store-mail")).exit_code == 0
