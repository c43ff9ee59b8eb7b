"""The ledger's verbs over a whole engine: what they tell, what they commit, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import anyio
import pytest

from atlas_async.catalog.head import Head, read_head, write_head
from atlas_async.catalog.ledger import read_ledger, write_ledger
from atlas_async.catalog.manifest import read_manifest, write_manifest
from atlas_async.config.settings import FolderChoice
from atlas_async.emulator.faults import FaultRule
from atlas_async.errors import ReplicaRefused, SnapshotNotFound, UsageError
from atlas_async.model.report import Outcome
from atlas_async.operations.ledger import Forgetting, LedgerEntry, _no_rows
from atlas_async.pipeline import journal
from atlas_async.store.intercepted import InterceptedStore
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.fakes.vaults import plant
from tests.torture.poison import Killer

BARE = replace(SMALL, attachment_share=0.0, inline_share=0.0, smime_share=0.0)
OTHER = "user0001@contoso.com"


def corrupt(rig: Rig, mailbox: str = USER) -> str:
    """Make a message of the inbox unreadable and return its id."""
    message: str = rig.messages_in("inbox", mailbox)[0]["immutableId"]
    rig.emulator.control.trouble(mailbox, message, 500, "ErrorCorruptData")
    return message


async def entries(rig: Rig, **options: Any) -> list[LedgerEntry]:
    """Return the ledger of all mailboxes."""
    async with rig.engine() as atlas:
        return await atlas.ledger(**options)


async def retry(rig: Rig, *ids: str, **options: Any) -> tuple[int, Outcome | None]:
    """Try the ledger again; return the exit code and the one mailbox's outcome, if it had any."""
    async with rig.engine() as atlas:
        report = await atlas.retry_ledger(ids, **options)
    assert len(report.mailboxes) <= 1
    return report.exit_code, report.mailboxes[0].outcome if report.mailboxes else None


async def forget(rig: Rig, *ids: str) -> Forgetting:
    """Give entries of the user up."""
    async with rig.engine() as atlas:
        return await atlas.forget(ids, USER)


async def test_the_ledger_says_where_and_when() -> None:
    """Every mailbox's entries, or one's, with the folder's name, the times and the snapshot."""
    options = replace(BARE, mailboxes=2)
    async with open_rig(options, clock=FakeClock(autojump=True)) as rig:
        mine, theirs = corrupt(rig), corrupt(rig, OTHER)
        report = await rig.backup()
        found = await entries(rig)
        assert [(e.mailbox_id, e.item.object_id) for e in found] == [(USER, mine), (OTHER, theirs)]
        entry = found[0]
        assert entry.folder == ("Inbox",)
        assert entry.snapshot_id == report.mailboxes[0].snapshot_id
        assert entry.first_run_at == entry.last_run_at == "2026-04-20T12:00:00.000Z"
        assert [e.item.object_id for e in await entries(rig, mailbox=OTHER)] == [theirs]
        with pytest.raises(SnapshotNotFound, match="nobody"):
            await entries(rig, mailbox="nobody@contoso.com")


async def test_an_entry_is_named_by_the_start_of_its_id_or_by_graphs() -> None:
    """Four characters will do where they fit one; nothing, and several, are told apart."""
    options = replace(BARE, mailboxes=2)
    async with open_rig(options, clock=FakeClock(autojump=True)) as rig:
        mine, _ = corrupt(rig), corrupt(rig, OTHER)
        await rig.backup()
        (entry,) = await entries(rig, mailbox=USER)
        async with rig.engine() as atlas:
            for name in (entry.item.id, entry.item.id[:4], f" {entry.item.id[:6].upper()} ", mine):
                assert await atlas.find_in_ledger([name]) == [entry]
            assert await atlas.find_in_ledger([entry.item.id, mine], [USER]) == [entry]
            with pytest.raises(SnapshotNotFound, match="no ledger has an entry"):
                await atlas.find_in_ledger([entry.item.id], [OTHER])
            with pytest.raises(UsageError, match="at least 4"):
                await atlas.find_in_ledger([entry.item.id[:3]])


