"""Corner cases of Microsoft Graph that have bitten products, each shown not to bite here.

``docs/known-cases.md`` describes the cases and maps each to its test.
"""

from __future__ import annotations

import email
import email.policy
import json
import ssl
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from atlas_async.catalog.head import read_head, write_head
from atlas_async.clock import SystemClock
from atlas_async.config.settings import FolderChoice, Limits
from atlas_async.emulator import Corpus, Emulator, FaultRule
from atlas_async.emulator.tenant import AppSecret
from atlas_async.emulator.tls import make_server_context
from atlas_async.errors import AuthError
from atlas_async.model.report import MailboxResult, Outcome
from atlas_async.pipeline.stop import StopSignal
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import Op, Request
from atlas_async.store.memory import MemoryStore
from atlas_async.store.retrying import RetryingStore, RetryPolicy
from atlas_async.store.s3 import S3Store
from tests.fakes.canned_s3 import answer, canned_s3
from tests.fakes.clock import FakeClock
from tests.fakes.graph_probe import GraphProbe
from tests.fakes.histories import tenant_settings
from tests.fakes.rig import SMALL, USER
from tests.torture.cases import BRIEF, PLAIN, Case, open_case, telling

PAGES_OF_FIVE = replace(Limits(), page_size=5)
OTHER = "user0001@contoso.com"
ATTACHED = replace(SMALL, attachment_share=0.6, recoverable_messages=0)


async def links(case: Case) -> dict[str, str | None]:
    """Return the link of every folder from which the next run goes on."""
    head = await read_head(case.vault())
    assert head is not None
    assert head.snapshot is not None
    return {folder: cursor.link for folder, cursor in head.snapshot.cursors.items()}


async def plant_link(case: Case, folder: str, link: str) -> None:
    """Let the mailbox's head continue a folder from ``link``."""
    vault = case.vault()
    head = await read_head(vault)
    assert head is not None
    assert head.snapshot is not None
    folder_id = case.folder_id(folder)
    cursors = dict(head.snapshot.cursors)
    cursors[folder_id] = replace(cursors[folder_id], link=link)
    await write_head(vault, replace(head, snapshot=replace(head.snapshot, cursors=cursors)))


async def delta_link(case: Case, folder: str, *, prefer: str) -> str:
    """Return a delta link of a folder as another client gets it now."""
    async with GraphProbe(case.emulator) as probe:
        path = f"users/{USER}/mailFolders/{case.folder_id(folder)}/messages/delta"
        return (await probe.round(path, prefer=prefer))[1]


async def assert_quiet(case: Case) -> MailboxResult:
    """Assert that a run now asks every folder once, and finds nothing."""
    case.next_day()
    quiet = await case.back_up_user()
    assert (quiet.outcome, quiet.graph_requests) == (Outcome.UNCHANGED, quiet.folders + 1)
    return quiet


@pytest.mark.parametrize("part", ["/segments/", "/snapshots/", "^manifests/"])
async def test_c01_a_cursor_is_saved_only_with_its_snapshot(part: str) -> None:
    """A commit that fails at any object leaves the old cursors: every change comes again (I1)."""
    faults: list[Fault] = []

    def faulty(store: ObjectStore) -> ObjectStore:
        return FaultyStore(store, faults, clock=FakeClock())

    async with open_case(wrap=faulty) as case:
        first = (await case.back_up_user()).snapshot_id
        before = case.truth()
        case.mutate(op="bulk-create", folder="inbox", count=3)
        case.mutate(op="bulk-delete", folder="sentitems", count=2, hard=True)
        faults.append(Fault(Failure.REFUSED, Op.PUT, part, times=None))
        case.next_day()
        failed = await case.back_up_user()
        assert (failed.outcome, failed.exit_code) == (Outcome.FAILED, 1)
        assert faults[0].hits
        faults.clear()
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.removed) == (Outcome.COMPLETE, 2)
        await case.exact()
        await case.assert_exact(await case.view(first), before)


