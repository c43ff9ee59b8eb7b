"""Several at once: one piece of work for every item, by a bounded number of tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from atlas_async.errors import AtlasError

T = TypeVar("T")


async def side_by_side(
    work: Callable[[T], Awaitable[None]], items: Sequence[T], *, at_once: int
) -> None:
    """Do ``work`` for every item, ``at_once`` of them at a time: there may be many thousands.

    Raises an ``ExceptionGroup`` of what ``work`` raised; the rest is cancelled then.
    """
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with anyio.create_task_group() as group:
        for _ in range(min(at_once, len(items))):
            group.start_soon(worker)


async def until_first_error(
    work: Callable[[T], Awaitable[None]], items: Sequence[T], *, at_once: int
) -> None:
    """Do ``work`` side by side; the first of our errors is raised as it is, the rest cancelled."""
    errors: list[AtlasError] = []

    async def attempt(item: T) -> None:
        try:
            await work(item)
        except AtlasError as error:
            errors.append(error)
            raise

    try:
        await side_by_side(attempt, items, at_once=at_once)
    except* AtlasError:
        pass
    if errors:
        raise errors[0]
