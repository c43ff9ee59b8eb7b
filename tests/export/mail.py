"""Messages for the tests of MIME, and what a strict reader makes of them."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from hypothesis import strategies as st

from atlas_async.export.mime import message_pieces
from atlas_async.export.pieces import Enclosure
from atlas_async.export.transfer import look
from atlas_async.model.record import AttachmentRecord

STRICT = policy.SMTP.clone(raise_on_defect=True)

AWKWARD = [
    "",
    " ",
    "plain words",
    "  leading and trailing  ",
    "two  spaces",
    "Grüße aus Köln",
    "日本語の件名" * 12,
    "=?utf-8?q?not_encoded?=",
    "a=?b",
    "line\r\nBcc: evil@example.test\r\n\r\nbody",
    "tab\tand\0zero\x1b[31m",
    "half \ud83d, pair \ud83d\ude00",
    "\u202egnp.exe\u2066",
    'quote " backslash \\ comma, colon: semi; <angle> (round) @at',
    "x" * 300,
    "👨‍👩‍👧" * 30,
    "\x85\u2028\u2029",
    "trailing dot.",
    "שלום עולם",
]
ANY_TEXT = st.one_of(
    st.sampled_from(AWKWARD),
    st.text(max_size=120),
    st.text(alphabet=st.characters(codec=None), max_size=60),
    st.text(alphabet=' =?_\r\n\t<>@"\\,;:()aé', max_size=80),
)


def attachment(**values: Any) -> AttachmentRecord:
    """Return the record of an attachment."""
    return cast(
        "AttachmentRecord",
        {
            "attachment_id": "id",
            "name": "file.bin",
            "type": "file",
            "content_type": "application/octet-stream",
            "size_bytes": 0,
            "content_bytes": 0,
            "checksum": "c" * 64,
            "is_inline": False,
            **values,
        },
    )


def file(content: bytes, **values: Any) -> Enclosure:
    """Return a file in memory."""
    return Enclosure(attachment(**values), content)


def item(content: bytes, **values: Any) -> Enclosure:
    """Return an item in memory, looked at."""
    return Enclosure(attachment(**{"type": "item", **values}), content, looked=look(content))


def person(name: object, address: object) -> dict[str, Any]:
    """Return a recipient as Graph has it."""
    return {"emailAddress": {"name": name, "address": address}}


def built(resource: dict[str, Any], *enclosures: Enclosure) -> bytes:
    """Return a message whose contents are all in memory."""
    pieces = message_pieces(resource, enclosures, seed="seed")
    assert all(isinstance(piece, bytes) for piece in pieces)
    return b"".join(cast("list[bytes]", pieces))


def read(data: bytes) -> EmailMessage:
    """Parse a message as strictly as the standard library can, and check its lines."""
    assert data.endswith(b"\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", data)
    assert max(map(len, data.split(b"\r\n"))) <= 998
    message = message_from_bytes(data, policy=STRICT)
    for part in message.walk():
        assert not part.defects
        for name, value in part.items():
            assert not getattr(value, "defects", ()), (name, value, value.defects)
    return message


def header_block(data: bytes) -> bytes:
    """Return a message's headers."""
    return data.partition(b"\r\n\r\n")[0]


def leaves(message: EmailMessage) -> list[EmailMessage]:
    """Return the parts that hold content, an embedded message as one."""
    found: list[EmailMessage] = []
    if message.get_content_type() == "message/rfc822" or not message.is_multipart():
        return [message]
    for part in message.iter_parts():
        found += leaves(cast("EmailMessage", part))
    return found


def text_of(part: EmailMessage) -> str:
    """Return a text part's text with LF for every line end."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode("utf-8").replace("\r\n", "\n")
