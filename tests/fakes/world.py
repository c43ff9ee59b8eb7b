"""A fake mailbox, a bucket in memory, and what is remembered of the mailbox's past."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import anyio

from atlas_async.catalog.reader import MailboxReader, SnapshotView
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import Sealer
from atlas_async.model.record import MessageRecord
from atlas_async.model.report import MailboxResult
from atlas_async.model.source import (
    EnumerationMode,
    FolderChanges,
    FolderListing,
    MessagePage,
)
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.ports import ByteLease, ContentStream
from atlas_async.pipeline.run import MailboxBackup
from atlas_async.pipeline.stop import StopSignal
from atlas_async.pipeline.surroundings import RunOptions, Surroundings
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.intercepted import InterceptedStore, Op, Request
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.mailbox import FakeMailbox

T = TypeVar("T")

Hook = Callable[[str, str], Awaitable[None]]
"""Called before a request with its kind and the id it names; it may change things, or raise."""

State = dict[str, tuple[Any, ...]]


async def nothing(_kind: str, _object_id: str) -> None:
    """Do nothing: the hook of a mailbox in good health."""


class ScriptedMailbox(FakeMailbox):
    """A fake mailbox with a hook before every request.

    Kinds are ``folders``, ``changes``, ``page``, ``ids``, ``message``, ``locate``, ``attachments``
    and ``mime``. A round of delta keeps to the events of its beginning, so that it can be
    continued by a later run whatever happened in between.
    """

    hook: Hook = staticmethod(nothing)

    async def list_folders(self, *, recoverable: bool) -> FolderListing:
        await self.hook("folders", "")
        return await super().list_folders(recoverable=recoverable)

    async def folder_changes(self, link: str | None) -> FolderChanges:
        await self.hook("changes", "")
        return await super().folder_changes(link)

    async def message_page(
        self,
        folder_id: str,
        *,
        mode: EnumerationMode,
        link: str | None,
        page_size: int,
        lease: ByteLease,
    ) -> MessagePage:
        await self.hook("page", folder_id)
        return await super().message_page(
            folder_id, mode=mode, link=link, page_size=page_size, lease=lease
        )

    async def message_ids(self, folder_id: str) -> AsyncIterator[list[str]]:
        await self.hook("ids", folder_id)
        async for ids in super().message_ids(folder_id):
            yield ids

    async def get_message(self, message_id: str, *, lease: ByteLease) -> dict[str, Any]:
        await self.hook("message", message_id)
        return await super().get_message(message_id, lease=lease)

    async def locate_message(self, message_id: str) -> str | None:
        await self.hook("locate", message_id)
        return await super().locate_message(message_id)

    async def list_attachments(
        self, message_id: str, *, inline_limit: int, lease: ByteLease
    ) -> list[dict[str, Any]]:
        await self.hook("attachments", message_id)
        return await super().list_attachments(message_id, inline_limit=inline_limit, lease=lease)

    @asynccontextmanager
    async def open_mime(self, message_id: str) -> AsyncIterator[ContentStream]:
        await self.hook("mime", message_id)
        async with super().open_mime(message_id) as stream:
            yield stream

    def _events(self, folder_id: str, since: int, until: int) -> list[tuple[str, bool]]:
        if since:
            return super()._events(folder_id, since, until)
        log = self.folders[folder_id].log
        there = {message_id: present for number, message_id, present in log if number <= until}
        here = set(self.in_folder(folder_id))
        return [(i, i in here) for i, present in there.items() if present]


class _Watched:
    """Calls a function with the key before each PUT."""

    def __init__(self, tell: Callable[[str], Awaitable[None]]) -> None:
        self._tell = tell

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        if request.op is Op.PUT:
            await self._tell(request.key)
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        return enter()


class World:
    """A mailbox and its bucket.

    Args:
        mailbox: The mailbox; a new one by default.
        quirk: Whether a new mailbox shows A -> B -> A as a removal alone.
        budgets: Bytes in flight; other worlds may share them.

    ``past`` holds for every snapshot what the mailbox held when the run that made it ended.
    """

    def __init__(
        self,
        mailbox: ScriptedMailbox | None = None,
        *,
        quirk: bool = False,
        budgets: Budgets | None = None,
    ) -> None:
        self.mailbox = mailbox or ScriptedMailbox(return_quirk=quirk)
        self.inbox = self.mailbox.add_folder("Inbox")
        self.bucket = MemoryBucket(exists=True)
        self.store = MemoryStore(self.bucket)
        self.budgets = budgets or Budgets.of(1 << 20)
        self.clock = FakeClock()
        self.past: dict[str, State] = {}

    @property
    def vault(self) -> Vault:
        """Return a vault that has seen nothing of the bucket yet."""
        return self.vault_over(self.store)

    def vault_over(self, store: ObjectStore) -> Vault:
        """Return a vault under the fixed key over another store."""
        return Vault(store, Sealer(bytes(32)), self.mailbox.mailbox_id)

    def state(self) -> State:
        """Return what the mailbox holds now."""
        return {
            i: (m["parentFolderId"], m["subject"], m["isRead"], tuple(m["categories"]))
            for i, m in self.mailbox.messages.items()
        }

    async def back_up(
        self,
        *,
        stop: StopSignal | None = None,
        before_put: Callable[[str], Awaitable[None]] | None = None,
        **options: Any,
    ) -> MailboxResult:
        """Run one backup and remember what the mailbox held.

        Args:
            stop: Asks the run to end early.
            before_put: Called with the key before each PUT; it may raise or cancel.
            options: Fields of ``RunOptions``; pages hold 3 messages unless told.
        """
        await self.clock.advance(1)
        store: ObjectStore = self.store
        if before_put is not None:
            store = InterceptedStore(self.store, _Watched(before_put))
        around = Surroundings(self.budgets, self.clock, stop or StopSignal(), lambda _: None)
        run = RunOptions(**{"page_size": 3, **options})
        try:
            return await MailboxBackup(self.mailbox, self.vault_over(store), run, around).run()
        finally:
            await self._remember()

    async def _remember(self) -> None:
        with anyio.CancelScope(shield=True):
            for snapshot_id in await MailboxReader(self.vault).snapshot_ids():
                self.past.setdefault(snapshot_id, self.state())

    async def view(self, snapshot_id: str | None = None) -> SnapshotView:
        """Open a snapshot, the newest by default."""
        reader = MailboxReader(self.vault)
        wanted = snapshot_id or await reader.newest_id()
        assert wanted is not None
        return await reader.open(wanted)

    async def records(self, snapshot_id: str | None = None) -> dict[str, MessageRecord]:
        """Return the messages that a snapshot shows, its counts checked against them."""
        view = await self.view(snapshot_id)
        records = [r async for r in view.messages()]
        assert view.summary.messages == len(records)
        assert view.summary.size_bytes == sum(r["size_bytes"] for r in records)
        counts = {f.folder.id: f.message_count for f in view.folders}
        if view.summary.complete:
            assert {r["folder_id"] for r in records} <= counts.keys()
        for folder_id, number in counts.items():
            assert number == sum(r["folder_id"] == folder_id for r in records)
        return {r["object_id"]: r for r in records}

    async def shown(self, snapshot_id: str | None = None) -> State:
        """Return what a snapshot shows, in the form of ``state``."""
        records = await self.records(snapshot_id)
        return {
            i: (r["folder_id"], r["subject"], r["is_read"], tuple(r["categories"]))
            for i, r in records.items()
        }
