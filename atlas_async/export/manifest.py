"""The list of what an export holds, one JSON object a line, written entry by entry. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

from atlas_async.export.container import close_quietly, writing
from atlas_async.export.forms import Written
from atlas_async.model.message import dump_json, load_json
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import JsonObject

_BUFFER_BYTES: Final = 256 << 10


class Manifest:
    """The manifest of an export that is being written. One process at a time has it.

    Args:
        path: The file.
        length: Bytes of it that stay; what comes after them was never marked.

    Raises:
        BlockingIOError: Another process has it.
        UsageError, StoreFull: It cannot be written.
        ValueError: It is shorter than ``length``.
    """

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        with writing(path):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            descriptor = os.open(path, flags, 0o600)
        try:
            _lock(descriptor)
            if os.fstat(descriptor).st_size < length:
                raise ValueError(str(path))
            os.ftruncate(descriptor, length)
        except BaseException:  # whatever it was, nobody else will close it
            os.close(descriptor)
            raise
        self._file = os.fdopen(descriptor, "r+b", _BUFFER_BYTES)
        self._file.seek(length)

    def add(self, line: JsonObject) -> None:
        """Add a line."""
        with writing(self._path):
            self._file.write(dump_json(line) + b"\n")

    def mark(self) -> int:
        """Make the lines durable and return their length in bytes."""
        with writing(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def written(self) -> Iterator[Written]:
        """Yield the entries of the lines so far."""
        with writing(self._path):
            self._file.flush()
        with self._path.open("rb") as file:
            for text in file:
                # Names in it may hold lone surrogates, which only this reads back.
                line = cast("JsonObject", load_json(text))
                if line["path"] is not None:
                    yield Written(line["path"], line["offset"], line["size_bytes"], line["sha256"])

    def close(self) -> None:
        """Close it; another process may have it then."""
        close_quietly(self._file)


def _lock(descriptor: int) -> None:
    """Take the file for this process; the system gives it back however the process ends."""
    try:
        import fcntl  # noqa: PLC0415 -- there is none on Windows
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def entry_line(  # noqa: PLR0913 -- a line's fields
    record: MessageRecord,
    written: Written | None,
    *,
    mailbox_id: str,
    snapshot_id: str,
    folder: Sequence[str],
    resource: JsonObject,
    lost: dict[int, str],
    original: bool = False,
    error: str = "",
) -> JsonObject:
    """Return the manifest's line of one message.

    Args:
        record: Its row.
        written: Where it lies; None where it could not be had.
        mailbox_id: Whose.
        snapshot_id: As of when.
        folder: The folder's names.
        resource: The message itself, which tells what Atlas's rows do not; empty if lost.
        lost: Why an attachment is not there, by its index.
        original: Whether its original MIME is what was written.
        error: Why it could not be had, or had as it should.
    """
    attachments: list[dict[str, Any]] = [
        {
            "name": attachment["name"],
            "checksum": attachment["checksum"] or None,
            "error": lost.get(index),
        }
        for index, attachment in enumerate(record.get("attachments", ()))
    ]
    return {
        "path": written.path if written else None,
        "offset": written.offset if written else None,
        "size_bytes": written.size if written else None,
        "sha256": written.sha256 if written else None,
        "mailbox_id": mailbox_id,
        "snapshot_id": snapshot_id,
        "object_id": record["object_id"],
        "internet_message_id": record["internet_message_id"]
        or _told(resource, "internetMessageId"),
        "received": record["received"] or _told(resource, "receivedDateTime"),
        "folder": list(folder),
        "checksum": record["checksum"],
        "attachments": attachments,
        "original": original,
        "error": error or None,
    }


def _told(resource: JsonObject, name: str) -> str:
    value = resource.get(name)
    return value if isinstance(value, str) else ""
