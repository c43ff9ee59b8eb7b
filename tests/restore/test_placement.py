"""Which folder of the target a folder of the snapshot becomes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from atlas_async.model.source import Folder
from atlas_async.restore.placement import LONGEST_NAME, Placement
from atlas_async.restore.ports import TargetMailbox
from tests.restore.box import Box, folder_of

INBOX = folder_of("s-inbox", ("Inbox",), known="inbox")
BELOW = folder_of("s-below", ("Inbox", "2025"), "s-inbox")
SENT = folder_of("s-sent", ("Sent Items",), known="sentitems")


def placement(
    box: Box,
    folders: Sequence[Folder],
    *,
    in_place: bool = False,
    dry_run: bool = False,
    intended: Collection[tuple[str, ...]] = (),
) -> Placement:
    """Return a placement into a box."""
    return Placement(
        cast("TargetMailbox", box),
        box.listing,
        folders,
        in_place=in_place,
        root="" if in_place else "Back",
        dry_run=dry_run,
        intended=intended,
    )


async def test_below_a_root_everything_is_made_once() -> None:
    """Parents come before children, each folder once, well-known ones by their names."""
    box = Box()
    box.add("Inbox", known="inbox")
    placing = placement(box, [INBOX, BELOW, SENT])
    place = await placing.place("s-below", ())
    assert place.path == ("Back", "Inbox", "2025")
    assert place.fresh
    assert await placing.place("s-below", ()) is place
    await placing.place("s-sent", ())
    assert box.made == [
        ("Back",),
        ("Back", "Inbox"),
        ("Back", "Inbox", "2025"),
        ("Back", "Sent Items"),
    ]
    assert [made.path for made in placing.created] == box.made


async def test_what_is_there_is_used_and_not_called_ours() -> None:
    """A root that somebody made is used, whatever the case of its letters; it is not fresh."""
    box = Box()
    there = box.add("BACK")
    placing = placement(box, [INBOX])
    assert (await placing.top()).folder_id == there
    assert not (await placing.top()).fresh
    await placing.place("s-inbox", ())
    assert [made.path for made in placing.created] == [("Back", "Inbox")]


async def test_a_dry_run_makes_nothing_and_says_what_is_absent() -> None:
    """Every folder that would be made is named once, parents first."""
    box = Box()
    placing = placement(box, [INBOX, BELOW], dry_run=True)
    for folder_id in ("s-below", "s-inbox", "s-below"):
        place = await placing.place(folder_id, ())
        assert (place.folder_id, place.fresh) == ("", True)
    assert list(placing.absent) == [("Back",), ("Back", "Inbox"), ("Back", "Inbox", "2025")]
    assert not box.made


async def test_a_folder_that_was_intended_is_ours_though_it_is_there() -> None:
    """A run that was killed had made it and could not say so; it may hold something already."""
    box = Box()
    ours = box.add("Back")
    box.add("Back", "Inbox")
    placing = placement(box, [INBOX], intended={("Back",)})
    assert not (await placing.top()).fresh
    await placing.top()
    await placing.place("s-inbox", ())
    assert [(made.folder_id, made.path) for made in placing.created] == [(ours, ("Back",))]


async def test_what_will_be_made_is_told_before_it_is_made() -> None:
    """So that a kill between the two leaves no folder that nobody knows."""
    box = Box()
    told: list[tuple[str, ...]] = []

    async def intend(path: tuple[str, ...]) -> None:
        assert path not in box.made
        told.append(path)

    placing = Placement(
        cast("TargetMailbox", box),
        box.listing,
        [INBOX, BELOW],
        in_place=False,
        root="Back",
        dry_run=False,
        intend=intend,
    )
    await placing.place("s-below", ())
    assert told == box.made == [("Back",), ("Back", "Inbox"), ("Back", "Inbox", "2025")]


async def test_in_place_by_what_a_folder_is() -> None:
    """Well-known folders are found in any language; others by path; ids tell siblings apart."""
    box = Box()
    inbox = box.add("Posteingang", known="inbox")
    below = box.add("Posteingang", "2025")
    placing = placement(box, [INBOX, BELOW, SENT], in_place=True)
    assert (await placing.place("s-inbox", ())).folder_id == inbox
    assert (await placing.place("s-below", ())).folder_id == below
    assert not box.made
    # The target has no such well-known folder: one of its name is made.
    assert (await placing.place("s-sent", ())).path == ("Sent Items",)


async def test_in_place_a_folder_is_known_by_its_id_where_names_repeat() -> None:
    """Exchange may show siblings of one name: each goes where it was."""
    box = Box()
    first = box.add("Twins")
    second = box.add("Twins")
    folders = [folder_of(second, ("Twins",)), folder_of(first, ("Twins",))]
    placing = placement(box, folders, in_place=True)
    assert (await placing.place(first, ())).folder_id == first
    assert (await placing.place(second, ())).folder_id == second
    assert not box.made


async def test_a_folder_that_was_renamed_since_is_made_under_its_old_name() -> None:
    """What it is called now may have another meaning by now."""
    box = Box()
    renamed = box.add("New name")
    placing = placement(box, [folder_of(renamed, ("Old name",))], in_place=True)
    assert (await placing.place(renamed, ())).path == ("Old name",)
    assert box.made == [("Old name",)]


async def test_nothing_goes_into_the_outbox_or_the_recoverable_items() -> None:
    """Drafts and Deleted Items stand for them in place, and what is still there is looked for."""
    box = Box()
    outbox = box.add("Outbox", known="outbox")
    drafts = box.add("Drafts", known="drafts")
    bin_ = box.add("Deleted Items", known="deleteditems")
    folders = [
        folder_of("s-out", ("Outbox",), known="outbox"),
        folder_of("s-rec", ("Deletions",), known="recoverableitemsdeletions"),
    ]
    placing = placement(box, folders, in_place=True)
    place = await placing.place("s-out", ())
    assert (place.folder_id, place.instead_of) == (drafts, outbox)
    place = await placing.place("s-rec", ())
    assert (place.folder_id, place.instead_of) == (bin_, "")
    below = placement(box, folders)
    assert (await below.place("s-out", ())).path == ("Back", "Outbox")


async def test_names_of_siblings_become_different() -> None:
    """Same names, names that differ in case alone, and names alike as far as they are used."""
    long = "x" * 300
    folders = [
        folder_of("a", ("Twins",)),
        folder_of("b", ("twins",)),
        folder_of("c", ("Twins ",)),
        folder_of("d", (long + "1",)),
        folder_of("e", (long + "2",)),
        folder_of("f", ("",)),
        folder_of("g", (" ",)),
        folder_of("h", ("a/b\\c",)),
        folder_of("i", ("Twins (2)",)),
    ]
    box = Box()
    placing = placement(box, folders)
    names = [(await placing.place(f.id, ())).path[-1] for f in folders]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(0 < len(name) <= LONGEST_NAME for name in names)
    assert names[7] == "a/b\\c"
    assert len({(await placing.place(f.id, ())).folder_id for f in folders}) == len(folders)


async def test_folders_without_names_have_a_stand_in() -> None:
    """Atlas recorded none; and a message may be in the root itself."""
    nameless = Folder("s-x", "root", "", ())
    box = Box()
    placing = placement(box, [nameless])
    place = await placing.place("s-x", ("Folder 1a2b3c4d",))
    assert place.path == ("Back", "Folder 1a2b3c4d")
    assert (await placing.place("s-unknown", ("Folder 9",))).path == ("Back", "Folder 9")
    assert (await placing.place("s-root", ())).path == ("Back",)
    in_place = placement(box, [nameless], in_place=True)
    assert (await in_place.place("s-x", ())).folder_id == "root"


async def test_hidden_folders_stay_hidden() -> None:
    """As Conversation History is, below a root."""
    box = Box()
    hidden = folder_of("s-h", ("History",), hidden=True)
    await placement(box, [hidden]).place("s-h", ())
    assert [f.hidden for f in box.folders if f.path == ("Back", "History")] == [True]


async def test_a_folder_that_is_gone_is_found_or_made_anew() -> None:
    """In place it is not looked for under the id of the one that was deleted."""
    box = Box()
    gone = box.add("Projects")
    source = folder_of(gone, ("Projects",))
    placing = placement(box, [source, INBOX], in_place=True)
    assert (await placing.place(gone, ())).folder_id == gone
    box.folders.clear()
    await placing.forget(gone, box.listing)
    place = await placing.place(gone, ())
    assert (place.path, place.fresh) == (("Projects",), True)
    assert box.made == [("Projects",)]
