"""The folder tree: cheap when unchanged, listed anew when not, chosen by name and subtree."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.catalog.snapshot import Snapshot
from atlas_async.clock import iso_millis
from atlas_async.config.settings import FolderChoice
from atlas_async.errors import UsageError
from atlas_async.model.source import Folder, FolderChanges
from atlas_async.pipeline.tree import _is_fresh, choose, same_tree, with_changes
from tests.fakes.clock import FakeClock


@st.composite
def trees(draw: st.DrawFn) -> tuple[Folder, ...]:
    """Draw a folder tree, parents first, sibling names possibly equal."""
    folders: list[Folder] = []
    for number in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from([None, *folders]))
        name = draw(st.sampled_from(["A", "B", "Ü", "a/b", "会議"]))
        known = draw(st.sampled_from([None, None, None, "inbox", "drafts", "junkemail"]))
        folders.append(
            Folder(
                id=f"id{number}",
                parent_id=parent.id if parent else "root",
                name=name,
                path=(*(parent.path if parent else ()), name),
                well_known_name=known,
                total_items=draw(st.integers(0, 5)),
            )
        )
    return tuple(folders)


def resource(folder: Folder, **changed: Any) -> dict[str, Any]:
    """Return what the folder delta gives for a folder."""
    return {
        "id": folder.id,
        "displayName": folder.name,
        "parentFolderId": folder.parent_id,
        "isHidden": folder.hidden,
        "totalItemCount": folder.total_items,
    } | changed


@given(tree=trees(), counts=st.lists(st.integers(0, 99), max_size=12))
def test_changed_counts_keep_the_tree(tree: tuple[Folder, ...], counts: list[int]) -> None:
    """A folder delta that reports only item counts needs no listing."""
    changed = [resource(f, totalItemCount=n) for f, n in zip(tree, counts, strict=False)]
    result = with_changes(tree, FolderChanges(tuple(changed), (), "link"))
    assert result is not None
    assert same_tree(result, tree)
    for folder, number in zip(result, counts, strict=False):
        assert folder.total_items == number


@given(tree=trees().filter(bool), data=st.data())
def test_any_other_change_asks_for_a_listing(tree: tuple[Folder, ...], data: st.DataObject) -> None:
    """A renamed, moved, hidden, new or removed folder leads to a whole listing."""
    folder = data.draw(st.sampled_from(tree))
    what = data.draw(st.sampled_from(["displayName", "parentFolderId", "isHidden", "new", "gone"]))
    changes = {
        "displayName": FolderChanges((resource(folder, displayName="other name"),), (), ""),
        "parentFolderId": FolderChanges((resource(folder, parentFolderId="elsewhere"),), (), ""),
        "isHidden": FolderChanges((resource(folder, isHidden=True),), (), ""),
        "new": FolderChanges((resource(folder, id="new one"),), (), ""),
        "gone": FolderChanges((), (folder.id,), ""),
    }[what]
    assert with_changes(tree, changes) is None


def test_search_folders_in_the_delta_are_ignored() -> None:
    """A search folder that the delta reports is no change of the tree."""
    search = {
        "id": "s",
        "@odata.type": "#microsoft.graph.mailSearchFolder",
        "displayName": "Unread",
    }
    assert with_changes((), FolderChanges((search,), (), "")) == ()


@given(tree=trees())
def test_exclusion_takes_whole_subtrees(tree: tuple[Folder, ...]) -> None:
    """Excluding a well-known folder leaves out everything below it, and nothing else."""
    choice = FolderChoice(exclude_well_known=frozenset({"drafts"}))
    kept = {f.id for f in choose(tree, choice, "root", None, "").folders}
    for folder in tree:
        out = folder.well_known_name == "drafts" or (
            folder.parent_id != "root" and folder.parent_id not in kept
        )
        assert (folder.id not in kept) == out


@given(tree=trees().filter(bool), data=st.data())
def test_only_reads_the_named_folder_and_what_lies_below(
    tree: tuple[Folder, ...], data: st.DataObject
) -> None:
    """``-f`` reads the named folder with its subtree; the snapshot keeps all folders."""
    folder = data.draw(st.sampled_from(tree))
    choice = FolderChoice(only=("/".join(folder.path).upper(),))
    chosen = choose(tree, choice, "root", None, "")
    read = {f.id for f in chosen.read}
    assert folder.id in read
    assert chosen.folders == tree
    for other in tree:
        if other.parent_id in read:
            assert other.id in read


@given(tree=trees())
def test_the_longest_folder_is_read_first(tree: tuple[Folder, ...]) -> None:
    """Folders are read by size, whatever order they were listed in; none is left out."""
    read = choose(tree, FolderChoice(), "root", None, "").read
    sizes = [folder.total_items for folder in read]
    assert sizes == sorted(sizes, reverse=True)
    assert set(read) == set(tree)


def test_unknown_folder_name_is_refused() -> None:
    """A folder that does not exist is a usage error that names it."""
    with pytest.raises(UsageError, match="no folder named 'Nope'"):
        choose((), FolderChoice(only=("Nope",)), "root", None, "")


@pytest.mark.parametrize(
    ("days", "fresh"), [(-1, True), (-6.9, True), (-7.1, False), (6.9, True), (30, False)]
)
def test_a_listing_is_of_use_for_a_week(days: float, fresh: bool) -> None:
    """One of long ago is made anew, and so is one of the future: a clock was wrong then."""
    clock = FakeClock()
    listed_at = iso_millis(clock.now() + timedelta(days=days))
    base = Snapshot(
        snapshot_id="s",
        mailbox_id="ann@contoso.com",
        created_at=listed_at,
        started_at=listed_at,
        complete=True,
        folders_listed_at=listed_at,
    )
    assert _is_fresh(base, FolderChoice(), clock) == fresh
