"""What an entry of an export is made of: bytes that are there, and contents yet to be read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from atlas_async.export.transfer import Looked
from atlas_async.model.record import AttachmentRecord
from atlas_async.model.source import JsonObject


class Carry(Enum):
    """How a stored content goes into an entry."""

    EXACT = auto()
    BASE64 = auto()
    LINES = auto()


@dataclass(frozen=True, slots=True)
class Streamed:
    """The stored content of attachment number ``index``, read when its turn comes."""

    index: int
    carry: Carry


Piece = bytes | Streamed


@dataclass(frozen=True, slots=True)
class Enclosure:
    """An attachment as an export has it before it.

    Args:
        record: What the snapshot says of it.
        content: Its bytes; None where they are streamed later, or lost.
        looked: Of an item: what its bytes are.
        link: Of a reference: its resource.
        lost: Why its content is not there, a sentence; an empty string where it is.
    """

    record: AttachmentRecord
    content: bytes | None = None
    looked: Looked | None = None
    link: JsonObject | None = None
    lost: str = ""
