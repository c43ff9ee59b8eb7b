"""Days and times as they are typed: ``2026-04-20``, or a moment as ``2026-04-20T11:30Z``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from atlas_async.errors import UsageError

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def moment(option: str, text: str | None) -> datetime | None:
    """Return the moment that an option names; of a day its beginning. UTC where no zone is given.

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option} {text[:40]!r} is neither a day nor a time",
            hint="give 2026-04-20, 2026-04-20T11:30 or 2026-04-20T13:30+02:00; UTC without a zone",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def end(option: str, text: str | None) -> datetime | None:
    """Return the first moment that an option's day leaves out; a moment is itself left out.

    Raises:
        UsageError: It is none.
    """
    found = moment(option, text)
    if found is None or text is None or not _DAY.fullmatch(text.strip()):
        return found
    try:
        return found + timedelta(days=1)
    except OverflowError:
        return found


def last_moment(option: str, text: str | None) -> datetime | None:
    """Return the last moment that an option's day still has; a moment is itself.

    Raises:
        UsageError: It is none.
    """
    found = moment(option, text)
    if found is None or text is None or not _DAY.fullmatch(text.strip()):
        return found
    return found.replace(hour=23, minute=59, second=59, microsecond=999_999)
