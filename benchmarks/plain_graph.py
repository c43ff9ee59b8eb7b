"""Reading mailboxes from Graph in the plainest way, for the programs the engine is compared with.

The same pages as the engine reads (properties, page size, immutable ids, gzip; four folders of a
mailbox at once), and the same number of mailboxes at once. No retries, no limits. Delta links are
kept in memory, so that a second round asks for changes.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from atlas_async.graph.mailbox import MESSAGE_PROPERTIES

FOLDERS_AT_ONCE = 4
FILE = "#microsoft.graph.fileAttachment"
ITEM = "#microsoft.graph.itemAttachment"
_SELECT = ",".join(MESSAGE_PROPERTIES)

Json = dict[str, Any]
Parse = Callable[[bytes], Any]
Take = Callable[[str, str, Sequence[Json]], Awaitable[None]]
"""Called with a mailbox's name, its user id, and the messages of a page."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where mail comes from and how much of it is read at once."""

    authority_url: str
    graph_url: str
    tenant_id: str
    client_id: str
    client_secret: str
    mailboxes_at_once: int
    page_size: int

    @classmethod
    def of(cls, settings: dict[str, str]) -> Self:
        """Take it from ``ATLAS_*`` settings, with the engine's defaults."""
        return cls(
            settings["ATLAS_AUTHORITY_URL"],
            settings["ATLAS_GRAPH_URL"],
            settings["ATLAS_TENANT_ID"],
            settings["ATLAS_CLIENT_ID"],
            settings["ATLAS_CLIENT_SECRET"],
            int(settings.get("ATLAS_CONCURRENCY", "8")),
            int(settings.get("ATLAS_PAGE_SIZE", "100")),
        )


class PlainGraph:
    """Mailboxes of one tenant.

    Args:
        session: Sends requests.
        where: The tenant.
        parse: Turns a body into values.
    """

    def __init__(self, session: aiohttp.ClientSession, where: Where, parse: Parse) -> None:
        self.requests = 0
        self._session = session
        self._where = where
        self._parse = parse
        self._headers: dict[str, str] = {}
        self._users: dict[str, str] = {}
        self._links: dict[str, str] = {}
        self._trees: dict[str, str] = {}
        self._folders: dict[str, list[str]] = {}

    async def sign_in(self) -> None:
        """Get the one token."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self._where.client_id,
            "client_secret": self._where.client_secret,
            "scope": f"{self._where.graph_url}/.default",
        }
        url = f"{self._where.authority_url}/{self._where.tenant_id}/oauth2/v2.0/token"
        async with self._session.post(url, data=form) as response:
            response.raise_for_status()
            token = self._parse(await response.read())["access_token"]
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}

    async def read(self, mailboxes: Sequence[str], take: Take) -> None:
        """Hand every message that is new since the last round to ``take``, page by page."""
        places = asyncio.Semaphore(self._where.mailboxes_at_once)

        async def read_one(mailbox: str) -> None:
            async with places:
                await self._read_mailbox(mailbox, take)

        async with asyncio.TaskGroup() as group:
            for mailbox in mailboxes:
                group.create_task(read_one(mailbox))

    async def attachments(self, user: str, message: Json) -> AsyncIterator[bytes]:
        """Yield the contents of a message's attachments.

        What the list brings along is taken from it; larger ones, and items, are fetched.
        """
        if not message.get("hasAttachments") and "cid:" not in message["body"]["content"]:
            return
        base = f"{self._root(user)}/messages/{_quoted(message['id'])}/attachments"
        url = base
        while url:
            page = await self._fetch(url, 'IdType="ImmutableId"')
            for item in page["value"]:
                if "contentBytes" in item:
                    yield b64decode(item["contentBytes"])
                elif item["@odata.type"] in {FILE, ITEM}:
                    yield await self._value(f"{base}/{_quoted(item['id'])}/$value")
                else:  # a reference: all there is to keep is what it says
                    yield json.dumps(item).encode()
            url = page.get("@odata.nextLink", "")

    async def _read_mailbox(self, mailbox: str, take: Take) -> None:
        if mailbox not in self._users:
            told = await self._fetch(f"{self._root(mailbox)}?$select=id", "")
            self._users[mailbox] = told["id"]
        user = self._users[mailbox]
        url = self._trees.get(user, f"{self._root(user)}/mailFolders/delta?$select=displayName")
        folders = self._folders.setdefault(user, [])
        async for page in self._pages(url, self._trees, user):
            folders += [item["id"] for item in page if item["id"] not in folders]
        places = asyncio.Semaphore(FOLDERS_AT_ONCE)

        async def read_folder(folder: str) -> None:
            first = (
                f"{self._root(user)}/mailFolders/{_quoted(folder)}/messages/delta?$select={_SELECT}"
            )
            async with places:
                url = self._links.get(folder, first)
                async for page in self._pages(url, self._links, folder):
                    items = [item for item in page if "@removed" not in item]
                    if items:
                        await take(mailbox, user, items)

        async with asyncio.TaskGroup() as group:
            for folder in folders:
                group.create_task(read_folder(folder))

    async def _pages(self, url: str, links: dict[str, str], name: str) -> AsyncIterator[list[Json]]:
        """Yield the pages of one round, and keep the link where the next begins."""
        prefer = f'IdType="ImmutableId", odata.maxpagesize={self._where.page_size}'
        while url:
            page = await self._fetch(url, prefer)
            yield page["value"]
            url = page.get("@odata.nextLink", "")
            if "@odata.deltaLink" in page:
                links[name] = page["@odata.deltaLink"]

    async def _fetch(self, url: str, prefer: str) -> Json:
        body: Json = self._parse(await self._value(url, prefer))
        return body

    async def _value(self, url: str, prefer: str = "") -> bytes:
        self.requests += 1
        headers = {**self._headers, "Prefer": prefer} if prefer else self._headers
        async with self._session.get(URL(url, encoded=True), headers=headers) as response:
            response.raise_for_status()
            return await response.read()

    def _root(self, user: str) -> str:
        return f"{self._where.graph_url}/v1.0/users/{_quoted(user)}"


def _quoted(text: str) -> str:
    """Percent-encode an id as the engine does, so that the emulator knows the page again."""
    return quote(text, safe="$")


@asynccontextmanager
async def open_graph(settings: dict[str, str], parse: Parse) -> AsyncIterator[PlainGraph]:
    """Sign in to the tenant that ``ATLAS_*`` settings name."""
    where = Where.of(settings)
    connections = aiohttp.TCPConnector(limit=where.mailboxes_at_once * FOLDERS_AT_ONCE + 8)
    async with aiohttp.ClientSession(connector=connections, read_bufsize=256 * 1024) as session:
        graph = PlainGraph(session, where, parse)
        await graph.sign_in()
        yield graph
