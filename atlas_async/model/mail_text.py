"""A mail's HTML body as text, by the standard library's parser alone."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from typing import Final

SILENT: Final = frozenset({"script", "style", "head", "title", "noscript", "template"})
BLOCKS: Final = frozenset(
    {
        "address",
        "article",
        "blockquote",
        "div",
        "dl",
        "dt",
        "dd",
        "fieldset",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tr",
        "ul",
    }
)
LONGEST_BODY: Final = 4 << 20
"""Characters of a body that are turned into text; what comes after them is cut."""
CUT: Final = "[cut here: --raw shows the whole body]"


class _Reader(HTMLParser):
    """Collects text, with line breaks where blocks begin and end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent: list[str] = []
        self._links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent.append(tag)
        elif tag == "br" or tag in BLOCKS:
            self.pieces.append("\n")
        elif tag in {"td", "th"}:
            self.pieces.append("\t")
        if tag == "li":
            self.pieces.append("- ")
        named = dict(attrs)
        if tag == "img":
            self.pieces.append(f"[{named.get('alt') or 'image'}]")
        if tag == "a":
            self._links.append(named.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            while self._silent.pop() != tag:
                pass
        elif tag in BLOCKS:
            self.pieces.append("\n")
        if tag == "a" and self._links:
            link = self._links.pop()
            shown = "".join(self.pieces[-1:]).strip()
            if re.match(r"(?i)(https?|mailto):", link) and link != shown:
                self.pieces.append(f" <{link}>")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(re.sub(r"\s+", " ", data))


def html_to_text(html: str, *, cut: str = CUT) -> str:
    """Return the readable text of an HTML body. Broken markup gives what can be made of it.

    Args:
        html: The body; beyond ``LONGEST_BODY`` characters it is cut.
        cut: Stands at the end of what was cut.
    """
    markup, rest = _readable(html[:LONGEST_BODY])
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    reader.handle_data(rest)
    lines = [re.sub(r"[ \xa0]+", " ", line).strip() for line in "".join(reader.pieces).split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    if len(html) > LONGEST_BODY:
        text += f"\n{cut}"
    return text


def _readable(html: str) -> tuple[str, str]:
    """Return markup that the parser reads in one go, and the text after the last tag.

    The parser starts over at every opening that nothing closes, which takes hours for a body that
    is made of them, and gives up at marked sections that it does not know.
    """
    kept: list[str] = []
    begin = 0
    while (start := html.find("<!--", begin)) >= 0:
        kept.append(html[begin:start])
        end = html.find("-->", start + 4)
        if end < 0:
            begin = len(html)
            break
        begin = end + 3
    kept.append(html[begin:])
    markup = "".join(kept).replace("<![", "<!x")
    last = markup.rfind(">") + 1
    return markup[:last], unescape(markup[last:])
