"""Runs of rows: however they are split and merged, the newest row of every id is the state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.catalog import segment as segment_module
from atlas_async.catalog import state as state_module
from atlas_async.catalog.segment import row_order
from atlas_async.catalog.state import (
    RATIO,
    Run,
    RunWriter,
    StateReader,
    compact,
    merge,
    merge_start,
    write_run,
)
from atlas_async.catalog.vault import Vault
from atlas_async.errors import ForeignObject, ObjectNotFound
from atlas_async.model.record import Row, Tombstone
from tests.fakes.engine import message_row
from tests.fakes.vaults import existing_store, new_vault

Step = dict[str, int | None]
"""What one snapshot changed: id -> version of the row, or None for a tombstone."""

IDS = [f"id-{number}" for number in range(24)]
STEPS = st.lists(
    st.dictionaries(st.sampled_from(IDS), st.none() | st.integers(0, 9), max_size=10), max_size=9
)


def crowded_slot(object_id: str) -> int:
    """Give every id one of three slots, so that many rows share one."""
    return int(hashlib.sha256(object_id.encode()).hexdigest(), 16) % 3


@pytest.fixture(params=["own slots", "shared slots"], scope="module", autouse=True)
def small_segments(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make segments and blocks a few rows long; once, make most rows share their slot."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "SEGMENT_ROWS", 6)
        patch.setattr(state_module, "BLOCK_ROWS", 2)
        if request.param == "shared slots":
            patch.setattr(segment_module, "slot_of", crowded_slot)
            patch.setattr(state_module, "slot_of", crowded_slot)
        yield


def row_of(object_id: str, version: int | None) -> Row:
    """Return a row, or a tombstone."""
    if version is None:
        return Tombstone(object_id=object_id, gone=True)
    return message_row(object_id=object_id, size_bytes=version)


def rows_of(step: Step) -> list[Row]:
    """Return the rows of a step, in no order."""
    return [row_of(object_id, version) for object_id, version in step.items()]


def live(state: dict[str, int | None]) -> list[Row]:
    """Return the rows that a state shows, in row order."""
    kept = {i: v for i, v in state.items() if v is not None}
    return sorted(rows_of(dict(kept)), key=row_order)


async def all_rows(vault: Vault, runs: tuple[Run, ...]) -> list[Row]:
    """Return everything a reader walks through."""
    return [row async for batch in StateReader(vault, runs).rows() for row in batch]


@given(STEPS, st.lists(st.booleans(), min_size=9, max_size=9))
async def test_runs_are_a_dictionary(steps: list[Step], compacting: list[bool]) -> None:
    """Any upserts and tombstones, in any runs, compacted at any time, equal a plain dict."""
    vault = new_vault()
    state: Step = {}
    runs: tuple[Run, ...] = ()
    for step, compacts in zip(steps, compacting, strict=False):
        state |= step
        runs = (*runs, await write_run(vault, rows_of(step)))
        if compacts:
            runs = await compact(vault, runs)
    assert await all_rows(vault, runs) == live(state)
    found = await StateReader(vault, runs).find([*IDS, "unknown"])
    assert found == {row["object_id"]: row for row in live(state)}


@given(STEPS)
async def test_a_merge_that_keeps_tombstones_keeps_the_newest_of_them(steps: list[Step]) -> None:
    """Merging part of the runs must hide older rows, so it shows what was removed as well."""
    vault = new_vault()
    runs = [await write_run(vault, rows_of(step)) for step in steps]
    state: Step = {}
    for step in steps:
        state |= step
    merged = [row async for batch in merge(vault, runs, keep_gone=True) for row in batch]
    assert merged == sorted(rows_of(state), key=row_order)


@given(STEPS)
async def test_compacting_changes_nothing_and_holds_the_ratio(steps: list[Step]) -> None:
    """After compaction every run is at least eight times as large as all newer ones together."""
    vault = new_vault()
    runs = tuple([await write_run(vault, rows_of(step)) for step in steps])
    before = await all_rows(vault, runs)
    after = await compact(vault, runs)
    assert await all_rows(vault, after) == before
    counts = [run.count for run in after]
    for index, count in enumerate(counts):
        assert count >= RATIO * sum(counts[index + 1 :])
    if len(after) == 1:
        assert after[0].count >= len(before)


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_merging_from_the_start_found_restores_the_ratio(counts: list[int]) -> None:
    """What stays is large enough, and no run more than needed is merged."""
    start = merge_start(counts)
    merged = [*counts[:start], *([sum(counts[start:])] if start < len(counts) else [])]
    for index, count in enumerate(merged):
        assert count >= RATIO * sum(merged[index + 1 :])
    if start < len(counts):
        assert counts[start] < RATIO * sum(counts[start + 1 :])


def test_nothing_is_merged_where_nothing_needs_it() -> None:
    """A ladder of runs in ratio, or a single run, stays."""
    assert merge_start([]) == 0
    assert merge_start([5]) == 1
    assert merge_start([800, 80, 8, 1]) == 4
    assert merge_start([800, 80, 8, 2]) == 2
    assert merge_start([10, 800, 80]) == 0


def test_the_number_of_runs_grows_with_the_logarithm() -> None:
    """After thousands of snapshots of one change each, a handful of runs is left."""
    counts = [50_000]
    most = 0
    for _ in range(20_000):
        counts.append(1)
        start = merge_start(counts)
        if len(counts) - start >= 2:
            counts[start:] = [sum(counts[start:])]
        most = max(most, len(counts))
    assert most <= 7


async def test_many_snapshots_of_a_real_state_leave_few_runs() -> None:
    """Eighty commits over a mailbox leave its state exact and its runs few."""
    vault = new_vault()
    state: Step = dict.fromkeys((f"m{number}" for number in range(60)), 1)
    runs: tuple[Run, ...] = (await write_run(vault, rows_of(state)),)
    for number in range(80):
        step: Step = {f"m{number % 70}": number, f"m{(number * 7) % 60}": None}
        state |= step
        runs = await compact(vault, (*runs, await write_run(vault, rows_of(step))))
        assert len(runs) <= 4
    assert await all_rows(vault, runs) == live(state)


async def test_a_mailbox_that_was_emptied_has_no_rows() -> None:
    """When everything is gone the merged run holds no tombstones, and no segment is written."""
    vault = new_vault()
    full: Step = dict.fromkeys(IDS, 1)
    empty: Step = dict.fromkeys(IDS)
    runs = [await write_run(vault, rows_of(full)), await write_run(vault, rows_of(empty))]
    assert await compact(vault, runs) == ()
    assert StateReader(vault, ()).empty
    assert await StateReader(vault, ()).find(IDS) == {}


async def test_a_writer_splits_rows_into_segments_without_overlap() -> None:
    """Rows handed over in any portions become segments of the agreed length, in order."""
    vault = new_vault()
    rows = sorted(rows_of(dict.fromkeys(IDS, 3)), key=row_order)
    writer = RunWriter(vault)
    for start, stop in ((0, 1), (1, 13), (13, 13), (13, 24)):
        await writer.add(rows[start:stop])
    run = await writer.finish()
    assert [ref.count for ref in run.segments] == [6, 6, 6, 6]
    assert run.count == 24
    assert all(a.last <= b.first for a, b in zip(run.segments, run.segments[1:], strict=False))
    assert Run.from_json(run.to_json()) == run
    assert await all_rows(vault, (run,)) == rows


async def test_sizes_in_references_are_those_of_the_stored_objects() -> None:
    """A descriptor's segment references tell the sealed size."""
    store = existing_store()
    run = await write_run(new_vault(store), rows_of(dict.fromkeys(IDS, 1)))
    sizes = {info.info.size for info in store.bucket.objects.values()}
    assert {ref.size for ref in run.segments} == sizes


