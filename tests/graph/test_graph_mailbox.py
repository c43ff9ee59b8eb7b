"""Pages and single messages of a mailbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.errors import (
    GraphItemError,
    GraphNotFound,
    GraphProtocolError,
    GraphTransient,
    MailboxOverQuota,
    NoMailbox,
    SyncStateGone,
)
from atlas_async.graph import GraphMailbox
from atlas_async.graph.mailbox import MESSAGE_PROPERTIES
from atlas_async.model.source import EnumerationMode, MessagePage
from atlas_async.pipeline.ports import MailboxSource
from tests.fakes.graph_server import (
    USER,
    Answer,
    GraphServer,
    Ledger,
    cut_short,
    dropped,
    fault,
    reply,
    tenant_of,
)

FOLDER = "AQMk=="
DELTA = "/users/u-1/mailFolders/AQMk%3D%3D/messages/delta"
PLAIN = "/users/u-1/mailFolders/AQMk%3D%3D/messages"


async def page_of(
    mailbox: GraphMailbox,
    link: str | None = None,
    *,
    mode: EnumerationMode = EnumerationMode.DELTA,
    size: int = 100,
    lease: Ledger | None = None,
) -> MessagePage:
    """Fetch one page of the test's folder."""
    return await mailbox.message_page(
        FOLDER, mode=mode, link=link, page_size=size, lease=lease or Ledger()
    )


def page_sizes(server: GraphServer) -> list[int]:
    """Return the page sizes that were asked for."""
    return [int(seen.headers["Prefer"].rpartition("=")[2]) for seen in server.seen]


