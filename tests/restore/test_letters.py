"""From a stored message to the JSON that creates it: what goes along, what is left out and told."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.model.message import dump_json
from atlas_async.model.restoring import MARK_PROPERTY
from atlas_async.restore.fingerprint import differing, fingerprint, fingerprint_of_letter
from atlas_async.restore.letter import (
    DELIVERED,
    FLAGS,
    LONGEST_HEADERS,
    SUBMITTED,
    TRANSPORT_HEADERS,
    Letter,
    letter_of,
    plainer,
)


def person(address: str | None, name: str = "Somebody") -> dict[str, Any]:
    """Return a recipient."""
    held: dict[str, Any] = {"name": name}
    if address is not None:
        held["address"] = address
    return {"emailAddress": held}


def message(**changes: Any) -> dict[str, Any]:
    """Return a message as Graph shows it."""
    return {
        "id": "AAMk",
        "subject": "Hello",
        "body": {"contentType": "html", "content": "<p>Hello &amp; welcome</p>"},
        "from": person("ann@contoso.com"),
        "sender": person("ann@contoso.com"),
        "toRecipients": [person("bob@contoso.com")],
        "ccRecipients": [],
        "bccRecipients": [],
        "replyTo": [],
        "receivedDateTime": "2026-01-02T03:04:05Z",
        "sentDateTime": "2026-01-02T03:04:01Z",
        "importance": "high",
        "isRead": True,
        "isDraft": False,
        "internetMessageId": "<1@contoso.com>",
        "flag": {"flagStatus": "notFlagged"},
        "categories": ["Red"],
        **changes,
    }


def properties(letter: Letter) -> dict[str, str]:
    """Return a letter's extended properties."""
    return {p["id"]: p["value"] for p in letter.body["singleValueExtendedProperties"]}


def test_a_received_message_is_no_draft_and_keeps_its_times() -> None:
    """Flags without 8 make it sent; times go as MAPI properties; the mark is there."""
    letter = letter_of(message(), mark="job/1")
    assert properties(letter) == {
        MARK_PROPERTY: "job/1",
        FLAGS: "1",
        DELIVERED: "2026-01-02T03:04:05Z",
        SUBMITTED: "2026-01-02T03:04:01Z",
    }
    assert not {"receivedDateTime", "sentDateTime", "isDraft", "id"} & letter.body.keys()
    assert letter.body["categories"] == ["Red"]
    assert letter.body["importance"] == "high"
    assert not letter.adjusted
    assert properties(letter_of(message(isRead=False), mark="m"))[FLAGS] == "0"


def test_a_draft_stays_one() -> None:
    """Neither flags nor times are sent along; Graph makes a draft of its own accord."""
    letter = letter_of(message(isDraft=True), mark="m")
    assert properties(letter) == {MARK_PROPERTY: "m"}
    assert letter.body["isRead"] is True


def test_times_that_are_not_there_are_not_sent() -> None:
    """Messages that were never sent have no time of sending."""
    letter = letter_of(message(sentDateTime=None, receivedDateTime=""), mark="m")
    assert properties(letter).keys() == {MARK_PROPERTY, FLAGS}


def test_recipients_that_graph_refuses_are_left_out_and_named() -> None:
    """An address needs an @, or is a legacy name of Exchange; one that is neither costs itself."""
    legacy = "/O=EXCHANGELABS/OU=EXCHANGE/CN=RECIPIENTS/CN=ann"
    letter = letter_of(
        message(
            toRecipients=[
                person("bob@contoso.com"),
                person("no address"),
                person(None, "Only a name"),
                person("with space@contoso.com"),
                person("@contoso.com"),
                person("ann@"),
                {},
                None,
            ],
            replyTo=[person("undisclosed-recipients:;")],
            **{"from": person(legacy), "sender": person("Microsoft Outlook")},
        ),
        mark="m",
    )
    assert letter.body["toRecipients"] == [person("bob@contoso.com")]
    assert letter.body["from"] == person(legacy)
    assert not {"replyTo", "sender", "ccRecipients"} & letter.body.keys()
    assert letter.adjusted == [
        "sender has no address: left out",
        "toRecipients: 'no address' is no address: left out",
        "toRecipients: 'Only a name' is no address: left out",
        "toRecipients: 'with space@contoso.com' is no address: left out",
        "toRecipients: '@contoso.com' is no address: left out",
        "toRecipients: 'ann@' is no address: left out",
        "toRecipients: '' is no address: left out",
        "toRecipients: '' is no address: left out",
        "replyTo: 'undisclosed-recipients:;' is no address: left out",
    ]


def test_a_flag_keeps_its_dates_and_loses_annotations() -> None:
    """What OData adds is not sent back."""
    day = {"dateTime": "2026-05-01T00:00:00", "timeZone": "UTC"}
    flag = {"@odata.type": "x", "flagStatus": "flagged", "startDateTime": day, "dueDateTime": day}
    letter = letter_of(message(flag=flag), mark="m")
    assert letter.body["flag"] == {
        "flagStatus": "flagged",
        "startDateTime": day,
        "dueDateTime": day,
    }
    assert "flag" not in letter_of(message(flag=None), mark="m").body