async def test_a_start_that_fits_several_entries_is_refused() -> None:
    """Nothing is guessed: the entries that it may mean are named."""
    async with open_rig(replace(BARE, mailboxes=2)) as rig:
        corrupt(rig)
        await rig.backup([USER])
        vault = rig.vault()
        head = await read_head(vault)
        assert head is not None
        assert head.snapshot is not None
        # The same entry in another mailbox: as likely as two ids that begin alike, and quicker.
        copy = await _planted(rig, head)
        await write_head(rig.vault(OTHER), Head(copy))
        (entry,) = await entries(rig, mailbox=USER)
        async with rig.engine() as atlas:
            with pytest.raises(UsageError, match="the beginning of 2 entries") as caught:
                await atlas.find_in_ledger([entry.item.id[:6]])
            assert OTHER in str(caught.value)
            assert await atlas.find_in_ledger([entry.item.id[:6]], [USER]) == [entry]


async def _planted(rig: Rig, head: Head) -> Any:
    """Give the other mailbox a snapshot with the user's ledger."""
    assert head.snapshot is not None
    vault = rig.vault(OTHER)
    items = await read_ledger(rig.vault(), head.snapshot.ledger)
    ref = await write_ledger(vault, items)
    copy = replace(head.snapshot, mailbox_id=OTHER, runs=(), ledger=ref, messages=0)
    await write_manifest(vault, copy, _no_rows, 0, spool_directory=None)
    return copy


async def test_nothing_is_asked_of_graph_when_nothing_is_missing() -> None:
    """A retry over an empty ledger ends well at once."""
    async with open_rig(BARE) as rig:
        await rig.back_up_user()
        rig.emulator.control.clear_log()
        assert await retry(rig) == (0, None)
        assert rig.emulator.log.requests == 0


async def test_only_what_is_named_is_tried() -> None:
    """The exit code is about what was asked for; the rest stays missing, and untried."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        first, second = (m["immutableId"] for m in rig.messages_in("inbox")[:2])
        for message in (first, second):
            rig.emulator.control.trouble(USER, message, 500, "ErrorCorruptData")
        await rig.back_up_user()
        rig.emulator.control.cure(USER)
        rig.emulator.control.trouble(USER, second, 500, "ErrorCorruptData")
        rig.emulator.control.clear_log()
        assert await retry(rig, first) == (0, Outcome.COMPLETE)
        assert not any(second in served.path for served in rig.emulator.log)
        view = await rig.view()
        assert [e.object_id for e in await view.not_stored()] == [second]
        assert not view.summary.complete
        assert await retry(rig, second) == (3, Outcome.PARTIAL)
        with pytest.raises(SnapshotNotFound):
            await retry(rig, "0000")


async def test_what_is_met_in_trying_is_missing_as_well() -> None:
    """A message that comes at last, and its attachment that does not, is not all of what was asked."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = rig.mutate(
            op="create", folder="inbox", attachments=[{"name": "a", "size": 9000}]
        )["immutableId"]
        rig.emulator.control.trouble(USER, message, 500, "ErrorCorruptData")
        await rig.back_up_user()
        rig.emulator.control.cure(USER)
        rule = FaultRule(path="/attachments$", status=500, code="ErrorCorruptData", count=-1)
        rig.emulator.control.add_fault(rule)
        assert await retry(rig) == (3, Outcome.PARTIAL)
        assert [e.item.kind for e in await entries(rig)] == ["attachment"]


async def test_many_items_are_tried_side_by_side() -> None:
    """A night of errors leaves thousands: their messages are asked for four at a time."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        attachments = [{"name": "a", "size": 9000}]
        made = rig.mutate(op="bulk-create", folder="inbox", count=12, attachments=attachments)
        rule = FaultRule(path="/attachments$", status=403, code="ErrorAccessDenied", count=-1)
        rig.emulator.control.add_fault(rule)
        assert len((await rig.back_up_user()).not_stored) == len(made["messages"])
        rig.emulator.control.clear_faults()
        rig.emulator.control.configure(latency=0.05)
        rig.emulator.control.clear_log()
        assert await retry(rig) == (0, Outcome.COMPLETE)
        assert rig.emulator.log.peaks[USER] == 4
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_a_folder_that_could_not_be_read_is_read() -> None:
    """A retry of a folder stores what it holds, and reads no other folder."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        folder = rig.folder_id("sentitems")
        rule = FaultRule(
            path=f"mailFolders/{folder}/messages", status=403, code="ErrorAccessDenied"
        )
        rig.emulator.control.add_fault(replace(rule, count=-1))
        assert (await rig.back_up_user()).exit_code == 3
        before = (await rig.view()).snapshot
        assert before is not None
        assert await retry(rig) == (3, Outcome.PARTIAL)
        rig.emulator.control.clear_faults()
        rig.emulator.control.clear_log()
        assert await retry(rig) == (0, Outcome.COMPLETE)
        asked = [s.path for s in rig.emulator.log if "/messages" in s.path]
        assert asked
        assert all(folder in path for path in asked)
        await rig.assert_exact(await rig.view(), rig.truth())
        after = (await rig.view()).snapshot
        assert after is not None
        assert after.complete
        kept = {i: c for i, c in after.cursors.items() if i != folder}
        assert kept == {i: c for i, c in before.cursors.items() if i != folder}
        assert after.cursors[folder].link
        assert (await rig.back_up_user()).outcome is Outcome.UNCHANGED


