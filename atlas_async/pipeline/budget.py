"""Bytes in flight, bounded over all mailboxes (I5).

The order of what a task may wait for while holding what is fixed, so that nobody waits in a circle:
page bytes, then single-message bytes, then content bytes, then a place in flight of a mailbox. Who
holds a place in flight never waits for bytes: a request whose answer outgrows its lease gives its
place back, waits, and asks again.

A lease is taken before bytes are fetched and given back when they are stored. True sizes are known
late, so a lease may grow; a growing lease that does not fit waits, except one at a time, which may
overdraw: so somebody always gets on, and a single body larger than the whole budget still passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio


@dataclass(frozen=True, slots=True)
class BudgetStatistics:
    """Bytes held now and at most, and how many tasks are waiting."""

    capacity: int
    used: int
    peak: int
    waiting: int


class Lease:
    """A share of a budget. Use through ``ByteBudget.lease``."""

    __slots__ = ("_budget", "overdrawn", "size")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.size = 0
        self.overdrawn = False

    def try_grow_to(self, size: int) -> bool:
        """Hold at least ``size`` bytes if that is possible at once; tell whether it was."""
        return size <= self.size or self._budget.try_take(self, size - self.size)

    async def grow_to(self, size: int) -> None:
        """Hold at least ``size`` bytes; may wait. Cancelling leaves the lease as it was."""
        if size > self.size:
            await self._budget.take(self, size - self.size)

    def shrink_to(self, size: int) -> None:
        """Hold at most ``size`` bytes."""
        if size < self.size:
            self._budget.give(self, self.size - size)


class ByteBudget:
    """A bounded number of bytes, leased first come first served.

    Args:
        capacity: Bytes; more than this is held only by one overdrawing lease at a time.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._peak = 0
        self._overdrawn: Lease | None = None
        self._waiting: deque[tuple[Lease, int, anyio.Event]] = deque()

    @property
    def statistics(self) -> BudgetStatistics:
        """Return what is held and who waits."""
        return BudgetStatistics(self._capacity, self._used, self._peak, len(self._waiting))

    @asynccontextmanager
    async def lease(self, size: int) -> AsyncIterator[Lease]:
        """Hold ``size`` bytes for the body of the ``async with``."""
        lease = await self.open_lease(size)
        try:
            yield lease
        finally:
            self.close_lease(lease)

    async def open_lease(self, size: int) -> Lease:
        """Take a lease that outlives the caller's block; give it to ``close_lease``."""
        lease = Lease(self)
        await lease.grow_to(size)
        return lease

    def close_lease(self, lease: Lease) -> None:
        """Give a lease back. Closing twice does nothing."""
        self.give(lease, lease.size)

    def try_take(self, lease: Lease, amount: int) -> bool:
        """Add ``amount`` to a lease that holds something already, if it fits or may overdraw."""
        return self._grant(lease, amount)

    async def take(self, lease: Lease, amount: int) -> None:
        """Add ``amount`` to a lease, waiting while it does not fit."""
        if not self._waiting and self._grant(lease, amount):
            return
        event = anyio.Event()
        entry = (lease, amount, event)
        self._waiting.append(entry)
        self._wake()
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.give(lease, amount)
            else:
                self._waiting.remove(entry)
                self._wake()
            raise

    def give(self, lease: Lease, amount: int) -> None:
        """Take ``amount`` off a lease and let others on."""
        lease.size -= amount
        self._used -= amount
        if lease is self._overdrawn and (lease.size == 0 or self._used <= self._capacity):
            self._overdrawn = None
        self._wake()

    def _grant(self, lease: Lease, amount: int) -> bool:
        if self._used + amount > self._capacity:
            growing = lease.size > 0
            if self._overdrawn not in (None, lease) or not (growing or self._used == 0):
                return False
            self._overdrawn = lease
        lease.size += amount
        self._used += amount
        self._peak = max(self._peak, self._used)
        return True

    def _wake(self) -> None:
        """Grant whoever can be granted: growing leases first, then in order."""
        for entry in [e for e in self._waiting if e[0].size > 0]:
            self._try(entry)
        while self._waiting and self._try(self._waiting[0]):
            pass

    def _try(self, entry: tuple[Lease, int, anyio.Event]) -> bool:
        lease, amount, event = entry
        if not self._grant(lease, amount):
            return False
        self._waiting.remove(entry)
        event.set()
        return True


@dataclass(frozen=True, slots=True)
class Budgets:
    """The pools of one budget.

    A page holds its lease until its messages are stored; some of them may have to be fetched
    whole, one by one, and storing them may need bytes for attachments. Separate pools keep that
    order free of deadlock: who holds bytes of a later pool never waits for those of an earlier.
    """

    pages: ByteBudget
    singles: ByteBudget
    content: ByteBudget

    @classmethod
    def of(cls, total: int) -> Budgets:
        """Split ``total`` bytes."""
        eighth = total // 8
        return cls(ByteBudget(3 * eighth), ByteBudget(eighth), ByteBudget(total - 4 * eighth))
