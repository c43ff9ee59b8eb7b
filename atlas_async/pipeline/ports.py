"""What the pipeline asks of the world: a mailbox to read. Stores have their own port.

The pipeline is handed these; it never imports an adapter. ``tests/graph`` tries the Graph adapter
against the emulator, ``tests/pipeline`` the pipeline against an in-memory fake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from atlas_async.model.source import (
    EnumerationMode,
    FolderChanges,
    FolderListing,
    JsonObject,
    MessagePage,
    Usage,
)


class ByteLease(Protocol):
    """A share of the byte budget that can be corrected once the true size is known."""

    def try_grow_to(self, size: int) -> bool:
        """Hold at least ``size`` bytes if that is possible at once; tell whether it was."""
        ...

    async def grow_to(self, size: int) -> None:
        """Hold at least ``size`` bytes; may wait, so never call it with a place in flight held."""
        ...


class ContentStream(Protocol):
    """The bytes of an attachment or of MIME as they arrive, once, in pieces of at most 1 MiB."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces in order."""
        ...


class MailboxSource(Protocol):
    """One mailbox. Every method obeys the mailbox's own limits and retries by itself.

    Errors are the ``GraphError`` subclasses. ``GraphItemError`` and ``GraphNotFound`` concern the
    one thing asked for; ``SyncStateGone`` and ``MailboxOverQuota`` ask for another way of reading
    the folder; ``NoMailbox`` and ``AuthError`` end the mailbox; ``GraphThrottled`` and
    ``GraphTransient`` mean that patience ran out. Everything may be cancelled at any await.
    """

    @property
    def mailbox_id(self) -> str:
        """The lower-cased address, as used in storage keys."""
        ...

    @property
    def usage(self) -> Usage:
        """What this mailbox has cost so far."""
        ...

    async def list_folders(self, *, recoverable: bool) -> FolderListing:
        """Return the whole tree: nested, hidden and empty folders, search folders skipped.

        Well-known names are resolved by well-known name. With ``recoverable``, the folder
        ``recoverableitemsdeletions`` and what lies below it are part of the listing. The root
        itself is listed (path ``()``) only when it holds items. The link of the folder delta comes
        from before anything was listed.
        """
        ...

    async def folder_changes(self, link: str | None) -> FolderChanges:
        """Run one whole round of the folder delta. Raises ``SyncStateGone`` for an old link."""
        ...

    async def message_page(
        self,
        folder_id: str,
        *,
        mode: EnumerationMode,
        link: str | None,
        page_size: int,
        lease: ByteLease,
    ) -> MessagePage:
        """Fetch one page; ``link`` None starts at the beginning of ``mode``.

        The full body is in the page. On 503/504, timeouts and truncated answers the page is asked
        for again with half the size, down to 1, before ``GraphTransient`` is raised.
        """
        ...

    def message_ids(self, folder_id: str) -> AsyncIterator[list[str]]:
        """Yield the ids of all messages now in the folder, 1,000 at a time, without content."""
        ...

    async def get_message(self, message_id: str, *, lease: ByteLease) -> JsonObject:
        """Return one message with the same properties as a page gives."""
        ...

    async def locate_message(self, message_id: str) -> str | None:
        """Return the id of the folder that holds the message now, or None when it is gone.

        An empty string means that it is there and Graph does not say where.
        """
        ...

    async def list_attachments(
        self, message_id: str, *, inline_limit: int, lease: ByteLease
    ) -> list[JsonObject]:
        """Return the attachments of a message; small file attachments carry ``contentBytes``.

        An answer longer than ``inline_limit`` bytes is abandoned and asked for again without
        content. Attachments of every kind are returned, in Graph's order.
        """
        ...

    def open_attachment(
        self, message_id: str, attachment_id: str
    ) -> AbstractAsyncContextManager[ContentStream]:
        """Open ``$value``: the raw bytes of a file attachment, the MIME of an item attachment.

        A stream that ends early raises ``GraphTransient`` from the iterator; open it again.
        """
        ...

    def open_mime(self, message_id: str) -> AbstractAsyncContextManager[ContentStream]:
        """Open a message's ``$value``: all of it as MIME, as Exchange writes it this time.

        ``GraphItemError`` says that Graph gives none of this message. A stream that ends early
        raises ``GraphTransient`` from the iterator; open it again.
        """
        ...
