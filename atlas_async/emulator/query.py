"""OData query options: reading ``$select``, ``$top`` and ``$expand``, refusing what is unknown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.properties import MULTI, SINGLE, property_id

_EXTENDED: Final = re.compile(r"id\s+eq\s+'((?:[^']|'')*)'", re.IGNORECASE)

MESSAGE_PROPERTIES: Final = (
    "createdDateTime",
    "lastModifiedDateTime",
    "changeKey",
    "categories",
    "receivedDateTime",
    "sentDateTime",
    "hasAttachments",
    "internetMessageId",
    "subject",
    "bodyPreview",
    "importance",
    "parentFolderId",
    "conversationId",
    "conversationIndex",
    "isDeliveryReceiptRequested",
    "isReadReceiptRequested",
    "isRead",
    "isDraft",
    "webLink",
    "inferenceClassification",
    "body",
    "sender",
    "from",
    "toRecipients",
    "ccRecipients",
    "bccRecipients",
    "replyTo",
    "flag",
)
MESSAGE_ON_REQUEST: Final = ("internetMessageHeaders", "uniqueBody")
FOLDER_PROPERTIES: Final = (
    "displayName",
    "parentFolderId",
    "childFolderCount",
    "unreadItemCount",
    "totalItemCount",
    "sizeInBytes",
    "isHidden",
)
ATTACHMENT_PROPERTIES: Final = ("lastModifiedDateTime", "name", "contentType", "size", "isInline")
FILE_PROPERTIES: Final = ("contentId", "contentLocation", "contentBytes")
_CAST: Final = "microsoft.graph.fileattachment/"
_ITEM: Final = "microsoft.graph.itemattachment/item"
_NAVIGATION: Final = frozenset(
    {"attachments", SINGLE.lower(), MULTI.lower(), "childfolders", _ITEM}
)


def parse_query(raw: str) -> dict[str, str]:
    """Return the options of a query string, names lower-cased, the last of equal names winning."""
    options: dict[str, str] = {}
    for item in raw.split("&"):
        name, _, value = item.partition("=")
        if name:
            options[unquote_plus(name).lower()] = unquote_plus(value)
    return options


def select_of(
    query: dict[str, str], known: tuple[str, ...], type_name: str
) -> tuple[str, ...] | None:
    """Return the selected properties, or None. Raises ``Refusal`` (400) for unknown ones."""
    raw = query.get("$select", "").strip()
    if not raw or raw == "*":
        return None
    spelled = {name.lower(): name for name in known}
    chosen: list[str] = []
    for item in raw.split(","):
        name = item.strip()
        if name.lower() == "id":
            continue
        if name.lower() not in spelled:
            raise _no_property(name, type_name)
        chosen.append(spelled[name.lower()])
    return tuple(dict.fromkeys(chosen))


def attachment_select(query: dict[str, str]) -> tuple[str, ...] | None:
    """Return the selected attachment properties.

    Properties of ``fileAttachment`` must be named with their cast, as the type of the collection
    does not have them. Raises ``Refusal`` (400) otherwise.
    """
    raw = query.get("$select", "").strip()
    if not raw:
        return None
    plain: list[str] = []
    for item in raw.split(","):
        name = item.strip()
        if name.lower().startswith(_CAST):
            bare = {p.lower(): p for p in FILE_PROPERTIES}.get(name.lower()[len(_CAST) :])
            if bare is None:
                raise _no_property(name.partition("/")[2], "microsoft.graph.fileAttachment")
            plain.append(bare)
        elif name.lower() != "id":
            spelled = {p.lower(): p for p in ATTACHMENT_PROPERTIES}
            if name.lower() not in spelled:
                raise _no_property(name, "microsoft.graph.attachment")
            plain.append(spelled[name.lower()])
    return tuple(plain)


def number_of(query: dict[str, str], name: str) -> int | None:
    """Return a whole number option, or None. Raises ``Refusal`` (400) for anything else."""
    raw = query.get(name)
    if raw is None:
        return None
    if not raw.isdecimal():
        raise Refusal(
            400,
            "BadRequest",
            f"Invalid value '{raw}' for {name} query option found. "
            f"The {name} query option requires a non-negative integer value.",
        )
    return int(raw)


@dataclass(frozen=True, slots=True)
class Expansion:
    """What ``$expand`` asked for: attachments, the item of an item attachment, named properties.

    ``extended`` and ``multiple`` are normal ids of single- and multi-value extended properties;
    without a filter that names them, Graph answers with none.
    """

    attachments: bool = False
    item: bool = False
    nested: bool = False
    extended: tuple[str, ...] = ()
    multiple: tuple[str, ...] = ()
    child_folders: bool = False

    @classmethod
    def of(cls, text: str) -> Expansion:
        """Return what the option's text asks for.

        Raises ``Refusal`` (400) for unknown navigation properties and malformed property ids.
        """
        found: dict[str, str] = {}
        for name in _top_level(text):
            bare, _, options = name.partition("(")
            if bare.lower() not in _NAVIGATION:
                raise _no_property(name, "microsoft.graph.message")
            found[bare.lower()] = options
        lowered = text.lower()
        return cls(
            attachments="attachments" in found,
            item=_ITEM in lowered,
            nested="microsoft.graph.message/attachments" in lowered,
            extended=_named(found.get(SINGLE.lower(), "")),
            multiple=_named(found.get(MULTI.lower(), "")),
            child_folders="childfolders" in found,
        )


def _named(options: str) -> tuple[str, ...]:
    return tuple(property_id(name.replace("''", "'")) for name in _EXTENDED.findall(options))


def _top_level(text: str) -> list[str]:
    names, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            names.append(text[start:at].strip())
            start = at + 1
    names.append(text[start:].strip())
    return [name for name in names if name]


def _no_property(name: str, type_name: str) -> Refusal:
    return Refusal(
        400,
        "RequestBroker--ParseUri",
        f"Could not find a property named '{name}' on type '{type_name}'.",
    )
