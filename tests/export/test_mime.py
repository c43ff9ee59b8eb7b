"""Messages as MIME: what a strict reader gets back is what went in, whatever that was."""

from __future__ import annotations

import hashlib
import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr, unquote
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_async.export.headers import message_headers, moment
from atlas_async.export.mime import message_pieces
from atlas_async.export.pieces import Carry, Enclosure, Streamed
from atlas_async.export.transfer import Looked
from atlas_async.export.words import one_line, well_formed
from tests.export.exports import go_read
from tests.export.mail import (
    ANY_TEXT,
    AWKWARD,
    attachment,
    built,
    file,
    header_block,
    item,
    leaves,
    person,
    read,
    text_of,
)

OURS = {
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "subject",
    "date",
    "message-id",
    "x-original-message-id",
    "delivery-date",
    "importance",
    "x-priority",
    "keywords",
    "x-unsent",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
}
PEOPLE = st.lists(st.builds(person, ANY_TEXT, ANY_TEXT), max_size=4)


def same_lines(text: str) -> str:
    """Return text as a mail can hold it."""
    return re.sub("\r\n|\r", "\n", well_formed(text))


@given(
    subject=ANY_TEXT,
    sender=st.builds(person, ANY_TEXT, ANY_TEXT),
    to=PEOPLE,
    cc=PEOPLE,
    message_id=ANY_TEXT,
    categories=st.lists(ANY_TEXT, max_size=3),
    body=ANY_TEXT,
)
def test_any_headers_are_read_back(
    subject: str,
    sender: dict[str, Any],
    to: list[Any],
    cc: list[Any],
    message_id: str,
    categories: list[str],
    body: str,
) -> None:
    """Nothing in a header ends it, begins another one, or is anything but ASCII in short lines."""
    data = built(
        {
            "subject": subject,
            "from": sender,
            "toRecipients": to,
            "ccRecipients": cc,
            "internetMessageId": message_id,
            "categories": categories,
            "body": {"contentType": "text", "content": body},
            "sentDateTime": "2026-04-20T11:29:59Z",
        }
    )
    head = header_block(data)
    assert head.isascii()
    assert max(map(len, head.split(b"\r\n"))) <= 330
    message = read(data)
    names = [name.lower() for name in message.keys()]  # noqa: SIM118 -- repeated ones count
    assert set(names) <= OURS
    assert len(names) == len(set(names))
    assert {"from", "date", "message-id"} <= set(names)
    assert (message["subject"] or "") == one_line(subject)
    assert same_lines(body).rstrip("\n") == text_of(message).rstrip("\n")


@pytest.mark.parametrize("text", AWKWARD)
def test_display_names_are_read_back(text: str) -> None:
    """A name in any writing comes back, and its address with it."""
    data = built({"from": person(text, "ann@contoso.com"), "sentDateTime": "2026-01-01T00:00:00Z"})
    (address,) = read(data)["from"].addresses
    assert address.addr_spec == "ann@contoso.com"
    # The parser of Python 3.11 leaves spaces between encoded words of a name; this one does not.
    raw = message_from_bytes(data)["from"]
    assert str(make_header(decode_header(parseaddr(raw)[0]))) == one_line(text)


@pytest.mark.parametrize(
    ("address", "spec"),
    [
        ("ann@contoso.com", "ann@contoso.com"),
        ("ann@exämple.de", "ann@xn--exmple-cua.de"),
        ("o'neil+tag@a-b.co.uk", "o'neil+tag@a-b.co.uk"),
        ("ann@[10.0.0.1]", "ann@[10.0.0.1]"),
        ("two words@contoso.com", '"two words"@contoso.com'),
        ('"quoted"@contoso.com', '"quoted"@contoso.com'),
    ],
)
def test_addresses_keep_their_meaning(address: str, spec: str) -> None:
    """Local parts are quoted where they must be, domains are in ASCII."""
    data = built({"toRecipients": [person("Ann", address)]})
    assert spec.encode() in header_block(data)
    (found,) = read(data)["to"].addresses
    assert found.display_name == "Ann"


