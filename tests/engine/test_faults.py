"""Faults of Graph and of the store: what is bad costs itself, nothing is lost in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.config.settings import Limits
from atlas_async.emulator import CorpusOptions, FaultRule
from atlas_async.model.report import Outcome
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig

IMPATIENT = replace(Limits(), retries=2, patience=60.0)


def fault(rig: Rig, **rule: object) -> None:
    """Put a fault rule in force."""
    rig.emulator.control.add_fault(FaultRule(**rule))  # type: ignore[arg-type]  # test values


def with_attachments(rig: Rig) -> list[dict[str, object]]:
    """Return inbox messages that have a file attachment."""
    return [
        m
        for m in rig.truth()["messages"]
        if any(a["type"].endswith("fileAttachment") for a in m["attachments"])
    ]


async def test_broken_attachment_costs_itself_and_is_retried() -> None:
    """One attachment list that always fails leaves the message stored, exit 3, retried next run (I3, I4)."""
    async with open_rig(limits=IMPATIENT, clock=FakeClock(autojump=True)) as rig:
        victim = with_attachments(rig)[0]["immutableId"]
        fault(
            rig,
            path=f"{victim}/attachments",
            status=500,
            code="ErrorCannotOpenFileAttachment",
            count=-1,
        )
        result = await rig.back_up_user()
        assert result.outcome is Outcome.PARTIAL
        assert result.exit_code == 3
        assert result.failed == 1
        (entry,) = result.not_stored
        assert (entry.kind, entry.object_id, entry.permanent) == ("attachment", victim, True)
        view = await rig.view()
        assert not view.summary.complete
        assert await view.find(str(victim)) is not None
        again = await rig.back_up_user()
        assert again.outcome is Outcome.PARTIAL
        assert again.snapshot_id is None
        rig.emulator.control.clear_faults()
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE
        assert healed.failed == 0
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_poisoned_message_costs_itself_and_is_retried() -> None:
    """A message that Graph cannot give whole is in the ledger though the delta moved on (I3)."""
    async with open_rig(limits=IMPATIENT, clock=FakeClock(autojump=True)) as rig:
        rig.emulator.control.configure(sparse_changes=True)
        await rig.back_up_user()
        victim = rig.messages_in("inbox")[0]["immutableId"]
        rig.mutate(op="update", message=victim, patch={"subject": "new subject"})
        fault(rig, path=f"messages/{victim}$", status=500, code="ErrorCorruptData", count=-1)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.PARTIAL
        assert [e.code for e in result.not_stored] == ["ErrorCorruptData"]
        rig.emulator.control.clear_faults()
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE
        assert healed.stored == 1
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_folder_whose_pages_fail_is_read_message_by_message() -> None:
    """When delta and listing pages of a folder always fail, its messages are fetched one by one."""
    async with open_rig(limits=IMPATIENT, clock=FakeClock(autojump=True)) as rig:
        inbox = rig.folder_id("inbox")
        fault(rig, path=rf"{inbox}.*/messages/delta", status=503, count=-1)
        fault(rig, path=rf"{inbox}'?\)?/messages$", status=500, code="ErrorCorruptData", count=1)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE, result
        assert any("message by message" in notice for notice in result.notices)
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_unreadable_folder_costs_itself() -> None:
    """A folder that cannot be read at all is in the ledger, and read by the next run (I4)."""
    async with open_rig(limits=IMPATIENT, clock=FakeClock(autojump=True)) as rig:
        inbox = rig.folder_id("inbox")
        fault(rig, path=rf"{inbox}.*/messages", status=500, code="ErrorCorruptData", count=-1)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.PARTIAL
        assert [(e.kind, e.object_id) for e in result.not_stored] == [("folder", inbox)]
        rig.emulator.control.clear_faults()
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 429, "code": "ApplicationThrottled", "retry_after": "3"},
        {"status": 429, "code": "ApplicationThrottled", "retry_after": "date"},
        {"status": 429, "code": "ApplicationThrottled"},
        {"status": 503},
        {"status": 504, "code": "UnknownError"},
        {"status": 401, "code": "InvalidAuthenticationToken"},
        {"action": "reset"},
        {"action": "reset-mid"},
        {"action": "truncate"},
        {"action": "garbage"},
        {"action": "control"},
    ],
    ids=lambda rule: rule.get("action", "") or f"{rule['status']}-{rule.get('retry_after', '')}",
)
async def test_passing_faults_change_nothing(rule: dict[str, object]) -> None:
    """At 20 % faults of any passing kind the backup is complete and exact."""
    limits = replace(Limits(), retries=8)
    async with open_rig(limits=limits, clock=FakeClock(autojump=True)) as rig:
        fault(rig, path="/users/", count=-1, probability=0.2, seed=7, **rule)
        result = await rig.back_up_user()
        rig.emulator.control.clear_faults()
        assert result.outcome is Outcome.COMPLETE, result
        if rule.get("action") == "control":  # that fault puts characters into the text itself
            assert result.messages == len(wanted := rig.reachable())
            assert {r["object_id"] async for r in (await rig.view()).messages()} == wanted
        else:
            await rig.assert_exact(await rig.view(), rig.truth())


async def test_endless_throttling_ends_with_14_and_resumes() -> None:
    """A mailbox throttled beyond the patience stops, resumable, with what was settled committed."""
    async with open_rig(limits=IMPATIENT, clock=FakeClock(autojump=True)) as rig:
        inbox = rig.folder_id("inbox")
        fault(
            rig,
            path=rf"{inbox}.*/messages",
            status=429,
            code="ApplicationThrottled",
            retry_after="50",
            count=-1,
        )
        report = await rig.backup([USER])
        assert report.exit_code == 14
        assert report.mailboxes[0].outcome is Outcome.STOPPED
        rig.emulator.control.clear_faults()
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE, healed
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_store_that_fails_for_good_loses_nothing() -> None:
    """When PUTs fail the mailbox fails with a clear error, and the next run is exact (I6)."""
    bucket = MemoryBucket()
    faults = [Fault(Failure.REFUSED, Op.PUT, "^data/", times=None)]
    faulty = FaultyStore(MemoryStore(bucket), faults, clock=FakeClock())
    async with open_rig(limits=IMPATIENT, store=faulty) as rig:
        rig.bucket = bucket
        result = await rig.back_up_user()
        assert result.outcome is Outcome.FAILED
        assert "injected fault" in result.error
        assert result.exit_code == 1
        assert not rig.keys("manifests/")
        faults.clear()
        healed = await rig.back_up_user()
        assert healed.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_link_to_another_host_never_gets_the_token() -> None:
    """A page that links to another host is refused; nothing is sent there."""
    limits = replace(IMPATIENT, page_size=5)
    async with open_rig(limits=limits, clock=FakeClock(autojump=True)) as rig:
        rig.emulator.control.configure(foreign_links="https://evil.example")
        result = await rig.back_up_user()
        assert any("evil.example" in notice for notice in result.notices)
        rig.emulator.control.configure(foreign_links="")
        await rig.back_up_user()
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_repeated_links_stop() -> None:
    """A next link that points to its own page ends that way of reading instead of looping."""
    options = replace(SMALL, messages=400, attachment_share=0.0, inline_share=0.0, item_share=0.0)
    async with open_rig(options, limits=IMPATIENT, clock=FakeClock(autojump=True)) as rig:
        rig.emulator.control.configure(repeat_links=True)
        result = await rig.back_up_user()
        assert result.graph_requests < 2_000
        rig.emulator.control.configure(repeat_links=False)
        healed = await rig.back_up_user()
        assert healed.outcome in {Outcome.COMPLETE, Outcome.UNCHANGED}
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_large_attachments_in_many_mailboxes_stay_within_the_budget() -> None:
    """Large attachments are spooled, so that bytes in flight stay within the budget (I5)."""
    options = CorpusOptions(
        mailboxes=3,
        shared=0,
        rooms=0,
        guests=0,
        unlicensed=0,
        messages=5,
        huge_attachments=2,
        huge_bytes=12_000_000,
    )
    limits = replace(Limits(), byte_budget=16 << 20)
    async with open_rig(options, limits=limits) as rig:
        report = await rig.backup()
        assert report.exit_code == 0, report
        for mailbox in report.mailboxes:
            view = await rig.view(mailbox=mailbox.mailbox_id)
            await rig.assert_exact(view, rig.truth(mailbox.mailbox_id))
