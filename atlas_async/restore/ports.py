"""What a restore asks of the mailbox it writes to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from atlas_async.model.restoring import Present
from atlas_async.model.source import FolderListing, JsonObject, Usage


class Content(Protocol):
    """Bytes of known length, in order, once; an error at their end says that they are not right."""

    size: int

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        ...


OpenContent = Callable[[], AbstractAsyncContextManager[Content]]
"""Opens content from its beginning; called again when it must be sent again."""


class Download(Protocol):
    """The bytes of an attachment as they arrive."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        ...


class TargetMailbox(Protocol):
    """A mailbox that is written to. Every method keeps the mailbox's limits and tries again.

    Errors are ``GraphError`` subclasses, and ``ConsentError`` where the permission is missing.
    Everything may be cancelled at any await; whether what was under way was carried out is not
    known then.
    """

    @property
    def mailbox_id(self) -> str:
        """The lower-cased address."""
        ...

    @property
    def user_id(self) -> str:
        """The directory's object id of its owner."""
        ...

    @property
    def usage(self) -> Usage:
        """What this mailbox has cost so far."""
        ...

    @property
    def bytes_sent(self) -> int:
        """Bytes of bodies sent so far."""
        ...

    @property
    def repeated(self) -> AbstractSet[str]:
        """Marks of messages whose create was sent again: a lost request may be carried out late."""
        ...

    async def list_folders(self) -> FolderListing:
        """Return the whole folder tree."""
        ...

    async def create_folder(self, parent_id: str, name: str, *, hidden: bool) -> tuple[str, bool]:
        """Return the id of a child folder of this name, and whether it was created now."""
        ...

    def present(self, folder_id: str) -> AsyncIterator[list[Present]]:
        """Yield what the folder holds, without content."""
        ...

    async def find(self, folder_id: str, message_id: str, mark: str) -> list[Present]:
        """Return the folder's messages that have this internet message id, or this mark.

        ``message_id`` is what the server has, with white space around it. What it finds is the same
        but for that. Of a message without an id it is the key (``message_identity``), and the mark
        is what finds it.
        """
        ...

    async def folder_of(self, object_id: str) -> str | None:
        """Return the id of the folder a message is in, deleted or not; None when it is gone."""
        ...

    async def preview_of(self, object_id: str) -> str:
        """Return the first characters of a message's text, 255 at most."""
        ...

    async def create_message(
        self, folder_id: str, letter: JsonObject, *, mark: str, alone: bool
    ) -> str:
        """Create a message and return its id.

        Args:
            folder_id: Where.
            letter: The message, with its mark.
            mark: The mark, to look for where an answer was lost.
            alone: No other message of the folder has this internet message id, so that one that is
                found is this one, even where the server shows no marks.
        """
        ...

    async def create_from_mime(
        self, folder_id: str, mime: bytes, *, message_id: str, before: Collection[str]
    ) -> str:
        """Create a draft from MIME and return its id.

        ``before`` are the messages of its ``message_id`` that the folder has already.
        """
        ...

    async def update_message(self, object_id: str, patch: JsonObject) -> None:
        """Change properties of a message."""
        ...

    async def add_attachment(self, object_id: str, attachment: JsonObject, *, had: int) -> None:
        """Add an attachment that fits into one request; once, however often it is tried.

        ``had`` attachments of its name are there already.
        """
        ...

    async def upload_attachment(
        self, object_id: str, description: JsonObject, content: OpenContent, *, had: int
    ) -> None:
        """Add a file through an upload session, range by range; ``had`` as above."""
        ...

    async def attachment_names(self, object_id: str) -> Sequence[str]:
        """Return the names of a message's attachments, one for each."""
        ...

    async def move_message(self, object_id: str, folder_id: str) -> bool:
        """Move a message; False when it is not there any more."""
        ...

    async def delete_message(self, object_id: str) -> bool:
        """Delete a message, to where users can recover it; False when it is not there any more."""
        ...

    async def delete_folder(self, folder_id: str) -> bool:
        """Delete a folder that holds nothing; False when it holds anything."""
        ...

    def read_back(self, folder_id: str) -> AsyncIterator[list[JsonObject]]:
        """Yield the folder's messages with what is compared, and with their marks."""
        ...

    async def list_attachments(self, object_id: str) -> list[JsonObject]:
        """Return the attachments of a message; small files with their content."""
        ...

    def open_attachment(
        self, object_id: str, attachment_id: str
    ) -> AbstractAsyncContextManager[Download]:
        """Open the content of an attachment."""
        ...