@pytest.mark.parametrize(
    "address",
    [
        "/O=EXCHANGELABS/OU=EXCHANGE ADMINISTRATIVE GROUP/CN=RECIPIENTS/CN=ANN",
        "jörg@contoso.com",
        "no address",
        "@contoso.com",
        "ann@",
        "ann@con toso.com",
        "a@b\r\nBcc: c@d",
    ],
)
def test_what_is_no_address_is_shown_as_a_group(address: str) -> None:
    """A legacy name of Exchange or a local part beyond ASCII is shown, never written to."""
    to = read(built({"toRecipients": [person("Ann", address), person("Bob", "bob@b.test")]}))["to"]
    assert [found.addr_spec for found in to.addresses] == ["bob@b.test"]
    # The parser of Python 3.11 leaves spaces between encoded words of a name.
    shown = to.groups[0].display_name.replace(" ", "")
    assert one_line(address).replace(" ", "") in shown
    assert "Ann" in shown


def test_headers_that_mail_clients_need() -> None:
    """Sender, reply address, dates, importance, categories and drafts have their headers."""
    message = read(
        built(
            {
                "from": person("Boss", "boss@contoso.com"),
                "sender": person("Assistant", "pa@contoso.com"),
                "replyTo": [person("", "reply@contoso.com")],
                "bccRecipients": [person("", "bcc@contoso.com")],
                "sentDateTime": "2026-04-20T11:29:59.1234567Z",
                "receivedDateTime": "2026-04-20T11:30:05Z",
                "importance": "high",
                "categories": ["Red", "Blau, hell"],
                "internetMessageId": "<abc@contoso.com>",
            }
        )
    )
    assert message["sender"].address.addr_spec == "pa@contoso.com"
    assert message["reply-to"] == "reply@contoso.com"
    assert message["bcc"] == "bcc@contoso.com"
    assert message["date"] == "Mon, 20 Apr 2026 11:29:59 +0000"
    assert message["delivery-date"] == "Mon, 20 Apr 2026 11:30:05 +0000"
    assert (message["importance"], message["x-priority"]) == ("high", "1")
    assert message["keywords"] == 'Red, "Blau, hell"'
    assert message["message-id"] == "<abc@contoso.com>"
    assert message["x-unsent"] is None
    draft = read(built({"isDraft": True, "createdDateTime": "2026-04-20T11:30:05Z"}))
    assert (draft["x-unsent"], draft["date"]) == ("1", "Mon, 20 Apr 2026 11:30:05 +0000")
    assert str(draft["from"]) == "unknown-sender:;"
    same = dict.fromkeys(("sentDateTime", "receivedDateTime"), "2026-04-20T11:30:05Z")
    assert read(built(same))["delivery-date"] is None
    unsent = {"isDraft": True, **same, "sentDateTime": "2026-04-20T11:29:59Z"}
    assert read(built(unsent))["delivery-date"] is None


def test_message_ids_that_cannot_be_used_are_replaced_and_kept_beside() -> None:
    """A message id with spaces would be another one; a stable one stands in its place."""
    first, again = (read(built({"internetMessageId": "<no good@x"})) for _ in range(2))
    assert re.fullmatch(r"<[0-9a-f]{32}@atlas-async\.invalid>", first["message-id"])
    assert first["message-id"] == again["message-id"]
    assert first["x-original-message-id"] == "<no good@x"
    assert read(built({}))["x-original-message-id"] is None


