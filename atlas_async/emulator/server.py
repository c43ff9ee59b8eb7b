"""The HTTP server: Entra, Graph, upload URLs and the control interface on one origin."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.to_thread
from aiohttp import web

from atlas_async.clock import Clock, SystemClock
from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.calls import Call, Refusal, Reply, error_body
from atlas_async.emulator.control import Control
from atlas_async.emulator.corpus import Corpus
from atlas_async.emulator.entra import Entra
from atlas_async.emulator.faults import FaultBook
from atlas_async.emulator.journal import Journal
from atlas_async.emulator.query import parse_query
from atlas_async.emulator.routes import graph_routes
from atlas_async.emulator.routes_attachment_writes import UPLOAD_PREFIX
from atlas_async.emulator.routes_control import PREFIX, answer_control
from atlas_async.emulator.service import VERSION, Desk, GraphService
from atlas_async.emulator.tenant import Tenant
from atlas_async.emulator.throttle import Throttle
from atlas_async.emulator.tls import make_server_context
from atlas_async.emulator.tokens import TokenDesk, make_signing_key
from atlas_async.emulator.wire import BODY_LIMIT, read_request_body, send
from atlas_async.emulator.world import World
from atlas_async.errors import UsageError

CACHE_BYTES: Final = 64 * 1024 * 1024
_Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_CLOSING: Final = 10.0
"""Seconds that closing may take."""


@dataclass(slots=True)
class _Parts:
    service: GraphService
    entra: Entra
    control: Control
    world: World


class Emulator:
    """Entra ID and Microsoft Graph of one synthetic tenant, served from this process.

    Use as an async context manager; the server runs while the context is open. Not reusable.

    Args:
        corpus: What the tenant holds; a small one when omitted.
        host: Address to listen on.
        port: Port, 0 for any free one.
        tls: Serve https with a certificate of a CA made for this run (see ``ca_file``).
        behaviour: Switches of the service; may be changed while it runs.
        clock: Time for tokens, throttling, latency and new messages.
        cache_bytes: Bound of rendered pages kept in memory.
    """

    def __init__(
        self,
        corpus: Corpus | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = False,
        behaviour: Behaviour | None = None,
        clock: Clock | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.corpus = corpus or Corpus()
        self.behaviour = behaviour or Behaviour()
        self.tenant = Tenant(self.corpus.tenant_id, self.corpus.options.domain)
        self.log = Journal()
        self._clock = clock or SystemClock()
        self.throttle = Throttle(self._clock, self.behaviour)
        self._host = host
        self._port = port
        self._tls = tls
        self._cache_bytes = cache_bytes
        self._stack = AsyncExitStack()
        self._parts: _Parts | None = None
        self._ca_file: Path | None = None
        self._url = ""

    async def __aenter__(self) -> Self:
        stack = AsyncExitStack()
        try:
            await self._start(stack)
        except BaseException:
            await _close(stack)
            raise
        self._stack = stack
        return self

    async def _start(self, stack: AsyncExitStack) -> None:
        key = await anyio.to_thread.run_sync(make_signing_key)
        context = await self._certify(stack) if self._tls else None
        parts = self._parts = self._assemble(TokenDesk(self._clock, key))
        self._url = await self._listen(stack, self._serve, self._port, context)
        parts.world.origin = parts.entra.origin = parts.world.upload_origin = self._url
        if self.behaviour.split_uploads:
            parts.world.upload_origin = await self._listen(stack, self._serve_uploads, 0, context)

    async def _listen(
        self, stack: AsyncExitStack, serve: _Serve, port: int, context: SSLContext | None
    ) -> str:
        """Serve on a port until the stack closes; return the origin."""
        runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self._host, port, ssl_context=context, reuse_address=True)
        await site.start()
        return self._origin(runner)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _close(self._stack)

    @property
    def url(self) -> str:
        """Origin of authority and Graph, without a trailing slash."""
        return self._url

    @property
    def authority_url(self) -> str:
        """The authority without the tenant."""
        return self._url

    @property
    def graph_url(self) -> str:
        """Graph's root without the version."""
        return self._url

    @property
    def upload_url(self) -> str:
        """Origin of upload URLs; another one than Graph's with ``Behaviour.split_uploads``."""
        return self._running().world.upload_origin

    @property
    def ca_file(self) -> Path:
        """The CA certificate (PEM) that clients must trust. Raises ``UsageError`` without TLS."""
        if self._ca_file is None:
            raise UsageError("the emulator serves plain http", hint="start it with tls=True")
        return self._ca_file

    @property
    def control(self) -> Control:
        """Truth, changes, faults and switches. Raises ``UsageError`` before the start."""
        return self._running().control

    def _running(self) -> _Parts:
        if self._parts is None:
            raise UsageError("the emulator is not running", hint="open it with 'async with'")
        return self._parts

    async def _certify(self, stack: AsyncExitStack) -> SSLContext:
        folder = Path(await anyio.to_thread.run_sync(tempfile.mkdtemp, None, "atlas-emulator-"))
        stack.push_async_callback(_remove, folder)
        # Clients check certificates by the machine's clock, whatever clock the service is given.
        now = SystemClock().now()
        context = await anyio.to_thread.run_sync(make_server_context, folder, self._host, now)
        self._ca_file = folder / "ca.pem"
        return context

    def _assemble(self, tokens: TokenDesk) -> _Parts:
        world = World(self.corpus, self.behaviour, self._clock, cache_bytes=self._cache_bytes)
        faults = FaultBook()
        desk = Desk(
            world,
            tokens,
            self.throttle,
            faults,
            self.log,
            self._clock,
            graph_routes(),
            self.tenant,
        )
        return _Parts(
            service=GraphService(desk),
            entra=Entra(self.tenant, tokens, self.behaviour, self._clock),
            control=Control(world, tokens, faults, self.log),
            world=world,
        )

    def _origin(self, runner: web.ServerRunner) -> str:
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
            shown = "127.0.0.1"
        return f"{'https' if self._tls else 'http'}://{shown}:{port}"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request, uploads=not self.behaviour.split_uploads)
        except ConnectionResetError:
            return web.Response()  # the client has left: there is nobody to answer

    async def _serve_uploads(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request, uploads=True, graph=False)
        except ConnectionResetError:
            return web.Response()  # the client has left: there is nobody to answer

    async def _answer(
        self, request: web.BaseRequest, *, uploads: bool, graph: bool = True
    ) -> web.StreamResponse:
        path, _, raw_query = request.raw_path.partition("?")
        call = Call(
            method=request.method,
            path=path,
            query=parse_query(raw_query),
            headers=request.headers,
            read_body=lambda: read_request_body(request, self._body_limit(path)),
            raw_query=raw_query,
        )
        parts = self._running()
        if graph and path.startswith(VERSION):
            async with parts.service.serving(call) as reply:
                return await send(request, reply, self.behaviour, self._clock)
        if uploads and path.startswith(UPLOAD_PREFIX):
            async with parts.service.uploading(call) as reply:
                return await send(request, reply, self.behaviour, self._clock)
        try:
            reply = await self._elsewhere(parts, call, request.remote or "", graph=graph)
        except Refusal as refusal:
            reply = self._plain_error(call, refusal)
        return await send(request, reply, self.behaviour, self._clock)

    def _body_limit(self, path: str) -> int:
        return self.behaviour.largest_range if path.startswith(UPLOAD_PREFIX) else BODY_LIMIT

    async def _elsewhere(self, parts: _Parts, call: Call, peer: str, *, graph: bool) -> Reply:
        if graph and call.path.startswith(PREFIX):
            return await answer_control(parts.control, call, peer)
        reply = await parts.entra.answer(call) if graph else None
        if reply is None:
            raise Refusal(404, "NotFound", "There is nothing at this address.")
        return reply

    def _plain_error(self, call: Call, refusal: Refusal) -> Reply:
        date = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S")
        body = error_body(refusal, date=date, request_id=call.request_id, client_id=call.request_id)
        return Reply.json(body, status=refusal.status, headers=refusal.headers)


async def _remove(folder: Path) -> None:
    await anyio.to_thread.run_sync(shutil.rmtree, folder)


async def _close(stack: AsyncExitStack) -> None:
    """Free port and files even while being cancelled, within a deadline."""
    with anyio.move_on_after(_CLOSING, shield=True):
        await stack.aclose()
