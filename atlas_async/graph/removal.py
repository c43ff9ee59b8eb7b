"""Deleting from a mailbox so that nothing is lost by it: each thing once, folders only when empty.

What is deleted a second time is purged: a message that lies among the recoverable items, a folder
that lies below Deleted Items. So an answer that was lost is followed by a look, not by another
DELETE.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from atlas_async.errors import GraphNotFound
from atlas_async.graph.client import WRITES, Call, Content, GraphClient
from atlas_async.graph.lane import Lane
from atlas_async.model.message import dump_json
from atlas_async.model.source import JsonObject

DELETIONS: Final = "recoverableitemsdeletions"
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class _FolderState:
    """Where a folder is, and whether it holds messages or folders."""

    parent_id: str
    holds: bool


class Remover:
    """Deletes messages and folders of one mailbox.

    Args:
        client: Sends the requests.
        lane: The mailbox's limits and counters.
        user_id: Directory object id of its owner.
    """

    def __init__(self, client: GraphClient, lane: Lane, user_id: str) -> None:
        self._client = client
        self._lane = lane
        self._user_id = user_id
        self._deletions = ""

    async def folder_of(self, object_id: str) -> str | None:
        """Return the id of the folder a message is in, deleted or not; None when it is gone.

        Raises:
            GraphError: It cannot be asked for.
        """
        found = await self._fetch("messages", object_id, select="id,parentFolderId")
        return None if found is None else str(found.get("parentFolderId") or "")

    async def delete_message(self, object_id: str) -> bool:
        """Delete a message; False when it is not there any more.

        Raises:
            GraphError: It is refused.
        """

        async def confirm() -> JsonObject | None:
            # Deleted a second time, it could not be recovered any more.
            folder_id = await self.folder_of(object_id)
            return {} if folder_id in {None, await self._deletions_id()} else None

        return await self._delete("messages", object_id, confirm)

    async def delete_folder(self, folder_id: str) -> bool:
        """Delete a folder that holds nothing; False when it holds anything.

        Deleted once, a folder lies below Deleted Items, with whatever came into it meanwhile;
        deleted again, it is gone with all of that. So it is looked at before each of the two, and
        moved back where it holds something by then.

        Raises:
            GraphConflict: It cannot be moved back: another one has its name by now. It is left
                below Deleted Items.
            GraphError: It is refused.
        """
        before = await self._state(folder_id)
        if before is None:
            return True
        if before.holds or not await self._delete_empty(folder_id, before.parent_id):
            return False
        after = await self._state(folder_id)
        if after is None:
            return True
        if not after.holds and await self._delete_empty(folder_id, after.parent_id):
            return True
        move = Call(
            self._url("mailFolders", folder_id, "move"),
            self._where("mailFolders", folder_id),
            content=Content(dump_json({"destinationId": before.parent_id}), _JSON),
            success=WRITES,
        )
        await self._client.change(self._lane, move)
        return False

    async def _delete_empty(self, folder_id: str, parent_id: str) -> bool:
        """Delete a folder once; False when an answer was lost and it holds something by now."""
        holds = False

        async def confirm() -> JsonObject | None:
            nonlocal holds
            now = await self._state(folder_id)
            if now is None or now.parent_id != parent_id:
                return {}
            holds = now.holds
            return {} if holds else None

        await self._delete("mailFolders", folder_id, confirm)
        return not holds

    async def _state(self, folder_id: str) -> _FolderState | None:
        """Return where a folder is and whether it holds anything; None when it is gone."""
        select = "id,parentFolderId,totalItemCount,childFolderCount"
        found = await self._fetch("mailFolders", folder_id, select=select)
        if found is None:
            return None
        holds = bool(found.get("totalItemCount") or found.get("childFolderCount"))
        return _FolderState(str(found.get("parentFolderId") or ""), holds)

    async def _deletions_id(self) -> str:
        """Return the id of the folder of messages that can be recovered; empty for none."""
        if not self._deletions:
            found = await self._fetch("mailFolders", DELETIONS, select="id")
            self._deletions = str((found or {}).get("id") or "")
        return self._deletions

    async def _fetch(self, kind: str, name: str, *, select: str) -> JsonObject | None:
        url = self._url(kind, name, query={"$select": select})
        try:
            answer = await self._client.fetch(self._lane, Call(url, self._where(kind, name)))
        except GraphNotFound:
            return None
        return answer.document

    async def _delete(
        self, kind: str, object_id: str, confirm: Callable[[], Awaitable[JsonObject | None]]
    ) -> bool:
        call = Call(
            self._url(kind, object_id),
            self._where(kind, object_id),
            method="DELETE",
            success=WRITES,
            confirm=confirm,
        )
        try:
            await self._client.change(self._lane, call)
        except GraphNotFound:
            return False
        return True

    def _url(self, *segments: str, query: dict[str, str] | None = None) -> str:
        return self._client.root.url("users", self._user_id, *segments, query=query)

    def _where(self, kind: str, name: str) -> str:
        what = "message" if kind == "messages" else "folder"
        return f"mailbox {self._lane.name}, {what} {name}"
