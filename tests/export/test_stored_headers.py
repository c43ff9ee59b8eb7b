"""Headers that a message came with: taken over where every program reads them, kept beside if not."""

from __future__ import annotations

from email import policy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.export.header_grammar import is_address_list, is_date, is_message_id
from atlas_async.export.words import one_line
from tests.export.exports import go_read
from tests.export.mail import ANY_TEXT, built, header_block, person, read

STRUCTURED = ("From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Date", "Resent-From", "Resent-Date")
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *'<>@,;:. "\\()[]',
            "ann",
            "x@y.z",
            "<x@y.z>",
            '"Doe, Ann"',
            "=?utf-8?q?J=C3=B6rg?=",
            "=?utf-8?b?abc?=",
            "=?x-none?q?a?=",
            "(note)",
            "undisclosed-recipients:;",
            "[10.0.0.1]",
            "Mon, 20 Apr 2026 11:29:59 +0000",
            "31 Feb 2026 11:29 GMT",
            "é",
            " " * 90,
            "\r\n",
        ]
    ),
    max_size=8,
).map("".join)


def came_with(*headers: tuple[str, str], **more: Any) -> dict[str, Any]:
    """Return a message with these headers, and with properties of its own."""
    return {
        "internetMessageHeaders": [{"name": name, "value": value} for name, value in headers],
        "from": person("Ann", "ann@contoso.com"),
        "toRecipients": [person("Bob", "bob@contoso.com")],
        "sentDateTime": "2026-04-20T11:29:59Z",
        "internetMessageId": "<own@contoso.com>",
        "body": {"contentType": "text", "content": "x"},
        **more,
    }


@given(st.lists(st.tuples(st.sampled_from((*STRUCTURED, "X-A", "Subject")), ANY_TEXT | FRAGMENTS)))
def test_whatever_came_is_read_without_defects(headers: list[tuple[str, str]]) -> None:
    """A strict reader finds nothing wrong in any header, and every text is still there."""
    message = read(built(came_with(*headers)))
    assert message["from"].addresses is not None
    assert message["date"].datetime is not None
    once = {name.lower(): value for name, value in reversed(headers) if name != "X-A"}
    for name, value in once.items():
        clean = " ".join(one_line(value).split())
        if clean and name in {"from", "date", "cc"}:
            shown = [*message.get_all(name, []), *message.get_all(f"x-original-{name}", [])]
            texts = [" ".join(str(one).split()) for one in shown]
            beside = message[f"x-original-{name}"]
            assert clean in texts or beside is None


@pytest.mark.parametrize(
    ("name", "value", "stands"),
    [
        ("From", "foo bar <", "Ann <ann@contoso.com>"),
        ("From", "J. Doe <j@x.test>", "Ann <ann@contoso.com>"),
        ("From", "Jörg <j@x.test>", "Ann <ann@contoso.com>"),
        ("From", '"=?utf-8?q?J=C3=B6rg?=" <j@x.test>', "Ann <ann@contoso.com>"),
        ("To", "a@b; c@d;", "Bob <bob@contoso.com>"),
        ("To", ",".join(["a@b.test"] * 200), "Bob <bob@contoso.com>"),
        ("Sender", "<>", None),
        ("Reply-To", "nobody", None),
        ("Date", "garbage", "Mon, 20 Apr 2026 11:29:59 +0000"),
        ("Date", "Mon, 31 Feb 2026 10:00:00 +0000", "Mon, 20 Apr 2026 11:29:59 +0000"),
        ("Resent-Date", "yesterday", None),
    ],
)
def test_what_cannot_be_read_is_kept_beside(name: str, value: str, stands: str | None) -> None:
    """The resource says what stands there; what came is text that no program acts on."""
    message = read(built(came_with((name, value))))
    assert message[name] == stands
    assert message[f"X-Original-{name}"] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("From", '"Doe, Ann" <ann@x.test>'),
        ("From", "=?utf-8?q?J=C3=B6rg?= <j@x.test>"),
        ("From", "root@host (Cron Daemon)"),
        ("To", "undisclosed-recipients:;"),
        ("To", 'Team: a@b.test, "B" <b@[10.0.0.1]>; , c@d.test'),
        ("Date", "Mon, 20 Apr 2026 11:29:59 +0200 (CEST)"),
        ("Date", "1 Jan 2026 00:00 GMT"),
    ],
)
def test_what_can_be_read_stays(name: str, value: str) -> None:
    """As it came, and with nothing beside it."""
    data = built(came_with((name, value)))
    assert f"{name}: {value}".encode() in header_block(data).replace(b"\r\n ", b" ")
    assert read(data)[f"X-Original-{name}"] is None