async def test_c02_a_stop_ends_paging_with_storing() -> None:
    """Once a run is asked to stop it reads no further page, and no cursor passes what it stored."""
    stop = StopSignal()
    asked: list[int] = []

    def tell(request: Request) -> None:
        if request.op is Op.PUT and request.key.startswith("data/") and not asked:
            asked.append(len(case.asked("/messages/delta")))
            stop.request()

    options = replace(PLAIN, messages=150)
    async with open_case(
        options, limits=PAGES_OF_FIVE, wrap=lambda store: telling(store, tell)
    ) as case:
        report = await case.backup([USER], stop=stop)
        assert report.exit_code == 130
        assert len(case.asked("/messages/delta")) <= asked[0] + case.settings.limits.mailboxes
        assert len(await case.records()) < 100
        case.next_day()
        assert (await case.back_up_user()).outcome is Outcome.COMPLETE
        await case.exact()


async def test_c03_links_without_the_mail_before_them_are_not_believed() -> None:
    """Where a program has left links and no messages, folders that hold mail are read whole."""
    async with open_case() as case:
        await case.back_up_user()
        vault = case.vault()
        head = await read_head(vault)
        assert head is not None
        assert head.snapshot is not None
        links = {
            folder: replace(cursor, settled_total=-1)
            for folder, cursor in head.snapshot.cursors.items()
        }
        bare = replace(
            head.snapshot, runs=(), folder_counts={}, messages=0, size_bytes=0, cursors=links
        )
        await write_head(vault, replace(head, snapshot=bare))
        case.next_day()
        result = await case.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        assert result.deduplicated == len(case.reachable())
        assert any("it holds mail" in notice for notice in result.notices)
        await case.exact()
        await assert_quiet(case)


async def test_c04_no_attachment_is_metadata_only() -> None:
    """When lists carry no content at all, every attachment is fetched by itself."""
    async with open_case(ATTACHED) as case:
        case.switch(inline_limit=-1)
        result = await case.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        held = [a for r in (await case.records()).values() for a in r.get("attachments", [])]
        files = [a for a in held if a["type"] != "reference"]
        assert len(case.asked("/$value")) == len(files) > 0
        assert all(a["checksum"] for a in held)
        await case.exact()


async def test_c05_moves_store_and_fetch_nothing() -> None:
    """Ids are immutable: a message that moved is known, and nothing of it is read again."""
    async with open_case(ATTACHED) as case:
        await case.back_up_user()
        ids, stored = set(await case.records()), case.content()
        assert ids == case.reachable()
        case.next_day()
        case.mutate(op="bulk-move", folder="inbox", to="archive", count=10)
        case.mutate(op="bulk-move", folder="sentitems", to="inbox", count=3)
        result = await case.back_up_user()
        assert (result.outcome, result.stored) == (Outcome.COMPLETE, 0)
        assert set(await case.records()) == ids
        assert case.content() == stored
        assert not case.asked("/attachments")
        assert result.graph_requests == result.folders + 1
        await case.exact()


async def test_c06_there_and_back_again_is_kept() -> None:
    """A -> B -> A, shown by Graph as a removal alone, keeps old messages and brings new ones."""
    async with open_case() as case:
        case.switch(return_quirk=True)
        await case.back_up_user()
        old = case.messages_in("inbox")[0]["immutableId"]
        new = case.mutate(op="create", folder="inbox", subject="new")["immutableId"]
        for message in (old, new):
            case.mutate(op="move", message=message, folder="archive")
            case.mutate(op="move", message=message, folder="inbox")
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.removed, result.stored) == (Outcome.COMPLETE, 0, 1)
        await case.exact()


async def test_c07_a_link_of_the_other_id_format_costs_its_folder_a_reading() -> None:
    """A link made without immutable ids is refused by Graph, and replaced."""
    async with open_case() as case:
        case.switch(strict_id_mode=True)
        await case.back_up_user()
        stored = case.content()
        await plant_link(case, "inbox", await delta_link(case, "inbox", prefer=""))
        case.mutate(op="bulk-delete", folder="inbox", count=2, hard=True)
        case.next_day()
        result = await case.back_up_user()
        assert (result.outcome, result.stored, result.removed) == (Outcome.COMPLETE, 0, 2)
        assert sum("delta token expired" in notice for notice in result.notices) == 1
        assert case.content() == stored
        await case.exact()
        await assert_quiet(case)


