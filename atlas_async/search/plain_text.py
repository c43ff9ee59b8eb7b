"""The words of an HTML body, for searching: in time that grows with its length and no faster.

``atlas read`` shows a body with its links and images. What is searched is only what a reader sees
as text: targets of links would fill an index with the numbers that newsletters track readers by.
"""

from __future__ import annotations

import html
import re
from typing import Final

_HIDDEN: Final = re.compile(r"<(?:!--|(script|style|head|title|template)(?=[\s/>]))", re.IGNORECASE)
_CLOSING: Final = {
    name: re.compile(rf"</{name}[^<>]*+>", re.IGNORECASE)
    for name in ("script", "style", "head", "title", "template")
}
_COMMENT_END: Final = re.compile("-->")
_INLINE: Final = re.compile(
    r"</?(?:a|abbr|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|o:p|q|s|samp|small|span"
    r"|strike|strong|sub|sup|tt|u|var|wbr)(?=[\s/>])[^<>]*+>",
    re.IGNORECASE,
)
_TAG: Final = re.compile(r"<[/!?a-zA-Z][^<>]*+>")


def text_of_html(source: str) -> str:
    """Return the text of an HTML body; tags that part words leave a space."""
    shown = _INLINE.sub("", "".join(_shown(source)))
    return html.unescape(_TAG.sub(" ", shown))


def _shown(source: str) -> list[str]:
    """Return the pieces of ``source`` between comments, scripts and other hidden elements."""
    pieces: list[str] = []
    unclosed: set[str] = set()
    start = 0
    while True:
        opening = _HIDDEN.search(source, start)
        if opening is None:
            pieces.append(source[start:])
            return pieces
        pieces.append(source[start : opening.start()])
        name = (opening[1] or "").lower()
        # One without an end hides nothing; it is looked for once, not at every beginning.
        end = None if name in unclosed else _end_of(name).search(source, opening.end())
        if end is None:
            unclosed.add(name)
        start = opening.end() if end is None else end.end()
        pieces.append(" ")


def _end_of(name: str) -> re.Pattern[str]:
    return _CLOSING[name] if name else _COMMENT_END
