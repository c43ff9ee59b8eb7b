"""What a restore brings back, and where to: against the emulator, compared with its truth."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import GraphSettings
from atlas_async.emulator import Corpus, Emulator
from atlas_async.errors import UsageError
from atlas_async.model.restoring import Comparing, Comparison, Conflict, Step
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.restore.comparison import Comparer
from tests.fakes.graph_probe import GraphProbe
from tests.fakes.rig import USER, open_rig
from tests.restore.scene import (
    OTHER,
    RICH,
    ROOT,
    Scene,
    created,
    held,
    linkless,
    mark_of,
    open_scene,
    shape,
)

PLAIN = replace(RICH, messages=14, attachment_share=0.0, odd_share=0.0)


def visible(scene: Scene, mailbox: str = USER) -> dict[str, dict[str, Any]]:
    """Return the messages that users see, by id."""
    truth = scene.rig.truth(mailbox)
    seen = shape(truth)["messages"]
    return {m["immutableId"]: m for m in truth["messages"] if m["immutableId"] in seen}


def below(scene: Scene, path: list[str], mailbox: str = USER) -> list[dict[str, Any]]:
    """Return the messages of one folder."""
    truth = scene.rig.truth(mailbox)
    (folder_id,) = [f["id"] for f in truth["folders"] if f["path"] == path]
    return [m for m in truth["messages"] if m["folderId"] == folder_id]


async def test_everything_comes_back_below_a_folder_and_goes_again() -> None:
    """Every folder, message and attachment is there as it was; undone, nothing of it is left."""
    async with open_scene() as scene:
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures)
        scene.assert_whole()
        paths = {
            tuple(f["path"][1:]): f for f in scene.rig.truth()["folders"] if f["path"][:1] == [ROOT]
        }
        wanted = {
            tuple(f["path"]): f
            for f in scene.before["folders"]
            if f["belowRoot"] and not f["search"]
        }
        assert paths.keys() == wanted.keys()
        assert {p for p, f in paths.items() if f["hidden"]} == {
            p for p, f in wanted.items() if f["hidden"]
        }
        assert report.comparison is not None
        assert report.comparison.equal
        assert report.comparison.compared == created(report) == len(scene.marked())
        undone = await scene.undo()
        assert (undone.exit_code, undone.removed) == (0, created(report))
        scene.assert_untouched()


async def test_links_are_reported_as_what_they_became() -> None:
    """Graph v1.0 takes no links: each is a file that says so, and the report says it, too."""
    async with open_scene(replace(RICH, messages=12, reference_share=1.0)) as scene:
        report = await scene.restore()
        links = [
            a
            for m in scene.before["messages"]
            for a in m["attachments"]
            if a["type"].endswith("referenceAttachment")
        ]
        told = [a.text for a in report.adjustments if a.text.startswith("the link ")]
        assert len(told) == report.adjusted > 0
        assert len(told) <= len(links)
        scene.assert_whole()


async def test_twice_is_once() -> None:
    """The same restore again creates nothing, and a dry run before and after says what is so."""
    async with open_scene(PLAIN) as scene:
        dry = await scene.restore(dry_run=True)
        assert not scene.marked()
        report = await scene.restore()
        assert created(dry) == created(report) > 0
        assert [f.target for f in dry.folders] == [f.target for f in report.folders]
        marks = sorted(map(mark_of, scene.marked()))
        again = await scene.restore()
        assert (created(again), again.total(Step.ALREADY)) == (0, created(report))
        dry = await scene.restore(dry_run=True)
        assert (created(dry), dry.total(Step.ALREADY)) == (0, created(report))
        assert sorted(map(mark_of, scene.marked())) == marks


async def test_in_place_only_what_is_missing() -> None:
    """By default what a folder has is skipped; what was deleted comes back, and can go again."""
    async with open_scene(PLAIN) as scene:
        inbox = scene.rig.messages_in("inbox")
        for message in inbox[:2]:
            scene.rig.mutate(op="delete", message=message["immutableId"], hard=True)
        without = scene.rig.truth()
        dry = await scene.restore(in_place=True, dry_run=True)
        assert (created(dry), dry.total(Step.SKIP)) == (2, len(scene.source()) - 2)
        report = await scene.restore(in_place=True)
        assert (created(report), report.exit_code) == (2, 0)
        assert linkless(held(scene.rig.truth(), ())) == linkless(scene.source())
        assert (await scene.undo()).removed == 2
        assert shape(scene.rig.truth()) == shape(without)


@pytest.mark.parametrize("conflict", [Conflict.COPY, Conflict.REPLACE])
async def test_in_place_beside_or_instead_of_what_is_there(conflict: Conflict) -> None:
    """Copies stand beside, replacements instead; what was replaced is put away and comes back."""
    async with open_scene(replace(PLAIN, messages=20)) as scene:
        report = await scene.restore(in_place=True, conflict=conflict)
        step = Step.CREATE if conflict is Conflict.COPY else Step.REPLACE
        assert report.total(step) == scene.source().total()
        assert report.exit_code == 0
        folders = {f["id"]: f["path"] for f in scene.before["folders"]}
        was = {m["immutableId"]: m for m in scene.before["messages"]}
        now = visible(scene)
        assert len({m["immutableId"] for m in scene.marked()}) == scene.source().total()
        for object_id, message in now.items():
            if object_id not in was:
                continue
            moved = message["folderId"] != was[object_id]["folderId"]
            in_bin = folders[was[object_id]["folderId"]][:1] == ["Deleted Items"]
            assert moved == (conflict is Conflict.REPLACE and not in_bin)
            if moved:
                assert folders[message["folderId"]] == ["Deleted Items"]
        again = await scene.restore(in_place=True, conflict=conflict)
        assert again.total(Step.ALREADY) == scene.source().total()
        undone = await scene.undo()
        assert undone.exit_code == 0
        assert undone.put_back == (scene.source().total() if conflict is Conflict.REPLACE else 0)
        scene.assert_untouched()


async def test_replacing_puts_back_what_a_user_changed() -> None:
    """A message that was spoilt is as it was in the snapshot; the spoilt one is put away."""
    async with open_scene(PLAIN) as scene:
        message = scene.rig.messages_in("inbox")[0]
        scene.rig.mutate(
            op="update", message=message["immutableId"], patch={"subject": "Spoilt", "isRead": True}
        )
        selection = Selection(mailbox=USER, messages=(message["immutableId"],))
        report = await scene.restore(selection, in_place=True, conflict=Conflict.REPLACE)
        assert report.total(Step.REPLACE) == 1
        inbox = {m["internetMessageId"]: m for m in scene.rig.messages_in("inbox")}
        assert inbox[message["internetMessageId"]]["subject"] == message["subject"]
        assert "Spoilt" in [m["subject"] for m in scene.rig.messages_in("deleteditems")]


async def test_messages_of_one_id_replace_one_another_one_by_one() -> None:
    """Two messages of a folder may have one internet message id; each replaces one of two."""
    async with open_rig(PLAIN) as rig:
        for number in range(6):
            rig.mutate(
                op="create",
                folder="inbox",
                subject=f"Twin {number}",
                internetMessageId="<twin@partner.example>",
            )
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        for conflict in (Conflict.SKIP, Conflict.REPLACE):
            report = await scene.restore(in_place=True, conflict=conflict)
            assert report.exit_code == 0
        twins = [m for m in rig.messages_in("inbox") if m["subject"].startswith("Twin")]
        assert sorted(m["subject"] for m in twins) == [f"Twin {n}" for n in range(6)]
        assert all(map(mark_of, twins))
        await scene.undo()
        scene.assert_untouched()


async def test_into_another_mailbox() -> None:
    """Below a folder, and in place: well-known folders are those of the other mailbox."""
    async with open_scene(replace(RICH, messages=20)) as scene:
        before = scene.rig.truth(OTHER)
        report = await scene.restore(to=OTHER)
        assert (report.exit_code, report.target_id) == (0, OTHER)
        scene.assert_whole(OTHER)
        assert (await scene.undo()).exit_code == 0
        assert shape(scene.rig.truth(OTHER)) == shape(before)
        report = await scene.restore(to=OTHER, in_place=True)
        assert report.exit_code == 0
        truth = scene.rig.truth(OTHER)
        made = [m for m in truth["messages"] if mark_of(m)]
        assert linkless(held({**truth, "messages": made}, ())) == linkless(scene.source())
        assert (await scene.undo()).exit_code == 0
        assert shape(scene.rig.truth(OTHER)) == shape(before)
        scene.assert_untouched()


async def test_into_a_mailbox_of_another_language() -> None:
    """Well-known folders are found by what they are, not by their English names."""
    options = replace(PLAIN, languages=("en", "de"))
    async with open_scene(options) as scene:
        report = await scene.restore(to=OTHER, in_place=True)
        assert report.exit_code == 0
        names = {f["wellKnownName"]: f["id"] for f in scene.rig.truth(OTHER)["folders"]}
        marked = scene.marked(OTHER)
        wanted = [f["id"] for f in scene.before["folders"] if f["wellKnownName"] == "sentitems"]
        sent = [m for m in scene.before["messages"] if m["folderId"] in wanted]
        assert len([m for m in marked if m["folderId"] == names["sentitems"]]) == len(sent) > 0
        assert not [f for f in scene.rig.truth(OTHER)["folders"] if f["path"] == ["Sent Items"]]


async def test_into_another_tenant() -> None:
    """Source and target are different tenants, each with its own application."""
    async with (
        open_scene(replace(RICH, messages=16)) as scene,
        Emulator(Corpus(replace(RICH, messages=5, seed=77, domain="fabrikam.com"))) as other,
    ):
        target = GraphSettings(
            tenant_id=str(other.tenant.id),
            client_id=other.tenant.client_id,
            credential=Secret(other.tenant.client_secret),
            authority_url=other.authority_url,
            graph_url=other.graph_url,
        )
        ann = "user0000@fabrikam.com"
        before = other.control.mailbox_truth(ann)
        report = await scene.restore(to=ann, target=target)
        assert (report.exit_code, report.target_id) == (0, ann)
        found = held(other.control.mailbox_truth(ann), (ROOT,))
        assert linkless(found) == linkless(scene.source())
        scene.assert_untouched()
        undone = await scene.undo(target=target)
        assert undone.exit_code == 0
        assert shape(other.control.mailbox_truth(ann)) == shape(before)


async def test_parts_of_a_snapshot() -> None:
    """A folder with and without those below it, one message, and a time of reception."""
    async with open_scene(replace(PLAIN, messages=60)) as scene:
        inbox = {p: n for p, n in _counts(scene).items() if p[:1] == ("Inbox",)}
        assert len(inbox) > 1
        report = await scene.restore(Selection(mailbox=USER, folders=("inbox",)), root="A")
        assert created(report) == sum(inbox.values())
        alone = Selection(mailbox=USER, folders=("Inbox",), subtree=False)
        report = await scene.restore(alone, root="B")
        assert created(report) == inbox["Inbox",]
        assert {f["path"][1] for f in _folders(scene, "B") if len(f["path"]) > 1} == {"Inbox"}
        message = scene.rig.messages_in("archive")[0]
        one = Selection(mailbox=USER, messages=(message["immutableId"],))
        report = await scene.restore(one, root="C")
        assert created(report) == 1
        assert [m["subject"] for m in below(scene, ["C", "Archive"])] == [message["subject"]]
        assert [f["path"] for f in _folders(scene, "C")] == [["C"], ["C", "Archive"]]
        times = sorted(m["receivedDateTime"] for m in scene.before["messages"])
        middle = datetime.fromisoformat(times[len(times) // 2])
        first = Selection(mailbox=USER, received_before=middle)
        report = await scene.restore(first, root="D")
        then = [m for m in scene.marked() if m["receivedDateTime"] < times[len(times) // 2]]
        assert created(report) > 0
        assert len(
            [m for m in then if m["folderId"] in {f["id"] for f in _folders(scene, "D")}]
        ) == (created(report))


def _counts(scene: Scene) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    for (path, _), number in scene.source().items():
        found[path] = found.get(path, 0) + number
    return found


def _folders(scene: Scene, root: str) -> list[dict[str, Any]]:
    found = [f for f in scene.rig.truth()["folders"] if f["path"][:1] == [root]]
    return sorted(found, key=lambda f: f["path"])


async def test_a_day_and_a_range_of_days() -> None:
    """As it was at a moment; and what any snapshot of a time held, deleted meanwhile or not."""
    async with open_rig(PLAIN) as rig:
        await rig.back_up_user()
        first = rig.truth()
        gone = rig.messages_in("inbox")[0]
        rig.mutate(op="delete", message=gone["immutableId"], hard=True)
        rig.mutate(op="create", folder="inbox", subject="New one")
        await rig.back_up_user()
        async with rig.engine() as atlas:
            older, newer = sorted((await atlas.list_snapshots(USER)), key=lambda s: s.created_at)
        scene = Scene(rig, first)
        at = datetime.fromisoformat(older.created_at)
        report = await scene.restore(Selection(mailbox=USER, at=at + timedelta(milliseconds=1)))
        assert report.snapshots == (older.snapshot_id,)
        scene.assert_whole()
        after = datetime.fromisoformat(newer.created_at) + timedelta(seconds=1)
        ranged = Selection(mailbox=USER, made_from=at.astimezone(UTC), made_before=after)
        report = await scene.restore(ranged, root="Ever")
        assert len(report.snapshots) == 2
        found = {m["subject"] for m in below(scene, ["Ever", "Inbox"])}
        assert {gone["subject"], "New one"} <= found
        assert created(report) == scene.source().total() + 1


async def test_times_flags_and_everything_a_message_has() -> None:
    """Flags keep their dates; drafts stay drafts; categories, importance and inline images stay."""
    async with open_rig(PLAIN) as rig:
        day = {"dateTime": "2026-05-01T00:00:00.0000000", "timeZone": "UTC"}
        rig.mutate(
            op="create",
            folder="inbox",
            subject="Everything",
            body='<p>See <img src="cid:logo@1"></p>',
            isRead=True,
            importance="high",
            categories=["Red", "Ärger"],
            flag={"flagStatus": "flagged", "startDateTime": day, "dueDateTime": day},
            receivedDateTime="2019-02-03T04:05:06Z",
            sentDateTime="2019-02-03T04:05:01Z",
            replyTo=[
                {"emailAddress": {"name": "Only a name"}},
                {"emailAddress": {"name": "B", "address": "b@partner.example"}},
            ],
            attachments=[
                {"name": "logo.png", "size": 900, "isInline": True, "contentId": "logo@1"},
            ],
        )
        rig.mutate(op="create", folder="drafts", subject="Not sent", isDraft=True)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        report = await scene.restore()
        assert report.exit_code == 0
        assert [a.text for a in report.adjustments] == [
            "replyTo: 'Only a name' is no address: left out"
        ]
        scene.assert_whole()
        (found,) = [m for m in below(scene, [ROOT, "Inbox"]) if m["subject"] == "Everything"]
        assert found["receivedDateTime"] == "2019-02-03T04:05:06Z"
        assert found["flag"]["dueDateTime"] == day
        assert found["isDraft"] is False
        assert [a["contentId"] for a in found["attachments"]] == ["logo@1"]
        drafts = below(scene, [ROOT, "Drafts"])
        assert [m["isDraft"] for m in drafts if m["subject"] == "Not sent"] == [True]


async def test_a_body_too_large_for_a_request_is_attached() -> None:
    """Nothing is lost of it: it is a file of the message, and the report says so."""
    async with open_rig(replace(PLAIN, messages=2)) as rig:
        body = "<p>" + "long " * 900_000 + "</p>"
        rig.mutate(op="create", folder="inbox", subject="Long", body=body)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        report = await scene.restore()
        assert report.exit_code == 0
        (found,) = [m for m in below(scene, [ROOT, "Inbox"]) if m["subject"] == "Long"]
        (attached,) = found["attachments"]
        (source,) = [m for m in scene.before["messages"] if m["subject"] == "Long"]
        assert attached["name"] == "message body.html"
        assert attached["sha256"] == source["bodySha"]
        assert ["its body is attached" in a.text for a in report.adjustments] == [True]


async def test_moved_mail_is_left_and_deleted_mail_made_again() -> None:
    """Between two runs a user moves, deletes and shift-deletes restored messages."""
    async with open_scene(PLAIN) as scene:
        await scene.restore()
        moved, binned, purged = scene.marked()[:3]
        scene.rig.mutate(op="move", message=moved["immutableId"], folder="inbox")
        scene.rig.mutate(op="move", message=binned["immutableId"], folder="deleteditems")
        scene.rig.mutate(op="delete", message=purged["immutableId"])
        again = await scene.restore()
        assert created(again) == 2
        assert again.exit_code == 0  # the one that was moved is not taken for missing
        marks = [mark_of(m) for m in scene.marked() if m["immutableId"] != binned["immutableId"]]
        assert len(marks) == len(set(marks)) == scene.source().total()
        assert created(await scene.restore()) == 0
        await scene.undo()
        scene.assert_untouched()


async def test_a_root_that_was_deleted_is_made_again() -> None:
    """Its messages lie below Deleted Items: that is not where somebody keeps them."""
    async with open_scene(PLAIN) as scene:
        await scene.restore()
        scene.rig.mutate(op="folder-delete", folder=[ROOT])
        report = await scene.restore()
        assert (created(report), report.exit_code) == (scene.source().total(), 0)
        scene.assert_whole()
        await scene.undo()
        scene.assert_untouched()


async def test_undoing_keeps_what_others_put_there() -> None:
    """A folder that got other mail stays, with that mail; copies somebody made stay, too."""
    async with open_scene(PLAIN) as scene:
        await scene.restore()
        scene.rig.mutate(op="create", folder=[ROOT, "Archive"], subject="Somebody's")
        (restored, *_) = below(scene, [ROOT, "Inbox"])
        copied = await _copy(scene, restored["immutableId"])
        undone = await scene.undo()
        assert undone.exit_code == 0
        assert sorted(undone.folders_kept) == [(ROOT,), (ROOT, "Archive"), (ROOT, "Inbox")]
        assert [m["subject"] for m in below(scene, [ROOT, "Archive"])] == ["Somebody's"]
        assert [m["immutableId"] for m in below(scene, [ROOT, "Inbox"])] == [copied]
        with pytest.raises(UsageError, match="taken back already"):
            await scene.undo(undone.job_id)


async def _copy(scene: Scene, message_id: str) -> str:
    """Copy a message within its folder, as a user may; return the copy's id."""
    async with GraphProbe(scene.rig.emulator) as probe:
        (message,) = [m for m in scene.rig.truth()["messages"] if m["immutableId"] == message_id]
        known = {m["immutableId"] for m in scene.rig.truth()["messages"]}
        answer = await probe.send(
            "POST",
            f"users/{USER}/messages/{message_id}/copy",
            {"destinationId": message["folderId"]},
        )
        assert answer.status == 201
    (fresh,) = {str(m["immutableId"]) for m in scene.rig.truth()["messages"]} - known
    return fresh


