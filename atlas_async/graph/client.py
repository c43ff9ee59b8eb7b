"""Requests to Graph: token, headers, a place in the lane, judging the answer, further tries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Final, TypeVar
from uuid import uuid4

import aiohttp
import anyio
import orjson
from yarl import URL

from atlas_async.clock import Clock
from atlas_async.config.settings import Limits
from atlas_async.errors import ConsentError, GraphProtocolError, GraphThrottled
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

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer and the length of its decoded text in bytes."""

    document: JsonObject
    size: int


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as it is sent however often it is tried.

    Args:
        url: Where to, of the configured origin; a function is asked before every try.
        where: What it concerns, for errors.
        body: JSON to POST; a GET when None.
        encoding: ``Accept-Encoding``.
        cost: Requests it counts for.
        page_size: Asked before every try for ``odata.maxpagesize``.
        shrink: Halves the page size and returns True, or returns False at the smallest.
        retries: Replaces the configured number of further tries.
    """

    url: str | Callable[[], str]
    where: str
    body: JsonObject | None = None
    encoding: str = "gzip"
    cost: int = 1
    page_size: Callable[[], int] | None = None
    shrink: Callable[[], bool] | None = None
    retries: int | None = None


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

    async def _persist(
        self,
        lane: Lane,
        call: Call,
        use: Callable[[aiohttp.ClientResponse], Awaitable[T]],
        kept: AsyncExitStack | None = None,
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
            try:
                async with AsyncExitStack() as stack:
                    await self._take_place(lane, call, stack)
                    token = await self._tokens.token()
                    generation = token.generation
                    with network_failures(call.where):
                        response = await self._send(lane, call, token.text.reveal(), stack)
                        result = await use(response)
                    if kept is not None:
                        kept.push_async_exit(stack.pop_all())
                    return result
            except AttemptFailedError as failed:
                judged = await self._respond(failed.failure, lane, persistence, generation)
                raise AttemptFailedError(judged) from failed.__cause__

        try:
            return await persistence.retrying()(attempt)
        except AttemptFailedError as failed:
            raise failed.failure.error from failed.__cause__

    async def _take_place(self, lane: Lane, call: Call, stack: AsyncExitStack) -> None:
        if lane.gate.fenced_for > self._limits.patience:
            error = GraphThrottled(
                f"Microsoft Graph asked for {lane.gate.fenced_for:.0f} seconds without requests",
                hint="Run again later, or allow more patience.",
                where=call.where,
            )
            raise AttemptFailedError(Failure(error))
        slot = lane.gate.slot(cost=call.cost, alone=call.cost > 1)
        await stack.enter_async_context(slot)

    async def _send(
        self, lane: Lane, call: Call, token: str, stack: AsyncExitStack
    ) -> aiohttp.ClientResponse:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json" if call.encoding == "gzip" else "*/*",
            "Accept-Encoding": call.encoding,
            "Prefer": _prefer(call),
            "client-request-id": str(uuid4()),
        }
        data = None
        if call.body is not None:
            data = orjson.dumps(call.body)
            headers["Content-Type"] = "application/json"
        lane.count_request(call.cost)
        request = self._session.request(
            "GET" if data is None else "POST",
            URL(call.url if isinstance(call.url, str) else call.url(), encoded=True),
            headers=headers,
            data=data,
            allow_redirects=False,
        )
        with anyio.fail_after(HEAD_SECONDS):
            response = await stack.enter_async_context(request)
        if response.status != 200:  # noqa: PLR2004 - 200 OK, the only success of a read
            raise AttemptFailedError(await self._judge(response, lane, call))
        return response

    async def _judge(self, response: aiohttp.ClientResponse, lane: Lane, call: Call) -> Failure:
        body = await read_error_body(response)
        refusal = read_refusal(
            response.status, response.headers, body, area=lane.area, where=call.where
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
