"""The known cases where a restore meets them: what Graph does to those who write.

``docs/known-cases.md`` describes the cases and maps each to its tests.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.model.restoring import Conflict, RestoreReport, Step
from atlas_async.operations.selection import Selection
from atlas_async.restore.run import WORKERS
from tests.fakes.rig import SMALL, USER
from tests.restore.scene import ROOT, Scene, created, held, linkless, mark_of, shape
from tests.torture.cases import PLAIN, Case, on_stage, open_case
from tests.torture.faults import before_graph
from tests.torture.front import Trouble

OTHER = "user0001@contoso.com"
FEW = replace(PLAIN, messages=14)
RICH = replace(SMALL, messages=16, attachment_share=0.7, item_share=0.3, recoverable_messages=0)
IN_THE_MIDDLE = 6
"""Messages that are created before something happens."""
MESSAGES = "/messages$"
PATIENT = replace(Limits(), retries=6)


def assert_as_it_was(report: RestoreReport) -> None:
    """Assert that a restore went well, and found what it made as it should be."""
    assert report.exit_code == 0, (report.error, report.failures, report.comparison)
    assert report.comparison is not None
    assert report.comparison.equal
    assert report.comparison.compared


def assert_once(scene: Scene, mailbox: str = USER) -> None:
    """Assert that nothing was made twice: every mark stands on one message."""
    marks = Counter(map(mark_of, scene.marked(mailbox)))
    assert marks
    assert set(marks.values()) == {1}


def act_in_the_middle(case: Case, act: Any, *, after: int = IN_THE_MIDDLE) -> None:
    """Call ``act`` when one more message is to be created."""
    case.interlude.acts.append(act)
    case.fault(method="POST", action="stall", path=MESSAGES, delay=1.0, after=after)


def fired(case: Case) -> list[int]:
    """Return how often each fault rule has fired."""
    return [rule["fired"] for rule in case.emulator.control.faults()]


def asked_to(case: Case, method: str, part: str) -> list[str]:
    """Return the paths of requests of one method that hold ``part``."""
    return [s.path for s in case.emulator.log if s.method == method and part in s.path]


def paths_of(case: Case, mailbox: str = USER) -> dict[tuple[str, ...], int]:
    """Return the folders of a mailbox as it is now, each with its messages' number."""
    truth = case.truth(mailbox)
    return {
        tuple(f["path"]): f["totalItemCount"]
        for f in truth["folders"]
        if f["belowRoot"] and not f["search"]
    }


@pytest.mark.parametrize("code", ["ErrorQuotaExceeded", "ERRORQUOTAEXCEEDED"])
async def test_c09_codes_of_refused_writes_are_compared_without_case(code: str) -> None:
    """A folder that is there already and a full mailbox are known however the code is written."""
    async with open_case(FEW) as case:
        scene = await on_stage(case)
        folder = {"method": "POST", "path": "childFolders$", "status": 400, "commit": "before"}
        case.fault(code="errorFOLDERexists", **folder)
        case.fault(method="POST", path=MESSAGES, status=403, code=code, after=IN_THE_MIDDLE)
        report = await scene.restore()
        assert (report.exit_code, "over its quota" in report.error) == (1, True)
        assert fired(case) == [1, 1]
        case.heal()
        assert_as_it_was(await scene.restore())
        scene.assert_whole()
        assert_once(scene)


async def test_c12_a_restore_into_a_full_mailbox_stops_and_says_so() -> None:
    """What was restored stays, nothing more is asked for, and the same restore continues later."""
    async with open_case() as case:
        scene = await on_stage(case)
        act_in_the_middle(case, lambda: case.emulator.control.over_quota(USER))
        report = await scene.restore()
        assert report.exit_code == 1
        assert "over its quota" in report.error
        assert not report.failures
        refused = [s for s in case.emulator.log if s.method == "POST" and s.status == 403]
        assert 1 <= len(refused) <= WORKERS
        kept = {m["immutableId"] for m in scene.marked()}
        assert IN_THE_MIDDLE - 1 <= len(kept) < scene.source().total()
        case.emulator.control.over_quota(USER, on=False)
        assert_as_it_was(await scene.restore())
        assert kept <= {m["immutableId"] for m in scene.marked()}
        scene.assert_whole()
        assert_once(scene)
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


