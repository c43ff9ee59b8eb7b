"""After a restore: what the target shows, compared with what was sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from anyio import to_thread

from atlas_async.errors import GraphNotFound
from atlas_async.model.restoring import MOST_LISTED, Comparing, Comparison, Difference
from atlas_async.model.source import JsonObject
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.enclosures import FROM_MIME, digest_of, line_of_file, line_of_other
from atlas_async.restore.fingerprint import differing_from_shown
from atlas_async.restore.marks import slot_of_mark
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.progress import Progress
from atlas_async.side_by_side import until_first_error

AT_ONCE: Final = 6
_KINDS: Final = {
    "#microsoft.graph.itemattachment": "item",
    "#microsoft.graph.referenceattachment": "reference",
}


@dataclass(slots=True)
class _Found:
    """Messages of a folder that the restore has made: still to be compared, compared before."""

    due: int = 0
    settled: int = 0


class Comparer:
    """Reads back what a restore has made.

    Args:
        target: The mailbox.
        progress: What was made.
        comparing: What to look at.
        own: What the marks of this restore begin with.
        stop: Ends the reading early, in order.
    """

    def __init__(
        self,
        target: TargetMailbox,
        progress: Progress,
        comparing: Comparing,
        own: str,
        stop: StopSignal,
    ) -> None:
        self._stop = stop
        self._target = target
        self._progress = progress
        self._comparing = comparing
        self._own = own
        self.result = Comparison()
        self.twins: list[str] = []

    async def compare(
        self,
        paths: Mapping[str, tuple[str, ...]],
        chosen: Collection[str],
        elsewhere: Mapping[str, int],
    ) -> Comparison:
        """Compare every folder that got messages since a run ended in order.

        What an earlier run has made, and compared, in these folders and in the chosen ones is
        looked at, too; what is not as it was then has changed since.

        ``twins`` holds what a request made that was repeated and then carried out twice.

        Args:
            paths: Names of folders, for the report.
            chosen: Folders that this run was to put messages into.
            elsewhere: How many of a folder's messages that are still to be compared somebody has
                moved on.

        Raises:
            GraphError, AuthError: The target cannot be read.
        """
        counts, due = self._progress.counts, self._progress.due
        for folder_id in sorted(counts):
            if not due.get(folder_id) and folder_id not in chosen:
                continue
            found = await self._folder(folder_id, paths.get(folder_id, ()))
            if self._stop.requested:
                return self.result
            expected = due.get(folder_id, 0)
            self.result.missing += max(0, expected - elsewhere.get(folder_id, 0) - found.due)
            self.result.gone += max(0, counts[folder_id] - expected - found.settled)
        return self.result

    async def _folder(self, folder_id: str, path: tuple[str, ...]) -> _Found:
        marks: set[str] = set()
        found = _Found()
        try:
            if self._comparing is Comparing.COUNTS:
                async for present in self._target.present(folder_id):
                    for there in present:
                        self._count(there.object_id, found)
                        self._note_twin(there.object_id, there.mark, marks)
                    if self._stop.requested:
                        break
                self.result.compared += found.due + found.settled
                return found
            async for page in self._target.read_back(folder_id):
                ours = [item for item in page if self._count(str(item["id"]), found)]
                for item in page:
                    self._note_twin(str(item["id"]), str(item.get("mark") or ""), marks)
                await self._messages(ours, path)
                if self._stop.requested:
                    break
        except GraphNotFound:
            return found  # the folder is gone, and all that it held counts as missing
        return found

    def _count(self, target_id: str, found: _Found) -> bool:
        """Count a message that this restore has made; False for others."""
        if not self._is_made(target_id):
            return False
        if self._progress.is_target_due(target_id):
            found.due += 1
        else:
            found.settled += 1
        return True

    def _is_made(self, target_id: str) -> bool:
        return self._progress.fingerprint_of(target_id) is not None

    def _note_twin(self, target_id: str, mark: str, marks: set[str]) -> None:
        if not mark.startswith(self._own):
            return
        made = self._is_made(target_id)
        if not made and mark in self._target.repeated and self._progress.knows(mark):
            self.twins.append(target_id)
            return
        if mark in marks and self._progress.is_due(slot_of_mark(mark)):
            self.result.duplicates += 1
        marks.add(mark)

    async def _messages(self, page: list[JsonObject], path: tuple[str, ...]) -> None:
        async def one(item: JsonObject) -> None:
            try:
                await self._message(item, path)
            except GraphNotFound:
                if self._progress.is_target_due(str(item["id"])):
                    self.result.missing += 1
                else:
                    self.result.gone += 1

        await until_first_error(one, page, at_once=AT_ONCE)

    async def _message(self, item: JsonObject, path: tuple[str, ...]) -> None:
        target_id = str(item["id"])
        sent = self._progress.fingerprint_of(target_id)
        if sent is None:
            return
        parts = await to_thread.run_sync(differing_from_shown, sent, item)
        enclosed = self._progress.enclosed_of(target_id)
        if enclosed != FROM_MIME and (enclosed or item.get("hasAttachments")):
            lines = await self._lines(target_id)
            if digest_of(lines) & 0xFFFFFFFF != enclosed:
                parts = (*parts, "attachments")
        self.result.compared += 1
        if parts and not self._progress.is_target_due(target_id):
            self.result.changed += 1
        elif parts:
            self.result.different += 1
            if len(self.result.differences) < MOST_LISTED:
                self.result.differences.append(Difference(target_id, path, parts))

    async def _lines(self, target_id: str) -> list[str]:
        lines = []
        for attachment in await self._target.list_attachments(target_id):
            name = str(attachment.get("name") or "")
            kind = _KINDS.get(str(attachment.get("@odata.type", "")).lower(), "file")
            if kind != "file":
                lines.append(line_of_other(kind, name))
                continue
            lines.append(line_of_file(name, await self._checksum(target_id, attachment)))
        return lines

    async def _checksum(self, target_id: str, attachment: JsonObject) -> str:
        given = attachment.get("contentBytes")
        if isinstance(given, str):
            try:
                return hashlib.sha256(base64.b64decode(given, validate=True)).hexdigest()
            except binascii.Error:
                return ""
        digest = hashlib.sha256()
        async with self._target.open_attachment(target_id, str(attachment["id"])) as pieces:
            async for piece in pieces:
                await to_thread.run_sync(digest.update, piece)
        return digest.hexdigest()