async def test_c08_a_missing_delta_link_is_no_promise() -> None:
    """An empty link means to read everything; a round that ends without one keeps the old."""
    async with open_case() as case:
        case.switch(lost_delta_links=True)
        first = await case.back_up_user()
        assert first.outcome is Outcome.COMPLETE
        case.mutate(op="bulk-delete", folder="inbox", count=2, hard=True)
        case.switch(lost_delta_links=False)
        case.next_day()
        second = await case.back_up_user()
        assert (second.removed, second.stored) == (2, 0)
        await case.exact()
        case.mutate(op="create", folder="inbox", subject="while links are lost")
        case.switch(lost_delta_links=True)
        case.next_day()
        before = await links(case)
        assert (await case.back_up_user()).stored == 1
        assert await links(case) == before
        case.switch(lost_delta_links=False)
        await plant_link(case, "sentitems", "")
        case.mutate(op="bulk-delete", folder="sentitems", count=1, hard=True)
        case.next_day()
        last = await case.back_up_user()
        assert any("is read anew" in notice for notice in last.notices)
        assert (last.outcome, last.stored, last.removed) == (Outcome.COMPLETE, 0, 1)
        await case.exact()
        await assert_quiet(case)


@pytest.mark.parametrize(
    ("status", "code"),
    [(410, "resyncRequired"), (400, "RESYNCREQUIRED"), (404, "syncstatenotfound"), (410, "")],
)
async def test_c09_codes_are_compared_without_case(status: int, code: str) -> None:
    """An expired token is known by its code however that is written, or by 410 alone."""
    async with open_case() as case:
        await case.back_up_user()
        stored = case.content()
        case.switch(expired_code=code, expired_status=status)
        case.emulator.control.expire_delta(USER)
        case.mutate(op="bulk-delete", folder="inbox", count=1, hard=True)
        case.next_day()
        result = await case.back_up_user()
        assert sum("delta token expired" in notice for notice in result.notices) == result.folders
        assert (result.outcome, result.stored, result.removed) == (Outcome.COMPLETE, 0, 1)
        assert case.content() == stored
        await case.exact()
        await assert_quiet(case)


async def test_c10_links_that_repeat_end_the_reading() -> None:
    """A next link that leads to its own page ends with exit 3, and a delta link may be reused."""
    async with open_case(limits=replace(BRIEF, page_size=5)) as case:
        case.switch(repeat_links=True)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert any("repeats a page link" in notice for notice in result.notices)
        assert result.graph_requests < 40 * result.folders
        await case.exact()
        case.switch(repeat_links=False)
        case.next_day()
        assert (await case.back_up_user()).exit_code == 0
        await case.exact()
        for _ in range(2):  # a quiet round answers with the link it was asked by
            await assert_quiet(case)


async def test_c11_empty_pages_are_followed_to_the_end() -> None:
    """Dozens of pages without items before the delta link change nothing."""
    async with open_case() as case:
        case.switch(empty_pages=25)
        assert (await case.back_up_user()).outcome is Outcome.COMPLETE
        await case.exact()
        case.mutate(op="create", folder="inbox", subject="later")
        case.next_day()
        assert (await case.back_up_user()).stored == 1
        assert len(case.asked("/messages/delta")) > 25
        await case.exact()


async def test_c12_a_mailbox_over_quota_is_read_all_the_same() -> None:
    """Where delta is refused folders are listed, with changes and removals of every day."""
    async with open_case() as case:
        case.emulator.control.over_quota(USER)
        first = await case.back_up_user()
        assert (first.outcome, first.exit_code) == (Outcome.COMPLETE, 0)
        await case.exact()
        stored = case.content()
        case.mutate(op="bulk-delete", folder="inbox", count=2, hard=True)
        case.mutate(op="create", folder="inbox", subject="squeezed in")
        case.next_day()
        second = await case.back_up_user()
        assert (second.outcome, second.stored, second.removed) == (Outcome.COMPLETE, 1, 2)
        assert len(case.content()) == len(stored) + 1
        await case.exact()


