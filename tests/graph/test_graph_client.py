"""Requests: headers, limits, further tries, and what is never done with a token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import UUID

import anyio
import pytest
from aiohttp import web

from atlas_async.config.settings import Limits
from atlas_async.errors import (
    ConfigError,
    ConsentError,
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
    GraphTransient,
)
from atlas_async.graph import GraphTenant
from atlas_async.model.source import Principal
from tests.fakes.clock import FakeClock
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

PATH = "/users/u-1/messages/m"
FINE = reply({"id": "m"})
TRIES = 1 + Limits().retries


async def test_every_request_says_who_asks_and_for_what_ids() -> None:
    """Token, immutable ids, gzip, a request id and the decorated user agent are sent."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PATH, FINE)
        await tenant.mailbox(USER).get_message("m", lease=Ledger())
        headers = server.seen[0].headers

    assert headers["Authorization"] == f"Bearer {server.make_token(1)}"
    assert headers["Prefer"] == 'IdType="ImmutableId"'
    assert headers["Accept-Encoding"] == "gzip"
    assert UUID(headers["client-request-id"]).version == 4
    assert headers["User-Agent"].startswith("ISV|atlas_async|atlas_async/")


@pytest.mark.parametrize(
    "answer",
    [
        dropped,
        cut_short(b'{"id":', 500),
        reply(b'{"id": "m'),
        reply(b"\xff\xfe"),
        reply(None, 500),
        reply(None, 502),
        reply(None, 503),
        reply(None, 504),
        reply(None, 404),
        fault(400, "invalidRequest"),
        fault(401, "InvalidAuthenticationToken"),
        fault(429, "ApplicationThrottled"),
    ],
)
async def test_passing_failures_are_tried_again(answer: Answer) -> None:
    """Each failure that may pass is followed by a successful second try."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PATH, answer, FINE)

        assert await tenant.mailbox(USER).get_message("m", lease=Ledger()) == {"id": "m"}
        assert len(server.seen) == 2


async def test_each_try_has_its_own_request_id() -> None:
    """Tries can be told apart by Microsoft support."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PATH, reply(None, 500), FINE)
        await tenant.mailbox(USER).get_message("m", lease=Ledger())

        assert len({seen.headers["client-request-id"] for seen in server.seen}) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "tries"),
    [
        (reply(None, 500), GraphTransient, TRIES),
        (dropped, GraphTransient, TRIES),
        (cut_short(b"{", 500), GraphTransient, TRIES),
        (reply(b"{"), GraphProtocolError, TRIES),
        (reply([1]), GraphProtocolError, TRIES),
        (reply(None, 404), GraphNotFound, 3),
        (fault(404, "ErrorItemNotFound"), GraphNotFound, 1),
        (fault(500, "ErrorCorruptData"), GraphItemError, 1),
        (fault(400, "invalidRequest"), GraphError, 3),
        (fault(403, "ErrorAccessDenied"), ConsentError, 1),
        (reply(None, 302, {"Location": "/v1.0/other"}), GraphProtocolError, TRIES),
    ],
)
async def test_failures_end_as_their_error(
    answer: Answer, kind: type[Exception], tries: int
) -> None:
    """Each failure that stays raises its own error after its number of tries."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PATH, answer)
        mailbox = tenant.mailbox(USER)
        with pytest.raises(kind) as raised:
            await mailbox.get_message("m", lease=Ledger())

        assert type(raised.value) is kind
        # aiohttp itself asks once more when a reused connection was closed under it.
        assert tries <= len(server.seen) <= 2 * tries
        assert mailbox.usage.requests == tries


async def test_a_redirect_gets_no_token() -> None:
    """A redirect to another origin is refused, and that origin is never asked."""
    async with GraphServer() as server, GraphServer() as other, tenant_of(server) as tenant:
        server.on(PATH, reply(None, 302, {"Location": f"{other.url}/v1.0/x"}))
        with pytest.raises(GraphProtocolError, match="redirect"):
            await tenant.mailbox(USER).get_message("m", lease=Ledger())

        assert other.seen == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        (
            {
                "Retry-After": "Mon, 20 Apr 2026 12:00:40 GMT",
                "Date": "Mon, 20 Apr 2026 12:00:00 GMT",
            },
            40.0,
        ),
        ({}, 1.0),
    ],
)
async def test_throttling_holds_the_mailbox_as_long_as_asked(
    headers: dict[str, str], seconds: float
) -> None:
    """The wait is what Graph asked for, it is told, and it is counted."""
    clock = FakeClock(autojump=True)
    told: list[tuple[str, float, str]] = []
    async with (
        GraphServer() as server,
        tenant_of(server, clock=clock, on_throttle=lambda *wait: told.append(wait)) as tenant,
    ):
        server.on(PATH, fault(429, "ApplicationThrottled", headers=headers), FINE)
        mailbox = tenant.mailbox(USER)
        await mailbox.get_message("m", lease=Ledger())

        assert clock.monotonic() == seconds
        assert told == [(USER.address, seconds, "mailbox")]
        assert (mailbox.usage.throttled, mailbox.usage.throttled_seconds) == (1, seconds)


async def test_throttling_of_one_mailbox_leaves_the_others_alone() -> None:
    """While one mailbox waits, another one is read at once (I10)."""
    clock = FakeClock()
    other = Principal("u-2", "bob@example.test")
    async with GraphServer() as server, tenant_of(server, clock=clock) as tenant:
        server.on(PATH, fault(429, "ApplicationThrottled", headers={"Retry-After": "99"}), FINE)
        server.on("/users/u-2/messages/m", FINE)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(tenant.mailbox(USER).get_message, "m", lease=Ledger()))
            while not clock.sleepers:
                await anyio.sleep(0)
            await tenant.mailbox(other).get_message("m", lease=Ledger())
            assert clock.monotonic() == 0.0
            clock.jump(99.0)


async def test_throttling_beyond_patience_is_an_error() -> None:
    """A wait longer than the patience is not begun, by this request or by the next."""
    async with (
        GraphServer() as server,
        tenant_of(server, limits=Limits(patience=60.0)) as tenant,
    ):
        server.on(PATH, fault(429, "ApplicationThrottled", headers={"Retry-After": "61"}))
        mailbox = tenant.mailbox(USER)
        for _ in range(2):
            with pytest.raises(GraphThrottled):
                await mailbox.get_message("m", lease=Ledger())

        assert len(server.seen) == 1


async def test_a_mailbox_never_has_more_than_its_requests_in_flight() -> None:
    """However many ask, Graph sees four at once, further tries included."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        for number in range(40):
            failures = [reply(None, 503)] if number % 3 == 0 else []
            server.on(f"/users/u-1/messages/m{number}", *failures, _slow(FINE))
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(
                    partial(tenant.mailbox(USER).get_message, f"m{number}", lease=Ledger())
                )

        assert server.most_in_flight == 4