def test_headers_it_came_with_come_first_and_in_order() -> None:
    """Known headers stay as they were, but for those of the body, and repeated ones stay."""
    known = [
        ("Received", "from a by b; Mon, 20 Apr 2026 11:29:00 +0000"),
        ("Received", "from c by d; Mon, 20 Apr 2026 11:28:00 +0000"),
        ("In-Reply-To", "<earlier@contoso.com>"),
        ("References", "<first@contoso.com> <earlier@contoso.com>"),
        ("Subject", "As it was"),
        ("Message-ID", "<own@contoso.com>"),
        ("Content-Type", "text/plain; charset=ascii"),
        ("MIME-Version", "1.0 (old)"),
        ("X-Long", "y" * 1500),
        ("Bad Name", "x"),
        ("X-Inject", "one\r\nBcc: evil@example.test"),
        ("To", "Jörg <j@contoso.com>"),
        ("Status", "RO"),
    ]
    data = built(
        {
            "internetMessageHeaders": [{"name": n, "value": v} for n, v in known],
            "subject": "Another",
            "toRecipients": [person("Jörg", "j@contoso.com")],
            "receivedDateTime": "2026-04-20T11:30:05Z",
            "sentDateTime": "2026-04-20T11:29:59Z",
            "body": {"contentType": "text", "content": "x"},
        }
    )
    message = read(data)
    assert message.keys()[:2] == ["Received", "Received"]
    assert message.get_all("received") == [known[0][1], known[1][1]]
    assert message["references"] == known[3][1]
    assert message["in-reply-to"] == "<earlier@contoso.com>"
    assert message["subject"] == "As it was"
    assert message["message-id"] == "<own@contoso.com>"
    assert message.get_all("mime-version") == ["1.0"]
    assert message.get_content_charset() == "utf-8"
    assert message["x-long"] == "y" * 1500
    assert message["x-inject"] == "one  Bcc: evil@example.test"
    assert [a.display_name for a in message["to"].addresses] == ["Jörg"]
    assert not {"bcc", "bad name", "status", "delivery-date"} & set(map(str.lower, message.keys()))


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "x", 5])
def test_dates_that_are_none(value: object) -> None:
    """Year one, which Graph writes where there is no date, and what overflows, are no dates."""
    assert moment(value) is None
    head = message_headers({"sentDateTime": value}, fallback_id="x")
    assert b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n" in head


@settings(max_examples=40)
@given(markup=ANY_TEXT, names=st.lists(ANY_TEXT, min_size=1, max_size=3), content=st.binary())
def test_any_attachments_are_read_back(markup: str, names: list[str], content: bytes) -> None:
    """HTML, its text, and files of any name and content come back byte for byte."""
    body = {"contentType": "html", "content": markup}
    message = read(built({"body": body}, *(file(content, name=name) for name in names)))
    text, marked, *files = leaves(message)
    assert text.get_content_type() == "text/plain"
    assert (marked.get_content_type(), text_of(marked)) == ("text/html", same_lines(markup))
    # The standard library takes quotes and angle brackets off what is parsed already.
    wanted = [unquote(one_line(name) or "attachment").strip() for name in names]
    assert [part.get_filename() for part in files] == wanted
    assert [part.get_payload(decode=True) for part in files] == [content] * len(names)


def test_another_reader_reads_the_same(tmp_path: Path) -> None:
    """Go's packages for mail and MIME read every awkward name, subject and body as Python does."""
    for number, text in enumerate(AWKWARD):
        body = {"contentType": "html", "content": text}
        resource = {
            "subject": text,
            "from": person(text, "ann@contoso.com"),
            "toRecipients": [person(text, text), person("Bob", "bob@b.test")],
            "sentDateTime": "2026-04-20T11:29:59Z",
            "body": body,
        }
        data = built(resource, file(text.encode("utf-8", "replace"), name=text), item(b"A: b\n"))
        (tmp_path / f"{number}.eml").write_bytes(data)
    paths = [tmp_path / f"{number}.eml" for number in range(len(AWKWARD))]
    for text, answer in zip(AWKWARD, go_read(paths, tmp_path), strict=True):
        assert answer["error"] == ""
        assert answer["subject"] == one_line(text)
        assert answer["from"] == [{"name": one_line(text), "address": "ann@contoso.com"}]
        assert [one["address"] for one in answer["to"]] == ["bob@b.test"]
        html, enclosed, inner = answer["parts"][1:]
        assert html["text"].replace("\r\n", "\n") == same_lines(text)
        assert enclosed["name"] == (one_line(text) or "attachment")
        wanted = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        assert enclosed["sha256"] == wanted
        assert (inner["type"], inner["encoding"]) == ("message/rfc822", "7bit")


