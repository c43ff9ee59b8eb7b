"""A Graph that sends its client elsewhere, or answers with anything but what Graph answers.

A token reaches one origin only, and a client secret the authority only; what is odd in one answer
costs what was asked for, with an error of ours (I4).
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from atlas_async.cli.documents import message_document
from atlas_async.cli.message_output import message_text, read_document
from atlas_async.cli.progress_lines import json_line
from atlas_async.config.settings import Limits
from atlas_async.emulator import FaultRule
from atlas_async.errors import AuthError, GraphError, GraphProtocolError
from atlas_async.graph import GraphTenant
from atlas_async.graph.client import MOST_UNLEASED
from atlas_async.model.report import Outcome
from atlas_async.model.source import EnumerationMode, Principal
from atlas_async.operations.reading import read_message
from atlas_async.operations.verification import verify
from tests.fakes.clock import FakeClock
from tests.fakes.graph_server import SECRET, USER, Answer, GraphServer, Ledger, reply, tenant_of
from tests.fakes.rig import SMALL, open_rig
from tests.torture.elsewhere import Elsewhere, open_elsewhere
from tests.torture.hostile_bucket import HostileBucket
from tests.torture.mutants import document_mutants, error_of, some_mutants

Call = Callable[[GraphTenant], Awaitable[Any]]


@pytest.fixture
async def elsewhere(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Elsewhere]:
    """Listen where nothing may arrive."""
    async with open_elsewhere(monkeypatch) as opened:
        yield opened


class OneAnswer(GraphServer):
    """Answers every request to Graph alike, and notes the paths."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    async def _graph(self, request: web.Request) -> web.StreamResponse:
        self.refused_tokens.discard("")
        return await self.answer(request)


