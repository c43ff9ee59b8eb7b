"""Defects measured in Atlas 1.3.0, each as a test that the same does not happen here.

``docs/known-cases.md`` describes the cases and maps each to its test.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from atlas_async.catalog.head import read_head
from atlas_async.catalog.layout import DEK_KEY
from atlas_async.config.settings import FolderChoice, Limits
from atlas_async.model.report import Outcome
from atlas_async.pipeline import journal
from atlas_async.pipeline.stop import StopSignal
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import InterceptedStore, Op, Request
from atlas_async.store.memory import MemoryBucket, MemoryStore
from atlas_async.store.retrying import RetryingStore, RetryPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER
from tests.torture.cases import (
    PLAIN,
    damage,
    open_case,
    open_console,
    shorten,
    telling,
)

T = TypeVar("T")

PAGES_OF_FIVE = replace(Limits(), page_size=5)


class _Together:
    """Holds the first put of the key back until there is a second."""

    def __init__(self) -> None:
        self.keys_put: list[Request] = []
        self._two = anyio.Event()

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        if request.op is Op.PUT and request.key == DEK_KEY:
            self.keys_put.append(request)
            if len(self.keys_put) > 1:
                self._two.set()
            await self._two.wait()
        return await call()

    def stream(
        self, _: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return enter()


async def test_d01_first_runs_at_once_make_one_key() -> None:
    """Two first runs of an empty tenant, eight mailboxes at once: one key, all readable (I8)."""
    both = _Together()
    options = replace(PLAIN, mailboxes=8, messages=6)
    async with open_case(options, wrap=lambda store: InterceptedStore(store, both)) as case:
        codes = []

        async def first_run(numbers: range) -> None:
            async with case.engine() as atlas:
                report = await atlas.backup([f"user{number:04}@contoso.com" for number in numbers])
                codes.append(report.exit_code)

        async with anyio.create_task_group() as group:
            group.start_soon(first_run, range(4))
            group.start_soon(first_run, range(4, 8))
        assert codes == [0, 0]
        # Both tried, and the condition let one of them through.
        assert [request.if_absent for request in both.keys_put] == [True, True]
        async with case.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0
        for number in range(8):
            await case.exact(mailbox=f"user{number:04}@contoso.com")


async def test_d02_an_expired_token_is_known_by_its_code() -> None:
    """A 410 whose text does not hold its code leads to a whole enumeration, once."""
    async with open_case() as case:
        await case.back_up_user()
        stored = case.content()
        case.emulator.control.expire_delta(USER)
        case.mutate(op="create", folder="inbox", subject="since then")
        case.mutate(op="bulk-delete", folder="sentitems", count=2, hard=True)
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert (result.stored, result.removed) == (1, 2)
        assert sum("delta token expired" in notice for notice in result.notices) == result.folders
        assert case.emulator.log.statuses[410] == result.folders + 1  # the tree has a token, too
        assert set(stored) < set(case.content())
        assert len(case.content()) == len(stored) + 1
        await case.exact()
        case.next_day()
        quiet = await case.back_up_user()
        assert (quiet.outcome, quiet.graph_requests) == (Outcome.UNCHANGED, quiet.folders + 1)
        assert case.emulator.log.statuses[410] == 0


async def test_d03_a_stop_in_a_folder_loses_no_page_read_already() -> None:
    """Pages that were fetched and not stored when a run is stopped come with the next one (I2)."""
    stop = StopSignal()
    puts: list[str] = []

    def tell(request: Request) -> None:
        if request.op is Op.PUT and request.key.startswith("data/"):
            puts.append(request.key)
            if len(puts) == 23:
                stop.request()

    options = replace(PLAIN, messages=120)
    async with open_case(
        options, limits=PAGES_OF_FIVE, wrap=lambda store: telling(store, tell)
    ) as case:
        report = await case.backup([USER], stop=stop)
        assert report.exit_code == 130
        partial = await case.records()
        assert 0 < len(partial) < len(case.reachable())
        assert not (await case.view()).summary.complete
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        await case.exact()
        assert len(puts) == len(set(puts)) == len(case.reachable())


async def test_d04_nested_folders_are_read() -> None:
    """Folders five levels deep, hidden ones too, are in the snapshot with all they hold."""
    async with open_case() as case:
        parent = case.folder_id("inbox")
        for level, name in enumerate("ABCDE"):
            parent = case.mutate(op="folder-create", parent=parent, name=name, hidden=level == 3)[
                "id"
            ]
            case.mutate(op="bulk-create", folder=parent, count=2, subject=f"level {name}")
        result = await case.back_up_user()
        assert (result.outcome, result.messages) == (Outcome.COMPLETE, len(case.reachable()))
        view = await case.view()
        counts = {f.folder.path[1:]: f.message_count for f in view.folders}
        for depth in range(1, 6):
            assert counts[tuple("ABCDE"[:depth])] == 2
        await case.exact()


@pytest.mark.parametrize("trouble", ["token revoked", "store down", "credential revoked"])
async def test_d05_an_error_never_passes_for_an_empty_folder(trouble: str) -> None:
    """A token refused mid-run is replaced, a store that fails for a while is waited for."""
    faults: list[Fault] = []

    def shaky(store: ObjectStore) -> ObjectStore:
        clock = FakeClock(autojump=True)
        faulty = FaultyStore(store, faults, clock=clock)
        return RetryingStore(faulty, RetryPolicy(6, 1800.0), clock=clock)

    async with open_case(limits=PAGES_OF_FIVE, wrap=shaky) as case:
        tenant = case.emulator.tenant
        if trouble == "store down":
            # Every PUT of messages fails until each has been tried a few times.
            faults.append(Fault(Failure.REFUSED, Op.PUT, "^data/", times=20))
        else:
            case.meddle("/messages/delta", case.emulator.control.revoke_tokens, after=4)
        if trouble == "credential revoked":
            case.meddle("/messages/delta", tenant.app.secrets.clear, after=4)
            report = await case.backup([USER])
            assert report.exit_code == 13
            assert report.mailboxes[0].outcome is Outcome.FAILED
            assert "secret" in report.mailboxes[0].hint
            tenant.register(tenant.client_id, tenant.client_secret)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0), result
        await case.exact()
        assert all(fault.hits == 20 for fault in faults)
        if trouble == "token revoked":
            assert case.emulator.log.statuses[401] >= 1


def test_d06_failed_mailboxes_show_in_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A tenant's run in which one mailbox failed ends with 3, and with its own code alone."""
    options = replace(PLAIN, mailboxes=3, messages=5, folders=1)
    with open_console(tmp_path, monkeypatch, capfd, options) as console:
        console.office.fault(mailbox=USER, status=403, code="ErrorAccessDenied", count=-1)
        ended = console.run("backup", "--json")
        outcomes = {m["mailbox_id"]: m for m in ended.documents()[-1]["mailboxes"]}
        assert ended.code == 3
        assert outcomes.pop(USER)["outcome"] == "failed"
        assert {m["outcome"] for m in outcomes.values()} == {"complete"}
        said = console.run("backup")
        assert said.code == 3
        assert "failed" in said.out
        assert USER in said.out
        assert console.run("backup", "-m", USER).code == 13