async def test_c13_a_message_deleted_while_it_is_read_is_no_failure() -> None:
    """Mail that goes between its page and its attachments is gone, and the run complete."""
    async with open_case() as case:
        file = {"name": "a.bin", "size": 3000}
        going = case.mutate(op="create", folder="inbox", attachments=[file])["immutableId"]
        case.meddle(
            f"{going}/attachments", lambda: case.mutate(op="delete", message=going, hard=True)
        )
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0), result
        assert case.emulator.log.statuses[404]
        await case.exact()


async def one_unreadable_message(status: int, code: str) -> None:
    """Check that a message which breaks every page it is on costs itself alone."""
    async with open_case(limits=replace(BRIEF, page_size=5)) as case:
        inbox = case.folder_id("inbox")
        bad = case.messages_in("inbox")[3]["immutableId"]
        broken = {"status": status, "code": code, "message": "told", "count": -1}
        case.fault(path=rf"{inbox}.*/messages/delta", **broken)
        case.fault(path=rf"messages/{bad}$", **broken)
        # The first page of the listing with bodies fails; the listing of ids has none.
        case.fault(path=rf"{inbox}/messages$", **(broken | {"count": 1}))
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
        assert [(e.kind, e.object_id, e.code) for e in result.not_stored] == [
            ("message", bad, code)
        ]
        assert set(await case.records()) == case.reachable() - {bad}
        case.heal()
        case.next_day()
        healed = await case.back_up_user()
        assert (healed.outcome, healed.stored) == (Outcome.COMPLETE, 1)
        await case.exact()


async def test_c14_a_corrupt_item_costs_itself() -> None:
    """A message answered with 500 ErrorCorruptData is named with exit 3 and tried again."""
    await one_unreadable_message(500, "ErrorCorruptData")


async def test_c15_an_item_with_invalid_recipients_costs_itself() -> None:
    """A message that can be listed and not read is named with exit 3 and tried again."""
    await one_unreadable_message(500, "ErrorInvalidRecipients")


async def test_c16_an_empty_404_is_asked_again() -> None:
    """A 404 without a body says nothing; what it hid comes with the second try."""
    async with open_case(ATTACHED) as case:
        case.fault(path="/messages/delta", status=404, count=2)
        case.fault(path="/attachments", status=404, count=2)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert [rule["fired"] for rule in case.emulator.control.faults()] == [2, 2]
        await case.exact()


async def test_c17_a_passing_400_is_asked_again() -> None:
    """A 400 for a request that was right is tried again."""
    async with open_case(ATTACHED) as case:
        case.fault(path="/messages/delta", status=400, code="invalidRequest", count=2)
        case.fault(path="/attachments", status=400, code="invalidRequest", count=2)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        await case.exact()


async def test_c18_pages_too_heavy_get_smaller_then_are_listed() -> None:
    """An empty 503 halves the page; a folder whose delta never answers is listed plainly."""
    async with open_case() as case:
        case.switch(heavy_page=3)
        sent = case.folder_id("sentitems")
        case.fault(path=rf"{sent}.*/messages/delta", status=503, count=-1)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert any("listed plainly" in notice for notice in result.notices)
        assert [s for s in case.emulator.log if s.status == 503 and sent not in s.path]
        await case.exact()


async def test_c19_a_long_retry_after_is_waited_out() -> None:
    """A 503 that asks for five minutes gets five minutes, not an error."""
    async with open_case() as case:
        case.fault(path="/messages/delta", status=503, code="x", retry_after="300")
        began = case.jumps.monotonic()
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert case.jumps.monotonic() - began >= 300.0
        await case.exact()


async def test_c20_refused_tokens_are_replaced_while_paging() -> None:
    """A token revoked between two pages, and a burst of 401, are survived; links hold no token."""
    async with open_case(limits=PAGES_OF_FIVE) as case:
        case.meddle("/messages/delta", case.emulator.control.revoke_tokens, after=3)
        burst = {"status": 401, "code": "InvalidAuthenticationToken", "count": 5}
        case.fault(path=f"{case.folder_id('inbox')}.*/messages/delta", after=1, **burst)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert case.emulator.log.statuses[401] >= 6
        await case.exact()


