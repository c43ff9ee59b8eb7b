"""Trying again what may pass: with full jitter, as long as patience lasts."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from atlas_async.clock import Clock
from atlas_async.errors import ObjectExists, StoreTransient
from atlas_async.store.base import ObjectReader, ObjectStore, SpooledBody
from atlas_async.store.intercepted import InterceptedStore, Op, Request, enter_through

T = TypeVar("T")

FIRST_SECONDS = 0.5
"""Upper bound of the first wait; each next one doubles it."""
LONGEST_SECONDS = 10.0
"""Upper bound of any wait that the store did not ask for."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    Args:
        retries: Further tries after the first.
        patience: Seconds from the first failure after which no further try begins.
    """

    retries: int
    patience: float


class Retrier:
    """Runs requests until they pass, fail for good, or patience is over.

    A conditional put whose answer was lost and that is then refused has met its own object: when
    what is there has the body's MD5, it succeeded.
    """

    def __init__(
        self, inner: ObjectStore, policy: RetryPolicy, clock: Clock, random: Random
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._clock = clock
        self._random = random

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Run the request. Raises the last ``StoreTransient`` when patience is over."""
        try:
            return await call()
        except StoreTransient as error:
            # Only now: the retry machinery costs more than a small request.
            return await self.again(request, call, error)

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the reader, trying again; what fails later fails."""
        return enter_through(self, request, enter)

    async def again(
        self, request: Request, call: Callable[[], Awaitable[T]], first: StoreTransient
    ) -> T:
        """Run a request that has failed once. Raises as ``run`` does."""
        known: list[StoreTransient] = [first]
        began = self._clock.monotonic()

        async def attempt() -> T:
            if known:
                raise known.pop()
            return await call()

        def over(state: RetryCallState) -> bool:
            passed = self._clock.monotonic() - began + state.upcoming_sleep
            return state.attempt_number > self._policy.retries or passed > self._policy.patience

        retrying = AsyncRetrying(
            sleep=self._clock.sleep,
            retry=retry_if_exception_type(StoreTransient),
            wait=self._pause,
            stop=over,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except ObjectExists:
            if request.op is Op.PUT and request.if_absent and await self._is_ours(request):
                return None  # type: ignore[return-value] # a put returns None, whatever T is here
            raise

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, StoreTransient) else 0.0
        bound = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (state.attempt_number - 1))
        return asked + self._random.uniform(0, bound)

    async def _is_ours(self, request: Request) -> bool:
        head = Request(Op.HEAD, request.key)
        info = await self.run(head, lambda: self._inner.head(request.key))
        if info is None or info.size != request.size:
            return False
        if info.etag == request.md5.hex():
            return True
        # The ETag is no MD5 in every store: encrypted by KMS, for example.
        reading = Request(Op.GET, request.key)
        return await self.run(reading, lambda: self._digest(request.key)) == request.md5

    async def _digest(self, key: str) -> bytes:
        digest = hashlib.md5(usedforsecurity=False)
        async with self._inner.open(key) as reader:
            async for chunk in reader:
                digest.update(chunk)
        return digest.digest()


class RetryingStore(InterceptedStore):
    """``ObjectStore`` that tries again after ``StoreTransient``.

    Args:
        inner: The store that is asked.
        policy: How often and how long.
        clock: Measures patience and sleeps between tries; cancellable there.
        random: Source of jitter.
    """

    def __init__(
        self,
        inner: ObjectStore,
        policy: RetryPolicy,
        *,
        clock: Clock,
        random: Random | None = None,
    ) -> None:
        jitter = random or Random()  # noqa: S311 - spreads load, guards nothing
        self._retrier = Retrier(inner, policy, clock, jitter)
        super().__init__(inner, self._retrier)

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """See ``ObjectStore.put``. Written out, because every message passes here."""
        try:
            await self._inner.put(key, body, md5=md5, metadata=metadata, if_absent=if_absent)
        except StoreTransient as error:
            size = len(body) if isinstance(body, bytes) else body.size
            await self._retrier.again(
                Request(Op.PUT, key, size, md5, if_absent),
                lambda: self._inner.put(key, body, md5=md5, metadata=metadata, if_absent=if_absent),
                error,
            )