async def test_d07_attachments_above_the_inline_limit_have_their_content() -> None:
    """A file too large for the attachment list is fetched by itself, to the last byte."""
    async with open_case() as case:
        size = 4 * 1024 * 1024 + 77
        case.mutate(op="create", folder="inbox", attachments=[{"name": "large.zip", "size": size}])
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert len(case.asked("/$value")) == 1
        (held,) = [a for r in (await case.records()).values() for a in r.get("attachments", [])]
        assert held["content_bytes"] == size
        await case.exact()


async def test_d08_item_and_reference_attachments_are_kept() -> None:
    """Attached messages and links to shared files are stored like any attachment."""
    options = replace(PLAIN, attachment_share=1.0, item_share=0.5, reference_share=0.5, messages=12)
    async with open_case(options) as case:
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        held = [a for r in (await case.records()).values() for a in r.get("attachments", [])]
        assert {a["type"] for a in held} == {"item", "reference"}
        wanted = [a for m in case.truth()["messages"] for a in m["attachments"]]
        assert len(held) == len(wanted)
        await case.exact()
        link = next(a for a in held if a["type"] == "reference")
        key = f"attachments/{USER}/{link['checksum']}"
        resource = json.loads(await case.vault().read_content(key, link["checksum"]))
        assert resource["name"] == link["name"]


async def test_d09_mails_with_inline_images_only_keep_them() -> None:
    """Images are fetched although ``hasAttachments`` is false for their message."""
    options = replace(PLAIN, inline_share=1.0, messages=20)
    async with open_case(options) as case:
        truth = case.truth()["messages"]
        assert not any(m["hasAttachments"] for m in truth)
        await case.back_up_user()
        records = await case.records()
        held = [a for r in records.values() for a in r.get("attachments", [])]
        images = [a for m in truth if m["immutableId"] in records for a in m["attachments"]]
        assert len(held) == len(images) > len(records)
        await case.exact()


