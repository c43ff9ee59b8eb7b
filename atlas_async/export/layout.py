"""Which path each folder of an export has: Outlook's tree, with names that every system takes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from atlas_async.export.forms import ExportForm
from atlas_async.export.names import (
    LONGEST_NAME,
    LONGEST_PATH,
    cut,
    digest_of,
    distinct_key,
    modified_utf7,
    safe_name,
)
from atlas_async.model.source import Folder

_FOLDER_BYTES: Final = 120
DEEP: Final = "(deep folders)"
"""Holds folders that lie too deep for their path to be written."""
JSON_FOLDERS: Final = "folders"
JSON_ATTACHMENTS: Final = "attachments"
JSON_FILE: Final = "messages.jsonl"
_TAKEN_ENDINGS: Final = (".eml", ".mbox", ".jsonl", ".json")
"""A folder does not end as files beside it do."""
_MAILDIR_PARTS: Final = ("cur", "new", "tmp")


class Layout:
    """The paths of one mailbox's folders.

    Args:
        form: How messages are written.
        top: The mailbox's own directory, or an empty string where the export has one mailbox.
    """

    def __init__(self, form: ExportForm, top: str) -> None:
        self._form = form
        self._top = (top,) if top else ()
        self._trees: dict[tuple[str, ...], set[str]] = {}
        self._paths: dict[str, str] = {}
        self._made: dict[str, None] = {}
        self._by_names: dict[tuple[str, ...], tuple[str, ...]] = {(): ()}
        self._unowned: set[tuple[str, ...]] = set()
        self._by_id: dict[str, tuple[str, ...]] = {}

    @property
    def top(self) -> str:
        """The mailbox's directory, with a slash at its end, or an empty string."""
        return "".join(f"{name}/" for name in self._top)

    def add(
        self,
        folders: Iterable[Folder],
        named: Sequence[tuple[str, ...]],
        *,
        made: Collection[str] | None = None,
    ) -> None:
        """Place folders. The same folders in the same order get the same paths.

        Args:
            folders: All of the mailbox, so that a part of it lies where it lies in the whole;
                parents first.
            named: The names to show for each.
            made: Ids of those whose directories an export has, though they be empty; None for all.
        """
        for folder, names in zip(folders, named, strict=True):
            if folder.id not in self._paths:
                self._place(folder, names)
            if made is None or folder.id in made:
                self._made[folder.id] = None

    def _place(self, folder: Folder, names: tuple[str, ...]) -> None:
        inbox = self._form is ExportForm.MAILDIR and folder.well_known_name == "inbox"
        parent = self._by_id.get(folder.parent_id)
        if parent is None:
            parent = self._implied(names[:-1])
        if inbox:
            own: tuple[str, ...] = ("INBOX",)
        elif names in self._unowned:
            self._unowned.discard(names)
            own = self._by_names[names]
        else:
            own = self._distinct(parent, names[-1] if names else "")
        self._by_id[folder.id] = own
        self._by_names.setdefault(names, own)
        self._paths[folder.id] = self._directory(own, inbox=inbox)

    def _implied(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the place of folders that are only known from the path of one below them."""
        if names not in self._by_names:
            self._by_names[names] = self._distinct(self._implied(names[:-1]), names[-1])
            self._unowned.add(names)
        return self._by_names[names]

    def _distinct(self, parent: tuple[str, ...], name: str) -> tuple[str, ...]:
        base = self._safe(name)
        if sum(len(part.encode()) + 1 for part in parent) + len(base.encode()) > LONGEST_PATH:
            base = cut(f"{base[:40]} [{digest_of('/'.join((*parent, name)), 10)}]", LONGEST_NAME)
            parent = (DEEP,)
        taken = self._trees.setdefault(parent, self._first_keys(parent))
        wanted, number = base, 1
        while not taken.isdisjoint(self._keys(wanted)):
            number += 1
            wanted = f"{base} ({number})"
        taken |= self._keys(wanted)
        return (*parent, wanted)

    def _keys(self, name: str) -> set[str]:
        """Return what no two names may share: as they are shown, and as they lie on the disk."""
        keys = {distinct_key(name)}
        if self._form is ExportForm.MAILDIR:
            # Its base64 tells cases apart, and some file systems do not.
            keys.add(distinct_key(modified_utf7(name)))
        return keys

    def _first_keys(self, parent: tuple[str, ...]) -> set[str]:
        """Return what stands for the names that no folder may have here."""
        names = () if parent else (DEEP, *(("INBOX",) if self._form is ExportForm.MAILDIR else ()))
        return {key for name in names for key in self._keys(name)}

    def _safe(self, name: str) -> str:
        if self._form is ExportForm.MAILDIR:
            name = name.replace(".", "_")  # a dot is what stands between levels there
        base = safe_name(name, most=_FOLDER_BYTES, otherwise="(no name)")
        return f"{base}_" if base.lower().endswith(_TAKEN_ENDINGS) else base

    def _directory(self, own: tuple[str, ...], *, inbox: bool) -> str:
        if self._form is not ExportForm.MAILDIR:
            inner = (JSON_FOLDERS,) if self._form is ExportForm.JSON else ()
            return "/".join((*self._top, *inner, *own))
        name = "" if inbox else "." + ".".join(modified_utf7(part) for part in own)
        if len(name) > LONGEST_NAME:
            name = f".{DEEP}.{digest_of(name, 40)}"
        return "/".join((*self._top, name) if name else self._top)

    def path(self, folder_id: str) -> str | None:
        """Return a folder's directory, or None for one that was not placed."""
        return self._paths.get(folder_id)

    def stray(self, names: Sequence[str]) -> str:
        """Return a directory for a folder that the snapshot does not list."""
        return self._directory(tuple(map(self._safe, names)), inbox=False)

    def directories(self) -> list[str]:
        """Return every directory that an export has, empty folders' too where those were meant."""
        paths = [self._paths[folder_id] for folder_id in self._made]
        if self._form is not ExportForm.MAILDIR:
            return [path for path in paths if path]
        every = dict.fromkeys(["/".join(self._top), *paths])
        return ["/".join(filter(None, (path, part))) for path in every for part in _MAILDIR_PARTS]


def mailbox_tops(mailbox_ids: Sequence[str]) -> dict[str, str]:
    """Return a directory name for each mailbox; no two are the same."""
    tops: dict[str, str] = {}
    taken: set[str] = set()
    for mailbox_id in mailbox_ids:
        base = safe_name(mailbox_id, most=_FOLDER_BYTES)
        if distinct_key(base) in taken:
            base = f"{base} [{digest_of(mailbox_id, 10)}]"
        taken.add(distinct_key(base))
        tops[mailbox_id] = base
    return tops
