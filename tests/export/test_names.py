"""Names of files and folders: fit for every system, distinct, and never outside their directory."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.export.forms import ExportForm
from atlas_async.export.layout import DEEP, Layout, mailbox_tops
from atlas_async.export.names import (
    LONGEST_NAME,
    LONGEST_PATH,
    distinct_key,
    message_name,
    modified_utf7,
    safe_name,
)
from atlas_async.model.source import Folder
from tests.export.mail import ANY_TEXT

WHEN = datetime(2026, 4, 20, 11, 29, 59, tzinfo=UTC)


def assert_fit(name: str) -> None:
    """Assert that Linux, macOS and Windows all take a name as it is."""
    assert 0 < len(name.encode("utf-8")) <= LONGEST_NAME
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]', name)
    assert name == unicodedata.normalize("NFC", name)
    assert name not in {".", ".."}
    assert not name.endswith((" ", "."))
    assert not name.startswith(" ")
    assert not PureWindowsPath(name).is_reserved()
    assert PurePosixPath(name).name == name


@given(ANY_TEXT)
def test_any_text_makes_a_fit_name(text: str) -> None:
    """Whatever a subject or folder is called, its file can be made everywhere."""
    assert_fit(safe_name(text))
    assert_fit(message_name("id", text, WHEN, ".eml"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\Windows", "C__Windows"),
        ("con", "_con"),
        ("Aux.txt", "_Aux.txt"),
        ("COM¹", "_COM¹"),
        ("console", "console"),
        ("dots...", "dots"),
        ("..", "_"),
        ("", "_"),
        ("e\u0301", "é"),
        ("tab\there\r\nand there", "tab here and there"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud83d", "half \ufffd"),
        ("日本語", "日本語"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        (" .hidden ", ".hidden"),
        ("private \ue000", "private"),
    ],
)
def test_names_look_like_what_they_are_of(text: str, name: str) -> None:
    """What is safe stays, what is not is replaced or left out."""
    assert safe_name(text) == name


def test_names_of_messages() -> None:
    """Time, subject, and ten digits of the id's SHA-256 that tell equal ones apart."""
    name = message_name("AAMk=", "Plan: a/b", WHEN, ".eml")
    assert re.fullmatch(r"2026-04-20 112959 Plan_ a_b \[[0-9a-f]{10}\]\.eml", name)
    assert name != message_name("AAMk+", "Plan: a/b", WHEN, ".eml")
    assert message_name("x", "", None, ".eml").startswith("0000-00-00 000000 (no subject) [")
    long = message_name("x", "ü" * 500, WHEN, ".eml")
    assert len(long.encode()) in {LONGEST_NAME, LONGEST_NAME - 1}
    assert long.endswith("].eml")


