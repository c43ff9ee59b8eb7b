"""Snapshots are points in time: initial, incremental, quiet, moved, removed, renamed."""

from __future__ import annotations

from atlas_async.model.report import Outcome
from tests.fakes.rig import USER, open_rig


async def test_first_backup_is_exact() -> None:
    """A first backup stores every message, folder and attachment, and says so."""
    async with open_rig() as rig:
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.exit_code == 0
        await rig.assert_exact(await rig.view(), rig.truth())
        assert (await rig.view()).summary.complete


async def test_quiet_run_writes_nothing_and_costs_folders_plus_one() -> None:
    """A run in which nothing changed writes no object and asks each folder once."""
    async with open_rig() as rig:
        first = await rig.back_up_user()
        before = dict(rig.bucket.objects)
        costs = set()
        for _ in range(3):
            quiet = await rig.back_up_user()
            assert quiet.outcome is Outcome.UNCHANGED
            assert quiet.snapshot_id is None
            # One request finds the user, one asks for folder changes.
            costs.add((quiet.graph_requests, quiet.store_requests))
        assert costs == {(first.folders + 1, 1)}
        assert rig.bucket.objects == before


async def test_flag_flips_and_moves_store_no_object() -> None:
    """Read state, flag, categories and folder change the snapshot and no stored object (format 3)."""
    async with open_rig() as rig:
        await rig.back_up_user()
        first = rig.truth()
        inbox = rig.messages_in("inbox")
        stored = rig.keys("data/") + rig.keys("attachments/")
        for message in inbox[:4]:
            patch = {"isRead": not message["isRead"], "categories": ["Red"]}
            rig.mutate(op="update", message=message["immutableId"], patch=patch)
        rig.mutate(
            op="update",
            message=inbox[5]["immutableId"],
            patch={"flag": {"flagStatus": "flagged"}},
        )
        rig.mutate(op="bulk-move", folder="inbox", to="archive", count=6)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert (result.stored, result.attachments_stored) == (0, 0)
        assert rig.keys("data/") + rig.keys("attachments/") == stored
        await rig.assert_exact(await rig.view(), rig.truth())
        async with rig.engine() as atlas:
            oldest = (await atlas.list_snapshots(USER))[0]
        await rig.assert_exact(await rig.view(oldest.snapshot_id), first)


async def test_every_earlier_snapshot_stays_exact() -> None:
    """After new, changed, deleted, moved mail and folder changes, every snapshot is as of its moment."""
    async with open_rig() as rig:
        truths = []
        ids = []

        async def run() -> None:
            result = await rig.back_up_user()
            assert result.outcome is Outcome.COMPLETE, result
            assert result.snapshot_id is not None
            ids.append(result.snapshot_id)
            truths.append(rig.truth())

        await run()
        rig.mutate(op="bulk-create", folder="inbox", count=3)
        rig.mutate(
            op="create",
            folder="inbox",
            subject="with file",
            attachments=[{"name": "a.bin", "size": 5000}],
        )
        await run()
        for message in rig.messages_in("inbox")[:3]:
            rig.mutate(op="update", message=message["immutableId"], patch={"subject": "changed ✅"})
        rig.mutate(op="bulk-delete", folder="sentitems", count=2, hard=True)
        rig.mutate(op="delete", message=rig.messages_in("inbox")[-1]["immutableId"])
        await run()
        user_folder = next(
            f for f in rig.truth()["folders"] if f["belowRoot"] and not f["wellKnownName"]
        )
        rig.mutate(op="folder-rename", folder=user_folder["id"], name="Umbenannt/ü")
        await run()
        rig.mutate(op="folder-create", parent="inbox", name="Leer")
        rig.mutate(op="folder-move", folder=user_folder["id"], to="archive")
        await run()
        rig.mutate(op="folder-delete", folder=user_folder["id"], hard=True)
        await run()
        assert len(set(ids)) == len(ids)
        for snapshot_id, truth in zip(ids, truths, strict=True):
            await rig.assert_exact(await rig.view(snapshot_id), truth)


