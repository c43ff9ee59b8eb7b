"""A store that fails on purpose, for tests of what is built on stores."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import TypeVar

from atlas_async.clock import Clock
from atlas_async.errors import StoreError, StoreTransient
from atlas_async.store.base import ObjectInfo, ObjectReader, ObjectStore
from atlas_async.store.intercepted import InterceptedStore, Op, Request

T = TypeVar("T")


class Failure(Enum):
    """How a request goes wrong.

    ``REFUSED``: it does not reach the store. ``ANSWER_LOST``: it takes effect, and its answer
    does not arrive. ``PARTIAL``: an opened body ends half way. ``DELAYED``: it waits, then runs.
    """

    REFUSED = auto()
    ANSWER_LOST = auto()
    PARTIAL = auto()
    DELAYED = auto()


@dataclass(slots=True)
class Fault:
    """Which requests go wrong, and how.

    Args:
        failure: How.
        op: The kind of request, or None for every kind.
        key: Regular expression searched for in the key.
        after: Matching requests that pass first.
        times: Matching requests that go wrong then, or None for all.
        probability: Chance of each of these to go wrong.
        error: Makes what is raised.
        seconds: How long a delayed request waits.
        hits: How often it has struck.
    """

    failure: Failure
    op: Op | None = None
    key: str = ""
    after: int = 0
    times: int | None = 1
    probability: float = 1.0
    error: Callable[[], StoreError] = lambda: StoreTransient("injected fault")
    seconds: float = 0.0
    hits: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def strikes(self, request: Request, random: Random) -> bool:
        """Tell whether ``request`` goes wrong, and count it."""
        if self.op not in {None, request.op} or not re.search(self.key, request.key):
            return False
        self._seen += 1
        spent = self.times is not None and self.hits >= self.times
        if self._seen <= self.after or spent or random.random() >= self.probability:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class _CutReader:
    """Half of an object, then an error."""

    inner: ObjectReader
    error: StoreError

    @property
    def info(self) -> ObjectInfo:
        return self.inner.info

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self.info.size // 2
        async for chunk in self.inner:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                break
        raise self.error


class FaultInjector:
    """Applies the first fault that strikes to each request."""

    def __init__(self, faults: Sequence[Fault], clock: Clock, seed: int) -> None:
        self._faults = faults
        self._clock = clock
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Run the request, or let it go wrong."""
        fault = self._pick(request)
        if fault is None:
            return await call()
        if fault.failure is Failure.DELAYED:
            await self._clock.sleep(fault.seconds)
            return await call()
        if fault.failure is Failure.ANSWER_LOST:
            await call()
        raise fault.error()

    @asynccontextmanager
    async def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AsyncIterator[ObjectReader]:
        """Open the reader, or let opening or reading go wrong."""
        fault = self._pick(request)
        if fault is not None and fault.failure is Failure.DELAYED:
            await self._clock.sleep(fault.seconds)
        elif fault is not None and fault.failure is not Failure.PARTIAL:
            raise fault.error()
        async with enter() as reader:
            if fault is not None and fault.failure is Failure.PARTIAL:
                yield _CutReader(reader, fault.error())
            else:
                yield reader

    def _pick(self, request: Request) -> Fault | None:
        return next((fault for fault in self._faults if fault.strikes(request, self._random)), None)


class FaultyStore(InterceptedStore):
    """``ObjectStore`` whose requests go wrong as ``faults`` say, the same way for the same seed.

    ``faults`` may be changed while the store is in use.
    """

    def __init__(
        self, inner: ObjectStore, faults: Sequence[Fault], *, clock: Clock, seed: int = 0
    ) -> None:
        super().__init__(inner, FaultInjector(faults, clock, seed))
