"""Item attachments are stored as MIME and go back as items: whatever the MIME is like."""

from __future__ import annotations

import base64
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.model.message import dump_json
from atlas_async.restore.item_mail import (
    CALENDAR,
    CARD,
    DEEPEST,
    FILE,
    ITEM,
    MAIL,
    item_of,
    kind_of,
)
from atlas_async.restore.letter import DELIVERED, FLAGS, SUBMITTED


def mail(**headers: str) -> EmailMessage:
    """Return a message with a body."""
    made = EmailMessage()
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content("Plain words\n")
    return made


def item(made: EmailMessage | bytes) -> dict[str, Any]:
    """Return the item of a message that can be one."""
    found = item_of(made if isinstance(made, bytes) else made.as_bytes())
    assert found is not None
    return found


def test_headers_body_and_times() -> None:
    """Subject, people, id and date are those of the MIME; it is no draft."""
    made = mail(
        Subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        From="Ann <ann@contoso.com>",
        To="Bob <bob@contoso.com>, eve@contoso.com, undisclosed:;",
        Cc="=?utf-8?q?J=C3=BCrgen?= <j@contoso.com>",
        Reply_To="list@contoso.com",
        Message_ID="<1@contoso.com>",
        Date="Tue, 03 Feb 2026 04:05:06 +0100",
    )
    made.add_alternative("<p>Marked <b>words</b></p>", subtype="html")
    found = item(made)
    assert found["subject"] == "Grüße"
    assert found["body"]["contentType"] == "html"
    assert "Marked" in found["body"]["content"]
    assert found["from"]["emailAddress"] == {"name": "Ann", "address": "ann@contoso.com"}
    to = [r["emailAddress"]["address"] for r in found["toRecipients"]]
    assert to == ["bob@contoso.com", "eve@contoso.com"]
    assert found["ccRecipients"][0]["emailAddress"]["name"] == "Jürgen"
    assert found["internetMessageId"] == "<1@contoso.com>"
    told = {p["id"]: p["value"] for p in found["singleValueExtendedProperties"]}
    assert told[FLAGS] == "1"
    assert told[DELIVERED] == told[SUBMITTED]
    assert told[SUBMITTED].startswith("2026-02-03T")
    assert "attachments" not in found


def test_attachments_inline_images_and_mail_within_mail() -> None:
    """Files keep their bytes, images their content ids, and inner mail its own attachments."""
    inner = mail(Subject="Inner")
    inner.add_attachment(b"deep", maintype="application", subtype="pdf", filename="deep.pdf")
    made = mail(Subject="Outer")
    made.add_alternative('<img src="cid:a@1">', subtype="html")
    made.add_attachment(
        b"png", maintype="image", subtype="png", filename="a.png", cid="<a@1>", disposition="inline"
    )
    made.add_attachment("text of a file\n", filename="notes.txt")
    made.add_attachment(inner)
    parts = {part["name"]: part for part in item(made)["attachments"]}
    assert base64.b64decode(parts["a.png"]["contentBytes"]) == b"png"
    assert (parts["a.png"]["contentId"], parts["a.png"]["isInline"]) == ("a@1", True)
    assert base64.b64decode(parts["notes.txt"]["contentBytes"]) == b"text of a file\n"
    assert parts["Inner"]["@odata.type"] == ITEM
    (deep,) = parts["Inner"]["item"]["attachments"]
    assert base64.b64decode(deep["contentBytes"]) == b"deep"


def test_mail_nested_too_deeply_stays_a_file() -> None:
    """Beyond a depth nobody reads, what is within is kept as a file."""
    made = mail(Subject="Innermost")
    for number in range(DEEPEST + 3):
        outer = mail(Subject=f"Level {number}")
        outer.add_attachment(made)
        made = outer
    found, depth = item(made), 0
    while found["attachments"][0]["@odata.type"] == ITEM:
        found, depth = found["attachments"][0]["item"], depth + 1
    assert depth == DEEPEST
    (kept,) = found["attachments"]
    assert kept["@odata.type"] == FILE
    assert b"Innermost" in base64.b64decode(kept["contentBytes"])


