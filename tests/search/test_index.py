"""The index of words as it is kept: built in parts, merged, damaged, shared, bounded, and sealed."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from atlas_async.catalog.content import read_message
from atlas_async.catalog.layout import index_head_key, index_part_key, index_prefix
from atlas_async.catalog.search_index import IndexHead, read_index_head, write_index_head
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import NewerFormat, SnapshotNotFound, StoreAuthError, StoreFull
from atlas_async.operations.finding import drop_index, update_index
from atlas_async.operations.found import FindReport, IndexMode
from atlas_async.search import draft as drafts
from atlas_async.search import index as indexes
from atlas_async.search import indexing, mail, merging, words
from atlas_async.search.part import SHARD_MAGIC
from atlas_async.search.query import Query
from atlas_async.search.words import RULES
from atlas_async.store.base import ObjectStore, SpooledBody, StoredObject
from atlas_async.store.memory import MemoryStore
from tests.fakes.tenants import open_tenant
from tests.fakes.vaults import DEK, MAILBOX, OTHER_MAILBOX, existing_store, new_vault, plant
from tests.search.killed import ENOUGH, SAVED_EVERY, directory_store
from tests.search.posts import Post, committed, ids, search

ROOT = Path(__file__).parents[2]
WORDS = [f"word{number}" for number in range(60)]


def posts(count: int, *, seed: int = 1, start: int = 0) -> dict[str, Post]:
    """Return messages of some words each."""
    dice = random.Random(seed)
    return {
        f"id-{number:04}": Post(f"n {number}", " ".join(dice.sample(WORDS, 12)))
        for number in range(start, start + count)
    }


def with_word(mail_of: dict[str, Post], word: str) -> set[str]:
    """Return the ids of messages whose body has a word."""
    return {name for name, post in mail_of.items() if word in post.body.split()}


async def mailbox(count: int = 40, store: MemoryStore | None = None) -> MemoryStore:
    """Return a bucket with so many messages."""
    store = store or existing_store()
    await committed(new_vault(store), "s1", posts(count))
    return store


async def updated(store: ObjectStore, **options: Any) -> FindReport:
    """Bring the index up to date."""
    return await update_index(open_tenant(store), lambda _: None, **options)


def index_keys(store: MemoryStore) -> set[str]:
    """Return the keys of the index."""
    return {key for key in store.bucket.objects if key.startswith(index_prefix(MAILBOX))}


async def named_keys(store: MemoryStore) -> set[str]:
    """Return the keys of the head and of what it names."""
    head = await read_index_head(new_vault(store))
    assert head is not None
    return {index_head_key(MAILBOX), *head.keys(MAILBOX)}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write drafts of five messages, and shards of some hundred bytes; merge them by threes."""
    monkeypatch.setattr(drafts, "MOST_DOCUMENTS", 5)
    for module in (drafts, merging):
        monkeypatch.setattr(module, "SHARD_BYTES", 150)
    monkeypatch.setattr(indexes, "FANOUT", 3)
    monkeypatch.setattr(indexes, "SMALLEST_TIER", 5)


