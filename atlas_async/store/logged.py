"""A debug line per request: what, where, how long, how it ended. Never bodies or metadata."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from atlas_async.clock import Clock
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.intercepted import InterceptedStore, Request, enter_through

T = TypeVar("T")

logger = logging.getLogger(__name__)


class RequestLog:
    """Logs each request as it ends."""

    def __init__(self, store: str, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Run the request and log how it ended; a cancelled one is logged as that."""
        began = self._clock.monotonic()
        ended = "ok"
        try:
            return await call()
        except BaseException as error:
            ended = type(error).__name__
            raise
        finally:
            logger.debug(
                "%s %s",
                request.op.value,
                ended,
                extra={
                    "store": self._store,
                    "key": request.key,
                    "bytes": request.size,
                    "seconds": round(self._clock.monotonic() - began, 6),
                },
            )

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Log opening."""
        return enter_through(self, request, enter)


class LoggedStore(InterceptedStore):
    """``ObjectStore`` that logs to ``atlas_async.store.logged`` at level DEBUG.

    The log record carries ``store``, ``key``, ``bytes`` and ``seconds`` as fields.
    """

    def __init__(self, inner: ObjectStore, *, clock: Clock) -> None:
        super().__init__(inner, RequestLog(inner.name, clock))
