"""One message as the entry of an export: where it goes, what it is made of, how lines end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from atlas_async.export.addresses import addr_spec
from atlas_async.export.forms import ExportForm, Target
from atlas_async.export.headers import received_at
from atlas_async.export.layout import JSON_ATTACHMENTS, JSON_FILE, Layout
from atlas_async.export.line_ends import AsItIs, MboxLines, Rewriter, UnixLines
from atlas_async.export.marked_head import MarkedHead
from atlas_async.export.mime import message_pieces
from atlas_async.export.names import digest_of, message_name
from atlas_async.export.pieces import Carry, Enclosure, Piece, Streamed
from atlas_async.model.message import dump_json, sender_address
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import JsonObject

ORIGINAL: Final = -1
"""Stands for a message's original where a piece names what it streams."""
_UNIQUE_DIGITS: Final = 20
_FLAGGED: Final = "flagged"
_MOMENT: Final = "%a %b %d %H:%M:%S %Y"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written for one message, or for one attachment.

    Args:
        target: Where.
        pieces: In order; of a message with CRLF line ends.
        rewriter: Makes what rewrites the lines.
        is_message: False for a file that messages refer to.
    """

    target: Target
    pieces: Sequence[Piece]
    rewriter: Callable[[], Rewriter] = AsItIs
    is_message: bool = True


@dataclass(frozen=True, slots=True)
class Material:
    """A message read back, with what was looked up of its attachments.

    Args:
        record: Its row.
        resource: As of the snapshot.
        enclosures: One for each attachment of the record.
        original: The original MIME: its bytes, or None where it is streamed later.
        has_original: Whether the original is what is written.
    """

    record: MessageRecord
    resource: JsonObject
    enclosures: Sequence[Enclosure]
    original: bytes | None = None
    has_original: bool = False


class Shape:
    """Makes entries in one form, for the messages of one mailbox.

    Args:
        form: Which form.
        layout: The paths of the folders, all placed.
        mailbox_id: Whose.
        snapshot_id: As of when.
    """

    def __init__(self, form: ExportForm, layout: Layout, mailbox_id: str, snapshot_id: str) -> None:
        self._form = form
        self._layout = layout
        self._mailbox_id = mailbox_id
        self._snapshot_id = snapshot_id

    def entries(self, material: Material, folder: str, names: Sequence[str]) -> list[Entry]:
        """Return what is written for a message, in order.

        Args:
            material: The message.
            folder: The directory of its folder.
            names: The folder's names, as people see them.
        """
        if self._form is ExportForm.JSON:
            return [*self._files(material), self._line(material, folder, names)]
        moment = received_at(material.resource)
        modified = moment.timestamp() if moment else None
        return [
            Entry(
                self._target(material, folder, moment, modified),
                self._pieces(material),
                self._rewriter(material, moment),
            )
        ]

    def _target(
        self, material: Material, folder: str, moment: datetime | None, modified: float | None
    ) -> Target:
        object_id = material.record["object_id"]
        if self._form is ExportForm.MBOX:
            return Target(f"{folder}.mbox", append=True)
        if self._form is ExportForm.MAILDIR:
            unique = digest_of(object_id, _UNIQUE_DIGITS)
            name = f"{int(modified or 0)}.{unique}.atlas:2,{_flags(material.resource)}"
            return Target("/".join(filter(None, (folder, "cur", name))), modified=modified)
        subject = material.resource.get("subject")
        name = message_name(object_id, subject if isinstance(subject, str) else "", moment, ".eml")
        return Target(f"{folder}/{name}", modified=modified)

    def _pieces(self, material: Material) -> Sequence[Piece]:
        if material.has_original:
            whole = material.original
            return [Streamed(ORIGINAL, Carry.EXACT)] if whole is None else [whole]
        marks = _status(material.resource) if self._form is ExportForm.MBOX else b""
        return message_pieces(
            material.resource,
            material.enclosures,
            seed=f"{material.record['object_id']}\0{material.record['checksum']}",
            extra_headers=marks,
        )

    def _rewriter(self, material: Material, moment: datetime | None) -> Callable[[], Rewriter]:
        if self._form is ExportForm.MAILDIR:
            return UnixLines
        if self._form is ExportForm.MBOX:
            first = _from_line(sender_address(material.resource), moment)
            if not material.has_original:
                return lambda: MboxLines(first)
            marks = _status(material.resource)
            return lambda: MboxLines(first, MarkedHead(marks))
        return AsItIs

    def _files(self, material: Material) -> list[Entry]:
        entries = []
        for index, enclosure in enumerate(material.enclosures):
            if enclosure.lost or not enclosure.record["checksum"]:
                continue
            target = Target(self._file_path(enclosure), once=True)
            content = enclosure.content
            piece: Piece = Streamed(index, Carry.EXACT) if content is None else content
            entries.append(Entry(target, [piece], is_message=False))
        return entries

    def _file_path(self, enclosure: Enclosure) -> str:
        return f"{self._layout.top}{JSON_ATTACHMENTS}/{enclosure.record['checksum']}"

    def _line(self, material: Material, folder: str, names: Sequence[str]) -> Entry:
        record = material.record
        line: dict[str, Any] = {
            "mailbox_id": self._mailbox_id,
            "snapshot_id": self._snapshot_id,
            "object_id": record["object_id"],
            "folder": list(names),
            "checksum": record["checksum"],
            "message": material.resource,
            "attachments": [self._described(enclosure) for enclosure in material.enclosures],
        }
        return Entry(Target(f"{folder}/{JSON_FILE}", append=True), [dump_json(line) + b"\n"])

    def _described(self, enclosure: Enclosure) -> dict[str, Any]:
        record = enclosure.record
        there = record["checksum"] and not enclosure.lost
        return {
            **record,
            "file": self._file_path(enclosure) if there else None,
            "error": enclosure.lost or None,
        }


def folder_file(form: ExportForm, folder: str) -> str | None:
    """Return the file that all messages of a folder go to, empty folders' too, or None."""
    if form is ExportForm.MBOX:
        return f"{folder}.mbox"
    return f"{folder}/{JSON_FILE}" if form is ExportForm.JSON else None


def _flags(resource: JsonObject) -> str:
    """Return Maildir's flags, in the order of their letters."""
    draft = "D" if resource.get("isDraft") else ""
    return draft + ("F" if _is_flagged(resource) else "") + ("S" if resource.get("isRead") else "")


def _status(resource: JsonObject) -> bytes:
    """Return the headers in which mailbox files keep what was read and flagged."""
    read = "RO" if resource.get("isRead") else "O"
    more = ("F" if _is_flagged(resource) else "") + ("T" if resource.get("isDraft") else "")
    lines = [f"Status: {read}\r\n", f"X-Status: {more}\r\n" if more else ""]
    return "".join(lines).encode("ascii")


def _is_flagged(resource: JsonObject) -> bool:
    flag = resource.get("flag")
    return isinstance(flag, dict) and flag.get("flagStatus") == _FLAGGED


def _from_line(sender: str, moment: datetime | None) -> bytes:
    address = addr_spec(sender.strip())
    plain = address if address and " " not in address else "MAILER-DAEMON"
    return f"From {plain} {(moment or datetime.fromtimestamp(0, UTC)).strftime(_MOMENT)}".encode()