async def test_restored_undone_and_restored_again() -> None:
    """What was taken back can be restored again, by the same restore, and taken back again."""
    async with open_scene(PLAIN) as scene:
        for _ in range(2):
            report = await scene.restore()
            assert (created(report), report.exit_code) == (scene.source().total(), 0)
            scene.assert_whole()
            undone = await scene.undo(report.job_id)
            assert (undone.removed, undone.gone) == (scene.source().total(), 0)
            scene.assert_untouched()


async def test_undoing_can_be_tried() -> None:
    """A dry run counts and removes nothing."""
    async with open_scene(PLAIN) as scene:
        await scene.restore()
        dry = await scene.undo(dry_run=True)
        assert dry.removed == scene.source().total()
        scene.assert_whole()


async def test_several_wishes_of_one_mailbox_wait_for_each_other() -> None:
    """Two restores from one mailbox asked for at once do not shut each other out."""
    async with open_scene(PLAIN) as scene, scene.rig.engine() as atlas:
        wishes = [RestoreWish(Selection(mailbox=USER, folders=(n,))) for n in ("inbox", "archive")]
        reports = await atlas.restore(wishes)
        assert [report.exit_code for report in reports] == [0, 0]
        counts = _counts(scene)
        assert created(reports[1]) == counts["Archive",]


