"""Encodings and line ends, whole and in pieces: how content is cut changes nothing."""

from __future__ import annotations

import base64
import mailbox
import quopri
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.export.line_ends import AsItIs, MboxLines, Rewriter, UnixLines
from atlas_async.export.transfer import (
    Base64Stream,
    LineStream,
    LookStream,
    base64_lines,
    lines_of,
    look,
    text_part,
)
from tests.export.mail import ANY_TEXT
from tests.export.test_mime import same_lines

PIECES = st.lists(st.binary(max_size=80), max_size=6)
LINES = st.lists(
    st.sampled_from(
        [b"From ", b">From x", b"\r\n", b"\r", b"\n", b"text", b">", b"\0", b"\xe9", b" From "]
    ),
    max_size=12,
)


def rewritten(rewriter: Rewriter, pieces: Sequence[bytes]) -> bytes:
    """Return what comes out of a rewriter for pieces."""
    return b"".join(map(rewriter.feed, pieces)) + rewriter.finish()


@given(ANY_TEXT)
def test_texts_come_back(text: str) -> None:
    """Either encoding holds the text with CRLF line ends, in lines of at most 76 characters."""
    encoding, data = text_part(text)
    assert all(len(line) <= 76 for line in data.split(b"\r\n"))
    decoded = base64.b64decode(data) if encoding == "base64" else quopri.decodestring(data)
    assert decoded.decode("utf-8").replace("\r\n", "\n") == same_lines(text)


def test_the_shorter_encoding_is_taken() -> None:
    """Latin text stays readable, other scripts are shorter in base64."""
    assert text_part("Viele Grüße aus Köln und von anderswo\n") == (
        "quoted-printable",
        b"Viele Gr=C3=BC=C3=9Fe aus K=C3=B6ln und von anderswo\r\n",
    )
    assert text_part("日本語")[0] == "base64"


@given(PIECES)
def test_base64_in_pieces(pieces: list[bytes]) -> None:
    """Lines of 76 characters, the same however the content was cut."""
    data = b"".join(pieces)
    assert rewritten(Base64Stream(), pieces) == base64_lines(data)
    assert base64.b64decode(base64_lines(data)) == data


@given(LINES)
def test_lines_in_pieces(pieces: list[bytes]) -> None:
    """CRLF at every end, one at the last, the same however the content was cut."""
    data = b"".join(pieces)
    whole = b"".join(lines_of(data))
    assert rewritten(LineStream(), pieces) == whole
    assert whole.endswith(b"\n")
    if b"\r" not in data.replace(b"\r\n", b""):
        wanted = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        assert whole == (wanted if wanted.endswith(b"\r\n") else wanted + b"\r\n")


@given(LINES)
def test_looking_in_pieces(pieces: list[bytes]) -> None:
    """What content is does not depend on how it was cut."""
    stream = LookStream()
    for piece in pieces:
        stream.feed(piece)
    data = b"".join(pieces)
    found = stream.finish()
    assert found == look(data)
    assert found.eight_bit == (not data.isascii())
    lone = b"\r" in data.replace(b"\r\n", b"")
    assert found.fit == (not lone and b"\0" not in data)


@pytest.mark.parametrize(("length", "fit"), [(990, True), (991, False)])
def test_lines_too_long_for_mail(length: int, fit: bool) -> None:
    """A line that mail forbids is noticed, across pieces as well."""
    stream = LookStream()
    for piece in (b"a: b\r\n", b"x" * 500, b"x" * (length - 501) + b"\r", b"\nrest"):
        stream.feed(piece)
    assert stream.finish().fit is fit
    assert look(b"a: b\n" + b"x" * length).fit is fit


@given(LINES)
def test_unix_lines_in_pieces(pieces: list[bytes]) -> None:
    """CRLF becomes LF wherever it was cut."""
    data = b"".join(pieces)
    assert rewritten(UnixLines(), pieces) == data.replace(b"\r\n", b"\n")
    assert rewritten(AsItIs(), pieces) == data


@given(st.lists(LINES, min_size=1, max_size=3))
def test_mailbox_files_are_read_back(messages: list[list[bytes]]) -> None:
    """One quoting is added to whatever looks like a beginning, and readers take it away."""
    first = b"From MAILER-DAEMON Mon Apr 20 11:29:59 2026"
    whole = b""
    for pieces in messages:
        entry = rewritten(MboxLines(first), pieces)
        assert entry == rewritten(MboxLines(first), [b"".join(pieces)])
        assert entry.startswith(first + b"\n")
        assert entry.endswith(b"\n\n")
        whole += entry
    begins = [line for line in whole.split(b"\n") if line.startswith(b"From ")]
    assert begins == [first] * len(messages)
    for pieces, entry in zip(messages, whole.split(first + b"\n")[1:], strict=True):
        unquoted = b"\n".join(
            line[1:] if line.lstrip(b">").startswith(b"From ") and line.startswith(b">") else line
            for line in entry.split(b"\n")
        )
        body = b"".join(pieces).replace(b"\r\n", b"\n")
        assert unquoted == body + (b"\n" if body.endswith(b"\n") or not body else b"\n\n")


def test_the_standard_library_counts_the_messages(tmp_path: Path) -> None:
    """A line that begins with From, in a body, does not begin a message."""
    entry = rewritten(
        MboxLines(b"From x Mon Apr 20 11:29:59 2026"), [b"A: b\r\n\r\n", b"From me\r\n"]
    )
    (tmp_path / "box").write_bytes(entry * 3)
    box = mailbox.mbox(tmp_path / "box", create=False)
    assert len(box) == 3
    box.close()


def test_lines_without_end_are_passed_on() -> None:
    """A line longer than is waited for comes out whole, and nothing within it is quoted."""
    pieces = [b"x" * 70_000, b"From a\r\n", b"From b\r\n"]
    entry = rewritten(MboxLines(b"From x"), pieces)
    assert entry == b"From x\n" + b"x" * 70_000 + b"From a\n>From b\n\n"
