"""Large files on their way, and what is damaged in the bucket: each is whole, or not there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from atlas_async.catalog.layout import restores_prefix
from atlas_async.config.secret import Secret
from atlas_async.config.settings import GraphSettings, Limits
from atlas_async.emulator import Behaviour, Corpus, Emulator
from atlas_async.model.record import attachment_key, message_key
from atlas_async.operations.selection import Selection
from tests.fakes.rig import USER, open_rig
from tests.restore.scene import (
    FEW,
    ROOT,
    Scene,
    assert_once,
    brisk_scene,
    created,
    held,
    large_scene,
    linkless,
    mark_of,
)
from tests.torture.faults import BriskClock

UPLOADS: Final[dict[str, list[dict[str, Any]]]] = {
    "cut": [{"method": "PUT", "action": "reset-mid", "count": 3}],
    "reset": [{"method": "PUT", "action": "reset", "count": 3}],
    "lost": [{"method": "PUT", "status": 503, "commit": "before", "count": 4}],
    "lost and reset": [{"method": "PUT", "action": "reset", "commit": "before", "count": 4}],
    "last lost": [{"method": "PUT", "status": 503, "commit": "before", "after": 2}],
    "last lost and reset": [{"method": "PUT", "action": "reset", "commit": "before", "after": 2}],
    "session lost": [{"method": "PUT", "status": 404, "code": "ErrorItemNotFound", "after": 1}],
    "session gone": [{"method": "PUT", "status": 410, "code": "Gone", "after": 1}],
    "refused token": [{"method": "PUT", "status": 401, "code": "InvalidToken", "after": 1}],
    "throttled": [
        {
            "method": "PUT",
            "status": 429,
            "code": "ApplicationThrottled",
            "retry_after": "7",
            "count": 2,
        }
    ],
    "state unknown": [
        {"method": "PUT", "status": 503, "count": 3},
        {"method": "GET", "path": "AttachmentSessions", "status": 500, "count": 4},
    ],
    "session begun unseen": [
        {"path": "createUploadSession", "status": 503, "commit": "before", "count": 2}
    ],
    "not found yet": [
        {
            "method": "POST",
            "path": "createUpl",
            "status": 404,
            "code": "ErrorItemNotFound",
            "count": 4,
        }
    ],
    "token expires": [
        {"status": 401, "code": "InvalidAuthenticationToken", "after": 30, "count": 6}
    ],
}


@pytest.mark.parametrize("case", list(UPLOADS))
async def test_large_files_through_every_fault(case: str) -> None:
    """Ranges, sessions and answers are lost: each file is attached once, byte for byte."""
    async with large_scene() as scene:
        for rule in UPLOADS[case]:
            scene.fault(**rule)
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures, report.comparison)
        assert all(rule["fired"] for rule in scene.rig.emulator.control.faults())
        scene.assert_whole()


async def test_upload_urls_lead_to_another_origin() -> None:
    """As outlook.office.com is another host than Graph: no token goes there."""
    behaviour = Behaviour(split_uploads=True)
    async with (
        large_scene() as scene,
        Emulator(Corpus(replace(FEW, domain="fabrikam.com")), behaviour=behaviour) as other,
    ):
        assert other.upload_url != other.graph_url
        target = GraphSettings(
            tenant_id=str(other.tenant.id),
            client_id=other.tenant.client_id,
            credential=Secret(other.tenant.client_secret),
            authority_url=other.authority_url,
            graph_url=other.graph_url,
        )
        report = await scene.restore(to="user0000@fabrikam.com", target=target)
        assert report.exit_code == 0, (report.error, report.failures)
        found = held(other.control.mailbox_truth("user0000@fabrikam.com"), (ROOT,))
        assert linkless(found) == linkless(scene.source())


async def test_sessions_that_expire() -> None:
    """Where every session expires at once the message is completed by a later run."""
    options = replace(FEW, huge_attachments=1, huge_bytes=9_000_000)
    async with open_rig(options, limits=Limits(), clock=BriskClock()) as rig:
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        rig.emulator.control.configure(upload_lifetime=0.0)
        report = await scene.restore()
        assert (report.exit_code, report.failed) == (3, 1)
        rig.emulator.control.configure(upload_lifetime=3600.0)
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()


async def test_a_message_never_shown_is_not_made_twice() -> None:
    """A message that stays hidden for longer than patience lasts is completed, not made again."""
    async with large_scene() as scene:
        scene.fault(
            path="attachments", method="POST", status=404, code="ErrorItemNotFound", count=7
        )
        report = await scene.restore()
        assert report.exit_code == 0, (report.error, report.failures)
        scene.assert_whole()
        assert_once(scene)


async def test_a_damaged_message_and_a_damaged_file_cost_themselves() -> None:
    """R4, R5: the rest is restored, nothing half is attached, and the exit code is 16."""
    async with large_scene() as scene:
        view = await scene.rig.view()
        records = [r async for r in view.messages()]
        (large,) = [r for r in records if r["subject"] == "Large"]
        broken = next(r for r in records if r["subject"] != "Large")
        whole = next(a for a in large["attachments"] if a["content_bytes"] > 9_000_000 - 1)
        flip(scene, attachment_key(USER, whole["checksum"]))
        flip(scene, message_key(USER, broken["checksum"]))
        report = await scene.restore()
        assert (report.exit_code, report.failed, report.incomplete) == (16, 1, 1)
        assert created(report) == len(records) - 1
        (restored,) = [m for m in scene.marked() if m["subject"] == "Large"]
        assert sorted(a["length"] for a in restored["attachments"]) == [100, 3_200_000]
        assert broken["subject"] not in [m["subject"] for m in scene.marked()]
        kinds = {(f.kind, f.integrity) for f in report.failures}
        assert kinds == {("message", True), ("attachment", True)}


async def test_a_missing_file_is_named() -> None:
    """An object that is not in the bucket is said to be missing."""
    async with large_scene() as scene:
        view = await scene.rig.view()
        (large,) = [r async for r in view.messages() if r["subject"] == "Large"]
        for attachment in large["attachments"]:
            del scene.rig.bucket.objects[attachment_key(USER, attachment["checksum"])]
        report = await scene.restore(Selection(mailbox=USER, messages=(large["object_id"],)))
        assert (report.exit_code, report.incomplete, created(report)) == (16, 3, 1)
        assert {f.code for f in report.failures} == {"PartMissing"}


def flip(scene: Scene, key: str) -> None:
    """Damage an object near its end."""
    stored = scene.rig.bucket.objects[key]
    body = bytearray(stored.body)
    body[-20] ^= 1
    scene.rig.bucket.objects[key] = replace(stored, body=bytes(body))


async def test_a_damaged_journal_stops_the_restore_before_it_writes() -> None:
    """Without its journal a restore might do again what it has done: it says where it is broken."""
    async with brisk_scene(corpus=FEW) as scene:
        await scene.restore()
        marks = sorted(map(mark_of, scene.marked()))
        part = next(k for k in scene.rig.keys(restores_prefix(USER)) if "/parts/" in k)
        flip(scene, part)
        report = await scene.restore()
        assert report.exit_code == 16
        assert part in report.error
        assert sorted(map(mark_of, scene.marked())) == marks


async def test_a_body_that_is_attached_is_attached_by_the_next_run() -> None:
    """A message whose body did not fit, and whose run ended before the body was attached."""
    async with open_rig(FEW, limits=Limits(), clock=BriskClock()) as rig:
        body = "<p>" + "long " * 900_000 + "</p>"
        rig.mutate(op="create", folder="inbox", subject="Long", body=body)
        await rig.back_up_user()
        scene = Scene(rig, rig.truth())
        scene.fault(method="POST", path="createUploadSession", status=500, count=-1)
        assert (await scene.restore()).failed == 1
        scene.calm()
        for _ in range(2):
            report = await scene.restore()
            assert report.exit_code == 0, (report.failures, report.comparison)
            (found,) = [m for m in scene.marked() if m["subject"] == "Long"]
            (source,) = [m for m in scene.before["messages"] if m["subject"] == "Long"]
            assert [a["sha256"] for a in found["attachments"]] == [source["bodySha"]]