async def test_removed_then_returned_message_is_kept() -> None:
    """A -> B -> A under immutable ids is reported only as removed from A; the message stays."""
    async with open_rig() as rig:
        rig.emulator.control.configure(return_quirk=True)
        await rig.back_up_user()
        message = rig.messages_in("inbox")[0]["immutableId"]
        rig.mutate(op="move", message=message, folder="archive")
        rig.mutate(op="move", message=message, folder="inbox")
        await rig.back_up_user()
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_move_without_add_event_is_found() -> None:
    """A move that the target folder's delta does not show is found by looking the message up."""
    async with open_rig() as rig:
        rig.emulator.control.configure(silent_moves=True)
        await rig.back_up_user()
        rig.mutate(op="bulk-move", folder="inbox", to="archive", count=3)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_sparse_changes_keep_body_and_attachments() -> None:
    """An update that carries only what changed never replaces a message by a fragment."""
    async with open_rig() as rig:
        rig.emulator.control.configure(sparse_changes=True)
        await rig.back_up_user()
        inbox = rig.messages_in("inbox")
        for message in inbox[:5]:
            rig.mutate(
                op="update",
                message=message["immutableId"],
                patch={"isRead": not message["isRead"]},
            )
        rig.mutate(op="update", message=inbox[6]["immutableId"], patch={"subject": "new one"})
        result = await rig.back_up_user()
        assert result.stored == 1
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_expired_delta_token_finds_deletions_and_stores_nothing_twice() -> None:
    """After a 410 the folder is enumerated anew; what is gone is found by difference."""
    for code, status in (
        ("SyncStateNotFound", 410),
        ("syncStateNotFound", 404),
        ("resyncRequired", 410),
        ("ResyncRequired", 400),
        ("SyncStateInvalid", 400),
    ):
        async with open_rig() as rig:
            await rig.back_up_user()
            stored = rig.keys("data/")
            rig.emulator.control.configure(expired_code=code, expired_status=status)
            rig.emulator.control.expire_delta(USER)
            rig.mutate(op="bulk-delete", folder="inbox", count=3, hard=True)
            result = await rig.back_up_user()
            assert result.outcome is Outcome.COMPLETE, (code, result)
            assert result.stored == 0
            assert result.removed == 3
            assert rig.keys("data/") == stored
            await rig.assert_exact(await rig.view(), rig.truth())
            quiet = await rig.back_up_user()
            assert quiet.outcome is Outcome.UNCHANGED
            assert quiet.graph_requests == result.folders + 1


async def test_expired_tokens_without_changes_write_only_the_head() -> None:
    """New delta links after a 410 are kept though there is no new snapshot."""
    async with open_rig() as rig:
        first = await rig.back_up_user()
        manifests = rig.keys("manifests/")
        rig.emulator.control.expire_delta(USER)
        second = await rig.back_up_user()
        assert second.outcome is Outcome.UNCHANGED
        assert rig.keys("manifests/") == manifests
        third = await rig.back_up_user()
        assert third.graph_requests == first.folders + 1


async def test_full_run_stores_nothing_again() -> None:
    """``--full`` enumerates everything and finds everything stored."""
    async with open_rig() as rig:
        await rig.back_up_user()
        stored = rig.keys("data/") + rig.keys("attachments/")
        result = await rig.back_up_user(full=True)
        assert result.outcome is Outcome.UNCHANGED
        assert rig.keys("data/") + rig.keys("attachments/") == stored


async def test_over_quota_mailbox_is_listed_plainly() -> None:
    """A mailbox over quota, whose delta is refused, is backed up by listing, incrementally too."""
    async with open_rig() as rig:
        rig.emulator.control.over_quota(USER)
        first = await rig.back_up_user()
        assert first.outcome is Outcome.COMPLETE, first
        await rig.assert_exact(await rig.view(), rig.truth())
        rig.mutate(op="bulk-delete", folder="inbox", count=2, hard=True)
        rig.mutate(op="create", folder="inbox", subject="late")
        second = await rig.back_up_user()
        assert second.outcome is Outcome.COMPLETE
        assert second.stored == 1
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_replays_empty_pages_and_small_pages() -> None:
    """Repeated items and pages without items change nothing."""
    async with open_rig() as rig:
        rig.emulator.control.configure(replays=True, empty_pages=3)
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_attachment_added_to_a_draft_or_removed_is_seen() -> None:
    """A change of attachments alone, which touches no visible property, reaches the snapshot."""
    async with open_rig() as rig:
        made = rig.mutate(
            op="create",
            folder="drafts",
            isDraft=True,
            subject="draft",
            attachments=[{"name": "one.txt", "size": 100}],
        )
        await rig.back_up_user()
        rig.mutate(
            op="update",
            message=made["immutableId"],
            patch={},
            attachments=[{"name": "two.txt", "size": 200}],
        )
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_many_incrementals_keep_reading_cheap() -> None:
    """Opening the newest of many snapshots costs no more requests than opening the fifth."""
    async with open_rig() as rig:
        costs = []
        for number in range(30):
            rig.mutate(op="create", folder="inbox", subject=f"day {number}")
            result = await rig.back_up_user()
            view = await rig.view(result.snapshot_id)
            assert view.snapshot is not None
            costs.append(sum(len(run.segments) for run in view.snapshot.runs))
        assert max(costs) <= 4
        await rig.assert_exact(await rig.view(), rig.truth(), content=False)