@pytest.mark.usefixtures("small_parts")
async def test_many_parts_answer_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split into shards and segments and merged, the index lets pass what has a word, no more."""
    store = await mailbox()
    report = await updated(store)
    assert report.index.documents == 40
    head = await read_index_head(new_vault(store))
    assert head is not None
    assert 1 < len(head.segments) < 8
    assert max(len(segment.shards) for segment in head.segments) > 2
    assert index_keys(store) == await named_keys(store)
    for word in [*WORDS[:12], "word"]:
        found = await search(store, Query(body=(f'"{word}"',)))
        assert ids(found) == with_word(posts(40), word)
        assert found.opened == found.found
        starts = await search(store, Query(body=(word,)))
        wanted = {
            n for n, p in posts(40).items() if any(w.startswith(word) for w in p.body.split())
        }
        assert ids(starts) == wanted
        assert starts.opened == starts.found


async def test_only_new_content_is_indexed() -> None:
    """Mail that moved or was read is known by its content; only what is new is opened."""
    store = existing_store()
    vault = new_vault(store)
    one = await committed(vault, "s1", posts(20))
    await updated(store)
    moved = {name: Post(post.subject, post.body, folder="F3") for name, post in posts(20).items()}
    fresh = posts(3, seed=2, start=20)
    await committed(vault, "s2", moved | fresh, base=one, created_at="2026-04-21T12:00:00.000Z")
    report = await updated(store)
    assert (report.index.updated, report.index.documents) == (3, 23)
    assert (await updated(store)).index.updated == 0
    everything = posts(20) | fresh
    for word in WORDS[:10]:
        assert ids(await search(store, Query(body=(f'"{word}"',)))) == with_word(everything, word)


async def test_a_narrow_search_does_not_index_the_mailbox() -> None:
    """Where rows leave few messages these are opened, and the index waits for a search that pays."""
    store = existing_store()
    await committed(new_vault(store), "s1", posts(40) | {"id-it": Post("needle", "alpha")})
    report = await search(store, Query(subject=("needle",), body=("alpha",)))
    assert (ids(report), report.opened, report.index.updated) == ({"id-it"}, 1, 0)
    assert not index_keys(store) or (await read_index_head(new_vault(store))) is None
    wide = await search(store, Query(body=("alpha",)))
    assert wide.index.updated == 41


@pytest.mark.usefixtures("small_parts")
async def test_damage_anywhere_never_makes_a_result_wrong() -> None:
    """Any object of the index, missing or damaged: the result is right, and the index is repaired."""
    whole = await mailbox()
    await updated(whole)
    for key in sorted(index_keys(whole)):
        for kind in ("missing", "damaged", "foreign"):
            store = existing_store(whole.bucket.objects)
            if kind == "missing":
                del store.bucket.objects[key]
            else:
                body = b"x" * 80 if kind == "damaged" else Sealer(DEK).seal(b"AAX1 strange").body
                await plant(store, key, body)
            for word in ("word7", "word41"):
                found = await search(store, Query(body=(f'"{word}"',)))
                assert ids(found) == with_word(posts(40), word)
                assert found.exit_code == 0
            repaired = await updated(store)
            assert repaired.index.documents == 40
            again = await search(store, Query(body=("word7",)))
            assert again.notices == []
            assert again.index.updated == 0


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("entries", [b"\0\x02bx\x01\x80", b"\0\x02bx\x01\x63"])
async def test_parts_that_are_authentic_and_wrong(entries: bytes) -> None:
    """Postings that end too early, or name messages that there are not, cost their segment."""
    store = await mailbox(12)
    await updated(store)
    vault = new_vault(store)
    head = await read_index_head(vault)
    assert head is not None
    segment = head.segments[0]
    shard = await merging.put_part(vault, SHARD_MAGIC + zlib.compress(entries), "bx")
    wrong = replace(segment, shards=(shard,))
    await write_index_head(vault, replace(head, segments=(*head.segments[1:], wrong)))
    await committed(vault, "s2", posts(40), created_at="2026-04-21T12:00:00.000Z")
    assert (await updated(store)).exit_code == 0
    for word in WORDS[:5]:
        found = await search(store, Query(body=(f'"{word}"',)))
        assert ids(found) == with_word(posts(40), word)


async def test_damage_is_told() -> None:
    """What could not be read of an index is said once, where it is met."""
    store = await mailbox()
    await updated(store)
    head = await read_index_head(new_vault(store))
    assert head is not None
    del store.bucket.objects[index_part_key(MAILBOX, head.segments[0].shards[0].checksum)]
    report = await search(store, Query(body=("word7",)))
    (notice,) = report.notices
    assert notice.startswith(f"{MAILBOX}: a part of the index of words is damaged or missing: 40 ")
    assert report.index.updated == 40
    await plant(store, index_head_key(MAILBOX), b"y" * 60)
    report = await search(store, Query(body=("word7",)))
    assert "is damaged and is made anew" in report.notices[0]


async def test_other_rules_make_the_index_anew() -> None:
    """An index whose words were made by other rules is not asked; its parts are removed."""
    store = await mailbox()
    await updated(store)
    vault = new_vault(store)
    head = await read_index_head(vault)
    assert head is not None
    await write_index_head(vault, IndexHead("0/1.0", head.segments))
    report = await search(store, Query(body=("word7",)))
    assert "made by other rules" in report.notices[0]
    assert (report.index.updated, ids(report)) == (40, with_word(posts(40), "word7"))
    head = await read_index_head(vault)
    assert head is not None
    assert head.rules == RULES
    assert index_keys(store) == await named_keys(store)


async def test_an_index_of_the_rules_before_gives_right_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Marks parted words once: what such an index lacks is found all the same, and it is remade."""
    store = existing_store()
    mail_of = {"id-day": Post("", "आज का दिन"), "id-gift": Post("", "यह दान")} | posts(20)
    await committed(new_vault(store), "s1", mail_of)
    with monkeypatch.context() as before:
        before.setattr(words, "_any_word", lambda: re.compile(r"[^\W_]+"))
        before.setattr(indexes, "RULES", RULES.replace("2/", "1/"))
        await updated(store)
        assert ids(await search(store, Query(body=("दिन",)))) == {"id-day", "id-gift"}
    report = await search(store, Query(body=("दिन",)))
    assert "made by other rules" in report.notices[0]
    assert (ids(report), report.index.updated) == ({"id-day"}, 22)
    again = await search(store, Query(body=("दिन",)))
    assert (ids(again), again.opened, again.notices) == ({"id-day"}, 1, [])


