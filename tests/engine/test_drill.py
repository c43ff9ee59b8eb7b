"""The restore drill over a whole engine: what it tries, what it finds, what it leaves behind."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from atlas_async.crypto.signing import check_signature
from atlas_async.emulator.faults import FaultRule
from atlas_async.errors import IntegrityError, SnapshotNotFound, UsageError
from atlas_async.model.drill import DrillOptions, DrillReport
from atlas_async.model.events import DrillProgress
from atlas_async.model.record import MessageRecord, attachment_key, message_key
from atlas_async.model.restoring import Comparing, Conflict, RestoreOptions, Step
from atlas_async.operations.restore import RestoreWish
from atlas_async.operations.selection import Selection
from atlas_async.pipeline.stop import StopSignal
from atlas_async.sdk import Atlas
from atlas_async.search.query import Query
from tests.fakes.golden import golden_metadata, golden_store
from tests.fakes.rig import PASSPHRASE, SMALL, USER, Rig, open_rig
from tests.fakes.vaults import plant

TWO = replace(SMALL, mailboxes=2, messages=30, attachment_share=0.4)
OTHER = "user0001@contoso.com"


async def drill(rig: Rig, mailboxes: list[str] | None = None, **options: Any) -> DrillReport:
    """Drill through the SDK."""
    async with rig.engine() as atlas:
        return await atlas.drill(mailboxes, DrillOptions(**options))


async def records(rig: Rig, mailbox: str = USER) -> list[MessageRecord]:
    """Return the messages of a mailbox's newest snapshot."""
    return [record async for record in (await rig.view(mailbox=mailbox)).messages()]


async def test_a_sample_of_every_mailbox_is_brought_back_and_signed() -> None:
    """As many messages as asked for, all their attachments; nothing is written, no Graph asked."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        before = set(rig.bucket.objects)
        asked = rig.emulator.control.log()["statuses"]
        report = await drill(rig, sample=12)
        assert [box.mailbox_id for box in report.mailboxes] == [USER, OTHER]
        for box in report.mailboxes:
            assert (box.messages, box.sampled, box.restored, box.failed) == (30, 12, 12, 0)
            assert box.bytes > 0
            assert box.exit_code == 0
        assert report.exit_code == 0
        assert set(rig.bucket.objects) == before
        async with rig.engine() as atlas:
            key = await atlas.report_key()
        check_signature(report.signed, key)
        assert report.signed["passed"] is True
        assert rig.emulator.control.log()["statuses"] == asked


async def test_a_seed_chooses_the_same_and_another_drill_chooses_others() -> None:
    """The report names the seed; without one each drill tries other messages."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        first = await drill(rig, [USER], sample=8)
        again = await drill(rig, [USER], sample=8, seed=first.seed)
        assert again.mailboxes[0].bytes == first.mailboxes[0].bytes
        totals = {(await drill(rig, [USER], sample=8)).mailboxes[0].bytes for _ in range(4)}
        assert len(totals) > 1


async def test_all_means_all() -> None:
    """A sample of none but everything, and one larger than the mailbox."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        every = (await drill(rig, [USER], sample=0)).mailboxes[0]
        more = (await drill(rig, [USER], sample=1_000)).mailboxes[0]
        stored = sum(len(record.get("attachments", ())) for record in await records(rig))
        assert every.restored == more.restored == 30
        assert every.attachments == more.attachments == stored


async def test_damage_is_found_and_costs_itself() -> None:
    """A damaged attachment and a missing message: exit 16, both named, the rest brought back."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        found = await records(rig)
        with_file = next(r for r in found if r.get("attachments"))
        without = next(r for r in found if not r.get("attachments"))
        attachment = with_file["attachments"][0]["checksum"]
        await plant(rig.store, attachment_key(USER, attachment), b"x" * 100)
        await rig.store.delete(message_key(USER, without["checksum"]))
        report = await drill(rig, sample=0)
        box = report.mailboxes[0]
        assert (box.failed, box.damaged, box.tried) == (2, 2, 30)
        assert {failure.what for failure in box.failures} == {"message", "attachment 1"}
        assert report.exit_code == box.exit_code == 16
        assert {with_file["object_id"], without["object_id"]} <= {
            failure.object_id for failure in box.failures
        }
        assert box.restored == 30 - box.failed
        assert report.mailboxes[1].exit_code == 0
        assert report.signed["passed"] is False
        assert report.signed["exit_code"] == 16


