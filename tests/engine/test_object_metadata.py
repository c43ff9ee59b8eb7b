"""The option that writes no user metadata: nothing in clear, and everything works as before."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from atlas_async.config.settings import ObjectMetadata, S3Settings
from atlas_async.model.report import Outcome
from tests.fakes import s3_servers
from tests.fakes.buckets import s3_client
from tests.fakes.rig import USER, Rig, open_rig
from tests.fakes.yard import Yard, open_yard


@asynccontextmanager
async def bare_rig() -> AsyncIterator[Rig]:
    """Open a rig that writes no metadata."""
    async with open_rig() as rig:
        rig.settings = replace(rig.settings, object_metadata=ObjectMetadata.NONE)
        yield rig


def with_metadata(rig: Rig) -> list[str]:
    """Return the keys of objects that carry metadata."""
    return [key for key, stored in rig.bucket.objects.items() if stored.info.metadata]


async def test_without_the_option_messages_carry_what_atlas_writes() -> None:
    """The default is Atlas's: a message's Graph id and hash, on messages alone."""
    async with open_rig() as rig:
        await rig.back_up_user()
        assert sorted(with_metadata(rig)) == rig.keys("data/")


async def test_with_none_no_object_carries_metadata() -> None:
    """Backup, a second one with changes, verify, list and read: no metadata, nothing lost."""
    async with bare_rig() as rig:
        assert (await rig.back_up_user()).outcome is Outcome.COMPLETE
        rig.mutate(op="create", folder="inbox", subject="later")
        second = await rig.back_up_user()
        assert (second.outcome, second.stored) == (Outcome.COMPLETE, 1)
        assert rig.keys("data/")
        assert with_metadata(rig) == []
        view = await rig.view()
        await rig.assert_exact(view, rig.truth())
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0
            records = [record async for record in view.messages()]
            read = await atlas.read_message(records[0]["object_id"], mailbox=USER)
        assert read.resource["id"] == records[0]["object_id"]


@pytest.mark.parametrize("first", list(ObjectMetadata))
async def test_a_bucket_may_be_mixed(first: ObjectMetadata) -> None:
    """Either way continues the other: nothing is stored again, old metadata stays as it was."""
    async with open_rig() as rig:
        rig.settings = replace(rig.settings, object_metadata=first)
        await rig.back_up_user()
        carried, stored = with_metadata(rig), len(rig.bucket.objects)
        other = next(choice for choice in ObjectMetadata if choice is not first)
        rig.settings = replace(rig.settings, object_metadata=other)
        again = await rig.back_up_user(full=True)
        assert (again.stored, again.deduplicated + again.unchanged > 0) == (0, True)
        assert with_metadata(rig) == carried
        assert len(rig.bucket.objects) >= stored
        rig.mutate(op="create", folder="inbox", subject="later")
        assert (await rig.back_up_user()).stored == 1
        assert len(with_metadata(rig)) == len(carried) + (other is ObjectMetadata.ATLAS)
        await rig.assert_exact(await rig.view(), rig.truth())
        async with rig.engine() as atlas:
            assert (await atlas.verify()).exit_code == 0


def metadata_files(yard: Yard) -> list[str]:
    """Return what a directory store keeps of metadata."""
    return [path.read_text() for path in yard.place.glob(".atlas-meta/**/*.json")]


@pytest.mark.parametrize("choice", list(ObjectMetadata))
async def test_worker_processes_obey(choice: ObjectMetadata, tmp_path: Path) -> None:
    """The option reaches the workers of a run."""
    async with open_yard(tmp_path) as yard:
        yard.settings = replace(yard.settings, object_metadata=choice)
        report = await yard.spread()
        assert report.exit_code == 0
        found = metadata_files(yard)
        assert bool(found) is (choice is ObjectMetadata.ATLAS)
        assert all("x-message-id" in json.loads(text) for text in found)
        await yard.assert_all_exact()


@pytest.mark.real_server
async def test_the_store_sees_no_metadata(tmp_path: Path) -> None:
    """On S3 no object answers HEAD with user metadata; that is what the operator would see."""
    with s3_servers.moto(tmp_path) as storage:
        async with open_yard(tmp_path, storage=storage) as yard:
            yard.settings = replace(yard.settings, object_metadata=ObjectMetadata.NONE)
            async with yard.engine() as atlas:
                assert (await atlas.backup([USER])).exit_code == 0
            assert await _seen(storage, yard.settings.bucket) == {}


async def _seen(storage: S3Settings, bucket: str) -> dict[str, str]:
    """Return all user metadata in a bucket."""
    seen: dict[str, str] = {}
    async with s3_client(storage) as client:
        listed = await client.list_objects_v2(Bucket=bucket)
        assert len(listed["Contents"]) > 20
        for entry in listed["Contents"]:
            head = await client.head_object(Bucket=bucket, Key=entry["Key"])
            seen |= head["Metadata"]
    return seen
