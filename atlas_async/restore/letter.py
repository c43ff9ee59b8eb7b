"""From a stored message to the JSON that creates it anew. Pure; nothing is read or sent.

Graph makes a draft of whatever is created, unless the message flags say that it was sent (MAPI's
PidTagMessageFlags, MS-OXCMSG 2.2.1.6); times can be given as MAPI properties only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from atlas_async.model.restoring import MARK_PROPERTY
from atlas_async.model.source import JsonObject

COPIED: Final = ("subject", "body", "importance", "isRead", "categories", "internetMessageId")
RECIPIENTS: Final = ("toRecipients", "ccRecipients", "bccRecipients", "replyTo")
FLAGS: Final = "Integer 0x0E07"
"""PidTagMessageFlags: 1 is read; without 8 (unsent) the message is no draft."""
DELIVERED: Final = "SystemTime 0x0E06"
"""PidTagMessageDeliveryTime, shown as receivedDateTime."""
SUBMITTED: Final = "SystemTime 0x0039"
"""PidTagClientSubmitTime, shown as sentDateTime."""
TRANSPORT_HEADERS: Final = "String 0x007D"
"""PidTagTransportMessageHeaders, shown as internetMessageHeaders."""
RECEIPTS: Final = {"isReadReceiptRequested": "read", "isDeliveryReceiptRequested": "delivery"}
LONGEST_HEADERS: Final = 60_000
"""Characters of headers that are sent along; more would not add to what a person looks for."""
KEPT_CONTROLS: Final = frozenset("\t\n\r")


@dataclass(slots=True)
class Letter:
    """A message ready to be created. ``adjusted`` says what is not as it was."""

    body: JsonObject
    adjusted: list[str] = field(default_factory=list)


def letter_of(resource: JsonObject, *, mark: str, headers: str = "") -> Letter:
    """Return what creates the message of a snapshot.

    Args:
        resource: The message as of the snapshot.
        mark: What restore it belongs to.
        headers: Its original header block, where that is stored.
    """
    letter = Letter({name: resource[name] for name in COPIED if resource.get(name) is not None})
    for name in ("from", "sender"):
        holder = resource.get(name)
        if _address_of(holder):
            letter.body[name] = holder
        elif holder:
            letter.adjusted.append(f"{name} has no address: left out")
    for name in RECIPIENTS:
        _add_recipients(letter, resource, name)
    flag = resource.get("flag")
    if isinstance(flag, dict) and flag.get("flagStatus"):
        letter.body["flag"] = {k: v for k, v in flag.items() if not k.startswith("@")}
    letter.adjusted += _left_out(resource)
    letter.body["singleValueExtendedProperties"] = list(_properties(resource, mark, headers))
    return letter


def plainer(letter: Letter) -> Letter:
    """Return a letter that a server takes which refused ``letter``, as far as one can tell.

    Control characters and halves of surrogate pairs go, and of the flag its dates.
    """
    adjusted = list(letter.adjusted)
    cleaned, changed = _cleaned(letter.body)
    body: JsonObject = cleaned
    if changed:
        adjusted.append("control characters were taken out")
    flag = body.get("flag")
    if isinstance(flag, dict) and set(flag) != {"flagStatus"}:
        body = {**body, "flag": {"flagStatus": flag["flagStatus"]}}
        adjusted.append("the dates of the flag were left out")
    return Letter(body, adjusted)


def _properties(resource: JsonObject, mark: str, headers: str) -> list[dict[str, str]]:
    found = [{"id": MARK_PROPERTY, "value": mark}]
    if not resource.get("isDraft"):
        found.append({"id": FLAGS, "value": "1" if resource.get("isRead") else "0"})
        for name, prop in (("receivedDateTime", DELIVERED), ("sentDateTime", SUBMITTED)):
            moment = resource.get(name)
            if isinstance(moment, str) and moment:
                found.append({"id": prop, "value": moment})
    if headers:
        found.append({"id": TRANSPORT_HEADERS, "value": headers[:LONGEST_HEADERS]})
    return found


def _add_recipients(letter: Letter, resource: JsonObject, name: str) -> None:
    given = resource.get(name)
    if not isinstance(given, list) or not given:
        return
    kept = [item for item in given if _address_of(item)]
    if kept:
        letter.body[name] = kept
    for item in given:
        if not _address_of(item):
            letter.adjusted.append(f"{name}: {_shown(item)!r} is no address: left out")


def _left_out(resource: JsonObject) -> list[str]:
    """Say what a message had that creating it anew does not give it."""
    told = []
    kind = str(resource.get("@odata.type") or "").rpartition(".")[2].lower()
    if kind.startswith("eventmessage") or resource.get("meetingMessageType"):
        told.append("it belongs to a meeting: a plain message now, that can be read and no more")
    for name, receipt in RECEIPTS.items():
        if resource.get(name) is True:
            # Set on a received message, it would have Exchange send one when that is read anew.
            told.append(f"the request for a {receipt} receipt was left out")
    if str(resource.get("inferenceClassification") or "").lower() == "other":
        told.append("it was in 'Other', not in the focused inbox: Exchange decides that anew")
    return told


def _address_of(holder: object) -> str:
    """Return the address that Graph would take, or an empty string.

    It takes SMTP addresses and the legacy names of Exchange, which begin with ``/o=``; anything
    else makes it refuse the whole message.
    """
    inner = holder.get("emailAddress") if isinstance(holder, dict) else None
    address = inner.get("address") if isinstance(inner, dict) else None
    if not isinstance(address, str):
        return ""
    local, at, domain = address.strip().rpartition("@")
    if at and local and domain and not any(c.isspace() for c in address.strip()):
        return address
    return address if address.lower().startswith("/o=") else ""


def _shown(holder: object) -> str:
    inner = holder.get("emailAddress") if isinstance(holder, dict) else None
    if not isinstance(inner, dict):
        return ""
    return str(inner.get("address") or inner.get("name") or "")[:80]


def _cleaned(value: Any) -> tuple[Any, bool]:
    """Return a value without characters that XML 1.0 cannot hold, and whether it had any."""
    if isinstance(value, str):
        text = "".join(c for c in value if c in KEPT_CONTROLS or _is_plain(c))
        return text, text != value
    if isinstance(value, list):
        pairs = [_cleaned(item) for item in value]
        return [item for item, _ in pairs], any(changed for _, changed in pairs)
    if isinstance(value, dict):
        named = {name: _cleaned(item) for name, item in value.items()}
        changed = any(changed for _, changed in named.values())
        return {name: item for name, (item, _) in named.items()}, changed
    return value, False


def _is_plain(character: str) -> bool:
    number = ord(character)
    return number >= 0x20 and not 0xD800 <= number <= 0xDFFF and number not in {0xFFFE, 0xFFFF}  # noqa: PLR2004 -- the bounds XML 1.0 gives
