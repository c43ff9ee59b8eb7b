"""Requests to Graph: token, headers, a place in the lane, judging the answer, further tries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from random import SystemRandom
from typing import Final, TypeVar
from uuid import uuid4

import aiohttp
import anyio
import orjson
from yarl import URL

from atlas_async.clock import Clock
from atlas_async.config.settings import Limits
from atlas_async.errors import (
    ConsentError,
    GraphProtocolError,
    GraphThrottled,
    GraphTransient,
)
from atlas_async.graph.auth import TokenSource
from atlas_async.graph.failures import (
    Failure,
    Remedy,
    classify,
    read_refusal,
    retry_after_seconds,
)
from atlas_async.graph.json_text import BrokenJsonError, parse_object
from atlas_async.graph.lane import Lane
from atlas_async.graph.links import GraphRoot
from atlas_async.graph.persistence import (
    FIRST_PAUSE,
    AttemptFailedError,
    Jitter,
    Persistence,
)
from atlas_async.graph.transport import (
    HEAD_SECONDS,
    AnswerTooLongError,
    BytesShortError,
    Lease,
    network_failures,
    read_body,
    read_error_body,
)
from atlas_async.model.source import JsonObject

IMMUTABLE: Final = 'IdType="ImmutableId"'
MOST_UNLEASED: Final = 32 << 20
"""Bytes of an answer that is not accounted for: 999 users or 1,000 ids take less than one MiB."""

MOST_AT_ONCE: Final = 256 << 10
"""Bytes that are handed to the transport in one piece; more go piece by piece, as it takes them."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer and the length of its decoded text in bytes."""

    document: JsonObject
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a request carries that is not JSON. ``headers`` describe it, its type among them."""

    data: bytes
    headers: Mapping[str, str]


READS: Final = frozenset({200})
WRITES: Final = frozenset({200, 201, 202, 204})


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as it is sent however often it is tried.

    Args:
        url: Where to, of the configured origin; a function is asked before every try.
        where: What it concerns, for errors.
        body: JSON to send; a GET when it and ``content`` are None.
        method: How to send; a POST when there is anything to send, else a GET.
        content: Bytes to send in place of JSON.
        success: Statuses that mean that it worked.
        confirm: Asked before another try of what may have been carried out although no answer
            said so. Returns the answer when it has been, else None.
        anonymous: Whether the URL itself is the permission, so that no token goes along. It need
            not lead to the configured origin then.
        encoding: ``Accept-Encoding``.
        cost: Requests it counts for.
        page_size: Asked before every try for ``odata.maxpagesize``.
        shrink: Halves the page size and returns True, or returns False at the smallest.
        retries: Replaces the configured number of further tries.
    """

    url: str | Callable[[], str]
    where: str
    body: JsonObject | None = None
    method: str = ""
    content: Content | None = None
    success: frozenset[int] = READS
    confirm: Callable[[], Awaitable[JsonObject | None]] | None = None
    anonymous: bool = False
    encoding: str = "gzip"
    cost: int = 1
    page_size: Callable[[], int] | None = None
    shrink: Callable[[], bool] | None = None
    retries: int | None = None

    @property
    def verb(self) -> str:
        """The HTTP method."""
        sends = self.body is not None or self.content is not None
        return self.method or ("POST" if sends else "GET")


