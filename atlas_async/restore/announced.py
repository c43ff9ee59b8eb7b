"""Messages that a restore was about to create from MIME, and perhaps has created.

MIME cannot carry a mark: Exchange drops headers that a mailbox does not know yet. So each of them
is announced in the journal, durably, before it is created, with what the folder had of its id until
then. What a kill leaves without a mark is known by that.
"""

from __future__ import annotations

from collections.abc import Iterable

from atlas_async.errors import GraphNotFound
from atlas_async.model.restoring import Present
from atlas_async.restore.enclosures import FROM_MIME
from atlas_async.restore.journal import Journal
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.progress import Announced, Made


class Unmarked:
    """Tells messages that were announced from those of others.

    Args:
        announced: What earlier runs announced, and did not note as made.
    """

    def __init__(self, announced: Iterable[Announced]) -> None:
        self._by_key: dict[str, list[Announced]] = {}
        for told in announced:
            self._by_key.setdefault(told.message_id.strip(), []).append(told)

    def has(self, item: Present) -> bool:
        """Tell whether a message may be one that was announced."""
        return any(told.fits(item) for told in self._by_key.get(item.key, ()))


async def find_announced(target: TargetMailbox, told: Announced) -> list[Present]:
    """Return what may have been made of an announced message: marked by now, or not yet.

    Raises:
        GraphError, AuthError: The target cannot be asked.
    """
    try:
        found = await target.find(told.folder_id, told.message_id, told.mark)
    except GraphNotFound:
        return []  # the folder is gone, and what it held with it
    return [item for item in found if item.mark == told.mark or told.fits(item)]


async def note_announced(target: TargetMailbox, journal: Journal) -> None:
    """Put into the journal what was made and is not marked, so that it can be taken back.

    Raises:
        GraphError, AuthError: The target cannot be asked.
        StoreError: The store failed.
    """
    progress = journal.progress
    for told in list(progress.announced.values()):
        found = await find_announced(target, told)
        if any(item.mark for item in found):
            continue  # its mark tells
        for item in found:
            if progress.fingerprint_of(item.object_id) is None:
                made = Made(told.mark, item.object_id, told.folder_id, 0, FROM_MIME, complete=False)
                journal.made(made)
                break
    await journal.flush()
