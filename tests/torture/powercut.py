"""Power cuts under a directory store: what a put promised is kept, and nothing committed is lost.

``python -m tests.torture powercut --cuts 200 --seed 1``

Backups of a changing tenant run in this process over a directory whose every call of the file
system is noted (``crash_disk``). Then the power goes at seeded instants: the directory is built as
a file system may have left it, and

- every put that had returned is there whole, with its metadata; an object that is there at all is
  one that was put under its name;
- the wrapped key is there, unchanged, once its put had returned;
- every snapshot whose manifest is there verifies and is exact; it is there once its put returned;
- the next run ends complete and exact, and leaves every older snapshot as it is.

Some of the next runs are cut in turn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

import anyio

from atlas_async.catalog import lease
from atlas_async.catalog.layout import MANIFESTS_PREFIX
from atlas_async.clock import SystemClock
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.emulator import CorpusOptions, Emulator
from atlas_async.errors import AtlasError
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectStore, SpooledBody
from atlas_async.store.bucket_files import META, TMP
from atlas_async.store.directory import DirectoryStore
from atlas_async.store.file_names import encode_key
from tests.fakes.rig import SMALL, open_rig
from tests.torture.bucket_check import Inspector
from tests.torture.crash_disk import CrashDisk, Marked
from tests.torture.moments import Bodies, Moment, Truths, differences, moment_of_truth
from tests.torture.restless import LARGE, Restless
from tests.torture.small_steps import small_steps

TENANT: Final = replace(SMALL, mailboxes=1, messages=40)
CUTS_PER_STORY: Final = 40
RUNS: Final = 4
USER: Final = "user0000@contoso.com"
AGAIN: Final = 0.3
"""Share of the next runs that are cut as well."""

Body = tuple[str, str]
"""MD5 of an object's body, and its metadata as JSON; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Change:
    """A put or, without a body, a delete, as its caller saw it begin, end or fail."""

    number: int
    key: str
    body: Body | None
    stage: str


class NotedStore:
    """A directory store whose changes are marked on the disk as they begin and end.

    Args:
        inner: The store.
        disk: Where to.
    """

    def __init__(self, inner: DirectoryStore, disk: CrashDisk) -> None:
        self._inner = inner
        self._disk = disk
        self._changes = 0
        for name in ("open_bucket", "head", "get", "open", "list_page", "aclose"):
            setattr(self, name, getattr(inner, name))

    @property
    def name(self) -> str:
        """The inner store's name."""
        return self._inner.name

    @property
    def conditional_writes(self) -> bool | None:
        """As the inner store has them."""
        return self._inner.conditional_writes

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store an object."""
        text = json.dumps(dict(metadata), sort_keys=True) if metadata else ""
        async with self._marked(key, (md5.hex(), text)):
            await self._inner.put(key, body, md5=md5, metadata=metadata, if_absent=if_absent)

    async def delete(self, key: str) -> None:
        """Delete an object."""
        async with self._marked(key, None):
            await self._inner.delete(key)

    @asynccontextmanager
    async def _marked(self, key: str, body: Body | None) -> AsyncIterator[None]:
        self._changes += 1
        number = self._changes
        self._disk.mark(Change(number, key, body, "began"))
        try:
            yield
        except BaseException:
            self._disk.mark(Change(number, key, body, "failed"))
            raise
        self._disk.mark(Change(number, key, body, "ended"))


@dataclass(slots=True)
class Story:
    """A directory's life on a disk that forgets.

    Args:
        disk: It.
        initial: The objects it began with.
        moments: What each snapshot must show, by its id.
    """

    disk: CrashDisk
    initial: dict[str, Body]
    moments: dict[str, Moment]

    def promised(self, instant: int) -> tuple[dict[str, set[Body | None]], set[str]]:
        """Return what may be below each key after a cut, and which snapshots must be there."""
        last: dict[str, Body | None] = dict(self.initial)
        others: defaultdict[str, set[Body | None]] = defaultdict(set)
        flying: dict[int, Change] = {}
        for step in self.disk.log[:instant]:
            if not isinstance(step, Marked):
                continue
            change: Change = step.what
            key = change.key
            if change.stage == "began":
                flying[change.number] = change
                others[key].add(change.body)
                continue
            del flying[change.number]
            if change.stage == "ended":
                last[key] = change.body
                # What overlaps with it may come before it or after.
                others[key] = {c.body for c in flying.values() if c.key == key}
        keys = last.keys() | others.keys()
        allowed = {key: {last.get(key), *others[key]} for key in keys}
        committed = {
            key.rpartition("/")[2].removesuffix(".json")
            for key, body in last.items()
            if key.startswith(MANIFESTS_PREFIX) and body is not None
        }
        return allowed, committed

    def instants(self, dice: Random) -> int:
        """Draw an instant: anywhere, or right after a put returned, often one that matters."""
        ended = [
            at + 1
            for at, step in enumerate(self.disk.log)
            if isinstance(step, Marked) and step.what.stage == "ended"
        ]
        special = [
            at
            for at in ended
            if any(part in self._key_at(at) for part in ("/head", "manifests/", "_meta/", "snaps"))
        ]
        share = dice.random()
        if share < 0.3 and special:
            return dice.choice(special)
        if share < 0.6 and ended:
            return dice.choice(ended)
        return dice.randrange(self.disk.instants)

    def _key_at(self, instant: int) -> str:
        step = self.disk.log[instant - 1]
        return str(step.what.key) if isinstance(step, Marked) else ""


@dataclass(slots=True)
class Figures:
    """What is printed at the end."""

    stories: int = 0
    cuts: int = 0
    cuts_of_cuts: int = 0
    instants: int = 0
    puts: int = 0
    objects: int = 0
    snapshots: int = 0
    messages: int = 0
    heads_behind: int = 0
    lost_files: int = 0
    failures: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the figures as lines."""
        rows = {
            "stories / power cuts / cuts of the run after one": (
                f"{self.stories} / {self.cuts} / {self.cuts_of_cuts}"
            ),
            "instants at which the power could go": self.instants,
            "returned puts looked for": self.puts,
            "objects compared": self.objects,
            "snapshots compared": self.snapshots,
            "messages compared": self.messages,
            "cuts after which a head was behind its newest manifest": self.heads_behind,
            "objects not promised yet that were gone": self.lost_files,
            "failures": len(self.failures),
        }
        width = max(map(len, rows))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


