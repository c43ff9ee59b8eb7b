"""One mailbox of Microsoft 365, written to through Graph: what a restore needs of it.

Nothing is created twice: a create whose answer was lost is looked for by its mark before it is
sent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import anyio.to_thread

from atlas_async.clock import Clock
from atlas_async.errors import (
    GraphConflict,
    GraphError,
    GraphNotFound,
    GraphProtocolError,
    GraphTooLarge,
)
from atlas_async.graph.attachments import AttachmentReader
from atlas_async.graph.client import WRITES, Call, Content, GraphClient
from atlas_async.graph.content import ContentBytes
from atlas_async.graph.folders import FolderReader
from atlas_async.graph.lane import Lane
from atlas_async.graph.paging import LinkTrail, PageSizer, read_page
from atlas_async.graph.removal import Remover
from atlas_async.graph.uploads import (
    SESSIONS,
    OpenPieces,
    SessionLostError,
    Uploader,
    session_url,
)
from atlas_async.model.message import dump_json, is_message_id, message_identity
from atlas_async.model.restoring import MARK_PROPERTY, Present
from atlas_async.model.source import FolderListing, JsonObject, Principal, Usage

JSON: Final = {"Content-Type": "application/json"}
MIME: Final = {"Content-Type": "text/plain"}
CREATED: Final = frozenset({201})
"""A create that is answered otherwise, as too large MIME is with 200, has created nothing."""
PRESENT_PAGE: Final = 500
BACK_PAGE: Final = 50
BACK_BYTES: Final = 512 << 10
"""Bytes of a listing of attachments that may hold their content; larger ones are read alone."""
ATTACH_TRIES: Final = 6
ATTACH_PAUSE: Final = 0.75
"""Seconds before a message that was just created is looked for again, doubled each time."""
_KEY: Final = "internetMessageId,subject,sentDateTime,receivedDateTime,isDraft"
_COMPARED: Final = (
    "id,subject,body,from,sender,toRecipients,ccRecipients,bccRecipients,replyTo,receivedDateTime,"
    "sentDateTime,importance,isRead,isDraft,hasAttachments,internetMessageId,flag,categories"
)
_EXPAND_MARK: Final = f"singleValueExtendedProperties($filter=id eq '{MARK_PROPERTY}')"
_REFUSED: Final = frozenset({400, 405, 501})
"""Statuses of a query that a server does not know."""


class _NoLease:
    """Nobody accounts for what is read back: small files, piece by piece."""

    def try_grow_to(self, size: int) -> bool:  # noqa: ARG002 -- the shape of a lease
        return True

    async def grow_to(self, size: int) -> None:
        """Nothing to wait for."""


@dataclass(slots=True)
class _Abilities:
    """What the server turned out to know."""

    expands: bool = True
    filters: bool = True


class GraphWriter:
    """Writes to one mailbox; the adapter behind ``restore.ports.TargetMailbox``.

    Args:
        client: Sends the requests.
        lane: The mailbox's limits and counters.
        principal: Whose mailbox it is.
        clock: Time and sleep.
    """

    def __init__(self, client: GraphClient, lane: Lane, principal: Principal, clock: Clock) -> None:
        self._client = client
        self._lane = lane
        self._principal = principal
        self._clock = clock
        self._folders = FolderReader(client, lane, principal.user_id)
        self._attachments = AttachmentReader(client, lane, principal.user_id)
        self._able = _Abilities()
        self._root_id = ""
        self._remover = Remover(client, lane, principal.user_id)
        self.bytes_sent = 0
        self.repeated: set[str] = set()
        self._unmarked: set[str] = set()

    @property
    def mailbox_id(self) -> str:
        """The lower-cased address."""
        return self._principal.address

    @property
    def user_id(self) -> str:
        """The directory's object id of its owner."""
        return self._principal.user_id

    @property
    def usage(self) -> Usage:
        """What this mailbox has cost so far."""
        return self._lane.usage

    async def list_folders(self) -> FolderListing:
        """Return the whole folder tree.

        Raises:
            NoMailbox: The principal has none.
            ConsentError: Mail.ReadWrite is missing, or this mailbox is out of its scope.
            GraphError: See the other subclasses.
        """
        listing = await self._folders.listing(recoverable=False)
        self._root_id = listing.root_id
        return listing

    async def create_folder(self, parent_id: str, name: str, *, hidden: bool) -> tuple[str, bool]:
        """Return the id of the child of this name, and whether it was created now."""

        async def confirm() -> JsonObject | None:
            found = await self._child(parent_id, name)
            return {"id": found} if found else None

        body: JsonObject = {"displayName": name}
        if hidden:
            body["isHidden"] = True
        try:
            answer = await self._send(
                self._below(parent_id),
                body,
                where=f"folder {name!r}",
                confirm=confirm,
            )
        except GraphConflict:
            found = await self._child(parent_id, name)
            if found is None:
                raise
            return found, False
        return _id_of(answer, self._where()), True

    def _below(self, parent_id: str) -> tuple[str, ...]:
        """Return the path of a folder's children; those of the root have one of their own."""
        if parent_id == self._root_id:
            return ("mailFolders",)
        return ("mailFolders", parent_id, "childFolders")

    async def _child(self, parent_id: str, name: str) -> str | None:
        async for page in self._pages(
            self._url(
                *self._below(parent_id),
                query={"$select": "id,displayName", "$top": "100", "includeHiddenFolders": "true"},
            )
        ):
            for folder in page:
                if str(folder.get("displayName") or "").casefold() == name.casefold():
                    return str(folder["id"])
        return None

    async def present(self, folder_id: str) -> AsyncIterator[list[Present]]:
        """Yield what the folder holds: ids, keys and marks, some hundred at a time."""
        async for page in self._listing(folder_id, f"id,{_KEY}", PRESENT_PAGE):
            yield [_present(item) for item in page]

    async def find(self, folder_id: str, message_id: str, mark: str) -> list[Present]:
        """Return the folder's messages with this internet message id, or this mark.

        White space around an id does not count; Graph finds one by what it has stored, so
        ``message_id`` should be that.
        """
        known = is_message_id(message_id)
        key = message_id.strip() if known else message_id
        # A filter with control characters may be refused: for such an id the folder is listed.
        if self._able.filters and (message_id.isprintable() or not known):
            try:
                return await self._ask(folder_id, message_id, mark, key)
            except GraphError as error:
                if error.status not in _REFUSED:
                    raise
                self._able.filters = False
        found: list[Present] = []
        async for page in self.present(folder_id):
            found += [item for item in page if _is_sought(item, key, mark)]
        return found

    async def _ask(self, folder_id: str, message_id: str, mark: str, key: str) -> list[Present]:
        if is_message_id(message_id):
            forms = dict.fromkeys((message_id, key))
            wanted = " or ".join(f"internetMessageId eq '{_quoted(form)}'" for form in forms)
        else:
            wanted = (
                f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARK_PROPERTY}' "
                f"and ep/value eq '{_quoted(mark)}')"
            )
        pages = self._listing(folder_id, f"id,{_KEY}", PRESENT_PAGE, wanted)
        found = [_present(item) async for page in pages for item in page]
        # A server may pass over a filter that it does not know, and answer with everything.
        return [item for item in found if _is_sought(item, key, mark)]

    async def folder_of(self, object_id: str) -> str | None:
        """Return the id of the folder a message is in, deleted or not; None when it is gone."""
        return await self._remover.folder_of(object_id)

    async def preview_of(self, object_id: str) -> str:
        """Return the first characters of a message's text; see ``TargetMailbox``.

        Raises:
            GraphNotFound: The message is gone.
            GraphError: See the other subclasses.
        """
        url = self._url("messages", object_id, query={"$select": "id,bodyPreview"})
        answer = await self._client.fetch(self._lane, Call(url, self._where(object_id)))
        return str(answer.document.get("bodyPreview") or "")

    async def create_message(
        self, folder_id: str, letter: JsonObject, *, mark: str, alone: bool
    ) -> str:
        """Create a message and return its id; see ``TargetMailbox.create_message``.

        Raises:
            GraphNotFound: The folder is gone.
            GraphTooLarge: The request is.
            GraphItemError: A recipient or a property is refused.
            MailboxOverQuota: The mailbox is full.
            GraphError: See the other subclasses.
        """
        key = str(letter.get("internetMessageId") or "")
        if not alone and not self._able.expands:
            # Without marks only its being new tells a message from others of its id.
            self._unmarked.update(i.object_id for i in await self.find(folder_id, key, mark))

        async def confirm() -> JsonObject | None:
            for found in await self.find(folder_id, key, mark):
                unmarked = (alone or not self._able.expands) and not found.mark
                if found.mark == mark or (unmarked and found.object_id not in self._unmarked):
                    return {"id": found.object_id}
            self.repeated.add(mark)
            return None

        answer = await self._send(
            ("mailFolders", folder_id, "messages"),
            letter,
            where=f"folder {folder_id}",
            confirm=confirm,
            success=CREATED,
        )
        created = _id_of(answer, self._where())
        if not self._able.expands:
            self._unmarked.add(created)
        return created

    async def create_from_mime(
        self, folder_id: str, mime: bytes, *, message_id: str, before: Collection[str]
    ) -> str:
        """Create a draft from MIME and return its id; see ``TargetMailbox``.

        Raises:
            GraphTooLarge: The server does not take it: it may answer so with a success.
            GraphError: See the other subclasses.
        """
        from base64 import b64encode  # noqa: PLC0415 -- rarely asked for

        async def confirm() -> JsonObject | None:
            for found in await self.find(folder_id, message_id, ""):
                if found.object_id not in before:
                    return {"id": found.object_id}
            return None

        data = await anyio.to_thread.run_sync(b64encode, mime)
        call = Call(
            self._url("mailFolders", folder_id, "messages"),
            self._where(),
            content=Content(data, MIME),
            success=WRITES,
            confirm=confirm,
        )
        self.bytes_sent += len(data)
        answer = await self._client.change(self._lane, call)
        if not isinstance(answer.get("id"), str):
            found = await confirm()
            if found is None:
                raise GraphTooLarge(
                    "Microsoft Graph took the MIME and created nothing", where=self._where()
                )
            answer = found
        return _id_of(answer, self._where())

    async def update_message(self, object_id: str, patch: JsonObject) -> None:
        """Change properties of a message."""
        data = dump_json(patch)
        self.bytes_sent += len(data)
        call = Call(
            self._url("messages", object_id),
            self._where(object_id),
            method="PATCH",
            content=Content(data, JSON),
            success=WRITES,
        )
        await self._client.change(self._lane, call)

    async def add_attachment(self, object_id: str, attachment: JsonObject, *, had: int) -> None:
        """Add an attachment that fits into one request; see ``TargetMailbox``.

        Raises:
            GraphNotFound: The message is gone.
            GraphTooLarge: An upload session is needed.
            GraphError: See the other subclasses.
        """
        name = str(attachment.get("name") or "")

        async def confirm() -> JsonObject | None:
            names = await self.attachment_names(object_id)
            return {} if names.count(name) > had else None

        async def attempt() -> JsonObject:
            return await self._send(
                ("messages", object_id, "attachments"),
                attachment,
                where=f"message {object_id}",
                confirm=confirm,
                success=CREATED,
            )

        await self._patiently(attempt)

    async def upload_attachment(
        self, object_id: str, description: JsonObject, content: OpenPieces, *, had: int
    ) -> None:
        """Add a file through an upload session; see ``TargetMailbox``.

        Raises:
            IntegrityError: The content is not what was stored; nothing was attached.
            GraphTooLarge: It is larger than the mailbox takes.
            GraphError: See the other subclasses.
        """
        where = self._where(object_id)
        name = str(description.get("name") or "")

        async def begin() -> JsonObject:
            return await self._send(
                ("messages", object_id, "attachments", "createUploadSession"),
                {"AttachmentItem": description},
                where=f"message {object_id}",
            )

        for _ in range(SESSIONS):
            answer = await self._patiently(begin)
            uploader = Uploader(self._client, self._lane, where)
            try:
                async with content() as pieces:
                    sure = await uploader.send(session_url(answer, where), pieces)
            except SessionLostError:
                continue
            finally:
                self.bytes_sent += uploader.bytes_sent
            if sure or (await self.attachment_names(object_id)).count(name) > had:
                return
        raise GraphProtocolError(
            "Microsoft Graph lost the upload session of an attachment again and again",
            hint="run the restore again: it continues",
            where=where,
        )

    async def attachment_names(self, object_id: str) -> Sequence[str]:
        """Return the names of a message's attachments, one for each."""
        listed = await self._attachments.listing(object_id, inline_limit=0, lease=_NoLease())
        return [str(item.get("name") or "") for item in listed]

    async def move_message(self, object_id: str, folder_id: str) -> bool:
        """Move a message; False when it is not there any more."""
        try:
            await self._send(
                ("messages", object_id, "move"),
                {"destinationId": folder_id},
                where=f"message {object_id}",
                success=WRITES,
            )
        except GraphNotFound:
            return False
        return True

    async def delete_message(self, object_id: str) -> bool:
        """Delete a message; False when it is not there any more."""
        return await self._remover.delete_message(object_id)

    async def delete_folder(self, folder_id: str) -> bool:
        """Delete a folder that holds nothing; False when it holds anything."""
        return await self._remover.delete_folder(folder_id)

    async def read_back(self, folder_id: str) -> AsyncIterator[list[JsonObject]]:
        """Yield the folder's messages with what is compared."""
        async for page in self._listing(folder_id, _COMPARED, BACK_PAGE):
            yield [{**item, "mark": _present(item).mark} for item in page]

    async def list_attachments(self, object_id: str) -> list[JsonObject]:
        """Return the attachments of a message; small files with their content."""
        return await self._attachments.listing(object_id, inline_limit=BACK_BYTES, lease=_NoLease())

    def open_attachment(
        self, object_id: str, attachment_id: str
    ) -> AbstractAsyncContextManager[ContentBytes]:
        """Open the content of an attachment."""
        return self._attachments.open(object_id, attachment_id)

    async def _patiently(self, attempt: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
        """Do what concerns a message that was just created.

        It may not be found at once, or still be in the hands of a server that sorts it in.
        """
        pause = ATTACH_PAUSE
        for _ in range(ATTACH_TRIES - 1):
            try:
                return await attempt()
            except (GraphNotFound, GraphConflict):
                await self._clock.sleep(pause)
                pause *= 2
        return await attempt()

    async def _send(
        self,
        segments: tuple[str, ...],
        body: JsonObject,
        *,
        where: str,
        confirm: Callable[[], Awaitable[JsonObject | None]] | None = None,
        success: frozenset[int] = WRITES,
    ) -> JsonObject:
        data = dump_json(body)
        self.bytes_sent += len(data)
        call = Call(
            self._url(*segments),
            f"mailbox {self.mailbox_id}, {where}",
            content=Content(data, JSON),
            success=success,
            confirm=confirm,
        )
        return await self._client.change(self._lane, call)

    async def _listing(
        self, folder_id: str, select: str, size: int, wanted: str | None = None
    ) -> AsyncIterator[list[JsonObject]]:
        """Yield messages of a folder with their marks, where the server gives marks back."""
        query = {"$select": select, "$top": str(size)}
        if wanted is not None:
            query["$filter"] = wanted
        if not self._able.expands:
            async for page in self._pages(self._messages_url(folder_id, query), size):
                yield page
            return
        begun = False
        try:
            url = self._messages_url(folder_id, {**query, "$expand": _EXPAND_MARK})
            async for page in self._pages(url, size):
                begun = True
                yield page
        except GraphError as error:
            if begun or error.status not in _REFUSED:
                raise
            # It may be the filter that is not known: only an answer without $expand tells.
            async for page in self._pages(self._messages_url(folder_id, query), size):
                yield page
            self._able.expands = False

    def _messages_url(self, folder_id: str, query: dict[str, str]) -> str:
        return self._url("mailFolders", folder_id, "messages", query=query)

    async def _pages(self, url: str, size: int | None = None) -> AsyncIterator[list[JsonObject]]:
        where = self._where()
        sizer, trail = PageSizer(), LinkTrail()
        while True:
            call = Call(url, where)
            if size is not None:
                call = Call(url, where, page_size=lambda: sizer.size(size), shrink=sizer.shrink)
            page = read_page((await self._client.fetch(self._lane, call)).document, where)
            trail.follow(url, page, where)
            yield list(page.items)
            if page.next_link is None:
                return
            url = self._client.root.adopt(page.next_link)

    def _url(self, *segments: str, query: dict[str, str] | None = None) -> str:
        return self._client.root.url("users", self._principal.user_id, *segments, query=query)

    def _where(self, object_id: str = "") -> str:
        return f"mailbox {self.mailbox_id}" + (f", message {object_id}" if object_id else "")


def _present(item: JsonObject) -> Present:
    mark = ""
    properties = item.get("singleValueExtendedProperties")
    for found in properties if isinstance(properties, list) else ():
        if isinstance(found, dict) and str(found.get("id", "")).lower() == MARK_PROPERTY.lower():
            mark = str(found.get("value") or "")
    return Present(str(item["id"]), message_identity(item), mark, bool(item.get("isDraft")))


def _is_sought(item: Present, key: str, mark: str) -> bool:
    return item.key == key or (mark != "" and item.mark == mark)


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _id_of(answer: JsonObject, where: str) -> str:
    found = answer.get("id")
    if not isinstance(found, str) or not found:
        raise GraphProtocolError("Microsoft Graph created something without an id", where=where)
    return found
