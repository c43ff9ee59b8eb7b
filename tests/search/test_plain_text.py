"""The words of HTML bodies."""

from __future__ import annotations

import pytest

from atlas_async.search.plain_text import text_of_html
from atlas_async.search.words import words_of


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<p>Hello <b>wor</b>ld</p><p>again</p>", ["hello", "world", "again"]),
        ("<td>one</td><td>two</td>", ["one", "two"]),
        ("a<br/>b<span>c</span>", ["a", "bc"]),
        ("caf&eacute;&nbsp;&amp; bar &#x41;", ["cafe", "bar", "a"]),
        ("<head><title>no</title></head><body>yes</body>", ["yes"]),
        ("<style>p {x}</style>x<script>var y</script>z", ["x", "z"]),
        ("x<!-- hidden --> y <!--[if mso]>no<![endif]-->", ["x", "y"]),
        ("<!-- open <p>all of it", ["open", "all", "of", "it"]),
        ("<head><p>no end of the head", ["no", "end", "of", "the", "head"]),
        ("1 < 2 and 3 > 2", ["1", "2", "and", "3", "2"]),
        ('<a href="https://track.example/4711">link</a>', ["link"]),
        ("<SCRIPT>no</sCript >yes", ["yes"]),
        ("<", []),
        ("</", []),
        ("&lt;p&gt;", ["p"]),
    ],
)
def test_words_of_html(html: str, words: list[str]) -> None:
    """Text that is seen gives words; markup, scripts, comments and links' targets give none."""
    assert words_of(text_of_html(html)) == words


@pytest.mark.parametrize("piece", ["<!--", "<script", "<script>", "<", "<a ", "&", "</", "<b x='"])
def test_broken_markup_takes_no_longer_than_its_length(piece: str) -> None:
    """Half a million beginnings without an end come to an end themselves."""
    assert isinstance(text_of_html(piece * 500_000), str)
