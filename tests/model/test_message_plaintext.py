"""A message as stored bytes: nothing lost, content before state, one fingerprint per content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.model.message import dump_json, load_json, message_plaintext
from atlas_async.model.record import STATE_PROPERTIES, is_state
from tests.fakes.json_values import TEXTS, VALUES

CONTENT = st.dictionaries(TEXTS.filter(lambda k: not is_state(k)), VALUES, max_size=6)
STATE = st.dictionaries(
    st.sampled_from([*sorted(STATE_PROPERTIES), "@odata.etag", "@odata.type"]), VALUES, max_size=5
)


def shuffled(content: dict[str, Any], state: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """Return both in one resource, in any order that keeps each group's."""
    order = data.draw(st.permutations([True] * len(content) + [False] * len(state)))
    groups = {True: iter(content.items()), False: iter(state.items())}
    return dict(next(groups[is_content]) for is_content in order)


@given(CONTENT, STATE, st.data())
def test_nothing_of_a_message_is_lost(
    content: dict[str, Any], state: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever JSON a message is, lone surrogates and control characters included, it comes back."""
    resource = shuffled(content, state, data)
    plaintext = message_plaintext(resource)
    assert json.loads(plaintext.data) == resource
    assert load_json(plaintext.data) == resource
    assert plaintext.checksum == hashlib.sha256(plaintext.data).hexdigest()


@given(CONTENT, STATE, st.data())
def test_content_comes_first_each_group_in_its_own_order(
    content: dict[str, Any], state: dict[str, Any], data: st.DataObject
) -> None:
    """The stored object has content properties first, then state, each as Graph ordered them."""
    stored = json.loads(message_plaintext(shuffled(content, state, data)).data)
    assert list(stored) == [*content, *state]


@given(CONTENT, STATE, STATE)
def test_a_state_change_leaves_the_fingerprint(
    content: dict[str, Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Read state, flag, categories, folder and change keys are not what makes a message."""
    one, other = message_plaintext(content | before), message_plaintext(content | after)
    assert one.content == other.content
    assert one.content == message_plaintext(content).checksum[:32]


@given(CONTENT, CONTENT, STATE)
def test_a_content_change_changes_the_fingerprint(
    one: dict[str, Any], other: dict[str, Any], state: dict[str, Any]
) -> None:
    """Two messages of unlike content never look alike."""
    same = json.dumps(one) == json.dumps(other)
    prints = {message_plaintext(c | state).content for c in (one, other)}
    assert (len(prints) == 1) == same


@given(CONTENT, STATE)
def test_equal_messages_are_equal_bytes(content: dict[str, Any], state: dict[str, Any]) -> None:
    """The same resource gives the same object every time: that is what deduplicates."""
    resource = content | state
    again = json.loads(json.dumps(resource))
    assert message_plaintext(resource) == message_plaintext(again)


def test_a_lone_surrogate_is_kept_as_an_escape() -> None:
    r"""What UTF-8 cannot hold is stored as ``\ud83d``; the object stays valid JSON."""
    plaintext = message_plaintext({"subject": "broken \ud83d emoji"})
    assert b"\\ud83d" in plaintext.data
    assert plaintext.data.isascii()
    assert json.loads(plaintext.data) == {"subject": "broken \ud83d emoji"}


def test_ordinary_mail_is_stored_as_utf8() -> None:
    """Text in any script is stored as itself, without escapes."""
    assert message_plaintext({"subject": "Größe 会议"}).data == '{"subject":"Größe 会议"}'.encode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":"raw \x01 control\x0b"}', {"a": "raw \x01 control\x0b"}),
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a":"\xed\xa0\xbd"}', {"a": "\ud83d"}),
        (b'{"a":"tab\there"}', {"a": "tab\there"}),
        (b"  [1, 2.5, null, true]\n", [1, 2.5, None, True]),
    ],
)
def test_what_real_mail_sends_is_read(text: bytes, value: object) -> None:
    """Raw control characters and lone surrogates do not make an answer unreadable."""
    assert load_json(text) == value


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":}', b"<html>", b"\xff\xfe", b'{"a":1}x'])
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    """Nothing else is guessed at."""
    with pytest.raises(ValueError):
        load_json(text)


@given(st.binary(max_size=60))
def test_any_bytes_either_parse_or_are_a_value_error(data: bytes) -> None:
    """Parsing never fails in another way."""
    try:
        load_json(data)
    except ValueError:
        return


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_a_value_error(opening: bytes) -> None:
    """JSON nested deeper than any parser goes is refused like other bad JSON."""
    with pytest.raises(ValueError):
        load_json(opening * 200_000)


@given(VALUES)
def test_json_that_was_dumped_is_read_back(value: object) -> None:
    """``dump_json`` and ``load_json`` are inverse for all that JSON can hold."""
    assert load_json(dump_json(value)) == value
