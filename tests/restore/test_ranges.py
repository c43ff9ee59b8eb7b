"""What several snapshots held, where folders were renamed, moved and deleted between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.errors import UsageError
from atlas_async.operations.selection import Selection
from tests.fakes.rig import USER, open_rig
from tests.restore.scene import FEW, Scene, created
from tests.torture.faults import BriskClock

EVER = datetime(2000, 1, 1, tzinfo=UTC)


def ever(*folders: str, **conditions: Any) -> Selection:
    """Return what any snapshot held."""
    return Selection(mailbox=USER, made_from=EVER, folders=folders, **conditions)


def places(scene: Scene, root: str = "") -> dict[str, str]:
    """Return where the messages of the story are: path by subject, below ``root`` or outside it."""
    truth = scene.rig.truth()
    paths = {f["id"]: "/".join(f["path"]) for f in truth["folders"]}
    return {
        m["subject"]: paths[m["folderId"]].removeprefix(f"{root}/")
        for m in truth["messages"]
        if str(m["subject"]).startswith("story ")
        and paths[m["folderId"]].startswith(root)
        and "Recoverable" not in paths[m["folderId"]]
    }


@asynccontextmanager
async def story() -> AsyncIterator[Scene]:
    """A folder is renamed, then deleted; of its mail some was moved or deleted before, each time."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:

        def folder(name: str, parent: Any) -> str:
            rig.mutate(op="folder-create", parent=parent, name=name)
            (made,) = [f["id"] for f in rig.truth()["folders"] if f["path"][-1:] == [name]]
            return str(made)

        def message(name: str, folder_id: str) -> str:
            made = rig.mutate(op="create", folder=folder_id, subject=f"story {name}")
            return str(made["immutableId"])

        old = folder("Old", "inbox")
        below = folder("Below", old)
        moved, deleted, kept = (message(n, old) for n in ("moved", "deleted", "kept"))
        inner = message("inner", below)
        await rig.back_up_user()
        rig.mutate(op="move", message=moved, folder="archive")
        for gone in (deleted, inner):
            rig.mutate(op="delete", message=gone, hard=True)
        rig.mutate(op="folder-rename", folder=old, name="New")
        later = message("later", old)
        await rig.back_up_user()
        rig.mutate(op="delete", message=later, hard=True)
        rig.mutate(op="folder-delete", folder=old)
        await rig.back_up_user()
        assert kept
        yield Scene(rig, rig.truth())


WANTED = {
    "story moved": "Archive",
    "story deleted": "Inbox/Old",
    "story inner": "Inbox/Old/Below",
    "story later": "Inbox/New",
    "story kept": "Deleted Items/New",
}


async def test_each_message_goes_where_the_last_snapshot_that_holds_it_shows_it() -> None:
    """Below a folder and in place; twice is once, and it can be taken back."""
    async with story() as scene:
        before = places(scene)
        manners: list[tuple[dict[str, Any], str]] = [({}, "Back"), ({"in_place": True}, "")]
        for manner, root in manners:
            dry = await scene.restore(ever(), dry_run=True, **manner)
            report = await scene.restore(ever(), **manner)
            assert report.exit_code == 0, (report.error, report.failures)
            assert [f.target for f in dry.folders] == [f.target for f in report.folders]
            assert created(dry) == created(report)
            assert places(scene, root) == WANTED
            assert created(await scene.restore(ever(), **manner)) == 0
            assert (await scene.undo()).exit_code == 0
            assert places(scene) == before


async def test_single_messages_of_a_time_go_there_too() -> None:
    """Named by their ids."""
    async with story() as scene:
        async with scene.rig.engine() as atlas:
            from atlas_async.operations.selection import select

            selected = await select(atlas._opened, ever())
            ids = [r["object_id"] async for r in selected.messages() if "story" in r["subject"]]
        report = await scene.restore(ever(messages=tuple(ids)))
        assert (report.exit_code, created(report)) == (0, len(WANTED))
        assert places(scene, "Back") == WANTED


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Inbox/Old", {"deleted", "inner", "later", "kept"}),
        ("Inbox/New", {"deleted", "inner", "later", "kept"}),
        ("Deleted Items/New", {"deleted", "inner", "later", "kept"}),
        ("Inbox/Old/Below", {"inner"}),
    ],
)
async def test_a_folder_goes_by_every_name_that_it_had(name: str, wanted: set[str]) -> None:
    """Renamed or deleted later in the time, it is the same folder."""
    async with story() as scene:
        report = await scene.restore(ever(name))
        assert report.exit_code == 0
        assert set(places(scene, "Back")) == {f"story {subject}" for subject in wanted}


async def test_a_name_that_no_snapshot_has_is_refused() -> None:
    """And of one snapshot only its own names count."""
    async with story() as scene:
        with pytest.raises(UsageError, match="no folder 'Inbox/Elsewhere'"):
            await scene.restore(ever("Inbox/Elsewhere"))
        with pytest.raises(UsageError, match="no folder 'Inbox/Old'"):
            await scene.restore(Selection(mailbox=USER, folders=("Inbox/Old",)))
