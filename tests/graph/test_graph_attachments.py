"""Attachments: lists with and without content, and streams."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.errors import GraphItemError, GraphNotFound, GraphTransient
from tests.fakes.graph_server import (
    USER,
    Answer,
    GraphServer,
    Ledger,
    cut_short,
    fault,
    reply,
    tenant_of,
)

LIST = "/users/u-1/messages/m/attachments"
PLAIN = "?$select=id,name,contentType,size,isInline,lastModifiedDateTime"
CAST = f"{PLAIN},microsoft.graph.fileAttachment/contentId"
FILE = "#microsoft.graph.fileAttachment"


def attachment(key: str, content: bytes | None = None, **more: Any) -> dict[str, Any]:
    """Return a raw file attachment."""
    found: dict[str, Any] = {"@odata.type": FILE, "id": key, "name": key, **more}
    if content is not None:
        found["contentBytes"] = base64.b64encode(content).decode()
    return found


async def listed(
    server: GraphServer, limit: int = 1 << 20, lease: Ledger | None = None
) -> list[dict[str, Any]]:
    """List the attachments of the test's message."""
    async with tenant_of(server) as tenant:
        return await tenant.mailbox(USER).list_attachments(
            "m", inline_limit=limit, lease=lease or Ledger()
        )


async def test_small_attachments_come_with_their_content() -> None:
    """One request lists every kind, in Graph's order."""
    kinds = [
        attachment("a", b"x"),
        {"@odata.type": "#microsoft.graph.itemAttachment", "id": "b"},
        {"@odata.type": "#microsoft.graph.referenceAttachment", "id": "c"},
    ]
    async with GraphServer() as server:
        server.on(LIST, reply({"value": kinds}))

        assert await listed(server) == kinds
        assert len(server.seen) == 1


async def test_a_long_list_is_abandoned_and_asked_for_without_content() -> None:
    """Beyond the limit no more is read; the second list names the content ids through a cast."""
    lean = [attachment("a", contentId="cid-1")]
    lease = Ledger()
    async with GraphServer() as server:
        server.on(LIST, reply({"value": [attachment("a", bytes(8 << 20))]}))
        server.on(LIST + CAST, reply({"value": lean}))

        assert await listed(server, 2 << 20, lease) == lean
        assert len(server.seen) == 2
    assert max(lease.grown) <= 2 << 20


async def test_a_list_over_several_pages_is_one_list() -> None:
    """Links are followed, the lease holds all pages, and the limit is for all of them."""
    lease = Ledger()
    async with GraphServer() as server:
        second = f"{LIST}?$skip=1"
        first = {
            "value": [attachment("a", bytes(1000))],
            "@odata.nextLink": f"{server.url}/v1.0{second}",
        }
        server.on(LIST, reply(first))
        server.on(second, reply({"value": [attachment("b", bytes(1000))]}))
        server.on(LIST + CAST, reply({"value": [attachment("a"), attachment("b")]}))
        whole = await listed(server, 4000, lease)
        lean = await listed(server, 2000)

    assert [("contentBytes" in item, item["id"]) for item in whole] == [(True, "a"), (True, "b")]
    assert lease.grown == sorted(lease.grown)
    assert lease.grown[-1] > 2600
    assert [("contentBytes" in item, item["id"]) for item in lean] == [(False, "a"), (False, "b")]


@pytest.mark.parametrize("status", [503, 504])
async def test_a_list_that_times_out_is_asked_for_without_content(status: int) -> None:
    """Many attachments can be too much for the server in its time."""
    async with GraphServer() as server:
        server.on(LIST, reply(None, status))
        server.on(LIST + CAST, reply({"value": [attachment("a")]}))

        assert [item["id"] for item in await listed(server)] == ["a"]