async def test_newer_index_is_neither_used_nor_replaced() -> None:
    """An index of a later format ends the search of its mailbox, and stays as it is."""
    store = await mailbox()
    vault = new_vault(store)
    document = {"format": 2, "kind": "index", "mailbox_id": MAILBOX}
    await vault.put_document(index_head_key(MAILBOX), document)
    before = dict(store.bucket.objects)
    report = await search(store, Query(body=("word7",)))
    assert report.exit_code == 16
    assert "format version 2" in report.unsearched[0].reason
    assert ids(await search(store, Query(body=("word7",)), index=IndexMode.NONE))
    assert store.bucket.objects == before
    with pytest.raises(NewerFormat):
        await read_index_head(vault)


class Refusing(MemoryStore):
    """Takes no part of an index, or none after so many."""

    error: Exception = StoreAuthError("read only")
    left = 0
    opened = 0

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        self.opened += key.startswith("data/")
        return await super().get(key, most=most)

    async def put(self, key: str, body: bytes | SpooledBody, **options: Any) -> None:
        if key.startswith(index_prefix(MAILBOX)):
            if self.left <= 0:
                raise self.error
            self.left -= 1
        await super().put(key, body, **options)

    async def delete(self, key: str) -> None:
        raise StoreAuthError("no deletions", where=key)


@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("error", [StoreAuthError("read only"), StoreFull("no space")])
async def test_where_the_store_refuses_messages_are_opened(left: int, error: Exception) -> None:
    """Without a right to write, the search goes on without an index, says so, and is right."""
    store = Refusing((await mailbox()).bucket)
    store.left, store.error = left, error
    report = await search(store, Query(body=('"word7"',)))
    assert ids(report) == with_word(posts(40), "word7")
    assert report.opened == 40
    assert report.exit_code == 0
    assert [notice for notice in report.notices if "cannot be saved" in notice]
    assert store.opened == (40 if left == 0 else 80)  # nothing is read for an index in vain


async def test_parts_that_cannot_be_deleted_stay() -> None:
    """Where nothing may be deleted, what was replaced stays and the search is right all the same."""
    store = Refusing((await mailbox()).bucket)
    store.left = 1_000
    await updated(store)
    del store.bucket.objects[next(iter(index_keys(store) - {index_head_key(MAILBOX)}))]
    report = await search(store, Query(body=('"word7"',)))
    assert ids(report) == with_word(posts(40), "word7")
    assert index_keys(store) >= await named_keys(store)