@pytest.mark.parametrize("space", [" ", "\t"])
@pytest.mark.parametrize("name", ["X-A", "Received", "To"])
def test_runs_of_white_space_make_no_long_line(name: str, space: str) -> None:
    """They are put together where a line would be longer than mail allows."""
    data = built(came_with((name, f"a@b.test,{space * 2000}c@d.test")))
    assert max(map(len, data.split(b"\r\n"))) < 100
    assert read(data)[name] == "a@b.test, c@d.test"
    short = built(came_with(("X-A", "one" + " " * 80 + "two")))
    assert read(short)["X-A"] == "one" + " " * 80 + "two"


@pytest.mark.parametrize(
    "given_id",
    [
        "<a@b.test>",
        "<a.b$c@d>",
        "<a@[10.0.0.1]>",
        "<AM0PR01MB1234E5D6@AM0PR01MB1234.eurprd01.prod.exchangelabs.com>",
    ],
)
def test_message_ids_that_are_some_stay(given_id: str) -> None:
    """A dot-atom, an at sign, and a dot-atom or a domain literal."""
    message = read(built({"internetMessageId": given_id}))
    assert message["message-id"] == given_id
    assert message["x-original-message-id"] is None
    stored = came_with(("Message-Id", given_id))
    assert read(built(stored)).get_all("message-id") == [given_id]


@pytest.mark.parametrize(
    "given_id",
    [
        "<foo>",
        "<a@b@c>",
        "<a..b@c>",
        "<.a@b.c>",
        "<a@b.c.>",
        "<[e0df]@x.y>",
        "<a@>",
        "<@b>",
        "a@b",
        '<"a b"@c>',
        "<a@[1]2]>",
    ],
)
def test_message_ids_that_are_none_are_kept_beside(given_id: str) -> None:
    """Readers stumble over them; one that is some stands there, on a line of usual length."""
    for resource in (
        {"internetMessageId": given_id},
        came_with(("Message-ID", given_id), internetMessageId=given_id),
    ):
        data = built(resource)
        message = read(data)
        assert is_message_id(str(message["message-id"]))
        assert message["x-original-message-id"] == given_id
        assert max(map(len, header_block(data).split(b"\r\n"))) <= 78


def test_another_reader_reads_the_same(tmp_path: Path) -> None:
    """Go's packages find the addresses and the date that stand there, and the ids."""
    values = ["foo bar <", "J. Doe <j@x.test>", "=?x-none?q?a?= <a@b.test>", '"A, B" <ab@x.test>']
    for number, value in enumerate(values):
        headers = (("From", value), ("To", value), ("Date", value), ("Message-ID", value))
        data = built(came_with(*headers, internetMessageId=value))
        (tmp_path / f"{number}.eml").write_bytes(data)
    paths = [tmp_path / f"{number}.eml" for number in range(len(values))]
    wanted = ["ann@contoso.com", "ann@contoso.com", "ann@contoso.com", "ab@x.test"]
    for answer, address in zip(go_read(paths, tmp_path), wanted, strict=True):
        assert answer["error"] == ""
        assert [one["address"] for one in answer["from"]] == [address]
        assert answer["date"] == "2026-04-20T11:29:59Z"
        assert is_message_id(answer["id"])


@given(FRAGMENTS)
def test_what_passes_has_no_defects_for_a_strict_parser(value: str) -> None:
    """The rules are narrower than those of the standard library, which raises on some of these."""
    make = policy.SMTP.header_factory
    text = one_line(value)
    if is_address_list(text):
        assert not make("To", text).defects
    if is_address_list(text, single=True):
        assert not make("Sender", text).defects
        assert make("Sender", text).address.addr_spec
    if is_date(text):
        assert make("Date", text).datetime is not None


def test_long_texts_take_no_long_time() -> None:
    """Each is looked at once, whatever it is."""
    for text in ("a", "a ", "a.", '"', "(", "<a@b", "=?", "a@b,"):
        assert not is_address_list(text * 50_000)
    assert is_address_list(", ".join(["ann@contoso.com"] * 20_000))
