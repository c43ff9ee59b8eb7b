"""What a restore has moved away for its own: put back, or lost, and what stays in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from atlas_async.errors import GraphNotFound
from atlas_async.model.restoring import RestoreFailure, UndoReport
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.progress import Replaced
from atlas_async.restore.visible import VisibleFolders

GONE: Final = "what was replaced is not there any more"
NO_FOLDER: Final = "the folder of what was replaced is not there any more"


class Predecessors:
    """Puts the messages back that a restore has replaced, and knows which successors must stay.

    A successor whose predecessor is lost for good stays: nothing else is left of the message. One
    whose predecessor could not be put back this time is held until another try.

    Entries of the journal that name no successor stand for all that was put into their folder.

    Args:
        target: The mailbox.
        visible: Its folders.
        report: Takes what comes of it.
    """

    def __init__(self, target: TargetMailbox, visible: VisibleFolders, report: UndoReport) -> None:
        self._target = target
        self._visible = visible
        self._report = report
        self._lost: dict[str, tuple[Replaced, str]] = {}
        self._reasons: dict[str, str] = {}
        self._held: set[str] = set()
        self._succeeded: set[str] = set()

    async def put_back(self, moved: tuple[str, Replaced]) -> None:
        """Move one message back to the folder that it was in, or note that it is lost.

        Raises:
            GraphError: The mailbox refuses; ``hold`` its successor.
        """
        object_id, replaced = moved
        now_in = await self._target.folder_of(object_id)
        if now_in is None:
            self._lose(object_id, replaced, GONE)
        elif now_in == replaced.folder_id:
            return  # it was put back before, or a kill came between noting the move and making it
        elif not await self._visible.shows(replaced.folder_id):
            self._lose(object_id, replaced, NO_FOLDER)
        elif self._report.dry_run or await self._target.move_message(object_id, replaced.folder_id):
            self._report.put_back += 1
        else:
            raise GraphNotFound("the message or its folder went away meanwhile", where=object_id)

    def hold(self, replaced: Replaced) -> None:
        """Note that a message was not put back this time."""
        self._held.add(_name(replaced))

    def holds(self, mark: str, folder_id: str) -> bool:
        """Tell whether a successor stays until its predecessor could be put back."""
        return bool(self._held & {mark, _in_folder(folder_id)})

    def why_stays(self, mark: str, folder_id: str) -> str:
        """Return why a successor stays for good; an empty string where it does not."""
        for name in (mark, _in_folder(folder_id)):
            if name in self._reasons:
                self._succeeded.add(name)
                return f"it stays: {self._reasons[name]}"
        return ""

    def lost_without_successor(self) -> Iterator[RestoreFailure]:
        """Yield what cannot be put back and has no successor either any more."""
        for object_id, (replaced, reason) in self._lost.items():
            if _name(replaced) not in self._succeeded:
                path = self._visible.path_of(replaced.folder_id)
                yield RestoreFailure("message", object_id, path, "", "Gone", reason)

    def _lose(self, object_id: str, replaced: Replaced, reason: str) -> None:
        self._report.not_put_back += 1
        self._lost[object_id] = replaced, reason
        self._reasons[_name(replaced)] = reason


def _name(replaced: Replaced) -> str:
    return replaced.mark or _in_folder(replaced.folder_id)


def _in_folder(folder_id: str) -> str:
    """Return what stands for all marks of a folder; no mark looks like this."""
    return f"folder {folder_id}"
