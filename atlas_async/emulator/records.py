"""What a mailbox stores: folders as they are now, and messages that differ from the generated."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from atlas_async.emulator.parts import Part
from atlas_async.emulator.properties import Extended
from atlas_async.emulator.shelf import Shelf


class NotHere(Exception):
    """No such folder, message or attachment in this mailbox."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """How Graph answers for a message that it cannot read.

    ``pages`` has every page fail that would hold it, however small; otherwise its folder shows it
    without a body. Listings of ids alone always show it.
    """

    status: int
    code: str
    pages: bool = False


@dataclass(slots=True)
class Entry:
    """What is known of a message beyond its seed.

    ``base`` holds the properties of a created message, None for a generated one; ``patch`` what
    was changed since; ``parts`` replaces the generated attachments when it is not None. ``misses``
    counts how often the message was not found yet after it was created.
    """

    key: int
    folder: int
    moves: int = 0
    version: int = 0
    base: dict[str, Any] | None = None
    patch: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] | None = None
    part_numbers: tuple[int, ...] = ()
    next_part: int = 0
    extended: Extended = field(default_factory=dict)
    modified: datetime | None = None
    deleted: bool = False
    misses: int = 0


@dataclass(slots=True)
class FolderState:
    """A folder as it is now; ``shelf`` holds its messages."""

    number: int
    parent: int
    name: str
    known: str | None
    hidden: bool
    search: bool
    shelf: Shelf
    unread: int
    version: int = 0
    extended: Extended = field(default_factory=dict)
