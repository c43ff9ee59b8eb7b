"""Bytes of a page are waited for before it is asked for, so that no answer is thrown away."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from atlas_async.catalog.snapshot import FolderCursor
from atlas_async.model.source import EnumerationMode, Folder, MessagePage
from atlas_async.pipeline.batch import PageBatch
from atlas_async.pipeline.budget import ByteBudget
from atlas_async.pipeline.page_lease import (
    LARGEST_PAGE,
    PAGE_LEASE,
    PARSED_FACTOR,
    RETURNS,
    Expectation,
    Returns,
)
from atlas_async.pipeline.produce import Producer
from tests.fakes.clock import FakeClock
from tests.fakes.mailbox import FakeMailbox

MESSAGE = 100 << 10
PAGE = 10


class Pages(FakeMailbox):
    """A mailbox whose messages are large; ``held`` is what each request held when it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[int] = []
        self.thrown_away = 0
        self.message_bytes = MESSAGE

    async def message_page(
        self, folder_id: str, *, mode: EnumerationMode, link: str | None, page_size: int, lease: Any
    ) -> MessagePage:
        """Give a page as the Graph adapter does: what does not fit is asked for again."""
        self.held.append(lease._lease.size)
        start = int(link or 0)
        ids = self.in_folder(folder_id)[start : start + page_size]
        size = len(ids) * self.message_bytes
        while not lease.try_grow_to(size):
            self.thrown_away += 1
            await lease.grow_to(size)
            self.held.append(lease._lease.size)
        more = start + page_size < len(self.in_folder(folder_id))
        items = tuple(self.messages[key] for key in ids)
        return MessagePage(items, (), str(start + page_size) if more else None, "end", size)


def folder_of(mailbox: Pages, messages: int) -> Folder:
    """Fill a folder and return it as the tree shows it."""
    key = mailbox.add_folder("in")
    for _ in range(messages):
        mailbox.add(key)
    return Folder(id=key, parent_id="root", name="in", path=("in",), total_items=messages)


def producer_of(mailbox: Pages, budget: ByteBudget) -> Producer:
    """Return a producer that tells nobody anything."""
    return Producer(
        mailbox,
        budget,
        expectation=Expectation(),
        page_size=PAGE,
        clock=FakeClock(),
        notice=lambda _text: None,
    )


async def read(mailbox: Pages, folder: Folder, cursor: FolderCursor | None = None) -> None:
    """Read a folder to its end with bytes to spare."""
    producer = producer_of(mailbox, ByteBudget(1 << 30))

    async def settle(batch: PageBatch) -> None:
        producer.release(batch.lease)

    start = cursor or FolderCursor()
    await producer.produce(folder, start, settle, full=False, recorded=0)


async def test_later_pages_hold_what_earlier_ones_took() -> None:
    """From the second page on enough is held for as many messages as the page will have."""
    mailbox = Pages()
    await read(mailbox, folder_of(mailbox, 2 * PAGE + 3))

    first, second, last = mailbox.held
    assert first == PAGE_LEASE
    assert second >= PAGE * MESSAGE * PARSED_FACTOR
    assert 3 * MESSAGE * PARSED_FACTOR <= last < second


async def test_changes_hold_little() -> None:
    """How many messages a later round brings is not known: it is asked for with the least."""
    mailbox = Pages()
    folder = folder_of(mailbox, 2 * PAGE)
    await read(mailbox, folder, FolderCursor("0"))

    assert mailbox.held == [PAGE_LEASE, PAGE_LEASE]


@pytest.mark.parametrize("message_bytes", [1, 50 << 20])
async def test_what_is_held_has_bounds(message_bytes: int) -> None:
    """Neither tiny nor huge messages make a request hold too little or too much."""
    mailbox = Pages()
    mailbox.message_bytes = message_bytes
    await read(mailbox, folder_of(mailbox, 2 * PAGE))

    assert mailbox.held[0] == PAGE_LEASE
    assert PAGE_LEASE <= mailbox.held[1] <= LARGEST_PAGE * PARSED_FACTOR


async def test_no_answer_is_thrown_away_for_want_of_bytes() -> None:
    """With bytes for one page at a time, the second page waits unasked until the first is done."""
    mailbox = Pages()
    folder = folder_of(mailbox, 3 * PAGE)
    producer = producer_of(mailbox, ByteBudget(PAGE * MESSAGE * PARSED_FACTOR * 3 // 2))
    waiting: list[PageBatch] = []

    async def keep(batch: PageBatch) -> None:
        waiting.append(batch)

    async with anyio.create_task_group() as group:

        async def produce() -> None:
            await producer.produce(folder, FolderCursor(), keep, full=False, recorded=0)

        group.start_soon(produce)
        for page in range(3):
            await wait_all_tasks_blocked()
            assert len(mailbox.held) == len(waiting) == page + 1
            producer.release(waiting[page].lease)

    assert mailbox.thrown_away == 0


@pytest.mark.parametrize("items", [1, 3, 10, 100])
async def test_bytes_come_back_while_a_page_is_settled(items: int) -> None:
    """What is held follows what is left of the page; nothing is left in the end."""
    budget = ByteBudget(1000)
    async with budget.lease(800) as lease:
        returns = Returns(lease, items)
        held = [lease.size]
        for left in reversed(range(items)):
            returns.settled()
            held.append(lease.size)
            assert lease.size * items >= 800 * left
        assert held == sorted(held, reverse=True)
        assert held[-1] == 0
        assert len(set(held)) <= 2 * RETURNS + 1


def test_a_page_that_holds_nothing_gives_nothing_back() -> None:
    """Messages fetched one by one have leases of their own."""
    Returns(None, 1).settled()
