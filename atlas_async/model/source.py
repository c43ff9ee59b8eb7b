"""What a mail source hands over: folders, pages of messages, attachments, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

JsonObject = dict[str, Any]
"""A resource exactly as Graph gave it."""


class IdMode(StrEnum):
    """Which of Graph's two id formats a delta link or an id was made with."""

    IMMUTABLE = "immutable"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Principal:
    """A directory object that may own a mailbox.

    ``address`` is the lower-cased ``mail`` (or user principal name) and is the ``mailbox_id`` of
    everything stored; ``user_id`` is the directory's object id, which is what requests use.
    """

    user_id: str
    address: str
    display_name: str = ""
    user_type: str = ""
    account_enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """A mail folder. ``path`` holds display names from below the root, outermost first."""

    id: str
    parent_id: str
    name: str
    path: tuple[str, ...]
    well_known_name: str | None = None
    hidden: bool = False
    total_items: int = 0


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The whole folder tree below the root.

    ``folders`` come parents first; search folders are left out and counted. ``root_id`` is the id
    of ``msgfolderroot``. ``link`` is the folder delta's from before the first folder was listed,
    so that it tells of every change the listing missed; None when there is none to be had.
    """

    folders: tuple[Folder, ...]
    root_id: str
    link: str | None = None
    search_folders: int = 0


@dataclass(frozen=True, slots=True)
class FolderChanges:
    """One round of the folder delta. ``changed`` holds raw resources, ``removed`` ids."""

    changed: tuple[JsonObject, ...]
    removed: tuple[str, ...]
    link: str


@dataclass(frozen=True, slots=True)
class MessagePage:
    """One page of a folder's messages.

    Exactly one of ``next_link`` and ``delta_link`` is set in a delta round; the last page of a
    plain listing has neither. ``removed`` are ids that left the folder (deleted or moved).
    ``size_bytes`` is the length of the decoded answer.
    """

    items: tuple[JsonObject, ...]
    removed: tuple[str, ...]
    next_link: str | None
    delta_link: str | None
    size_bytes: int


class EnumerationMode(StrEnum):
    """How a folder is being read."""

    DELTA = "delta"
    LISTING = "listing"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a mailbox cost Graph: requests sent, answers that were 429, seconds spent waiting."""

    requests: int = 0
    throttled: int = 0
    throttled_seconds: float = 0.0
    bytes_received: int = 0