@pytest.mark.parametrize(("status", "code"), [(429, 14), (503, 3)])
async def test_c19_a_long_retry_after_in_the_midst_of_a_restore_is_waited_out(
    status: int, code: int
) -> None:
    """Five minutes are waited; beyond the patience a 429 ends it, a 503 costs its message."""
    async with open_case(FEW) as case:
        scene = await on_stage(case)
        pause = {"method": "POST", "path": MESSAGES, "status": status, "after": IN_THE_MIDDLE}
        case.fault(code="x", retry_after="300", **pause)
        began = case.jumps.monotonic()
        assert_as_it_was(await scene.restore(root="One"))
        assert case.jumps.monotonic() - began >= 300.0
        scene.assert_whole(root="One")
        case.heal()
        case.fault(code="x", retry_after="90000", **pause)
        report = await scene.restore(root="Two")
        assert (report.exit_code, report.failed) == (code, int(status == 503))
        case.heal()
        case.jumps.jump(90_000.0)
        assert_as_it_was(await scene.restore(root="Two"))
        scene.assert_whole(root="Two")
        assert_once(scene)


async def test_c20_refused_tokens_are_replaced_while_writing() -> None:
    """A token revoked in the midst, and a burst of 401, cost neither a message nor a second one."""
    async with open_case(RICH) as case:
        scene = await on_stage(case)
        act_in_the_middle(case, case.emulator.control.revoke_tokens)
        burst = {"status": 401, "code": "InvalidAuthenticationToken"}
        case.fault(method="POST", path=MESSAGES, after=IN_THE_MIDDLE, count=5, **burst)
        case.fault(method="POST", path="/attachments$", count=2, **burst)
        assert_as_it_was(await scene.restore())
        assert case.emulator.log.statuses[401] >= 6
        scene.assert_whole()
        assert_once(scene)


async def test_c21_a_concurrency_limit_below_four_slows_a_restore_and_no_more() -> None:
    """MailboxConcurrency with fewer than four in flight is lived with; refusals are no failures."""
    async with open_case(RICH) as case:
        scene = await on_stage(case)
        case.switch(throttle=True, mailbox_concurrent=2, latency=0.002)
        report = await scene.restore()
        assert_as_it_was(report)
        assert report.throttled > 0
        assert case.emulator.log.statuses[429] > 0
        assert case.emulator.log.peaks[USER] <= 4
        scene.assert_whole()
        assert_once(scene)


@pytest.mark.parametrize("kind", ["stray", "late"])
async def test_c23_undo_deletes_and_a_stray_chunk_after_a_204_does_no_harm(kind: str) -> None:
    """Every DELETE of ``--undo`` is answered with a chunk too many, and all is taken back."""
    async with open_case(FEW) as case:
        scene = await on_stage(case)
        report = await scene.restore()
        assert_as_it_was(report)
        made = {m["immutableId"] for m in scene.marked()}
        async with before_graph(case) as front:
            front.troubles.append(Trouble(kind, method="DELETE"))
            undone = await scene.undo()
            assert front.fired >= created(report)
        assert (undone.exit_code, undone.failed, undone.folders_kept) == (0, 0, [])
        assert (undone.removed, undone.gone) == (created(report), 0)
        scene.assert_untouched()
        assert recoverable(case) == made  # a DELETE sent twice would have purged it


def recoverable(case: Case) -> set[str]:
    """Return the ids of the messages that lie where users recover deleted ones."""
    kept = case.messages_in("recoverableitemsdeletions")
    return {m["immutableId"] for m in kept if mark_of(m)}


LOST: dict[str, dict[str, Any]] = {
    "504": {"status": 504, "commit": "before"},
    "reset": {"action": "reset", "commit": "before"},
    "refused": {"status": 429, "code": "TooManyRequests", "retry_after": "5"},
}
"""Answers after which nobody knows whether a request was carried out, and one that says it was not."""
WRITES = {
    "folder": ("POST", "(mailFolders|childFolders)$"),
    "message": ("POST", MESSAGES),
    "attachment": ("POST", "/attachments$"),
    "session": ("POST", "/createUploadSession$"),
    "range": ("PUT", "/AttachmentSessions"),
}


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("answer", LOST)
async def test_c24_a_write_whose_answer_was_lost_is_not_made_twice(what: str, answer: str) -> None:
    """Carried out and answered with an error, or not at all: it is looked for before it is sent."""
    async with open_case(RICH, limits=PATIENT) as case:
        files = [{"name": f"{n}.bin", "size": size} for n, size in enumerate((4_100_000, 700))]
        case.mutate(op="create", folder="inbox", subject="large", attachments=files)
        scene = await on_stage(case)
        method, path = WRITES[what]
        case.fault(method=method, path=path, count=3, **LOST[answer])
        assert_as_it_was(await scene.restore())
        assert 1 <= fired(case)[0] <= 3
        scene.assert_whole()
        assert_once(scene)
        made = [tuple(f["path"]) for f in case.truth()["folders"] if f["path"][:1] == [ROOT]]
        assert len(made) == len(set(made))