async def test_a_refused_cast_is_done_without() -> None:
    """Where the cast in the selection is refused, each file is asked for its content id."""
    async with GraphServer() as server:
        server.on(LIST, reply(None, 504))
        server.on(LIST + CAST, fault(400, "RequestBroker--ParseUri"))
        item = {"@odata.type": "#microsoft.graph.itemAttachment", "id": "b"}
        names = [attachment("a"), item, attachment("c"), attachment("d")]
        server.on(LIST + PLAIN, reply({"value": names}))
        server.on(f"{LIST}/a/microsoft.graph.fileAttachment", reply({"id": "a", "contentId": "x"}))
        server.on(f"{LIST}/c/microsoft.graph.fileAttachment", fault(400, "BadRequest"))
        found = await listed(server)

    assert [entry.get("contentId") for entry in found] == ["x", None, None, None]
    assert [entry["id"] for entry in found] == ["a", "b", "c", "d"]


async def test_a_message_that_is_gone_is_not_found() -> None:
    """There is no second way to ask then."""
    async with GraphServer() as server:
        with pytest.raises(GraphNotFound):
            await listed(server)
        assert len(server.seen) == 1


async def content_of(server: GraphServer, limits: Limits | None = None) -> list[bytes]:
    """Read the content of the test's attachment piece by piece."""
    async with tenant_of(server, limits=limits) as tenant:
        mailbox = tenant.mailbox(USER)
        async with mailbox.open_attachment("m", "a=") as stream:
            assert mailbox._lane.gate.rules.statistics.in_flight == 1
            pieces = [piece async for piece in stream]
        assert mailbox._lane.gate.rules.statistics.in_flight == 0
        assert mailbox.usage.bytes_received == sum(map(len, pieces))
        return pieces


async def test_content_streams_in_small_pieces() -> None:
    """The bytes arrive unchanged and unencoded, none larger than 1 MiB."""
    content = bytes(range(256)) * 20_000
    async with GraphServer() as server:
        server.on(f"{LIST}/a%3D/$value", reply(None, 503), reply(content))
        pieces = await content_of(server)

    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 1 << 20
    assert server.seen[-1].headers["Accept-Encoding"] == "identity"


async def test_an_empty_attachment_is_an_empty_stream() -> None:
    """Zero bytes are content too."""
    async with GraphServer() as server:
        server.on(f"{LIST}/a%3D/$value", reply(b""))

        assert await content_of(server) == []


async def test_a_stream_cut_short_raises() -> None:
    """What arrived before is handed on, then the loss is told; the caller opens it again."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(f"{LIST}/a%3D/$value", cut_short(b"x" * 1000, 5000))
        received: list[bytes] = []

        async def read() -> None:
            async with tenant.mailbox(USER).open_attachment("m", "a=") as stream:
                async for piece in stream:
                    received.append(piece)  # noqa: PERF401 - what came before the loss is kept

        with pytest.raises(GraphTransient):
            await read()

    assert b"".join(received) == b"x" * 1000
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fault(405, "ErrorInvalidRequest"), GraphItemError),
        (fault(400, "ErrorCannotOpenFileAttachment"), GraphItemError),
        (fault(404, "ErrorItemNotFound"), GraphNotFound),
        (reply(None, 500), GraphTransient),
    ],
)
async def test_content_that_cannot_be_had_says_why(answer: Answer, kind: type[Exception]) -> None:
    """Opening raises the error of this one attachment."""
    async with GraphServer() as server:
        server.on(f"{LIST}/a%3D/$value", answer)
        with pytest.raises(kind):
            await content_of(server)


async def test_the_readers_own_error_stays_its_own() -> None:
    """An error of whoever reads the stream is not taken for the network's."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(f"{LIST}/a%3D/$value", reply(b"x" * 100))

        async def read() -> None:
            async with tenant.mailbox(USER).open_attachment("m", "a=") as stream:
                async for _ in stream:
                    raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            await read()


async def test_leaving_a_stream_early_frees_its_place() -> None:
    """A stream left half-way gives its place in flight back."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(f"{LIST}/a%3D/$value", reply(bytes(8 << 20)))
        mailbox = tenant.mailbox(USER)
        async with mailbox.open_attachment("m", "a="):
            pass

        assert mailbox._lane.gate.rules.statistics.in_flight == 0
