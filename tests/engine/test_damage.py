"""A damaged object of the catalog costs what it alone says; the rest stays readable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atlas_async.catalog.layout import snapshot_key
from atlas_async.errors import IntegrityError
from atlas_async.model.report import Outcome
from tests.fakes.rig import SMALL, USER, Rig, open_rig

BARE = replace(SMALL, messages=12, attachment_share=0.0, inline_share=0.0, smime_share=0.0)


def damage(rig: Rig, key: str) -> None:
    """Flip the last bit of an object."""
    stored = rig.bucket.objects[key]
    body = stored.body[:-1] + bytes([stored.body[-1] ^ 1])
    rig.bucket.objects[key] = replace(stored, body=body)


async def three_snapshots(rig: Rig) -> list[str]:
    """Make three snapshots and return their ids, oldest first."""
    ids = []
    for number in range(3):
        rig.mutate(op="create", folder="inbox", subject=f"day {number}")
        result = await rig.back_up_user()
        assert result.snapshot_id is not None
        ids.append(result.snapshot_id)
    return ids


@pytest.mark.parametrize("which", [0, 1])
async def test_damaged_descriptor_hides_no_other_snapshot(which: int) -> None:
    """A list names the damaged snapshot with a sentence, and the others as ever."""
    async with open_rig(BARE) as rig:
        ids = await three_snapshots(rig)
        async with rig.engine() as atlas:
            before = await atlas.list_snapshots(USER)
            damage(rig, snapshot_key(USER, ids[which]))
            after = await atlas.list_snapshots(USER)
            assert [s.snapshot_id for s in after] == ids
            hurt = after[which]
            assert len(hurt.damage.split()) > 3
            assert not hurt.complete
            for number in {0, 1, 2} - {which}:
                assert after[number] == before[number]
            (mailbox,) = await atlas.list_mailboxes()
            assert mailbox.mailbox_id == USER
            with pytest.raises(IntegrityError):
                await atlas.open_snapshot(ids[which])
        newest = await rig.view(None)
        assert newest.summary.snapshot_id == ids[2]
        await rig.assert_exact(newest, rig.truth())


async def test_newest_readable_snapshot_opens_when_head_and_descriptor_are_damaged() -> None:
    """Without head and newest descriptor, the newest snapshot that can be read is opened."""
    async with open_rig(BARE) as rig:
        ids = await three_snapshots(rig)
        damage(rig, f"catalog/{USER}/head")
        damage(rig, snapshot_key(USER, ids[2]))
        assert (await rig.view(None)).summary.snapshot_id == ids[1]


async def test_missing_descriptor_is_told_apart_from_a_foreign_one() -> None:
    """A snapshot whose descriptor is gone is found missing by verify and damaged in the list."""
    async with open_rig(BARE) as rig:
        ids = await three_snapshots(rig)
        del rig.bucket.objects[snapshot_key(USER, ids[0])]
        async with rig.engine() as atlas:
            report = await atlas.verify(mailbox=USER)
            assert [f.key for f in report.missing] == [snapshot_key(USER, ids[0])]
            assert report.foreign == []
            assert report.exit_code == 16
            damaged = [s.snapshot_id for s in await atlas.list_snapshots(USER) if s.damage]
        assert damaged == [ids[0]]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("gone", [False, True])
async def test_backup_starts_over_beside_damaged_segments(full: bool, gone: bool) -> None:
    """When the rows of earlier runs cannot be read, the next run is complete all the same."""
    async with open_rig(BARE) as rig:
        await three_snapshots(rig)
        for key in rig.keys(f"catalog/{USER}/segments/"):
            if gone:
                del rig.bucket.objects[key]
            else:
                damage(rig, key)
        rig.mutate(op="create", folder="inbox", subject="new mail")
        result = await rig.back_up_user(full=full)
        assert (result.outcome, result.exit_code) == (Outcome.COMPLETE, 0)
        assert any("cannot be continued" in notice for notice in result.notices)
        assert result.stored == 1
        view = await rig.view()
        assert view.summary.complete
        await rig.assert_exact(view, rig.truth())
        rig.mutate(op="create", folder="inbox", subject="newer mail")
        calm = await rig.back_up_user()
        assert (calm.outcome, calm.notices) == (Outcome.COMPLETE, ())
        await rig.assert_exact(await rig.view(), rig.truth())


async def test_opening_the_newest_of_many_snapshots_reads_the_head_and_its_own() -> None:
    """The newest snapshot is found without reading the descriptors of the others."""
    async with open_rig(BARE) as rig:
        ids = await three_snapshots(rig)
        for snapshot_id in ids[:2]:
            damage(rig, snapshot_key(USER, snapshot_id))
        assert (await rig.view(None)).summary.snapshot_id == ids[2]