class GraphClient:
    """Sends requests within the limits of their lane and tries them again while that may help.

    Everything may be cancelled at any await; a place in flight is given back at once.

    Args:
        session: Where requests go out.
        tokens: Where tokens come from.
        root: The one origin that gets them.
        limits: Retries and patience.
        clock: Time and sleep.
        jitter: Source of randomness for pauses, from 0 to 1; None for the system's.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        tokens: TokenSource,
        root: GraphRoot,
        limits: Limits,
        clock: Clock,
        jitter: Jitter | None = None,
    ) -> None:
        self.root = root
        self._session = session
        self._tokens = tokens
        self._limits = limits
        self._clock = clock
        self._jitter = jitter or SystemRandom().random

    async def fetch(
        self, lane: Lane, call: Call, *, lease: Lease | None = None, limit: int | None = None
    ) -> Answer:
        """Return the JSON object that ``call`` asks for.

        Args:
            lane: The scope it counts in.
            call: The request.
            lease: Grows with the body.
            limit: Bytes of the body after which it is abandoned.

        Raises:
            AnswerTooLongError: The body is longer than ``limit``.
            GraphError: See the subclasses; what the last try met.
            AuthError: No token, or a permission is missing.
        """
        # What nobody holds a lease for is a list of names and numbers, and far from this long.
        most = MOST_UNLEASED if limit is None and lease is None else limit

        async def read(response: aiohttp.ClientResponse) -> Answer:
            try:
                body = await read_body(response, lease, most)
            except AnswerTooLongError as error:
                if limit is not None:
                    raise
                raise AttemptFailedError(_broken(response, call, error)) from error
            lane.count_bytes(len(body))
            try:
                document = parse_object(body)
            except BrokenJsonError as error:
                raise AttemptFailedError(_broken(response, call, error)) from error
            return Answer(document, len(body))

        while True:
            try:
                return await self._persist(lane, call, read)
            except BytesShortError as short:
                # The place in flight is given back by now: others need it to finish and give
                # their bytes back, which are what is waited for here.
                if lease is not None:
                    await lease.grow_to(short.size)

    @asynccontextmanager
    async def stream(self, lane: Lane, call: Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an answer and hold its place in flight until the block ends.

        Opening is tried again as ``fetch`` does; reading is the caller's.

        Raises:
            GraphError: See the subclasses; what the last try met.
            AuthError: No token, or a permission is missing.
        """
        async with AsyncExitStack() as kept:
            yield await self._persist(lane, call, _itself, kept)

    def rest(self, lane: Lane, headers: Mapping[str, str], *, crowded: bool) -> None:
        """Let a lane rest as a refusal asks that came within the answer to a batch.

        Args:
            lane: The scope that was throttled.
            headers: Of the part, by lower-case name.
            crowded: Whether it had too many requests in flight.
        """
        seconds = retry_after_seconds(headers, self._clock.now())
        lane.throttle(FIRST_PAUSE if seconds is None else seconds, crowded=crowded)

    async def change(self, lane: Lane, call: Call) -> JsonObject:
        """Send what changes something; return the JSON answer, empty where there is none.

        What is not certain to have been carried out is only sent again when ``call.confirm`` does
        not find that it was.

        Raises:
            GraphError: See the subclasses; what the last try met.
            AuthError: No token, or a permission is missing.
        """
        uncertain = False

        async def before() -> JsonObject | None:
            return await call.confirm() if uncertain and call.confirm is not None else None

        async def read(response: aiohttp.ClientResponse) -> JsonObject:
            body = await read_body(response, None, MOST_UNLEASED)
            lane.count_bytes(len(body))
            if not body.strip():
                return {}
            try:
                return parse_object(body)
            except BrokenJsonError as error:
                raise AttemptFailedError(_broken(response, call, error)) from error

        def failed(failure: Failure) -> None:
            nonlocal uncertain
            uncertain = uncertain or failure.remedy in {Remedy.BACK_OFF, Remedy.REPEAT}

        try:
            return await self._persist(lane, call, read, before=before, failed=failed)
        except GraphTransient:
            # The last try may have been carried out as well.
            found = await before()
            if found is None:
                raise
            return found

    async def _persist(
        self,
        lane: Lane,
        call: Call,
        use: Callable[[aiohttp.ClientResponse], Awaitable[T]],
        kept: AsyncExitStack | None = None,
        *,
        before: Callable[[], Awaitable[T | None]] | None = None,
        failed: Callable[[Failure], None] = lambda _: None,
    ) -> T:
        persistence = Persistence(
            self._limits,
            self._clock,
            jitter=self._jitter,
            shrink=call.shrink,
            retries=call.retries,
        )

        async def attempt() -> T:
            generation = 0
            done = await before() if before is not None else None
            if done is not None:
                return done
            try:
                async with AsyncExitStack() as stack:
                    await self._take_place(lane, call, stack)
                    secret = ""
                    if not call.anonymous:
                        token = await self._tokens.token()
                        generation, secret = token.generation, token.text.reveal()
                    with network_failures(call.where):
                        response = await self._send(lane, call, secret, stack)
                        result = await use(response)
                    if kept is not None:
                        kept.push_async_exit(stack.pop_all())
                    return result
            except AttemptFailedError as refused:
                failed(refused.failure)
                judged = await self._respond(refused.failure, lane, persistence, generation)
                raise AttemptFailedError(judged) from refused.__cause__

        try:
            return await persistence.retrying()(attempt)
        except AttemptFailedError as last:
            raise last.failure.error from last.__cause__

    async def _take_place(self, lane: Lane, call: Call, stack: AsyncExitStack) -> None:
        if lane.gate.fenced_for > self._limits.patience:
            error = GraphThrottled(
                f"Microsoft Graph asked for {lane.gate.fenced_for:.0f} seconds without requests",
                hint="Run again later, or allow more patience.",
                where=call.where,
            )
            raise AttemptFailedError(Failure(error))
        sent = len(call.content.data) if call.content is not None else 0
        await stack.enter_async_context(lane.window.share(sent))
        slot = lane.gate.slot(cost=call.cost, alone=call.cost > 1)
        await stack.enter_async_context(slot)

    async def _send(
        self, lane: Lane, call: Call, token: str, stack: AsyncExitStack
    ) -> aiohttp.ClientResponse:
        headers = {
            "Accept": "application/json" if call.encoding == "gzip" else "*/*",
            "Accept-Encoding": call.encoding,
            "client-request-id": str(uuid4()),
        }
        if not call.anonymous:
            headers |= {"Authorization": f"Bearer {token}", "Prefer": _prefer(call)}
        data = None
        if call.content is not None:
            data = call.content.data
            headers.update(call.content.headers)
        elif call.body is not None:
            data = orjson.dumps(call.body)
            headers["Content-Type"] = "application/json"
        lane.count_request(call.cost)
        request = self._session.request(
            call.verb,
            URL(call.url if isinstance(call.url, str) else call.url(), encoded=True),
            headers=headers,
            data=BytesIO(data) if data is not None and len(data) > MOST_AT_ONCE else data,
            allow_redirects=False,
        )
        with anyio.fail_after(HEAD_SECONDS):
            response = await stack.enter_async_context(request)
        if response.status not in call.success:
            raise AttemptFailedError(await self._judge(response, lane, call))
        return response

    async def _judge(self, response: aiohttp.ClientResponse, lane: Lane, call: Call) -> Failure:
        body = await read_error_body(response)
        refusal = read_refusal(
            response.status,
            response.headers,
            body,
            area=lane.area,
            where=call.where,
            writing=call.success is not READS,
        )
        return classify(refusal, response.headers, empty=not body, now=self._clock.now())

    async def _respond(
        self, failure: Failure, lane: Lane, persistence: Persistence, generation: int
    ) -> Failure:
        """Do what a failure asks for beside waiting; no place in flight is held meanwhile."""
        if failure.remedy is Remedy.WAIT:
            seconds = persistence.throttle_seconds(failure)
            lane.throttle(seconds, crowded=failure.crowded)
            return replace(failure, retry_after=seconds)
        if failure.remedy is Remedy.NEW_TOKEN:
            await self._tokens.renew(generation)
        if isinstance(failure.error, ConsentError):
            roles = ", ".join(self._tokens.roles()) or "none"
            failure.error.hint += f" The token now carries: {roles}."
        return failure


async def _itself(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    return response


def _prefer(call: Call) -> str:
    if call.page_size is None:
        return IMMUTABLE
    return f"{IMMUTABLE}, odata.maxpagesize={call.page_size()}"


def _broken(response: aiohttp.ClientResponse, call: Call, error: Exception) -> Failure:
    broken = GraphProtocolError(
        f"Microsoft Graph answered with broken JSON: {error}",
        status=response.status,
        request_id=response.headers.get("request-id", ""),
        hint="Something between here and Microsoft may answer in its place: check the proxy. Run "
        "again later; what is stored stays stored.",
        where=call.where,
    )
    # Cut short or garbled on its way: less may come through, and a page of one shows what it is.
    return Failure(broken, Remedy.BACK_OFF, heavy=True)