async def test_c25_control_characters_are_written_and_where_refused_left_out() -> None:
    """They come back as they were; where a server refuses them they are taken out, and it is told."""
    async with open_case(PLAIN) as case:
        odd = case.mutate(op="create", folder="inbox", subject="a\x01\x0b\x1fb", body="c\x02d")
        scene = await on_stage(case)
        case.fault(action="control", method="POST", path=MESSAGES, count=-1)
        assert_as_it_was(await scene.restore())
        scene.assert_whole()
        case.heal()
        case.fault(method="POST", path=MESSAGES, status=400, code="BadRequest")
        chosen = Selection(mailbox=USER, messages=(odd["immutableId"],))
        report = await scene.restore(chosen, root="Plain")
        assert (report.exit_code, created(report)) == (0, 1)
        assert [a.text for a in report.adjustments] == ["control characters were taken out"]
        ((_, (subject, *_)),) = scene.restored(root="Plain")
        assert subject == "ab"


async def test_c28_attachments_refused_at_first_are_there_in_the_end() -> None:
    """A 404 just after the message was created is waited for; a 413 leads to an upload session."""
    async with open_case(FEW) as case:
        large = [
            {"name": f"{number}.bin", "size": 2_200_000, "seed": number} for number in range(3)
        ]
        case.mutate(op="create", folder="inbox", subject="large", attachments=large)
        scene = await on_stage(case)
        case.switch(fresh_misses=4, smallest_upload=1)
        case.fault(method="POST", path="/attachments$", status=413, code="x", after=5)
        assert_as_it_was(await scene.restore())
        assert fired(case) == [1]
        assert len(asked_to(case, "PUT", "/AttachmentSessions")) == 1
        missed = [s for s in case.emulator.log if s.method == "POST" and s.status == 404]
        assert len(missed) == 4
        scene.assert_whole()
        assert_once(scene)


async def test_c28_an_attachment_that_is_never_taken_costs_itself() -> None:
    """Beyond the tenant's limit its message is restored without it, and it is named, exit 3."""
    async with open_case(FEW) as case:
        files = [{"name": "huge.bin", "size": 3_500_000}, {"name": "little.txt", "size": 900}]
        made = case.mutate(op="create", folder="inbox", subject="huge", attachments=files)
        scene = await on_stage(case)
        case.switch(message_limit=2_000_000)
        report = await scene.restore()
        assert (report.exit_code, report.failed, report.incomplete) == (3, 0, 1)
        (lost,) = report.failures
        assert (lost.kind, lost.name, lost.object_id) == (
            "attachment",
            "huge.bin",
            made["immutableId"],
        )
        (back,) = [m for m in scene.marked() if m["subject"] == "huge"]
        assert [a["name"] for a in back["attachments"]] == ["little.txt"]
        case.switch(message_limit=0)
        assert_as_it_was(await scene.restore())
        scene.assert_whole()
        assert_once(scene)


def inside(parts: list[dict[str, Any]]) -> Any:
    """Return attachments with all that is attached inside them."""
    return sorted(
        (
            p["type"],
            p["sha256"] or "",
            str((p.get("item") or {}).get("subject")),
            tuple(inside(p.get("attachments", []))),
        )
        for p in parts
    )


def depth(parts: list[dict[str, Any]]) -> int:
    """Return how many messages lie in one another."""
    return max((1 + depth(p.get("attachments", [])) for p in parts if "item" in p), default=0)


async def test_c29_attached_messages_are_restored_to_the_innermost() -> None:
    """A message in a message in a message is there again, each with what is attached to it."""
    options = replace(PLAIN, messages=12, attachment_share=1.0, item_share=1.0, attachments_most=1)
    async with open_case(options) as case:
        scene = await on_stage(case)
        assert_as_it_was(await scene.restore())
        source = {m["internetMessageId"]: m["attachments"] for m in scene.before["messages"]}
        assert {depth(parts) for parts in source.values()} == {1, 2, 3}
        back = scene.marked()
        assert len(back) == len(source)
        for message in back:
            assert inside(message["attachments"]) == inside(source[message["internetMessageId"]])


