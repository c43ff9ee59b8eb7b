"""Pages of a collection: what one holds, how large the next may be, links that go in a circle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atlas_async.errors import GraphProtocolError
from atlas_async.model.source import JsonObject

TARGET_BYTES: Final = 4 << 20
"""Pages are kept near 4 MiB: large enough to be few, small enough not to time out."""
GOOD_PAGES: Final = 4
"""Pages in a row that must succeed before a page size reduced by errors doubles again."""
MEMORY: Final = 0.5
"""Weight of all earlier pages against the newest in the mean size of an item."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: resources, ids of what was removed, and the link that goes on, if any."""

    items: tuple[JsonObject, ...]
    removed: tuple[str, ...]
    next_link: str | None
    delta_link: str | None


def read_page(document: JsonObject, where: str) -> Page:
    """Return the page that ``document`` is. Of several entries for one id the last one counts.

    Raises:
        GraphProtocolError: ``value`` is missing, or an entry has no id.
    """
    value = document.get("value")
    if not isinstance(value, list):
        raise GraphProtocolError("A page without a value array", where=where)
    latest: dict[str, JsonObject] = {}
    for entry in value:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
            raise GraphProtocolError("A page holds an entry without an id", where=where)
        latest.pop(entry["id"], None)
        latest[entry["id"]] = entry
    next_link = _link(document, "@odata.nextLink", where)
    return Page(
        items=tuple(entry for entry in latest.values() if "@removed" not in entry),
        removed=tuple(key for key, entry in latest.items() if "@removed" in entry),
        next_link=next_link,
        delta_link=None if next_link else _link(document, "@odata.deltaLink", where),
    )


def _link(document: JsonObject, name: str, where: str) -> str | None:
    link = document.get(name)
    if link is None or link == "":
        return None
    if not isinstance(link, str):
        raise GraphProtocolError(f"{name} is not text", where=where)
    return link


class LinkTrail:
    """Notices a round of pages that goes in a circle.

    Asking the same page again is no circle: a link is suspicious only when two different pages
    lead to it, or a page to itself.
    """

    def __init__(self) -> None:
        self._led_by: dict[int, int] = {}

    def follow(self, asked: str, page: Page, where: str) -> None:
        """Note that the page behind ``asked`` leads on to ``page.next_link``.

        Raises:
            GraphProtocolError: That link was met before in this round.
        """
        if page.next_link is None:
            self._led_by.clear()
            return
        origin, target = hash(asked), hash(page.next_link)
        if origin == target or self._led_by.get(target, origin) != origin:
            self._led_by.clear()
            raise GraphProtocolError(
                "Microsoft Graph repeats a page link: the listing would never end",
                hint="The folder is read again from its beginning by the next run.",
                where=where,
            )
        self._led_by[target] = origin

    def restart(self) -> None:
        """Forget the round so far."""
        self._led_by.clear()


class PageSizer:
    """How many items a page of one folder may hold, learnt from errors and from bytes."""

    def __init__(self) -> None:
        self._last = 0
        self._by_errors: int | None = None
        self._by_bytes: int | None = None
        self._good = 0
        self._bytes = 0.0
        self._items = 0.0

    def size(self, asked: int) -> int:
        """Return the page size to ask for, at most ``asked``."""
        limits = [asked]
        limits += [limit for limit in (self._by_errors, self._by_bytes) if limit is not None]
        self._last = max(1, min(limits))
        return self._last

    def shrink(self) -> bool:
        """Halve the page size last asked for; return False when it is 1 already."""
        if self._last <= 1:
            return False
        self._by_errors = self._last // 2
        self._good = 0
        return True

    def settle(self, items: int, size_bytes: int) -> None:
        """Learn from a page that came: its number of items and its length in bytes."""
        if items:
            self._bytes = self._bytes * MEMORY + size_bytes
            self._items = self._items * MEMORY + items
            self._by_bytes = max(1, int(TARGET_BYTES * self._items / max(1.0, self._bytes)))
        self._good += 1
        if self._by_errors is not None and self._good >= GOOD_PAGES:
            self._by_errors *= 2
            self._good = 0
