"""What header fields of an answer say: a time, a length. What cannot be read is None."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_LENGTH = re.compile(r"[0-9]{1,19}")
"""As many digits as an object's length can have; ``int`` refuses thousands of them."""


def http_date(text: str) -> datetime | None:
    """Return the time that ``text`` names; None for what is no date, or one without a zone."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the bytes that Content-Length announces; None where it is missing or no number.

    Args:
        headers: By lower-case name, or in a mapping that ignores case.
    """
    text = headers.get("content-length", "")
    return int(text) if _LENGTH.fullmatch(text) else None
