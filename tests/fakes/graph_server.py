"""A scripted stand-in for Entra ID and Microsoft Graph on the loopback: it answers what a test says.

It knows nothing of mail. ``atlas_async.emulator`` is the faithful one; this one misbehaves exactly.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from atlas_async.clock import Clock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import GraphSettings, Limits
from atlas_async.graph import GraphTenant
from atlas_async.graph.lane import OnThrottle
from atlas_async.model.source import Principal
from tests.fakes.clock import FakeClock

TENANT = "11111111-2222-3333-4444-555555555555"
CLIENT = "99999999-8888-7777-6666-555555555555"
SECRET = "s3cr3t~value.of.the.client"
USER = Principal("u-1", "ada@example.test", "Ada")

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


def reply(
    body: object = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    name: str = "",
) -> Answer:
    """Answer with JSON, with raw bytes, or with an empty body; ``name`` shows in test ids."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        if body is None:
            return web.Response(status=status, headers=headers)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(
            status=status, body=raw, headers=headers, content_type="application/json"
        )

    answer.__name__ = name or f"{status} {str(body)[:12] if body is not None else 'empty'}"
    return answer


def fault(
    status: int, code: str, message: str = "told", headers: Mapping[str, str] | None = None
) -> Answer:
    """Answer with an error in Graph's shape."""
    return reply({"error": {"code": code, "message": message}}, status, headers, f"{status} {code}")


def cut_short(body: bytes, claimed: int) -> Answer:
    """Claim ``claimed`` bytes, send fewer, and drop the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(claimed)})
        await response.prepare(request)
        await response.write(body)
        assert request.transport is not None
        request.transport.close()
        return response

    answer.__name__ = "cut short"
    return answer


async def dropped(request: web.Request) -> web.StreamResponse:
    """Drop the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class GraphServer:
    """The scripted server.

    ``on`` gives a path its answers in order; the last one is repeated. Requests are in ``seen``.
    ``in_flight`` and ``most_in_flight`` count requests to Graph.
    """

    token_answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    token_requests: list[dict[str, str]] = field(default_factory=list)
    refused_tokens: set[str] = field(default_factory=set)
    expires_in: int = 3600
    roles: tuple[str, ...] = ("Mail.Read",)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    _script: dict[str, list[Answer]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    def on(self, path: str, *answers: Answer) -> None:
        """Answer ``path`` (below the version, query string included when given) with these."""
        self._script[path] = list(answers)

    def paths(self) -> list[str]:
        """Return the paths asked of Graph, in order, without version."""
        return [seen.path for seen in self.seen]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path
        if raw.endswith("/openid-configuration"):
            tenant = raw.split("/")[1]
            known = tenant == TENANT
            return web.json_response(self._openid(tenant), status=200 if known else 400)
        if raw.endswith("/oauth2/v2.0/token"):
            return await self._token(request)
        return await self._graph(request)

    def _openid(self, tenant: str) -> dict[str, str]:
        base = f"{self.url}/{tenant}"
        return {
            "issuer": f"{base}/v2.0",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "jwks_uri": f"{base}/keys",
        }

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.token_requests.append({key: str(value) for key, value in form.items()})
        if self.token_answers:
            return await self.token_answers.pop(0)(request)
        return web.json_response(
            {
                "token_type": "Bearer",
                "expires_in": self.expires_in,
                "access_token": self.make_token(len(self.token_requests)),
            }
        )

    def make_token(self, number: int) -> str:
        """Return the token that the ``number``-th request gets."""
        from base64 import urlsafe_b64encode

        claims = json.dumps({"roles": list(self.roles), "n": number}).encode()
        return f"head.{urlsafe_b64encode(claims).decode().rstrip('=')}.tail"

    async def _graph(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.removeprefix("/v1.0")
        bare = path.split("?")[0]
        body = await request.read()
        self.seen.append(Seen(request.method, bare, request.query, request.headers, body))
        if bare == "/$batch" and bare not in self._script:
            return await self._batch(request, json.loads(body)["requests"])
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token or token in self.refused_tokens:
            return await fault(401, "InvalidAuthenticationToken", "Lifetime expired")(request)
        answers = self._script.get(path) or self._script.get(bare)
        if not answers:
            return await fault(404, "ErrorItemNotFound", f"nothing scripted: {path}")(request)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            return await answer(request)
        finally:
            self.in_flight -= 1

    async def _batch(self, request: web.Request, parts: list[dict[str, Any]]) -> web.StreamResponse:
        """Answer every part as it is scripted alone."""
        responses = []
        for part in parts:
            answers = self._script.get(part["url"]) or self._script.get(part["url"].split("?")[0])
            answer = fault(404, "ErrorItemNotFound")
            if answers:
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
            response = await answer(request)
            assert isinstance(response, web.Response)
            assert isinstance(response.body, bytes)
            told = {"id": part["id"], "status": response.status, "body": json.loads(response.body)}
            responses.append(told)
        return web.json_response({"responses": responses[::-1]})

    def settings(self, **changes: Any) -> GraphSettings:
        """Return settings that lead here."""
        values: dict[str, Any] = {
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "credential": Secret(SECRET),
            "authority_url": self.url,
            "graph_url": self.url,
        }
        return GraphSettings(**(values | changes))


class Ledger:
    """A lease that notes how far it grew."""

    def __init__(self) -> None:
        self.grown: list[int] = []

    def try_grow_to(self, size: int) -> bool:
        """Note the size."""
        self.grown.append(size)
        return True

    async def grow_to(self, size: int) -> None:
        """Note the size."""
        self.grown.append(size)


@asynccontextmanager
async def tenant_of(
    server: GraphServer,
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
    on_throttle: OnThrottle | None = None,
) -> AsyncIterator[GraphTenant]:
    """Open a tenant that talks to ``server``, with time that jumps and no randomness."""
    async with GraphTenant(
        server.settings(),
        limits or Limits(),
        clock=clock or FakeClock(autojump=True),
        on_throttle=on_throttle,
        jitter=lambda: 0.5,
    ) as tenant:
        yield tenant
