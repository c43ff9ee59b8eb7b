"""Scenarios by which backups of mail are judged, from years of other products' failures.

``docs/known-cases.md`` describes the scenarios and maps each to its test.
"""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.catalog.head import read_head
from atlas_async.catalog.layout import DEK_KEY
from atlas_async.config.settings import FolderChoice, Limits
from atlas_async.crypto.signing import check_signature
from atlas_async.errors import StoreAuthError, StoreTransient
from atlas_async.model.drill import DrillOptions
from atlas_async.model.report import Outcome
from atlas_async.model.restoring import Conflict, Step
from atlas_async.operations.selection import Selection
from atlas_async.pipeline import journal
from atlas_async.pipeline.stop import StopSignal
from atlas_async.store.base import ObjectStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op, Request
from atlas_async.store.memory import MemoryStore
from atlas_async.store.retrying import RetryingStore, RetryPolicy
from tests.badday.console import ROOT as PROGRAM
from tests.badday.console import Console, command
from tests.export.exports import contents, exported, leftovers
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER
from tests.restore.scene import ROOT, Scene, created, held, mark_of, shape
from tests.torture.cases import (
    BRIEF,
    PLAIN,
    Case,
    damage,
    on_stage,
    open_case,
    open_console,
    telling,
)

PAGES_OF_FIVE = replace(Limits(), page_size=5)


@pytest.mark.parametrize(
    ("status", "code"), [(404, "ErrorItemNotFound"), (500, ""), (500, "ErrorCorruptData")]
)
async def test_s01_one_broken_attachment_among_much_mail(status: int, code: str) -> None:
    """All other mail is there, exit 3, and the item is tried again though no delta shows it."""
    async with open_case(replace(PLAIN, messages=150), limits=BRIEF) as case:
        file = {"name": "broken.doc", "size": 4000}
        bad = case.mutate(op="create", folder="inbox", attachments=[file])["immutableId"]
        case.fault(path=f"{bad}/attachments", status=status, code=code, count=-1)
        for attempts in (1, 2):
            result = await case.back_up_user()
            assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
            (entry,) = result.not_stored
            assert (entry.kind, entry.object_id, entry.attempts) == ("attachment", bad, attempts)
            assert set(await case.records()) == case.reachable()
            assert case.asked(f"{bad}/attachments")
            case.next_day()
        case.heal()
        healed = await case.back_up_user()
        assert (healed.outcome, healed.exit_code) == (Outcome.COMPLETE, 0)
        assert (healed.stored, healed.attachments_stored) == (0, 1)
        await case.exact()


async def test_s02_killed_amid_errors_and_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every third request failing and a kill, no page before the checkpoint is read again."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 15)
    puts: list[str] = []

    def tell(request: Request) -> None:
        if request.op is Op.PUT and request.key.startswith("data/"):
            puts.append(request.key)
            if len(puts) == 90:
                raise KilledError

    options = replace(PLAIN, messages=120)
    patient = replace(PAGES_OF_FIVE, retries=12)
    async with open_case(options, limits=patient, wrap=lambda store: telling(store, tell)) as case:
        case.fault(path="/users/", status=503, code="x", probability=0.33, count=-1, seed=9)
        assert (await case.backup([USER])).exit_code == 1
        assert not case.keys("manifests/")
        left = set(case.keys("data/"))
        head = await read_head(case.vault())
        assert head is not None
        assert head.checkpoint is not None
        recorded = head.checkpoint.messages
        assert recorded >= 45
        case.store = MemoryStore(case.bucket)
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert result.stored == len(case.reachable()) - len(left)
        assert result.stored + result.deduplicated <= len(case.reachable()) - recorded
        case.heal()
        await case.exact()


class KilledError(Exception):
    """Ends a run in the middle; nothing of it is written after."""


