"""Time passes: folders and mail move between runs and during them, tokens expire, days add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import anyio
import orjson
import pytest

from atlas_async.catalog.head import read_head, write_head
from atlas_async.catalog.layout import head_key, manifest_key
from atlas_async.config.settings import Limits
from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.emulator.calls import Call
from atlas_async.model.report import Outcome
from atlas_async.pipeline import journal
from atlas_async.sdk import Atlas
from tests.fakes.clock import FakeClock
from tests.fakes.golden import golden_metadata, golden_settings, golden_store
from tests.fakes.graph_probe import GraphProbe
from tests.fakes.histories import graph_settings
from tests.fakes.rig import USER, Rig, open_rig
from tests.torture.folder_changes import CHANGES, TINY, Cabinet, assert_fair, meddle_with_runs
from tests.torture.instruments import (
    CONTENT,
    GraphWatch,
    content_keys,
    empty_bucket,
    metered,
    steady,
    watching,
)
from tests.torture.moving_mail import flipped, moved_by_a_rule
from tests.torture.years import daily_snapshots

FOUR_A_PAGE = replace(Limits(), retries=3, page_size=4)
CODES = (
    ("SyncStateNotFound", 410),
    ("syncStateNotFound", 404),
    ("resyncRequired", 410),
    ("ResyncRequired", 400),
    ("resyncChangesApplyDifferences", 410),
    ("ResyncChangesUploadDifferences", 410),
    ("SyncStateInvalid", 400),
    ("ErrorInvalidSyncStateData", 400),
    ("generalException", 410),
)
"""What Graph has been seen to say of a token that it knows no more."""


# -- folders --------------------------------------------------------------------------------------


async def test_changes_of_folders_between_runs_leave_exact_snapshots() -> None:
    """Renamed, moved, deleted, made again, swapped: each snapshot is exact, and stays it."""
    clock = FakeClock(autojump=True)
    async with open_rig(TINY, clock=clock, service_clock=clock) as rig, steady(rig):
        history: list[tuple[str, dict[str, Any]]] = []

        async def back_up() -> None:
            clock.jump(60)
            result = await rig.back_up_user()
            assert (result.outcome, bool(result.snapshot_id)) == (Outcome.COMPLETE, True), result
            history.append((result.snapshot_id or "", rig.truth()))
            await rig.assert_exact(await rig.view(), history[-1][1])

        for number, change in enumerate(CHANGES.values()):
            cabinet = Cabinet.build(rig, number)
            await back_up()
            change(cabinet)
            await back_up()
        for snapshot_id, truth in history:
            await rig.assert_exact(await rig.view(snapshot_id), truth, content=False)


async def test_changes_of_folders_during_runs_lose_nothing() -> None:
    """What a run saw of both moments is fair, and the next run, with nothing new, is exact."""
    clock = FakeClock(autojump=True)
    async with open_rig(TINY, clock=clock, service_clock=clock) as rig, steady(rig):
        meddled = await meddle_with_runs(rig, attacks=12, seed=1)
    assert meddled.runs == 12
    assert meddled.ended_before <= 3


async def test_a_folder_that_moves_while_the_tree_is_listed_is_not_overlooked() -> None:
    """From a level not yet read to one already read: the listing shows it nowhere, the delta did."""
    clock = FakeClock(autojump=True)
    async with open_rig(TINY, clock=clock, service_clock=clock) as rig, steady(rig):
        cabinet = Cabinet.build(rig, 1)
        before = rig.truth()
        children = f"{cabinet.parent}/childFolders"

        def move(_number: int, call: Call) -> None:
            if call.path.endswith(children.replace("=", "%3D")) and not moved:
                moved.append(call.path)
                cabinet.move(cabinet.alpha, "archive")

        moved: list[str] = []
        with watching(rig.emulator) as watch:
            watch.before = move
            result = await rig.back_up_user()
        assert moved, watch.to("childFolders")
        assert result.outcome is Outcome.COMPLETE
        await assert_fair(rig, await rig.view(), before, rig.truth(), first=False)
        await rig.assert_exact(await rig.view(), rig.truth())


# -- mail that moves, state that flips ------------------------------------------------------------


async def test_a_message_moved_hundreds_of_times_is_stored_once() -> None:
    """0 bytes of content are stored again however often a rule moves a message."""
    figures = await moved_by_a_rule(moves=300, runs=5, seed=1)
    assert dict(figures.rows)["PUTs of content"] == "0"


async def test_flipping_the_state_of_all_mail_stores_no_content() -> None:
    """Read state, flag and categories of every message change: 0 objects, and each state shown."""
    figures = await flipped(messages=300, seed=1)
    assert dict(figures.rows)["read state: PUTs of content"] == "0"


# -- A -> B -> A under immutable ids --------------------------------------------------------------


def _send_there_and_back(rig: Rig, watch: GraphWatch, leave: int, back: int) -> None:
    """Have two messages leave the inbox, and return, at requests of the next run."""
    ids = [m["immutableId"] for m in rig.messages_in("inbox")[:2]]

    def meddle(number: int, _call: Call) -> None:
        if number == leave:
            for message in ids:
                rig.mutate(op="move", message=message, folder="archive")
        if number == back:
            for message in ids:
                rig.mutate(op="move", message=message, folder="inbox")
            rig.mutate(op="update", message=ids[1], patch={"subject": f"edited {number}"})

    watch.before = meddle


@pytest.mark.parametrize("quirk", [True, False])
async def test_there_and_back_within_a_run_loses_nothing(quirk: bool) -> None:
    """Away while one folder is read and back for the other: known mail stays, new mail comes next."""
    clock = FakeClock(autojump=True)
    async with (
        open_rig(TINY, clock=clock, service_clock=clock, limits=FOUR_A_PAGE) as rig,
        steady(rig),
    ):
        rig.emulator.control.configure(return_quirk=quirk)
        for first, leave, back in ((True, 30, 36), (True, 33, 44), (False, 2, 5), (False, 4, 12)):
            if first:
                empty_bucket(rig)
            else:
                await rig.back_up_user()
            rig.mutate(op="bulk-create", folder="sentitems", count=2)
            known = set() if first else rig.reachable()
            with watching(rig.emulator) as watch:
                _send_there_and_back(rig, watch, leave, back)
                assert (await rig.back_up_user()).exit_code == 0
                assert len(watch.calls) >= back
            view = await rig.view()
            assert known <= {record["object_id"] async for record in view.messages()}
            clock.jump(60)
            assert (await rig.back_up_user()).exit_code == 0
            await rig.assert_exact(await rig.view(), rig.truth())


async def test_there_and_back_between_runs_is_no_change_of_place() -> None:
    """Shown only as removed, though back, and one of them edited: kept, and the edit is stored."""
    clock = FakeClock(autojump=True)
    async with open_rig(clock=clock, service_clock=clock) as rig:
        meter = metered(rig)
        async with steady(rig):
            rig.emulator.control.configure(return_quirk=True)
            await rig.back_up_user()
            meter.forget()
            ids = [m["immutableId"] for m in rig.messages_in("inbox")[:5]]
            for message in ids:
                rig.mutate(op="move", message=message, folder="archive")
                rig.mutate(op="move", message=message, folder="inbox")
            rig.mutate(op="update", message=ids[0], patch={"subject": "edited"})
            result = await rig.back_up_user()
            assert (result.outcome, result.removed) == (Outcome.COMPLETE, 0)
            assert len(meter.puts(*CONTENT)) == 1
            await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("first", [True, False])
async def test_there_and_back_over_a_checkpoint_loses_nothing(first: bool) -> None:
    """A run dies behind a checkpoint, mail goes and returns, and the run that goes on is exact."""
    clock = FakeClock(autojump=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "CHECKPOINT_MESSAGES", 1)
        async with (
            open_rig(clock=clock, service_clock=clock, limits=FOUR_A_PAGE) as rig,
            steady(rig),
        ):
            rig.emulator.control.configure(return_quirk=True)
            for left in (1, 4, 9):
                if first:
                    empty_bucket(rig)
                else:
                    await rig.back_up_user()
                    rig.mutate(op="bulk-create", folder="inbox", count=9)
                    rig.mutate(op="bulk-read", folder="sentitems", count=9)
                await _die_after_a_checkpoint(rig, left)
                for message in rig.messages_in("inbox")[:6]:
                    rig.mutate(op="move", message=message["immutableId"], folder="archive")
                    rig.mutate(op="move", message=message["immutableId"], folder="inbox")
                edited = rig.messages_in("inbox")[1]["immutableId"]
                rig.mutate(op="update", message=edited, patch={"subject": f"edited {left}"})
                clock.jump(60)
                assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
                await rig.assert_exact(await rig.view(), rig.truth())


async def _die_after_a_checkpoint(rig: Rig, left: int) -> None:
    """Run until so many requests after the first checkpoint, and die."""
    key = head_key(USER)
    before = rig.bucket.objects.get(key)
    scope = anyio.CancelScope()

    def die(_number: int, _call: Call) -> None:
        nonlocal left
        left -= rig.bucket.objects.get(key) is not before
        if left == 0:
            scope.cancel()

    with scope, watching(rig.emulator) as watch:
        watch.before = die
        await rig.back_up_user()
    assert scope.cancelled_caught
    head = await read_head(rig.vault())
    assert head is not None
    assert head.checkpoint is not None


# -- tokens that expire ---------------------------------------------------------------------------


async def test_expired_tokens_store_nothing_twice_and_show_deletions() -> None:
    """Whatever Graph calls it, for some folders or all: only what is new is put, what is gone goes."""
    clock = FakeClock(autojump=True)
    async with open_rig(clock=clock, service_clock=clock) as rig:
        meter = metered(rig)
        async with steady(rig):
            rig.mutate(op="bulk-create", folder="inbox", count=30)
            await rig.back_up_user()
            for number, (code, status) in enumerate(CODES):
                rig.emulator.control.configure(expired_code=code, expired_status=status)
                for folder in (None, ("inbox", "archive"), ("sentitems",))[number % 3] or (None,):
                    rig.emulator.control.expire_delta(USER, folder)
                rig.mutate(op="bulk-delete", folder="inbox", count=2, hard=True)
                rig.mutate(op="bulk-move", folder="inbox", to="archive", count=2)
                rig.mutate(op="bulk-create", folder="inbox", count=1, body=f"new after {number}")
                edited = rig.messages_in("sentitems")[0]["immutableId"]
                rig.mutate(op="update", message=edited, patch={"subject": f"edited {number}"})
                clock.jump(86_400)
                meter.forget()
                result = await rig.back_up_user()
                assert result.outcome is Outcome.COMPLETE, (code, result)
                assert (result.removed, len(meter.puts(*CONTENT))) == (2, 2), (code, result)
                await rig.assert_exact(await rig.view(), rig.truth(), content=False)
                quiet = await rig.back_up_user()
                assert quiet.outcome is Outcome.UNCHANGED
                assert quiet.graph_requests == quiet.folders + 1, code
            await rig.assert_exact(await rig.view(), rig.truth())


@pytest.mark.parametrize("times", [1, 2, 4])
@pytest.mark.parametrize("first", [True, False])
async def test_tokens_that_expire_within_a_round_store_nothing_twice(
    first: bool, times: int
) -> None:
    """In the middle of a round, again and again, with deletions in between: each object once."""
    clock = FakeClock(autojump=True)
    async with open_rig(clock=clock, service_clock=clock, limits=FOUR_A_PAGE) as rig:
        meter = metered(rig)
        async with steady(rig):
            if not first:
                await rig.back_up_user()
                rig.mutate(op="bulk-create", folder="inbox", count=12)
                rig.mutate(op="bulk-read", folder="sentitems", count=6)
            expired = 0

            def expire(_number: int, call: Call) -> None:
                nonlocal expired
                if expired < times and "$skiptoken" in call.query and "messages" in call.path:
                    expired += 1
                    rig.mutate(op="bulk-delete", folder="inbox", count=1, hard=True)
                    rig.emulator.control.expire_delta(USER)

            with watching(rig.emulator) as watch:
                watch.before = expire
                result = await rig.back_up_user()
            assert expired == times
            assert result.exit_code == 0, result
            assert any("expired" in notice for notice in result.notices)
            clock.jump(60)
            assert (await rig.back_up_user()).exit_code == 0
            await rig.assert_exact(await rig.view(), rig.truth())
            assert set(Counter(meter.puts(*CONTENT)).values()) == {1}
            quiet = await rig.back_up_user()
            assert quiet.outcome is Outcome.UNCHANGED


# -- delta links that Atlas made ------------------------------------------------------------------


async def _links_as_atlas_makes_them(rig: Rig) -> dict[str, str]:
    """Return a delta link of each folder, asked for without immutable ids."""
    async with GraphProbe(rig.emulator, prefer="") as graph:
        links = {}
        for folder in rig.truth()["folders"]:
            if folder["belowRoot"] and not folder["search"]:
                path = f"users/{USER}/mailFolders/{folder['id']}/messages/delta"
                links[folder["id"]] = (await graph.round(path))[1]
        return links


def _assert_never_used(watch: GraphWatch, links: dict[str, str]) -> None:
    tokens = {link.partition("token=")[2] for link in links.values()}
    assert "" not in tokens
    for call in watch.calls:
        assert call.query.get("$deltatoken", "-") not in tokens, call.path
        if "/messages" in call.path:
            assert "ImmutableId" in call.headers.get("Prefer", ""), call.path


@pytest.mark.parametrize("strict", [True, False])
async def test_delta_links_in_a_manifest_of_atlas_are_never_used(strict: bool) -> None:
    """They are alive and made without immutable ids; the first run asks for its own (format 7)."""
    clock = FakeClock(autojump=True)
    async with open_rig(TINY, clock=clock, service_clock=clock) as rig:
        rig.emulator.control.configure(strict_id_mode=strict)
        await rig.backup([])
        links = await _links_as_atlas_makes_them(rig)
        manifest = {
            "id": "4a3c9cb8-0000-4000-8000-000000000001",
            "tenant_id": rig.settings.tenant_id,
            "mailbox_id": USER,
            "snapshot_id": "4a3c9cb8-0000-4000-8000-000000000002",
            "created_at": "2026-04-01T00:00:00.000Z",
            "total_objects": 0,
            "total_size_bytes": 0,
            "delta_links": links,
            "entries": [],
        }
        key = manifest_key(USER, str(manifest["snapshot_id"]))
        await rig.vault().put_raw(key, orjson.dumps(manifest))
        with watching(rig.emulator) as watch:
            assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
            await rig.assert_exact(await rig.view(), rig.truth())
            rig.mutate(op="bulk-move", folder="inbox", to="archive", count=2)
            clock.jump(60)
            assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        _assert_never_used(watch, links)
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_a_bucket_of_atlas_is_continued_where_graph_insists_on_the_id_format() -> None:
    """The golden bucket's links would be ``SyncStateInvalid``: none is sent, all is exact."""
    store = golden_store()
    noted = golden_metadata()
    users = list(noted["mailboxes"])
    options = CorpusOptions(mailboxes=2, messages=15, shared=0, rooms=0, guests=0, unlicensed=0)
    async with Emulator(Corpus(options), tls=True) as emulator:
        emulator.control.configure(strict_id_mode=True)
        settings = golden_settings(graph=graph_settings(emulator))
        with watching(emulator) as watch:
            async with Atlas(settings, store=store) as atlas:
                for outcome in (Outcome.COMPLETE, Outcome.UNCHANGED):
                    report = await atlas.backup(users)
                    assert {m.outcome for m in report.mailboxes} == {outcome}
                for user in users:
                    view = await atlas.open_snapshot(mailbox=user)
                    shown = {record["object_id"] async for record in view.messages()}
                    truth = emulator.control.mailbox_truth(user, content=False)
                    assert shown <= {m["immutableId"] for m in truth["messages"]}
        assert {c.headers.get("Prefer", "").count("ImmutableId") for c in watch.calls} == {1}


