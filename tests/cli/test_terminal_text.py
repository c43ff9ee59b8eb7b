"""Text made fit for a terminal, and HTML bodies made text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.cli.terminal_text import BIDI, date, folder_name, size, span, visible
from atlas_async.model.mail_text import html_to_text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("bell\a\0", r"bell\x07\x00"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("csi \x9b2J", r"csi \x9b2J"),
        ("evil\u202excod.exe", r"evil\u202excod.exe"),
        ("iso\u2066late\u2069", r"iso\u2066late\u2069"),
        ("line\u2028para\u2029", r"line\u2028para\u2029"),
        ("half \ud83d", r"half \ud83d"),
        ("\ufeffbom", r"\ufeffbom"),
        ("שלום عالم", "שלום عالم"),
        (
            "👨\u200d👩\u200d👧 👍🏽 🏴\U000e0067\U000e007f",
            "👨\u200d👩\u200d👧 👍🏽 🏴\U000e0067\U000e007f",
        ),
        ("e\u0301 日本", "e\u0301 日本"),
    ],
)
def test_visible(text: str, seen: str) -> None:
    """Controls, escapes and overrides are written out; scripts and emoji stay."""
    assert visible(text) == seen


@given(st.text(st.characters(codec=None)))
def test_nothing_visible_can_control(text: str) -> None:
    """Whatever the text, what is shown has no control, override or surrogate left."""
    seen = visible(text)
    assert not BIDI & set(seen)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in seen)
    seen.encode("utf-8")


def test_body_may_keep_line_breaks() -> None:
    """In a body line breaks stay while carriage returns are written out."""
    assert visible("a\nb\rc", keep="\n\t") == "a\nb\\rc"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (20 * 1024, "20 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (3 << 50, "3072 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    """Sizes are rounded to two figures and named in binary units."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (0.44, "0.4s"), (59.6, "1m 00s"), (185, "3m 05s"), (7620, "2h 07m")],
)
def test_span(seconds: float, text: str) -> None:
    """Durations are short and never negative."""
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ("2026-04-20T11:29:59.123Z", "2026-04-20 11:29:59Z"),
        ("2026-04-20T11:29:59", "2026-04-20 11:29:59Z"),
        (datetime(2026, 4, 20, 13, 0, 0, 0, timezone(timedelta(hours=2))), "2026-04-20 11:00:00Z"),
        (datetime(2026, 4, 20, tzinfo=UTC), "2026-04-20 00:00:00Z"),
        ("0001-01-02T00:00:00Z", "0001-01-02 00:00:00Z"),
        ("yesterday\x1b", r"yesterday\x1b"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00+05:00"),
    ],
)
def test_date(value: datetime | str | None, text: str) -> None:
    """Times are shown in UTC to the second; what is no time is shown as it is."""
    assert date(value) == text


def test_folder_name() -> None:
    """A path is one line; the root has a name of its own."""
    assert folder_name(["A/B", "C\n"]) == r"A/B / C\n"
    assert folder_name(()) == "(root)"


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<head><title>t</title><style>p{}</style></head><body>x</body>", "x"),
        ("<script>alert('</p>')</script>ok", "ok"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("&lt;tag&gt; &amp; caf&eacute;&nbsp;!", "<tag> & café !"),
        ('see <a href="https://x.test/">here</a>', "see here <https://x.test/>"),
        ('<a href="https://x.test/">https://x.test/</a>', "https://x.test/"),
        ('<a href="javascript:alert(1)">x</a>', "x"),
        ('<img src="cid:1" alt="logo"><img>', "[logo][image]"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a\tb"),
        ("<div>unclosed <b>bold", "unclosed bold"),
        ("</style></div>stray</p>", "stray"),
        ("many   spaces\n and\nlines", "many spaces and lines"),
        ("", ""),
    ],
)
def test_html_to_text(html: str, text: str) -> None:
    """HTML becomes the text a reader would see, broken markup included."""
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<![if !mso]><p>shown</p><![endif]>", "shown"),
        ("<![unknown[ x", "<!xunknown[ x"),
        ("a<!-- never closed <p>b", "a"),
        ("<p>a</p> b &amp; <c", "a\nb & <c"),
        ("<style>p {} ", ""),
        ("<!--" * 500_000, ""),
        ("</" * 1_000_000 + ">", ""),
    ],
)
def test_markup_made_to_be_slow_or_unknown(html: str, text: str) -> None:
    """Sections that the parser does not know, and openings without end, cost little and no text."""
    assert html_to_text(html) == text


def test_a_huge_body_is_cut_with_a_word() -> None:
    """A body of many megabytes is cut, and says so."""
    assert html_to_text("x" * (5 << 20)).endswith("[cut here: --raw shows the whole body]")


@given(st.text(alphabet="<>/abp &;!-\"'=\n", max_size=200))
def test_any_markup_gives_text(html: str) -> None:
    """No markup, however broken, is an error."""
    assert isinstance(html_to_text(html), str)