async def test_c21_a_concurrency_limit_below_four_is_lived_with() -> None:
    """MailboxConcurrency with fewer than four in flight slows a mailbox and breaks nothing."""
    async with open_case(ATTACHED) as case:
        case.switch(throttle=True, mailbox_concurrent=2, latency=0.002)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert result.throttled == case.emulator.log.statuses[429] > 0
        # Tries after a refusal take a place in flight like any other.
        assert case.emulator.log.peaks[USER] <= 4
        await case.exact()


async def test_c22_http_2_is_never_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offered HTTP/2, the client takes HTTP/1.1; connections that end in the middle are replaced."""
    chosen: list[str | None] = []

    class Noting(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            chosen.append(self.selected_alpn_protocol())

    def make_offering(*arguments: Any) -> ssl.SSLContext:
        context = make_server_context(*arguments)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.sslobject_class = Noting
        return context

    monkeypatch.setattr("atlas_async.emulator.server.make_server_context", make_offering)
    async with Emulator(Corpus(PLAIN), tls=True) as emulator:
        emulator.control.add_fault(FaultRule(action="reset", path="/messages", count=4))
        emulator.control.add_fault(FaultRule(action="reset-mid", path="/messages", count=3))
        store = MemoryStore()
        settings = replace(tenant_settings(emulator), dek_version=0)
        async with Atlas(settings, store=store, clock=FakeClock(autojump=True)) as atlas:
            (result,) = (await atlas.backup([USER])).mailboxes
            assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
            held = {
                r["object_id"] async for r in (await atlas.open_snapshot(None, USER)).messages()
            }
        assert chosen
        assert "h2" not in chosen
        truth = emulator.control.mailbox_truth(USER, content=False)
        inside = {f["id"] for f in truth["folders"] if f["belowRoot"]}
        assert held == {m["immutableId"] for m in truth["messages"] if m["folderId"] in inside}


async def test_c23_a_backup_deletes_nothing_and_a_204_with_a_body_does_no_harm() -> None:
    """A backup only reads, and a store's DELETE answered with a stray chunk spoils no connection."""
    async with open_case(ATTACHED) as case:
        await case.back_up_user()
        sent = {(s.method, s.path.endswith("$batch")) for s in case.emulator.log}
        assert sent <= {("GET", False), ("POST", True)}
    head = b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"
    stray, there = b"0\r\n\r\n", answer(200, ETag='"e"')
    # The stray chunk comes with the head, or late: in front of the next answer.
    async with canned_s3(head + stray, there, head, stray + there, there) as canned:
        clock = FakeClock(autojump=True)
        bare = S3Store(canned.settings, "bucket", connections=2, clock=SystemClock())
        store = RetryingStore(bare, RetryPolicy(2, 60.0), clock=clock)
        try:
            for _ in range(2):
                await store.delete("a")
                assert await store.head("a") is not None
        finally:
            await store.aclose()
        methods = [asked.method for asked in canned.asked]
        assert methods == ["DELETE", "HEAD", "DELETE", "HEAD", "HEAD"]


async def test_c24_a_request_tried_again_has_its_body_again() -> None:
    """A batch that failed is sent whole the second time, and so is a large object."""
    faults = [Fault(Failure.ANSWER_LOST, Op.PUT, "^attachments/", times=1)]

    def shaky(store: ObjectStore) -> ObjectStore:
        clock = FakeClock(autojump=True)
        return RetryingStore(
            FaultyStore(store, faults, clock=clock), RetryPolicy(3, 60.0), clock=clock
        )

    async with open_case(wrap=shaky) as case:
        for number in range(20):
            folder = case.mutate(op="folder-create", parent="inbox", name=f"Case {number}")["id"]
            case.mutate(op="folder-create", parent=folder, name="inner")
        large = {"name": "large.bin", "size": 2_500_000}
        case.mutate(op="create", folder="inbox", attachments=[large])
        case.fault(path=r"\$batch$", status=503, code="serviceNotAvailable", count=1)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        batches = [s.status for s in case.emulator.log if s.path.endswith("$batch")]
        assert batches[0] == 503
        assert set(batches[1:]) == {200}
        assert faults[0].hits == 1
        await case.exact()


