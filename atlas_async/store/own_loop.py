"""A thread with an event loop of its own, for coroutines that block it between their awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from anyio import to_thread

T = TypeVar("T")


async def run_on_own_loop(operation: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run ``operation`` in a worker thread and return its result.

    aiobotocore reads service models, profiles and certificates from disk while it is awaited;
    there nobody waits for that. A cancelled caller waits for the operation to end.
    """
    return await to_thread.run_sync(_run_there, operation)


def _run_there(operation: Callable[[], Coroutine[object, object, T]]) -> T:
    return asyncio.run(operation())
