"""The seam that wrappers share: a store whose every request passes through an interceptor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from atlas_async.store.base import (
    ListPage,
    ObjectInfo,
    ObjectReader,
    ObjectStore,
    SpooledBody,
    StoredObject,
)

T = TypeVar("T")


class Op(StrEnum):
    """The requests a store answers."""

    OPEN_BUCKET = "open_bucket"
    HEAD = "head"
    GET = "get"
    OPEN = "open"
    PUT = "put"
    LIST = "list"
    DELETE = "delete"


@dataclass(slots=True)
class Request:
    """What is asked. ``size`` is the body's length in bytes, 0 where there is none."""

    op: Op
    key: str
    size: int = 0
    md5: bytes = b""
    if_absent: bool = False


class Interceptor(Protocol):
    """Something that happens around requests."""

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Await ``call`` (never, once or more often) and return what it returned."""
        ...

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the reader that ``enter`` makes; the same, for requests that stay open."""
        ...


@asynccontextmanager
async def enter_through(
    interceptor: Interceptor,
    request: Request,
    enter: Callable[[], AbstractAsyncContextManager[ObjectReader]],
) -> AsyncIterator[ObjectReader]:
    """Open a reader with ``interceptor.run`` around entering only: what most interceptors want."""
    async with AsyncExitStack() as stack:
        yield await interceptor.run(request, lambda: stack.enter_async_context(enter()))


class InterceptedStore:
    """``ObjectStore`` that sends every request of ``inner`` through ``interceptor``.

    Args:
        inner: The store that answers.
        interceptor: What happens around each request.
        owned: Whether ``aclose`` closes ``inner`` too; false for views of a shared store.
    """

    def __init__(self, inner: ObjectStore, interceptor: Interceptor, *, owned: bool = True) -> None:
        self._inner = inner
        self._run = interceptor.run
        self._stream = interceptor.stream
        self._owned = owned

    @property
    def name(self) -> str:
        """The inner store's name."""
        return self._inner.name

    @property
    def conditional_writes(self) -> bool | None:
        """Whether ``if_absent`` is atomic in the inner store; None while not known."""
        return self._inner.conditional_writes

    async def open_bucket(self, *, create: bool) -> None:
        """See ``ObjectStore.open_bucket``."""
        request = Request(Op.OPEN_BUCKET, "")
        await self._run(request, lambda: self._inner.open_bucket(create=create))

    async def head(self, key: str) -> ObjectInfo | None:
        """See ``ObjectStore.head``."""
        return await self._run(Request(Op.HEAD, key), lambda: self._inner.head(key))

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        """See ``ObjectStore.get``."""
        return await self._run(Request(Op.GET, key), lambda: self._inner.get(key, most=most))

    def open(self, key: str) -> AbstractAsyncContextManager[ObjectReader]:
        """See ``ObjectStore.open``."""
        return self._stream(Request(Op.OPEN, key), lambda: self._inner.open(key))

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """See ``ObjectStore.put``."""
        size = len(body) if isinstance(body, bytes) else body.size
        await self._run(
            Request(Op.PUT, key, size, md5, if_absent),
            lambda: self._inner.put(key, body, md5=md5, metadata=metadata, if_absent=if_absent),
        )

    async def list_page(
        self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000
    ) -> ListPage:
        """See ``ObjectStore.list_page``."""
        return await self._run(
            Request(Op.LIST, prefix),
            lambda: self._inner.list_page(prefix, delimiter=delimiter, token=token, limit=limit),
        )

    async def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``."""
        await self._run(Request(Op.DELETE, key), lambda: self._inner.delete(key))

    async def aclose(self) -> None:
        """Close the inner store when it is owned."""
        if self._owned:
            await self._inner.aclose()
