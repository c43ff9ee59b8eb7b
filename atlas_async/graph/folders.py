"""The folder tree of a mailbox: children level by level, well-known names by name, paths by id.

The delta link comes first, then the levels, which wait for each other. The names wait for neither,
so they are asked for in places in flight that those leave free.

A listing of many requests is not of one moment: a folder that moves meanwhile, from a level not yet
read to one already read, is on none. The delta's first round, which came before, has named it; what
it named and the levels lack is asked for by itself.
"""

from __future__ import annotations

from typing import Final

import anyio

from atlas_async.errors import (
    GraphError,
    GraphItemError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
    NoMailbox,
)
from atlas_async.graph.batch import MOST_PARTS, Part, fetch_batch
from atlas_async.graph.client import Call, GraphClient
from atlas_async.graph.lane import Lane
from atlas_async.graph.paging import LinkTrail, read_page
from atlas_async.graph.tree import arrange, make_folder
from atlas_async.model.source import FolderChanges, FolderListing, JsonObject
from atlas_async.side_by_side import until_first_error

ROOT: Final = "msgfolderroot"
DUMPSTER: Final = "recoverableitemsdeletions"
WELL_KNOWN: Final = (
    "archive",
    "clutter",
    "conflicts",
    "conversationhistory",
    "deleteditems",
    "drafts",
    "inbox",
    "junkemail",
    "localfailures",
    "outbox",
    DUMPSTER,
    "scheduled",
    "sentitems",
    "serverfailures",
    "syncissues",
)
"""Names by which Graph knows a folder in every language."""
SEARCH_FOLDER: Final = "#microsoft.graph.mailSearchFolder"
NAMES_AT_ONCE: Final = 3
"""Names asked for at once; what a level asks for takes turns with them."""
MOST_SINGLES: Final = 16
"""Folders of one level that are asked for their children singly.

Graph runs four parts of a batch at a time, as many as there are places in flight, and a batch has
them for itself. So it saves no time; it saves work where folders are many.
"""
DELTA_PAGE: Final = 200
"""Folders per page of the folder delta; without being asked Graph gives about ten."""
DEEPEST: Final = 300
"""Levels below which a tree is taken for a circle."""

_PROPERTIES: Final = "id,displayName,parentFolderId,childFolderCount,totalItemCount,isHidden"
_LIST_QUERY: Final = {"includeHiddenFolders": "true", "$select": _PROPERTIES, "$top": "100"}
_DELTA_QUERY: Final = {
    "$select": "displayName,parentFolderId,isHidden,childFolderCount,totalItemCount"
}