async def test_a_replica_gets_no_index() -> None:
    """A bucket that is marked as a replica is searched, and not written."""
    store = await mailbox()
    await plant(store, "_meta/replica.marker", b"")
    before = dict(store.bucket.objects)
    report = await search(store, Query(body=('"word7"',)))
    assert ids(report) == with_word(posts(40), "word7")
    assert "is a replica" in report.notices[0]
    assert store.bucket.objects == before


@pytest.mark.usefixtures("small_parts")
async def test_searches_at_once_are_right_and_leave_a_whole_index() -> None:
    """Several searches that build the index together find the same; the index is usable then."""
    store = await mailbox()
    found: list[set[str]] = []

    async def one(word: str) -> None:
        found.append(ids(await search(store, Query(body=(f'"{word}"',)))))
        assert found[-1] == with_word(posts(40), word)

    async with anyio.create_task_group() as group:
        for word in WORDS[:4]:
            group.start_soon(one, word)
    assert len(found) == 4
    await updated(store)
    report = await search(store, Query(body=('"word7"',)))
    assert report.notices == []
    assert (report.index.updated, report.opened) == (0, report.found)


@pytest.mark.usefixtures("small_parts")
async def test_an_index_that_is_lost_to_another_search_does_no_harm() -> None:
    """The head of whoever covers more messages stays; the other search takes it over."""
    store = await mailbox()
    vault = new_vault(store)
    early = await indexes.SearchIndex.open(vault)
    await updated(store)
    theirs = await read_index_head(vault)
    draft = drafts.Draft()
    draft.add(7, 100, frozenset({"bx"}))
    await early.add(draft)
    assert await read_index_head(vault) == theirs
    assert early.documents == 40
    assert index_keys(store) == await named_keys(store)


@pytest.mark.usefixtures("small_parts")
async def test_what_was_indexed_before_an_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that is cut off in the middle leaves an index that the next one goes on with."""
    store = await mailbox()
    reads = 0
    with anyio.CancelScope() as scope:

        async def read(vault: Vault, record: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads > 25:
                scope.cancel()
            return await read_message(vault, record)

        monkeypatch.setattr(indexing, "read_message", read)
        await updated(store)
    assert scope.cancelled_caught
    monkeypatch.setattr(indexing, "read_message", read_message)
    head = await read_index_head(new_vault(store))
    assert head is not None
    kept = head.documents
    assert 5 <= kept <= 25
    report = await search(store, Query(body=('"word7"',)))
    assert ids(report) == with_word(posts(40), "word7")
    assert report.index.updated == 40 - kept


def test_a_search_that_is_killed_leaves_what_it_had_saved(tmp_path: Path) -> None:
    """After kill -9 in the middle of indexing the next search goes on, and is right."""
    store = directory_store(tmp_path)

    async def prepare() -> None:
        await store.open_bucket(create=True)
        await committed(new_vault(store), "s1", posts(60))

    async def check() -> None:
        report = await search(store, Query(body=('"word7"',)))
        assert ids(report) == with_word(posts(60), "word7")
        assert report.notices == []
        assert 60 - ENOUGH <= report.index.updated <= 60 - ENOUGH + SAVED_EVERY

    asyncio.run(prepare())
    command = [sys.executable, "-m", "tests.search.killed", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "now\n"
        finally:
            program.kill()
    asyncio.run(check())


@pytest.mark.usefixtures("small_parts")
async def test_stopping_saves_what_was_indexed() -> None:
    """Asked to stop while it indexes, a search saves what it has and ends."""
    store = await mailbox()
    done = 0

    def count(event: Any) -> None:
        nonlocal done
        done = max(done, event.indexed)

    report = await update_index(open_tenant(store), count, stopped=lambda: done >= 7)
    assert report.interrupted
    head = await read_index_head(new_vault(store))
    assert head is not None
    assert 7 <= head.documents == report.index.updated < 40


async def test_time_saves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow search saves at least once in a while, however few messages it has indexed."""
    store = await mailbox(10)
    monkeypatch.setattr(indexing, "SAVE_SECONDS", -1.0)
    writes = 0
    original = write_index_head

    async def write(vault: Vault, head: IndexHead) -> None:
        nonlocal writes
        writes += 1
        await original(vault, head)

    monkeypatch.setattr(indexes, "write_index_head", write)
    await updated(store)
    assert writes >= 10