async def test_a_retry_claims_no_more_than_its_base() -> None:
    """After a run over some folders only, nobody knows whether all is there."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        corrupt(rig)
        await rig.back_up_user(folders=FolderChoice(only=("inbox",)))
        rig.emulator.control.cure(USER)
        assert await retry(rig) == (0, Outcome.COMPLETE)
        assert not (await rig.view()).summary.complete
        await rig.back_up_user()
        assert (await rig.view()).summary.complete


async def test_a_message_that_moved_out_of_sight_is_left_to_the_next_backup() -> None:
    """A retry does not know new folders; what has moved there stays missing until it is read."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        rig.emulator.control.cure(USER)
        rig.mutate(op="folder-create", parent="inbox", name="New")
        rig.mutate(op="move", message=message, folder=["Inbox", "New"])
        assert await retry(rig) == (3, Outcome.PARTIAL)
        assert [e.item.object_id for e in await entries(rig)] == [message]
        assert (await rig.back_up_user()).exit_code == 0
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_forgetting_ends_the_alarm_and_keeps_the_trace() -> None:
    """Forgotten items count for no exit code, report or verification, and are still in the ledger.

    Runs that find nothing else commit nothing, although the snapshots stay incomplete.
    """
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        old = (await rig.view()).snapshot
        assert old is not None
        done = await forget(rig, message)
        assert done.snapshot_id not in {None, old.snapshot_id}
        view = await rig.view()
        assert view.snapshot is not None
        same = {"runs", "cursors", "folders", "folder_counts", "messages", "size_bytes", "whole"}
        for name in same:
            assert getattr(view.snapshot, name) == getattr(old, name)
        assert view.snapshot.parent == old.snapshot_id
        assert view.snapshot.created_at > old.created_at
        assert (view.snapshot.complete, view.snapshot.new) == (False, 0)
        assert view.summary.not_stored == 0
        assert await view.not_stored() == ()
        (kept,) = await view.not_stored(forgotten=True)
        assert (kept.object_id, bool(kept.forgotten)) == (message, True)
        manifest = await read_manifest(rig.vault(), view.snapshot.snapshot_id)
        assert (manifest.entries, manifest.total_objects) == ((), old.messages)
        assert await entries(rig) == []
        assert [e.item.object_id for e in await entries(rig, include_forgotten=True)] == [message]
        rig.emulator.control.clear_log()
        result = await rig.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.UNCHANGED, 0)
        assert (result.failed, result.not_stored, result.snapshot_id) == (0, (), None)
        assert not any(message in served.path for served in rig.emulator.log)
        async with rig.engine() as atlas:
            for report in (
                await atlas.verify(),
                await atlas.verify(mailbox=USER),
                await atlas.verify(snapshot=old.snapshot_id),
            ):
                assert (report.exit_code, report.not_stored) == (0, [])
        assert (await forget(rig, message)).snapshot_id is None


Change = Callable[[Rig, str], None]


def touch(rig: Rig, message: str) -> None:
    """Change the message, so that its folder shows it."""
    rig.mutate(op="update", message=message, patch={"isRead": True})


def expire(rig: Rig, message: str) -> None:
    """Have every folder enumerated anew."""
    rig.emulator.control.expire_delta(USER)