def _slow(answer: Answer) -> Answer:
    async def respond(request: web.Request) -> web.StreamResponse:
        for _ in range(20):
            await anyio.sleep(0)
        return await answer(request)

    return respond


async def test_cancelling_gives_the_place_back() -> None:
    """A request cancelled on the wire leaves the lane as it was."""
    arrived, stuck = anyio.Event(), anyio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        arrived.set()
        await stuck.wait()
        return web.Response()

    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PATH, hang, FINE)
        mailbox = tenant.mailbox(USER)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(mailbox.get_message, "m", lease=Ledger()))
            await arrived.wait()
            group.cancel_scope.cancel()

        assert mailbox._lane.gate.rules.statistics.in_flight == 0
        assert await mailbox.get_message("m", lease=Ledger()) == {"id": "m"}
        stuck.set()


async def test_consent_errors_tell_what_the_token_carries() -> None:
    """The hint names the missing permission and those that are there."""
    async with GraphServer(roles=("User.Read.All",)) as server, tenant_of(server) as tenant:
        server.on(PATH, fault(403, "ErrorAccessDenied"))
        with pytest.raises(ConsentError) as raised:
            await tenant.mailbox(USER).get_message("m", lease=Ledger())

    assert "Mail.Read" in raised.value.hint
    assert "now carries: User.Read.All" in raised.value.hint


async def test_errors_keep_graphs_request_id_and_the_place() -> None:
    """Microsoft support asks for the request id; a person asks which message."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on(PATH, fault(500, "ErrorCorruptData", headers={"request-id": "r-1"}))
        with pytest.raises(GraphItemError) as raised:
            await tenant.mailbox(USER).get_message("m", lease=Ledger())

    assert raised.value.request_id == "r-1"
    assert raised.value.where == "mailbox ada@example.test, message m"


async def test_an_unreachable_graph_is_a_transient_error() -> None:
    """A refused connection is tried again and then told with what to check."""
    async with GraphServer() as gone:
        address = gone.url
    async with GraphServer() as server:
        settings = server.settings(graph_url=address)
        async with GraphTenant(settings, Limits(), clock=FakeClock(autojump=True)) as tenant:
            with pytest.raises(GraphTransient, match="connection") as raised:
                await tenant.mailbox(USER).get_message("m", lease=Ledger())

    assert "network" in raised.value.hint


async def test_a_useless_ca_file_is_a_configuration_error(tmp_path: object) -> None:
    """A CA file that is missing or empty is named before anything is sent."""
    async with GraphServer() as server:
        tenant = GraphTenant(
            server.settings(ca_file=f"{tmp_path}/none.pem"), Limits(), clock=FakeClock()
        )
        with pytest.raises(ConfigError, match=r"none\.pem"):
            await tenant.__aenter__()


@pytest.mark.parametrize("suffix", ["", "/", "/v1.0", "/v1.0/"])
async def test_the_graph_url_may_carry_its_version(suffix: str) -> None:
    """Both spellings of the root lead to the same requests and the same scope."""
    async with GraphServer() as server:
        server.on(PATH, FINE)
        settings = server.settings(graph_url=server.url + suffix)
        async with GraphTenant(settings, Limits(), clock=FakeClock()) as tenant:
            await tenant.mailbox(USER).get_message("m", lease=Ledger())

        assert server.paths() == [PATH]
        assert server.token_requests[0]["scope"] == f"{server.url}/.default"


@pytest.mark.parametrize("encode", [str.upper, str.lower])
def test_retry_headers_ignore_case(encode: Callable[[str], str]) -> None:
    """Header names are matched in any case, as aiohttp gives them."""
    from datetime import UTC, datetime

    from multidict import CIMultiDict

    from atlas_async.graph.failures import retry_after_seconds

    headers = CIMultiDict({encode("Retry-After"): "3"})
    assert retry_after_seconds(headers, datetime.now(UTC)) == 3.0
