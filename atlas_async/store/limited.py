"""A bound on the transfers in flight."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import anyio

from atlas_async.store.base import ObjectReader, ObjectStore, SpooledBody
from atlas_async.store.intercepted import InterceptedStore, Op, Request

T = TypeVar("T")


class GetLimit:
    """Lets so many GETs run at once; the rest wait in order. Other requests pass."""

    def __init__(self, gets: int) -> None:
        self._gets = anyio.Semaphore(gets, fast_acquire=True)

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Run the request when there is a place; cancellable while it waits."""
        if request.op is Op.GET:
            async with self._gets:
                return await call()
        return await call()

    @asynccontextmanager
    async def stream(
        self, _request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AsyncIterator[ObjectReader]:
        """Hold a place for as long as the reader is open."""
        async with self._gets, enter() as reader:
            yield reader


class LimitedStore(InterceptedStore):
    """``ObjectStore`` with at most ``puts`` PUTs and ``gets`` GETs in flight.

    Reading and writing have separate places, so that a task may put what it is reading.
    """

    def __init__(self, inner: ObjectStore, *, puts: int, gets: int) -> None:
        super().__init__(inner, GetLimit(gets))
        self._puts = anyio.Semaphore(puts, fast_acquire=True)

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
        async with self._puts:
            await self._inner.put(key, body, md5=md5, metadata=metadata, if_absent=if_absent)
