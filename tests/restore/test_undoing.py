"""Taking a restore back: what goes, what stays because nothing else is left, what is not touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from atlas_async.errors import IntegrityError, SnapshotNotFound, UsageError
from atlas_async.graph.removal import Remover
from atlas_async.model.events import MailboxNotice
from atlas_async.model.restoring import Conflict
from atlas_async.operations.selection import Selection
from atlas_async.restore import journal, undo
from atlas_async.restore.job import job_key
from atlas_async.restore.journal import Journal, part_prefix
from tests.fakes.rig import USER
from tests.restore.scene import FEW, ROOT, Scene, brisk_scene, created, mark_of

INBOX: Final = Selection(mailbox=USER, folders=("inbox",), subtree=False)
PLACE: Final[dict[str, Any]] = {"in_place": True, "conflict": Conflict.REPLACE}


def inbox(scene: Scene) -> dict[str, dict[str, Any]]:
    """Return the messages of the inbox by internet message id; there is one of each."""
    held = scene.rig.messages_in("inbox")
    found = {str(m["internetMessageId"]): m for m in held}
    assert len(found) == len(held)
    return found


async def replaced_scene(scene: Scene) -> list[dict[str, Any]]:
    """Replace what the inbox holds and return what was replaced, from Deleted Items."""
    before = {m["immutableId"] for m in scene.rig.messages_in("inbox")}
    assert len(before) > 1
    report = await scene.restore(INBOX, **PLACE)
    assert report.exit_code == 0
    return [m for m in scene.rig.messages_in("deleteditems") if m["immutableId"] in before]


def recoverable(scene: Scene) -> set[str]:
    """Return the ids of the restored messages that lie where users recover deleted ones."""
    held = scene.rig.messages_in("recoverableitemsdeletions")
    return {m["immutableId"] for m in held if mark_of(m)}


async def state_of(scene: Scene, job_id: str) -> str:
    """Return the state of a restore."""
    async with scene.rig.engine() as atlas:
        (state,) = [j.state for j in await atlas.restore_jobs(USER) if j.job_id == job_id]
    return state


async def test_a_successor_stays_where_its_predecessor_is_gone_for_good() -> None:
    """Nothing else is left of that message: it is named, and the restore ends as taken back."""
    async with brisk_scene(corpus=FEW) as scene:
        old = await replaced_scene(scene)
        lost, *others = old
        wanted = set(inbox(scene))
        (kept,) = [m for i, m in inbox(scene).items() if i == lost["internetMessageId"]]
        scene.rig.mutate(op="delete", message=lost["immutableId"], hard=True)
        dry = await scene.undo(dry_run=True)
        undone = await scene.undo()
        for report in (dry, undone):
            assert (report.put_back, report.not_put_back) == (len(others), 1)
            assert (report.removed, report.kept, report.failed) == (len(others), 1, 0)
            assert report.exit_code == 3
            (named,) = report.failures
            assert (named.object_id, named.code) == (kept["immutableId"], "Kept")
            assert named.folder == ("Inbox",)
        now = inbox(scene)
        assert set(now) == wanted
        assert now[lost["internetMessageId"]]["immutableId"] == kept["immutableId"]
        assert {m["immutableId"] for m in others} < {m["immutableId"] for m in now.values()}
        assert await state_of(scene, undone.job_id) == "undone"


async def test_what_stayed_is_nobodys_restore_any_more() -> None:
    """The same restore, run again, replaces it like any other message, and undoing brings it back."""
    async with brisk_scene(corpus=FEW) as scene:
        lost, *_ = await replaced_scene(scene)
        scene.rig.mutate(op="delete", message=lost["immutableId"], hard=True)
        await scene.undo()
        after = {i: m["immutableId"] for i, m in inbox(scene).items()}
        again = await scene.restore(INBOX, **PLACE)
        assert (again.exit_code, created(again)) == (0, 0)
        undone = await scene.undo()
        assert (undone.exit_code, undone.kept) == (0, 0)
        assert {i: m["immutableId"] for i, m in inbox(scene).items()} == after


async def test_what_a_bin_that_was_emptied_still_has_is_put_back() -> None:
    """From the recoverable items, where messages lie that were deleted from Deleted Items."""
    async with brisk_scene(corpus=FEW) as scene:
        for message in await replaced_scene(scene):
            scene.rig.mutate(op="delete", message=message["immutableId"])
        undone = await scene.undo()
        assert (undone.exit_code, undone.kept) == (0, 0)
        scene.assert_untouched()


async def test_a_successor_stays_while_its_predecessor_is_refused() -> None:
    """A move that fails is a failure: both stay as they are, and another try takes all back."""
    async with brisk_scene(corpus=FEW) as scene:
        old = await replaced_scene(scene)
        scene.fault(method="POST", path="/move$", status=400, code="ErrorInvalidRequest", count=1)
        undone = await scene.undo()
        assert (undone.exit_code, undone.failed, undone.kept) == (3, 1, 0)
        assert undone.removed == undone.put_back == len(old) - 1
        assert len(inbox(scene)) == len(old)
        assert await state_of(scene, undone.job_id) == "done"
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


async def test_entries_that_name_no_successor_keep_their_whole_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older journal does not say what replaced what: nothing is removed from that folder."""
    noted = Journal.replaced

    def unnamed(self: Journal, target_id: str, folder_id: str, *, mark: str) -> None:
        assert mark
        noted(self, target_id, folder_id, mark="")

    monkeypatch.setattr(Journal, "replaced", unnamed)
    async with brisk_scene(corpus=FEW) as scene:
        lost, *others = await replaced_scene(scene)
        scene.rig.mutate(op="delete", message=lost["immutableId"], hard=True)
        undone = await scene.undo()
        assert (undone.exit_code, undone.removed, undone.kept) == (3, 0, len(others) + 1)
        assert undone.put_back == len(others)
        assert len(scene.rig.messages_in("inbox")) == 2 * len(others) + 1
        assert await state_of(scene, undone.job_id) == "undone"
        again = await scene.restore(INBOX, **PLACE)
        assert again.exit_code == 0
        await scene.undo()
        assert len(scene.rig.messages_in("inbox")) == 2 * len(others) + 1