async def test_s03_trees_that_nest_hide_translate_and_move() -> None:
    """Nested, hidden and empty folders in any language, renamed and moved between and in runs."""
    async with open_case(replace(PLAIN, languages=("fi",))) as case:
        ids = [case.folder_id("inbox")]
        for name, hidden in (("A", False), ("B", True), ("C", False)):
            ids.append(
                case.mutate(op="folder-create", parent=ids[-1], name=name, hidden=hidden)["id"]
            )
            case.mutate(op="bulk-create", folder=ids[-1], count=2)
        empty = case.mutate(op="folder-create", parent=ids[2], name="Tyhjä")["id"]
        snapshots, truths = [(await case.back_up_user()).snapshot_id], [case.truth()]
        case.next_day()
        case.mutate(op="folder-rename", folder=ids[1], name="Ä/ö")
        case.mutate(op="folder-move", folder=ids[3], to="archive")
        result = await case.back_up_user()
        assert (result.stored, result.removed) == (0, 0)
        snapshots.append(result.snapshot_id)
        truths.append(case.truth())
        case.next_day()
        case.mutate(op="create", folder="inbox", subject="makes a run worth while")
        case.meddle(
            f"{ids[2]}/messages/delta",
            lambda: case.mutate(op="folder-rename", folder=ids[2], name="during the run"),
        )
        await case.back_up_user()
        case.next_day()
        await case.back_up_user()
        await case.exact()
        for snapshot, truth in zip(snapshots, truths, strict=True):
            view = await case.view(snapshot)
            await case.assert_exact(view, truth)
            assert {f.folder.id: f.message_count for f in view.folders}[empty] == 0


async def test_s04_attachments_of_every_shape() -> None:
    """150 MB, 500 on one message, mail in mail in mail, inline only, S/MIME and links: all exact."""
    options = replace(
        SMALL,
        messages=24,
        attachment_share=0.4,
        inline_share=0.3,
        item_share=0.4,
        reference_share=0.3,
        smime_share=0.1,
        huge_attachments=1,
    )
    async with open_case(options, limits=replace(Limits(), byte_budget=32 << 20)) as case:
        many = [{"name": f"{number}.txt", "size": number, "seed": number} for number in range(500)]
        case.mutate(op="create", folder="inbox", subject="many", attachments=many)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0), result
        held = [r.get("attachments", []) for r in (await case.records()).values()]
        sizes = [a["content_bytes"] for attachments in held for a in attachments]
        assert max(map(len, held)) == 500
        assert max(sizes) == 150_000_000
        assert {a["type"] for attachments in held for a in attachments} == {
            "file",
            "item",
            "reference",
        }
        await case.exact()


async def test_s05_ten_thousand_moves_and_flags_cost_no_content() -> None:
    """A message that a rule moves 10,000 times is not stored again; flags change records only."""
    async with open_case(replace(SMALL, messages=60)) as case:
        await case.back_up_user()
        stored = case.content()
        message = case.messages_in("inbox")[0]["immutableId"]
        for number in range(10_000):
            case.mutate(op="move", message=message, folder=("archive", "inbox")[number % 2])
        case.mutate(op="move", message=message, folder="archive")
        for held in case.truth()["messages"]:
            patch = {"isRead": not held["isRead"], "flag": {"flagStatus": "flagged"}}
            case.mutate(op="update", message=held["immutableId"], patch=patch)
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.stored, result.removed) == (Outcome.COMPLETE, 0, 0)
        assert case.content() == stored
        assert not case.asked("/$value")
        assert (await case.records())[message]["folder_id"] == case.folder_id("archive")
        await case.exact()


@pytest.mark.parametrize("everywhere", [True, False])
async def test_s06_an_expired_token_doubles_and_loses_nothing(everywhere: bool) -> None:
    """After a 410 on one folder or all, deletions and moves of the time before are all seen."""
    async with open_case() as case:
        await case.back_up_user()
        stored = case.content()
        case.mutate(op="bulk-delete", folder="inbox", count=3, hard=True)
        case.mutate(op="bulk-move", folder="sentitems", to="inbox", count=2)
        case.mutate(op="bulk-move", folder="inbox", to="archive", count=1)
        case.emulator.control.expire_delta(USER, None if everywhere else "inbox")
        case.mutate(op="bulk-delete", folder="archive", count=1, hard=True)
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.stored, result.removed) == (Outcome.COMPLETE, 0, 4)
        anew = sum("delta token expired" in notice for notice in result.notices)
        assert anew == (result.folders if everywhere else 1)
        assert case.content() == stored
        await case.exact()
        case.next_day()
        quiet = await case.back_up_user()
        assert (quiet.outcome, quiet.graph_requests) == (Outcome.UNCHANGED, quiet.folders + 1)


async def _thirty_days(case: Case) -> list[tuple[str, dict[str, Any]]]:
    """Back a mailbox up on 30 days; return each day's snapshot and what the mailbox held then."""
    days = []
    for day in range(1, 31):
        if day > 1:
            case.mutate(op="bulk-delete", folder="inbox", count=1, skip=2, hard=True)
            case.mutate(op="bulk-read", folder="inbox", count=3)
        case.mutate(op="bulk-create", folder="inbox", count=2, subject=f"day {day}")
        result = await case.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.snapshot_id is not None
        days.append((result.snapshot_id, case.truth()))
        case.next_day()
    return days