async def test_c31_mime_that_is_taken_and_not_stored_is_noticed() -> None:
    """A 200 for large MIME creates nothing: such messages are restored without it, once."""
    async with open_case(FEW) as case:
        folder = case.mutate(op="folder-create", parent="inbox", name="Signed")["id"]
        for number in range(6):
            body = "<html><body>" + "word " * (5_000 if number % 2 else 5) + "</body></html>"
            case.mutate(op="create", folder=folder, subject=f"signed {number}", body=body)
        scene = await on_stage(case, mime=True)
        case.switch(silent_mime=10_000)
        chosen = Selection(mailbox=USER, folders=("Inbox/Signed",))
        report = await scene.restore(chosen, originals=True)
        assert_as_it_was(report)
        statuses = [s.status for s in case.emulator.log if s.method == "POST" and folder_post(s)]
        assert Counter(statuses) == {200: 3, 201: 6}
        assert created(report) == 6
        assert_once(scene)
        drafts = {m["subject"]: m["isDraft"] for m in scene.marked()}
        assert drafts == {f"signed {number}": number % 2 == 0 for number in range(6)}


def folder_post(served: Any) -> bool:
    """Tell whether a request was to create a message in a folder."""
    return re.search(f"/mailFolders/[^/]+{MESSAGES}", served.path) is not None


async def test_c33_twins_and_translated_folders_are_restored_apart() -> None:
    """In place ids decide, elsewhere siblings are numbered; an inbox stays an inbox."""
    async with open_case(replace(FEW, mailboxes=2, languages=("de", "fi"))) as case:
        twins = [
            case.mutate(op="folder-create", parent="inbox", name="Twin")["id"] for _ in range(2)
        ]
        for number, twin in enumerate(twins, 1):
            case.mutate(op="bulk-create", folder=twin, count=number, subject="twin")
        scene = await on_stage(case)
        gone = [m for m in case.truth()["messages"] if m["folderId"] in twins]
        for message in [*gone, *case.messages_in("inbox")]:
            case.mutate(op="delete", message=message["immutableId"], hard=True)
        assert_as_it_was(await scene.restore(in_place=True))
        assert linkless(held(case.truth(), ())) == linkless(scene.source())
        counts = {f["id"]: f["totalItemCount"] for f in case.truth()["folders"]}
        assert [counts[twin] for twin in twins] == [1, 2]
        await scene.restore()
        below = {p[1:]: n for p, n in paths_of(case).items() if p[:1] == (ROOT,)}
        assert below["Posteingang", "Twin"] + below["Posteingang", "Twin (2)"] == 3
        finnish = paths_of(case, OTHER)
        await scene.restore(to=OTHER, in_place=True, conflict=Conflict.COPY)
        assert ("Posteingang",) not in paths_of(case, OTHER)
        more = paths_of(case, OTHER)["Saapuneet",] - finnish["Saapuneet",]
        assert more == paths_of(case)["Posteingang",]


async def test_c34_no_mail_is_restored_into_a_folder_for_its_name() -> None:
    """In a German mailbox drafts go to Entwürfe, and what was in a folder called Drafts there."""
    async with open_case(replace(FEW, languages=("de",))) as case:
        decoy = case.mutate(op="folder-create", name="Drafts")["id"]
        case.mutate(op="bulk-create", folder=decoy, count=2, subject="no draft")
        case.mutate(op="create", folder="drafts", isDraft=True, subject="Entwurf")
        scene = await on_stage(case)
        for message in case.truth()["messages"]:
            if message["folderId"] in {decoy, case.folder_id("drafts")}:
                case.mutate(op="delete", message=message["immutableId"], hard=True)
        before = paths_of(case)
        assert_as_it_was(await scene.restore(in_place=True))
        assert paths_of(case).keys() == before.keys()
        assert linkless(held(case.truth(), ())) == linkless(scene.source())