def page(server: GraphServer, next_path: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a page body with one message."""
    body: dict[str, Any] = {"value": [{"id": "m-1"}], **more}
    if next_path:
        body["@odata.nextLink"] = f"{server.url}/v1.0{next_path}"
    return body


async def test_a_delta_round_is_paged_through() -> None:
    """The first request selects, later ones follow links; ids and the page size go with each."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        mailbox = tenant.mailbox(USER)
        server.on(DELTA, reply(page(server, f"{DELTA}?$skiptoken=s%2F1")))
        link = f"{server.url}/v1.0{DELTA}?$deltatoken=d"
        removed = {"id": "m-0", "@removed": {"reason": "deleted"}}
        last = {"value": [removed], "@odata.deltaLink": link}
        server.on(f"{DELTA}?$skiptoken=s%2F1", reply(last))
        first = await page_of(mailbox)
        second = await page_of(mailbox, first.next_link)

    assert server.seen[0].query["$select"] == ",".join(MESSAGE_PROPERTIES)
    assert set(server.seen[0].query) == {"$select"}
    assert [seen.headers["Prefer"] for seen in server.seen] == [
        'IdType="ImmutableId", odata.maxpagesize=100'
    ] * 2
    assert (first.items, first.removed, first.delta_link) == (({"id": "m-1"},), (), None)
    assert (second.items, second.removed, second.delta_link) == ((), ("m-0",), link)
    assert first.size_bytes == len(json.dumps(page(server, f"{DELTA}?$skiptoken=s%2F1")))


async def test_a_listing_names_its_page_size_in_the_url() -> None:
    """Without delta the size is a query option, and the last page has no link."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PLAIN, reply(page(server)))
        found = await page_of(tenant.mailbox(USER), mode=EnumerationMode.LISTING, size=50)

    assert server.seen[0].query["$top"] == "50"
    assert (found.next_link, found.delta_link) == (None, None)


@pytest.mark.parametrize(
    "trouble", [reply(None, 503), reply(None, 504), cut_short(b'{"value":[', 9000)]
)
async def test_a_page_too_heavy_is_halved(trouble: Answer) -> None:
    """503, 504 and cut answers ask for half, and the folder keeps the size that worked."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        mailbox = tenant.mailbox(USER)
        server.on(DELTA, trouble, trouble, reply(page(server)))
        await page_of(mailbox)
        await page_of(mailbox)

    assert page_sizes(server) == [100, 50, 25, 25]


async def test_a_page_is_halved_down_to_one_message() -> None:
    """Only when a single message cannot be had either does the page fail."""
    limits = Limits(retries=1)
    async with GraphServer() as server, tenant_of(server, limits=limits) as tenant:
        server.on(DELTA, reply(None, 504))
        with pytest.raises(GraphTransient):
            await page_of(tenant.mailbox(USER))

    assert page_sizes(server) == [100, 50, 25, 12, 6, 3, 1, 1]


async def test_a_listing_shrinks_its_url_as_well() -> None:
    """The first page of a plain listing is asked for with the smaller size."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PLAIN, reply(None, 503), reply(page(server)))
        await page_of(tenant.mailbox(USER), mode=EnumerationMode.LISTING)

    assert [seen.query["$top"] for seen in server.seen] == ["100", "50"]


async def test_broken_json_is_halved_then_repeated_then_an_error() -> None:
    """A page that is no JSON is asked for in smaller pieces, and anew, before it counts as broken."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(DELTA, reply(b'{"value": ['))
        with pytest.raises(GraphProtocolError, match="broken JSON"):
            await page_of(tenant.mailbox(USER), size=2)

    assert page_sizes(server) == [2, *[1] * (1 + Limits().retries)]


async def test_odd_characters_do_not_break_a_page() -> None:
    """Raw control characters and lone surrogates arrive as they were sent."""
    raw = b'{"value":[{"id":"m","subject":"a\x01\x0bb","body":{"content":"\\ud83d"}}]}'
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(DELTA, reply(raw))
        found = await page_of(tenant.mailbox(USER))

    assert found.items[0]["subject"] == "a\x01\x0bb"
    assert found.items[0]["body"]["content"] == "\ud83d"


async def test_the_lease_grows_while_a_page_arrives() -> None:
    """A page larger than thought is leased by the MiB before it is whole (I5)."""
    lease = Ledger()
    message = {"id": "m", "body": {"content": "x" * (5 << 20)}}
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(DELTA, reply({"value": [message]}))
        found = await page_of(tenant.mailbox(USER), lease=lease)

    assert lease.grown == sorted(lease.grown)
    assert len(lease.grown) >= 4
    assert lease.grown[-1] == found.size_bytes
    steps = [after - before for before, after in zip(lease.grown, lease.grown[1:], strict=False)]
    assert max(steps) < 2 << 20


async def test_a_repeated_link_ends_the_round() -> None:
    """A folder whose pages go in a circle is an error, not an endless loop."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        mailbox = tenant.mailbox(USER)
        server.on(DELTA, reply(page(server, f"{DELTA}?s=a")))
        server.on(f"{DELTA}?s=a", reply(page(server, f"{DELTA}?s=b")))
        server.on(f"{DELTA}?s=b", reply(page(server, f"{DELTA}?s=a")))
        link = (await page_of(mailbox)).next_link
        link = (await page_of(mailbox, link)).next_link
        with pytest.raises(GraphProtocolError, match="repeats"):
            await page_of(mailbox, link)


async def test_a_link_to_another_host_is_refused() -> None:
    """Nothing is sent to a host that a page names."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        with pytest.raises(GraphProtocolError, match="another host"):
            await page_of(tenant.mailbox(USER), "https://evil.test/v1.0/x")

        assert server.seen == []


async def test_a_link_of_an_official_root_is_followed_here() -> None:
    """A delta link stored against Graph itself continues at the configured root."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(f"{DELTA}?$deltatoken=d", reply(page(server)))
        stored = f"https://graph.microsoft.com/v1.0{DELTA}?$deltatoken=d"

        assert (await page_of(tenant.mailbox(USER), stored)).items == ({"id": "m-1"},)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fault(410, "SyncStateNotFound"), SyncStateGone),
        (fault(400, "SyncStateInvalid"), SyncStateGone),
        (fault(403, "ErrorQuotaExceeded"), MailboxOverQuota),
        (fault(404, "MailboxNotEnabledForRESTAPI"), NoMailbox),
    ],
)
async def test_a_folder_says_how_else_to_read_it(answer: Answer, kind: type[Exception]) -> None:
    """Expired links, full mailboxes and missing ones are told apart at the first try."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(DELTA, answer)
        with pytest.raises(kind):
            await page_of(tenant.mailbox(USER))

        assert len(server.seen) == 1


async def test_ids_are_listed_without_content() -> None:
    """All ids of a folder come page by page."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PLAIN, reply(page(server, f"{PLAIN}?$skip=1")))
        server.on(f"{PLAIN}?$skip=1", dropped, reply({"value": [{"id": "m-2"}, {"id": "m-3"}]}))
        found = [ids async for ids in tenant.mailbox(USER).message_ids(FOLDER)]

    assert found == [["m-1"], ["m-2", "m-3"]]
    assert dict(server.seen[0].query) == {"$select": "id", "$top": "1000"}


async def test_a_message_is_located_or_gone() -> None:
    """The folder of a message is told; a missing message is no error."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        mailbox = tenant.mailbox(USER)
        server.on("/users/u-1/messages/m%2F1", reply({"id": "m/1", "parentFolderId": "f"}))

        assert await mailbox.locate_message("m/1") == "f"
        assert await mailbox.locate_message("gone") is None
        assert server.seen[0].query["$select"] == "id,parentFolderId"


async def test_what_a_mailbox_cost_is_counted() -> None:
    """Requests and decoded bytes add up, and the id is the address."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        mailbox = tenant.mailbox(USER)
        server.on(DELTA, reply(None, 500), reply({"value": []}))
        await page_of(mailbox)

        assert mailbox.mailbox_id == "ada@example.test"
        assert (mailbox.usage.requests, mailbox.usage.bytes_received) == (2, 13)


async def test_it_is_a_mailbox_source() -> None:
    """The adapter fits the port it was made for; the type checker judges, this runs it."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        source: MailboxSource = tenant.mailbox(USER)

        assert source.mailbox_id == USER.address


MIME = "/users/u-1/messages/m%3D/$value"


async def mime_of(server: GraphServer, limits: Limits | None = None) -> list[bytes]:
    """Read the MIME of the test's message piece by piece."""
    async with tenant_of(server, limits=limits) as tenant:
        mailbox = tenant.mailbox(USER)
        async with mailbox.open_mime("m=") as stream:
            assert mailbox._lane.gate.rules.statistics.in_flight == 1
            pieces = [piece async for piece in stream]
        assert mailbox._lane.gate.rules.statistics.in_flight == 0
        assert mailbox.usage.bytes_received == sum(map(len, pieces))
        return pieces


async def test_mime_streams_in_small_pieces() -> None:
    """The bytes arrive unchanged and unencoded, with ids that do not change."""
    content = b"Subject: x\r\n\r\n" + bytes(range(256)) * 20_000
    async with GraphServer() as server:
        server.on(MIME, reply(None, 503), reply(content))
        pieces = await mime_of(server)
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 1 << 20
    assert server.seen[-1].headers["Accept-Encoding"] == "identity"
    assert server.seen[-1].headers["Prefer"] == 'IdType="ImmutableId"'


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "ErrorMimeContentConversionFailed"),
        (500, "ErrorCorruptData"),
        (500, "ErrorContentConversionFailed"),
        (405, "ErrorInvalidRequest"),
    ],
)
async def test_mime_that_exchange_cannot_write_is_asked_for_once(status: int, code: str) -> None:
    """It is this message's own affair, now and later, though Graph calls it a server's error."""
    async with GraphServer() as server:
        server.on(MIME, fault(status, code))
        with pytest.raises(GraphItemError) as caught:
            await mime_of(server, Limits(retries=10))
        assert caught.value.code == code
        assert len(server.seen) == 1


async def test_mime_of_a_message_that_is_gone() -> None:
    """Nothing else answers 404."""
    async with GraphServer() as server:
        server.on(MIME, fault(404, "ErrorItemNotFound"))
        with pytest.raises(GraphNotFound):
            await mime_of(server)


async def test_mime_cut_short_raises() -> None:
    """What came is not taken for all."""
    async with GraphServer() as server:
        server.on(MIME, cut_short(b"x" * 1000, 5000))
        with pytest.raises(GraphTransient):
            await mime_of(server)
