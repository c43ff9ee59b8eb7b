"""Faults that a restore meets: carried out and not told, permissions, quotas, things that vanish."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
import pytest

from atlas_async.emulator import Behaviour, Corpus, CorpusOptions, Emulator, FaultRule
from tests.fakes.clock import FakeClock
from tests.fakes.graph_probe import Answer, GraphProbe

ADDRESS = "user0000@contoso.com"
OTHER = "user0001@contoso.com"
USER = f"users/{ADDRESS}"
INBOX = f"{USER}/mailFolders/inbox/messages"
MARK = "<once@example.org>"


async def _post(probe: GraphProbe, path: str = INBOX) -> Answer:
    return await probe.send("POST", path, {"subject": "once", "internetMessageId": MARK})


async def _found(probe: GraphProbe) -> int:
    query = quote(f"internetMessageId eq '{MARK}'")
    answer = await probe.get(f"{USER}/messages?$filter={query}")
    return len(answer.body["value"])


@pytest.mark.parametrize("status", [503, 504])
@pytest.mark.parametrize(("commit", "there"), [("before", 1), ("never", 0)])
async def test_an_error_may_hide_that_a_post_was_carried_out(
    emulator: Emulator, probe: GraphProbe, status: int, commit: str, there: int
) -> None:
    """The same answer, and only looking tells whether the message is there."""
    emulator.control.add_fault(FaultRule(method="POST", status=status, commit=commit))

    answer = await _post(probe)

    assert (answer.status, answer.raw) == (status, b"")
    assert await _found(probe) == there


@pytest.mark.parametrize(("commit", "there"), [("before", 1), ("never", 0)])
async def test_a_reset_may_hide_that_a_post_was_carried_out(
    emulator: Emulator, probe: GraphProbe, commit: str, there: int
) -> None:
    """A connection cut before the answer tells nothing either."""
    emulator.control.add_fault(FaultRule(action="reset", method="POST", commit=commit))

    with pytest.raises(aiohttp.ClientError):
        await _post(probe)

    assert await _found(probe) == there


@pytest.mark.parametrize(("commit", "there"), [("before", 1), ("never", 0)])
async def test_an_answer_may_never_come(
    emulator: Emulator, probe: GraphProbe, commit: str, there: int
) -> None:
    """The client gives up; the request holds its place until then."""
    emulator.control.add_fault(FaultRule(action="silence", method="POST", commit=commit))

    async with anyio.create_task_group() as group:
        group.start_soon(_post, probe)
        while emulator.log.in_flight(ADDRESS) == 0:
            await anyio.sleep(0.01)
        held = emulator.log.in_flight(ADDRESS)
        found = await _found(probe)
        group.cancel_scope.cancel()
    while emulator.log.in_flight(ADDRESS):
        await anyio.sleep(0.01)

    assert (held, found) == (1, there)


async def test_a_post_may_be_carried_out_after_its_answer(corpus: Corpus) -> None:
    """Who looks too early finds nothing; later the message is there."""
    clock = FakeClock()
    async with Emulator(corpus, clock=clock) as emulator, GraphProbe(emulator) as probe:
        emulator.control.add_fault(
            FaultRule(method="POST", status=504, commit="later", commit_delay=5.0)
        )
        answer = await _post(probe)
        early = await _found(probe)
        clock.jump(5.0)
        late = await _found(probe)
        still = await _found(probe)

    assert answer.status == 504
    assert (early, late, still) == (0, 1, 1)


async def test_what_is_refused_is_not_carried_out(emulator: Emulator, probe: GraphProbe) -> None:
    """A fault hides a refusal as well as a success."""
    emulator.control.add_fault(FaultRule(method="POST", status=503, commit="before"))

    hidden = await probe.send("POST", INBOX, {"colour": "red"})
    open_ = await probe.send("POST", INBOX, {"colour": "red"})

    assert (hidden.status, open_.status) == (503, 400)


async def test_a_folder_whose_answer_was_lost_exists(emulator: Emulator, probe: GraphProbe) -> None:
    """Asked again, the folder is there already: 409."""
    emulator.control.add_fault(FaultRule(method="POST", status=503, commit="before"))
    values = {"displayName": "Restored"}

    first = await probe.send("POST", f"{USER}/mailFolders", values)
    second = await probe.send("POST", f"{USER}/mailFolders", values)

    assert (first.status, second.status) == (503, 409)
    assert second.code == "ErrorFolderExists"


async def test_unknown_commits_are_refused() -> None:
    """A rule says when in words that are known."""
    with pytest.raises(ValueError, match="commit"):
        FaultRule.from_json({"commit": "perhaps"})


async def test_a_message_just_created_may_not_be_found(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Attachments to each new message are 404 the first times, then taken."""
    emulator.control.configure(fresh_misses=2)
    part = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a", "contentBytes": "YQ=="}
    statuses = []
    for _ in range(2):
        path = f"{USER}/messages/{(await _post(probe)).body['id']}"
        statuses.append(
            [(await probe.send("POST", f"{path}/attachments", part)).status for _ in range(4)]
        )

    assert statuses == [[404, 404, 201, 201]] * 2


async def test_writes_into_a_full_mailbox_fail(emulator: Emulator, probe: GraphProbe) -> None:
    """Creating, copying, attaching and new folders are refused over quota; reading goes on."""
    made = (await _post(probe)).body
    path = f"{USER}/messages/{made['id']}"
    part = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a", "contentBytes": "YQ=="}
    large = {"AttachmentItem": {"attachmentType": "file", "name": "a", "size": 3_500_000}}
    emulator.control.over_quota(ADDRESS)

    refused = [
        await _post(probe),
        await probe.send("POST", f"{path}/copy", {"destinationId": "archive"}),
        await probe.send("POST", f"{path}/attachments", part),
        await probe.send("POST", f"{path}/attachments/createUploadSession", large),
        await probe.send("POST", f"{USER}/mailFolders", {"displayName": "x"}),
    ]
    read = await probe.get(path)
    moved = await probe.send("POST", f"{path}/move", {"destinationId": "archive"})

    assert {(a.status, a.code) for a in refused} == {(403, "ErrorQuotaExceeded")}
    assert (read.status, moved.status) == (200, 201)