class PowerCut:
    """One tenant, its directory's story, and cuts of it.

    Args:
        emulator: Serves the tenant.
        settings: Of the tenant; the storage is replaced.
        place: A directory for directories.
        dice: Draws everything.
        figures: Takes what is seen.
        name: For failures: what repeats it.
    """

    def __init__(
        self,
        emulator: Emulator,
        settings: Settings,
        place: Path,
        dice: Random,
        figures: Figures,
        *,
        name: str,
    ) -> None:
        self._emulator = emulator
        self._settings = settings
        self._place = Path(os.path.realpath(place))
        self._dice = dice
        self._figures = figures
        self._name = name
        self._bodies = Bodies()
        self._truths = Truths(emulator.control)
        self._restless = Restless(emulator.control, [USER], dice, most=60)
        self._places = 0

    async def run(self, cuts: int, *, runs: int) -> None:
        """Let ``runs`` backups happen, then cut the power ``cuts`` times."""
        story = self._begin(self._new_place(), {})
        large = {"name": "large", "size": LARGE, "seed": 1}
        self._emulator.control.mutate(
            USER, {"op": "create", "folder": "inbox", "attachments": [large]}
        )
        for _ in range(runs):
            self._restless.change(self._dice.randint(4, 12))
            await self._back_up(story)
        self._figures.stories += 1
        self._figures.instants += story.disk.instants
        for _ in range(cuts):
            # Drawn here, so that one cut does not change what the next one is.
            await self._cut(story, Random(self._dice.random()), again=True)

    def _new_place(self) -> Path:
        self._places += 1
        place = self._place / f"disk{self._places}"
        place.mkdir()
        return place

    def _begin(self, place: Path, moments: dict[str, Moment]) -> Story:
        return Story(CrashDisk(place), self._objects(place), dict(moments))

    async def _back_up(self, story: Story) -> str:
        """Run a backup that nothing disturbs; return what is wrong with it."""
        place = story.disk.root
        settings = replace(self._settings, storage=DirectorySettings(place))
        inner = DirectoryStore(DirectorySettings(place), settings.bucket, clock=SystemClock())
        store: ObjectStore = NotedStore(inner, story.disk)  # type: ignore[assignment]  # it has them all
        truth = moment_of_truth(self._truths.of(USER), self._bodies)
        with story.disk.on():
            async with Atlas(settings, store=store) as atlas:
                report = await atlas.backup([USER])
        (result,) = report.mailboxes
        if result.snapshot_id is not None:
            story.moments[result.snapshot_id] = truth
        if report.exit_code != 0:
            return f"it ended with {report.exit_code}: {result.error} {result.notices}"
        return ""

    async def _cut(self, story: Story, dice: Random, *, again: bool) -> None:
        """Cut the power once, look, and run again."""
        instant = story.instants(dice)
        what = f"cut at {instant} of {story.disk.instants}"
        place = self._new_place()
        self._figures.cuts += 1
        files = story.disk.image(instant, dice)
        await anyio.to_thread.run_sync(_build, place, files)
        self._compare_objects(story, instant, place, what)
        _, committed = story.promised(instant)
        inspector = Inspector(replace(self._settings, storage=DirectorySettings(place)))
        inspector.bodies = self._bodies
        found = await self._look(inspector, story.moments, committed, what)
        if found is None:
            return
        following = self._begin(place, story.moments)
        try:
            wrong = await self._back_up(following)
        except* AtlasError as group:
            wrong = f"the next run failed: {group.exceptions[0]!r}"
        if wrong:
            self._fail(f"{what}: next run: {wrong}")
            return
        after = await self._look(inspector, following.moments, found, f"{what}, next run")
        if after is not None:
            held = moment_of_truth(self._truths.of(USER), self._bodies)
            newest = max(after, key=lambda snapshot_id: (after[snapshot_id], snapshot_id))
            for text in differences(following.moments[newest], held)[:3]:
                self._fail(f"{what}, next run: {text}")
        if again and dice.random() < AGAIN:
            self._figures.cuts_of_cuts += 1
            await self._cut(following, dice, again=False)

    async def _look(
        self,
        inspector: Inspector,
        moments: dict[str, Moment],
        committed: set[str] | dict[str, str],
        what: str,
    ) -> dict[str, str] | None:
        """Read the bucket; return its snapshots with their dates, None when it cannot be read."""
        figures = self._figures
        try:
            state = await inspector.look()
        except (AtlasError, ExceptionGroup, AssertionError, ValueError, KeyError) as error:
            self._fail(f"{what}: the bucket cannot be read: {type(error).__name__} {error}")
            return None
        for finding in state.damage:
            self._fail(f"{what}: verify: {finding}")
        for gone in set(committed) - state.snapshots.keys():
            self._fail(f"{what}: snapshot {gone} was committed and is gone")
        for snapshot_id, seen in state.snapshots.items():
            figures.snapshots += 1
            figures.messages += len(seen.moment.messages)
            if snapshot_id not in moments:
                self._fail(f"{what}: snapshot {snapshot_id} was never committed")
                continue
            for text in differences(seen.moment, moments[snapshot_id])[:3]:
                self._fail(f"{what}: snapshot {snapshot_id}: {text}")
        figures.heads_behind += state.heads_behind
        return {seen.snapshot_id: seen.created_at for seen in state.snapshots.values()}

    def _compare_objects(self, story: Story, instant: int, place: Path, what: str) -> None:
        """Compare every object with what its puts promised."""
        allowed, _ = story.promised(instant)
        there = self._objects(place)
        for key in there.keys() | allowed.keys():
            self._figures.objects += 1
            seen = there.get(key)
            may_be = allowed.get(key, {None})
            self._figures.puts += None not in may_be
            self._figures.lost_files += seen is None and len(may_be) > 1
            if seen not in may_be:
                self._fail(f"{what}: {key} is {seen}, must be one of {may_be}")

    def _objects(self, place: Path) -> dict[str, Body]:
        """Return what lies in the bucket, read from its files."""
        base = place / self._settings.bucket
        found: dict[str, Body] = {}
        for path in base.rglob("*"):
            key = str(path.relative_to(base))
            if not path.is_file() or key.startswith((TMP, META)):
                continue
            about = base / META / f"{encode_key(key)}.json"
            text = ""
            if about.exists():
                try:
                    text = json.dumps(json.loads(about.read_bytes()), sort_keys=True)
                except ValueError:
                    text = "damaged"
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            found[key] = (digest, text)
        return found

    def _fail(self, text: str) -> None:
        self._figures.failures.append(f"{self._name}: {text}")