async def test_c25_control_characters_are_read_and_written_as_json() -> None:
    """Raw control characters in an answer are taken, and what is stored parses strictly."""
    async with open_case() as case:
        case.fault(action="control", path="/messages/delta", count=3)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        odd = [r for r in (await case.records()).values() if "\x01\x0b\x1f" in r["subject"]]
        assert odd
        async with case.engine() as atlas:
            for record in odd:
                content = await atlas.read_message(record["object_id"], mailbox=USER)
                assert json.loads(content.plaintext)["subject"] == record["subject"]
            assert (await atlas.verify()).exit_code == 0


async def test_c26_inline_images_and_messages_without_a_body() -> None:
    """Images without hasAttachments are fetched; a body that is null is stored as null."""
    async with open_case(replace(PLAIN, inline_share=0.5)) as case:
        bare = case.mutate(op="create", folder="inbox", subject="bare")["immutableId"]
        case.mutate(op="update", message=bare, patch={"body": None})
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert result.attachments_stored
        async with case.engine() as atlas:
            assert (await atlas.read_message(bare, mailbox=USER)).resource["body"] is None
        await case.exact()


async def test_c27_one_unreadable_attachment_costs_itself() -> None:
    """Its message, its neighbours and the mailbox are stored; exit 3 names it until it comes."""
    async with open_case(limits=BRIEF) as case:
        case.switch(inline_limit=-1)
        files = [{"name": f"{number}.bin", "size": 2000, "seed": number} for number in range(3)]
        case.mutate(op="create", folder="inbox", subject="three", attachments=files)
        message = next(m for m in case.truth()["messages"] if m["subject"] == "three")
        bad = message["attachments"][1]["id"]
        case.fault(
            path=rf"attachments/{bad}/\$value",
            status=500,
            code="ErrorCannotOpenFileAttachment",
            message="OLE conversion failed.",
            count=-1,
        )
        for _ in range(2):
            result = await case.back_up_user()
            assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
            (entry,) = result.not_stored
            assert (entry.kind, entry.attachment_id, entry.name) == ("attachment", bad, "1.bin")
            held = (await case.records())[message["immutableId"]]["attachments"]
            assert [a["name"] for a in held] == ["0.bin", "2.bin"]
            case.next_day()
        case.heal()
        assert (await case.back_up_user()).outcome is Outcome.COMPLETE
        await case.exact()


async def test_c29_nested_messages_are_stored_to_the_bottom() -> None:
    """An attached message is stored as MIME with all that is attached inside it."""
    options = replace(PLAIN, messages=12, attachment_share=1.0, item_share=1.0, attachments_most=1)
    async with open_case(options) as case:
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        await case.exact()
        depths = set()
        for record in (await case.records()).values():
            (item,) = record["attachments"]
            key = f"attachments/{USER}/{item['checksum']}"
            mime = await case.vault().read_content(key, item["checksum"])
            parsed = email.message_from_bytes(mime, policy=email.policy.default)
            depths.add(_depth(parsed))
        assert depths == {1, 2, 3}


def _depth(message: EmailMessage) -> int:
    inner = [part.get_content() for part in message.iter_attachments()]
    return 1 + max((_depth(part) for part in inner if isinstance(part, EmailMessage)), default=0)


async def test_c30_s_mime_is_read_without_its_mime() -> None:
    """Encrypted mail, whose MIME Exchange cannot make, is stored by JSON and attachment."""
    async with open_case(replace(PLAIN, smime_share=1.0)) as case:
        case.fault(path=r"/messages/[^/]+/\$value$", status=500, code="x", count=-1)
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert result.throttled == 0
        assert not [p for p in case.asked("/$value") if "/attachments/" not in p]
        assert {a["name"] for r in (await case.records()).values() for a in r["attachments"]} == {
            "smime.p7m"
        }
        await case.exact()
        await assert_quiet(case)


@pytest.mark.parametrize("moment", ["messages/delta", "childFolders"])
async def test_c32_a_folder_deleted_while_it_is_read_costs_nothing_else(moment: str) -> None:
    """A folder that goes, with those below it, during listing or reading ends as gone."""
    async with open_case() as case:
        outer = case.mutate(op="folder-create", parent="inbox", name="Outer")["id"]
        inner = case.mutate(op="folder-create", parent=outer, name="Inner")["id"]
        case.mutate(op="bulk-create", folder=outer, count=3)
        case.mutate(op="bulk-create", folder=inner, count=3)
        case.meddle(
            f"{outer}/{moment}", lambda: case.mutate(op="folder-delete", folder=outer, hard=True)
        )
        result = await case.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0), result
        await case.exact()
        case.next_day()
        assert (await case.back_up_user()).exit_code == 0
        await case.exact()