async def test_in_a_mailbox_damage_is_not_counted_twice_and_nothing_private_is_signed() -> None:
    """What failed in memory is not tried again; the report names neither subjects nor files."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        found = await records(rig)
        with_file = next(r for r in found if r.get("attachments"))
        without = next(r for r in found if not r.get("attachments"))
        for attachment in with_file["attachments"]:
            await plant(rig.store, attachment_key(USER, attachment["checksum"]), b"x" * 100)
        await rig.store.delete(message_key(USER, without["checksum"]))
        before = rig.truth(OTHER)
        rig.emulator.control.add_fault(
            FaultRule(method="POST", path="/mailFolders/[^/]+/messages$", status=400, count=1)
        )
        report = await drill(rig, [USER], sample=0, scratch=OTHER)
        (box,) = report.mailboxes
        damaged = 1 + len(with_file["attachments"])
        assert (report.exit_code, box.damaged, box.failed) == (16, damaged, damaged + 1)
        assert (box.restored, box.read_back) == (28, 27)
        text = json.dumps(report.signed, ensure_ascii=False)
        private = {r["subject"] for r in found} | {
            a["name"] for r in found for a in r.get("attachments", ())
        }
        assert not [name for name in private if len(name) > 3 and name in text]
        after = rig.truth(OTHER)
        assert {f["id"] for f in after["folders"]} == {f["id"] for f in before["folders"]}


async def test_what_the_ledger_has_does_not_pass() -> None:
    """A message that no backup could store cannot be brought back."""
    async with open_rig(TWO) as rig:
        rig.emulator.control.add_fault(
            FaultRule(path="/attachments", status=403, code="ErrorAccessDenied", count=-1)
        )
        backup = await rig.backup([USER])
        assert backup.exit_code == 3
        report = await drill(rig, [USER], sample=0)
        (box,) = report.mailboxes
        assert report.exit_code == box.exit_code == 3
        assert box.not_stored == len(await (await rig.view()).not_stored()) > 0
        assert report.signed["mailboxes"][0]["not_stored"] == box.not_stored


@pytest.mark.parametrize("scratch", ["nobody@contoso.com", "x"])
async def test_a_scratch_address_that_nobody_has(scratch: str) -> None:
    """Exit 10 with the address; what memory showed is in the signed report, and damage comes first."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        report = await drill(rig, [USER], sample=5, scratch=scratch)
        (box,) = report.mailboxes
        assert (report.exit_code, box.restored) == (10, 5)
        assert scratch in box.error
        assert "spelling" in box.hint
        assert report.signed["mailboxes"][0]["error"] == box.error
        for record in await records(rig):
            await rig.store.delete(message_key(USER, record["checksum"]))
        assert (await drill(rig, [USER], sample=5, scratch=scratch)).exit_code == 16