async def _list(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _content(tenant: GraphTenant) -> bytes:
    async with tenant.mailbox(USER).open_attachment("M", "A") as stream:
        return b"".join([piece async for piece in stream])


async def _mime(tenant: GraphTenant) -> bytes:
    async with tenant.mailbox(USER).open_mime("M") as stream:
        return b"".join([piece async for piece in stream])


CALLS: dict[str, Call] = {
    "users": lambda tenant: _list(tenant.discover()),
    "user": lambda tenant: tenant.principal("ada@example.test"),
    "folders": lambda tenant: tenant.mailbox(USER).list_folders(recoverable=True),
    "tree": lambda tenant: tenant.mailbox(USER).folder_changes(None),
    "page": lambda tenant: tenant.mailbox(USER).message_page(
        "F", mode=EnumerationMode.DELTA, link=None, page_size=10, lease=Ledger()
    ),
    "listing": lambda tenant: tenant.mailbox(USER).message_page(
        "F", mode=EnumerationMode.LISTING, link=None, page_size=10, lease=Ledger()
    ),
    "ids": lambda tenant: _list(tenant.mailbox(USER).message_ids("F")),
    "message": lambda tenant: tenant.mailbox(USER).get_message("M", lease=Ledger()),
    "place": lambda tenant: tenant.mailbox(USER).locate_message("M"),
    "attachments": lambda tenant: tenant.mailbox(USER).list_attachments(
        "M", inline_limit=1 << 20, lease=Ledger()
    ),
    "content": _content,
    "mime": _mime,
}
LEASED = {"page", "listing", "message", "attachments", "content", "mime"}
"""Calls whose answers are mail, and accounted for."""

# -- redirects --------------------------------------------------------------------------------

HASTY = Limits(retries=0)
"""One try each: how often is another test's."""
REDIRECTS = (301, 302, 303, 307, 308)
PLACES = (
    "http://127.0.0.1:{port}/v1.0/users",
    "https://127.0.0.1:{port}/v1.0/users",
    "http://graph.microsoft.com.evil.test/v1.0/users",
    "//evil.test/v1.0/users",
    "/v1.0/elsewhere",
    "users",
    "http://127.0.0.1@evil.test/",
    "\\\\evil.test\\",
    "",
)


@pytest.mark.parametrize("call", CALLS)
async def test_a_redirect_is_never_followed(call: str, elsewhere: Elsewhere) -> None:
    """Of no status, to no place, for no request: it fails, and says that it was a redirect."""
    server = OneAnswer(reply({}))
    async with server, tenant_of(server, limits=HASTY) as t:
        for number, place in enumerate(PLACES):
            headers = {"Location": place.format(port=elsewhere.port)}
            server.answer = reply(None, REDIRECTS[number % len(REDIRECTS)], headers)
            with pytest.raises(GraphProtocolError, match="redirect") as caught:
                await CALLS[call](t)
            assert caught.value.hint
            assert "evil" not in str(caught.value)
    elsewhere.assert_untouched()


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_stays_one_however_often_it_is_tried(
    status: int, elsewhere: Elsewhere
) -> None:
    """It may be a sign-in page that passes, so it is tried again; never there, always here."""
    headers = {"Location": f"http://127.0.0.1:{elsewhere.port}/v1.0/users"}
    server = OneAnswer(reply(None, status, headers))
    async with server, tenant_of(server) as t:
        with pytest.raises(GraphProtocolError, match="redirect"):
            await CALLS["user"](t)
        server.answer = reply(PERSON)
        assert (await CALLS["user"](t)).user_id == "u1"
    elsewhere.assert_untouched()


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_a_location_beside_an_answer_is_not_looked_at(
    status: int, elsewhere: Elsewhere
) -> None:
    """``Location`` and its like mean something in a redirect only."""
    place = f"http://127.0.0.1:{elsewhere.port}/"
    headers = {"Location": place, "Content-Location": place, "Refresh": f"0; url={place}"}
    headers["Operation-Location"] = place
    async with OneAnswer(reply({"value": []}, status, headers)) as server, tenant_of(server) as t:
        for call in CALLS.values():
            await error_of(call(t))
    elsewhere.assert_untouched()


async def test_a_folder_that_redirects_costs_that_folder(elsewhere: Elsewhere) -> None:
    """One folder's delta leads elsewhere: the others are stored, it is in the ledger, exit 3."""
    async with open_rig(SMALL, clock=FakeClock(autojump=True)) as rig:
        inbox = rig.folder_id("inbox")
        place = f"http://127.0.0.1:{elsewhere.port}/"
        rig.emulator.control.add_fault(
            FaultRule(action="redirect", path=f"/{inbox}/messages", location=place, count=-1)
        )
        result = await rig.back_up_user()
        assert (result.outcome, result.exit_code) == (Outcome.PARTIAL, 3)
        assert [(e.kind, e.object_id) for e in result.not_stored] == [("folder", inbox)]
        assert "redirect" in result.not_stored[0].reason
        assert result.stored
        rig.emulator.control.clear_faults()
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth(), content=False)
    elsewhere.assert_untouched()


# -- links ------------------------------------------------------------------------------------

REFUSED = "leads to another host|link of Microsoft Graph is malformed"
FOREIGN = (
    "https://evil.test/v1.0/users?$skiptoken=1",
    "http://evil.test/v1.0/users",
    "https://graph.microsoft.com@evil.test/v1.0/users",
    "http://127.0.0.1@evil.test/v1.0/users",
    "http://127.0.0.1:{own}@evil.test/v1.0/users",
    "http://evil.test#@127.0.0.1:{own}/v1.0/users",
    "http://evil.test\\@127.0.0.1:{own}/v1.0/users",
    "http://127.0.0.1:{own}.evil.test/v1.0/users",
    "http://127.0.0.1.evil.test:{own}/v1.0/users",
    "https://graph.microsoft.com.evil.test/v1.0/users",
    "https://graph.microsoft.com./v1.0/users",
    "https://graph-microsoft.com/v1.0/users",
    "https://gr\u0430ph.microsoft.com/v1.0/users",
    "https://xn--grph-43d.microsoft.com/v1.0/users",
    "https://graph\u3002microsoft\u3002com/v1.0/users",
    "https://graph.microsoft.com:8443/v1.0/users",
    "http://graph.microsoft.com/v1.0/users",
    "//evil.test/v1.0/users",
    "///evil.test/v1.0/users",
    "/v1.0/users",
    "users?$skiptoken=1",
    "?$skiptoken=1",
    "https:evil.test",
    "https:///evil.test/",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "data:application/json,{{}}",
    "http://[::ffff:10.0.0.1]/v1.0/users",
    "http://0x7f000001/v1.0/users",
    "http://evil.test%2f@127.0.0.1/v1.0/users",
    "http://127.0.0.1:{own}/v1.0/\r\nHost: evil.test",
    "http://127.0.0.1:{own}\t.evil.test/v1.0/users",
    " http://evil.test/",
    "\x00http://evil.test/",
    "http://" + "a" * 70_000,
    "\ud800",
)