@pytest.mark.parametrize(
    "mime",
    [
        b"",
        b"\r\n\r\n",
        b"Subject: only\r\n",
        b"Content-Type: text/plain; charset=nobody-knows\r\n\r\nw\xf6rds",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nnever ended",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b--\r\n",
        b"Date: yesterday\r\nFrom: <<>>\r\nTo: \xff\xfe\r\n\r\nbody",
        b"Date: Mon, 99 Foo 99999 99:99:99 +9999\r\n\r\nbody",
        b"Content-Transfer-Encoding: base64\r\nContent-Type: text/plain\r\n\r\n!!!!",
        b"Content-Type: message/rfc822\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: image/png\r\n\r\n\x89\r\n--a--",
    ],
)
def test_broken_mime_makes_an_item_or_none(mime: bytes) -> None:
    """It never raises, and what comes of it can be sent."""
    found = item_of(mime)
    assert found is None or dump_json(found)


def test_an_unknown_character_set_keeps_the_words() -> None:
    """Bytes that nobody can name are shown as Latin-1."""
    found = item(b"Content-Type: text/plain; charset=nobody-knows\r\n\r\nw\xf6rds")
    assert found["body"]["content"].strip() == "wörds"


@pytest.mark.parametrize(
    "head",
    [
        b"Reply-To: amultipart/mixed=?utf-8?q?=ff?=,message/rfc822 \t@[ ",
        b"From: ();a=?x-unknown?b?!!!?=''message/rfc822''text/ =?x-unknown?b?!!!?=",
        b"Reply-To: =?utf-8?q?=ff?=.",
        b"From: (=).charsetmessage/rfc822attachment?==?x-unknown?b?!!!?=*0*.)",
        b"Content-Type: charset=?<<\x00''[=?x-unknown?b?!!!?=%ff]",
    ],
)
def test_headers_on_which_the_parser_breaks(head: bytes) -> None:
    """It raises whatever comes, an UnboundLocalError among it: none of that ends a restore."""
    found = item_of(head + b"\r\nSubject: ]<\x00base64\r\nMessage-ID: \t[\r\n\r\nbody")
    assert found is None or dump_json(found)


@given(st.binary(max_size=2_000))
def test_any_bytes(mime: bytes) -> None:
    """Nothing makes it raise."""
    found = item_of(mime)
    assert found is None or dump_json(found)
    kind_of(mime)


LINES = st.lists(
    st.sampled_from(
        [
            b"Content-Type: multipart/mixed; boundary=x",
            b"Content-Type: multipart/related; boundary=x",
            b"Content-Type: message/rfc822",
            b"Content-Type: text/html; charset=utf-7",
            b"Content-Transfer-Encoding: quoted-printable",
            b"Content-Disposition: attachment; filename*=utf-8''%ff",
            b"Content-ID: <",
            b"From: =?x?y?z?=",
            b"Date: -1",
            b"--x",
            b"--x--",
            b"",
            b"words =",
        ]
    ),
    max_size=40,
)


@given(LINES)
def test_any_lines_of_mime(lines: list[bytes]) -> None:
    """The pieces that MIME is made of, in any order: bounded, and nothing raises."""
    mime = b"\r\n".join(lines)
    found = item_of(mime)
    assert found is None or len(dump_json(found)) < 4_000 + 200 * len(mime)


def test_many_parts_take_no_more_than_they_weigh() -> None:
    """A message of thousands of parts is taken apart in a time that grows with its size."""
    part = b"--x\r\nContent-Type: image/png\r\n\r\nAAAA\r\n"
    mime = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + part * 2_000 + b"--x--\r\n"
    assert len(item(mime)["attachments"]) == 2_000


def test_kinds_by_their_first_bytes() -> None:
    """Graph gives contacts as vCard and events as iCalendar."""
    assert kind_of(b"\xef\xbb\xbfBEGIN:VCARD\r\n") is CARD
    assert kind_of(b"\r\nbegin:vcalendar\r\n") is CALENDAR
    assert kind_of(b"Received: from") is MAIL
    assert kind_of(b"") is MAIL
