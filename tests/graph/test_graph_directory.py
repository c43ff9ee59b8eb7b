"""Discovery: every user is a candidate."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_async.errors import ConsentError, GraphNotFound
from atlas_async.model.source import Principal
from tests.fakes.graph_server import GraphServer, fault, reply, tenant_of


def user(key: str, **more: Any) -> dict[str, Any]:
    """Return a raw user."""
    return {
        "id": key,
        "userPrincipalName": f"{key}@Example.test",
        "mail": None,
        "displayName": key,
        "userType": "Member",
        "accountEnabled": True,
        **more,
    }


async def test_every_user_is_a_candidate() -> None:
    """Disabled accounts and guests are yielded over all pages; addresses are lower case."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        first = {
            "value": [user("a", mail="Ada@Example.test"), user("room", accountEnabled=False)],
            "@odata.nextLink": f"{server.url}/v1.0/users?$skiptoken=x",
        }
        guest = user("g", userType="Guest", userPrincipalName="g_x.test#EXT#@example.test")
        server.on("/users", reply(first))
        server.on("/users?$skiptoken=x", reply({"value": [guest, user("n", userType=None)]}))
        found = [principal async for principal in tenant.discover()]

    assert found == [
        Principal("a", "ada@example.test", "a", "Member", account_enabled=True),
        Principal("room", "room@example.test", "room", "Member", account_enabled=False),
        Principal("g", "g_x.test#ext#@example.test", "g", "Guest", account_enabled=True),
        Principal("n", "n@example.test", "n", "", account_enabled=True),
    ]
    assert dict(server.seen[0].query) == {
        "$select": "id,userPrincipalName,mail,displayName,userType,accountEnabled",
        "$top": "999",
    }


async def test_a_missing_directory_permission_is_named() -> None:
    """Discovery needs User.Read.All, and says so."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on("/users", fault(403, "Authorization_RequestDenied"))
        with pytest.raises(ConsentError) as raised:
            _ = [principal async for principal in tenant.discover()]

    assert "User.Read.All" in raised.value.hint


async def test_throttling_of_the_directory_has_its_own_scope() -> None:
    """The wait is told as the tenant's."""
    told: list[tuple[str, float, str]] = []
    async with (
        GraphServer() as server,
        tenant_of(server, on_throttle=lambda *wait: told.append(wait)) as tenant,
    ):
        server.on(
            "/users",
            fault(429, "TooManyRequests", headers={"Retry-After": "5"}),
            reply({"value": []}),
        )
        assert [principal async for principal in tenant.discover()] == []

    assert told == [("", 5.0, "tenant")]


async def test_a_user_is_found_by_name_or_by_mail() -> None:
    """An object id or principal name is asked for directly, a mail address by a filter."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on("/users/a%23b%40example.test", reply(user("a")))
        server.on("/users", reply({"value": [user("o", mail="o'neil@example.test")]}))

        assert (await tenant.principal(" a#b@example.test ")).user_id == "a"
        assert (await tenant.principal("o'neil@example.test")).user_id == "o"
        assert server.seen[-1].query["$filter"] == "mail eq 'o''neil@example.test'"


async def test_an_unknown_user_is_not_found() -> None:
    """The hint says what to check."""
    async with GraphServer() as server, tenant_of(server) as tenant:
        server.on("/users/nobody", fault(404, "Request_ResourceNotFound"))
        server.on("/users", reply({"value": []}))
        with pytest.raises(GraphNotFound) as raised:
            await tenant.principal("nobody")

    assert "spelling" in raised.value.hint
