"""Kill: runs of a changing tenant are ended at seeded instants, and nothing is lost by it.

``python -m tests.torture kill --kills 200 --seed 1 --store directory --store rclone``

Kills come in chapters of a fresh tenant and a fresh bucket each, so that first runs are attacked as
often as later ones. Chapter c of seed s on one store draws the same whatever was drawn before it:
``--chapter c`` repeats it alone. After every run, however it ended, the whole bucket is read:

- every committed snapshot opens, verifies, and shows what it showed when it was first seen;
- a new snapshot is exact, or, beside changes, explained by the moments of its run (``moments``);
- the wrapped key is byte for byte what it was;
- a run beside which nothing changes is complete and exact;
- nothing that was settled at the last checkpoint is asked of Graph, or stored, again;
- ``atlas prune`` finds what nobody names, removes it and nothing else;
- no process, spool or, after an orderly end, temporary file is left behind.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

import anyio

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, S3Settings, Settings
from atlas_async.emulator import Corpus, CorpusOptions, FaultRule
from atlas_async.errors import AtlasError
from tests.fakes import s3_servers
from tests.fakes.rig import SMALL
from tests.torture.bucket_check import Inspector, State
from tests.torture.moments import Moment, differences, lost, unexplained
from tests.torture.observed import Delivery, Tenant, Watch, open_tenant
from tests.torture.running import Ended, Running, Way
from tests.torture.trapped import NO_TRAP, Trap

PASSPHRASE: Final = "correct-horse-battery-staple"
CHECKPOINT: Final = 8
PAGE: Final = 4
IN_FLIGHT_PAGES: Final = 4 + 2 + 2 + 1
"""Pages read and not recorded: one per producer, in the channel, per settler, and the one by which
those that wait may exceed their bound."""
BOUND: Final = 3 * CHECKPOINT + IN_FLIGHT_PAGES * PAGE
"""Messages of one mailbox that a kill may cost: as many as make a checkpoint due, as many again
that one settler may record while the other writes it, and as many settled ones that wait for a
slow page (``rounds.WAITING_MESSAGES``, set to the same)."""

WAYS: Final = {
    Way.KILL: 8,
    Way.TERM: 3,
    Way.INT: 2,
    Way.INT_TWICE: 3,
    Way.HANGUP: 3,
    Way.WORKER: 2,
}
TENANT: Final = replace(SMALL, mailboxes=2, messages=130, folders=6)
SLOW_SHARE: Final = 0.15
SLOW_SECONDS: Final = 0.15
"""So many answers about attachments take so long, so that pages are settled out of their order."""
KILLS_PER_CHAPTER: Final = 10
PATIENCE: Final = 90.0
DAY: Final = 25 * 3600.0
_ODD: Final = ("Traceback", "Exception ignored", "unexpected error", "never awaited")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: how it is ended, where, over how many processes, and what changes meanwhile.

    ``arriving`` and ``answered`` are numbers of requests at which the signal is sent by the
    emulator; both 0 where ``trap`` sends it. ``changes`` maps numbers of requests to changes.
    """

    way: Way = Way.CALM
    processes: int = 1
    arriving: int = 0
    answered: int = 0
    trap: Trap = NO_TRAP
    changes: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Figures:
    """What is printed at the end."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    spread: int = 0
    missed: int = 0
    runs: int = 0
    changes: int = 0
    snapshots: int = 0
    looks: int = 0
    messages: int = 0
    calm: int = 0
    in_flight: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    repeated_bytes: list[int] = field(default_factory=list)
    settled_again: int = 0
    stored_again: int = 0
    orphans_killed: list[tuple[int, int]] = field(default_factory=list)
    orphans_calm: list[tuple[int, int]] = field(default_factory=list)
    leases: list[int] = field(default_factory=list)
    pruned: int = 0
    temporary: list[int] = field(default_factory=list)
    hangs: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """How many runs were ended."""
        return self.kills.total()

    def table(self) -> str:
        """Return the figures as lines."""
        stores = sorted({store for store, _ in self.kills})
        ways = [way.value for way in WAYS]
        width = max(map(len, ways))
        rows = [f"{'kills':<{width}}" + "".join(f"{store:>12}" for store in stores)]
        for way in ways:
            counts = "".join(f"{self.kills[store, way]:>12}" for store in stores)
            rows.append(f"{way:<{width}}{counts}")
        sums = [sum(n for (s, _), n in self.kills.items() if s == store) for store in stores]
        rows.append(f"{'all':<{width}}" + "".join(f"{n:>12}" for n in sums))
        figures = [
            ("of them over two processes", self.spread),
            ("traps not met (the run ended first)", self.missed),
            ("runs / calm runs compared exactly", f"{self.runs} / {self.calm}"),
            ("changes of the tenant", self.changes),
            ("snapshots committed / looked at again", f"{self.snapshots} / {self.looks}"),
            ("messages compared", self.messages),
            ("messages of a mailbox in flight at a kill, max / mean", _most(self.in_flight)),
            ("  bound", BOUND),
            ("  of them asked for again, max / mean", _most(self.repeated)),
            ("  bytes asked for again of all mailboxes, max / mean", _most(self.repeated_bytes)),
            ("settled messages asked for again", self.settled_again),
            ("contents stored again", self.stored_again),
            ("orphans after a kill, max / mean", _most([n for n, _ in self.orphans_killed])),
            ("  bytes, max / mean", _most([size for _, size in self.orphans_killed])),
            ("orphans after a calm run, max / mean", _most([n for n, _ in self.orphans_calm])),
            ("  bytes, max / mean", _most([size for _, size in self.orphans_calm])),
            ("leases left, max / mean", _most(self.leases)),
            ("objects pruned", self.pruned),
            ("temporary files left by a kill, max / mean", _most(self.temporary)),
            ("hangs", self.hangs),
            ("failures", len(self.failures)),
        ]
        wide = max(len(name) for name, _ in figures)
        rows += [f"{name:<{wide}}  {value}" for name, value in figures]
        return "\n".join(rows)


def _most(values: Sequence[int]) -> str:
    return f"{max(values)} / {sum(values) / len(values):.1f}" if values else "-"


@dataclass(frozen=True, slots=True)
class Store:
    """Where the buckets of a torture are."""

    name: str
    storage: DirectorySettings | S3Settings

    def environment(self) -> dict[str, str]:
        """Return the settings that lead the program there."""
        if isinstance(self.storage, DirectorySettings):
            return {"ATLAS_STORAGE_URL": self.storage.path.as_uri()}
        secret = self.storage.secret_key
        return {
            "ATLAS_STORAGE_URL": "s3",
            "ATLAS_S3_ENDPOINT": self.storage.endpoint or "",
            "ATLAS_S3_ACCESS_KEY": self.storage.access_key or "",
            "ATLAS_S3_SECRET_KEY": secret.reveal() if secret else "",
        }


_SERVERS: Final = {
    "rclone": s3_servers.rclone,
    "minio": s3_servers.minio,
    "moto": s3_servers.moto,
}


@contextmanager
def open_store_named(name: str, place: Path) -> Iterator[Store]:
    """Give the store of that name; a server runs until the block ends."""
    if name == "directory":
        root = place / "store"
        root.mkdir()
        yield Store(name, DirectorySettings(root))
        return
    with _SERVERS[name](place) as settings:
        yield Store(name, settings)


class Chapter:
    """One tenant, one bucket, and the runs that are killed over them.

    Args:
        tenant: The emulated tenant.
        store: Where its bucket is.
        place: A directory for spools and output.
        dice: Draws everything.
        figures: Takes what is seen.
        inspector: Reads the bucket.
        settings: Of the tenant, for this process.
        patience: Seconds without progress after which a run hangs.
        name: For failures: what repeats it.
    """

    def __init__(
        self,
        tenant: Tenant,
        store: Store,
        place: Path,
        dice: Random,
        figures: Figures,
        inspector: Inspector,
        *,
        settings: Settings,
        patience: float,
        name: str,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._place = place
        self._spool = place / "spool"
        self._spool.mkdir()
        self._dice = dice
        self._figures = figures
        self._inspector = inspector
        self._settings = settings
        self._patience = patience
        self._name = name
        self._known: dict[str, str] = {}
        self._compared: set[str] = set()
        self._newest: dict[str, Moment] = {}
        self._state = State()
        self._fresh: set[str] = set()
        self._flying: set[tuple[str, str]] = set()
        self._pending = 0

    def run(self, kills: int) -> None:
        """Kill ``kills`` runs, and end with a calm one."""
        aim = self._figures.killed + kills
        tries = 0
        while self._figures.killed < aim and tries < 4 * kills:
            tries += 1
            self._change(self._dice.choice([0, 3, 8, 14, 40]))
            self._one(self._draw())
            if self._dice.random() < 0.4:
                self._one(Plan(processes=self._dice.choice([1, 1, 2])))
            if self._dice.random() < 0.15:
                self._prune()
        self._age_temporary_files()
        self._one(Plan())
        if left := self._temporary():
            self._fail(f"temporary files of a day ago are still there: {left[:3]}")
        self._prune()
        self._figures.snapshots += len(self._state.snapshots)

    def _prune(self) -> None:
        """Have everything removed that nobody names; all that is named must stay."""
        plan = "prune"
        orphans = self._state.orphans
        self._tenant.begin(Watch())
        report = anyio.run(self._inspector.prune)
        self._figures.pruned += sum(box.removed for box in report.mailboxes)
        for box in report.mailboxes:
            if box.error or box.kept:
                self._fail(f"{plan}: {box.mailbox_id}: {box.error}, {box.kept} kept")
        missed = orphans - {key for box in report.mailboxes for key in box.keys}
        if missed:
            self._fail(f"{plan}: nobody names them and they stay: {sorted(missed)[:3]}")
        self._look(plan, Watch())
        if self._state.orphans or self._state.leases:
            self._fail(f"{plan}: left {sorted(self._state.orphans | self._state.leases)[:3]}")

    def _change(self, count: int) -> None:
        before = self._tenant.changes
        self._tenant.change(count)
        self._count_changes(before)

    def _count_changes(self, before: int) -> None:
        made = self._tenant.changes - before
        self._pending += made
        self._figures.changes += made

    def _draw(self) -> Plan:
        """Draw how the next run is ended. Where it may end follows from how much it has to do."""
        dice = self._dice
        way = dice.choices(list(WAYS), list(WAYS.values()))[0]
        if not self._newest and dice.random() < 0.75:
            way = Way.KILL  # an orderly end would commit what the first run has, and end it
        processes = 2 if way is Way.WORKER or dice.random() < 0.25 else 1
        messages = sum(len(self._tenant.now(m).messages) for m in self._tenant.mailboxes)
        work = 3 * self._pending if self._newest else messages
        requests = 14 + work
        bursts = [
            (dice.randint(1, requests), dice.randint(1, 5))
            for _ in range(dice.choice([0, 1, 1, 3]))
        ]
        plan = Plan(way, processes, changes=tuple(bursts))
        share = dice.random()
        if way is Way.HANGUP or (way is not Way.WORKER and share < 0.3):
            if dice.random() < 0.5:
                return replace(plan, arriving=dice.randint(1, requests))
            return replace(plan, answered=dice.randint(1, requests))
        delay = dice.choice([0.0, 0.0, dice.uniform(0.0, 0.003)])
        trap = Trap(
            kind=dice.choice(["put-begin", "put-end"]),
            number=dice.randint(1, 4 + work),
            signals=way.signals,
            gap=dice.randint(1, 10),
            delay=delay,
            worker=way is Way.WORKER,
        )
        if share > 0.8:
            kind = dice.choice(["commit-begin", "commit-end"])
            trap = replace(trap, kind=kind, number=dice.randint(1, 6 + work // CHECKPOINT))
        elif share > 0.55 and self._store.name == "directory":
            trap = replace(trap, kind="file", number=dice.randint(1, 10 * (4 + work)))
        return replace(plan, trap=trap)

    def _one(self, plan: Plan) -> None:
        """Run once as planned, then look at everything."""
        figures = self._figures
        watch = Watch()
        began = len(self._temporary())
        changes = self._tenant.changes
        with Running(
            ["backup", "--page-size", str(PAGE), "--processes", str(plan.processes)],
            self._environment(),
            self._place,
            checkpoint_messages=CHECKPOINT,
            terminal=plan.way is Way.HANGUP,
            trap=plan.trap,
        ) as running:
            self._arm(plan, watch, running)
            self._tenant.begin(watch)
            ended = running.wait(lambda: watch.came, self._patience)
        self._count_changes(changes)
        figures.runs += 1
        met = ended.code in plan.way.codes
        if met:
            figures.kills[self._store.name, plan.way.value] += 1
            figures.spread += plan.processes > 1
        elif plan.way is not Way.CALM:
            figures.missed += 1
        self._judge_end(plan, ended, met=met)
        if met and plan.way.abrupt:
            figures.temporary.append(len(self._temporary()) - began)
        elif len(self._temporary()) > began:
            self._fail(f"{plan}: temporary files are left behind: {self._temporary()[:3]}")
        calm = plan.way is Way.CALM and ended.code == 0
        if not self._look(plan, watch):
            return
        if calm:
            self._compare_calm(plan)
        self._count_flying(plan, watch, met=met)
        state = self._state
        figures.leases.append(len(state.leases))
        orphans = figures.orphans_calm if calm else figures.orphans_killed
        orphans.append((len(state.orphans), state.orphan_bytes))

    def _arm(self, plan: Plan, watch: Watch, running: Running) -> None:
        for number, count in plan.changes:
            watch.arriving[number] = lambda count=count: self._tenant.change_here(count)  # type: ignore[misc]
        if not (plan.arriving or plan.answered):
            return
        number = plan.arriving or plan.answered
        where = watch.arriving if plan.arriving else watch.answered
        if plan.way is Way.HANGUP:
            where[number] = running.close_terminal
            return
        gap = 1 + plan.trap.gap
        for place, sent in enumerate(plan.way.signals):
            where[number + place * gap] = lambda sent=sent: running.send(sent)  # type: ignore[misc]

    def _judge_end(self, plan: Plan, ended: Ended, *, met: bool) -> None:
        if ended.hung:
            self._figures.hangs += 1
            self._fail(f"{plan}: hung\n{ended.said[-6000:]}")
        if ended.strays:
            self._fail(f"{plan}: {ended.strays} processes are left behind")
        allowed = {0} if plan.way is Way.CALM else {0, *plan.way.codes}
        if plan.changes:
            allowed.add(3)  # something moved while it was read: it is in the ledger
        if not ended.hung and ended.code not in allowed:
            self._fail(f"{plan}: ended with {ended.code}\n{ended.said[-3000:]}")
        if odd := [text for text in _ODD if text in ended.said]:
            self._fail(f"{plan}: it said {odd}\n{ended.said[-3000:]}")
        if PASSPHRASE in ended.said:
            self._fail(f"{plan}: it said the passphrase")
        if spooled := list(self._spool.iterdir()):
            self._fail(f"{plan}: spools are left behind: {spooled}")

    def _look(self, plan: Plan | str, watch: Watch) -> bool:
        """Read the bucket and compare it with everything known; tell whether it could be read."""
        before = self._state
        try:
            state = self._look_at_bucket()
        except (AtlasError, ExceptionGroup, AssertionError, ValueError, KeyError) as error:
            self._fail(f"{plan}: the bucket cannot be read: {type(error).__name__} {error}")
            return False
        self._state = state
        fresh = state.snapshots.keys() - before.snapshots.keys()
        self._fresh = {state.snapshots[snapshot_id].mailbox for snapshot_id in fresh}
        for finding in state.damage:
            self._fail(f"{plan}: verify: {finding}")
        if before.key and state.key != before.key:
            self._fail(f"{plan}: the wrapped key has changed")
        for gone in before.snapshots.keys() - state.snapshots.keys():
            self._fail(f"{plan}: snapshot {gone} is gone")
        self._compare_snapshots(plan, state)
        self._count_repeated(plan, before, watch)
        if again := before.stored_again(state):
            self._figures.stored_again += len(again)
            self._fail(f"{plan}: stored again although it was whole: {again[:3]}")
        return True

    def _look_at_bucket(self) -> State:
        found: list[State] = []

        async def look() -> None:
            # Not returned: asyncio would write out the whole of a main task's result at its end.
            found.append(await self._inspector.look())

        anyio.run(look)
        return found[0]

    def _compare_snapshots(self, plan: Plan | str, state: State) -> None:
        for seen in state.snapshots.values():
            self._figures.looks += 1
            digest = seen.moment.digest()
            known = self._known.setdefault(seen.snapshot_id, digest)
            if known != digest:
                self._fail(f"{plan}: snapshot {seen.snapshot_id} shows something else than before")
        for snapshot_id, seen in state.snapshots.items():
            if snapshot_id in self._compared:
                continue
            window = self._tenant.window(seen.mailbox)
            self._figures.messages += len(seen.moment.messages)
            if seen.complete and len(window) == 1:
                found = differences(seen.moment, window[0])
            elif seen.complete:
                found = unexplained(seen.moment, window)
            else:
                previous = self._newest.get(seen.mailbox)
                ever = self._tenant.ever[seen.mailbox]
                found = lost(seen.moment, previous, window, ever, seen.open_ids)
            for text in found[:3]:
                self._fail(f"{plan}: snapshot {snapshot_id} of {seen.mailbox}: {text}")
            self._newest[seen.mailbox] = seen.moment
            self._compared.add(snapshot_id)

    def _compare_calm(self, plan: Plan) -> None:
        self._figures.calm += 1
        self._pending = 0
        if self._settings.mime and self._state.plain:
            self._fail(f"{plan}: {self._state.plain} messages lack their originals")
        # A run that changed nothing kept no new delta links: its rounds will be shown once more.
        quiet = [mailbox for mailbox in self._tenant.mailboxes if mailbox not in self._fresh]
        again = {i for mailbox in quiet for i in self._tenant.now(mailbox).messages}
        self._tenant.touched.intersection_update(again)
        for mailbox in self._tenant.mailboxes:
            newest = self._newest.get(mailbox)
            held = self._tenant.now(mailbox)
            if newest is None:
                self._fail(f"{plan}: {mailbox} has no snapshot after a calm run")
                continue
            self._figures.messages += len(held.messages)
            for text in differences(newest, held)[:3]:
                self._fail(f"{plan}: {mailbox} after a calm run: {text}")

    def _count_repeated(self, plan: Plan | str, before: State, watch: Watch) -> None:
        """Count what this run asked for although the runs before it had had it."""
        # A round shows once more what was changed after the round had begun.
        touched = self._tenant.touched
        names = {delivery.name for delivery in watch.deliveries}
        settled = {name for name in names & before.settled if name[0] not in touched}
        fresh = {object_id for object_id, _ in names - settled}
        known = {object_id for object_id, _ in before.settled} - touched
        attachments = {i for i, _ in watch.attachments if i in known and i not in fresh}
        if settled or attachments:
            self._figures.settled_again += len(settled) + len(attachments)
            some = sorted(settled)[:2] or sorted(attachments)[:2]
            self._fail(f"{plan}: asked for again although it was settled: {some}")
        if not self._flying:
            return
        again = {d.name: d for d in watch.deliveries if d.name in self._flying}
        ids = {object_id for object_id, _ in again}
        content = sum(size for object_id, size in watch.attachments if object_id in ids)
        users = Counter(delivery.user for delivery in again.values())
        self._figures.repeated.append(max(users.values(), default=0))
        self._figures.repeated_bytes.append(sum(d.size for d in again.values()) + content)

    def _count_flying(self, plan: Plan, watch: Watch, *, met: bool) -> None:
        """Note what this run was given and did not get settled."""
        last: dict[str, Delivery] = {d.object_id: d for d in watch.deliveries}
        flying = [d for d in last.values() if d.name not in self._state.settled]
        self._flying = {d.name for d in flying} if met else set()
        if not met:
            return
        users = Counter(delivery.user for delivery in flying)
        most = max(users.values(), default=0)
        self._figures.in_flight.append(most)
        if most > BOUND:
            self._fail(f"{plan}: {most} messages of a mailbox were in flight, more than {BOUND}")

    def _environment(self) -> dict[str, str]:
        return {
            **self._tenant.settings(),
            **self._store.environment(),
            "ATLAS_ENCRYPTION_PASSPHRASE": PASSPHRASE,
            "ATLAS_DEK_VERSION": "0",  # its scrypt costs a quarter
            "ATLAS_SPOOL_DIR": str(self._spool),
            "ATLAS_MIME": str(self._settings.mime).lower(),
            "TERM": "xterm",
        }

    def _temporary(self) -> list[Path]:
        """Return the temporary files of a directory store."""
        storage = self._settings.storage
        if not isinstance(storage, DirectorySettings):
            return []
        return list((storage.path / self._settings.bucket / ".atlas-tmp").glob("*"))

    def _age_temporary_files(self) -> None:
        """Let a day pass for what kills left: the next run removes it."""
        for path in self._temporary():
            age = path.stat().st_mtime - DAY
            os.utime(path, (age, age))

    def _fail(self, text: str) -> None:
        self._figures.failures.append(f"{self._name}: {text}")


def torture(
    *,
    seed: int,
    chapter: int,
    kills: int,
    store: Store,
    place: Path,
    figures: Figures,
    options: CorpusOptions,
    patience: float = 60.0,
    mime: bool = False,
) -> None:
    """Run one chapter, with originals or without, and add what is seen to ``figures``."""
    dice = Random(f"{seed}/{store.name}/{chapter}")
    name = f"--seed {seed} --store {store.name} --chapter {chapter}"
    corpus = replace(options, seed=dice.randint(1, 1 << 30))
    with tempfile.TemporaryDirectory(dir=place) as directory:
        tenant_id = str(Corpus(corpus).tenant_id)
        settings = Settings(
            graph=None,
            storage=store.storage,
            tenant_id=tenant_id,
            passphrase=Secret(PASSPHRASE),
            mime=mime,
        )
        inspector = Inspector(settings)
        with open_tenant(corpus, dice, inspector.bodies) as tenant:
            slow = FaultRule(
                path="/attachments",
                action="stall",
                delay=SLOW_SECONDS,
                count=-1,
                probability=SLOW_SHARE,
                seed=seed,
            )
            tenant.do(lambda: tenant.emulator.control.add_fault(slow))
            Chapter(
                tenant,
                store,
                Path(directory),
                dice,
                figures,
                inspector,
                settings=settings,
                patience=patience,
                name=name,
            ).run(kills)


def main(arguments: list[str]) -> int:
    """Run the long form and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="over all stores")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", action="append", choices=["directory", *_SERVERS])
    parser.add_argument("--chapter", type=int, help="only this one")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds without progress")
    parser.add_argument("--mime", action="store_true", help="with originals")
    chosen = parser.parse_args(arguments)
    figures = Figures()
    stores = chosen.store or ["directory"]
    with tempfile.TemporaryDirectory(prefix="atlas-kill-") as directory:
        for number, name in enumerate(stores):
            share = (chosen.kills + number) // len(stores)
            place = Path(directory) / name
            place.mkdir()
            with open_store_named(name, place) as store:
                for chapter, kills in _chapters(share, chosen.chapter):
                    known = len(figures.failures)
                    torture(
                        seed=chosen.seed,
                        chapter=chapter,
                        kills=kills,
                        store=store,
                        place=place,
                        figures=figures,
                        options=TENANT,
                        patience=chosen.patience,
                        mime=chosen.mime,
                    )
                    _say(
                        f"{name}, chapter {chapter}: {figures.killed} kills, "
                        f"{len(figures.failures)} failures"
                    )
                    for text in figures.failures[known:]:
                        _say(text)
    _say(f"kill, seed {chosen.seed}")
    _say(figures.table())
    return 1 if figures.failures else 0


def _chapters(kills: int, only: int | None) -> Iterator[tuple[int, int]]:
    for number, first in enumerate(range(0, kills, KILLS_PER_CHAPTER)):
        if only is None or number == only:
            yield number, min(KILLS_PER_CHAPTER, kills - first)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
