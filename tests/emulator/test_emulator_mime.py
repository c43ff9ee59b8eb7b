"""Messages posted as MIME: drafts with all their parts."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import pytest

from atlas_async.emulator import Emulator
from tests.fakes.graph_probe import Answer, GraphProbe

ADDRESS = "user0000@contoso.com"
USER = f"users/{ADDRESS}"
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(100)


def _letter(subject: str = "Übersicht") -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = "Ann Writer <ann@example.org>"
    letter["Sender"] = "Desk <desk@example.org>"
    letter["To"] = "Bob <bob@example.org>, carol@example.org"
    letter["Cc"] = "dan@example.org"
    letter["Reply-To"] = "replies@example.org"
    letter["Subject"] = subject
    letter["Date"] = format_datetime(datetime(2019, 4, 5, 6, 7, 8, tzinfo=UTC))
    letter["Message-ID"] = f"<{len(subject)}.mime@example.org>"
    letter["In-Reply-To"] = "<before@example.org>"
    letter["Importance"] = "High"
    letter["X-Long"] = "word " * 40 + "end"
    letter.set_content("plain form")
    letter.add_alternative('<p>html form <img src="cid:one@two"></p>', subtype="html")
    html: Any = letter.get_payload(1)
    html.add_related(IMAGE, "image", "png", cid="<one@two>", filename="one.png")
    letter.add_attachment(b"bytes\x00", maintype="application", subtype="x-a", filename="ä.bin")
    return letter


async def _post(probe: GraphProbe, mime: bytes, folder: str = "inbox") -> Answer:
    return await probe.send(
        "POST",
        f"{USER}/mailFolders/{folder}/messages",
        headers={"Content-Type": "text/plain"},
        data=base64.encodebytes(mime),
    )


async def test_the_whole_letter_arrives(emulator: Emulator, probe: GraphProbe) -> None:
    """Body, people, dates, headers, inline image, file and nested letter are all kept."""
    letter = _letter()
    letter.add_attachment(_letter("Nested"))

    made = await _post(probe, letter.as_bytes(), "archive")
    path = f"{USER}/messages/{made.body['id']}"
    shown = (await probe.get(f"{path}?$select=internetMessageHeaders")).body
    parts = (await probe.get(f"{path}/attachments")).body["value"]
    item = (
        await probe.get(
            f"{path}/attachments/{parts[2]['id']}?$expand=microsoft.graph.itemattachment/item("
            "$expand=microsoft.graph.message/attachments)"
        )
    ).body["item"]
    nested = await probe.get(f"{path}/attachments/{parts[2]['id']}/$value")

    body = made.body
    headers = {header["name"]: header["value"] for header in shown["internetMessageHeaders"]}
    assert made.status == 201
    assert (body["isDraft"], body["subject"], body["importance"]) == (True, "Übersicht", "high")
    assert body["body"]["contentType"] == "html"
    assert "html form" in body["body"]["content"]
    assert body["from"]["emailAddress"]["address"] == "ann@example.org"
    assert body["sender"]["emailAddress"]["address"] == "desk@example.org"
    assert [r["emailAddress"]["address"] for r in body["toRecipients"]] == [
        "bob@example.org",
        "carol@example.org",
    ]
    assert body["replyTo"][0]["emailAddress"]["address"] == "replies@example.org"
    assert body["sentDateTime"] == "2019-04-05T06:07:08Z"
    assert body["hasAttachments"] is True
    assert headers["In-Reply-To"] == "<before@example.org>"
    assert headers["X-Long"] == "word " * 40 + "end"
    assert [(p["name"], p["isInline"], p.get("contentId")) for p in parts] == [
        ("one.png", True, "one@two"),
        ("ä.bin", False, None),
        ("Nested", False, None),
    ]
    assert base64.b64decode(parts[0]["contentBytes"]) == IMAGE
    assert parts[2]["@odata.type"] == "#microsoft.graph.itemAttachment"
    assert item["subject"] == "Nested"
    assert [part["name"] for part in item["attachments"]] == ["one.png", "ä.bin"]
    assert b"Subject: Nested" in nested.raw


async def test_a_plain_letter_has_no_attachments(probe: GraphProbe) -> None:
    """A second form of the body is not an attachment."""
    letter = EmailMessage()
    letter["Subject"] = "two forms"
    letter.set_content("plain")
    letter.add_alternative("<b>html</b>", subtype="html")

    made = await _post(probe, letter.as_bytes())

    parts = await probe.get(f"{USER}/messages/{made.body['id']}/attachments")
    assert parts.body["value"] == []
    assert made.body["hasAttachments"] is False


@pytest.mark.parametrize(
    "mime",
    [
        b"",
        b"no headers at all",
        b"To: root, undisclosed-recipients:;\r\nDate: yesterday\r\n\r\nx",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ncut off",
        b"Content-Type: message/rfc822\r\n\r\n",
    ],
)
async def test_odd_mime_becomes_a_draft(probe: GraphProbe, mime: bytes) -> None:
    """What is hardly MIME is stored all the same."""
    assert (await _post(probe, mime)).status == 201


@pytest.mark.parametrize(
    "mime",
    [
        b"Sender: =?@\r\n\r\nx",
        b"From: :]\x00;<\x00:\r\n\r\nx",
        b"Reply-To: 1\\@[\t \r\n\r\nx",
        b"To: a@[\r\n\r\nx",
    ],
)
async def test_hostile_headers_never_break_the_service(probe: GraphProbe, mime: bytes) -> None:
    """Headers over which Python's parser stumbles, in some of its versions, are 400 at worst."""
    answer = await _post(probe, mime)

    assert answer.status == 201 or answer.code == "ErrorMimeContentInvalid"


