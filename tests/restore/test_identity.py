"""Which message of the target is the one of the snapshot: odd ids, no ids, and several of one id."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.model.restoring import Conflict, Step
from atlas_async.operations.selection import Selection
from atlas_async.restore import existing
from tests.fakes.rig import USER, open_rig
from tests.restore.scene import FEW, Scene, created, mark_of
from tests.torture.faults import BriskClock

ODD_IDS = [" <lead@x>", "<trail@x> ", "<lines@x>\r\n", "<plain@x>", "<A'b@x>"]
INBOX = Selection(mailbox=USER, folders=("inbox",), subtree=False)


@asynccontextmanager
async def scene_with(*ids: str | None) -> AsyncIterator[Scene]:
    """Open a scene whose inbox has a message ``odd N`` with each of these ids."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        for number, message_id in enumerate(ids):
            rig.mutate(
                op="create", folder="inbox", subject=f"odd {number}", internetMessageId=message_id
            )
        await rig.back_up_user()
        yield Scene(rig, rig.truth())


def odd(scene: Scene) -> Counter[tuple[str, str]]:
    """Return where the messages of ``scene_with`` are: folder and subject, counted."""
    truth = scene.rig.truth()
    paths = {f["id"]: "/".join(f["path"]) for f in truth["folders"]}
    return Counter(
        (paths[m["folderId"]], m["subject"])
        for m in truth["messages"]
        if str(m["subject"]).startswith("odd ") and "Recoverable" not in paths[m["folderId"]]
    )


def lose_the_journal(scene: Scene) -> None:
    """Delete all parts of journals: as a kill before they were written."""
    for key in scene.rig.keys("catalog/"):
        if "/restores/" in key and "/parts/" in key:
            del scene.rig.bucket.objects[key]


async def test_what_is_replaced_is_put_away_whatever_its_id() -> None:
    """Ids with white space around them, and messages without one."""
    async with scene_with(*ODD_IDS, None, "") as scene:
        report = await scene.restore(INBOX, in_place=True, conflict=Conflict.REPLACE)
        assert report.exit_code == 0, (report.error, report.failures, report.comparison)
        count = len(scene.rig.messages_in("inbox"))
        assert report.total(Step.REPLACE) == count
        assert all(map(mark_of, scene.rig.messages_in("inbox")))
        assert set(odd(scene).values()) == {1}
        assert len(odd(scene)) == 2 * 7  # one in the inbox, one in Deleted Items
        again = await scene.restore(INBOX, in_place=True, conflict=Conflict.REPLACE)
        assert again.total(Step.ALREADY) == count
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


async def test_of_two_of_one_id_the_message_itself_is_replaced() -> None:
    """Its twin, which was not asked for, stays."""
    async with scene_with("<twin@x>", "<twin@x>", "<twin@x>") as scene:
        twins = [m for m in scene.before["messages"] if m["internetMessageId"] == "<twin@x>"]
        for twin in twins:
            one = Selection(mailbox=USER, messages=(twin["immutableId"],))
            report = await scene.restore(one, in_place=True, conflict=Conflict.REPLACE)
            assert report.total(Step.REPLACE) == 1
            places = {m["immutableId"]: m["folderId"] for m in scene.rig.truth()["messages"]}
            moved = [t for t in twins if places[t["immutableId"]] != t["folderId"]]
            assert [t["immutableId"] for t in moved] == [twin["immutableId"]]
            await scene.undo()


async def test_what_could_not_be_put_away_is_reported_and_caught_up_on() -> None:
    """Answered 404 though it is there: the message is not called replaced, nor complete."""
    async with scene_with(*ODD_IDS) as scene:
        scene.fault(method="POST", path="/move$", status=404, code="ErrorItemNotFound", count=1)
        report = await scene.restore(INBOX, in_place=True, conflict=Conflict.REPLACE)
        count = len(scene.rig.messages_in("deleteditems"))
        assert (report.exit_code, report.failed, report.total(Step.FAILED)) == (3, 1, 1)
        assert "run the restore again" in report.failures[0].reason
        scene.calm()
        report = await scene.restore(INBOX, in_place=True, conflict=Conflict.REPLACE)
        assert (report.exit_code, report.total(Step.REPLACE), created(report)) == (0, 1, 0)
        assert len(scene.rig.messages_in("deleteditems")) == count + 1
        assert all(map(mark_of, scene.rig.messages_in("inbox")))
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