@pytest.mark.parametrize(
    ("mailboxes", "options"),
    [([], {}), (None, {"sample": -1}), (None, {"seed": -1}), (None, {"seed": 1 << 53})],
)
async def test_a_drill_of_nothing_is_refused(
    mailboxes: list[str] | None, options: dict[str, int]
) -> None:
    """What tries nothing proves nothing; a seed must be a number for every program."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        with pytest.raises(UsageError):
            await drill(rig, mailboxes, **options)


async def test_into_a_mailbox_everything_is_read_back_and_removed() -> None:
    """The sample appears in the scratch mailbox, is compared, and leaves no trace."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        before = rig.truth(OTHER)
        report = await drill(rig, [USER], sample=10, scratch=OTHER)
        box = report.mailboxes[0]
        assert (box.exit_code, box.error) == (0, "")
        assert (box.restored, box.read_back, box.different) == (10, 10, 0)
        assert box.estimated_seconds > 0
        after = rig.truth(OTHER)
        assert {f["id"] for f in after["folders"]} == {f["id"] for f in before["folders"]}
        visible = [m for m in after["messages"] if not _is_recoverable(after, m)]
        assert len(visible) == len(
            [m for m in before["messages"] if not _is_recoverable(before, m)]
        )
        async with rig.engine() as atlas:
            jobs = await atlas.restore_jobs(USER)
        assert [job.state for job in jobs] == ["undone"]


async def test_what_a_killed_drill_left_is_removed_by_the_next() -> None:
    """Its journal is in the bucket: the next drill finds it, and the mailbox is as it was."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        before = {folder["id"] for folder in rig.truth(OTHER)["folders"]}
        left = RestoreOptions(
            root="Restore drill 2026-04-20 113000",
            conflict=Conflict.COPY,
            comparing=Comparing.NONE,
        )
        async with rig.engine() as atlas:
            await atlas.restore([RestoreWish(Selection(mailbox=USER), OTHER)], left)
        assert {folder["id"] for folder in rig.truth(OTHER)["folders"]} > before
        report = await drill(rig, [USER], sample=3, scratch=OTHER)
        assert report.exit_code == 0
        assert {folder["id"] for folder in rig.truth(OTHER)["folders"]} == before


@pytest.mark.parametrize(
    "options",
    [
        RestoreOptions(root="Restore drill of May", conflict=Conflict.COPY),
        RestoreOptions(root="Restore drill 2026-04-20 113000"),
    ],
    ids=["another name", "another manner"],
)
async def test_a_restore_of_somebody_is_no_drill(options: RestoreOptions) -> None:
    """Whatever its folder begins with: a drill removes what drills have made."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        async with rig.engine() as atlas:
            (mine,) = await atlas.restore([RestoreWish(Selection(mailbox=USER), OTHER)], options)
        made = mine.total(Step.CREATE)
        assert made > 0
        report = await drill(rig, [USER], sample=3, scratch=OTHER)
        assert report.exit_code == 0
        async with rig.engine() as atlas:
            states = {job.job_id: job.state for job in await atlas.restore_jobs(USER)}
        assert states[mine.job_id] == "done"


async def test_a_mailbox_that_cannot_be_written_fails_its_drill() -> None:
    """Without Mail.ReadWrite: exit 13 with what to grant, and what memory showed stays."""
    async with open_rig(TWO) as rig:
        await rig.backup([USER])
        rig.emulator.tenant.app.roles = tuple(
            role for role in rig.emulator.tenant.app.roles if role != "Mail.ReadWrite"
        )
        report = await drill(rig, [USER], sample=5, scratch=OTHER)
        box = report.mailboxes[0]
        assert report.exit_code == 13
        assert "Mail.ReadWrite" in box.hint
        assert box.restored == 5


async def test_what_comes_back_otherwise_is_found() -> None:
    """A server that loses attachments on their way in does not pass."""
    async with open_rig(replace(TWO, attachment_share=1.0)) as rig:
        await rig.backup([USER])
        rig.emulator.control.add_fault(
            FaultRule(
                method="POST",
                path="/attachments$",
                status=400,
                code="ErrorInvalidRequest",
                count=-1,
            )
        )
        rig.emulator.control.add_fault(
            FaultRule(
                method="POST",
                path="/mailFolders/[^/]+/messages$",
                status=413,
                code="ErrorMessageSizeExceeded",
                count=1,
            )
        )
        report = await drill(rig, [USER], sample=5, scratch=OTHER)
        assert report.exit_code == 3
        assert report.mailboxes[0].failed >= 1