async def test_d10_deleted_and_moved_mail_is_in_its_place_of_the_day() -> None:
    """After deletions, moves and a deleted folder each snapshot is exact, old and new."""
    async with open_case() as case:
        day_one = (await case.back_up_user()).snapshot_id
        before = case.truth()
        case.next_day()
        case.mutate(op="bulk-delete", folder="inbox", count=5, hard=True)
        case.mutate(op="bulk-move", folder="inbox", to="archive", count=3)
        folder = next(
            f["id"]
            for f in before["folders"]
            if f["belowRoot"] and not f["wellKnownName"] and f["totalItemCount"]
        )
        case.mutate(op="folder-delete", folder=folder, hard=True)
        result = await case.back_up_user()
        assert (result.outcome, result.stored) == (Outcome.COMPLETE, 0)
        assert result.removed == len(before["messages"]) - len(case.truth()["messages"])
        await case.exact()
        await case.assert_exact(await case.view(day_one), before)


async def test_d11_an_incremental_snapshot_is_the_whole_mailbox() -> None:
    """A snapshot of a run that saw three changes shows every message, and lists so many."""
    async with open_case() as case:
        await case.back_up_user()
        case.next_day()
        case.mutate(op="bulk-create", folder="inbox", count=3)
        result = await case.back_up_user()
        assert result.stored == 3
        view = await case.view(result.snapshot_id)
        assert view.summary.new == 3
        assert view.summary.messages == len(case.reachable()) > 3
        await case.exact(result.snapshot_id)


async def test_d12_folder_names_are_those_of_the_snapshot() -> None:
    """A folder renamed, moved or deleted since keeps its name and place in older snapshots."""
    async with open_case() as case:
        outer = case.mutate(op="folder-create", parent="inbox", name="Projects")["id"]
        inner = case.mutate(op="folder-create", parent=outer, name="North")["id"]
        case.mutate(op="create", folder=inner, subject="in the north")
        day_one = (await case.back_up_user()).snapshot_id
        before = case.truth()
        case.next_day()
        case.mutate(op="folder-rename", folder=outer, name="Done")
        day_two = (await case.back_up_user()).snapshot_id
        between = case.truth()
        case.next_day()
        case.mutate(op="folder-delete", folder=outer, hard=True)
        await case.back_up_user()
        names = {}
        for snapshot in (day_one, day_two, None):
            folders = (await case.view(snapshot)).folders
            names[snapshot] = {f.folder.id: f.folder.path[1:] for f in folders}
        assert names[day_one][inner] == ("Projects", "North")
        assert names[day_two][inner] == ("Done", "North")
        assert inner not in names[None]
        await case.assert_exact(await case.view(day_one), before)
        await case.assert_exact(await case.view(day_two), between)


async def test_d13_drafts_and_junk_are_known_in_every_language() -> None:
    """Drafts, outbox and junk are backed up; leaving one out works by role, not by its name."""
    async with open_case(replace(PLAIN, languages=("de",))) as case:
        for folder in ("drafts", "outbox", "junkemail"):
            case.mutate(op="create", folder=folder, subject=folder, isDraft=folder == "drafts")
        await case.back_up_user()
        await case.exact()
        subjects = {r["subject"] for r in (await case.records()).values()}
        assert {"drafts", "outbox", "junkemail"} <= subjects
        names = {f.folder.well_known_name: f.folder.name for f in (await case.view()).folders}
        assert names["drafts"] == "Entwürfe"
        case.next_day()
        chosen = FolderChoice(exclude_well_known=frozenset({"drafts", "junkemail"}))
        await case.back_up_user(folders=chosen)
        left = {f.folder.well_known_name for f in (await case.view()).folders}
        assert set(names) - left == {"drafts", "junkemail"}


@pytest.mark.parametrize("kind", ["data/", "attachments/"])
@pytest.mark.parametrize("harm", ["flipped", "shortened", "missing"])
async def test_d14_verify_reads_every_object_and_a_full_run_repairs(kind: str, harm: str) -> None:
    """A harmed message or attachment is found, exit 16; what verify names can be made good."""
    async with open_case(replace(SMALL, messages=15)) as case:
        await case.back_up_user()
        key = case.keys(kind)[0]
        harms: dict[str, Callable[[MemoryBucket, str], object]] = {
            "flipped": damage,
            "shortened": shorten,
            "missing": lambda bucket, gone: bucket.objects.pop(gone),
        }
        harms[harm](case.bucket, key)
        async with case.engine() as atlas:
            report = await atlas.verify()
        found = report.missing if harm == "missing" else report.damaged
        assert ([f.key for f in found], report.exit_code) == ([key], 16)
        if harm == "flipped":  # the operator takes away what verify has named
            del case.bucket.objects[key]
        result = await case.back_up_user(full=True)
        assert result.exit_code == 0
        async with case.engine() as atlas:
            assert (await atlas.verify(snapshot=result.snapshot_id)).exit_code == 0
            assert (await atlas.verify()).exit_code == 0
        await case.exact()