async def test_the_same_rows_are_the_same_segments() -> None:
    """Writing a state again, in another order, adds no object."""
    store = existing_store()
    vault = new_vault(store)
    step: Step = dict.fromkeys(IDS, 1)
    one = await write_run(vault, rows_of(step))
    other = await write_run(vault, reversed(rows_of(step)))
    assert one == other
    assert len(store.bucket.objects) == len(one.segments)


async def test_lookups_stay_right_when_caches_overflow() -> None:
    """More segments and blocks than are kept in memory are read again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "CACHED_SEGMENTS", 1)
        patch.setattr(state_module, "CACHED_BLOCKS", 1)
        vault = new_vault()
        reader = StateReader(vault, [await write_run(vault, rows_of(dict.fromkeys(IDS, 1)))])
        for _ in range(2):
            assert (await reader.find(IDS)).keys() == set(IDS)


async def test_a_missing_segment_is_told() -> None:
    """A state with a hole is an error, never a shorter state."""
    store = existing_store()
    vault = new_vault(store)
    run = await write_run(vault, rows_of(dict.fromkeys(IDS, 1)))
    await store.delete(f"catalog/{vault.mailbox_id}/segments/{run.segments[2].checksum}")
    with pytest.raises(ObjectNotFound):
        await all_rows(vault, (run,))
    with pytest.raises(ObjectNotFound):
        await StateReader(vault, (run,)).find(IDS)


async def test_a_segment_in_anothers_place_is_told() -> None:
    """A valid segment that lies below another's name is foreign."""
    store = existing_store()
    vault = new_vault(store)
    run = await write_run(vault, rows_of(dict.fromkeys(IDS, 1)))
    keys = sorted(store.bucket.objects)
    store.bucket.objects[keys[0]] = store.bucket.objects[keys[1]]
    with pytest.raises(ForeignObject):
        await all_rows(vault, (run,))


async def test_a_large_state_comes_in_portions() -> None:
    """A walk through thousands of rows yields them some hundred at a time, all of them."""
    vault = new_vault()
    ids = [f"m{number}" for number in range(1_300)]
    run = await write_run(vault, rows_of(dict.fromkeys(ids, 1)))
    batches = [len(batch) async for batch in StateReader(vault, (run,)).rows()]
    assert sum(batches) == len(ids)
    assert max(batches) < len(ids)