async def test_a_link_of_the_other_id_format_leads_to_a_new_enumeration() -> None:
    """Were such a link in a head all the same, Graph refuses it: nothing is stored again or lost."""
    clock = FakeClock(autojump=True)
    async with open_rig(TINY, clock=clock, service_clock=clock) as rig:
        rig.emulator.control.configure(strict_id_mode=True)
        meter = metered(rig)
        async with steady(rig):
            await rig.back_up_user()
            links = await _links_as_atlas_makes_them(rig)
            head = await read_head(rig.vault())
            assert head is not None
            assert head.snapshot is not None
            cursors = {
                folder: replace(cursor, link=links[folder])
                for folder, cursor in head.snapshot.cursors.items()
            }
            foreign = replace(head.snapshot, cursors=cursors)
            await write_head(rig.vault(), replace(head, snapshot=foreign))
            rig.mutate(op="bulk-delete", folder="inbox", count=1, hard=True)
            clock.jump(60)
            meter.forget()
            stored = content_keys(rig)
            result = await rig.back_up_user()
            assert (result.outcome, result.removed) == (Outcome.COMPLETE, 1), result
            assert (meter.puts(*CONTENT), content_keys(rig)) == ([], stored)
            await rig.assert_exact(await rig.view(), rig.truth())
            quiet = await rig.back_up_user()
            assert (quiet.outcome, quiet.graph_requests) == (Outcome.UNCHANGED, quiet.folders + 1)


# -- days -----------------------------------------------------------------------------------------


async def test_every_day_of_forty_is_restorable_and_none_is_dearer_than_the_fifth() -> None:
    """See ``years``: each day exact, opening it bounded, a quiet run the same and writing nothing."""
    figures = await daily_snapshots(days=40, messages=120, changes=15, seed=1)
    assert dict(figures.rows)["days compared: ids, folders, read state"] == "40"
