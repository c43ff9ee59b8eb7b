"""In which of several snapshots a message was last: each run of rows is looked into once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from anyio import to_thread

from atlas_async.catalog.segment import Segment, slot_of
from atlas_async.catalog.state import Run, load_segment
from atlas_async.catalog.vault import Vault
from atlas_async.model.record import is_gone


class Locator:
    """Tells the newest snapshot that has a message.

    Args:
        vault: The mailbox's objects.
        snapshots: Ids with their runs, both oldest first.
    """

    def __init__(self, vault: Vault, snapshots: Sequence[tuple[str, Sequence[Run]]]) -> None:
        self._vault = vault
        distinct = dict.fromkeys(run for _, runs in snapshots for run in runs)
        numbers = {run: number for number, run in enumerate(distinct)}
        self._runs = tuple(distinct)
        self._snapshots = [
            (snapshot_id, [numbers[run] for run in reversed(runs)])
            for snapshot_id, runs in reversed(snapshots)
        ]

    async def locate(self, object_ids: Iterable[str]) -> dict[str, str]:
        """Return the newest snapshot of each message that any of them has.

        Raises:
            ObjectNotFound, IntegrityError: A segment is missing or damaged.
            StoreError: The store failed.
        """
        wanted = sorted((slot_of(object_id), object_id) for object_id in set(object_ids))
        rows: dict[str, dict[int, bool]] = {object_id: {} for _, object_id in wanted}
        for number, run in enumerate(self._runs):
            for ref in run.segments:
                here = [item for item in wanted if ref.first <= item[0] <= ref.last]
                if not here:
                    continue
                segment = await load_segment(self._vault, ref)
                for object_id, live in await to_thread.run_sync(_states, segment, here):
                    rows[object_id][number] = live
        return await to_thread.run_sync(self._newest, rows)

    def _newest(self, rows: Mapping[str, Mapping[int, bool]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for object_id, states in rows.items():
            for snapshot_id, numbers in self._snapshots if states else ():
                newest = next((number for number in numbers if number in states), None)
                if newest is not None and states[newest]:
                    found[object_id] = snapshot_id
                    break
        return found


def _states(segment: Segment, wanted: Sequence[tuple[int, str]]) -> list[tuple[str, bool]]:
    """Return those of the wanted messages that a segment has, and whether they are live in it."""
    blocks = {segment.block_for(slot) for slot, _ in wanted}
    # Rows of one slot may straddle a border of blocks, so the block before is looked into as well.
    blocks |= {number - 1 for number in blocks}
    names = {object_id for _, object_id in wanted}
    return [
        (row["object_id"], not is_gone(row))
        for number in sorted(blocks)
        if number >= 0
        for row in segment.block(number)
        if row["object_id"] in names
    ]
