"""One page of a listing cut from sorted keys, as S3 would cut it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class KeyPage:
    """Keys and folded prefixes of one page. ``token`` continues it; None ends it.

    ``unread`` is the key that was taken from the source and did not fit.
    """

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    token: str | None = None
    unread: str = ""

    def __len__(self) -> int:
        return len(self.keys) + len(self.prefixes)


def fold_key(key: str, prefix: str, delimiter: str) -> str | None:
    """Return the common prefix ``key`` is folded into, or None when it stands for itself."""
    if not delimiter:
        return None
    end = key.find(delimiter, len(prefix))
    return None if end < 0 else key[: end + len(delimiter)]


def cut_page(
    keys: Iterable[str], prefix: str, *, delimiter: str, token: str | None, limit: int
) -> KeyPage:
    """Return the page after ``token`` of ``keys``, which must be sorted and start with ``prefix``.

    Keys and folded prefixes together count towards ``limit``, as in S3. The token is the last key
    or prefix of the page, so it stays good when objects come and go between pages. Code point
    order of ``str`` is byte order of its UTF-8.
    """
    page = KeyPage()
    last = token
    for key in keys:
        folded = fold_key(key, prefix, delimiter)
        name = folded or key
        if last is not None and (name <= last):
            continue
        if len(page) == limit:
            page.token, page.unread = last, key
            break
        if folded is None:
            page.keys.append(key)
        else:
            page.prefixes.append(folded)
        last = name
    return page
