"""One mailbox of Microsoft 365, read through Graph: the adapter behind ``MailboxSource``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from atlas_async.errors import GraphNotFound
from atlas_async.graph.attachments import AttachmentReader
from atlas_async.graph.client import Call, GraphClient
from atlas_async.graph.content import ContentBytes
from atlas_async.graph.folders import FolderReader
from atlas_async.graph.lane import Lane
from atlas_async.graph.paging import LinkTrail, PageSizer, read_page
from atlas_async.graph.transport import Lease
from atlas_async.model.source import (
    EnumerationMode,
    FolderChanges,
    FolderListing,
    JsonObject,
    MessagePage,
    Principal,
    Usage,
)

MESSAGE_PROPERTIES: Final = (
    "id",
    "subject",
    "body",
    "bodyPreview",
    "from",
    "sender",
    "toRecipients",
    "ccRecipients",
    "bccRecipients",
    "replyTo",
    "receivedDateTime",
    "sentDateTime",
    "createdDateTime",
    "lastModifiedDateTime",
    "parentFolderId",
    "importance",
    "isRead",
    "isDraft",
    "hasAttachments",
    "internetMessageId",
    "conversationId",
    "flag",
    "categories",
)
"""What is selected of a message. Transport headers are not: they would double a page."""
ID_PAGE: Final = 1000

_SELECT: Final = ",".join(MESSAGE_PROPERTIES)


class GraphMailbox:
    """Reads one mailbox; every method keeps to the mailbox's limits and tries again by itself.

    Made by ``GraphTenant.mailbox``. It remembers per folder how large a page may be, and which
    links a round has met.

    Args:
        client: Sends the requests.
        lane: The mailbox's limits and counters.
        principal: Whose mailbox it is.
    """

    def __init__(self, client: GraphClient, lane: Lane, principal: Principal) -> None:
        self._client = client
        self._lane = lane
        self._principal = principal
        self._folders = FolderReader(client, lane, principal.user_id)
        self._attachments = AttachmentReader(client, lane, principal.user_id)
        self._sizers: dict[str, PageSizer] = {}
        self._trails: dict[tuple[str, EnumerationMode], LinkTrail] = {}

    @property
    def mailbox_id(self) -> str:
        """The lower-cased address, as used in storage keys."""
        return self._principal.address

    @property
    def usage(self) -> Usage:
        """What this mailbox has cost so far."""
        return self._lane.usage

    async def list_folders(self, *, recoverable: bool) -> FolderListing:
        """Return the whole tree; see ``MailboxSource.list_folders``.

        Raises:
            NoMailbox: The principal has none that Graph can read.
            ConsentError: Mail.Read is missing, or this mailbox is out of its scope.
            GraphError: See the other subclasses.
        """
        return await self._folders.listing(recoverable=recoverable)

    async def folder_changes(self, link: str | None) -> FolderChanges:
        """Run one whole round of the folder delta; see ``MailboxSource.folder_changes``.

        Raises:
            SyncStateGone: The link is no longer honoured.
            GraphError: See the other subclasses.
        """
        return await self._folders.changes(link)

    async def message_page(
        self,
        folder_id: str,
        *,
        mode: EnumerationMode,
        link: str | None,
        page_size: int,
        lease: Lease,
    ) -> MessagePage:
        """Fetch one page; see ``MailboxSource.message_page``.

        A delta page may come with neither link; then the round ended without saying how to go on.

        Raises:
            SyncStateGone: The link is no longer honoured.
            MailboxOverQuota: Delta is refused; ``LISTING`` works.
            GraphNotFound: The folder is gone.
            GraphProtocolError: Broken JSON, a circle of links, a link to another host.
            GraphError: See the other subclasses.
        """
        sizer = self._sizers.setdefault(folder_id, PageSizer())
        trail = self._trails.setdefault((folder_id, mode), LinkTrail())

        def size() -> int:
            return sizer.size(page_size)

        if link is None:
            trail.restart()
        adopted = None if link is None else self._client.root.adopt(link)
        where = f"mailbox {self.mailbox_id}, folder {folder_id}"
        call = Call(
            lambda: adopted or self._first_page(folder_id, mode, size()),
            where,
            page_size=size,
            shrink=sizer.shrink,
        )
        answer = await self._client.fetch(self._lane, call, lease=lease)
        page = read_page(answer.document, where)
        sizer.settle(len(page.items), answer.size)
        trail.follow(link or "", page, where)
        return MessagePage(
            items=page.items,
            removed=page.removed,
            next_link=page.next_link,
            delta_link=page.delta_link,
            size_bytes=answer.size,
        )

    async def message_ids(self, folder_id: str) -> AsyncIterator[list[str]]:
        """Yield the ids of all messages now in the folder, 1,000 at a time, without content.

        Raises:
            GraphNotFound: The folder is gone.
            GraphError: See the other subclasses.
        """
        where = f"mailbox {self.mailbox_id}, folder {folder_id}"
        url = self._url(
            "mailFolders", folder_id, "messages", query={"$select": "id", "$top": str(ID_PAGE)}
        )
        sizer, trail = PageSizer(), LinkTrail()
        while True:
            call = Call(url, where, page_size=lambda: sizer.size(ID_PAGE), shrink=sizer.shrink)
            page = read_page((await self._client.fetch(self._lane, call)).document, where)
            trail.follow(url, page, where)
            yield [item["id"] for item in page.items]
            if page.next_link is None:
                return
            url = self._client.root.adopt(page.next_link)

    async def get_message(self, message_id: str, *, lease: Lease) -> JsonObject:
        """Return one message with the same properties as a page gives.

        Raises:
            GraphNotFound: It is gone.
            GraphItemError: It cannot be read, now or later.
            GraphError: See the other subclasses.
        """
        return await self._message(message_id, _SELECT, lease)

    async def locate_message(self, message_id: str) -> str | None:
        """Return the id of the folder that holds the message now, or None when it is gone.

        An empty string means that it is there and Graph does not say where.

        Raises:
            GraphError: See the subclasses.
        """
        try:
            message = await self._message(message_id, "id,parentFolderId")
        except GraphNotFound:
            return None
        folder = message.get("parentFolderId")
        return folder if isinstance(folder, str) else ""

    async def list_attachments(
        self, message_id: str, *, inline_limit: int, lease: Lease
    ) -> list[JsonObject]:
        """Return the attachments of a message; see ``MailboxSource.list_attachments``.

        Raises:
            GraphNotFound: The message is gone.
            GraphError: See the other subclasses.
        """
        return await self._attachments.listing(message_id, inline_limit=inline_limit, lease=lease)

    def open_attachment(
        self, message_id: str, attachment_id: str
    ) -> AbstractAsyncContextManager[ContentBytes]:
        """Open the content of an attachment; see ``MailboxSource.open_attachment``.

        It holds one of the mailbox's places in flight until the block ends.

        Raises:
            GraphItemError: It has no content, or Graph cannot produce it.
            GraphNotFound: Message or attachment are gone.
            GraphError: See the other subclasses.
        """
        return self._attachments.open(message_id, attachment_id)

    @asynccontextmanager
    async def open_mime(self, message_id: str) -> AsyncIterator[ContentBytes]:
        """Open a message's MIME; see ``MailboxSource.open_mime``.

        It holds one of the mailbox's places in flight until the block ends.

        Raises:
            GraphItemError: Graph cannot write this message as MIME, now or later.
            GraphNotFound: It is gone.
            GraphError: See the other subclasses.
        """
        url = self._url("messages", message_id, "$value", query={})
        call = Call(url, f"mailbox {self.mailbox_id}, message {message_id}", encoding="identity")
        async with self._client.stream(self._lane, call) as response:
            yield ContentBytes(response, self._lane, call.where)

    async def _message(
        self, message_id: str, select: str, lease: Lease | None = None
    ) -> JsonObject:
        url = self._url("messages", message_id, query={"$select": select})
        call = Call(url, f"mailbox {self.mailbox_id}, message {message_id}")
        return (await self._client.fetch(self._lane, call, lease=lease)).document

    def _first_page(self, folder_id: str, mode: EnumerationMode, size: int) -> str:
        path = ("mailFolders", folder_id, "messages")
        if mode is EnumerationMode.LISTING:
            return self._url(*path, query={"$select": _SELECT, "$top": str(size)})
        # $top would cap the whole round here; the page size travels in a header.
        return self._url(*path, "delta", query={"$select": _SELECT})

    def _url(self, *segments: str, query: dict[str, str]) -> str:
        return self._client.root.url("users", self._principal.user_id, *segments, query=query)
