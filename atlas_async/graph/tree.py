"""The shape of a folder tree: raw folders in, folders with paths out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from atlas_async.model.source import Folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from atlas_async.model.source import JsonObject

MOST_ITEMS: Final = 1 << 31
"""More than any folder can hold: a figure beyond it is no count."""


def arrange(
    resources: Iterable[JsonObject], root_id: str, names: dict[str, str]
) -> tuple[Folder, ...]:
    """Return folders, parents first, with paths built from parent ids.

    A folder whose parent is unknown stands at the top. A circle of parents is cut where it closes.

    Args:
        resources: Raw folders.
        root_id: Id of ``msgfolderroot``, which is in no path.
        names: Well-known name by folder id.
    """
    by_id = {resource["id"]: resource for resource in resources}
    folders = [
        make_folder(resource, _path(resource, by_id, root_id), names.get(resource["id"]))
        for resource in by_id.values()
    ]
    return tuple(sorted(folders, key=lambda folder: len(folder.path)))


def _path(resource: JsonObject, by_id: dict[str, JsonObject], root_id: str) -> tuple[str, ...]:
    path: list[str] = []
    passed: set[str] = set()
    node: JsonObject | None = resource
    while node is not None and node["id"] not in passed:
        passed.add(node["id"])
        path.append(_name(node))
        parent = str(node.get("parentFolderId") or "")
        node = None if parent == root_id else by_id.get(parent)
    return tuple(reversed(path))


def _name(resource: JsonObject) -> str:
    return str(resource.get("displayName") or "")


def _count(value: object) -> int:
    """Return a number of items; 0 for what is none. It only tells what to expect."""
    return value if isinstance(value, int) and 0 <= value <= MOST_ITEMS else 0


def make_folder(resource: JsonObject, path: tuple[str, ...], well_known: str | None) -> Folder:
    """Return a raw folder as a value."""
    return Folder(
        id=resource["id"],
        parent_id=str(resource.get("parentFolderId") or ""),
        name=_name(resource),
        path=path,
        well_known_name=well_known,
        hidden=bool(resource.get("isHidden")),
        total_items=_count(resource.get("totalItemCount")),
    )