async def test_counts_are_compared_and_what_is_changed_is_different(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is not as it was sent when it is read back is told, and how."""
    async with open_scene(PLAIN) as scene:
        report = await scene.restore(comparing=Comparing.COUNTS)
        assert report.comparison is not None
        assert report.comparison.compared == scene.source().total()
        await scene.undo()
        compare = Comparer.compare

        async def changed_first(self: Comparer, *given: Any) -> Comparison:
            first, second = scene.marked()[:2]
            read = not second["isRead"]
            change = {"subject": "Changed"}
            scene.rig.mutate(op="update", message=first["immutableId"], patch=change)
            scene.rig.mutate(op="update", message=second["immutableId"], patch={"isRead": read})
            return await compare(self, *given)

        monkeypatch.setattr(Comparer, "compare", changed_first)
        report = await scene.restore()
        assert report.comparison is not None
        assert report.comparison.different == 2
        parts = {part for d in report.comparison.differences for part in d.parts}
        assert parts == {"addresses and subject", "state"}
        assert report.exit_code == 3


async def test_the_oldest_job_is_named_and_listed() -> None:
    """Restores are listed with what they are; a name that fits none or several is refused."""
    async with open_scene(PLAIN) as scene, scene.rig.engine() as atlas:
        one = await scene.restore()
        other = await scene.restore(in_place=True, conflict=Conflict.COPY)
        jobs = await atlas.restore_jobs(USER)
        assert [job.job_id for job in jobs] == [one.job_id, other.job_id]
        assert [job.state for job in jobs] == ["done", "done"]
        assert [job.created for job in jobs] == [scene.source().total()] * 2
        with pytest.raises(UsageError):
            await scene.undo("ab")
        await scene.undo(one.job_id[:6])
        assert [job.state for job in await atlas.restore_jobs(USER)] == ["undone", "done"]