async def test_c37_an_invalid_reply_to_is_left_out_and_told() -> None:
    """Its message is restored with the addresses that Graph takes, and the others are listed."""
    async with open_case(FEW) as case:
        good = {"emailAddress": {"name": "Ann", "address": "ann@partner.example"}}
        wrong = {"emailAddress": {"name": "Nobody, Ltd", "address": "not an address"}}
        made = case.mutate(op="create", folder="inbox", subject="odd", replyTo=[wrong, good])
        scene = await on_stage(case)
        report = await scene.restore()
        assert_as_it_was(report)
        told = [a.text for a in report.adjustments if a.object_id == made["immutableId"]]
        assert told == ["replyTo: 'not an address' is no address: left out"]
        (back,) = [m for m in scene.marked() if m["subject"] == "odd"]
        assert [r["emailAddress"]["address"] for r in back["replyTo"]] == ["ann@partner.example"]
        assert not [s for s in case.emulator.log if s.method == "POST" and s.status == 400]


async def test_c42_a_permission_to_write_that_is_not_yet_in_force_is_explained() -> None:
    """Exit 13 names Mail.ReadWrite and says to wait, nothing is created, and later it works."""
    async with open_case(FEW) as case:
        scene = await on_stage(case)
        app = case.emulator.tenant.app
        roles, app.roles = app.roles, ("Mail.Read", "User.Read.All")
        report = await scene.restore()
        assert report.exit_code == 13
        assert "Mail.ReadWrite" in report.hint
        assert "two hours" in report.hint
        writes = [s for s in case.emulator.log if "/users/" in s.path and s.method != "GET"]
        assert [s.status for s in writes] == [403]
        scene.assert_untouched()
        app.roles = roles
        assert_as_it_was(await scene.restore())
        scene.assert_whole()
        assert_once(scene)


async def test_d10_the_newest_snapshot_restored_has_nothing_deleted_and_nothing_twice() -> None:
    """After deletions, moves and a deleted folder it is the mailbox of now, and day one that of then."""
    async with open_case() as case:
        day_one = await on_stage(case)
        snapshot = (await case.view()).summary.snapshot_id
        case.next_day()
        case.mutate(op="bulk-delete", folder="inbox", count=5, hard=True)
        case.mutate(op="bulk-move", folder="inbox", to="archive", count=3)
        folder = next(
            f["id"]
            for f in case.truth()["folders"]
            if f["belowRoot"] and not f["wellKnownName"] and f["totalItemCount"]
        )
        case.mutate(op="folder-delete", folder=folder, hard=True)
        newest = await on_stage(case)
        assert newest.source().total() < day_one.source().total()
        assert created(await newest.restore(in_place=True)) == 0
        newest.assert_untouched()
        assert_as_it_was(await newest.restore(root="Newest"))
        newest.assert_whole(root="Newest")
        then = Selection(mailbox=USER, snapshot=snapshot)
        assert_as_it_was(await newest.restore(then, root="Day one"))
        day_one.assert_whole(root="Day one")


async def test_d11_an_incremental_snapshot_is_restored_whole() -> None:
    """A run that saw three changes leaves a snapshot from which every message comes back."""
    async with open_case() as case:
        await case.back_up_user()
        case.next_day()
        case.mutate(op="bulk-create", folder="inbox", count=3)
        scene = await on_stage(case)
        report = await scene.restore()
        assert_as_it_was(report)
        assert created(report) == len(case.reachable()) - created(report) > 3
        scene.assert_whole()


async def test_d12_folders_are_restored_by_their_names_of_the_day() -> None:
    """A folder renamed, then deleted, comes back with the name and place of each snapshot."""
    async with open_case(FEW) as case:
        outer = case.mutate(op="folder-create", parent="inbox", name="Projects")["id"]
        inner = case.mutate(op="folder-create", parent=outer, name="North")["id"]
        case.mutate(op="create", folder=inner, subject="in the north")
        snapshots = [(await case.back_up_user()).snapshot_id]
        case.next_day()
        case.mutate(op="folder-rename", folder=outer, name="Done")
        snapshots.append((await case.back_up_user()).snapshot_id)
        case.next_day()
        case.mutate(op="folder-delete", folder=outer, hard=True)
        scene = await on_stage(case)
        for snapshot, name in zip(snapshots, ("Projects", "Done"), strict=True):
            chosen = Selection(mailbox=USER, snapshot=snapshot, folders=(f"Inbox/{name}",))
            report = await scene.restore(chosen, in_place=True)
            assert (report.exit_code, created(report)) == (0, 1)
            assert paths_of(case)["Inbox", name, "North"] == 1
            assert (await scene.undo()).exit_code == 0
            assert shape(case.truth())["folders"] == shape(scene.before)["folders"]
        report = await scene.restore(in_place=True)
        assert (created(report), report.total(Step.SKIP)) == (0, scene.source().total())
