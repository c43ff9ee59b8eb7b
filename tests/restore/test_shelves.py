"""What the target's folders hold already: counted right, and asked for as cheaply as it goes."""

from __future__ import annotations

from collections import Counter
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from atlas_async.model.restoring import Present
from atlas_async.restore.existing import MANY, Existing, Shelf
from atlas_async.restore.marks import half_slot, job_id_of, mark_of, slot_of_mark
from atlas_async.restore.placement import Place
from atlas_async.restore.ports import TargetMailbox
from tests.restore.box import Box

KEYS = st.sampled_from(["<a>", "<b>", "<c>", ""])


@given(st.lists(KEYS, max_size=12), st.lists(KEYS, max_size=12))
def test_each_message_that_is_there_stands_for_one(there: list[str], wanted: list[str]) -> None:
    """Of messages with one key as many are skipped as the folder has; the others are created."""
    shelf = Shelf()
    for number, key in enumerate(there):
        shelf.note(Present(f"id{number}", key, ""), ours=False)
    skipped = Counter(key for key in wanted if shelf.take(key))
    have = Counter(there)
    assert skipped == Counter({k: min(n, have[k]) for k, n in Counter(wanted).items() if have[k]})


def test_our_own_are_known_by_their_marks_and_not_by_their_keys() -> None:
    """What this restore made is no reason to skip another message of the same key."""
    shelf = Shelf()
    shelf.note(Present("id1", "<a>", "job/1"), ours=True)
    assert not shelf.has("<a>")
    assert slot_of_mark("job/1") in shelf.marks
    assert half_slot("id1") in shelf.ids


def existing(
    box: Box, *, few: bool, count: int = 0, made: frozenset[str] = frozenset()
) -> Existing:
    """Return what looks into a box."""
    return Existing(
        cast("TargetMailbox", box),
        "job",
        lambda _: count,
        lambda item: item.object_id in made,
        few=few,
    )


async def test_a_folder_is_listed_once() -> None:
    """However many of its messages are asked for; a folder made just now is not asked at all."""
    box = Box(messages={"f": [Present("id1", "<a>", ""), Present("id2", "<b>", "job/x")]})
    looking = existing(box, few=False)
    place = Place("f", ("F",), fresh=False)
    for key in ("<b>", "<c>"):
        await looking.shelf(place, key=key, mark="job/m")
    shelf = await looking.shelf(place, key="<a>", mark="job/m")
    assert box.asked == [("present", "f")]
    assert (shelf.has("<a>"), shelf.has("<b>")) == (True, False)
    await looking.shelf(Place("g", ("G",), fresh=True), key="<a>", mark="job/m")
    await looking.shelf(Place("", ("H",), fresh=True), key="<a>", mark="job/m")
    assert box.asked == [("present", "f")]


async def test_few_messages_are_looked_for_one_by_one_in_a_large_folder() -> None:
    """Each key once; in a folder that is not large listing costs less."""
    box = Box(messages={"f": [Present("id1", "<a>", "")]})
    looking = existing(box, few=True, count=MANY + 1)
    place = Place("f", ("F",), fresh=False)
    await looking.shelf(place, key="<a>", mark="job/m")
    shelf = await looking.shelf(place, key="<a>", mark="job/m")
    assert box.asked == [("find", "f", "<a>")]
    assert shelf.others == {slot_of_mark("<a>"): 1}
    looking = existing(box, few=True, count=MANY)
    await looking.shelf(place, key="<a>", mark="job/m")
    assert box.asked[1:] == [("present", "f")]


async def test_without_marks_the_journal_tells_what_is_ours() -> None:
    """A server that gives none back shows our own messages as anybody's."""
    box = Box(messages={"f": [Present("id1", "<a>", ""), Present("id2", "<b>", "")]})
    looking = existing(box, few=False, made=frozenset({"id1"}))
    shelf = await looking.shelf(Place("f", (), fresh=False), key="<a>", mark="job/m")
    assert (shelf.has("<a>"), shelf.has("<b>")) == (False, True)


def test_marks_name_restore_and_source() -> None:
    """The same parts make the same restore; another order of parts is no other restore."""
    one = job_id_of({"mailbox": "a", "root": "ä"})
    assert one == job_id_of({"root": "ä", "mailbox": "a"})
    assert one != job_id_of({"mailbox": "a", "root": "b"})
    assert mark_of(one, "x") != mark_of(one, "y")
    assert mark_of(one, "\ud800").startswith(f"{one}/")
    assert len(mark_of(one, "x")) == 16 + 1 + 32
