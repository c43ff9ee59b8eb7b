"""Restores where the original MIME is stored: its headers, and messages made from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from atlas_async.config.settings import Limits
from atlas_async.model.restoring import Conflict, Step
from tests.fakes.rig import open_rig
from tests.restore.scene import FEW, Scene, assert_once, created, mark_of
from tests.torture.faults import BriskClock


@asynccontextmanager
async def scene_with_originals() -> AsyncIterator[Scene]:
    """Open a scene whose backup holds the original MIME of every message."""
    async with open_rig(replace(FEW, smime_share=0.0), limits=Limits(), clock=BriskClock()) as rig:
        parts: list[dict[str, Any]] = [{"name": "a.bin", "size": 900, "seed": 1}]
        rig.mutate(op="create", folder="inbox", subject="With a file", attachments=parts)
        rig.settings = replace(rig.settings, mime=True)
        await rig.back_up_user()
        yield Scene(rig, rig.truth())


async def test_headers_go_along_with_messages_that_are_no_drafts() -> None:
    """What Graph shows as internetMessageHeaders is what the original had."""
    async with scene_with_originals() as scene:
        report = await scene.restore()
        assert report.exit_code == 0
        scene.assert_whole()
        for message in scene.marked():
            names = {h["name"].lower() for h in message["internetMessageHeaders"]}
            assert message["isDraft"] or {"subject", "message-id", "date"} <= names


async def test_from_mime_it_is_a_draft_and_said_to_be() -> None:
    """Marks and state are added afterwards; twice is once, and it can be taken back."""
    async with scene_with_originals() as scene:
        report = await scene.restore(originals=True)
        assert report.exit_code == 0, (report.error, report.failures, report.comparison)
        made = scene.marked()
        assert len(made) == created(report) == scene.source().total()
        assert all(message["isDraft"] for message in made)
        sent = [m for m in scene.before["messages"] if not m["isDraft"] and m in _source(scene)]
        assert report.adjusted == len(sent)
        ids = {m["internetMessageId"]: m for m in _source(scene)}
        for message in made:
            source = ids[message["internetMessageId"]]
            assert message["isRead"] == source["isRead"]
            assert message["categories"] == source["categories"]
            assert len(message["attachments"]) == len(source["attachments"])
        assert created(await scene.restore(originals=True)) == 0
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


def _source(scene: Scene) -> list[dict[str, Any]]:
    below = {f["id"] for f in scene.before["folders"] if f["belowRoot"] and not f["search"]}
    return [m for m in scene.before["messages"] if m["folderId"] in below]


async def test_mime_that_graph_takes_and_forgets() -> None:
    """Answered with a success and not stored: the message is made as others are."""
    async with scene_with_originals() as scene:
        scene.rig.emulator.control.configure(silent_mime=10)
        report = await scene.restore(originals=True)
        assert report.exit_code == 0, (report.error, report.failures)
        scene.assert_whole()


@pytest.mark.parametrize("manner", [{}, {"in_place": True, "conflict": Conflict.COPY}])
async def test_a_message_from_mime_is_completed_by_the_next_run(manner: dict[str, Any]) -> None:
    """R1: what was created and could not be marked is known from the journal."""
    async with scene_with_originals() as scene:
        scene.fault(method="PATCH", status=500, count=-1)
        report = await scene.restore(originals=True, **manner)
        assert report.error or report.failed
        scene.calm()
        report = await scene.restore(originals=True, **manner)
        assert report.exit_code == 0, (report.error, report.failures)
        assert_once(scene)
        again = await scene.restore(originals=True, **manner)
        assert again.total(Step.ALREADY) == scene.source().total()
        truth = scene.rig.truth()
        known = {m["immutableId"] for m in scene.before["messages"]}
        fresh = [m for m in truth["messages"] if m["immutableId"] not in known]
        assert len(fresh) == len([m for m in fresh if mark_of(m)]) == scene.source().total()
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()


async def test_lost_answers_make_no_second_message_from_mime() -> None:
    """A create is looked for by its internet message id before it is sent again."""
    async with scene_with_originals() as scene:
        scene.fault(method="POST|PATCH", status=503, commit="before", count=-1, probability=0.5)
        report = await scene.restore(originals=True)
        assert report.exit_code == 0, (report.error, report.failures)
        assert_once(scene)
        assert (await scene.undo()).exit_code == 0
        scene.assert_untouched()