@pytest.mark.parametrize("name", ["@odata.nextLink", "@odata.deltaLink"])
@pytest.mark.parametrize("call", ["users", "tree", "page", "ids", "attachments"])
async def test_a_link_that_leads_elsewhere(call: str, name: str, elsewhere: Elsewhere) -> None:
    """It is refused where it would be followed, and only the configured origin ever hears."""
    server = OneAnswer(reply({}))
    async with server, tenant_of(server, limits=HASTY) as t:
        own = server.url.rpartition(":")[2]
        for link in FOREIGN:
            body = {"id": "R", "value": [{"id": "X"}], name: link.format(own=own)}
            server.answer = reply(json.dumps(body).encode())
            if call in {"page", "tree"}:
                await _refuses_to_go_on(t, call)
            elif name == "@odata.nextLink":
                with pytest.raises(GraphProtocolError, match=REFUSED):
                    await CALLS[call](t)
            else:
                await CALLS[call](t)
    elsewhere.assert_untouched()


async def _refuses_to_go_on(tenant: GraphTenant, call: str) -> None:
    """Take a link from an answer, at once or from where it was kept, and have it refused."""
    mailbox = tenant.mailbox(USER)
    if call == "tree":
        first = await error_of(mailbox.folder_changes(None))
        if first is None:
            changes = await mailbox.folder_changes(None)
            first = await error_of(mailbox.folder_changes(changes.link))
        assert isinstance(first, GraphProtocolError)
        assert re.search(REFUSED, str(first))
        return
    page = await CALLS[call](tenant)
    link = page.next_link or page.delta_link
    assert link
    with pytest.raises(GraphProtocolError, match=REFUSED):
        await mailbox.message_page(
            "F", mode=EnumerationMode.DELTA, link=link, page_size=10, lease=Ledger()
        )