async def test_s07_thirty_days_and_each_of_them_whole() -> None:
    """The newest of 30 snapshots is the mailbox; day 7 still shows what day 8 deleted."""
    async with open_case(replace(SMALL, messages=25, folders=3)) as case:
        days = await _thirty_days(case)
        gone = _ids(days[6][1]) - _ids(days[7][1])
        assert gone
        seventh = await case.records(days[6][0])
        assert gone <= set(seventh)
        assert not gone & set(await case.records(days[7][0]))
        for day in (1, 7, 8, 30):
            snapshot, truth = days[day - 1]
            await case.assert_exact(await case.view(snapshot), truth)
        async with case.engine() as atlas:
            content = await atlas.read_message(min(gone), snapshot=days[6][0])
            assert content.record["object_id"] in gone


async def test_s07_day_seven_and_the_newest_are_restored_whole() -> None:
    """Day 7 comes back with what day 8 deleted, and the newest of 30 is the whole mailbox."""
    async with open_case(replace(SMALL, messages=25, folders=3)) as case:
        days = await _thirty_days(case)
        gone = _ids(days[6][1]) - _ids(days[7][1])
        names = {m["internetMessageId"] for m in days[6][1]["messages"] if m["immutableId"] in gone}
        seventh = Scene(case, days[6][1])
        report = await seventh.restore(Selection(mailbox=USER, snapshot=days[6][0]), root="Day 7")
        assert report.exit_code == 0
        seventh.assert_whole(root="Day 7")
        assert names <= {m["internetMessageId"] for m in seventh.marked()}
        newest = Scene(case, days[29][1])
        assert (await newest.restore(root="Newest")).exit_code == 0
        newest.assert_whole(root="Newest")


def _ids(truth: dict[str, Any]) -> set[str]:
    return {message["immutableId"] for message in truth["messages"]}


async def test_s08_the_same_restore_twice_makes_nothing_new() -> None:
    """Below a folder and in place a second restore finds everything and sends no message."""
    async with open_case(replace(SMALL, messages=25)) as case:
        scene = await on_stage(case)
        case.mutate(op="bulk-delete", folder="inbox", count=4, hard=True)
        for place in ({"root": ROOT}, {"in_place": True}):
            first = await scene.restore(**place)
            assert (first.exit_code, created(first) > 0) == (0, True)
            before = shape(case.truth())
            case.emulator.control.clear_log()
            again = await scene.restore(**place)
            assert (again.exit_code, created(again)) == (0, 0)
            assert again.total(Step.ALREADY) == created(first)
            assert {s.method for s in case.emulator.log if "/users/" in s.path} == {"GET"}
            assert shape(case.truth()) == before
        scene.assert_whole()


def _truth(console: Console) -> dict[str, Any]:
    """Return what the user's mailbox holds now."""
    office = console.office
    return office.do(lambda: office.emulator.control.mailbox_truth(USER))


def test_s08_killed_at_55_percent_it_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in the midst: the same command makes what is missing, each once; undone, all is gone."""
    with open_console(tmp_path, monkeypatch, capfd, replace(PLAIN, messages=40)) as console:
        console.backup()
        before = _truth(console)
        arguments = ("restore", "-m", USER, "--root", ROOT, "--json")
        console.office.stall("/messages$", after=22)
        with subprocess.Popen(
            command(*arguments), cwd=PROGRAM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as killed:
            console.office.wait_for_stalled()
            killed.kill()
        assert killed.returncode == -signal.SIGKILL
        there = sum(bool(mark_of(m)) for m in _truth(console)["messages"])
        assert 18 <= there <= 22
        console.office.heal()
        ended = console.run(*arguments)
        assert ended.code == 0, ended
        assert held(_truth(console), (ROOT,)) == held(before, ())
        marks = Counter(mark_of(m) for m in _truth(console)["messages"] if mark_of(m))
        assert set(marks.values()) == {1}
        assert console.run(*arguments).documents()[-1]["restores"][0]["created"] == 0
        assert console.run("restore", "-m", USER, "--undo", "latest").code == 0
        assert shape(_truth(console)) == shape(before)


async def test_s09_one_key_and_no_quarrel_with_oneself() -> None:
    """First runs at once make one key; a PUT whose answer was lost is known as one's own (I8)."""
    lost = [
        Fault(Failure.ANSWER_LOST, Op.PUT, f"^{DEK_KEY}$"),
        Fault(Failure.ANSWER_LOST, Op.PUT, "^data/", times=5),
        Fault(Failure.ANSWER_LOST, Op.PUT, "^catalog/", times=5),
        Fault(Failure.ANSWER_LOST, Op.PUT, "^manifests/", times=2),
    ]

    def shaky(store: ObjectStore) -> ObjectStore:
        clock = FakeClock(autojump=True)
        faulty = FaultyStore(store, lost, clock=clock)
        return RetryingStore(faulty, RetryPolicy(4, 600.0), clock=clock)

    async with open_case(replace(PLAIN, mailboxes=2, messages=12), wrap=shaky) as case:
        users = (USER, "user0001@contoso.com")
        codes = []

        async def first_run(user: str) -> None:
            codes.append((await case.backup([user])).exit_code)

        async with anyio.create_task_group() as group:
            for user in users:
                group.start_soon(first_run, user)
        assert codes == [0, 0]
        assert [fault.hits for fault in lost] == [1, 5, 5, 2]
        for user in users:
            await case.exact(mailbox=user)
            case.next_day()
            assert (await case.backup([user])).mailboxes[0].outcome is Outcome.UNCHANGED
        async with case.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0