def test_imap_names() -> None:
    """RFC 3501's examples, and characters beyond the first plane."""
    assert modified_utf7("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert modified_utf7("A&B") == "A&-B"
    assert modified_utf7("📁") == "&2D3cwQ-"


def folder(number: int, name: str, parent: str = "root", path: tuple[str, ...] = ()) -> Folder:
    """Return a folder."""
    return Folder(f"f{number}", parent, name, path or (name,))


def placed(form: ExportForm, *folders: Folder, top: str = "") -> list[str]:
    """Return the paths of folders."""
    layout = Layout(form, top)
    layout.add(folders, [one.path for one in folders])
    return [layout.path(one.id) or "" for one in folders]


@pytest.mark.parametrize("form", [ExportForm.EML, ExportForm.MBOX])
def test_folders_lie_as_in_outlook(form: ExportForm) -> None:
    """Below their parents, by their names; those of one name, in any case or form, are told apart."""
    paths = placed(
        form,
        folder(1, "Inbox"),
        folder(2, "inbox"),
        folder(3, "ＩＮＢＯＸ"),
        folder(4, "Projects", "f1", ("Inbox", "Projects")),
        folder(5, "Projects", "f2", ("inbox", "Projects")),
        folder(6, "a/b"),
        folder(7, "a:b"),
        folder(8, "mail.EML"),
        folder(9, "x.mbox"),
    )
    assert paths == [
        "Inbox",
        "inbox (2)",
        "ＩＮＢＯＸ (3)",
        "Inbox/Projects",
        "inbox (2)/Projects",
        "a_b",
        "a_b (2)",
        "mail.EML_",
        "x.mbox_",
    ]


def test_a_folder_alone_keeps_its_place() -> None:
    """One that was chosen without its parents lies below their names; they may come later."""
    layout = Layout(ExportForm.EML, "ann")
    below = folder(2, "B", "f1", ("A", "B"))
    layout.add([below], [below.path])
    above = folder(1, "A")
    layout.add([above, below], [above.path, below.path])
    assert (layout.path("f2"), layout.path("f1")) == ("ann/A/B", "ann/A")
    assert layout.path("f9") is None
    assert layout.stray(("Folder 1a2b3c4d",)) == "ann/Folder 1a2b3c4d"


def test_json_and_maildir_have_their_own_places() -> None:
    """JSON keeps folders and attachments apart; Maildir++ writes levels as dots."""
    tree = [
        Folder("i", "root", "Posteingang", ("Posteingang",), "inbox"),
        folder(2, "Kunden", "i", ("Posteingang", "Kunden")),
        folder(3, "a.b"),
        folder(4, "Entwürfe & mehr"),
        folder(5, "INBOX"),
    ]
    assert placed(ExportForm.JSON, *tree[:2]) == [
        "folders/Posteingang",
        "folders/Posteingang/Kunden",
    ]
    assert placed(ExportForm.MAILDIR, *tree, top="ann") == [
        "ann",
        "ann/.INBOX.Kunden",
        "ann/.a_b",
        "ann/.Entw&APw-rfe &- mehr",
        "ann/.INBOX (2)",
    ]


def test_maildir_names_are_distinct_without_case() -> None:
    """Modified UTF-7 writes base64, in which two folders may differ by case alone."""
    assert modified_utf7("ä").lower() == modified_utf7("檄").lower()
    above = folder(1, "A")
    paths = placed(
        ExportForm.MAILDIR,
        above,
        folder(2, "ä"),
        folder(3, "檄"),
        folder(4, "ä", "f1", ("A", "ä")),
        folder(5, "檄", "f1", ("A", "檄")),
    )
    assert paths == [".A", ".&AOQ-", ".&aoQ- (2)", ".A.&AOQ-", ".A.&aoQ- (2)"]
    assert placed(ExportForm.EML, folder(2, "ä"), folder(3, "檄")) == ["ä", "檄"]


def test_a_part_of_a_mailbox_lies_where_it_lies_in_the_whole() -> None:
    """All folders are placed, and only those that were asked for are made."""
    inbox = Folder("i", "root", "Posteingang", ("Posteingang",), "inbox")
    tree = [inbox, folder(2, "A"), folder(3, "a"), folder(4, "B", "i", ("Posteingang", "B"))]
    for form, made in (
        (ExportForm.EML, ["a (2)", "Posteingang/B"]),
        (ExportForm.MAILDIR, [".a (2)", ".INBOX.B"]),
    ):
        layout = Layout(form, "")
        layout.add(tree, [one.path for one in tree], made={"f3", "f4"})
        directories = {path.removesuffix("/cur") for path in layout.directories()}
        assert directories >= set(made)
        assert layout.path("f2") == (".A" if form is ExportForm.MAILDIR else "A")
        assert not {".A", "A", "Posteingang"} & directories


@pytest.mark.parametrize("form", list(ExportForm))
def test_very_deep_folders_have_paths_that_can_be_written(form: ExportForm) -> None:
    """Three hundred levels of long names, as Exchange allows, stay within what systems take."""
    folders = []
    path: tuple[str, ...] = ()
    for number in range(300):
        path = (*path, f"{number} {'ü' * 100}")
        folders.append(folder(number, path[-1], f"f{number - 1}", path))
    paths = placed(form, *folders)
    assert len(set(map(distinct_key, paths))) == 300
    assert max(len(found.encode()) for found in paths) <= LONGEST_PATH + LONGEST_NAME + 1
    assert all(len(part.encode()) <= LONGEST_NAME for found in paths for part in found.split("/"))
    assert any(DEEP in found for found in paths)


@given(st.lists(ANY_TEXT, min_size=1, max_size=8), st.sampled_from(list(ExportForm)))
def test_any_tree_gets_distinct_paths_inside(names: list[str], form: ExportForm) -> None:
    """No folder's name leads out of the export, and no two folders share a path."""
    flat = [folder(number, name) for number, name in enumerate(names)]
    paths = placed(form, *flat, top="top")
    assert len({distinct_key(path) for path in paths}) == len(names)
    assert len({path.casefold() for path in paths}) == len(names)
    for path in paths:
        first, *rest = path.split("/")
        assert first == "top"
        assert rest
        for part in rest:
            assert_fit(part)


def test_mailboxes_have_distinct_directories() -> None:
    """Two addresses that would get one name are told apart."""
    tops = mailbox_tops(["ann@contoso.com", "ann:x@contoso.com", "ann?x@contoso.com"])
    assert len(set(tops.values())) == 3
    assert tops["ann@contoso.com"] == "ann@contoso.com"
