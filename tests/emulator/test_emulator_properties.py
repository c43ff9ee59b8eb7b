"""Extended properties: written, read back in their normal form, searched for, on folders too."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from atlas_async.emulator import Emulator
from tests.fakes.graph_probe import Answer, GraphProbe

ADDRESS = "user0000@contoso.com"
USER = f"users/{ADDRESS}"
INBOX = f"{USER}/mailFolders/inbox/messages"
COLOR = "String {66F5A359-4659-4830-9070-00047EC6AC6E} Name Color"
COLOR_SHOWN = "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name Color"
COUNT = "Integer {66f5a359-4659-4830-9070-00047ec6ac6e} Id 0x0800A"
COUNT_SHOWN = "Integer {66f5a359-4659-4830-9070-00047ec6ac6e} Id 0x800a"
WORDS = "StringArray {66f5a359-4659-4830-9070-00050ec6ac6e} Name Recreation"


def _set(**named: str) -> list[dict[str, str]]:
    ids = {"color": COLOR, "count": COUNT, "flags": "Integer 0x0E07"}
    return [{"id": ids.get(name, name), "value": value} for name, value in named.items()]


async def _create(probe: GraphProbe, path: str = INBOX, **values: Any) -> dict[str, Any]:
    answer = await probe.send("POST", path, values)
    assert answer.status == 201, answer.raw
    body: dict[str, Any] = answer.body
    return body


def _expand(*ids: str, kind: str = "single") -> str:
    wanted = " or ".join(f"id eq '{one}'" for one in ids)
    return "$expand=" + quote(f"{kind}ValueExtendedProperties($filter={wanted})")


def _filter(text: str) -> str:
    return "$filter=" + quote(text)


def _any(condition: str) -> str:
    return _filter(f"singleValueExtendedProperties/Any(ep: {condition})")


def _color(value: str) -> str:
    return _any(f"ep/id eq '{COLOR}' and ep/value eq '{value}'")


def _subjects(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.raw
    return [item["subject"] for item in answer.body["value"]]


async def test_named_and_numbered_properties_come_back_in_normal_form(probe: GraphProbe) -> None:
    """Ids are answered with lower-case sets and hex without zeros, whatever was asked."""
    made = await _create(
        probe, subject="x", singleValueExtendedProperties=_set(color="Green", count="007")
    )
    path = f"{USER}/messages/{made['id']}"

    plain = await probe.get(path)
    shown = await probe.get(f"{path}?{_expand(COLOR, COUNT, 'String 0x0037', 'Integer 0x0E07')}")

    assert "singleValueExtendedProperties" not in plain.body
    assert shown.body["singleValueExtendedProperties"] == [
        {"id": COLOR_SHOWN, "value": "Green"},
        {"id": COUNT_SHOWN, "value": "7"},
        {"id": "String 0x37", "value": "x"},
        {"id": "Integer 0xe07", "value": "9"},
    ]


async def test_collections_and_selections_show_properties(probe: GraphProbe) -> None:
    """A listing with $select and $expand shows the property of those that have it."""
    await _create(probe, subject="with", singleValueExtendedProperties=_set(color="Red"))
    await _create(probe, subject="without")

    listed = await probe.get(f"{INBOX}?$top=2&$select=subject&{_expand(COLOR)}")

    by_subject = {item["subject"]: item for item in listed.body["value"]}
    assert by_subject["with"]["singleValueExtendedProperties"] == [
        {"id": COLOR_SHOWN, "value": "Red"}
    ]
    assert "singleValueExtendedProperties" not in by_subject["without"]
    assert "body" not in by_subject["with"]


async def test_expanding_without_a_filter_shows_nothing(probe: GraphProbe) -> None:
    """There is no way to ask for all extended properties."""
    made = await _create(probe, singleValueExtendedProperties=_set(color="Red"))

    answer = await probe.get(f"{USER}/messages/{made['id']}?$expand=singleValueExtendedProperties")

    assert answer.status == 200
    assert "singleValueExtendedProperties" not in answer.body


async def test_lists_of_values_are_kept(probe: GraphProbe) -> None:
    """Multi-value properties are created, read by $expand and updated."""
    made = await _create(
        probe, multiValueExtendedProperties=[{"id": WORDS, "value": ["Food", "Hiking"]}]
    )
    path = f"{USER}/messages/{made['id']}"

    first = await probe.get(f"{path}?{_expand(WORDS, kind='multi')}")
    await probe.send(
        "PATCH", path, {"multiValueExtendedProperties": [{"id": WORDS, "value": ["Swimming"]}]}
    )
    second = await probe.get(f"{path}?{_expand(WORDS, kind='multi')}")

    assert first.body["multiValueExtendedProperties"] == [
        {"id": WORDS, "value": ["Food", "Hiking"]}
    ]
    assert second.body["multiValueExtendedProperties"][0]["value"] == ["Swimming"]


async def test_patch_changes_properties_and_what_is_found(probe: GraphProbe) -> None:
    """After a PATCH the new value is read and found, the old one is not."""
    made = await _create(probe, subject="p", singleValueExtendedProperties=_set(color="Red"))
    path = f"{USER}/messages/{made['id']}"

    patched = await probe.send("PATCH", path, {"singleValueExtendedProperties": _set(color="Blue")})
    shown = await probe.get(f"{path}?{_expand(COLOR)}")
    old = await probe.get(f"{INBOX}?{_color('Red')}")
    new = await probe.get(f"{INBOX}?{_color('Blue')}")

    assert patched.status == 200
    assert shown.body["singleValueExtendedProperties"][0]["value"] == "Blue"
    assert (_subjects(old), _subjects(new)) == ([], ["p"])


async def test_received_mail_takes_properties(emulator: Emulator, probe: GraphProbe) -> None:
    """A message that nobody created by Graph can be marked and found by the mark."""
    item = (await probe.get(f"{INBOX}?$top=1")).body["value"][0]

    await probe.send(
        "PATCH",
        f"{USER}/messages/{item['id']}",
        {"singleValueExtendedProperties": _set(color="Mark")},
    )
    found = await probe.get(f"{INBOX}?{_color('mark')}")

    assert [one["id"] for one in found.body["value"]] == [item["id"]]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (f"ep/id eq '{COLOR}' and ep/value eq 'GREEN'", ["three", "one"]),
        (f"ep/id eq '{COLOR}' and ep/value ne 'green'", ["two"]),
        (f"ep/id eq '{COLOR.replace('Color', 'color')}' and ep/value eq 'Green'", []),
        (f"ep/id eq '{COLOR}' and startswith(ep/value, 'Gr')", ["three", "one"]),
        (f"ep/id eq '{COLOR}' and contains(ep/value, 'e')", ["three", "two", "one"]),
        (f"ep/id eq '{COUNT}' and cast(ep/value, Edm.Int32) gt 9", ["two"]),
        (f"ep/id eq '{COUNT}' and ep/value eq '9'", ["one"]),
        (f"ep/id eq '{COLOR}' and (ep/value eq 'Red' or ep/value eq 'Blue')", ["two"]),
        ("ep/id eq 'String 0x0037' and ep/value eq 'three'", ["three"]),
    ],
)
async def test_messages_are_found_by_property(
    probe: GraphProbe, condition: str, found: list[str]
) -> None:
    """Values compare without case, names with it; texts by their start, numbers by a cast."""
    folder = (await _create(probe, f"{USER}/mailFolders", displayName="Found"))["id"]
    path = f"{USER}/mailFolders/{folder}/messages"
    for day, subject, color, count in (
        (1, "one", "Green", "9"),
        (2, "two", "Red", "10"),
        (3, "three", "green", "1"),
    ):
        dated = {"id": "SystemTime 0x0E06", "value": f"2020-01-0{day}T00:00:00Z"}
        marks = [*_set(color=color, count=count), dated]
        await _create(probe, path, subject=subject, singleValueExtendedProperties=marks)

    in_folder = await probe.get(f"{path}?{_any(condition)}")
    everywhere = await probe.get(f"{USER}/messages?$top=1000&{_any(condition)}")

    assert _subjects(in_folder) == found
    assert [s for s in _subjects(everywhere) if s in {"one", "two", "three"}] == found


async def test_a_search_by_property_joins_other_conditions(probe: GraphProbe) -> None:
    """Any() stands beside plain comparisons; or widens it beyond the lookup."""
    for subject in ("a", "b"):
        await _create(probe, subject=subject, singleValueExtendedProperties=_set(color="Join"))
    await _create(probe, subject="c")
    join = f"singleValueExtendedProperties/any(p:p/id eq '{COLOR}' and p/value eq 'join')"

    both = await probe.get(f"{INBOX}?" + _filter(f"{join} and subject eq 'b'"))
    either = await probe.get(f"{INBOX}?" + _filter(f"{join} or subject eq 'c'"))
    neither = await probe.get(
        f"{INBOX}?$top=1000&" + _filter(f"not {join} and startswith(subject, 'c')")
    )

    assert _subjects(both) == ["b"]
    assert sorted(_subjects(either)) == ["a", "b", "c"]
    assert "c" in _subjects(neither)


async def test_found_messages_come_in_pages(probe: GraphProbe) -> None:
    """What a lookup finds is counted and paged like every listing."""
    for number in range(5):
        marks = _set(color="Paged")
        await _create(probe, subject=str(number), singleValueExtendedProperties=marks)
    condition = _any(f"ep/id eq '{COLOR}' and ep/value eq 'Paged'")

    first = await probe.get(f"{INBOX}?$top=2&$count=true&$select=subject&{condition}")
    items, _ = await probe.round(f"{INBOX}?$top=2&$select=subject&{condition}")

    assert first.body["@odata.count"] == 5
    assert len(first.body["value"]) == 2
    assert sorted(item["subject"] for item in items) == ["0", "1", "2", "3", "4"]


async def test_message_ids_are_found_where_the_message_is(probe: GraphProbe) -> None:
    """InternetMessageId eq finds by folder and in the mailbox, not in recoverable items."""
    made = await _create(probe, subject="m", internetMessageId="<Find.Me@example.org>")
    found = _filter("internetMessageId eq '<find.me@EXAMPLE.org>'")
    before = [
        _subjects(await probe.get(f"{USER}/{place}?{found}"))
        for place in ("messages", "mailFolders/inbox/messages", "mailFolders/drafts/messages")
    ]

    await probe.send("DELETE", f"{USER}/messages/{made['id']}")
    after = [
        _subjects(await probe.get(f"{USER}/{place}?{found}"))
        for place in ("messages", "mailFolders/recoverableitemsdeletions/messages")
    ]

    assert before == [["m"], ["m"], []]
    assert after == [[], ["m"]]


async def test_a_message_id_that_was_changed_is_found_by_the_new_one(probe: GraphProbe) -> None:
    """Updating internetMessageId of a draft moves it in the lookup."""
    made = await _create(probe, subject="d", internetMessageId="<old@example.org>")

    await probe.send(
        "PATCH", f"{USER}/messages/{made['id']}", {"internetMessageId": "<new@example.org>"}
    )
    answers = [
        await probe.get(f"{INBOX}?" + _filter(f"internetMessageId eq '<{name}@example.org>'"))
        for name in ("old", "new")
    ]

    assert [_subjects(answer) for answer in answers] == [[], ["d"]]


async def test_properties_that_follow_the_message_are_not_changed_later(
    emulator: Emulator, probe: GraphProbe
) -> None:
    """Dates and flags are taken at creation; a PATCH of them is accepted and does nothing."""
    sent = {"id": "SystemTime 0x0039", "value": "2019-04-05T08:07:00+02:00"}
    made = await _create(probe, singleValueExtendedProperties=[*_set(flags="1"), sent])
    path = f"{USER}/messages/{made['id']}"

    later = {"id": "SystemTime 0x0039", "value": "2021-01-01T00:00:00Z"}
    patched = await probe.send(
        "PATCH", path, {"singleValueExtendedProperties": [*_set(flags="8"), later]}
    )
    shown = await probe.get(f"{path}?{_expand('Integer 0x0E07', 'SystemTime 0x39')}")

    assert made["sentDateTime"] == "2019-04-05T06:07:00Z"
    assert patched.status == 200
    assert (shown.body["isDraft"], shown.body["sentDateTime"]) == (False, made["sentDateTime"])
    assert [p["value"] for p in shown.body["singleValueExtendedProperties"]] == [
        "1",
        "2019-04-05T06:07:00Z",
    ]
    told = {m["immutableId"]: m for m in emulator.control.mailbox_truth(ADDRESS)["messages"]}
    assert told[made["id"]]["extended"]["SystemTime 0x39"] == "2019-04-05T06:07:00Z"


async def test_flags_follow_the_message(probe: GraphProbe) -> None:
    """0x0E07 tells whether the message is read now, not what was posted."""
    made = await _create(probe, singleValueExtendedProperties=_set(flags="1"))
    path = f"{USER}/messages/{made['id']}"

    await probe.send("PATCH", path, {"isRead": False})
    shown = await probe.get(f"{path}?{_expand('Integer 0x0E07')}")

    assert shown.body["singleValueExtendedProperties"][0]["value"] == "0"


async def test_transport_headers_and_class_are_shown(probe: GraphProbe) -> None:
    """0x007D becomes internetMessageHeaders, 0x0071 the conversation, 0x001A the class."""
    index = "AQHaAAECAwQFBgcICQoLDA0ODxAREg=="
    block = "Received: from a\r\n\tby b\r\nSubject: old\r\nX-Mark: 1\r\n\r\n"
    marks = [
        {"id": "String 0x007D", "value": block},
        {"id": "Binary 0x0071", "value": index},
        {"id": "String 0x001A", "value": "IPM.Note.Custom"},
    ]
    made = await _create(probe, subject="s", singleValueExtendedProperties=marks)
    twin = await _create(probe, subject="t", singleValueExtendedProperties=marks)
    bare = await _create(probe, subject="u")

    path = f"{USER}/messages/{made['id']}"
    shown = await probe.get(
        f"{path}?$select=internetMessageHeaders,conversationIndex"
        f"&{_expand('String 0x001A', 'String 0x7D')}"
    )
    none = await probe.get(f"{USER}/messages/{bare['id']}?$select=internetMessageHeaders")

    assert shown.body["internetMessageHeaders"] == [
        {"name": "Received", "value": "from a by b"},
        {"name": "Subject", "value": "old"},
        {"name": "X-Mark", "value": "1"},
    ]
    assert shown.body["conversationIndex"] == index
    assert made["conversationId"] == twin["conversationId"] != bare["conversationId"]
    assert [p["value"] for p in shown.body["singleValueExtendedProperties"]] == [
        "IPM.Note.Custom",
        block,
    ]
    assert "internetMessageHeaders" not in none.body


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"id": "Colour", "value": "x"}, "ErrorInvalidExtendedProperty"),
        ({"id": "Text 0x0037", "value": "x"}, "ErrorInvalidExtendedProperty"),
        ({"id": "String {nonsense} Name x", "value": "x"}, "ErrorInvalidExtendedProperty"),
        ({"id": COLOR}, "ErrorInvalidProperty"),
        ({"id": COUNT, "value": 7}, "ErrorInvalidProperty"),
        ({"id": COUNT, "value": "many"}, "ErrorInvalidExtendedPropertyValue"),
        ({"id": COUNT, "value": str(1 << 31)}, "ErrorInvalidExtendedPropertyValue"),
        ({"id": "SystemTime 0x0E06", "value": "soon"}, "ErrorInvalidExtendedPropertyValue"),
        ({"id": "Binary 0x0071", "value": "%"}, "ErrorInvalidExtendedPropertyValue"),
        ({"id": "Boolean 0x0E1F", "value": "maybe"}, "ErrorInvalidExtendedPropertyValue"),
        ({"id": WORDS, "value": "one"}, "ErrorInvalidExtendedPropertyValue"),
    ],
)
async def test_wrong_properties_are_refused(
    probe: GraphProbe, item: dict[str, Any], code: str
) -> None:
    """Ids, types and values that do not fit are 400, on create and on update alike."""
    made = await _create(probe, subject="x")
    values = {"singleValueExtendedProperties": [item]}

    created = await probe.send("POST", INBOX, values)
    updated = await probe.send("PATCH", f"{USER}/messages/{made['id']}", values)

    assert (created.status, created.code) == (400, code)
    assert (updated.status, updated.code) == (400, code)


@pytest.mark.parametrize(
    "query",
    [
        _expand("Colour"),
        _any("ep/value eq 'x'"),
        _any(f"ep/id ne '{COLOR}'"),
        _any(f"ep/id eq '{COLOR}' and cast(ep/value, Edm.Colour) eq 1"),
        _filter("singleValueExtendedProperties/Any(ep/id eq 'x')"),
    ],
)
async def test_wrong_questions_are_refused(probe: GraphProbe, query: str) -> None:
    """An expansion or filter that names no property is 400."""
    assert (await probe.get(f"{INBOX}?{query}")).status == 400


async def test_folders_have_properties(emulator: Emulator, probe: GraphProbe) -> None:
    """A folder takes properties when created and later, shows them and is found by them."""
    made = await _create(
        probe,
        f"{USER}/mailFolders",
        displayName="Marked",
        singleValueExtendedProperties=_set(color="Root"),
    )
    path = f"{USER}/mailFolders/{made['id']}"

    await probe.send("PATCH", path, {"singleValueExtendedProperties": _set(count="5")})
    shown = await probe.get(f"{path}?{_expand(COLOR, COUNT)}")
    found = await probe.get(f"{USER}/mailFolders?{_color('root')}")

    assert shown.body["singleValueExtendedProperties"] == [
        {"id": COLOR_SHOWN, "value": "Root"},
        {"id": COUNT_SHOWN, "value": "5"},
    ]
    assert [folder["id"] for folder in found.body["value"]] == [made["id"]]
    told = {f["id"]: f for f in emulator.control.mailbox_truth(ADDRESS)["folders"]}
    assert told[made["id"]]["extended"] == {COLOR_SHOWN: "Root", COUNT_SHOWN: "5"}


async def test_unknown_names_are_refused_in_updates(probe: GraphProbe) -> None:
    """PATCH knows the same property names as POST."""
    made = await _create(probe, subject="x")

    answer = await probe.send("PATCH", f"{USER}/messages/{made['id']}", {"colour": "red"})

    assert (answer.status, answer.code) == (400, "RequestBodyRead")


async def test_copies_keep_properties_and_headers(probe: GraphProbe) -> None:
    """A copy has the extended properties and headers of the message it was made from."""
    made = await _create(
        probe,
        internetMessageHeaders=[{"name": "X-A", "value": "1"}],
        singleValueExtendedProperties=_set(color="Copied"),
    )

    path = f"{USER}/messages/{made['id']}"
    copy = await probe.send("POST", f"{path}/copy", {"destinationId": "archive"})
    shown = await probe.get(
        f"{USER}/messages/{copy.body['id']}?$select=internetMessageHeaders&{_expand(COLOR)}"
    )

    assert shown.body["singleValueExtendedProperties"][0]["value"] == "Copied"
    assert shown.body["internetMessageHeaders"] == [{"name": "X-A", "value": "1"}]
