"""Drills with a scratch mailbox that are killed, or meet every fault: nothing stays, nothing passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.crypto.signing import check_signature
from atlas_async.emulator import Corpus
from atlas_async.model.drill import DrillOptions, DrillReport
from atlas_async.restore.journal import part_prefix, read_parts
from tests.fakes.rig import USER
from tests.restore.scene import FEW, OTHER, RICH, brisk_scene, shape
from tests.restore.test_restore_faults import LOST
from tests.torture.bucket_check import Inspector
from tests.torture.faults import GRAPH_FAULTS
from tests.torture.observed import Tenant, Watch, open_tenant
from tests.torture.running import Ended, Running, Way
from tests.torture.trapped import NO_TRAP, Trap

PASSPHRASE = "correct-horse-battery-staple"
SMALL = replace(RICH, messages=18, folders=3)
PATIENCE = 90.0
DRILL = ("drill", "-m", USER, "--scratch", OTHER, "--json", "--sample")


class Drills:
    """A tenant with a mailbox that is backed up, and drills of it as processes of their own."""

    def __init__(self, tenant: Tenant, place: Path) -> None:
        self._tenant = tenant
        self._place = place

    def run(
        self, *arguments: str, arriving: int = 0, answered: int = 0, trap: Trap = NO_TRAP
    ) -> Ended:
        """Run ``atlas``; kill it at the n-th request that arrives, or answer that is ready."""
        watch = Watch()
        environment = {
            **self._tenant.settings(),
            "ATLAS_STORAGE_URL": (self._place / "store").as_uri(),
            "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
            "ATLAS_DEK_VERSION": "0",  # its scrypt costs a quarter
        }
        (kill,) = Way.KILL.signals
        with Running(
            arguments,
            environment,
            self._place,
            checkpoint_messages=1_000,
            terminal=False,
            trap=trap,
        ) as running:
            if arriving:
                watch.arriving[arriving] = lambda: running.send(kill)
            if answered:
                watch.answered[answered] = lambda: running.send(kill)
            self._tenant.begin(watch)
            ended = running.wait(lambda: watch.came, PATIENCE)
        assert not ended.hung
        assert "Traceback" not in ended.said
        return ended

    def scratch(self) -> dict[str, Any]:
        """Return folders and messages of the scratch mailbox, as its user sees them."""
        return shape(self._tenant.do(lambda: self._tenant.emulator.control.mailbox_truth(OTHER)))


@pytest.mark.parametrize(("seed", "kills"), [(0, 1), (1, 2), (2, 2)])
def test_what_a_killed_drill_leaves_the_next_one_removes(
    tmp_path: Path, seed: int, kills: int
) -> None:
    """Killed at any moment, twice in a row too: the next one passes, and leaves what was there."""
    dice = Random(f"drills {seed}")
    corpus = replace(SMALL, seed=dice.randint(1, 1 << 30))
    settings = Settings(
        graph=None,
        storage=DirectorySettings(tmp_path / "store"),
        tenant_id=str(Corpus(corpus).tenant_id),
        passphrase=Secret(PASSPHRASE),
    )
    with open_tenant(corpus, dice, Inspector(settings).bodies) as tenant:
        drills = Drills(tenant, tmp_path)
        assert drills.run("backup", "-m", USER).code == 0
        before = drills.scratch()
        killed = drills.run(*DRILL, "all", answered=dice.randint(45, 75))
        assert killed.code in Way.KILL.codes
        assert drills.scratch() != before, "it came while nothing lay there"
        for _ in range(1, kills):
            number = dice.randint(6, 60)
            if dice.random() < 0.25:
                trap = Trap(kind="put-end", number=number % 4 + 1, signals=Way.KILL.signals)
                drills.run(*DRILL, "all", trap=trap)
            elif dice.random() < 0.5:
                drills.run(*DRILL, "all", arriving=number)
            else:
                drills.run(*DRILL, "all", answered=number)
        report = tmp_path / "report.json"
        ended = drills.run(*DRILL, "4", "--report", str(report))
        assert ended.code == 0, ended.said[-3_000:]
        assert drills.scratch() == before
        document = json.loads(report.read_bytes())
        assert document["passed"] is True
        assert document["mailboxes"][0]["read_back"] == 4
        check_signature(document, document["signature"]["public_key"])


@pytest.mark.parametrize(("seed", "share"), [(1, 0.1), (2, 0.3), (3, 0.7), (4, 1.0)])
async def test_a_storm_of_faults_ends_complete_or_with_what_failed(seed: int, share: float) -> None:
    """Signed in any case; a later drill in calm weather passes, and the mailbox is as it was."""
    async with brisk_scene() as scene:
        before = shape(scene.rig.truth(OTHER))
        every = {**GRAPH_FAULTS, **LOST}
        for number, rule in enumerate(every.values()):
            part = share / len(every)
            scene.fault(**rule, count=-1, probability=part, seed=100 * seed + number)

        async def drill() -> DrillReport:
            async with scene.rig.engine() as atlas:
                report = await atlas.drill([USER], DrillOptions(sample=10, scratch=OTHER))
                check_signature(report.signed, await atlas.report_key())
            assert report.signed["exit_code"] == report.exit_code
            assert report.signed["passed"] is (report.exit_code == 0)
            return report

        report = await drill()
        (box,) = report.mailboxes
        # A backup is never at fault for the weather.
        assert (box.restored, box.damaged) == (10, 0)
        if report.exit_code == 0:
            assert (box.read_back, box.failed) == (10, 0)
            assert shape(scene.rig.truth(OTHER)) == before
        else:
            assert box.error or box.failures or box.different
            assert report.exit_code in {1, 3, 13, 14}
        assert (report.exit_code == 0) or share > 0.2
        scene.calm()
        calm = await drill()
        assert calm.exit_code == 0, (calm.mailboxes[0].error, calm.mailboxes[0].failures)
        assert shape(scene.rig.truth(OTHER)) == before


async def test_a_folder_known_by_its_path_alone_is_removed_although_that_was_cut_short() -> None:
    """Deleted once it lies below Deleted Items, where its path tells of it no more: its id must."""
    async with brisk_scene(corpus=FEW) as scene:
        report = await scene.restore()
        prefix = part_prefix(USER, report.job_id)
        async for number, entries in read_parts(scene.rig.vault(), report.job_id):
            if {kind for kind, *_ in entries} != {"absent"}:  # a kill came before the rest
                del scene.rig.bucket.objects[f"{prefix}{number:08x}"]
        scene.fault(method="DELETE", path="/mailFolders/", status=500, after=1, count=-1)
        assert (await scene.undo()).exit_code
        scene.calm()
        undone = await scene.undo()
        assert undone.exit_code == 0, (undone.error, undone.failures)
        scene.assert_untouched()