async def test_s10_a_bucket_from_which_nothing_can_be_deleted() -> None:
    """Under a default retention runs need no deletion, and pruning counts what it cannot delete."""
    deletions: list[str] = []

    def tell(request: Request) -> None:
        if request.op is Op.DELETE:
            deletions.append(request.key)
            raise StoreAuthError("Access Denied")

    stop = StopSignal()
    async with open_case(
        replace(SMALL, messages=40), limits=PAGES_OF_FIVE, wrap=lambda store: telling(store, tell)
    ) as case:
        case.meddle("/messages/delta", stop.request, after=4)
        assert (await case.backup([USER], stop=stop)).exit_code == 130
        for day in range(8):
            case.next_day()
            case.mutate(op="bulk-create", folder="inbox", count=2, subject=f"day {day}")
            case.mutate(op="bulk-delete", folder="inbox", count=1, hard=True)
            result = await case.back_up_user(full=day == 6)
            assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        await case.exact()
        case.next_day()
        assert (await case.back_up_user()).exit_code == 0
        only = FolderChoice(only=("inbox",))
        assert (await case.back_up_user(folders=only)).exit_code == 0
        # Spent leases are tidied away where that is allowed; nothing else ever is.
        assert not [key for key in deletions if "/lease/" not in key]
        orphan = f"data/{USER}/{'0' * 64}"
        stored = case.bucket.objects[case.keys("data/")[0]]
        case.bucket.objects[orphan] = replace(stored, info=replace(stored.info, key=orphan))
        async with case.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0
            pruned = await atlas.prune(older_than=0.0)
        (box,) = pruned.mailboxes
        assert (box.unreferenced, box.removed, pruned.exit_code) == (box.kept, 0, 3)
        assert orphan in deletions
        await case.exact()


async def test_s12_guests_are_told_once_and_cost_one_request() -> None:
    """Of 31 guests and 8 mailboxes 8 are backed up; each guest is one line and one request."""
    options = replace(PLAIN, mailboxes=8, guests=31, messages=4, folders=1)
    async with open_case(options) as case:
        for _ in range(2):
            report = await case.backup()
            assert report.exit_code == 0
            outcomes = Counter(m.outcome for m in report.mailboxes)
            assert outcomes[Outcome.NO_MAILBOX] == 31
            assert outcomes[Outcome.COMPLETE] + outcomes[Outcome.UNCHANGED] == 8
            assert len({m.mailbox_id for m in report.mailboxes}) == 39
            guests = {str(person.id) for person in case.emulator.corpus.people if "#" in person.upn}
            costs = Counter(path.split("/")[3] for path in case.asked("/mailFolders"))
            assert {costs[guest] for guest in guests} == {1}
            case.next_day()
        for number in range(8):
            await case.exact(mailbox=f"user{number:04}@contoso.com")


async def test_s13_quiet_runs_cost_the_same_for_ever() -> None:
    """After many snapshots a quiet run asks each folder once, reads one object, writes none."""
    async with open_case() as case:
        for day in range(10):
            case.mutate(op="create", folder="inbox", subject=f"day {day}")
            await case.back_up_user()
            case.jumps.jump(60.0)
        before = dict(case.bucket.objects)
        costs = set()
        for _ in range(25):
            case.jumps.jump(3600.0)
            quiet = await case.back_up_user()
            assert (quiet.outcome, quiet.snapshot_id) == (Outcome.UNCHANGED, None)
            costs.add((quiet.graph_requests - quiet.folders, quiet.store_requests))
        assert costs == {(1, 1)}
        assert case.bucket.objects == before
        await case.exact()