async def test_messages_with_too_many_words_are_always_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bound a message is not indexed but opened by every search, which stays right."""
    monkeypatch.setattr(mail, "MOST_TERMS", 30)
    store = existing_store()
    await committed(
        new_vault(store), "s1", {"long": Post("x", " ".join(WORDS)), "short": Post("y", "alpha")}
    )
    for word, wanted in (("word7", {"long"}), ("alpha", {"short"}), ("beta", set[str]())):
        report = await search(store, Query(body=(word,)))
        assert ids(report) == wanted
        assert report.opened == len(wanted | {"long"})


@pytest.mark.usefixtures("small_parts")
async def test_merging_keeps_what_must_always_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages with too many words are still opened by every search after merging, and no others."""
    monkeypatch.setattr(mail, "MOST_TERMS", 40)
    letters = posts(40)
    for number in (3, 17, 31, 38):
        letters[f"id-{number:04}"] = Post("x", " ".join(WORDS[:50]))
    store = existing_store()
    await committed(new_vault(store), "s1", letters)
    long = {"id-0003", "id-0017", "id-0031", "id-0038"}
    for word in ("word49", "word51"):
        report = await search(store, Query(body=(f'"{word}"',)))
        assert ids(report) == with_word(letters, word)
        assert report.opened == len(with_word(letters, word) | long)


async def test_an_index_that_cannot_be_saved_is_as_before() -> None:
    """What a failed write was to add is not taken for indexed."""
    store = Refusing((await mailbox()).bucket)
    store.left = 2
    index = await indexes.SearchIndex.open(new_vault(store))
    draft = drafts.Draft()
    draft.add(7, 100, frozenset({"bx"}))
    with pytest.raises(StoreAuthError):
        await index.add(draft)
    assert (index.documents, 7 in index) == (0, False)


@pytest.mark.usefixtures("small_parts")
async def test_damage_met_while_merging() -> None:
    """A damaged part that is met while new messages are merged with it costs its own segment."""
    store = await mailbox(12)
    await updated(store)
    head = await read_index_head(new_vault(store))
    assert head is not None
    broken = head.segments[0]
    del store.bucket.objects[index_part_key(MAILBOX, broken.shards[-1].checksum)]
    await committed(new_vault(store), "s2", posts(40), created_at="2026-04-21T12:00:00.000Z")
    report = await updated(store)
    assert any("damaged or missing" in notice for notice in report.notices)
    for word in WORDS[:5]:
        found = await search(store, Query(body=(f'"{word}"',)))
        assert ids(found) == with_word(posts(40), word)


