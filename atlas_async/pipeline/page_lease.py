"""What is held of the byte budget for a page: what it took, or, before it came, is expected to."""

from __future__ import annotations

from typing import Final

from atlas_async.pipeline.budget import Lease

PAGE_LEASE: Final = 256 << 10
"""Bytes held for any page."""
PARSED_FACTOR: Final = 5
"""A page of JSON takes up to five times its length once parsed: a text with one emoji is four bytes
wide, and keeps its UTF-8 beside it once it was written."""
LARGEST_PAGE: Final = 4 << 20
"""Bytes of JSON that a page is expected to have at most: sources keep pages near that."""
SLACK: Final = 1.125
"""A page is expected to be this much larger than its messages were so far."""
RETURNS: Final = 4
"""In how many parts, about, the bytes of a page are given back."""
MEMORY: Final = 0.75
"""What is left, with each page, of the size that messages were expected to have."""


class PageLease:
    """A lease over the JSON text that accounts for what parsing makes of it."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def try_grow_to(self, size: int) -> bool:
        """Hold enough for ``size`` bytes of JSON, if possible at once."""
        return self._lease.try_grow_to(size * PARSED_FACTOR)

    async def grow_to(self, size: int) -> None:
        """Hold enough for ``size`` bytes of JSON."""
        await self._lease.grow_to(size * PARSED_FACTOR)


class Expectation:
    """How large the next page will be, learnt from those before it, of all mailboxes.

    An answer that outgrows what is held, while nothing is free, has to be thrown away and asked for
    again: it costs the mailbox a request and a round trip. So its bytes are waited for first.
    """

    def __init__(self) -> None:
        self._item_bytes = 0.0

    def bytes_for(self, items: int) -> int:
        """Return the bytes to hold for a page of ``items`` messages before it is asked for."""
        expected = min(LARGEST_PAGE, int(items * self._item_bytes * SLACK))
        return max(PAGE_LEASE, expected * PARSED_FACTOR)

    def learn(self, items: int, size_bytes: int) -> None:
        """Note the size of a page that came; larger messages than before count at once."""
        if items:
            self._item_bytes = max(size_bytes / items, MEMORY * self._item_bytes)


class Returns:
    """Gives the bytes of a page back in parts, as its messages are settled, for the next page.

    Args:
        lease: The page's; None for a page that holds nothing.
        items: Its messages.
    """

    def __init__(self, lease: Lease | None, items: int) -> None:
        self._lease = lease
        self._size = lease.size if lease is not None else 0
        self._items = items
        self._left = items
        self._step = max(1, items // RETURNS)

    def settled(self) -> None:
        """Note that one more message needs its bytes no more."""
        self._left -= 1
        if self._lease is not None and self._left % self._step == 0:
            self._lease.shrink_to(-(-self._size * self._left // self._items))