async def test_what_somebody_filed_meanwhile_is_not_put_away() -> None:
    """Moved between the look and the replacing: it stays where it was put, and that is told."""
    async with scene_with("<one@x>") as scene:
        (message,) = [m for m in scene.before["messages"] if m["subject"] == "odd 0"]
        one = Selection(mailbox=USER, messages=(message["immutableId"],))

        def file(_: Any) -> None:
            scene.rig.mutate(op="move", message=message["immutableId"], folder="archive")

        async with scene.rig.engine() as atlas:
            await _replace_while(atlas, one, file)
        assert odd(scene) == {("Archive", "odd 0"): 1, ("Inbox", "odd 0"): 1}
        assert (await scene.undo()).exit_code == 0
        assert odd(scene) == {("Archive", "odd 0"): 1}


async def _replace_while(atlas: Any, selection: Selection, change: Any) -> None:
    from atlas_async.graph.writer import GraphWriter
    from atlas_async.model.restoring import RestoreOptions
    from atlas_async.operations.restore import RestoreWish

    create = GraphWriter.create_message

    async def changed_first(self: GraphWriter, *given: Any, **named: Any) -> str:
        change(None)
        return await create(self, *given, **named)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(GraphWriter, "create_message", changed_first)
        options = RestoreOptions(in_place=True, conflict=Conflict.REPLACE)
        (report,) = await atlas.restore([RestoreWish(selection)], options)
    assert (report.exit_code, created(report), report.total(Step.REPLACE)) == (0, 1, 0)
    assert ["not in its folder any more" in a.text for a in report.adjustments] == [True]


@pytest.mark.parametrize("in_place", [False, True])
async def test_a_lost_journal_makes_nothing_twice(in_place: bool) -> None:
    """The marks tell what a killed restore has made, whatever the ids are."""
    async with scene_with(*ODD_IDS, None) as scene:
        manner: dict[str, Any] = {"in_place": in_place}
        if in_place:
            manner["conflict"] = Conflict.COPY
        count = created(await scene.restore(INBOX, **manner))
        lose_the_journal(scene)
        again = await scene.restore(INBOX, **manner)
        assert (again.exit_code, created(again)) == (0, 0)
        marks = Counter(map(mark_of, scene.marked()))
        assert (len(marks), set(marks.values())) == (count, {1})
        assert (await scene.undo()).exit_code == 0
        assert not scene.marked()


@pytest.mark.parametrize("many", [existing.MANY, 3])
async def test_chosen_messages_that_are_there_are_skipped(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is listed, and in one that is so large that single messages are asked for."""
    monkeypatch.setattr(existing, "MANY", many)
    async with scene_with(*ODD_IDS, None, "") as scene:
        ids = [m["immutableId"] for m in scene.before["messages"] if "odd " in str(m["subject"])]
        chosen = Selection(mailbox=USER, messages=tuple(ids))
        report = await scene.restore(chosen, in_place=True)
        assert (created(report), report.total(Step.SKIP)) == (0, len(ids))
        report = await scene.restore(chosen, in_place=True, conflict=Conflict.REPLACE)
        assert (report.exit_code, report.total(Step.REPLACE)) == (0, len(ids))
        await scene.undo()
        scene.assert_untouched()


@pytest.mark.parametrize("many", [existing.MANY, 3])
async def test_without_an_id_other_selections_find_what_was_restored(
    many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gives the restored message an id; its mark still tells what it was made from."""
    monkeypatch.setattr(existing, "MANY", many)
    async with scene_with(None) as scene:
        (message,) = [m for m in scene.before["messages"] if m["subject"] == "odd 0"]
        scene.rig.mutate(op="delete", message=message["immutableId"], hard=True)
        one = Selection(mailbox=USER, messages=(message["immutableId"],))
        first = await scene.restore(one, in_place=True)
        assert (first.exit_code, created(first)) == (0, 1)
        assert first.comparison is not None
        assert first.comparison.equal
        for selection in (INBOX, Selection(mailbox=USER)):
            report = await scene.restore(selection, in_place=True)
            assert (report.exit_code, created(report)) == (0, 0)
        assert odd(scene) == {("Inbox", "odd 0"): 1}
        report = await scene.restore(INBOX, in_place=True, conflict=Conflict.REPLACE)
        assert created(report) == 0
        assert odd(scene) == {("Inbox", "odd 0"): 1, ("Deleted Items", "odd 0"): 1}


async def test_an_attachment_without_a_name_gets_one_and_that_is_told() -> None:
    """Small ones that go along, and large ones that are added."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        parts = [{"name": "", "size": size, "seed": size} for size in (5, 3_500_000)]
        rig.mutate(op="create", folder="inbox", subject="Nameless", attachments=parts)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        report = await scene.restore(INBOX)
        assert report.exit_code == 0
        assert [a.text for a in report.adjustments] == [
            "an attachment without a name is now 'attachment'"
        ] * 2
        (made,) = [m for m in scene.marked() if m["subject"] == "Nameless"]
        assert [a["name"] for a in made["attachments"]] == ["attachment"] * 2
