"""Who there is in the tenant. Whether somebody has a mailbox, only the mailbox itself can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Final

from atlas_async.errors import GraphNotFound, GraphProtocolError, UnknownUser
from atlas_async.graph.client import Call, GraphClient
from atlas_async.graph.lane import Lane
from atlas_async.graph.paging import LinkTrail, read_page
from atlas_async.model.source import JsonObject, Principal

_PROPERTIES: Final = "id,userPrincipalName,mail,displayName,userType,accountEnabled"
_WHERE: Final = "directory"


class Directory:
    """Reads users.

    Args:
        client: Sends the requests.
        lane: The directory's lane.
    """

    def __init__(self, client: GraphClient, lane: Lane) -> None:
        self._client = client
        self._lane = lane

    async def users(self) -> AsyncIterator[Principal]:
        """Yield every user: shared, room and equipment mailboxes have disabled, unlicensed ones.

        No two have one address, though nothing keeps a directory from giving a ``mail`` twice.

        Raises:
            ConsentError: User.Read.All is missing.
            GraphError: See the subclasses.
        """
        url = self._client.root.url("users", query={"$select": _PROPERTIES, "$top": "999"})
        trail = LinkTrail()
        found: dict[str, JsonObject] = {}
        while True:
            page = read_page((await self._fetch(url)), _WHERE)
            trail.follow(url, page, _WHERE)
            found.update((user["id"], user) for user in page.items)
            if page.next_link is None:
                break
            url = self._client.root.adopt(page.next_link)
        for principal in told_apart(found.values()):
            yield principal

    async def find(self, name: str) -> Principal:
        """Return the user with this object id, user principal name or mail address.

        Raises:
            UnknownUser: There is none.
            ConsentError: User.Read.All is missing.
            GraphError: See the other subclasses.
        """
        root = self._client.root
        try:
            url = root.url("users", name.strip(), query={"$select": _PROPERTIES})
            return _principal(await self._fetch(url))
        except GraphNotFound as error:
            unknown = error
        quoted = name.strip().replace("'", "''")
        query = {"$select": _PROPERTIES, "$filter": f"mail eq '{quoted}'"}
        page = read_page(await self._fetch(root.url("users", query=query)), _WHERE)
        if page.items:
            return _principal(page.items[0])
        raise UnknownUser(
            f"The directory has no user {name.strip()!r}",
            status=unknown.status,
            code=unknown.code,
            request_id=unknown.request_id,
            hint="Check the spelling and the tenant. A user deleted less than 30 days ago has to "
            "be restored before its mailbox can be read; group mailboxes cannot be read.",
            where=_WHERE,
        ) from unknown

    async def _fetch(self, url: str) -> JsonObject:
        return (await self._client.fetch(self._lane, Call(url, _WHERE))).document


def told_apart(users: Iterable[JsonObject]) -> list[Principal]:
    """Return users as principals with addresses of their own.

    An address stays with whom it signs in, then with a member, then with the lowest id, so that
    the same directory always gives the same. Others are known by their user principal name, which
    is nobody else's, or by their id.

    Raises:
        GraphProtocolError: A user has no id.
    """
    claims: dict[str, list[tuple[Principal, str]]] = {}
    for user in users:
        principal = _principal(user)
        name = str(user.get("userPrincipalName") or "").lower()
        claims.setdefault(principal.address, []).append((principal, name))
    result: list[Principal] = []
    for address, claimants in claims.items():
        claimants.sort(key=lambda c: (c[1] != address, c[0].user_type == "Guest", c[0].user_id))
        result.append(claimants[0][0])
        for principal, name in claimants[1:]:
            own = name if name and name not in claims else principal.user_id.lower()
            result.append(replace(principal, address=own))
    return result


def _principal(user: JsonObject) -> Principal:
    enabled = user.get("accountEnabled")
    user_id = user.get("id")
    if not isinstance(user_id, str) or not user_id:
        raise GraphProtocolError("A user without an id", where=_WHERE)
    return Principal(
        user_id=user_id,
        address=str(user.get("mail") or user.get("userPrincipalName") or user_id).lower(),
        display_name=str(user.get("displayName") or ""),
        user_type=str(user.get("userType") or ""),
        account_enabled=enabled if isinstance(enabled, bool) else None,
    )