async def test_links_of_this_machine_stay_with_the_configured_port(elsewhere: Elsewhere) -> None:
    """A link to another port of the loopback is moved to the configured one, never followed."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = {"value": [{"id": f"X{len(asked)}"}]}
        asked.append(request.raw_path)
        last = len(asked) > 1
        link = {} if last else {"@odata.nextLink": f"http://localhost:{elsewhere.port}/v1.0/next"}
        return web.json_response(body | link)

    async with OneAnswer(answer) as server, tenant_of(server) as t:
        assert len(await CALLS["users"](t)) == 2
    assert asked[1] == "/v1.0/next"
    elsewhere.assert_untouched()


async def test_a_mailbox_whose_links_lead_elsewhere(elsewhere: Elsewhere) -> None:
    """No page can be followed by the next: messages are read one by one, and the run says so."""
    limits = Limits(retries=1, page_size=3)
    async with open_rig(SMALL, clock=FakeClock(autojump=True), limits=limits) as rig:
        rig.emulator.control.configure(foreign_links="https://evil.test")
        for _ in range(2):
            result = await rig.back_up_user()
            assert any("message by message" in notice for notice in result.notices)
            await rig.assert_exact(await rig.view(), rig.truth(), content=False)
            rig.mutate(op="create", folder="inbox", subject="new")
        rig.emulator.control.configure(foreign_links="")
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth(), content=False)
    elsewhere.assert_untouched()


# -- tokens -----------------------------------------------------------------------------------


class HostileAuthority(GraphServer):
    """An authority whose metadata or tokens are what a test says."""

    def __init__(self, metadata: Callable[[str], dict[str, Any]] | None = None) -> None:
        super().__init__()
        self.metadata = metadata
        self.redirect: tuple[int, str] | None = None

    def _openid(self, tenant: str) -> dict[str, str]:
        return super()._openid(tenant) | (self.metadata(self.url) if self.metadata else {})

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self.redirect is not None and request.raw_path.endswith("openid-configuration"):
            status, place = self.redirect
            return web.Response(status=status, headers={"Location": place})
        return await super()._serve(request)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["metadata", "token"])
async def test_a_token_endpoint_that_redirects(
    status: int, where: str, elsewhere: Elsewhere
) -> None:
    """The client secret stays: a redirect of the authority is not followed."""
    place = f"http://127.0.0.1:{elsewhere.port}/t"
    async with HostileAuthority() as server:
        if where == "metadata":
            server.redirect = status, place
        else:
            server.token_answers = [reply(None, status, {"Location": place})] * 20
        async with tenant_of(server) as t:
            with pytest.raises((GraphError, AuthError)) as caught:
                await t.check()
        assert "redirect" in str(caught.value)
        assert SECRET not in f"{caught.value} {caught.value.hint}"
    elsewhere.assert_untouched()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://evil.test/t",
        "https://127.0.0.1:{port}/t",
        "https://user:pw@evil.test/t",
        "{own}@evil.test/t",
        "{own}.evil.test/t",
        "{secure}@evil.test/t",
        "{secure}0@evil.test/t",
        "https://login.microsoftonline.com/t",
        "https://evil.test\\@127.0.0.1/t",
        "https://[::1/t",
        "//evil.test/t",
        ["https://evil.test/t"],
        {"a": 1},
        7,
        None,
        "",
    ],
    ids=str,
)
async def test_metadata_that_name_another_endpoint(endpoint: Any, elsewhere: Elsewhere) -> None:
    """The secret, which msal posts wherever the metadata say, goes to the authority alone.

    Not even a connection is opened to that place.
    """

    def metadata(own: str) -> dict[str, Any]:
        if not isinstance(endpoint, str):
            return {"token_endpoint": endpoint}
        secure = own.replace("http:", "https:")
        return {"token_endpoint": endpoint.format(port=elsewhere.port, own=own, secure=secure)}

    async with HostileAuthority(metadata) as server:
        async with tenant_of(server) as t:
            with pytest.raises((AuthError, GraphError)) as caught:
                await t.check()
        assert server.token_requests == []
        assert SECRET not in f"{caught.value} {caught.value.hint}"
    elsewhere.assert_untouched()


async def test_a_token_that_is_none() -> None:
    """Whatever the token endpoint answers is a token that a header can hold, or an error of ours."""
    good = {"token_type": "Bearer", "expires_in": 3600, "access_token": "head.e30.tail"}
    odd = [mutant for _, mutant in document_mutants(good)]
    odd += [[], 7, "x", None, {"access_token": "a b"}, {"access_token": "a\r\nX: y"}]
    odd += [{**good, "access_token": f"h.{'W' * 40_000}.t"}, {"error": 7}, {"error": []}]
    odd += [{"error": "x", "error_description": []}, {"error": {"code": 1}}]
    for answer in odd:
        async with GraphServer() as server:
            server.token_answers = [reply(json.dumps(answer).encode())] * 20
            async with tenant_of(server) as t:
                error = await error_of(t.check())
                assert error is None or isinstance(error, AuthError | GraphError), answer


# -- odd JSON ---------------------------------------------------------------------------------

PERSON = {"id": "u1", "userPrincipalName": "A@x.test", "mail": "a@x.test", "displayName": "A"}
PERSON |= {"userType": "Member", "accountEnabled": True}  # type: ignore[dict-item]
FOLDER = {"id": "F1", "displayName": "Inbox", "parentFolderId": "R", "childFolderCount": 0}
FOLDER |= {"totalItemCount": 3, "isHidden": False, "@odata.type": "#microsoft.graph.mailFolder"}
FILE = {"id": "A1", "@odata.type": "#microsoft.graph.fileAttachment", "name": "n", "size": 3}
FILE |= {"contentType": "t", "isInline": False, "contentId": "c", "contentBytes": "YWJj"}
FILE |= {"lastModifiedDateTime": "2026-01-01T00:00:00Z"}
LINK = {"id": "A2", "@odata.type": "#microsoft.graph.referenceAttachment", "name": "l"}

SAMPLES: dict[str, Any] = {
    "users": {"value": [PERSON], "@odata.nextLink": ""},
    "user": PERSON,
    "folders": {"id": "R", "value": [FOLDER], "totalItemCount": 2, "@odata.deltaLink": ""},
    "tree": {"value": [FOLDER, {"id": "F2", "@removed": {"reason": "deleted"}}]},
    "page": {"value": [{"id": "M1", "body": {}}, {"id": "M2", "@removed": {"reason": "x"}}]},
    "ids": {"value": [{"id": "M1"}]},
    "message": {"id": "M1", "parentFolderId": "F1"},
    "place": {"id": "M1", "parentFolderId": "F1"},
    "attachments": {"value": [FILE, LINK]},
}


@pytest.mark.parametrize("call", SAMPLES)
async def test_a_value_of_another_type_in_any_field(call: str) -> None:
    """Every field that is read may be of any type: the call gives a value or an error of ours."""
    server = OneAnswer(reply({}))
    async with server, tenant_of(server, limits=HASTY) as t:
        for _, mutant in some_mutants(SAMPLES[call], 80, seed=7):
            server.answer = reply(json.dumps(mutant).encode())
            error = await error_of(_checked(CALLS[call](t)))
            assert error is None or error.message


async def _checked(call: Awaitable[Any]) -> None:
    """Await a call; of users that it gives, ids and addresses can be used as such."""
    found = await call
    for item in found if isinstance(found, list) else [found]:
        if isinstance(item, Principal):
            assert isinstance(item.user_id, str)
            assert item.user_id
            assert item.address


DEEP = b'{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
STRANGE = (
    b"",
    b"[]",
    b"null",
    b"7",
    b'"x"',
    b'{"value":{}}',
    b'{"value":[1]}',
    b'{"value":[{"id":"a","id":7}]}',
    b'{"value":[],"value":7}',
    b'{"value":[{"id":"M1","n":' + b"9" * 6_000 + b"}]}",
    b'{"value":[{"id":"M1","n":1e999999}]}',
    b'{"value":[{"id":"\\ud800"}]}',
    b'{"value":[{"id":"' + b"a" * 20_000 + b'"}]}',
    b'{"value":[{"id":"M1"}],"@odata.nextLink":7}',
    b'\xef\xbb\xbf{"value":[]}',
    '{"value":[]}'.encode("utf-16"),
    b'{"value":[{"id":"M1\x00"}]}',
    b'{"value":[{"id":"M1"}]}{"value":[]}',
    b'{"value":[NaN]}',
    DEEP,
    DEEP[: len(DEEP) // 2],
    b"\xff" * 1_000,
    b"<html>sign in</html>",
)


@pytest.mark.parametrize("call", sorted(CALLS.keys() - {"content", "mime"}))
async def test_json_as_nobody_should_write_it(call: str) -> None:
    """Deep nesting, huge numbers, repeated names, other encodings: a value or an error of ours."""
    server = OneAnswer(reply({}))
    async with server, tenant_of(server, limits=HASTY) as t:
        for body in STRANGE:
            server.answer = reply(body)
            error = await error_of(CALLS[call](t))
            assert len(str(error)) < 2_000


@pytest.mark.parametrize("call", sorted(CALLS.keys() - LEASED))
async def test_an_answer_that_nothing_accounts_for_is_bounded(call: str) -> None:
    """Lists of names and numbers are given up long before they fill the memory (I5)."""
    bomb = gzip.compress(b" " * (MOST_UNLEASED + (1 << 20)) + b'{"value":[]}', 1)
    assert len(bomb) < MOST_UNLEASED // 100
    server = OneAnswer(reply(bomb, headers={"Content-Encoding": "gzip"}))
    async with server, tenant_of(server) as t:
        with pytest.raises(GraphError) as caught:
            await CALLS[call](t)
        assert f"more than {MOST_UNLEASED} bytes" in str(caught.value)


# -- odd mail ---------------------------------------------------------------------------------

PERSONS = {"emailAddress": {"name": "n", "address": "a@b.test"}}
LETTER: dict[str, Any] = {
    "subject": "s",
    "body": {"contentType": "html", "content": "<p>x</p>"},
    "bodyPreview": "p",
    "from": PERSONS,
    "sender": PERSONS,
    "toRecipients": [PERSONS],
    "receivedDateTime": "2026-01-01T00:00:00Z",
    "sentDateTime": "2026-01-01T00:00:00Z",
    "lastModifiedDateTime": "2026-01-01T00:00:00Z",
    "importance": "normal",
    "isRead": True,
    "isDraft": False,
    "hasAttachments": False,
    "internetMessageId": "<x>",
    "conversationId": "c",
    "flag": {"flagStatus": "flagged", "dueDateTime": {"dateTime": "x", "timeZone": "UTC"}},
    "categories": ["Blue"],
    "changeKey": "ck",
    "@odata.etag": "W/1",
}


def nested(depth: int) -> list[Any]:
    """Return lists in lists."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


