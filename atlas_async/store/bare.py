"""A store that writes no user metadata, whatever it is handed: what the store's operator sees less.

Reading is unchanged: objects that were written with metadata keep it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from atlas_async.store.base import ObjectReader, ObjectStore, SpooledBody
from atlas_async.store.intercepted import InterceptedStore, Request

T = TypeVar("T")


class _Straight:
    """Lets every request pass."""

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:  # noqa: ARG002 -- the shape of ``Interceptor``
        """Run the request."""
        return await call()

    def stream(
        self,
        request: Request,  # noqa: ARG002 -- the same
        enter: Callable[[], AbstractAsyncContextManager[ObjectReader]],
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the reader."""
        return enter()


class BareStore(InterceptedStore):
    """``ObjectStore`` whose objects carry no user metadata."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner, _Straight())

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,  # noqa: ARG002 -- this is what is left out
        if_absent: bool = False,
    ) -> None:
        """See ``ObjectStore.put``; ``metadata`` is dropped."""
        await self._inner.put(key, body, md5=md5, if_absent=if_absent)
