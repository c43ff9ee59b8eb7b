"""A snapshot's descriptor: everything but the rows themselves.

The descriptor of a committed snapshot lies at ``catalog/{mailbox}/snapshots/{id}``; a copy of the
newest one, and the open checkpoint of a run that has not committed yet, lie in the mailbox's head.
A checkpoint has the same form: it is a snapshot that was not committed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.fields import checksum, number, text, text_or_none, texts
from atlas_async.catalog.state import Run
from atlas_async.clock import iso_millis
from atlas_async.errors import FormatError
from atlas_async.model.source import EnumerationMode, Folder, IdMode, JsonObject


@dataclass(frozen=True, slots=True)
class FolderCursor:
    """Where reading a folder continues.

    Args:
        link: A next link or delta link, exactly as Graph gave it; None starts anew.
        mode: How the folder is enumerated. A listing has no delta link to continue from.
        round_open: The link is in the middle of a round: a later page of it exists.
        full: The open round enumerates the folder from its start, so that what it does not show
            is gone when it ends.
        made_at: When the link was obtained, ISO 8601.
        settled_total: Graph's item count when an empty delta was last checked against it.
    """

    link: str | None = None
    mode: EnumerationMode = EnumerationMode.DELTA
    round_open: bool = False
    full: bool = False
    made_at: str = ""
    settled_total: int = -1

    def to_json(self) -> JsonObject:
        """Return what a descriptor stores."""
        return {
            "link": self.link,
            "mode": self.mode.value,
            "round_open": self.round_open,
            "full": self.full,
            "made_at": self.made_at,
            "settled_total": self.settled_total,
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> FolderCursor:
        """Parse what ``to_json`` wrote."""
        return cls(
            link=text_or_none(value["link"]),
            mode=EnumerationMode(value["mode"]),
            round_open=bool(value["round_open"]),
            full=bool(value["full"]),
            made_at=text(value["made_at"]),
            settled_total=number(value["settled_total"]),
        )


@dataclass(frozen=True, slots=True)
class LedgerRef:
    """Where the ledger of things not stored is, and how many count as missing."""

    checksum: str
    count: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The descriptor of one snapshot.

    ``new``, ``changed``, ``removed`` count messages of the run that wrote it; ``messages`` and
    ``size_bytes`` (of message plaintexts) are totals. ``carry`` names what a run that did not
    finish left to remember. ``whole`` tells that every folder was read to its end: what is missing
    then is in the ledger.
    """

    snapshot_id: str
    mailbox_id: str
    created_at: str
    started_at: str
    complete: bool
    parent: str | None = None
    messages: int = 0
    size_bytes: int = 0
    new: int = 0
    changed: int = 0
    removed: int = 0
    folders: tuple[Folder, ...] = ()
    root_id: str = ""
    folder_counts: dict[str, int] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    cursors: dict[str, FolderCursor] = field(default_factory=dict)
    folder_link: str | None = None
    folders_listed_at: str = ""
    ledger: LedgerRef | None = None
    carry: str = ""
    id_mode: IdMode = IdMode.IMMUTABLE
    excluded: tuple[str, ...] = ()
    interrupted: bool = False
    recoverable: bool = False
    full_run: bool = False
    whole: bool = False

    def to_json(self) -> JsonObject:
        """Return the catalog document of this snapshot."""
        return {
            "format": FORMAT,
            "kind": "snapshot",
            "snapshot_id": self.snapshot_id,
            "mailbox_id": self.mailbox_id,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "complete": self.complete,
            "interrupted": self.interrupted,
            "parent": self.parent,
            "messages": self.messages,
            "size_bytes": self.size_bytes,
            "new": self.new,
            "changed": self.changed,
            "removed": self.removed,
            "folders": [_folder_to_json(folder) for folder in self.folders],
            "root_id": self.root_id,
            "folder_counts": self.folder_counts,
            "runs": [run.to_json() for run in self.runs],
            "cursors": {key: cursor.to_json() for key, cursor in self.cursors.items()},
            "folder_link": self.folder_link,
            "folders_listed_at": self.folders_listed_at,
            "ledger": [self.ledger.checksum, self.ledger.count] if self.ledger else None,
            "carry": self.carry,
            "id_mode": self.id_mode.value,
            "excluded": list(self.excluded),
            "recoverable": self.recoverable,
            "full_run": self.full_run,
            "whole": self.whole,
        }

    @classmethod
    def from_json(cls, value: JsonObject, *, where: str) -> Snapshot:
        """Parse what ``to_json`` wrote.

        Raises:
            FormatError: A field is missing or of the wrong type.
        """
        try:
            ledger = value["ledger"]
            return cls(
                snapshot_id=text(value["snapshot_id"]),
                mailbox_id=text(value["mailbox_id"]),
                created_at=text(value["created_at"]),
                started_at=text(value["started_at"]),
                complete=bool(value["complete"]),
                interrupted=bool(value["interrupted"]),
                parent=text_or_none(value["parent"]),
                messages=number(value["messages"]),
                size_bytes=number(value["size_bytes"]),
                new=number(value["new"]),
                changed=number(value["changed"]),
                removed=number(value["removed"]),
                folders=tuple(_folder_from_json(item) for item in value["folders"]),
                root_id=text(value["root_id"]),
                folder_counts={k: number(v) for k, v in value["folder_counts"].items()},
                runs=tuple(Run.from_json(item) for item in value["runs"]),
                cursors={k: FolderCursor.from_json(v) for k, v in value["cursors"].items()},
                folder_link=text_or_none(value["folder_link"]),
                folders_listed_at=text(value["folders_listed_at"]),
                ledger=LedgerRef(checksum(ledger[0]), number(ledger[1])) if ledger else None,
                carry=checksum(value["carry"]) if value["carry"] else "",
                id_mode=IdMode(value["id_mode"]),
                excluded=tuple(texts(value["excluded"])),
                recoverable=bool(value["recoverable"]),
                full_run=bool(value["full_run"]),
                whole=bool(value.get("whole")),
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            msg = f"snapshot descriptor cannot be parsed: {type(error).__name__} {error}"
            raise FormatError(msg, where=where) from None

    def without_counts(self) -> Snapshot:
        """Return a copy that stands for "nothing done yet in the next run"."""
        return replace(self, new=0, changed=0, removed=0)


def commit_moment(now: datetime, base: Snapshot | None) -> str:
    """Return the moment of a commit, later than the previous one even if the clock is not."""
    moment = iso_millis(now)
    if base is None or moment > base.created_at:
        return moment
    previous = datetime.fromisoformat(base.created_at)
    return iso_millis(previous + timedelta(milliseconds=1))


def new_snapshot_id(moment: datetime) -> str:
    """Return a UUID of version 7 (RFC 9562): its first 48 bits are ``moment`` in milliseconds.

    So keys of manifests written by this program sort by time.
    """
    millis = int(moment.timestamp() * 1000) & ((1 << 48) - 1)
    tail = bytearray(os.urandom(10))
    tail[0] = 0x70 | (tail[0] & 0x0F)
    tail[2] = 0x80 | (tail[2] & 0x3F)
    text = millis.to_bytes(6, "big").hex() + tail.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _folder_to_json(folder: Folder) -> list[Any]:
    return [
        folder.id,
        folder.parent_id,
        folder.name,
        list(folder.path),
        folder.well_known_name,
        folder.hidden,
        folder.total_items,
    ]


def _folder_from_json(value: list[Any]) -> Folder:
    folder_id, parent_id, name, path, well_known_name, hidden, total_items = value
    return Folder(
        id=text(folder_id),
        parent_id=text(parent_id),
        name=text(name),
        path=tuple(texts(path)),
        well_known_name=text_or_none(well_known_name),
        hidden=bool(hidden),
        total_items=number(total_items),
    )
