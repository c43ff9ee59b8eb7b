"""What a store is asked for, in numbers: requests by kind and bytes uploaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from atlas_async.store.base import ObjectReader, ObjectStore, SpooledBody
from atlas_async.store.intercepted import InterceptedStore, Op, Request, enter_through

T = TypeVar("T")


class RequestCounter:
    """Counts requests as they start and uploaded bytes as their PUT succeeds.

    Above a retrying store a request counts once however often it was tried; below it, every try
    counts.
    """

    def __init__(self) -> None:
        self.by_op: Counter[Op] = Counter()
        self.bytes_uploaded = 0

    @property
    def requests(self) -> int:
        """All requests so far."""
        return self.by_op.total()

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Count the request."""
        self.by_op[request.op] += 1
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Count opening."""
        return enter_through(self, request, enter)


class CountingStore(InterceptedStore):
    """``ObjectStore`` that counts what passes; ``counter`` holds the numbers.

    A view is cheap: make one per mailbox over the shared store with ``owned=False``, so that
    closing the view leaves the store open.
    """

    def __init__(self, inner: ObjectStore, *, owned: bool = True) -> None:
        self.counter = RequestCounter()
        super().__init__(inner, self.counter, owned=owned)

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
        self.counter.by_op[Op.PUT] += 1
        await self._inner.put(key, body, md5=md5, metadata=metadata, if_absent=if_absent)
        self.counter.bytes_uploaded += len(body) if isinstance(body, bytes) else body.size

    @property
    def requests(self) -> int:
        """All requests so far."""
        return self.counter.requests

    @property
    def bytes_uploaded(self) -> int:
        """Bytes of the bodies whose PUT succeeded."""
        return self.counter.bytes_uploaded