def test_headers_are_sent_as_far_as_they_help() -> None:
    """A header block of any length is cut."""
    found = properties(letter_of(message(), mark="m", headers="X: " + "y" * 200_000))
    assert len(found[TRANSPORT_HEADERS]) == LONGEST_HEADERS


def test_plainer_takes_out_what_xml_cannot_hold() -> None:
    """Control characters and halves of pairs go, wherever they stand; flags lose their dates."""
    letter = letter_of(
        message(
            subject="a\x00b\ud83d\x0bc\U0001f600",
            body={"contentType": "text", "content": "x\uffff\ty\r\nz\x1f"},
            categories=["\x01Red"],
            flag={"flagStatus": "flagged", "dueDateTime": {"dateTime": "x", "timeZone": "UTC"}},
        ),
        mark="m",
    )
    less = plainer(letter)
    assert less.body["subject"] == "abc\U0001f600"
    assert less.body["body"]["content"] == "x\ty\r\nz"
    assert less.body["categories"] == ["Red"]
    assert less.body["flag"] == {"flagStatus": "flagged"}
    assert less.adjusted == [
        "control characters were taken out",
        "the dates of the flag were left out",
    ]
    assert plainer(less).body == less.body
    assert letter.body["subject"].startswith("a\x00")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*message()]), JSON))
def test_any_resource_makes_a_letter(changes: dict[str, Any]) -> None:
    """Stored mail may hold anything: nothing of it makes this raise, and it can be sent."""
    letter = letter_of({**message(), **changes}, mark="m")
    dump_json(letter.body)
    cleaned = plainer(letter).body
    orjson.dumps(cleaned)
    fingerprint_of_letter(letter.body)
    fingerprint(changes)


def test_a_fingerprint_says_what_differs() -> None:
    """The letter's is that of the message as Graph shows it; each part is told by its name."""
    letter = letter_of(message(), mark="m")
    sent = fingerprint_of_letter(letter.body)
    assert differing(sent, fingerprint(message())) == ()
    changes: dict[str, tuple[dict[str, Any], ...]] = {
        "addresses and subject": (
            {"subject": "Other"},
            {"toRecipients": [person("eve@contoso.com")]},
            {"replyTo": [person("eve@contoso.com")]},
            {"internetMessageId": "<2@contoso.com>"},
            {"from": person("eve@contoso.com")},
        ),
        "times": ({"receivedDateTime": "2026-01-02T03:04:06Z"}, {"sentDateTime": None}),
        "state": (
            {"isRead": False},
            {"importance": "low"},
            {"categories": []},
            {"flag": {"flagStatus": "complete"}},
        ),
        "body": ({"body": {"contentType": "html", "content": "<p>Hello</p>"}},),
    }
    for part, each in changes.items():
        for change in each:
            assert differing(sent, fingerprint(message(**change))) == (part,), change


def test_a_fingerprint_overlooks_what_servers_rewrite() -> None:
    """Markup, white space, fractions of seconds, time zones and the case of addresses."""
    same = message(
        body={"contentType": "html", "content": "<html><body>\r\n<P>Hello&#38;\n welcome</body>"},
        receivedDateTime="2026-01-02T04:04:05.1230000+01:00",
        toRecipients=[person("BOB@Contoso.com", "Another name")],
        categories=["Red"],
        importance="High",
    )
    assert fingerprint(same) == fingerprint(message())


def test_a_draft_is_compared_without_times() -> None:
    """The server sets them."""
    one = message(isDraft=True)
    assert fingerprint(one) == fingerprint({**one, "receivedDateTime": "2027-01-01T00:00:00Z"})
    assert differing(fingerprint(one), fingerprint(message())) == ("times", "state")
    assert fingerprint_of_letter(letter_of(one, mark="m").body) == fingerprint(one)


def test_what_creating_it_anew_does_not_give_back_is_told() -> None:
    """Meetings, receipts and the focused inbox, as far as the stored message holds them."""
    for kind in ("eventMessage", "eventMessageRequest", "eventMessageResponse"):
        letter = letter_of(message(**{"@odata.type": f"#microsoft.graph.{kind}"}), mark="j/m")
        assert ["belongs to a meeting" in text for text in letter.adjusted] == [True]
        assert "@odata.type" not in letter.body
    plain = {"@odata.type": "#microsoft.graph.message", "inferenceClassification": "focused"}
    silent = {"isReadReceiptRequested": False, "isDeliveryReceiptRequested": None}
    assert not letter_of(message(**plain, **silent), mark="j/m").adjusted
    asking = {"isReadReceiptRequested": True, "isDeliveryReceiptRequested": True}
    letter = letter_of(message(**asking, inferenceClassification="other"), mark="j/m")
    assert letter.adjusted == [
        "the request for a read receipt was left out",
        "the request for a delivery receipt was left out",
        "it was in 'Other', not in the focused inbox: Exchange decides that anew",
    ]
    assert not asking.keys() & letter.body.keys()