async def test_messages_too_large_are_always_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A huge message is not read for the index; searches open it."""
    monkeypatch.setattr(indexing, "LARGE_BYTES", 500)
    monkeypatch.setattr(indexing, "MOST_BYTES", 1_000)
    store = existing_store()
    letters = {
        "huge": Post("x", "alpha " * 500),
        "large": Post("x", "alpha beta " + "y" * 100),
        "small": Post("y", "alpha gamma"),
    }
    await committed(new_vault(store), "s1", letters)
    assert ids(await search(store, Query(body=("alpha",)))) == set(letters)
    report = await search(store, Query(body=("beta",)))
    assert (ids(report), report.opened) == ({"large"}, 2)


def test_content_that_comes_twice_is_held_once() -> None:
    """Two messages of one content are one to the index."""
    draft = drafts.Draft()
    draft.add(7, 100, frozenset({"bx"}))
    draft.add(7, 100, frozenset({"bx"}))
    assert (len(draft), draft.message_bytes, 7 in draft, 8 in draft) == (1, 100, True, False)


@pytest.mark.parametrize("kind", ["prose", "random", "chinese", "pairs", "tiny"])
async def test_the_index_is_bounded(kind: str) -> None:
    """Whatever the mail is, an index takes at most a part of it, and searches stay right."""
    dice = random.Random(3)
    make: dict[str, Callable[[], str]] = {
        "prose": lambda: " ".join(dice.choices(WORDS, k=400)),
        "random": lambda: " ".join(dice.randbytes(5).hex() for _ in range(300)),
        "chinese": lambda: "".join(chr(dice.randrange(0x4E00, 0x9F00)) for _ in range(800)),
        "pairs": lambda: twins.pop(),  # noqa: PLW0108 -- they are made below
        "tiny": lambda: "x",
    }
    twins = [make["chinese"]() for _ in range(30)] * 2
    letters = {f"id-{number}": Post("s", f"{make[kind]()} alpha{number}x") for number in range(60)}
    store = existing_store()
    await committed(new_vault(store), "s1", letters)
    report = await updated(store)
    size = sum(len(store.bucket.objects[key].body) for key in index_keys(store))
    assert size < report.index.message_bytes // 3 + 8_192
    assert report.index.size < size
    found = await search(store, Query(body=("alpha7x",)))
    assert ids(found) == {"id-7"}
    assert found.opened == (1 if kind in {"prose", "tiny"} else 60)


async def test_loners_are_left_out_before_all_is() -> None:
    """Among ordinary mail only the messages full of words of their own are left out."""
    dice = random.Random(3)
    letters = {f"id-{n}": Post("s", " ".join(dice.choices(WORDS, k=40))) for n in range(10)}
    noise = " ".join(dice.randbytes(5).hex() for _ in range(3_000))
    letters["noise"] = Post("s", noise)
    store = existing_store()
    await committed(new_vault(store), "s1", letters)
    report = await search(store, Query(body=('"word7"',)))
    wanted = with_word(letters, "word7")
    assert ids(report) == wanted
    assert report.opened == len(wanted | {"noise"})


async def test_dropping_and_rebuilding() -> None:
    """Deleting the index loses nothing else; rebuilding makes all of it anew."""
    store = await mailbox()
    before = dict(store.bucket.objects)
    await updated(store)
    keys = index_keys(store)
    assert (await updated(store, rebuild=True)).index.updated == 40
    assert (await drop_index(open_tenant(store)))[MAILBOX][0] == len(keys) >= 3
    assert store.bucket.objects == before
    assert await drop_index(open_tenant(store), mailboxes=[MAILBOX]) == {MAILBOX: (0, 0)}
    with pytest.raises(SnapshotNotFound, match="nothing is stored"):
        await drop_index(open_tenant(store), mailboxes=[OTHER_MAILBOX])


async def test_the_head_goes_first() -> None:
    """An index that is being deleted is never one whose head names what is gone."""
    store = await mailbox()
    await updated(store)
    order: list[str] = []

    class Watched(MemoryStore):
        async def delete(self, key: str) -> None:
            order.append(key)
            await super().delete(key)

    await drop_index(open_tenant(Watched(store.bucket)))
    assert order[0] == index_head_key(MAILBOX)
    assert len(order) >= 3


async def test_no_word_of_the_mail_is_outside_of_the_seal(tmp_path: Path) -> None:
    """Neither keys nor files nor their contents show a term, in a directory store."""
    store = directory_store(tmp_path / "store")
    await store.open_bucket(create=True)
    secret = "zanzibarplan"
    letters = {"a": Post(secret, f"{secret} {secret}x", to=((secret, f"{secret}@x.example"),))}
    await committed(new_vault(store), "s1", letters)
    await updated(store)
    assert ids(await search(store, Query(body=(secret,)))) == {"a"}
    await store.aclose()
    seen = 0
    for path in await anyio.to_thread.run_sync(lambda: sorted(tmp_path.rglob("*"))):
        assert secret not in str(path)
        if path.is_file():
            seen += "index" in str(path)
            assert secret.encode() not in await anyio.Path(path).read_bytes()
    assert seen >= 3