def structure(message: EmailMessage) -> Any:
    """Return the types of a message's parts, as nested lists."""
    if not message.is_multipart() or message.get_content_maintype() == "message":
        return message.get_content_type()
    inner = [structure(cast("EmailMessage", part)) for part in message.iter_parts()]
    return [message.get_content_subtype(), *inner]


def test_the_structure_of_a_rich_message() -> None:
    """Images that the HTML shows are related to it; what it does not show is attached."""
    shown = file(b"png", name="a.png", content_type="image/png", content_id="<Img 1@x>")
    unshown = file(b"gif", content_type="image/gif", content_id="other@x", is_inline=True)
    nested = item(b"Subject: inner\r\n\r\nhello\r\n", name="inner")
    body = {"contentType": "HTML", "content": '<p>Hi <img src="CID:img%201@X"></p>'}
    message = read(built({"body": body}, shown, unshown, nested))
    related = ["related", "text/html", "image/png"]
    alternative = ["alternative", "text/plain", related]
    assert structure(message) == ["mixed", alternative, "image/gif", "message/rfc822"]
    image = leaves(message)[2]
    assert (image["content-id"], image.get_content_disposition()) == ("<Img%201@x>", "inline")
    assert leaves(message)[3].get_content_disposition() == "inline"
    assert text_of(leaves(message)[0]) == "Hi [image]"
    assert 'type="text/html"' in str(built({"body": body}, shown))


def test_plain_bodies_stay_plain() -> None:
    """A text body alone is one part; without a body the preview stands in."""
    text = {"contentType": "text", "content": "one\r\ntwo"}
    assert structure(read(built({"body": text}))) == "text/plain"
    assert structure(read(built({"body": text}, file(b"x")))) == [
        "mixed",
        "text/plain",
        "application/octet-stream",
    ]
    assert text_of(read(built({"bodyPreview": "short"}))).strip() == "short"


@pytest.mark.parametrize(
    ("content", "kind", "name"),
    [
        (b"From: a@b.test\r\nSubject: x\r\n\r\nbody\r\n", "message/rfc822", "n.eml"),
        (b"Subject: unix\n\nlines\n", "message/rfc822", "n.eml"),
        (b"\r\n BEGIN:VCARD\r\nEND:VCARD\r\n", "text/vcard", "n.vcf"),
        (b"begin:vcalendar\r\nEND:VCALENDAR\r\n", "text/calendar", "n.ics"),
        (b"Subject: x\r\n\r\n" + b"y" * 2000, "application/octet-stream", "n.eml"),
        (b"Subject: x\r\n\r\n\0", "application/octet-stream", "n.eml"),
        (b"Subject: x\r\n\r\nlone\rreturn", "application/octet-stream", "n.eml"),
        (b"\xd0\xcf\x11\xe0 a compound file", "application/octet-stream", "n.eml"),
        (b"", "application/octet-stream", "n.eml"),
    ],
)
def test_items_are_what_their_bytes_are(content: bytes, kind: str, name: str) -> None:
    """Messages are embedded, cards and calendars typed, and what cannot stand in mail encoded."""
    data = built({"body": {"contentType": "text", "content": "x"}}, item(content, name="n"))
    part = leaves(read(data))[1]
    assert (part.get_content_type(), part.get_filename()) == (kind, name)
    if kind == "message/rfc822":
        assert content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") in data
    else:
        assert part.get_payload(decode=True) == content