async def test_c33_folders_of_one_name_stay_two() -> None:
    """Siblings with the same name are told apart by id, and well-known folders by their role."""
    async with open_case(replace(PLAIN, languages=("de",))) as case:
        twins = [
            case.mutate(op="folder-create", parent="inbox", name="Twin")["id"] for _ in range(2)
        ]
        for number, twin in enumerate(twins, 1):
            case.mutate(op="bulk-create", folder=twin, count=number)
        await case.back_up_user()
        folders = {f.folder.id: f for f in (await case.view()).folders}
        assert [folders[twin].message_count for twin in twins] == [1, 2]
        assert len({folders[twin].folder.path for twin in twins}) == 1
        roles = {f.folder.well_known_name: f.folder.name for f in folders.values()}
        assert roles["inbox"] == "Posteingang"
        await case.exact()


async def test_c34_no_folder_is_taken_for_another_by_its_name() -> None:
    """In a German mailbox a folder called Drafts is ordinary; leaving out drafts spares it."""
    async with open_case(replace(PLAIN, languages=("de",))) as case:
        decoy = case.mutate(op="folder-create", name="Drafts")["id"]
        case.mutate(op="bulk-create", folder=decoy, count=2)
        case.mutate(op="create", folder="drafts", isDraft=True, subject="Entwurf")
        chosen = FolderChoice(exclude_well_known=frozenset({"drafts"}))
        assert (await case.back_up_user(folders=chosen)).exit_code == 0
        held = {r["folder_id"] for r in (await case.records()).values()}
        assert decoy in held
        assert case.folder_id("drafts") not in held
        case.next_day()
        await case.back_up_user()
        await case.exact()


async def test_c35_empty_folders_are_kept_and_quiet_runs_write_nothing() -> None:
    """A folder without mail is in the snapshot; a run without changes leaves no object."""
    async with open_case() as case:
        empty = case.mutate(op="folder-create", parent="inbox", name="Empty")["id"]
        await case.back_up_user()
        shown = {f.folder.id: f.message_count for f in (await case.view()).folders}
        assert shown[empty] == 0
        before = dict(case.bucket.objects)
        for _ in range(3):
            await assert_quiet(case)
        assert case.bucket.objects == before
        assert len(case.keys("manifests/")) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "ErrorInvalidUser"),
        (404, "ResourceNotFound"),
        (404, "Request_ResourceNotFound"),
        (404, "MailboxNotEnabledForRESTAPI"),
        (403, "mailboxNotHostedInExchangeOnline"),
    ],
)
async def test_c36_no_mailbox_is_known_by_every_code(status: int, code: str) -> None:
    """Whatever code a datacenter uses for it: found by name it is missing, found by itself not."""
    async with open_case(replace(PLAIN, mailboxes=2, messages=3)) as case:
        case.fault(mailbox=USER, status=status, code=code, count=-1)
        report = await case.backup()
        outcomes = {m.mailbox_id: m.outcome for m in report.mailboxes}
        assert outcomes == {USER: Outcome.NO_MAILBOX, OTHER: Outcome.COMPLETE}
        assert report.exit_code == 0
        assert (await case.backup([USER, OTHER])).exit_code == 3
        case.heal()
        case.fault(path=r"^/v1.0/users/nobody@contoso.com$", status=status, code=code, count=-1)
        (unknown,) = (await case.backup(["nobody@contoso.com"])).mailboxes
        assert unknown.exit_code == 3
        assert unknown.outcome in {Outcome.NO_MAILBOX, Outcome.FAILED}