async def test_neither_version_is_left_and_it_is_told() -> None:
    """A user has deleted both: nothing can stay, what cannot be put back is named all the same."""
    async with brisk_scene(corpus=FEW) as scene:
        lost, *_ = await replaced_scene(scene)
        scene.rig.mutate(op="delete", message=lost["immutableId"], hard=True)
        successor = inbox(scene)[lost["internetMessageId"]]
        scene.rig.mutate(op="delete", message=successor["immutableId"])
        undone = await scene.undo()
        assert (undone.exit_code, undone.gone, undone.kept, undone.not_put_back) == (3, 1, 0, 1)
        assert [(f.object_id, f.code) for f in undone.failures] == [(lost["immutableId"], "Gone")]
        assert await state_of(scene, undone.job_id) == "undone"
        assert successor["immutableId"] in recoverable(scene)


async def test_a_folder_of_what_was_replaced_that_is_gone() -> None:
    """What was replaced stays where it is; what came in its place went with the folder."""
    async with brisk_scene(corpus=FEW) as scene:
        rig = scene.rig
        rig.mutate(op="folder-create", parent="inbox", name="Project")
        rig.mutate(op="create", folder=["Inbox", "Project"], subject="Plan")
        await rig.back_up_user()
        chosen = Selection(mailbox=USER, folders=("Inbox/Project",))
        report = await scene.restore(chosen, **PLACE)
        assert report.exit_code == 0
        rig.mutate(op="folder-delete", folder=["Inbox", "Project"])
        rig.mutate(op="folder-delete", folder=["Deleted Items", "Project"])
        undone = await scene.undo()
        assert (undone.exit_code, undone.gone, undone.not_put_back) == (3, 1, 1)
        assert "folder" in undone.failures[0].reason
        assert "Plan" in [m["subject"] for m in rig.messages_in("deleteditems")]
        assert await state_of(scene, undone.job_id) == "undone"