def test_embedded_messages_beyond_ascii_are_declared() -> None:
    """An embedded message is never encoded (RFC 2046, 5.2.1): 8bit is declared all the way up."""
    inner = "Subject: x\r\n\r\nGrüße\r\n".encode()
    body = {"contentType": "text", "content": "x"}
    data = built({"body": body}, item(inner), file(b"y"))
    assert inner in data
    message = read(data)
    part = leaves(message)[1]
    assert part["content-transfer-encoding"] == "8bit"
    assert message["content-transfer-encoding"] == "8bit"
    seven = read(built({"body": body}, item(b"Subject: x\r\n\r\nplain\r\n")))
    assert leaves(seven)[1]["content-transfer-encoding"] == "7bit"
    assert seven["content-transfer-encoding"] is None


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("message/rfc822", "application/octet-stream"),
        ("multipart/mixed; boundary=x", "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
        ('text/plain\r\nX-Evil: 1; name="x"', "application/octet-stream"),
        ("Text/CSV; charset=iso-8859-1; header=present", "text/csv"),
        ("image/svg+xml", "image/svg+xml"),
    ],
)
def test_types_of_files_are_safe(content_type: str, kind: str) -> None:
    """A file is encoded, so it must not claim a type that forbids that; no header is injected."""
    part = leaves(read(built({}, file(b"bytes", content_type=content_type))))[1]
    assert part.get_content_type() == kind
    assert part.get_payload(decode=True) == b"bytes"
    assert part["x-evil"] is None
    assert part.get_content_charset() == ("iso-8859-1" if kind == "text/csv" else None)


def test_links_and_losses_are_told_in_the_message() -> None:
    """A link is a shortcut to open; a content that cannot be had leaves a note by its name."""
    link = Enclosure(
        attachment(type="reference", name="Plan"),
        b"{}",
        link={"sourceUrl": "https://contoso.example/a b\r\nX: y"},
    )
    unknown = Enclosure(attachment(type="reference", name="Plan"), b"{}", link={})
    lost = Enclosure(attachment(name="gone.pdf", content_id="c@x"), lost="it was never stored")
    body = {"contentType": "html", "content": "<img src=cid:c@x>"}
    message = read(built({"body": body}, link, unknown, lost))
    shortcut, nowhere, note = leaves(message)[2:]
    assert nowhere.get_filename() == "Plan.link.txt"
    assert "did not tell where" in text_of(nowhere)
    assert shortcut.get_filename() == "Plan.url"
    assert text_of(shortcut) == "[InternetShortcut]\nURL=https://contoso.example/a b  X: y\n"
    assert note.get_filename() == "gone.pdf.missing.txt"
    assert text_of(note) == "The attachment 'gone.pdf' is not here: it was never stored.\n"


def test_contents_that_are_not_in_memory_are_named() -> None:
    """Between the bytes stands which attachment is streamed, and how."""
    enclosures = [
        Enclosure(attachment(content_id="c@x")),
        Enclosure(attachment(type="item"), looked=Looked(b"Subject: x\r\n", eight_bit=True)),
        Enclosure(attachment(type="item"), looked=Looked(b"BEGIN:VCARD")),
    ]
    pieces = message_pieces({}, enclosures, seed="s")
    assert [type(piece) is bytes for piece in pieces] == [True, False] * 3 + [True]
    assert pieces[1::2] == [
        Streamed(0, Carry.BASE64),
        Streamed(1, Carry.LINES),
        Streamed(2, Carry.BASE64),
    ]
    again = message_pieces({}, enclosures, seed="s")
    assert again == pieces
    assert message_pieces({}, enclosures, seed="t") != pieces


def test_malformed_resources_give_a_message_all_the_same() -> None:
    """Whatever stands in the place of what Graph documents, a message comes out."""
    odd: dict[str, Any] = {
        "from": "text",
        "toRecipients": {"emailAddress": 5},
        "ccRecipients": [None, 3, {"emailAddress": None}, {"emailAddress": {"name": 1}}],
        "body": "text",
        "subject": 7,
        "categories": "red",
        "internetMessageHeaders": [1, {"name": None}, {"name": "X", "value": 3}],
        "importance": None,
        "internetMessageId": 9,
    }
    message = read(built(odd))
    assert set(map(str.lower, message.keys())) <= OURS