async def test_unknown_character_sets_are_read_as_bytes(probe: GraphProbe) -> None:
    """A body in a character set that nobody knows keeps what can be read; it is no attachment."""
    mime = b"To: root\r\nContent-Type: text/plain; charset=klingon\r\n\r\nt\xe9xt"

    made = await _post(probe, mime)
    parts = await probe.get(f"{USER}/messages/{made.body['id']}/attachments")

    assert made.body["body"] == {"contentType": "text", "content": "t\xe9xt"}
    assert made.body["toRecipients"][0]["emailAddress"]["address"] == "root"
    assert parts.body["value"] == []


async def test_mime_limits(emulator: Emulator, probe: GraphProbe) -> None:
    """Large MIME is 413; in the quiet way it is answered 200 and nothing is stored."""
    letter = _letter()
    letter.add_attachment(bytes(2_500_000), maintype="a", subtype="b", filename="large")
    stored = await _post(probe, b"Subject: s\r\n\r\n" + b"x" * 2_900_000)
    refused = await _post(probe, letter.as_bytes())
    emulator.control.configure(silent_mime=2_240 * 1024)
    before = len(emulator.control.mailbox_truth(ADDRESS, content=False)["messages"])
    silent = await _post(probe, b"Subject: s\r\n\r\n" + b"x" * 2_900_000)
    small = await _post(probe, _letter().as_bytes())
    after = len(emulator.control.mailbox_truth(ADDRESS, content=False)["messages"])

    assert (stored.status, refused.status) == (201, 413)
    assert (silent.status, silent.raw, small.status) == (200, b"", 201)
    assert after == before + 1


async def test_what_is_no_base64_is_refused(probe: GraphProbe) -> None:
    """Malformed base64 is 400 with its own code; line breaks are no fault."""
    headers = {"Content-Type": "text/plain"}

    answer = await probe.send("POST", f"{USER}/messages", headers=headers, data=b"YWJj*YWJj")

    assert (answer.status, answer.code) == (400, "ErrorMimeContentInvalidBase64String")


async def test_the_draft_reads_back_as_mime(probe: GraphProbe) -> None:
    """$value of the draft holds its attachments."""
    made = await _post(probe, _letter().as_bytes())

    value = await probe.get(f"{USER}/messages/{made.body['id']}/$value")

    assert b"Content-ID: <one@two>" in value.raw
    assert (
        hashlib.sha256(IMAGE).digest()
        == hashlib.sha256(
            base64.b64decode(value.raw.split(b"Content-ID: <one@two>")[1].split(b"\r\n\r\n")[1])
        ).digest()
    )