@pytest.mark.parametrize("listed", [1, 1_000], ids=["folders listed", "messages asked for"])
async def test_what_a_user_deleted_himself_is_left(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies among the recoverable items, and another DELETE would purge it."""
    monkeypatch.setattr(undo, "LISTED", listed)
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        deleted, purged, moved, *rest = scene.marked()
        scene.rig.mutate(op="delete", message=deleted["immutableId"])
        scene.rig.mutate(op="delete", message=purged["immutableId"], hard=True)
        scene.rig.mutate(op="folder-create", parent="inbox", name="Mine")
        scene.rig.mutate(op="move", message=moved["immutableId"], folder=["Inbox", "Mine"])
        for dry_run in (True, False):
            undone = await scene.undo(dry_run=dry_run)
            assert (undone.removed, undone.gone) == (len(rest) + 1, 2)
            assert undone.exit_code == 0
        assert recoverable(scene) == {m["immutableId"] for m in (deleted, moved, *rest)}


@pytest.mark.parametrize("block", [1, 3, undo.BLOCK])
async def test_an_undoing_that_is_run_again_deletes_nothing_twice(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one removed can still be recovered after the second, and counts as gone."""
    monkeypatch.setattr(undo, "BLOCK", block)
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        made = {m["immutableId"] for m in scene.marked()}
        refused = {"status": 400, "code": "ErrorInvalidRequest"}
        scene.fault(method="DELETE", path="/messages/", count=2, **refused)
        first = await scene.undo()
        assert (first.exit_code, first.failed, first.removed) == (3, 2, len(made) - 2)
        second = await scene.undo()
        assert (second.exit_code, second.removed, second.gone) == (0, 2, len(made) - 2)
        assert recoverable(scene) == made
        scene.assert_untouched()


async def test_a_folder_that_gets_mail_while_it_is_deleted_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is looked at again before the DELETE that would take the new mail with it."""
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        (folder,) = [f for f in scene.rig.truth()["folders"] if f["path"] == [ROOT, "Inbox"]]
        delete = Remover._delete
        arrived: list[object] = []

        async def late(self: Remover, kind: str, object_id: str, confirm: Any) -> bool:
            if object_id == folder["id"] and not arrived:
                arrived.append(scene.rig.mutate(op="create", folder=object_id, subject="New"))
            return await delete(self, kind, object_id, confirm)

        monkeypatch.setattr(Remover, "_delete", late)
        undone = await scene.undo()
        assert undone.exit_code == 0
        assert sorted(undone.folders_kept) == [(ROOT,), (ROOT, "Inbox")]
        paths = {f["id"]: f["path"] for f in scene.rig.truth()["folders"]}
        (mail,) = [m for m in scene.rig.truth()["messages"] if m["subject"] == "New"]
        assert paths[mail["folderId"]] == [ROOT, "Inbox"]


@pytest.mark.parametrize("commit", ["before", "never"])
async def test_a_folder_whose_deletion_has_no_answer(commit: str) -> None:
    """It is looked for before it is deleted again, and is gone once at the end."""
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        scene.fault(method="DELETE", path="/mailFolders/", status=504, commit=commit, count=3)
        undone = await scene.undo()
        assert (undone.exit_code, undone.folders_kept) == (0, [])
        scene.assert_untouched()


async def test_a_folder_that_cannot_be_deleted_costs_itself() -> None:
    """It is named, everything else goes, and the restore is not yet taken back."""
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        refused = {"status": 400, "code": "ErrorInvalidRequest"}
        scene.fault(method="DELETE", path="/mailFolders/", count=1, **refused)
        undone = await scene.undo()
        assert (undone.exit_code, undone.failed) == (3, 1)
        assert [f.kind for f in undone.failures] == ["folder"]
        assert not [m for m in scene.marked() if mark_of(m)]
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


def damage(scene: Scene, job_id: str) -> None:
    """Break the seal of the document that describes a restore."""
    objects = scene.rig.bucket.objects
    key = job_key(USER, job_id)
    objects[key] = replace(objects[key], body=objects[key].body[:-4] + b"xxxx")


async def test_a_damaged_restore_blocks_no_other() -> None:
    """It is listed as damaged; others are taken back by their ids, whole or in part."""
    async with brisk_scene(corpus=FEW) as scene, scene.rig.engine() as atlas:
        roots = ("A", "B", "C")
        jobs = [(await scene.restore(root=root)).job_id for root in roots]
        damage(scene, jobs[1])
        listed = await atlas.restore_jobs(USER)
        assert [(job.job_id, job.state) for job in listed] == [
            (jobs[0], "done"),
            (jobs[2], "done"),
            (jobs[1], "damaged"),
        ]
        assert listed[2].problem
        with pytest.raises(IntegrityError, match=f"{jobs[1]} cannot be read") as caught:
            await scene.undo()
        assert "by its id" in caught.value.hint
        for name in (jobs[1], jobs[1][:8]):
            with pytest.raises(IntegrityError):
                await scene.undo(name)
        assert (await scene.undo(jobs[0])).exit_code == 0
        assert (await scene.undo(jobs[2][:8])).exit_code == 0
        assert created(await scene.restore(root="D")) == scene.source().total()


async def test_the_latest_is_taken_back_once_and_never_an_older_one() -> None:
    """It is told which one that is; asked again, another has to be named by its id."""
    async with brisk_scene(corpus=FEW) as scene, scene.rig.engine() as atlas:
        with pytest.raises(SnapshotNotFound, match="nothing was restored"):
            await atlas.undo_restore(USER, "latest")
        older = await scene.restore(root="A")
        newer = await scene.restore(root="B")
        async with atlas.events() as events:
            undone = await atlas.undo_restore(USER, "latest")
            told = await anext(events)
        assert undone.job_id == newer.job_id
        assert (undone.root, undone.in_place, undone.created) == ("B", False, created(newer))
        assert isinstance(told, MailboxNotice)
        for part in (newer.job_id, undone.begun_at, "below 'B'", f"{created(newer)} messages"):
            assert part in told.text
        with pytest.raises(UsageError, match=f"{newer.job_id}.*taken back already") as caught:
            await scene.undo()
        assert "by its id" in caught.value.hint
        assert (await scene.undo(older.job_id)).removed == created(older)
        scene.assert_untouched()


async def test_the_latest_is_one_that_failed_and_it_is_said() -> None:
    """It may have made something all the same; the one before it is left alone."""
    async with brisk_scene(corpus=FEW) as scene, scene.rig.engine() as atlas:
        older = await scene.restore(root="A")
        app = scene.rig.emulator.tenant.app
        granted, app.roles = app.roles, ("Mail.Read", "User.Read.All")
        failed = await scene.restore(root="B")
        assert failed.exit_code == 13
        app.roles = granted
        async with atlas.events() as events:
            undone = await atlas.undo_restore(USER, "latest")
            told = await anext(events)
        assert (undone.job_id, undone.removed, undone.exit_code) == (failed.job_id, 0, 0)
        assert isinstance(told, MailboxNotice)
        assert "which failed or was stopped, 0 messages recorded" in told.text
        assert len(scene.marked()) == created(older)


async def test_another_tenant_than_it_was_restored_to_is_refused() -> None:
    """Nothing is asked of it: the error names both tenants and the option."""
    async with brisk_scene(corpus=FEW) as scene:
        graph = scene.rig.settings.graph
        assert graph is not None
        report = await scene.restore()
        other = replace(graph, tenant_id="99999999-2222-3333-4444-555555555555")
        with pytest.raises(UsageError, match="went to the tenant") as caught:
            await scene.undo(target=other)
        assert graph.tenant_id in str(caught.value)
        assert "--target-config" in caught.value.hint
        assert len(scene.marked()) == created(report)
        assert (await scene.undo(target=graph)).removed == created(report)


@pytest.mark.parametrize("between", [False, True], ids=["run again", "taken back between"])
@pytest.mark.parametrize("kept", [1, 2], ids=["folders noted", "some entries"])
async def test_a_killed_restore_that_was_run_again_leaves_nothing(
    between: bool, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the killed run made goes with what the next one made, folders too."""
    monkeypatch.setattr(journal, "FLUSH_ENTRIES", 3)
    async with brisk_scene(corpus=FEW) as scene:
        scene.rig.emulator.control.configure(latency=0.02)
        job = (await scene.restore()).job_id
        prefix = part_prefix(USER, job)
        parts = scene.rig.keys(prefix)
        assert len(parts) > kept
        for key in parts[kept:]:
            del scene.rig.bucket.objects[key]
        if between:
            assert (await scene.undo(job)).exit_code == 0
            scene.assert_untouched()
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()
        undone = await scene.undo(job)
        assert (undone.exit_code, undone.removed) == (0, scene.source().total())
        scene.assert_untouched()