class FolderReader:
    """Reads the folders of one mailbox.

    Args:
        client: Sends the requests.
        lane: The mailbox's lane.
        user_id: Directory object id of its owner.
    """

    def __init__(self, client: GraphClient, lane: Lane, user_id: str) -> None:
        self._client = client
        self._lane = lane
        self._user_id = user_id
        self._where = f"mailbox {lane.name}"
        self._names: dict[str, str] | None = None
        self._batches = True

    async def listing(self, *, recoverable: bool) -> FolderListing:
        """Return every folder below the root; see ``MailboxSource.list_folders``.

        Raises:
            NoMailbox: There is no root folder.
            GraphError: See the subclasses.
        """
        there = anyio.Event()
        link: str | None = None
        root: JsonObject = {}
        names: dict[str, str] = {}
        found: list[JsonObject] = []
        searches = 0
        shown: tuple[JsonObject, ...] = ()

        async def descend() -> None:
            nonlocal link, searches, shown
            link, shown = await self._first_round(there)
            first = self._path("mailFolders", query=_LIST_QUERY)
            below, searches = await self._below(ROOT, first)
            found.extend(below)

        async def find_root() -> None:
            await there.wait()
            root.update(await self._root())

        async def name() -> None:
            await there.wait()
            names.update(await self._well_known())

        jobs = (descend, find_root, name)
        await until_first_error(lambda job: job(), jobs, at_once=len(jobs))
        found = [folder for folder in found if folder["id"] != root["id"]]
        found += await self._overlooked(shown, found, root["id"])
        if recoverable and DUMPSTER in names.values():
            dumpster = await self._folder(DUMPSTER)
            below, further = await self._below(dumpster["id"], self._children_path(dumpster["id"]))
            found += [dumpster, *below]
            searches += further
        folders = arrange(found, root["id"], names)
        if root.get("totalItemCount"):
            folders = (make_folder(root, (), ROOT), *folders)
        return FolderListing(folders, root["id"], link, searches)

    async def changes(self, link: str | None, *, there: anyio.Event | None = None) -> FolderChanges:
        """Run one round of the folder delta; see ``MailboxSource.folder_changes``.

        Args:
            link: Where to continue; None for a first round.
            there: Set when the first page has come.

        Raises:
            SyncStateGone: ``link`` is no longer honoured.
            GraphProtocolError: The round runs in a circle, or ends without a link.
            GraphError: See the other subclasses.
        """
        first = self._url("mailFolders", "delta", query=_DELTA_QUERY)
        url = first if link is None else self._client.root.adopt(link)
        latest: dict[str, JsonObject | None] = {}
        trail = LinkTrail()
        while True:
            call = Call(url, self._where, page_size=lambda: DELTA_PAGE)
            document = (await self._client.fetch(self._lane, call)).document
            if there is not None:
                there.set()
            page = read_page(document, self._where)
            latest.update((item["id"], item) for item in page.items)
            latest.update(dict.fromkeys(page.removed))
            trail.follow(url, page, self._where)
            if page.next_link is None:
                break
            url = self._client.root.adopt(page.next_link)
        end = page.delta_link or link
        if end is None:
            raise GraphProtocolError("The folder delta ended without a link", where=self._where)
        return FolderChanges(
            changed=tuple(item for item in latest.values() if item is not None),
            removed=tuple(key for key, item in latest.items() if item is None),
            link=end,
        )

    async def _first_round(self, there: anyio.Event) -> tuple[str | None, tuple[JsonObject, ...]]:
        """Return the link and the folders of a first round; ``there`` is set once it is answered.

        Nothing else is asked before, so a principal without a mailbox costs one request.
        """
        try:
            round_ = await self.changes(None, there=there)
        except (GraphThrottled, NoMailbox):
            raise
        except GraphError:
            # Without a link the next run lists anew: dearer, and just as right.
            there.set()
            return None, ()
        return round_.link, round_.changed

    async def _overlooked(
        self, shown: tuple[JsonObject, ...], found: list[JsonObject], root_id: str
    ) -> list[JsonObject]:
        """Return the folders that the delta showed, the levels lack, and that are there.

        What has left the tree meanwhile, for good or to the recoverable items, is not among them.
        """
        known = {root_id, *(folder["id"] for folder in found)}
        lacking = [
            folder["id"]
            for folder in shown
            if folder["id"] not in known and folder.get("@odata.type") != SEARCH_FOLDER
        ]
        there: dict[str, JsonObject] = {}

        async def ask(folder_id: str) -> None:
            folder = await self._fetch_if_there(self._folder_url(folder_id))
            if folder is not None and folder.get("@odata.type") != SEARCH_FOLDER:
                there[folder_id] = {**folder, "id": folder_id}

        await until_first_error(ask, lacking, at_once=len(lacking))
        overlooked: list[JsonObject] = []
        while inside := [f for f in there.values() if f.get("parentFolderId") in known]:
            for folder in inside:
                del there[folder["id"]]
                known.add(folder["id"])
            overlooked += inside
        return overlooked

    async def _root(self) -> JsonObject:
        try:
            return await self._folder(ROOT)
        except GraphNotFound as error:
            raise NoMailbox(
                "There is no mailbox here that Microsoft Graph can read",
                status=error.status,
                code=error.code,
                request_id=error.request_id,
                hint="Mailboxes kept on premises, guests and unlicensed users have none.",
                where=self._where,
            ) from error

    async def _well_known(self) -> dict[str, str]:
        """Return the well-known name of every folder id that has one; asked for once."""
        if self._names is None:
            ids = await self._well_known_ids()
            self._names = {folder_id: name for name, folder_id in ids.items()}
        return self._names

    async def _well_known_ids(self) -> dict[str, str]:
        ids: dict[str, str] = {}

        async def ask(name: str) -> None:
            body = await self._fetch_if_there(self._folder_url(name, select="id"))
            if body is not None and isinstance(body.get("id"), str):
                ids[name] = body["id"]

        await until_first_error(ask, WELL_KNOWN, at_once=NAMES_AT_ONCE)
        return {name: ids[name] for name in WELL_KNOWN if name in ids}

    async def _ask_together(self, paths: dict[str, str]) -> dict[str, Part]:
        """Ask for ``paths`` in batches; what is missing in the result is to be asked alone."""
        parts: dict[str, Part] = {}
        names = list(paths)
        for start in range(0, len(names) if self._batches else 0, MOST_PARTS):
            some = {name: paths[name] for name in names[start : start + MOST_PARTS]}
            answered = await fetch_batch(self._client, self._lane, some, where=self._where)
            if not answered:
                self._batches = False
                break
            parts |= answered
        return parts

    async def _fetch_if_there(self, url: str) -> JsonObject | None:
        try:
            return await self._fetch(url)
        except (GraphNotFound, GraphItemError):
            return None

    async def _below(self, top: str, first: str) -> tuple[list[JsonObject], int]:
        """Return all folders below ``top``, parents first, and the number of search folders.

        Folders without children are asked as well: their count need not include hidden ones.
        """
        seen = {top}
        found: list[JsonObject] = []
        searches = 0
        level = {top: first}
        for _ in range(DEEPEST):
            fresh = [f for f in await self._level(level) if f["id"] not in seen]
            folders = {f["id"]: f for f in fresh if f.get("@odata.type") != SEARCH_FOLDER}
            searches += len({f["id"] for f in fresh}) - len(folders)
            seen.update(f["id"] for f in fresh)
            found.extend(folders.values())
            level = {key: self._children_path(key) for key in folders}
            if not level:
                return found, searches
        raise GraphProtocolError(f"Folders are nested deeper than {DEEPEST}", where=self._where)

    async def _level(self, parents: dict[str, str]) -> list[JsonObject]:
        """Return the children of all ``parents`` (their paths by id), in their order."""
        children: dict[str, list[JsonObject]] = {}
        if len(parents) > MOST_SINGLES:
            for parent, part in (await self._ask_together(parents)).items():
                if part.found is not None and "@odata.nextLink" not in part.found:
                    children[parent] = list(read_page(part.found, self._where).items)
        left = {parent: path for parent, path in parents.items() if parent not in children}
        children |= await self._one_by_one(left)
        return [child for parent in parents for child in children[parent]]

    async def _one_by_one(self, parents: dict[str, str]) -> dict[str, list[JsonObject]]:
        children: dict[str, list[JsonObject]] = {}

        async def visit(parent: str) -> None:
            try:
                url = self._client.root.absolute(parents[parent])
                children[parent] = await self._collection(url)
            except GraphNotFound:
                # Deleted since its parent was read: it has no children any more.
                children[parent] = []

        await until_first_error(visit, list(parents), at_once=len(parents))
        return children

    async def _collection(self, url: str) -> list[JsonObject]:
        items: list[JsonObject] = []
        trail = LinkTrail()
        while True:
            page = read_page(await self._fetch(url), self._where)
            items.extend(page.items)
            trail.follow(url, page, self._where)
            if page.next_link is None:
                return items
            url = self._client.root.adopt(page.next_link)

    async def _folder(self, name: str) -> JsonObject:
        folder = await self._fetch(self._folder_url(name))
        if not isinstance(folder.get("id"), str) or not folder["id"]:
            raise GraphProtocolError(f"The folder {name} has no id", where=self._where)
        return folder

    async def _fetch(self, url: str) -> JsonObject:
        return (await self._client.fetch(self._lane, Call(url, self._where))).document

    def _path(self, *segments: str, query: dict[str, str]) -> str:
        return self._client.root.path("users", self._user_id, *segments, query=query)

    def _url(self, *segments: str, query: dict[str, str]) -> str:
        return self._client.root.absolute(self._path(*segments, query=query))

    def _folder_url(self, name: str, select: str = _PROPERTIES) -> str:
        return self._url("mailFolders", name, query={"$select": select})

    def _children_path(self, folder_id: str) -> str:
        return self._path("mailFolders", folder_id, "childFolders", query=_LIST_QUERY)
