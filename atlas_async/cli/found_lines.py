"""``--found FILE``: the messages that ``atlas find --json`` has found, read back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atlas_async.errors import UsageError
from atlas_async.model.message import load_json

STDIN: Final = "-"
LONGEST_LINE: Final = 16 << 20
"""Bytes of a line. A match with the names of its attachments has some hundred."""
HINT: Final = "give what 'atlas find --json' wrote, or - to read it from standard input"


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message of a snapshot."""

    mailbox_id: str
    snapshot_id: str
    object_id: str


def read_found(source: str) -> list[FoundMessage]:
    """Return the messages that a file names, each once; ``-`` is standard input. Blocks.

    Raises:
        UsageError: It cannot be read, or is no such list.
    """
    if source == STDIN:
        return parse_found(sys.stdin.buffer)
    try:
        with Path(source).open("rb") as file:
            return parse_found(file)
    except OSError as error:
        raise UsageError(f"cannot read {source[:200]!r}: {error.strerror}", hint=HINT) from None


def parse_found(lines: Iterable[bytes]) -> list[FoundMessage]:
    """Return the messages of lines; lines that are no matches are passed over.

    Raises:
        UsageError: A line is not JSON, or a match lacks what names a message; or there is neither
            a match nor the last line of a search, so that it failed.
    """
    found: dict[FoundMessage, None] = {}
    ended = False
    for line in lines:
        for document in _documents(line):
            if document.get("message_type") == "summary":
                ended = True
            if document.get("message_type") != "match":
                continue
            names = [document.get(name) for name in ("mailbox_id", "snapshot_id", "object_id")]
            if not all(isinstance(name, str) and name for name in names):
                raise UsageError("a match names no message", hint=HINT)
            found[FoundMessage(*map(str, names))] = None
    if not ended and not found:
        raise UsageError("no result of a search was given", hint=HINT)
    return list(found)


def by_snapshot(found: Iterable[FoundMessage]) -> dict[tuple[str, str], list[str]]:
    """Return the ids of messages by their mailbox and snapshot, in the order they were found.

    A message that several searches found in different snapshots is taken from the newest of them.
    """
    newest: dict[tuple[str, str], FoundMessage] = {}
    for item in found:
        key = item.mailbox_id, item.object_id
        if key not in newest or newest[key].snapshot_id < item.snapshot_id:
            newest[key] = item
    groups: dict[tuple[str, str], list[str]] = {}
    for item in newest.values():
        groups.setdefault((item.mailbox_id, item.snapshot_id), []).append(item.object_id)
    return groups


def _documents(line: bytes) -> Iterator[dict[str, object]]:
    if not line.strip():
        return
    try:
        document = load_json(line) if len(line) <= LONGEST_LINE else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UsageError("a line of --found is not a JSON document", hint=HINT)
    yield document
