"""Where an answer ends, and what it says: read at once, in pieces, and both the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.store.s3_answer import (
    MAX_HEAD_BYTES,
    Answer,
    AnswerReader,
    BrokenAnswer,
    header_map,
    whole_answer,
)
from atlas_async.store.s3_errors import MAX_ERROR_BYTES

OK = b"HTTP/1.1 200 OK\r\n"


def read(*pieces: bytes, bodyless: bool = False) -> tuple[Answer | None, bool]:
    """Read pieces with the careful reader, as a connection does: none after the answer."""
    reader = AnswerReader(bodyless=bodyless)
    for number, piece in enumerate(pieces):
        reader.feed(piece)
        if reader.answer is not None:
            return reader.answer, reader.reusable and number == len(pieces) - 1
    return None, False


def judge(*pieces: bytes, bodyless: bool) -> tuple[Answer | None, bool] | None:
    """Return what ``read`` returns, or None for what is no answer."""
    try:
        return read(*pieces, bodyless=bodyless)
    except BrokenAnswer:
        return None


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut ``data`` at the places given, leaving no empty piece."""
    places = sorted({cut % len(data) for cut in cuts} | {0}) if data else [0]
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


NAMES = st.sampled_from(
    ["ETag", "Date", "x-amz-meta-K", "Vary", "Connection", "Server", "X-Empty", "Upgrade"]
)
VALUES = st.one_of(
    st.sampled_from(["", " ", '"e"', "close", "keep-alive", "Upgrade", "a: b", "\t x \t", "ü"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
)
STATUS = st.sampled_from([200, 201, 204, 206, 301, 304, 403, 404, 412, 503])


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Draw an answer, mostly a proper one, and whether HEAD was asked."""
    bodyless = draw(st.booleans())
    body = draw(st.binary(max_size=40))
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    lines = [f"{name}:{draw(st.sampled_from(['', ' ']))}{value}" for name, value in fields]
    framing = draw(st.sampled_from(["length", "length", "chunked", "close", "wrong", "twice"]))
    sent = body
    if framing in {"length", "twice"}:
        lines += [f"Content-Length: {len(body)}"] * (1 + (framing == "twice"))
    elif framing == "wrong":
        lines.append(
            "Content-Length: " + draw(st.sampled_from(["+1", "0x1", "-1", "1 1", "٣", ""]))
        )
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        at = draw(st.integers(0, len(body)))
        chunks = [part for part in (body[:at], body[at:]) if part]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in chunks) + b"0\r\n\r\n"
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    head = f"HTTP/{version} {draw(STATUS)} Whatever\r\n" + "".join(f"{x}\r\n" for x in lines)
    if bodyless and draw(st.booleans()):
        sent = b""
    extra = draw(st.sampled_from([b"", b"", b"\r\n", b"\n", b"HTTP/1.1 200 OK\r\n", b"x"]))
    early = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return early + head.encode() + b"\r\n" + sent + extra, bodyless


@settings(max_examples=600)
@given(answers(), st.lists(st.integers(0, 400), max_size=6))
def test_read_at_once_or_in_pieces_it_is_the_same_answer(
    drawn: tuple[bytes, bool], cuts: list[int]
) -> None:
    """What is taken at once, llhttp takes too, with the same content and a reusable connection.

    And the careful reading does not depend on how the bytes were cut.
    """
    data, bodyless = drawn
    whole = judge(data, bodyless=bodyless)
    at_once = whole_answer(data, bodyless=bodyless)
    if at_once is not None:
        assert whole == (at_once, True)
    assert judge(*split(data, cuts), bodyless=bodyless) == whole


@settings(max_examples=600)
@given(answers(), st.binary(min_size=1, max_size=6), st.integers(0, 400))
def test_bytes_that_were_hit_change_nothing_of_that(
    drawn: tuple[bytes, bool], noise: bytes, at: int
) -> None:
    """Damaged answers are judged alike: what is taken at once is what llhttp reads."""
    data, bodyless = drawn
    place = at % len(data)
    damaged = data[:place] + noise + data[place + len(noise) :]
    at_once = whole_answer(damaged, bodyless=bodyless)
    if at_once is not None:
        assert judge(damaged, bodyless=bodyless) == (at_once, True)


def test_the_common_answer_is_taken_at_once() -> None:
    """A PUT's answer, one to HEAD, a small refusal and repeated fields need no second reader."""
    put = OK + b'ETag: "e"\r\nVary: Origin\r\nVary: Accept-Encoding\r\nContent-Length: 0\r\n\r\n'
    expected = {"etag": '"e"', "vary": "Origin, Accept-Encoding", "content-length": "0"}
    assert whole_answer(put, bodyless=False) == Answer(200, expected, b"")
    head = OK + b"Content-Length: 77\r\n\r\n"
    assert whole_answer(head, bodyless=True) == Answer(200, {"content-length": "77"}, b"")
    assert whole_answer(head, bodyless=False) is None
    refused = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc"
    assert whole_answer(refused, bodyless=False) == Answer(404, {"content-length": "3"}, b"abc")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 204 No Content\r\nETag: e\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: Chunked\r\n\r\n0;last\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_answers_without_a_body_end_with_their_head(data: bytes) -> None:
    """204, 304, an empty chunked body; 1xx are passed over. The connection stays usable."""
    answer, reusable = read(data)
    assert answer is not None
    assert (answer.body, reusable) == (b"", True)
    assert "link" not in answer.headers
    assert "trailer" not in answer.headers


@pytest.mark.parametrize(
    "tail", [b"\r\n", b"\n", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
)
@pytest.mark.parametrize(
    "data",
    [
        OK + b"Content-Length: 2\r\n\r\nhi",
        OK + b"Content-Length: 0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ],
)
def test_what_follows_an_answer_ends_the_connection(data: bytes, tail: bytes) -> None:
    """The answer stands; its connection is not used again, whatever the rest is."""
    before, reusable = read(data)
    assert reusable
    assert whole_answer(data + tail, bodyless=False) is None
    assert read(data + tail) == (before, False)


@pytest.mark.parametrize(
    "data",
    [
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        OK + b"Connection: x, Close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_server_that_closes_is_believed(data: bytes) -> None:
    """``Connection: close`` and HTTP/1.0 end the connection with the answer."""
    answer, reusable = read(data)
    assert answer is not None
    assert not reusable
    assert whole_answer(data, bodyless=False) is None


def test_a_body_without_length_ends_with_the_connection() -> None:
    """The end completes such a body, and no other."""
    reader = AnswerReader(bodyless=False)
    reader.feed(OK + b"ETag: e\r\n\r\nhal")
    reader.feed(b"f")
    assert read(OK + b"ETag: e\r\n\r\nhal", b"f") == (None, False)
    assert reader.end()
    assert (reader.answer, reader.reusable) == (Answer(200, {"etag": "e"}, b"half"), False)
    for cut in (b"HT", OK, OK + b"Content-Length: 9\r\n\r\nhalf"):
        reader = AnswerReader(bodyless=False)
        reader.feed(cut)
        assert not reader.end()
    reader = AnswerReader(bodyless=False)
    reader.feed(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    assert not reader.end()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-Server\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\r\n\r\n" + OK + b"\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Bad Name: x\r\n\r\n",
        OK + b"Bad: a\0b\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"X: " + b"x" * MAX_HEAD_BYTES,
        OK + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    """Other protocols, contradictions and heads without bound are not taken for an answer."""
    assert whole_answer(data[:1000], bodyless=False) is None
    with pytest.raises(BrokenAnswer):
        read(data)


def test_a_head_in_one_piece_is_bounded_too() -> None:
    """What is taken at once has a head of at most ``MAX_HEAD_BYTES``, like what comes in pieces."""
    rest = b"Content-Length: 0\r\n\r\n"
    longest = OK + b"X: ".ljust(MAX_HEAD_BYTES - len(OK) - len(rest) - 2, b"x") + b"\r\n" + rest
    assert whole_answer(longest, bodyless=False) is not None
    longer = longest.replace(b"X: ", b"X: x")
    assert whole_answer(longer, bodyless=False) is None
    assert judge(longer, bodyless=False) is None


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_refusal_is_cut(chunked: bool) -> None:
    """Of an error's body ``MAX_ERROR_BYTES`` are kept; the rest is not waited for."""
    long = b"e" * (MAX_ERROR_BYTES + 1)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(long), long) if chunked else long
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(long)
    data = b"HTTP/1.1 500 Oh\r\n" + framing + b"\r\n\r\n" + body
    assert whole_answer(data, bodyless=False) is None
    for pieces in ([data], [data[:70], data[70:]]):
        answer, reusable = read(*pieces)
        assert answer is not None
        assert (answer.status, answer.body, reusable) == (500, long[:-1], False)


def test_fields_of_one_name_are_joined() -> None:
    """Names are compared without case, values kept in order."""
    fields = [("A", "1"), ("b", "2"), ("a", "3")]
    assert header_map(fields) == {"a": "1, 3", "b": "2"}
