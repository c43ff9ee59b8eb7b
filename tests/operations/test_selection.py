"""Which messages a selection means: of a snapshot, of a day, of a time, of folders, by their ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from atlas_async.catalog.layout import snapshot_key
from atlas_async.errors import SnapshotNotFound, UsageError
from atlas_async.model.record import MessageRecord
from atlas_async.operations.selection import Selected, Selection, folders_named, select
from atlas_async.operations.tenant import Tenant
from atlas_async.sdk import Atlas
from tests.fakes.golden import golden_settings, golden_store
from tests.fakes.rig import SMALL, USER, Rig, open_rig

OPTIONS: Final = replace(SMALL, messages=40, attachment_share=0.0)
MOMENT: Final = timedelta(milliseconds=1)


@dataclass
class Days:
    """A mailbox that was backed up on several days; ``held`` is what each snapshot holds."""

    rig: Rig
    atlas: Atlas
    ids: list[str] = field(default_factory=list)
    moments: list[datetime] = field(default_factory=list)
    held: list[dict[str, dict[str, Any]]] = field(default_factory=list)

    async def back_up(self) -> None:
        """Make the next snapshot."""
        await self.atlas.backup([USER])
        snapshots = sorted(await self.atlas.list_snapshots(USER), key=lambda s: s.created_at)
        (fresh,) = [s for s in snapshots if s.snapshot_id not in self.ids]
        self.ids.append(fresh.snapshot_id)
        self.moments.append(datetime.fromisoformat(fresh.created_at))
        reachable = self.rig.reachable()
        truth = self.rig.truth()["messages"]
        self.held.append({m["immutableId"]: m for m in truth if m["immutableId"] in reachable})

    @property
    def tenant(self) -> Tenant:
        """Where the snapshots are."""
        return self.atlas._opened

    async def chosen(self, **conditions: Any) -> Selected:
        """Return what a selection means."""
        conditions.setdefault("mailbox", USER)
        return await select(self.tenant, Selection(**conditions))

    async def records(self, **conditions: Any) -> dict[str, MessageRecord]:
        """Return the messages of a selection by id, each met once."""
        selected = await self.chosen(**conditions)
        found = [record async for record in selected.messages()]
        assert len({record["object_id"] for record in found}) == len(found)
        return {record["object_id"]: record for record in found}


@asynccontextmanager
async def days() -> AsyncIterator[Days]:
    """Three snapshots: between them mail is deleted, comes, moves and is read."""
    async with open_rig(OPTIONS) as rig, rig.engine() as atlas:
        made = Days(rig, atlas)
        await made.back_up()
        first, second, third = [m["immutableId"] for m in rig.messages_in("inbox")[:3]]
        rig.mutate(op="delete", message=first, hard=True)
        rig.mutate(op="move", message=second, folder="archive")
        rig.mutate(op="update", message=third, patch={"categories": ["Seen"]})
        rig.mutate(op="create", folder="inbox", subject="Came on the second day")
        await made.back_up()
        rig.mutate(op="delete", message=second, hard=True)
        rig.mutate(op="create", folder="inbox", subject="Came on the third day")
        await made.back_up()
        yield made


async def test_a_snapshot_and_a_day() -> None:
    """The newest by default; one by its id or the beginning of it; the last one until a moment."""
    async with days() as made:
        assert (await made.records()).keys() == made.held[2].keys()
        assert (await made.records(snapshot="latest")).keys() == made.held[2].keys()
        assert (await made.records(snapshot=made.ids[0])).keys() == made.held[0].keys()
        for number, moment in enumerate(made.moments):
            assert (await made.records(at=moment)).keys() == made.held[number].keys()
            assert (await made.records(at=moment + MOMENT)).keys() == made.held[number].keys()
        with pytest.raises(SnapshotNotFound, match="no snapshot of that time"):
            await made.records(at=made.moments[0] - MOMENT)


async def test_what_any_snapshot_of_a_time_held() -> None:
    """Deleted meanwhile or not, each message once, as the last of the snapshots shows it."""
    async with days() as made:
        one, two, three = made.moments
        every = await made.records(made_from=one, made_before=three + MOMENT)
        assert every.keys() == made.held[0].keys() | made.held[1].keys() | made.held[2].keys()
        for object_id, record in every.items():
            last = next(h[object_id] for h in reversed(made.held) if object_id in h)
            assert record["folder_id"] == last["folderId"]
            assert record["categories"] == last["categories"]
        first_two = await made.records(made_before=three)
        assert first_two.keys() == made.held[0].keys() | made.held[1].keys()
        last_two = await made.records(made_from=two)
        assert last_two.keys() == made.held[1].keys() | made.held[2].keys()
        only = await made.chosen(made_from=two, made_before=three)
        assert [s.snapshot_id for s in only.snapshots] == [made.ids[1]]
        with pytest.raises(SnapshotNotFound):
            await made.records(made_from=three + MOMENT)


async def test_damaged_snapshots_are_left_out_of_a_time_and_named() -> None:
    """The others tell what they held; a damaged one that is asked for by name is an error."""
    async with days() as made:
        key = snapshot_key(USER, made.ids[1])
        stored = made.rig.bucket.objects[key]
        made.rig.bucket.objects[key] = replace(stored, body=stored.body[:-1] + b"?")
        selected = await made.chosen(made_from=made.moments[0])
        assert [s.snapshot_id for s in selected.snapshots] == [made.ids[0], made.ids[2]]
        assert made.ids[1] in "".join(selected.notes)
        found = {r["object_id"] async for r in selected.messages()}
        assert found == made.held[0].keys() | made.held[2].keys()
        assert (await made.records(at=made.moments[1])).keys() == made.held[0].keys()


async def test_folders_with_and_without_those_below() -> None:
    """By path in any case, by well-known name, or by id; several; one that is not there is told."""
    async with days() as made:
        truth = made.rig.truth()
        paths = {f["id"]: tuple(f["path"]) for f in truth["folders"]}
        inbox = {f for f, path in paths.items() if path[:1] == ("Inbox",)}
        (top,) = [f for f in inbox if paths[f] == ("Inbox",)]
        held = made.held[2]
        below = {i for i, m in held.items() if m["folderId"] in inbox}
        alone = {i for i, m in held.items() if m["folderId"] == top}
        assert below > alone
        for name in ("inbox", "/INBOX/", top):
            assert (await made.records(folders=(name,))).keys() == below
            assert (await made.records(folders=(name,), subtree=False)).keys() == alone
        archive = {i for i, m in held.items() if paths[m["folderId"]] == ("Archive",)}
        both = await made.records(folders=("inbox", "Archive"), subtree=False)
        assert both.keys() == alone | archive
        chosen = await made.chosen(folders=("inbox",))
        assert {f.id for f in chosen.chosen_folders} == inbox
        with pytest.raises(UsageError, match="has no folder 'Nowhere'"):
            await made.records(folders=("Nowhere",))


async def test_a_time_of_reception() -> None:
    """From a moment on, and before one; both bounds hold together with folders."""
    async with days() as made:
        held = made.held[2]
        times = sorted(m["receivedDateTime"] for m in held.values())
        low, high = (datetime.fromisoformat(times[len(times) * n // 4]) for n in (1, 3))
        wanted = {
            i
            for i, m in held.items()
            if low <= datetime.fromisoformat(m["receivedDateTime"]) < high
        }
        assert (await made.records(received_from=low, received_before=high)).keys() == wanted
        inbox = made.rig.folder_id("inbox")
        part = await made.records(
            received_from=low, received_before=high, folders=("inbox",), subtree=False
        )
        assert part.keys() == {i for i in wanted if held[i]["folderId"] == inbox}


async def test_messages_by_id_by_content_and_by_a_beginning() -> None:
    """One that no snapshot of the selection has, that is too short, or that fits several."""
    async with days() as made:
        records = await made.records()
        record = next(iter(records.values()))
        other = list(records.values())[1]
        by_id = await made.records(messages=(record["object_id"],))
        assert list(by_id) == [record["object_id"]]
        sums = (record["checksum"], other["checksum"][:16])
        assert (await made.records(messages=sums)).keys() == {
            record["object_id"],
            other["object_id"],
        }
        twice = (record["object_id"], record["checksum"])
        assert len(await made.records(messages=twice)) == 1
        with pytest.raises(UsageError, match="at least 4"):
            await made.records(messages=("abc",))
        with pytest.raises(UsageError, match="matches"):
            await made.records(messages=(record["object_id"][:10],))
        with pytest.raises(SnapshotNotFound, match="no message"):
            await made.records(messages=("f" * 64,))
        gone = (made.held[0].keys() - made.held[2].keys()).pop()
        with pytest.raises(SnapshotNotFound):
            await made.records(messages=(gone,))
        assert gone in await made.records(messages=(gone,), made_from=made.moments[0])


async def test_what_contradicts_itself_and_what_is_not_there() -> None:
    """Nothing is guessed."""
    async with days() as made:
        now = datetime.now(UTC)
        for conditions in (
            {"snapshot": made.ids[0], "at": now},
            {"at": now, "made_from": now},
            {"snapshot": made.ids[0], "made_before": now},
        ):
            with pytest.raises(UsageError, match="cannot be given together"):
                await made.records(**conditions)
        with pytest.raises(UsageError, match="which mailbox"):
            await select(made.tenant, Selection(at=now))
        with pytest.raises(SnapshotNotFound):
            await made.records(mailbox="nobody@contoso.com", at=now)
        with pytest.raises(SnapshotNotFound):
            await made.records(snapshot="ffff")


async def test_paths_are_those_of_the_snapshot() -> None:
    """And of a folder that nobody knows a stand-in that is always the same."""
    async with days() as made:
        selected = await made.chosen()
        inbox = made.rig.folder_id("inbox")
        assert selected.folder_path(inbox) == ("Inbox",)
        assert selected.folder("nowhere") is None
        (stand_in,) = selected.folder_path("nowhere")
        assert selected.folder_path("nowhere") == (stand_in,)
        assert stand_in.startswith("Folder ")
        assert folders_named(selected.folders, "") == []
        assert folders_named(selected.folders, "/") == []


async def test_buckets_of_atlas() -> None:
    """All of its snapshots together, with stand-ins for names; dates come from the messages."""
    async with Atlas(golden_settings(), store=golden_store()) as atlas:
        tenant = atlas._opened
        selected = await select(tenant, Selection(mailbox=USER))
        assert not selected.exact
        records = [record async for record in selected.messages()]
        assert len({r["object_id"] for r in records}) == len(records) > 10
        folder_id = records[0]["folder_id"]
        (name,) = selected.folder_path(folder_id)
        assert name.startswith("Folder ")
        part = await select(tenant, Selection(mailbox=USER, folders=(folder_id,)))
        found = {r["object_id"] async for r in part.messages()}
        assert found == {r["object_id"] for r in records if r["folder_id"] == folder_id}
        with pytest.raises(UsageError, match="has no folder") as refused:
            await select(tenant, Selection(mailbox=USER, folders=("Inbox",)))
        assert "Atlas recorded no names" in refused.value.hint
        every = Selection(mailbox=USER, made_before=datetime.now(UTC) + timedelta(days=3_650))
        ranged = [r async for r in (await select(tenant, every)).messages()]
        assert {r["object_id"] for r in ranged} >= {r["object_id"] for r in records}
        early = replace(every, received_before=datetime(1970, 1, 1, tzinfo=UTC))
        assert [r async for r in (await select(tenant, early)).messages()] == []
        late = replace(every, received_from=datetime(1970, 1, 1, tzinfo=UTC))
        assert len([r async for r in (await select(tenant, late)).messages()]) == len(ranged)
