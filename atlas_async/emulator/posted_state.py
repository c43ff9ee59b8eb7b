"""What a client may set of a message, and what Graph refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.properties import MULTI, SINGLE
from atlas_async.emulator.query import MESSAGE_ON_REQUEST, MESSAGE_PROPERTIES

_WRITABLE: Final = frozenset(
    {
        "subject",
        "body",
        "toRecipients",
        "ccRecipients",
        "bccRecipients",
        "replyTo",
        "from",
        "sender",
        "importance",
        "isRead",
        "flag",
        "categories",
        "internetMessageId",
        "inferenceClassification",
        "isDeliveryReceiptRequested",
        "isReadReceiptRequested",
    }
)
DRAFT_ONLY: Final = frozenset(
    {
        "subject",
        "body",
        "toRecipients",
        "ccRecipients",
        "bccRecipients",
        "replyTo",
        "from",
        "sender",
        "internetMessageId",
    }
)
"""Properties that Microsoft marks as updatable only while ``isDraft`` is true."""
_RECIPIENT_LISTS: Final = ("toRecipients", "ccRecipients", "bccRecipients", "replyTo")
_WORDS: Final = {
    "importance": frozenset({"low", "normal", "high"}),
    "inferenceClassification": frozenset({"focused", "other"}),
}
_FLAG_STATES: Final = frozenset({"notFlagged", "complete", "flagged"})
_FLAG_TIMES: Final = ("dueDateTime", "startDateTime", "completedDateTime")
_MOST_HEADERS: Final = 5


def writable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that a client may set; read-only ones are ignored.

    Raises ``Refusal`` (400) for recipients that are no addresses and for malformed bodies.
    """
    written = {name: value for name, value in values.items() if name in _WRITABLE}
    for name in _RECIPIENT_LISTS:
        for recipient in written.get(name) or ():
            _check_recipient(recipient)
    for name, allowed in _WORDS.items():
        if name in written:
            written[name] = str(written[name]).lower()
            if written[name] not in allowed:
                raise Refusal(400, "RequestBodyRead", f"'{name}' has a value that is not known.")
    if written.get("flag") is not None:
        written["flag"] = _flag(written["flag"])
    body = written.get("body")
    if body is not None:
        if not isinstance(body, dict):
            raise Refusal(400, "RequestBodyRead", "The property 'body' must be an object.")
        kind = str(body.get("contentType", "text")).lower()
        content = str(body.get("content") or "")
        written["body"] = {"contentType": kind, "content": content}
        written["bodyPreview"] = content[:255]
    return written


def check_names(values: dict[str, Any]) -> None:
    """Raise ``Refusal`` (400) when a message has no property of such a name."""
    known = {*MESSAGE_PROPERTIES, *MESSAGE_ON_REQUEST, "id", "attachments", SINGLE, MULTI}
    known.add("extensions")
    for name in values:
        if name not in known and "@" not in name:
            raise Refusal(
                400,
                "RequestBodyRead",
                f"The property '{name}' does not exist on type 'microsoft.graph.message'. Make "
                "sure to only use property names that are defined by the type.",
            )


def checked_headers(headers: Any) -> list[dict[str, Any]]:
    """Return the headers of a request. Raises ``Refusal`` (400) for all but five with x- names."""
    if not isinstance(headers, list):
        raise Refusal(400, "RequestBodyRead", "internetMessageHeaders must be a list.")
    if len(headers) > _MOST_HEADERS:
        raise Refusal(
            400,
            "InvalidInternetMessageHeaderCollection",
            f"Maximum number of headers in one message should be less than or equal to "
            f"{_MOST_HEADERS}.",
        )
    for header in headers:
        name = str(header.get("name", ""))
        if not name.lower().startswith("x-"):
            raise Refusal(
                400,
                "InvalidInternetMessageHeader",
                f"The internet message header name '{name}' should start with 'x-' or 'X-'.",
            )
    return headers


def _check_recipient(recipient: Any) -> None:
    address = ""
    if isinstance(recipient, dict):
        address = str((recipient.get("emailAddress") or {}).get("address") or "")
    if "@" not in address and not address.lower().startswith("/o="):
        raise Refusal(
            400,
            "ErrorInvalidRecipients",
            f"At least one recipient isn't valid., Recipient '{address}' isn't resolved.",
        )


def _flag(flag: Any) -> dict[str, Any]:
    """Return a flag as it is stored. Raises ``Refusal`` (400)."""
    if not isinstance(flag, dict) or flag.get("flagStatus", "notFlagged") not in _FLAG_STATES:
        raise Refusal(400, "RequestBodyRead", "The flag is not one that Outlook knows.")
    if flag.get("dueDateTime") and not flag.get("startDateTime"):
        raise Refusal(
            400, "ErrorInvalidProperty", "A due date needs a start date: set startDateTime as well."
        )
    kept: dict[str, Any] = {"flagStatus": flag.get("flagStatus", "notFlagged")}
    for name in _FLAG_TIMES:
        if flag.get(name):
            kept[name] = _zoned(flag[name])
    return kept


def _zoned(value: Any) -> dict[str, str]:
    """Return a dateTimeTimeZone as it is stored; Graph would answer zones other than UTC in UTC."""
    try:
        moment = datetime.fromisoformat(str(value["dateTime"]))
    except (ValueError, TypeError, KeyError) as error:
        raise Refusal(400, "ErrorInvalidProperty", "A date of the flag is no date.") from error
    zone = str(value.get("timeZone") or "UTC")
    if moment.tzinfo is not None:
        moment, zone = moment.astimezone(UTC), "UTC"
    return {"dateTime": f"{moment:%Y-%m-%dT%H:%M:%S}.0000000", "timeZone": zone}