async def test_d15_a_sparse_change_keeps_the_message() -> None:
    """An update that carries a read state alone changes that alone."""
    async with open_case(replace(SMALL, attachment_share=0.5)) as case:
        case.switch(sparse_changes=True)
        await case.back_up_user()
        stored = case.content()
        case.next_day()
        for message in case.messages_in("inbox"):
            patch = {"isRead": not message["isRead"]}
            case.mutate(op="update", message=message["immutableId"], patch=patch)
        result = await case.back_up_user()
        assert (result.outcome, result.stored) == (Outcome.COMPLETE, 0)
        assert case.content() == stored
        await case.exact()


async def test_d16_a_killed_run_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves at half is picked up: pages before the checkpoint are not read again."""
    monkeypatch.setattr(journal, "CHECKPOINT_MESSAGES", 20)
    seen: list[str] = []

    def tell(request: Request) -> None:
        if request.op is Op.PUT and request.key.startswith("data/"):
            seen.append(request.key)
            if len(seen) == 60:
                raise KilledError

    options = replace(PLAIN, messages=120)
    async with open_case(
        options, limits=PAGES_OF_FIVE, wrap=lambda store: telling(store, tell)
    ) as case:
        assert (await case.backup([USER])).exit_code == 1
        assert not case.keys("manifests/")
        stored = len(case.keys("data/"))
        head = await read_head(case.vault())
        assert head is not None
        assert head.checkpoint is not None
        recorded = head.checkpoint.messages
        assert recorded >= 20
        case.store = MemoryStore(case.bucket)
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert result.stored == len(case.reachable()) - stored
        assert result.stored + result.deduplicated <= len(case.reachable()) - recorded
        await case.exact()


class KilledError(Exception):
    """Ends a run in the middle; nothing of it is written after."""


def test_d17_a_damaged_manifest_is_named_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Verify names it with 16; the snapshot is whole, and the next run asks for changes only.

    The list reads descriptors: it is as before, and shows the damage of one.
    """
    with open_console(tmp_path, monkeypatch, capfd) as console:
        first = console.backup()
        console.office.mutate(op="create", folder="inbox", subject="second")
        second = console.backup()
        listed, messages = console.snapshots(), console.messages(first["snapshot_id"])
        console.damage(f"manifests/*/{first['snapshot_id']}.json", changed_at_the_end)
        verified = console.run("verify", "--json")
        assert verified.code == 16
        (finding,) = verified.documents()[-1]["damaged"]
        assert finding["key"] == f"manifests/{USER}/{first['snapshot_id']}.json"
        assert console.snapshots() == listed
        assert not any(row["damage"] for row in listed)
        assert console.messages(first["snapshot_id"]) == messages
        console.office.mutate(op="create", folder="inbox", subject="third")
        third = console.backup()
        assert third["stored"] == 1
        assert third["graph_requests"] <= third["folders"] + 2
        console.assert_kept(second["snapshot_id"])
        console.assert_kept(third["snapshot_id"])
        assert len(console.messages()) == len(console.office.message_ids())
        console.damage(f"catalog/*/snapshots/{first['snapshot_id']}", changed_at_the_end)
        rows = console.snapshots()
        assert [row["snapshot_id"] for row in rows if row["damage"]] == [first["snapshot_id"]]
        assert "damaged" in console.run("list", "-m", USER).out


def changed_at_the_end(body: bytes) -> bytes:
    """Return a body whose last byte is another."""
    return body[:-1] + bytes([body[-1] ^ 1])


async def test_d18_idle_runs_write_nothing_and_read_one_object() -> None:
    """After any number of runs an idle one costs one GET and leaves the bucket as it is."""
    reads: list[str] = []

    def tell(request: Request) -> None:
        if request.op in {Op.GET, Op.OPEN} and request.key != DEK_KEY:
            reads.append(request.key)

    async with open_case(wrap=lambda store: telling(store, tell)) as case:
        costs = []
        for number in range(6):
            case.mutate(op="create", folder="inbox", subject=f"day {number}")
            case.next_day()
            await case.back_up_user()
            before = dict(case.bucket.objects)
            reads.clear()
            case.jumps.jump(60.0)
            idle = await case.back_up_user()
            assert (idle.outcome, idle.snapshot_id) == (Outcome.UNCHANGED, None)
            assert case.bucket.objects == before
            costs.append(len(reads))
        assert costs == [1] * 6
        assert len(case.keys("manifests/")) == 6