async def test_a_drill_can_be_stopped() -> None:
    """The signal ends it between messages; what was tried is in the signed report."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        stop = StopSignal()
        async with rig.engine() as atlas:

            def listen(event: object) -> None:
                if isinstance(event, DrillProgress) and event.done == 3:
                    stop.request()

            atlas._listeners.append(listen)
            report = await atlas.drill(None, DrillOptions(sample=20), stop=stop)
        assert report.exit_code == 130
        assert report.interrupted
        assert report.mailboxes[0].restored == 3
        assert len(report.mailboxes) == 1
        assert report.signed["interrupted"] is True


async def test_a_bucket_of_atlas_is_drilled() -> None:
    """All of it comes back but the attachments that Atlas never fetched, which are named."""
    metadata = golden_metadata()
    async with open_rig(replace(SMALL, messages=1)) as rig:
        settings = replace(
            rig.settings, tenant_id=metadata["tenant_id"], passphrase=_secret(metadata)
        )
        async with Atlas(settings, store=golden_store()) as atlas:
            report = await atlas.drill(None, DrillOptions(sample=0))
            assert await atlas.report_key() == report.signed["signature"]["public_key"]
    assert report.mailboxes
    assert all(box.restored for box in report.mailboxes)
    assert not any(box.damaged for box in report.mailboxes)


def _secret(metadata: dict[str, Any]) -> Any:
    return type(PASSPHRASE)(metadata["passphrase"])


def _is_recoverable(truth: dict[str, Any], message: dict[str, Any]) -> bool:
    names = {folder["id"]: folder["wellKnownName"] or "" for folder in truth["folders"]}
    return names.get(message["folderId"], "recoverable").startswith("recoverable")


@pytest.mark.parametrize("left", [0, 1], ids=["all manifests", "the newest manifest"])
async def test_snapshots_that_somebody_took_away_are_found(left: int) -> None:
    """What is drilled is there and whole; that more was there the head still tells. Exit 16."""
    async with open_rig(replace(TWO, mailboxes=1)) as rig:
        await rig.back_up_user()
        rig.mutate(op="create", folder="inbox", subject="new")
        await rig.back_up_user()
        manifests = sorted(key for key in rig.bucket.objects if key.startswith("manifests/"))
        for key in manifests[left:]:
            del rig.bucket.objects[key]
        for names in (None, [USER]):
            if not left and names:
                async with rig.engine() as atlas:
                    with pytest.raises(IntegrityError, match="manifest is gone"):
                        await atlas.export([Selection(mailbox=USER)], dry_run=True)
                    found = await atlas.find(Query(words=("new",)), mailboxes=names)
                assert found.exit_code == 16
            report = await drill(rig, names)
            assert report.exit_code == 16
            assert report.signed["passed"] is False
            (box,) = report.mailboxes
            told = box.error or box.failures[0].reason
            assert "manifest is gone" in told
        if left:
            async with rig.engine() as atlas:
                exported = await atlas.export([Selection(mailbox=USER)], dry_run=True)
            assert any("an older snapshot is taken" in note for note in exported.notes)


async def test_a_bucket_without_snapshots_has_nothing_to_drill() -> None:
    """Nothing was proved, so nothing has passed."""
    async with open_rig(TWO) as rig:
        async with rig.engine() as atlas:
            await atlas.backup(["nobody@contoso.com"])
        with pytest.raises(SnapshotNotFound, match="no snapshots to bring back"):
            await drill(rig)


async def test_a_dry_run_reads_no_message() -> None:
    """The same messages are chosen; damage that only reading would show is not met."""
    async with open_rig(TWO) as rig:
        await rig.backup()
        for key in [key for key in rig.bucket.objects if key.startswith("data/")]:
            del rig.bucket.objects[key]
        report = await drill(rig, sample=12, seed=1, dry_run=True)
        assert [(box.sampled, box.tried) for box in report.mailboxes] == [(12, 0), (12, 0)]
        assert (report.exit_code, report.signed) == (0, {})
        assert (await drill(rig, sample=12, seed=1)).exit_code == 16
