"""A restore run again, after it was cut short or after people have worked with what it brought."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.errors import GraphTooLarge
from atlas_async.graph.writer import GraphWriter
from atlas_async.model.message import dump_json
from atlas_async.model.restoring import Comparing, Step
from atlas_async.model.source import JsonObject
from atlas_async.operations.selection import Selection
from tests.fakes.graph_probe import GraphProbe
from tests.fakes.rig import USER, open_rig
from tests.restore.scene import FEW, Scene, brisk_scene, created
from tests.torture.faults import BriskClock

INBOX = Selection(mailbox=USER, folders=("inbox",), subtree=False)


async def test_an_attachment_that_is_refused_creates_nothing_again() -> None:
    """Each run says which is missing; the message is continued, and in the end complete."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        parts: list[dict[str, Any]] = [
            {"name": "large.bin", "size": 5_000_000, "seed": 1},
            {"name": "small.txt", "size": 10, "seed": 2},
        ]
        rig.mutate(op="create", folder="inbox", subject="Big", attachments=parts)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        rig.emulator.control.configure(message_limit=1_000_000)
        first = await scene.restore(INBOX)
        assert (first.exit_code, first.incomplete) == (3, 1)
        for _ in range(2):
            dry = await scene.restore(INBOX, dry_run=True)
            again = await scene.restore(INBOX)
            for report in (dry, again):
                steps = (created(report), report.total(Step.CONTINUE), report.total(Step.ALREADY))
                assert steps == (0, 1, created(first) - 1)
            assert (again.exit_code, again.incomplete) == (3, 1)
        rig.emulator.control.configure(message_limit=0)
        last = await scene.restore(INBOX)
        assert (last.exit_code, created(last), last.total(Step.CONTINUE)) == (0, 0, 1)
        (big,) = [m for m in scene.marked() if m["subject"] == "Big"]
        assert {a["name"] for a in big["attachments"]} == {"large.bin", "small.txt"}
        last = await scene.restore(INBOX)
        assert (last.exit_code, last.total(Step.ALREADY)) == (0, created(first))


async def test_what_people_did_since_is_no_failure_of_a_later_run() -> None:
    """Read, edited, moved, copied and deleted mail of an earlier run: told as such, exit 0."""
    async with brisk_scene(corpus=replace(FEW, messages=24)) as scene:
        first = await scene.restore(INBOX)
        assert first.exit_code == 0
        read, moved, copied, deleted = scene.marked()[:4]
        change = {"isRead": not read["isRead"], "categories": ["Red"]}
        scene.rig.mutate(op="update", message=read["immutableId"], patch=change)
        scene.rig.mutate(op="move", message=moved["immutableId"], folder="archive")
        await copy_of(scene, copied)
        scene.rig.mutate(op="delete", message=deleted["immutableId"])
        other = await scene.restore(Selection(mailbox=USER, folders=("sentitems",)))
        assert (other.exit_code, other.error) == (0, "")
        assert other.comparison is not None
        assert (other.comparison.changed, other.comparison.gone) == (0, 0)
        again = await scene.restore(INBOX)
        assert (again.exit_code, created(again)) == (0, 1)
        assert again.comparison is not None
        assert (again.comparison.changed, again.comparison.gone) == (1, 1)
        assert again.comparison.equal


async def test_counts_of_a_later_run_leave_out_what_was_moved_since() -> None:
    """Counting only, too, and where nothing was compared at first."""
    for comparing in (Comparing.COUNTS, Comparing.NONE):
        async with brisk_scene(corpus=FEW) as scene:
            assert (await scene.restore(comparing=comparing)).exit_code == 0
            (moved, *_) = scene.marked()
            scene.rig.mutate(op="move", message=moved["immutableId"], folder="archive")
            again = await scene.restore(comparing=Comparing.COUNTS)
            assert (again.exit_code, created(again)) == (0, 0)
            assert again.comparison is not None
            assert (again.comparison.missing, again.comparison.gone) == (0, 1)


async def test_what_no_run_has_compared_is_compared_by_the_next() -> None:
    """A run that did not come to its end: what it made is read back by the one that continues."""
    async with brisk_scene(corpus=replace(FEW, messages=24)) as scene:
        scene.fault(
            method="POST",
            path="/messages$",
            status=507,
            code="ErrorQuotaExceeded",
            after=9,
            count=-1,
        )
        report = await scene.restore()
        assert report.comparison is None
        scene.calm()
        (spoilt, *_) = scene.marked()
        scene.rig.mutate(op="update", message=spoilt["immutableId"], patch={"subject": "Spoilt"})
        report = await scene.restore(Selection(mailbox=USER, folders=("archive",)))
        assert report.exit_code == 3
        assert report.comparison is not None
        assert (report.comparison.different, report.comparison.changed) == (1, 0)
        report = await scene.restore()
        assert report.comparison is not None
        assert (report.exit_code, report.comparison.changed) == (0, 1)


async def copy_of(scene: Scene, message: dict[str, Any]) -> None:
    """Copy a message within its folder, as a user may."""
    async with GraphProbe(scene.rig.emulator) as probe:
        path = f"users/{USER}/messages/{message['immutableId']}/copy"
        answer = await probe.send("POST", path, {"destinationId": message["folderId"]})
        assert answer.status == 201


@pytest.mark.parametrize("journal", ["kept", "lost"])
async def test_a_body_that_was_to_be_attached_is_attached_by_the_next_run(
    journal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server refused the size of the message, below the limit that is known; then a kill."""
    create = GraphWriter.create_message

    async def refusing(self: GraphWriter, folder: str, letter: JsonObject, **named: Any) -> str:
        if len(dump_json(letter)) > 500_000:
            raise GraphTooLarge("too large", status=413)
        return await create(self, folder, letter, **named)

    monkeypatch.setattr(GraphWriter, "create_message", refusing)
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        body = "<html>" + "<p>hello world</p>" * 60_000 + "</html>"
        rig.mutate(op="create", folder="inbox", subject="Long", body=body)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        scene.fault(method="POST", path="/attachments$", status=503, count=-1)
        assert (await scene.restore(INBOX)).exit_code != 0
        scene.calm()
        if journal == "lost":
            for key in rig.keys("catalog/"):
                if "/restores/" in key and "/parts/" in key:
                    del rig.bucket.objects[key]
        report = await scene.restore(INBOX)
        assert report.exit_code == 0, (report.failures, report.comparison)
        (long,) = [m for m in scene.marked() if m["subject"] == "Long"]
        assert [a["name"] for a in long["attachments"]] == ["message body.html"]
        (source,) = [m for m in scene.before["messages"] if m["subject"] == "Long"]
        assert long["attachments"][0]["sha256"] == source["bodySha"]
