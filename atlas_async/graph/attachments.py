"""Attachments of a message: their list, with content where that is cheap, and their bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from atlas_async.errors import GraphError, GraphNotFound, GraphProtocolError, GraphTransient
from atlas_async.graph.client import Call, GraphClient
from atlas_async.graph.content import ContentBytes
from atlas_async.graph.lane import Lane
from atlas_async.graph.paging import LinkTrail, read_page
from atlas_async.graph.transport import AnswerTooLongError, Lease
from atlas_async.model.source import JsonObject

FILE: Final = "#microsoft.graph.fileAttachment"
_PROPERTIES: Final = "id,name,contentType,size,isInline,lastModifiedDateTime"
_WITH_CONTENT_ID: Final = f"{_PROPERTIES},microsoft.graph.fileAttachment/contentId"
"""``contentId`` belongs to file attachments only, so it is named through a cast."""
_HASTY_RETRIES: Final = 1
"""Further tries of the listing with content: the one without is the better answer to a time-out."""
_BAD_REQUEST: Final = 400


class AttachmentReader:
    """Reads the attachments of one mailbox's messages.

    Args:
        client: Sends the requests.
        lane: The mailbox's lane.
        user_id: Directory object id of its owner.
    """

    def __init__(self, client: GraphClient, lane: Lane, user_id: str) -> None:
        self._client = client
        self._lane = lane
        self._user_id = user_id

    async def listing(
        self, message_id: str, *, inline_limit: int, lease: Lease
    ) -> list[JsonObject]:
        """Return the attachments; see ``MailboxSource.list_attachments``.

        Raises:
            GraphNotFound: The message is gone.
            GraphError: See the other subclasses.
        """
        if not inline_limit:
            return await self._list_without_content(message_id, lease)
        try:
            call = replace(self._call(message_id), retries=_HASTY_RETRIES)
            return await self._collect(call, lease, inline_limit)
        except (AnswerTooLongError, GraphTransient, GraphProtocolError):
            # Too much content, for here or for the server in its time.
            return await self._list_without_content(message_id, lease)

    @asynccontextmanager
    async def open(self, message_id: str, attachment_id: str) -> AsyncIterator[ContentBytes]:
        """Open the content; see ``MailboxSource.open_attachment``.

        Raises:
            GraphItemError: It has no content, or Graph cannot produce it.
            GraphNotFound: Message or attachment are gone.
            GraphError: See the other subclasses.
        """
        call = self._call(message_id, attachment_id, "$value")
        async with self._client.stream(self._lane, replace(call, encoding="identity")) as response:
            yield ContentBytes(response, self._lane, call.where)

    async def _list_without_content(self, message_id: str, lease: Lease) -> list[JsonObject]:
        try:
            call = self._call(message_id, select=_WITH_CONTENT_ID)
            return await self._collect(call, lease)
        except GraphError as error:
            if error.status != _BAD_REQUEST:
                raise
        listed = await self._collect(self._call(message_id, select=_PROPERTIES), lease)
        return [await self._with_content_id(message_id, item) for item in listed]

    async def _with_content_id(self, message_id: str, item: JsonObject) -> JsonObject:
        if item.get("@odata.type") != FILE:
            return item
        call = self._call(message_id, item["id"], FILE.removeprefix("#"), select="id,contentId")
        try:
            told = (await self._client.fetch(self._lane, call)).document
        except GraphNotFound:
            # Gone since it was listed; reading its content will say so.
            return item
        except GraphError as error:
            if error.status != _BAD_REQUEST:
                raise
            return item
        return {**item, "contentId": told.get("contentId")}

    async def _collect(
        self, call: Call, lease: Lease, limit: int | None = None
    ) -> list[JsonObject]:
        items: list[JsonObject] = []
        trail = LinkTrail()
        held = Cumulative(lease)
        url = str(call.url)
        while True:
            left = None if limit is None else max(0, limit - held.settled)
            answer = await self._client.fetch(
                self._lane, replace(call, url=url), lease=held, limit=left
            )
            held.settled += answer.size
            page = read_page(answer.document, call.where)
            items.extend(page.items)
            trail.follow(url, page, call.where)
            if page.next_link is None:
                return items
            url = self._client.root.adopt(page.next_link)

    def _call(self, message_id: str, *further: str, select: str | None = None) -> Call:
        url = self._client.root.url(
            *("users", self._user_id, "messages", message_id, "attachments", *further),
            query={"$select": select} if select else None,
        )
        return Call(url, f"mailbox {self._lane.name}, message {message_id}")


class Cumulative:
    """A lease over several answers that are held at once."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self.settled = 0

    def try_grow_to(self, size: int) -> bool:
        """Hold ``size`` bytes beside those of the earlier answers, if possible at once."""
        return self._lease.try_grow_to(self.settled + size)

    async def grow_to(self, size: int) -> None:
        """Hold ``size`` bytes beside those of the earlier answers; may wait."""
        await self._lease.grow_to(self.settled + size)