async def test_reading_roles_do_not_write(emulator: Emulator) -> None:
    """Without Mail.ReadWrite reading works, and every write is 403."""
    emulator.tenant.app.roles = ("Mail.Read", "User.Read.All")
    async with GraphProbe(emulator) as probe:
        item = (await probe.get(f"{INBOX}?$top=1")).body["value"][0]
        path = f"{USER}/messages/{item['id']}"
        refused = [
            await _post(probe),
            await probe.send("PATCH", path, {"isRead": True}),
            await probe.send("DELETE", path),
            await probe.send("POST", f"{path}/move", {"destinationId": "archive"}),
            await probe.send("POST", f"{USER}/mailFolders", {"displayName": "x"}),
        ]

    assert {(a.status, a.code) for a in refused} == {(403, "ErrorAccessDenied")}


async def test_roles_may_be_scoped_to_mailboxes(emulator: Emulator) -> None:
    """A role granted by Exchange holds where it was granted, beside those of the token."""
    app = emulator.tenant.app
    app.roles = ("Mail.Read",)
    app.scoped = {ADDRESS: frozenset({"Mail.ReadWrite"})}
    async with GraphProbe(emulator) as probe:
        mine = await _post(probe)
        other = await _post(probe, INBOX.replace(ADDRESS, OTHER))
        read = await probe.get(INBOX.replace(ADDRESS, OTHER))

    assert (mine.status, other.status, read.status) == (201, 403, 200)


async def test_an_access_policy_closes_mailboxes(emulator: Emulator, probe: GraphProbe) -> None:
    """Mailboxes that the policy leaves out can be neither read nor written."""
    emulator.tenant.app.mailboxes = frozenset({OTHER})

    read, written = await probe.get(INBOX), await _post(probe)
    other = await _post(probe, INBOX.replace(ADDRESS, OTHER))

    assert {(a.status, a.code) for a in (read, written)} == {(403, "ErrorAccessDenied")}
    assert "RAOP" in read.body["error"]["message"]
    assert other.status == 201


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "ErrorIrresolvableConflict"),
        (412, "ErrorIrresolvableConflict"),
        (507, "ErrorQuotaExceeded"),
        (400, "ErrorMessageSizeExceeded"),
        (403, "ErrorSendAsDenied"),
    ],
)
async def test_documented_errors_come_in_the_midst(
    emulator: Emulator, probe: GraphProbe, status: int, code: str
) -> None:
    """A rule makes one write among others fail in any of the ways Graph is known to."""
    emulator.control.add_fault(FaultRule(method="POST", after=1, status=status, code=code))

    answers = [await _post(probe) for _ in range(3)]

    assert [answer.status for answer in answers] == [201, status, 201]
    assert answers[1].code == code


async def test_what_is_deleted_meanwhile_is_not_found(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """A restored message, or the folder it goes to, may be deleted by its user at any moment."""
    folder = await probe.send("POST", f"{USER}/mailFolders", {"displayName": "Target"})
    place = f"{USER}/mailFolders/{folder.body['id']}/messages"
    made = await _post(probe, place)
    emulator.control.mutate(ADDRESS, {"op": "delete", "message": made.body["id"], "hard": True})
    patched = await probe.send("PATCH", f"{USER}/messages/{made.body['id']}", {"isRead": True})
    emulator.control.mutate(
        ADDRESS, {"op": "folder-delete", "folder": folder.body["id"], "hard": True}
    )
    posted = await _post(probe, place)

    assert (patched.status, patched.code) == (404, "ErrorItemNotFound")
    assert (posted.status, posted.code) == (404, "ErrorItemNotFound")


async def test_a_batch_hides_what_was_carried_out(emulator: Emulator, probe: GraphProbe) -> None:
    """A step of a batch can fail although it was carried out."""
    emulator.control.add_fault(
        FaultRule(method="POST", path="/messages$", status=503, code="x", commit="before")
    )
    values = {"subject": "once", "internetMessageId": MARK}
    headers = {"Content-Type": "application/json"}
    step = {"id": "1", "method": "POST", "url": f"/{INBOX}", "body": values, "headers": headers}

    answer = await probe.send("POST", "$batch", {"requests": [step]})

    assert answer.body["responses"][0]["status"] == 503
    assert await _found(probe) == 1


async def test_two_tenants_do_not_know_each_other() -> None:
    """Two emulators in one process have their own tenants, tokens and mail."""
    here = Corpus(CorpusOptions(seed=1, domain="here.example", mailboxes=1, messages=5))
    there = Corpus(CorpusOptions(seed=2, domain="there.example", mailboxes=1, messages=5))
    async with (
        Emulator(here, behaviour=Behaviour()) as first,
        Emulator(there, behaviour=Behaviour()) as second,
        GraphProbe(first) as probe,
        GraphProbe(second) as other,
    ):
        path = "users/user0000@here.example/messages"
        own = await probe.get(path)
        foreign = await other.get(path)
        stolen = await other.send("GET", path, headers={"Authorization": f"Bearer {probe.token}"})
        tenants: list[Any] = [first.tenant.id, second.tenant.id]

    assert tenants[0] != tenants[1]
    assert (own.status, foreign.status, stolen.status) == (200, 404, 401)
