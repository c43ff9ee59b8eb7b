"""A mailbox in memory that behaves as Graph's delta does, without HTTP: a ``MailboxSource``.

Delta semantics: every folder keeps a log of events with growing numbers; a link names a folder,
a number and a generation. Moves are removals in one folder and additions in another; the quirk of
immutable ids (A -> B -> A between two rounds shows only the removal) can be switched on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import anyio.lowlevel

from atlas_async.errors import GraphNotFound, SyncStateGone
from atlas_async.model.message import MESSAGE_PROPERTIES
from atlas_async.model.source import (
    EnumerationMode,
    Folder,
    FolderChanges,
    FolderListing,
    MessagePage,
    Usage,
)
from atlas_async.pipeline.ports import ByteLease, ContentStream

ROOT = "root"
PIECE = 1 << 18


@dataclass
class FakeFolder:
    """A folder and its log of ``(number, message id, present)``."""

    id: str
    name: str
    parent: str
    log: list[tuple[int, str, bool]] = field(default_factory=list)


class FakeMailbox:
    """A mailbox whose content a test changes between, or during, runs."""

    def __init__(self, address: str = "fake@contoso.com", *, return_quirk: bool = False) -> None:
        self.mailbox_id = address
        self.folders: dict[str, FakeFolder] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.attachments: dict[str, list[dict[str, Any]]] = {}
        self.generation: dict[str, int] = {}
        self.return_quirk = return_quirk
        self.requests = 0
        self.renderings = 0
        self.tree_version = 0
        self._numbers = count(1)
        self._names = count(1)

    @property
    def usage(self) -> Usage:
        """Return how often the fake was asked."""
        return Usage(requests=self.requests)

    # -- what a test does ---------------------------------------------------------------------

    def add_folder(self, name: str, parent: str = ROOT) -> str:
        """Make a folder and return its id."""
        folder_id = f"F{next(self._names)}"
        self.folders[folder_id] = FakeFolder(folder_id, name, parent)
        self.tree_version += 1
        return folder_id

    def rename_folder(self, folder_id: str, name: str) -> None:
        """Give a folder another name."""
        self.folders[folder_id].name = name
        self.tree_version += 1

    def drop_folder(self, folder_id: str) -> None:
        """Delete a folder for good, with all below it and in it."""
        for child in [f.id for f in self.folders.values() if f.parent == folder_id]:
            self.drop_folder(child)
        for message_id in self.in_folder(folder_id):
            del self.messages[message_id]
        del self.folders[folder_id]
        self.tree_version += 1

    def add(self, folder_id: str, **properties: Any) -> str:
        """Put a message into a folder and return its id."""
        message_id = f"M{next(self._names)}"
        resource: dict[str, Any] = dict.fromkeys(MESSAGE_PROPERTIES)
        resource |= {
            "id": message_id,
            "subject": f"subject of {message_id}",
            "body": {"contentType": "text", "content": f"body of {message_id}"},
            "parentFolderId": folder_id,
            "isRead": False,
            "isDraft": False,
            "hasAttachments": False,
            "flag": {"flagStatus": "notFlagged"},
            "categories": [],
            "toRecipients": [],
            "receivedDateTime": "2026-01-01T00:00:00Z",
        }
        self.messages[message_id] = resource | properties
        self._touch(message_id, folder_id)
        return message_id

    def update(self, message_id: str, **properties: Any) -> None:
        """Change properties of a message."""
        self.messages[message_id] |= properties
        self._touch(message_id, self.messages[message_id]["parentFolderId"])

    def move(self, message_id: str, folder_id: str) -> None:
        """Move a message to another folder."""
        source = self.messages[message_id]["parentFolderId"]
        if source == folder_id:
            return
        self.folders[source].log.append((next(self._numbers), message_id, False))
        self.messages[message_id]["parentFolderId"] = folder_id
        self._touch(message_id, folder_id)

    def delete(self, message_id: str) -> None:
        """Delete a message for good."""
        source = self.messages.pop(message_id)["parentFolderId"]
        self.folders[source].log.append((next(self._numbers), message_id, False))

    def expire(self, folder_id: str) -> None:
        """Make a folder's delta tokens expire."""
        self.generation[folder_id] = self.generation.get(folder_id, 0) + 1

    def in_folder(self, folder_id: str) -> list[str]:
        """Return the ids of the messages in a folder."""
        return [i for i, m in self.messages.items() if m["parentFolderId"] == folder_id]

    def _touch(self, message_id: str, folder_id: str) -> None:
        number = next(self._numbers)
        self.messages[message_id]["@odata.etag"] = f'W/"{number}"'
        self.folders[folder_id].log.append((number, message_id, True))

    # -- MailboxSource ------------------------------------------------------------------------

    async def _ask(self) -> None:
        self.requests += 1
        await anyio.lowlevel.checkpoint()

    async def list_folders(self, *, recoverable: bool) -> FolderListing:
        await self._ask()
        listed: list[Folder] = []
        paths: dict[str, tuple[str, ...]] = {ROOT: ()}

        def visit(parent: str) -> None:
            for folder in self.folders.values():
                if folder.parent == parent:
                    paths[folder.id] = (*paths[parent], folder.name)
                    total = len(self.in_folder(folder.id))
                    listed.append(
                        Folder(folder.id, parent, folder.name, paths[folder.id], total_items=total)
                    )
                    visit(folder.id)

        visit(ROOT)
        return FolderListing(tuple(listed), ROOT, f"tree:{self.tree_version}")

    async def folder_changes(self, link: str | None) -> FolderChanges:
        await self._ask()
        now = f"tree:{self.tree_version}"
        if link in (None, now):
            return FolderChanges((), (), now)
        changed = tuple(
            {"id": f.id, "displayName": f.name, "parentFolderId": f.parent}
            for f in self.folders.values()
        )
        return FolderChanges(changed, ("something",), now)

    async def message_page(
        self,
        folder_id: str,
        *,
        mode: EnumerationMode,
        link: str | None,
        page_size: int,
        lease: ByteLease,
    ) -> MessagePage:
        await self._ask()
        if folder_id not in self.folders:
            raise GraphNotFound("no such folder", status=404, code="ErrorItemNotFound")
        await lease.grow_to(1000)
        if mode is EnumerationMode.LISTING:
            return self._listing(folder_id, int(link or 0), page_size)
        generation = self.generation.get(folder_id, 0)
        since, position, until = 0, 0, next(self._numbers)
        if link is not None:
            since, position, until, made_in = (int(part) for part in link.split(","))
            if made_in != generation:
                raise SyncStateGone("expired", status=410, code="SyncStateNotFound")
            until = until or next(self._numbers)
        events = self._events(folder_id, since, until)
        part = events[position : position + page_size]
        left = position + page_size < len(events)
        following = f"{since},{position + page_size},{until},{generation}" if left else None
        delta = None if left else f"{until},0,0,{generation}"
        present = [self.messages[i] for i, there in part if there]
        return MessagePage(
            tuple(dict(m) for m in present),
            tuple(i for i, there in part if not there),
            following,
            delta,
            1000,
        )

    def _events(self, folder_id: str, since: int, until: int) -> list[tuple[str, bool]]:
        if since == 0:
            return [(i, True) for i in self.in_folder(folder_id)]
        latest: dict[str, bool] = {}
        left: set[str] = set()
        for number, message_id, there in self.folders[folder_id].log:
            if since < number <= until:
                latest.pop(message_id, None)
                latest[message_id] = there
                if not there:
                    left.add(message_id)
        result = []
        for message_id, there in latest.items():
            here = (
                there
                and message_id in self.messages
                and self.messages[message_id]["parentFolderId"] == folder_id
            )
            if here and self.return_quirk and message_id in left:
                here = False
            result.append((message_id, here))
        return result

    def _listing(self, folder_id: str, start: int, size: int) -> MessagePage:
        ids = self.in_folder(folder_id)
        part = tuple(dict(self.messages[i]) for i in ids[start : start + size])
        following = str(start + size) if start + size < len(ids) else None
        return MessagePage(part, (), following, None, 1000)

    async def message_ids(self, folder_id: str) -> AsyncIterator[list[str]]:
        await self._ask()
        if folder_id not in self.folders:
            raise GraphNotFound("no such folder", status=404, code="ErrorItemNotFound")
        yield self.in_folder(folder_id)

    async def get_message(self, message_id: str, *, lease: ByteLease) -> dict[str, Any]:
        await self._ask()
        await lease.grow_to(1000)
        if message_id not in self.messages:
            raise GraphNotFound("no such message", status=404, code="ErrorItemNotFound")
        return dict(self.messages[message_id])

    async def locate_message(self, message_id: str) -> str | None:
        await self._ask()
        found = self.messages.get(message_id)
        return None if found is None else str(found["parentFolderId"])

    async def list_attachments(
        self, message_id: str, *, inline_limit: int, lease: ByteLease
    ) -> list[dict[str, Any]]:
        await self._ask()
        await lease.grow_to(1000)
        return [
            dict(a) if inline_limit else {k: v for k, v in a.items() if k != "contentBytes"}
            for a in self.attachments.get(message_id, [])
        ]

    @asynccontextmanager
    async def open_attachment(
        self, message_id: str, attachment_id: str
    ) -> AsyncIterator[ContentStream]:
        await self._ask()
        if message_id:
            raise GraphNotFound(f"no content of {attachment_id} in {message_id}", status=404)
        yield _nothing()

    @asynccontextmanager
    async def open_mime(self, message_id: str) -> AsyncIterator[ContentStream]:
        await self._ask()
        if message_id not in self.messages:
            raise GraphNotFound("no such message", status=404, code="ErrorItemNotFound")
        yield _pieces(self.mime(message_id))

    def mime(self, message_id: str) -> bytes:
        """Return a message's MIME as the next request gets it; Exchange writes it anew each time.

        ``renderings`` counts the requests, so that no two of them get the same.
        """
        self.renderings += 1
        message = self.messages[message_id]
        head = f"Subject: {message['subject']}\r\nX-Rendering: {self.renderings}\r\n\r\n"
        return head.encode() + str((message.get("body") or {}).get("content")).encode()


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


async def _nothing() -> AsyncIterator[bytes]:
    for piece in (b"",):
        yield piece
