"""Putting away what a restored message replaces."""

from __future__ import annotations

from typing import Final

from atlas_async.errors import GraphItemError
from atlas_async.restore.journal import Journal
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.visible import VisibleFolders

NOT_REPLACED: Final = "what it was to replace is not in its folder any more: it stays where it is"
NOT_PUT_AWAY: Final = (
    "it was created, but the message that it replaces is not found when it is to be moved to "
    "Deleted Items, and is beside it: run the restore again"
)


class Replacer:
    """Moves messages to Deleted Items whose successors are there (R2).

    Args:
        target: The mailbox that is restored to.
        journal: Told of each, durably, before it is moved.
        visible: The target's folders.
    """

    def __init__(self, target: TargetMailbox, journal: Journal, visible: VisibleFolders) -> None:
        self._target = target
        self._journal = journal
        self._visible = visible

    async def put_away(self, object_id: str, folder_id: str, *, mark: str) -> bool:
        """Move a message out of its folder; False when it is not there any more.

        Args:
            object_id: Which.
            folder_id: Where it was when it was decided to replace it.
            mark: The mark of its successor.

        Raises:
            GraphItemError: It is there still, and the server does not move it.
            GraphError: As it comes.
            StoreError: The journal cannot be written.
        """
        if await self._target.folder_of(object_id) != folder_id:
            return False
        self._journal.replaced(object_id, folder_id, mark=mark)
        await self._journal.flush()
        if self._visible.is_bin(folder_id):
            # In Deleted Items itself there is only one place further down.
            moved = await self._target.delete_message(object_id)
        else:
            moved = await self._target.move_message(object_id, "deleteditems")
        if not moved and await self._target.folder_of(object_id) == folder_id:
            raise GraphItemError(NOT_PUT_AWAY, where=f"message {object_id}")
        return moved