async def test_a_message_of_any_form_costs_itself_at_most() -> None:
    """Each is stored as it came, or in the ledger, and can be shown; no other is touched (I3, I4).

    Of hundreds of messages each has another field that is gone or of another type.
    """
    bucket = HostileBucket()
    world = bucket.anna
    mailbox = world.mailbox
    plain = mailbox.add(world.inbox)
    names: dict[str, str] = {}
    for name, mutant in some_mutants(LETTER, 200, seed=3):
        message_id = mailbox.add(world.inbox)
        kept = {k: v for k, v in mailbox.messages[message_id].items() if k not in LETTER}
        mailbox.messages[message_id] = kept | mutant | {"id": message_id}
        names[message_id] = name
    strange = mailbox.add(world.inbox)
    mailbox.messages["\ud800\x00 id"] = mailbox.messages.pop(strange) | {"id": "\ud800\x00 id"}
    mailbox.folders[world.inbox].log[-1] = (
        *mailbox.folders[world.inbox].log[-1][:1],
        "\ud800\x00 id",
        True,
    )
    deep = mailbox.add(world.inbox, body=nested(960))
    world.state = dict  # type: ignore[method-assign]  # the state of odd mail has no form
    result = await world.back_up(page_size=50)
    assert result.outcome is Outcome.PARTIAL
    assert [(e.object_id, e.code) for e in result.not_stored] == [(deep, "InvalidContent")]
    tenant = bucket.tenant()
    assert (await verify(tenant, lambda _: None)).exit_code == 3
    view = await world.view()
    rows = {row["object_id"] async for row in view.messages()}
    assert rows == set(mailbox.messages) - {deep}
    assert plain in rows
    for object_id in rows:
        found = await read_message(tenant, object_id, mailbox=mailbox.mailbox_id)
        shown = message_text(found)
        lines = json_line(read_document(found)) + json_line(
            message_document(found.record, mailbox.mailbox_id)
        )
        assert "\x1b" not in shown + lines, names.get(object_id)
        assert "\x00" not in shown + lines, names.get(object_id)
    again = await world.back_up(page_size=50, full=True)
    assert (again.outcome, again.stored) == (Outcome.PARTIAL, 0)


async def test_an_attachment_of_any_form_costs_itself_at_most() -> None:
    """The same for the fields of attachments: the message and the others of it are stored."""
    bucket = HostileBucket()
    world = bucket.anna
    odd = [m for sample in (FILE, LINK) for _, m in some_mutants(sample, 120, seed=5)]
    odd.append({**LINK, "sourceUrl": nested(960)})
    message = world.mailbox.add(world.inbox, hasAttachments=True)
    good = {**FILE, "id": "good", "contentBytes": "Z29vZA=="}
    world.mailbox.attachments[message] = [good, *odd]
    result = await world.back_up()
    assert result.stored == 1
    assert {e.kind for e in result.not_stored} <= {"attachment"}
    records = await world.records()
    stored = records[message]["attachments"]
    assert "good" in {a["attachment_id"] for a in stored}
    assert len(stored) + len(result.not_stored) >= len(odd) // 2  # ids that repeat are one
    assert (await verify(bucket.tenant(), lambda _: None)).exit_code == 3
    found = await read_message(bucket.tenant(), message, mailbox=world.mailbox.mailbox_id)
    assert "\x1b" not in message_text(found)