async def test_c37_an_invalid_reply_to_is_stored_as_it_is() -> None:
    """An address that no server would take again is kept letter by letter."""
    async with open_case() as case:
        wrong = [{"emailAddress": {"name": "Nobody, Ltd", "address": "not an address"}}]
        made = case.mutate(op="create", folder="inbox", replyTo=wrong)["immutableId"]
        assert (await case.back_up_user()).exit_code == 0
        async with case.engine() as atlas:
            content = await atlas.read_message(made, mailbox=USER)
        assert content.resource["replyTo"] == wrong
        await case.exact()


async def test_c38_the_archive_folder_is_covered() -> None:
    """The folder Archive is part of the mailbox; the page of cases says what of archives is not."""
    async with open_case() as case:
        case.mutate(op="bulk-create", folder="archive", count=3)
        await case.back_up_user()
        roles = {f.folder.well_known_name: f.message_count for f in (await case.view()).folders}
        assert roles["archive"] == len(case.messages_in("archive"))
        await case.exact()
    page = Path(__file__).parents[2] / "docs" / "known-cases.md"
    assert "in-place archive" in page.read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("directory", [True, False])
async def test_c39_odd_addresses_are_found_by_name_and_by_themselves(directory: bool) -> None:
    """Apostrophes and hashes in a user principal name lead to the right mailbox."""
    names = ("o'brien@contoso.com", "ann_partner.example#ext#@contoso.com", "50%+x@contoso.com")
    options = replace(PLAIN, mailboxes=3, messages=5, folders=1, addresses=names)
    async with open_case(options) as case:
        if not directory:  # then Graph takes the address itself for a key
            case.emulator.tenant.app.roles = ("Mail.Read",)
        report = await case.backup([name.upper() for name in names])
        assert (report.exit_code, len(report.mailboxes)) == (0, 3), report
        for name in names:
            await case.exact(mailbox=name)
        if directory:
            assert (await case.backup()).exit_code == 0
            paths = case.asked("/mailFolders")
            assert not [path for path in paths if "@" in path]


@pytest.mark.parametrize("code", ["AADSTS7000215", "AADSTS700016"])
async def test_c40_a_credential_put_right_works_at_once(code: str) -> None:
    """After a refusal, 401 or 400, the next run in the same process asks Entra ID anew."""
    async with open_case() as case:
        tenant = case.emulator.tenant
        app, secrets = tenant.app, tenant.app.secrets
        if code == "AADSTS7000215":
            app.secrets = [AppSecret("another")]
        else:  # a 400, which is what msal keeps
            del tenant.apps[tenant.client_id]
        async with case.engine() as atlas:
            with pytest.raises(AuthError) as caught:
                await atlas.backup([USER])
            assert code in str(caught.value)
            app.secrets = secrets
            tenant.apps[tenant.client_id] = app
            assert (await atlas.backup([USER])).exit_code == 0
        await case.exact()


async def test_c41_each_mailbox_is_its_own_job_and_nothing_is_too_small() -> None:
    """One failing mailbox costs itself, and attachments of no bytes are kept."""
    async with open_case(replace(PLAIN, mailboxes=3, messages=4)) as case:
        nothing = [{"name": "empty.txt", "size": 0}, {"name": "one.txt", "size": 1}]
        made = case.mutate(op="create", folder="inbox", attachments=nothing)["immutableId"]
        case.fault(mailbox=OTHER, status=403, code="ErrorAccessDenied", count=-1)
        report = await case.backup()
        outcomes = {m.mailbox_id: m.outcome for m in report.mailboxes}
        assert outcomes.pop(OTHER) is Outcome.FAILED
        assert set(outcomes.values()) == {Outcome.COMPLETE}
        assert report.exit_code == 3
        held = (await case.records())[made]["attachments"]
        assert [(a["name"], a["content_bytes"]) for a in held] == [
            ("empty.txt", 0),
            ("one.txt", 1),
        ]
        await case.exact()


async def test_c42_a_permission_that_is_not_yet_in_force_is_explained() -> None:
    """A 403 right after setup ends with 13 and says to wait; the run after it is complete."""
    async with open_case() as case:
        case.fault(mailbox=USER, status=403, code="ErrorAccessDenied", count=-1)
        report = await case.backup([USER])
        assert report.exit_code == 13
        assert "two hours" in report.mailboxes[0].hint
        case.heal()
        assert (await case.back_up_user()).outcome is Outcome.COMPLETE
        await case.exact()