@pytest.mark.parametrize("conflict", list(Conflict))
async def test_s15_whatever_a_restore_scattered_is_taken_back(conflict: Conflict) -> None:
    """Copies, replacements and folders go, though users moved some of them; their own mail stays."""
    async with open_case() as case:
        folder = case.mutate(op="folder-create", parent="inbox", name="Once")["id"]
        case.mutate(op="bulk-create", folder=folder, count=3)
        scene = await on_stage(case)
        case.mutate(op="folder-delete", folder=folder, hard=True)
        case.mutate(op="bulk-delete", folder="inbox", count=3, hard=True)
        before = shape(case.truth())
        report = await scene.restore(in_place=True, conflict=conflict)
        assert report.exit_code == 0
        made = scene.marked()
        assert len(made) == report.total(Step.CREATE) + report.total(Step.REPLACE) >= 6
        for message in made[:3]:
            case.mutate(op="move", message=message["immutableId"], folder="archive")
        case.mutate(op="update", message=made[3]["immutableId"], patch={"isRead": True})
        case.mutate(op="delete", message=made[4]["immutableId"], hard=True)
        undone = await scene.undo()
        assert (undone.exit_code, undone.removed, undone.gone) == (0, len(made) - 1, 1)
        assert undone.put_back == report.total(Step.REPLACE)
        assert shape(case.truth()) == before
        assert (await scene.restore(in_place=True, conflict=conflict)).exit_code == 0
        (fresh,) = [f["id"] for f in case.truth()["folders"] if f["path"] == ["Inbox", "Once"]]
        own = case.mutate(op="create", folder=fresh, subject="my own")["immutableId"]
        undone = await scene.undo()
        assert (undone.exit_code, undone.folders_kept) == (0, [("Inbox", "Once")])
        assert not scene.marked()
        assert own in shape(case.truth())["messages"]


@pytest.mark.parametrize("name", ["mail.zip", "mail"])
async def test_s16_an_export_that_broke_off_continues(tmp_path: Path, name: str) -> None:
    """Nothing has the final name before all is there; then it is what an undisturbed one is."""
    reads: list[str] = []
    breaks_at = 0

    def tell(request: Request) -> None:
        if request.op in {Op.GET, Op.OPEN} and request.key.startswith("data/"):
            reads.append(request.key)
            if len(reads) == breaks_at:
                raise StoreTransient("the store is gone")

    async with open_case(
        replace(SMALL, messages=40), wrap=lambda store: telling(store, tell)
    ) as case:
        await case.back_up_user()
        (tmp_path / "whole").mkdir()
        whole = await exported(case, tmp_path / "whole" / name)
        total, breaks_at = len(reads), 30
        reads.clear()
        with pytest.raises(StoreTransient):
            await exported(case, tmp_path / name)
        assert not (tmp_path / name).exists()
        reads.clear()
        breaks_at = 0
        report = await exported(case, tmp_path / name)
        assert (report.resumed, report.exit_code, report.messages) == (True, 0, whole.messages)
        assert len(reads) < total
        assert contents(report.path) == contents(whole.path)
        assert leftovers(report.path) == []


async def test_s17_what_cannot_be_restored_is_found_before_it_is_needed() -> None:
    """A drill brings mail back into a mailbox, leaves no trace there, and names what it cannot."""
    async with open_case(replace(SMALL, mailboxes=2, messages=20, attachment_share=0.6)) as case:
        await case.back_up_user()
        scratch = "user0001@contoso.com"
        before = shape(case.truth(scratch))
        everything = DrillOptions(sample=0, scratch=scratch)
        async with case.engine() as atlas:
            good = await atlas.drill([USER], everything)
            key = await atlas.report_key()
            damaged = case.keys("attachments/")[0]
            damage(case.bucket, damaged)
            bad = await atlas.drill([USER], everything)
        (box,) = good.mailboxes
        assert (good.exit_code, box.restored, box.read_back) == (0, box.messages, box.messages)
        check_signature(good.signed, key)
        (box,) = bad.mailboxes
        holders = {
            object_id
            for object_id, record in (await case.records()).items()
            if damaged.rpartition("/")[2] in {a["checksum"] for a in record.get("attachments", [])}
        }
        assert bad.exit_code == 16
        assert {failure.object_id for failure in box.failures} == holders
        check_signature(bad.signed, key)
        assert bad.signed["passed"] is False
        assert shape(case.truth(scratch)) == before
