"""Pages, circles of links, and page sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.errors import GraphProtocolError
from atlas_async.graph.paging import TARGET_BYTES, LinkTrail, Page, PageSizer, read_page


def page_to(link: str | None) -> Page:
    """Return an empty page that leads to ``link``."""
    return Page((), (), link, None)


def test_removals_may_stand_among_items() -> None:
    """Removed ids are told apart wherever they stand, and the last word on an id counts."""
    page = read_page(
        {
            "value": [
                {"id": "a", "subject": "old"},
                {"id": "b", "@removed": {"reason": "deleted"}},
                {"id": "c", "@removed": {"reason": "changed"}},
                {"id": "a", "subject": "new"},
                {"id": "c", "subject": "back"},
            ]
        },
        "here",
    )

    assert page.items == ({"id": "a", "subject": "new"}, {"id": "c", "subject": "back"})
    assert page.removed == ("b",)


def test_a_next_link_wins_over_a_delta_link() -> None:
    """A page with both links is not the last."""
    both = {"value": [], "@odata.nextLink": "n", "@odata.deltaLink": "d"}

    assert (read_page(both, "").next_link, read_page(both, "").delta_link) == ("n", None)


def test_a_page_may_have_neither_link() -> None:
    """The caller sees that the round ended without a link."""
    page = read_page({"value": [], "@odata.nextLink": ""}, "")

    assert (page.next_link, page.delta_link) == (None, None)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"value": None},
        {"value": [{}]},
        {"value": [{"id": 3}]},
        {"value": [{"id": ""}]},
        {"value": ["x"]},
        {"value": [], "@odata.nextLink": 7},
    ],
)
def test_nothing_is_dropped_silently(document: dict[str, Any]) -> None:
    """An entry that cannot be named fails the page instead of vanishing (I3)."""
    with pytest.raises(GraphProtocolError):
        read_page(document, "here")


def test_a_circle_of_links_is_noticed() -> None:
    """A link that another page led to already would page for ever."""
    trail = LinkTrail()
    trail.follow("start", page_to("a"), "")
    trail.follow("a", page_to("b"), "")

    with pytest.raises(GraphProtocolError, match="repeats"):
        trail.follow("b", page_to("a"), "")


def test_a_page_that_leads_to_itself_is_noticed() -> None:
    """The shortest circle has one page."""
    with pytest.raises(GraphProtocolError):
        LinkTrail().follow("a", page_to("a"), "")


def test_asking_a_page_again_is_no_circle() -> None:
    """A page may be fetched again after a failure further on, and a new round starts afresh."""
    trail = LinkTrail()
    for _ in range(2):
        trail.follow("start", page_to("a"), "")
        trail.follow("a", page_to("b"), "")
    trail.follow("b", page_to(None), "")
    trail.follow("other", page_to("a"), "")
    trail.restart()
    trail.follow("third", page_to("a"), "")


def test_a_page_halves_down_to_one() -> None:
    """Each failure halves what was asked for last, until one is left."""
    sizer = PageSizer()
    sizes = [sizer.size(100)]
    while sizer.shrink():
        sizes.append(sizer.size(100))

    assert sizes == [100, 50, 25, 12, 6, 3, 1]


def test_a_reduced_page_recovers_slowly() -> None:
    """Four good pages double a reduced size, never above what is asked."""
    sizer = PageSizer()
    sizer.size(100)
    sizer.shrink()
    sizes = []
    for _ in range(9):
        sizer.settle(50, 50_000)
        sizes.append(sizer.size(100))

    assert sizes == [50, 50, 50, 100, 100, 100, 100, 100, 100]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 1 << 30))), st.integers(1, 1000))
def test_a_page_size_is_always_possible(pages: list[tuple[int, int]], asked: int) -> None:
    """Whatever came before, at least one item and at most what is asked is asked for."""
    sizer = PageSizer()
    for items, size in pages:
        sizer.settle(items, size)

        assert 1 <= sizer.size(asked) <= asked


def test_heavy_messages_make_short_pages() -> None:
    """Pages are kept near the target of bytes, and grow again when messages are light."""
    sizer = PageSizer()
    sizer.settle(100, 100 << 20)
    heavy = sizer.size(100)
    for _ in range(12):
        sizer.settle(heavy, heavy * 1000)

    assert heavy == TARGET_BYTES >> 20
    assert sizer.size(100) == 100
