"""Answers about the directory: users and the mailbox settings that tell what a mailbox is for."""

from __future__ import annotations

import re
from typing import Any, Final

from atlas_async.emulator.calls import Call, Refusal, Reply
from atlas_async.emulator.filters import matches, parse_filter
from atlas_async.emulator.people import DEFAULT_PROPERTIES
from atlas_async.emulator.query import number_of
from atlas_async.emulator.world import World

_DEFAULT_TOP: Final = 100
_LARGEST_TOP: Final = 999
_PAGE_MARK: Final = "RFNwdAIAAQ"
_PAGE_TOKEN: Final = re.compile(_PAGE_MARK + "([0-9a-f]{8})")


async def list_users(world: World, call: Call, _ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users``."""
    top = number_of(call.query, "$top") or _DEFAULT_TOP
    if not 1 <= top <= _LARGEST_TOP:
        raise Refusal(
            400, "Request_UnsupportedQuery", "Invalid page size specified: it must be 1 to 999."
        )
    chosen = _chosen(call)
    wanted = parse_filter(call.query["$filter"]) if "$filter" in call.query else None
    people = world.corpus.people
    resources = [person.resource() for person in people]
    if wanted is not None:
        resources = [resource for resource in resources if matches(wanted, resource)]
    start = _skipped(call.query.get("$skiptoken", ""))
    page = resources[start : start + top]
    body: dict[str, Any] = {"@odata.context": world.context(_context(call))}
    if call.query.get("$count", "").lower() == "true":
        if call.headers.get("ConsistencyLevel", "").lower() != "eventual":
            raise Refusal(
                400,
                "Request_UnsupportedQuery",
                "$count is not currently supported without the ConsistencyLevel header.",
            )
        body["@odata.count"] = len(resources)
    if start + top < len(resources):
        options = {k: v for k, v in call.query.items() if k != "$skiptoken"}
        options["$skiptoken"] = f"{_PAGE_MARK}{start + top:08x}"
        body["@odata.nextLink"] = world.link("users", options)
    body["value"] = [{name: r[name] for name in chosen} for r in page]
    return Reply.json(body)


async def get_user(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id or upn}``."""
    person = world.person(ids[0])
    if person is None:
        raise Refusal(
            404,
            "Request_ResourceNotFound",
            f"Resource '{ids[0]}' does not exist or one of its queried reference-property "
            "objects are not present.",
        )
    resource = person.resource()
    body = {"@odata.context": world.context(f"{_context(call)}/$entity")}
    return Reply.json(body | {name: resource[name] for name in _chosen(call)})


async def get_mailbox_settings(world: World, call: Call, ids: tuple[str, ...]) -> Reply:
    """Answer ``GET /users/{id}/mailboxSettings``."""
    mailbox = world.mailbox(ids[0])
    values: dict[str, Any] = {
        "archiveFolder": mailbox.ids.folder(mailbox.folder("archive").number),
        "timeZone": "UTC",
        "delegateMeetingMessageDeliveryOptions": "sendToDelegateOnly",
        "dateFormat": "yyyy-MM-dd",
        "timeFormat": "HH:mm",
        "userPurpose": mailbox.person.kind.value,
    }
    select = call.query.get("$select")
    if select:
        values = {name: values[name] for name in select.split(",") if name in values}
    user = f"users('{mailbox.person.id}')/mailboxSettings"
    return Reply.json({"@odata.context": world.context(user), **values})


def _context(call: Call) -> str:
    select = call.query.get("$select", "")
    return f"users({select})" if select else "users"


def _chosen(call: Call) -> tuple[str, ...]:
    select = call.query.get("$select")
    if not select:
        return DEFAULT_PROPERTIES
    known = {
        name.lower(): name
        for name in (
            *DEFAULT_PROPERTIES,
            "accountEnabled",
            "userType",
            "createdDateTime",
            "onPremisesSyncEnabled",
            "assignedPlans",
        )
    }
    chosen = []
    for item in select.split(","):
        name = known.get(item.strip().lower())
        if name is None:
            raise Refusal(
                400,
                "BadRequest",
                f"Could not find a property named '{item.strip()}' on type 'microsoft.graph.user'.",
            )
        chosen.append(name)
    return tuple(dict.fromkeys([*chosen, "id"]))


def _skipped(token: str) -> int:
    if not token:
        return 0
    match = _PAGE_TOKEN.fullmatch(token)
    if match is None:
        raise Refusal(400, "Directory_ExpiredPageToken", "The specified page token is invalid.")
    return int(match[1], 16)