@pytest.mark.parametrize("shows", [touch, expire])
async def test_a_forgotten_item_that_graph_shows_again_is_tried(shows: Change) -> None:
    """In vain it stays forgotten and rings no bell; when it is given, it leaves the ledger."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        await forget(rig, message)
        shows(rig, message)
        rig.emulator.control.clear_log()
        result = await rig.back_up_user()
        assert (result.exit_code, result.not_stored) == (0, ())
        assert any(message in served.path for served in rig.emulator.log)
        (entry,) = await entries(rig, include_forgotten=True)
        assert entry.item.forgotten
        rig.emulator.control.cure(USER)
        shows(rig, message)
        assert (await rig.back_up_user()).exit_code == 0
        assert await entries(rig, include_forgotten=True) == []
        await rig.assert_exact(await rig.view(), rig.truth())
        assert (await rig.view()).summary.complete


@pytest.mark.parametrize("named", [True, False])
async def test_a_retry_takes_a_forgotten_item_up_again(named: bool) -> None:
    """By its id, or with all that was forgotten; in vain it counts as missing from then on."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        await forget(rig, message)
        assert await retry(rig) == (0, None)
        options: dict[str, Any] = {} if named else {"include_forgotten": True}
        assert await retry(rig, *([message] * named), **options) == (3, Outcome.PARTIAL)
        assert [e.item.object_id for e in await entries(rig)] == [message]
        assert (await rig.back_up_user()).exit_code == 3
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 3
        rig.emulator.control.cure(USER)
        assert await retry(rig) == (0, Outcome.COMPLETE)
        assert (await rig.view()).summary.complete


async def test_a_forgotten_item_that_is_deleted_leaves_the_ledger() -> None:
    """What is gone from the mailbox is not remembered; then the snapshot is complete."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        await forget(rig, message)
        rig.emulator.control.cure(USER)
        rig.mutate(op="delete", message=message, hard=True)
        assert (await rig.back_up_user()).exit_code == 0
        assert await entries(rig, include_forgotten=True) == []
        assert (await rig.view()).summary.complete


async def test_forgetting_beside_an_unfinished_run_costs_none_of_its_work() -> None:
    """The checkpoint goes on from the new snapshot, and what was given up stays so in it."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        rig.mutate(op="bulk-create", folder="inbox", count=30)
        killer = Killer()
        killer.left = 1
        plain = rig.store
        rig.store = InterceptedStore(plain, killer)
        with patch.object(journal, "CHECKPOINT_MESSAGES", 5), anyio.CancelScope() as killer.scope:
            await rig.back_up_user()
        rig.store = plain
        head = await read_head(rig.vault())
        assert head is not None
        assert head.checkpoint is not None
        await forget(rig, message)
        after = await read_head(rig.vault())
        assert after is not None
        assert after.start is not None
        assert (after.start.runs, after.start.cursors) == (
            head.checkpoint.runs,
            head.checkpoint.cursors,
        )
        result = await rig.back_up_user()
        assert result.exit_code == 0
        assert any("continuing an unfinished run" in notice for notice in result.notices)
        await rig.assert_exact(
            await rig.view(),
            rig.truth()
            | {
                "messages": [m for m in rig.truth()["messages"] if m["immutableId"] != message],
            },
        )
        assert [e.item.object_id for e in await entries(rig, include_forgotten=True)] == [message]


async def test_a_crash_between_manifest_and_head_loses_no_forgetting_but_its_moment() -> None:
    """The manifest is the commit point: with the old head the entry is open again, and stored mail is not."""
    async with open_rig(BARE, clock=FakeClock(autojump=True)) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        old = await read_head(rig.vault())
        assert old is not None
        await forget(rig, message)
        await write_head(rig.vault(), old)
        assert [e.item.object_id for e in await entries(rig)] == [message]
        assert (await forget(rig, message)).snapshot_id is not None
        assert (await rig.back_up_user()).exit_code == 0


async def test_a_replica_is_not_written_to() -> None:
    """A copy of a bucket does not get a ledger of its own."""
    async with open_rig(BARE) as rig:
        message = corrupt(rig)
        await rig.back_up_user()
        await plant(rig.store, "_meta/replica.marker", b"{}")
        keys = rig.keys("")
        with pytest.raises(ReplicaRefused):
            await forget(rig, message)
        assert rig.keys("") == keys
