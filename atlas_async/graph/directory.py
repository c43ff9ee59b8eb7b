"""Who there is in the tenant. Whether somebody has a mailbox, only the mailbox itself can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from atlas_async.errors import GraphNotFound
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

        Raises:
            ConsentError: User.Read.All is missing.
            GraphError: See the subclasses.
        """
        url = self._client.root.url("users", query={"$select": _PROPERTIES, "$top": "999"})
        trail = LinkTrail()
        while True:
            page = read_page((await self._fetch(url)), _WHERE)
            trail.follow(url, page, _WHERE)
            for user in page.items:
                yield _principal(user)
            if page.next_link is None:
                return
            url = self._client.root.adopt(page.next_link)

    async def find(self, name: str) -> Principal:
        """Return the user with this object id, user principal name or mail address.

        Raises:
            GraphNotFound: There is none.
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
        raise GraphNotFound(
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


def _principal(user: JsonObject) -> Principal:
    enabled = user.get("accountEnabled")
    return Principal(
        user_id=user["id"],
        address=str(user.get("mail") or user.get("userPrincipalName") or user["id"]).lower(),
        display_name=str(user.get("displayName") or ""),
        user_type=str(user.get("userType") or ""),
        account_enabled=enabled if isinstance(enabled, bool) else None,
    )
