"""Searches give exactly what a plain comparison of every message gives, with an index and without."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.catalog.layout import index_head_key, segment_key
from atlas_async.errors import SnapshotNotFound, UsageError
from atlas_async.model.events import Event, SearchProgress
from atlas_async.operations.found import IndexMode
from atlas_async.operations.selection import Selection
from atlas_async.search.query import Conditions, Query
from atlas_async.search.words import words_of
from atlas_async.store.memory import MemoryStore
from tests.fakes.vaults import MAILBOX, OTHER_MAILBOX, existing_store, new_vault, plant
from tests.search.posts import Post, committed, ids, search, stored

EVERY = Selection(made_from=datetime(1, 1, 1, tzinfo=UTC))

POSTS: Mapping[str, Post] = {
    "id-plain": Post("Quarterly report", "The invoice 4711 is paid.\nRegards, Ann"),
    "id-html": Post(
        "Re: plan", "<p>Purchase <b>order</b> from Z&uuml;rich</p><style>invoice</style>", html=True
    ),
    "id-names": Post("", "", sender=("Zoë Müller", "zm@fabrikam.example"), to=()),
    "id-reply": Post("news", "x", reply_to=(("Invoice desk", "pay@contoso.com"),)),
    "id-file": Post("see", "nothing", attachments={"Invoice_2026.pdf": b"x" * 5_000}),
    "id-inline": Post("logo", "nothing", attachments={"logo.png": b"y" * 300}, inline=True),
    "id-japan": Post("会議の件", "新東京駅で会いましょう", received="2026-05-01T08:00:00Z"),
    "id-order": Post("order", "order purchase", folder="F2", received="2026-05-02T08:00:00Z"),
    "id-long": Post("long", "word " + "z" * 50, folder="F3", received="2026-03-01T08:00:00Z"),
}


async def mailbox() -> MemoryStore:
    """Return a bucket with the posts in one snapshot."""
    store = existing_store()
    await committed(new_vault(store), "s1", POSTS)
    return store


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (Query(words=("invoice",)), "id-plain id-reply id-file"),
        (Query(words=("invoice", "4711")), "id-plain"),
        (Query(words=("zurich",)), "id-html"),
        (Query(words=("purchase order",)), "id-html"),
        (Query(words=("order", "purchase")), "id-html id-order"),
        (Query(words=("東京",)), "id-japan"),
        (Query(words=("京東",)), ""),
        (Query(words=("会議",)), "id-japan"),
        (Query(words=("z" * 50,)), "id-long"),
        (Query(words=("z" * 40,)), "id-long"),
        (Query(words=("z" * 51,)), ""),
        (Query(words=("zoe",)), "id-names"),
        (Query(sender=("muller",)), "id-names"),
        (Query(sender=("zm@fabrikam",)), "id-names"),
        (Query(sender=("ann@",), words=("4711",)), "id-plain"),
        (Query(sender=("berg",)), ""),
        (Query(recipient=("berg",), subject=("plan",)), "id-html"),
        (Query(recipient=("ann",)), ""),
        (Query(recipient=("pay",)), ""),
        (Query(subject=("re",)), "id-html id-plain"),
        (Query(subject=("repo",)), "id-plain"),
        (Query(subject=('"repo"',)), ""),
        (Query(body=("invoice",)), "id-plain"),
        (Query(body=("quarterly",)), ""),
        (Query(attachment=("invoice 2026",)), "id-file"),
        (Query(attachment=("pdf",)), "id-file"),
        (Query(has_attachment=True), "id-file"),
        (Query(larger=5_000), "id-file"),
        (Query(larger=5_000, smaller=5_001), ""),
        (Query(smaller=5_000, subject=("logo",)), "id-inline"),
        (Query(), " ".join(POSTS)),
    ],
)
@pytest.mark.parametrize("mode", IndexMode)
async def test_queries(query: Query, wanted: str, mode: IndexMode) -> None:
    """Each condition means what the page says, however the index is used."""
    store = await mailbox()
    report = await search(store, query, index=mode)
    assert ids(report) == set(wanted.split())
    assert (report.exit_code, report.notices) == (0, [])
    assert ids(await search(store, query, index=mode)) == set(wanted.split())


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (Query(words=("...",)), "a letter or a digit"),
        (Query(larger=5, smaller=5), "such a size"),
        (Query(smaller=-1), "such a size"),
        (Query(limit=0), "at least 1"),
        (Query(words=("a",) * 65), "at most 64"),
    ],
)
async def test_queries_that_can_find_nothing_are_refused(query: Query, part: str) -> None:
    """A query that makes no sense is a usage error before anything is read."""
    with pytest.raises(UsageError, match=part):
        await search(existing_store(), query)


async def test_what_rows_hold_opens_no_message_and_makes_no_index() -> None:
    """Subjects, addresses of senders, names, sizes, times and folders cost no message."""
    store = await mailbox()
    before = dict(store.bucket.objects)
    for query in (
        Query(subject=("report",)),
        Query(sender=("ann@contoso",)),
        Query(attachment=("pdf",), larger=10),
        Query(has_attachment=True),
    ):
        report = await search(store, query)
        assert report.found > 0
        assert report.opened == 0
    assert store.bucket.objects == before


async def test_index_spares_opening_messages() -> None:
    """With an index only messages are opened that may match; without one, all that rows leave."""
    store = await mailbox()
    query = Query(body=("4711",))
    assert (await search(store, query, index=IndexMode.NONE)).opened == len(POSTS)
    first = await search(store, query)
    assert (first.opened, first.index.used, first.index.updated) == (1, 1, len(POSTS))
    second = await search(store, query)
    assert (second.opened, second.index.updated) == (1, 0)
    assert second.index.documents == len(POSTS)


TEXTS = st.lists(
    st.sampled_from(
        ["order", "orders", "Ordnung", "or", "plan b", "planB", "東京", "京都", "東京都", "é", "e1"]
    ),
    max_size=6,
).map(" ".join)
PEOPLE = st.tuples(
    st.sampled_from(["Ann Miller", "Bob", "京子", ""]),
    st.sampled_from(["ann@contoso.com", "order@plan.example", "b.o@x.example"]),
)
POST = st.builds(
    Post,
    subject=TEXTS,
    body=TEXTS,
    sender=PEOPLE,
    to=st.lists(PEOPLE, max_size=2).map(tuple),
    attachments=st.dictionaries(TEXTS.map("f {}".format), st.just(b"x"), max_size=2),
)
ASKED = st.lists(
    st.sampled_from(
        [
            "or",
            "order",
            '"order"',
            "plan b",
            '"plan b"',
            "東",
            "京",
            "東京",
            "e",
            "ann",
            "b o",
            "con",
            "ann@contoso.com",
            "plan example",
            "1",
        ]
    ),
    max_size=2,
).map(tuple)
QUERY = st.builds(
    Query,
    words=ASKED,
    sender=ASKED,
    recipient=ASKED,
    subject=ASKED,
    body=ASKED,
    attachment=ASKED,
)


def has(text: str, asked: str) -> bool:
    """Tell by plain string search whether words stand in a text."""
    held, wanted = " ".join(words_of(text)), " ".join(words_of(asked))
    end = " " if asked.startswith('"') else ""
    return f" {wanted}{end}" in f" {held} "


def fits(post: Post, query: Query) -> bool:
    """Tell whether a post is what a query means, from the post alone."""
    sender = [post.sender[1]]
    people = [text for one in (post.sender, *post.to) for text in one]
    anywhere = [post.subject, post.body, *people, *post.attachments]
    given_texts: list[tuple[tuple[str, ...], Any]] = [
        (query.words, anywhere),
        (query.recipient, [text for one in post.to for text in one]),
        (query.subject, [post.subject]),
        (query.body, [post.body]),
        (query.attachment, list(post.attachments)),
    ]
    for asked in query.sender:
        texts = sender if "@" in asked else post.sender
        if not any(has(text, asked) for text in texts):
            return False
    return all(
        any(has(text, one) for text in texts) for asked, texts in given_texts for one in asked
    )


@settings(max_examples=60)
@given(posts=st.lists(POST, max_size=8), queries=st.lists(QUERY, min_size=1, max_size=4))
def test_finds_what_a_plain_comparison_finds(posts: list[Post], queries: list[Query]) -> None:
    """Whatever mail there is and whatever is asked: index, rows and messages agree with the mail."""

    async def play() -> None:
        store = existing_store()
        named = {f"id-{number}": post for number, post in enumerate(posts)}
        await committed(new_vault(store), "s1", named)
        for query in queries:
            wanted = {name for name, post in named.items() if fits(post, query)}
            for mode in IndexMode:
                assert ids(await search(store, query, index=mode)) == wanted, (query, mode)

    asyncio.run(play())


async def test_deleted_mail_is_found_in_older_snapshots() -> None:
    """All snapshots show what is gone with the one that had it last; the newest alone does not."""
    store = existing_store()
    vault = new_vault(store)
    one = await committed(
        vault, "s1", {"a": Post("first", "alpha"), "b": Post("other", "alpha"), "c": Post("c")}
    )
    moved = Post("other", "alpha", folder="F2")
    two = await committed(
        vault, "s2", {"b": moved}, base=one, created_at="2026-04-21T12:00:00.000Z"
    )
    await committed(
        vault,
        "s3",
        {"a": None, "d": Post("new", "alpha")},
        base=two,
        created_at="2026-04-22T12:00:00.000Z",
    )
    query = Query(body=("alpha",))
    assert ids(await search(store, query)) == {"b", "d"}
    report = await search(store, query, selection=EVERY)
    shown = {
        m.record["object_id"]: (m.snapshot_id, m.last_seen, m.folder, m.is_in_newest)
        for m in report.matches
    }
    assert shown == {
        "a": ("s2", "2026-04-21T12:00:00.000Z", ("Inbox",), False),
        "b": ("s3", "2026-04-22T12:00:00.000Z", ("Inbox", "Projects"), True),
        "d": ("s3", "2026-04-22T12:00:00.000Z", ("Inbox",), True),
    }
    older = await search(store, query, selection=Selection(snapshot="latest"), mailboxes=[MAILBOX])
    assert ids(older) == {"b", "d"}


async def test_one_old_snapshot_says_what_is_still_there() -> None:
    """A search of an older snapshot tells of each match whether the newest has it too."""
    store = existing_store()
    vault = new_vault(store)
    one = await committed(vault, "aaaa-1", {"a": Post("x"), "b": Post("x")})
    await committed(vault, "bbbb-2", {"a": None}, base=one, created_at="2026-04-22T12:00:00.000Z")
    report = await search(store, Query(subject=("x",)), selection=Selection(snapshot="aaaa-1"))
    assert {m.record["object_id"]: m.is_in_newest for m in report.matches} == {
        "a": False,
        "b": True,
    }
    assert {m.snapshot_id for m in report.matches} == {"aaaa-1"}
    range_of_first = Selection(made_before=datetime(2026, 4, 21, tzinfo=UTC))
    report = await search(store, Query(subject=("x",)), selection=range_of_first)
    assert {(m.snapshot_id, m.is_in_newest) for m in report.matches} == {
        ("aaaa-1", False),
        ("aaaa-1", True),
    }


async def test_newest_snapshot_that_is_damaged() -> None:
    """An older snapshot is searched all the same; that the newest cannot be asked is said once."""
    store = existing_store()
    vault = new_vault(store)
    one = await committed(vault, "aaaa-1", {"a": Post("x"), "b": Post("x")})
    more = {f"c{number}": Post("x") for number in range(50)}
    two = await committed(vault, "bbbb-2", more, base=one, created_at="2026-04-22T12:00:00.000Z")
    (ref,) = two.runs[-1].segments
    await plant(store, segment_key(MAILBOX, ref.checksum), b"x" * 50)
    for selection in (
        Selection(snapshot="aaaa-1"),
        Selection(made_before=datetime(2026, 4, 21, tzinfo=UTC)),
    ):
        report = await search(store, Query(subject=("x",)), selection=selection)
        assert ids(report) == {"a", "b"}
        assert {m.snapshot_id for m in report.matches} == {"aaaa-1"}
        assert report.exit_code == 0
        assert len(report.notices) == 1
        assert "what the newest snapshot has is not known" in report.notices[0]


async def test_attachments_that_are_not_stored_count() -> None:
    """A message that Graph said has attachments has them, whether or not they could be stored."""
    store = existing_store()
    vault = new_vault(store)
    record = await stored(vault, "a", Post("x"))
    assert not record["has_attachments"]
    conditions = Conditions(Query(has_attachment=True))
    assert conditions.open_for(record) is None
    assert conditions.open_for({**record, "has_attachments": True}) == ()


async def test_folders_and_times() -> None:
    """A folder means those below it too; times are those of receiving."""
    store = await mailbox()
    inbox = await search(store, Query(words=("order",)), selection=Selection(folders=("inbox",)))
    assert ids(inbox) == {"id-html", "id-order"}
    below = Selection(folders=("Inbox/Projects",))
    assert ids(await search(store, Query(words=("order",)), selection=below)) == {"id-order"}
    may = Selection(received_from=datetime(2026, 5, 1, tzinfo=UTC))
    assert ids(await search(store, Query(), selection=may)) == {"id-japan", "id-order"}
    with pytest.raises(UsageError, match="no folder"):
        await search(store, Query(), selection=Selection(folders=("Nowhere",)))


async def test_only_some_mailboxes_have_the_folder() -> None:
    """Of several mailboxes those are searched that have the folder."""
    store = await mailbox()
    other = new_vault(store, OTHER_MAILBOX)
    await committed(other, "s9", {"z": Post("order")}, folders=())
    projects = Selection(folders=("Inbox/Projects",))
    assert ids(await search(store, Query(words=("order",)), selection=projects)) == {"id-order"}
    report = await search(store, Query(words=("order",)))
    assert {m.mailbox_id for m in report.matches} == {MAILBOX, OTHER_MAILBOX}
    assert report.mailboxes == 2
    with pytest.raises(SnapshotNotFound, match="no snapshots of"):
        await search(store, Query(words=("order",)), mailboxes=["nobody@contoso.com"])
    chosen = await search(store, Query(words=("order",)), mailboxes=[OTHER_MAILBOX.upper()])
    assert ids(chosen) == {"z"}


async def test_limit_gives_the_newest() -> None:
    """A limit keeps the newest matches over all mailboxes, and opens no message older than those."""
    store = existing_store()
    for vault, hour in ((new_vault(store), 0), (new_vault(store, OTHER_MAILBOX), 12)):
        await committed(
            vault,
            f"s{hour}",
            {
                f"m{hour}-{day:02}": Post(
                    f"n {day}", "alpha", received=f"2026-04-{day:02}T{hour:02}:00:00Z"
                )
                for day in range(1, 29)
            },
        )
    taken = []

    async def take(match: Any) -> None:
        taken.append(match.record["object_id"])

    for mode in IndexMode:
        report = await search(store, Query(body=("alpha",), limit=3), index=mode)
        assert [m.record["object_id"] for m in report.matches] == ["m12-28", "m0-28", "m12-27"]
        assert report.found == 3
        assert report.opened < 56
    await search(store, Query(body=("alpha",), limit=2), take=take)
    assert taken == ["m12-28", "m0-28"]


async def test_limit_among_messages_of_one_moment_is_always_the_same() -> None:
    """Of messages that came at one moment, their names decide which are kept, not who is faster."""
    store = existing_store()
    posts = {f"m{number:03}": Post(f"n {number}", "alpha") for number in range(60)}
    await committed(new_vault(store), "s1", posts)
    for mode in IndexMode:
        report = await search(store, Query(body=("alpha",), limit=4), index=mode)
        assert [m.record["object_id"] for m in report.matches] == ["m059", "m058", "m057", "m056"]


async def test_matches_are_handed_on_as_they_are_found() -> None:
    """With ``take`` the report holds no matches, only how many."""
    store = await mailbox()
    taken = []

    async def take(match: Any) -> None:
        taken.append(match.record["object_id"])

    report = await search(store, Query(words=("invoice",)), take=take)
    assert set(taken) == {"id-plain", "id-reply", "id-file"}
    assert (report.matches, report.found) == ([], 3)


async def test_progress_tells_of_indexing_and_of_searching() -> None:
    """Events count what is indexed, then what is searched up to all of it."""
    store = await mailbox()
    events: list[Event] = []
    await search(store, Query(body=("alpha",)), events=events)
    told = [event for event in events if isinstance(event, SearchProgress)]
    total = len(POSTS)
    indexing = [event.done for event in told if event.indexing]
    assert indexing == list(range(1, total + 1))
    assert {event.expected for event in told} == {total}
    assert told[-1] == SearchProgress(MAILBOX, total, total, total)


async def test_damaged_messages_are_named_and_cost_themselves_alone() -> None:
    """A message that cannot be read is told with its mailbox and id; the others are searched."""
    store = await mailbox()
    key = next(k for k in sorted(store.bucket.objects) if k.startswith("data/"))
    del store.bucket.objects[key]
    for mode in IndexMode:
        report = await search(store, Query(body=("n",)), index=mode)
        (lost,) = report.unsearched
        assert report.exit_code == 16
        assert (lost.mailbox_id, report.not_searched) == (MAILBOX, 1)
        assert lost.object_id in POSTS
        assert re.search("missing from the bucket", lost.reason)


async def test_damaged_mailbox_is_named_and_the_others_are_searched() -> None:
    """A mailbox whose snapshot cannot be read is told; what the others have is found."""
    store = await mailbox()
    await committed(new_vault(store, OTHER_MAILBOX), "s9", {"z": Post("order")})
    for key in [k for k in store.bucket.objects if k.startswith(f"catalog/{MAILBOX}/segments/")]:
        del store.bucket.objects[key]
    report = await search(store, Query(words=("order",)))
    assert ids(report) == {"z"}
    assert [(item.mailbox_id, item.object_id) for item in report.unsearched] == [(MAILBOX, "")]
    assert report.exit_code == 16


async def test_stopping_ends_in_order() -> None:
    """A search that is asked to stop says so and ends with 130."""
    store = await mailbox()
    report = await search(store, Query(words=("order",)), stopped=lambda: True)
    assert (report.interrupted, report.exit_code, report.found) == (True, 130, 0)


async def test_mailboxes_side_by_side_are_told_in_one_order() -> None:
    """Whichever is done first: matches of one moment, remarks and what failed are in order."""
    store = existing_store()
    boxes = [f"box{number}@contoso.com" for number in range(7)]
    for number, box in enumerate(boxes):
        vault = new_vault(store, box)
        posts = {f"id-{number}-{n}": Post("plan", f"alpha {n}") for n in range(3)}
        await committed(vault, f"s{number}", posts)
    wanted = sorted(
        ((box, f"id-{number}-{n}") for number, box in enumerate(boxes) for n in range(3)),
        reverse=True,
    )
    dice = Random(5)

    class Uneven(MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:
            for _ in range(dice.randrange(8)):
                await anyio.lowlevel.checkpoint()
            return await super().get(key, **options)

    uneven = Uneven(store.bucket)
    heads = {index_head_key(box): b"x" * 60 for box in boxes}
    for _ in range(4):
        for key, junk in heads.items():
            await plant(store, key, junk)
        report = await search(uneven, Query(body=("alpha",)))
        assert [(m.mailbox_id, m.record["object_id"]) for m in report.matches] == wanted
        assert [notice.split(":")[0] for notice in report.notices] == boxes
        assert (report.mailboxes, report.searched, report.index.used) == (7, 21, 7)
        few = await search(uneven, Query(body=("alpha",), limit=5))
        assert [(m.mailbox_id, m.record["object_id"]) for m in few.matches] == wanted[:5]
    for box in boxes[1::2]:
        for key in [key for key in store.bucket.objects if key.startswith(segment_key(box, ""))]:
            await plant(store, key, b"x" * 60)
    report = await search(uneven, Query(body=("alpha",)))
    assert [item.mailbox_id for item in report.unsearched] == boxes[1::2]
    assert (report.exit_code, report.found) == (16, 12)
