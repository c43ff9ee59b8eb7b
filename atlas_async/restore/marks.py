"""The mark of a restored message: which restore made it, and from what."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from atlas_async.model.source import JsonObject

JOB_DIGITS: Final = 16
SOURCE_DIGITS: Final = 32
NOBODYS: Final = "kept"
"""In place of its mark, what a restored message has that undoing has left for good."""


def job_id_of(parts: JsonObject) -> str:
    """Return the id of the restore that ``parts`` describe: the same parts, the same restore."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:JOB_DIGITS]


def mark_of(job_id: str, object_id: str) -> str:
    """Return the mark of what a restore makes of the message with this id."""
    digest = hashlib.sha256(object_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{job_id}/{digest[:SOURCE_DIGITS]}"


def source_of(mark: str) -> str:
    """Return the half of any restore's mark that names the source; empty where there is none."""
    return mark.partition("/")[2]


def slot_of_mark(mark: str) -> int:
    """Return 64 evenly spread bits of a mark."""
    return int(hashlib.sha256(mark.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16)


def half_slot(object_id: str) -> int:
    """Return 32 bits of an id, where a slot has its highest: a ``SlotSet`` is divided by those."""
    return slot_of_mark(object_id) & 0xFFFFFFFF << 32