def _build(place: Path, files: dict[str, bytes | None]) -> None:
    for path, body in files.items():
        if body is None:
            (place / path).mkdir()
        else:
            (place / path).write_bytes(body)


async def power_cuts(
    *,
    seed: int,
    story: int,
    cuts: int,
    place: Path,
    figures: Figures,
    options: CorpusOptions,
    runs: int,
) -> None:
    """Tell one story, cut it, and add what is seen to ``figures``."""
    dice = Random(f"{seed}/{story}")
    corpus = replace(options, seed=dice.randint(1, 1 << 30))
    stale, lease.STALE_SECONDS = lease.STALE_SECONDS, 0.0  # type: ignore[misc]
    # A lease that a cut left names this process, which lives: time alone tells that it is over.
    try:
        with small_steps(), tempfile.TemporaryDirectory(dir=place) as directory:
            async with open_rig(corpus) as rig:
                limits = replace(rig.settings.limits, page_size=5)
                await PowerCut(
                    rig.emulator,
                    replace(rig.settings, limits=limits),
                    Path(directory),
                    dice,
                    figures,
                    name=f"--seed {seed} --story {story}",
                ).run(cuts, runs=runs)
    finally:
        lease.STALE_SECONDS = stale  # type: ignore[misc]


def main(arguments: list[str]) -> int:
    """Run the long form and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--story", type=int, help="only this one")
    chosen = parser.parse_args(arguments)
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="atlas-powercut-") as directory:
        for story, first in enumerate(range(0, chosen.cuts, CUTS_PER_STORY)):
            if chosen.story not in {None, story}:
                continue
            anyio.run(
                lambda story=story, first=first: power_cuts(  # type: ignore[misc]
                    seed=chosen.seed,
                    story=story,
                    cuts=min(CUTS_PER_STORY, chosen.cuts - first),
                    place=Path(directory),
                    figures=figures,
                    options=TENANT,
                    runs=RUNS,
                )
            )
            _say(f"story {story}: {figures.cuts} cuts, {len(figures.failures)} failures")
    for text in figures.failures:
        _say(text)
    _say(f"powercut, seed {chosen.seed}")
    _say(figures.table())
    return 1 if figures.failures else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
