"""Hours of compressed weeks: what a run costs and holds must not grow with the runs before it.

``python -m tests.torture soak --minutes 120 --seed 1``. Three processes take part: the emulated
tenant, the engine (``soak_engine``: a daemon that is measured alone) and this one, which decides
what happens, knows what is true, and judges. Every simulated day every mailbox changes and is
backed up with faults; every simulated week ends with a run without faults, one without changes,
comparisons with the truth, and one line of the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, astuple, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic
from typing import Any, Final, TextIO

import anyio
import anyio.to_thread

from tests.fakes import s3_servers
from tests.torture.soak_audit import Auditor, Stock, open_auditor
from tests.torture.soak_engine import Job
from tests.torture.soak_tenant import Life, Tenant, address, corpus, graph_faults, trouble

ROOT: Final = Path(__file__).parents[2]
WEEK: Final = 7
SPREAD: Final = 2
"""Mailboxes that are backed up once a week, over two processes."""
STORED: Final = frozenset({"complete", "unchanged"})

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How large and how rough the long run is.

    Args:
        seed: Of everything that is drawn.
        mailboxes: Mailboxes that are backed up every night.
        messages: Messages in each on a usual day.
        fault_rate: Share of requests, to Graph and to the store each, that go wrong.
        weeks: Simulated weeks, or 0 for as many as ``minutes`` allow.
        minutes: Real minutes after which no further week begins.
        samples: Mailboxes, and days of the past, that are compared at the end of a week.
        spread: Whether a run over several processes is made each week.
        loop: How the daemon sets up its process: ``program``, or ``asyncio`` for not at all.
    """

    seed: int = 1
    mailboxes: int = 8
    messages: int = 150
    fault_rate: float = 0.02
    weeks: int = 0
    minutes: float = 120.0
    samples: int = 3
    spread: bool = True
    loop: str = "program"


@dataclass(frozen=True, slots=True)
class Week:
    """One line of the table: what the engine's process holds and what the bucket has."""

    week: int
    minutes: float
    rss_mib: float
    objects: int
    own: int
    descriptors: int
    tasks: int
    threads: int
    pooled: int
    children: int
    temporary: int
    quiet_graph: float
    quiet_store: float
    quiet_ms: float
    cpu_week: float
    stored: int
    orphans: int
    snapshots: int
    runs: str
    exact: int


COLUMNS: Final = {
    "week": "simulated week",
    "minutes": "real minutes so far",
    "rss_mib": "resident memory of the engine's process, MiB",
    "objects": "objects the garbage collector follows",
    "own": "of these, instances of the package's classes",
    "descriptors": "open file descriptors",
    "tasks": "asyncio tasks",
    "threads": "threads that belong to no pool",
    "pooled": "threads kept ready by pools",
    "children": "child processes, ended ones not waited for included",
    "temporary": "files left in the spool directory",
    "quiet_graph": "Graph's requests of a quiet run, less one a folder, per mailbox",
    "quiet_store": "the store's requests of a quiet run, per mailbox",
    "quiet_ms": "CPU of the engine in a quiet run, ms per mailbox",
    "cpu_week": "CPU of the engine in the week, s",
    "stored": "objects in the bucket",
    "orphans": "objects that no snapshot and no head names",
    "snapshots": "committed snapshots",
    "runs": "mailboxes' nights: complete or unchanged/not/cancelled",
    "exact": "snapshots compared with the truth so far, content included",
}


@dataclass
class Director:
    """Leads the long run.

    Args:
        plan: How much of what.
        tenant: The emulated tenant.
        ask: Gives the engine an order.
        auditor: Judges the bucket.
        show: Takes the lines of the table.
    """

    plan: Plan
    tenant: Tenant
    ask: Ask
    auditor: Auditor
    show: Callable[[str], None]
    weeks: list[Week] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.plan.seed)
        names = [address(n) for n in range(self.plan.mailboxes)]
        self._names = names
        self._spread = [address(self.plan.mailboxes + n) for n in range(SPREAD)]
        self._lives = {
            name: Life(name, self.plan.messages, Random(f"{self.plan.seed} {name}"))
            for name in [*names, *(self._spread if self.plan.spread else ())]
        }
        self._outcomes = {"stored": 0, "not": 0, "cancelled": 0}
        self._away = ""

    async def run(self) -> None:
        """Live through the weeks."""
        began = monotonic()
        self.show(header())
        number = 0
        while number < self.plan.weeks or (
            not self.plan.weeks and monotonic() - began < self.plan.minutes * 60
        ):
            number += 1
            await self._week(number, began)

    async def _week(self, number: int, began: float) -> None:
        cpu = (await self.ask({"verb": "measure"}))["cpu"]
        first = (number - 1) * WEEK
        self._outcomes = dict.fromkeys(self._outcomes, 0)
        # Somebody leaves for the week or comes back: the daemon's list of mailboxes changes.
        self._away = self._random.choice(["", *self._names]) if len(self._names) > 2 else ""
        for day in range(first + 1, first + WEEK):
            await self._day(day)
        self._away = ""
        await self._last_day(first + WEEK)
        quiet = await self._quiet(first + WEEK)
        held = await self.ask({"verb": "measure"})
        stock = await self.auditor.take_stock()
        week = Week(
            week=number,
            minutes=round((monotonic() - began) / 60, 1),
            rss_mib=round(held["rss_kib"] / 1024, 1),
            cpu_week=round(held["cpu"] - cpu, 1),
            **{key: held[key] for key in _HELD},
            **quiet,
            **_stocked(stock),
            runs="/".join(map(str, self._outcomes.values())),
            exact=self.auditor.checked,
        )
        self.weeks.append(week)
        self.show(line(week))

    async def _day(self, day: int) -> None:
        rate = self.plan.fault_rate
        here = [name for name in self._names if name != self._away]
        await self._change(here)
        if self._random.random() < 0.15:
            await self.tenant.call("POST", "expire-delta", {"mailbox": self._random.choice(here)})
        rules = graph_faults(rate, self._random)
        if self._random.random() < 0.2:
            rules = trouble(self._random.choice(here), self._random) + rules
        if self._random.random() < 0.2:
            await self.tenant.call("POST", "settings", {"token_lifetime": 200})
        if self._random.random() < 0.2:
            crowd = {"throttle": True, "time_scale": 0.002, "mailbox_concurrent": 2}
            await self.tenant.call("POST", "settings", crowd)
        await self.tenant.fail(rules)
        watched = self._random.choice(here)
        truth = await self.tenant.truth(watched, content=True)
        end = self._random.choices(["full", "stop", "cancel"], weights=[8, 1, 1])[0]
        end = "full" if day == 1 else end  # from then on there is something to look at
        told = await self._night(day, here, end=end, rate=rate)
        self._judge_night(told, end)
        if told["mailboxes"].get(watched, {}).get("outcome") == "complete":
            self.auditor.remember(watched, told["mailboxes"][watched]["snapshot"], truth)
        await self._visits(day, here, rate)
        await self.tenant.call("POST", "settings", {"throttle": False, "token_lifetime": 3599})

    async def _change(self, names: Sequence[str]) -> None:
        """Let a day pass in mailboxes."""
        for name in names:
            truth = await self.tenant.truth(name, content=False)
            await self.tenant.call("POST", "mutate", self._lives[name].day(truth))

    async def _night(
        self, day: int, names: Sequence[str], *, end: str = "full", rate: float = 0.0
    ) -> dict[str, Any]:
        """Back up: every other mailbox by the instance that stays open."""
        order = {"verb": "night", "day": day, "rate": rate, "end": end}
        order |= {"kept": names[::2], "fresh": names[1::2]}
        order["at"] = self._random.randint(1, 15 * len(names))
        told: dict[str, Any] = {}
        async with anyio.create_task_group() as group:
            if rate and self._random.random() < 0.2:
                group.start_soon(self._revoke_soon)
            told |= await self.ask(order)
        return told

    async def _revoke_soon(self) -> None:
        """Refuse the token that the night works with."""
        await anyio.sleep(self._random.uniform(0.05, 0.3))
        await self.tenant.call("POST", "revoke-tokens", {})

    def _judge_night(self, told: dict[str, Any], end: str) -> None:
        if "error" in told:
            self.broken.append(told["error"])
            return
        self.broken.extend(told["errors"])
        for result in told["mailboxes"].values():
            self._outcomes["stored" if result["outcome"] in STORED else "not"] += 1
            if result["outcome"] == "failed":
                self.broken.append(f"a mailbox failed: {result['error']}")
        if end == "cancel":
            self._outcomes["cancelled"] += 1

    async def _visits(self, day: int, names: Sequence[str], rate: float) -> None:
        """Let somebody look at what is stored, through faults of the store."""
        orders: list[dict[str, Any]] = []
        if self._random.random() < 0.3:
            orders.append({"verb": "list"})
        if self._random.random() < 0.5:
            orders.append({"verb": "read"})
        if self._random.random() < 0.3:
            orders.append({"verb": "verify"})
        if self._random.random() < 0.02:
            orders.append({"verb": "verify", "whole": True})
        for order in orders:
            order |= {"mailbox": self._random.choice(names), "day": day, "rate": rate}
            told = await self.ask(order | {"kept": day % 2 == 0})
            if told.get("error") or told.get("bad"):
                self.broken.append(f"{order['verb']} {order['mailbox']}: {told}")

    async def _last_day(self, day: int) -> None:
        """End the week: a run without faults, compared with the truth, and one by workers."""
        await self._change(list(self._lives))
        await self.tenant.fail([])
        told = await self._night(day, self._names)
        self._judge_night(told, "full")
        results = told.get("mailboxes", {})
        if self.plan.spread:
            await self.tenant.fail(graph_faults(self.plan.fault_rate, self._random))
            spread = await self.ask({"verb": "spread", "day": day, "mailboxes": self._spread})
            self._judge_night(spread, "full")
            await self.tenant.fail([])
            results |= spread.get("mailboxes", {})
        for name, result in results.items():
            if result["outcome"] not in STORED:
                self.broken.append(f"day {day} without faults, {name}: {result}")
        good = [name for name, result in results.items() if result["snapshot"]]
        for name in self._random.sample(good, min(self.plan.samples, len(good))):
            truth = await self.tenant.truth(name, content=True)
            wrong = await self.auditor.check(name, results[name]["snapshot"], truth)
            self.broken.extend([f"day {day}: {wrong}"] if wrong else [])
        self.broken.extend(await self.auditor.check_past(self.plan.samples))

    async def _quiet(self, day: int) -> dict[str, Any]:
        """Back up what has not changed and return what that costs a mailbox.

        The run before it does what is due once a week, such as listing the folders anew.
        """
        await self._night(day, self._names)
        await self.tenant.served()
        told = await self._night(day, self._names)
        served = await self.tenant.served()
        results = told["mailboxes"].values()
        for result in results:
            if result["outcome"] != "unchanged":
                self.broken.append(f"day {day}, nothing changed: {result}")
        count = len(self._names)
        folders = sum(result["folders"] for result in results)
        return {
            "quiet_graph": round((served - folders) / count, 2),
            "quiet_store": round(sum(result["store"] for result in results) / count, 2),
            "quiet_ms": round(1000 * told["cpu"] / count, 1),
        }


_HELD: Final = (
    "objects",
    "own",
    "descriptors",
    "tasks",
    "threads",
    "pooled",
    "children",
    "temporary",
)


def _stocked(stock: Stock) -> dict[str, int]:
    return {"stored": stock.objects, "orphans": stock.orphans, "snapshots": stock.snapshots}


def header() -> str:
    """Return the table's first line."""
    return " ".join(f"{item.name:>{_width(item.name)}}" for item in fields(Week))


def line(week: Week) -> str:
    """Return a week's line."""
    values = zip(fields(Week), astuple(week), strict=True)
    return " ".join(f"{value!s:>{_width(item.name)}}" for item, value in values)


def _width(name: str) -> int:
    return max(len(name), 7)


@dataclass(frozen=True, slots=True)
class Criterion:
    """What must hold of one column. Weeks before the second count for none.

    ``same``: every week equals the second. ``growth``: the median of the last quarter of the weeks
    is at most so much above the median of the second quarter, as a share, plus ``slack`` for what
    is small. ``most``: no week is above it. ``pace``: the same as ``growth`` for what a week adds.
    """

    column: str
    rule: str
    share: float = 0.0
    slack: float = 0.0

    def judge(self, weeks: Sequence[Week]) -> tuple[bool, str]:
        """Return whether it holds, and a sentence with the figures."""
        values = [float(getattr(week, self.column)) for week in weeks]
        if self.rule == "same":
            wanted = values[1]
            others = sorted({value for value in values[1:] if value != wanted})
            return not others, f"every week as week 2: {wanted:g}" + (
                f", but also {others[:8]}" if others else ""
            )
        if self.rule == "most":
            return max(values) <= self.slack, f"at most {self.slack:g}: {max(values):g}"
        if self.rule == "pace":
            values = [0.0, *(b - a for a, b in pairwise(values))]
        quarter = len(values) // 4
        early, late = median(values[quarter : 2 * quarter]), median(values[-quarter:])
        bound = early * (1 + self.share) + self.slack
        what = "added in a week" if self.rule == "pace" else "median"
        return late <= bound, (
            f"{what}, last quarter {late:g} <= second quarter {early:g} "
            f"+ {self.share:.0%} + {self.slack:g} = {bound:g}"
        )


CRITERIA: Final = (
    Criterion("rss_mib", "growth", share=0.10),
    Criterion("objects", "growth", share=0.01, slack=1500),
    Criterion("own", "growth", share=0.0, slack=20),
    Criterion("descriptors", "same"),
    Criterion("tasks", "same"),
    Criterion("threads", "same"),
    Criterion("pooled", "most", slack=60),
    Criterion("children", "most", slack=0),
    Criterion("temporary", "most", slack=0),
    Criterion("quiet_graph", "same"),
    Criterion("quiet_store", "same"),
    Criterion("quiet_ms", "growth", share=0.25, slack=5),
    Criterion("stored", "pace", share=0.25, slack=20),
    Criterion("orphans", "pace", share=0.5, slack=20),
)
QUARTERS: Final = 4
"""Weeks below which there are no quarters worth comparing."""


def verdict(
    weeks: Sequence[Week], broken: Sequence[str], criteria: Sequence[Criterion] = CRITERIA
) -> tuple[bool, list[str]]:
    """Return whether everything held, and the lines that say so."""
    lines = [f"BROKEN {text}" for text in broken[:50]]
    held = not broken
    if len(weeks) < QUARTERS:
        return held, [*lines, f"{len(weeks)} weeks: too few for a verdict on what grows"]
    for criterion in criteria:
        good, told = criterion.judge(weeks)
        held = held and good
        lines.append(f"{'holds ' if good else 'BROKEN'} {criterion.column:<12} {told}")
    return held, lines


@asynccontextmanager
async def child(command: list[str], first: str) -> AsyncIterator[tuple[Ask, dict[str, Any]]]:
    """Run a process that answers lines with lines; give what asks it, and its first answer."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pipes = process.stdin, process.stdout

    def ask_now(text: str) -> dict[str, Any]:
        if text:
            pipes[0].write(text + "\n")
            pipes[0].flush()
        answer = pipes[1].readline()
        assert answer, f"{command[1:4]} ended with {process.poll()}"
        found: dict[str, Any] = json.loads(answer)
        return found

    async def ask(order: dict[str, Any]) -> dict[str, Any]:
        return await anyio.to_thread.run_sync(ask_now, json.dumps(order))

    try:
        yield ask, await anyio.to_thread.run_sync(ask_now, first)
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def storage(kind: str, place: Path) -> Iterator[dict[str, str]]:
    """Give the settings of a store of this kind; a server runs until the block ends."""
    if kind == "directory":
        yield {"path": str(place / "store")}
        return
    server = {"minio": s3_servers.minio, "rclone": s3_servers.rclone}[kind]
    with server(place) as settings:
        secret = settings.secret_key.reveal() if settings.secret_key else ""
        yield {
            "endpoint": settings.endpoint or "",
            "access_key": settings.access_key or "",
            "secret_key": secret,
        }


async def soak(plan: Plan, kind: str, place: Path, show: Callable[[str], None]) -> bool:
    """Run the long form and return whether everything held."""
    options = {
        "corpus": asdict(corpus(plan.mailboxes + SPREAD, plan.messages, plan.seed)),
        "behaviour": {},
        "cache_bytes": 1 << 20,
    }
    emulator = [sys.executable, "-m", "benchmarks.emulator_server", json.dumps(options)]
    daemon = [sys.executable, "-m", "tests.torture.soak_engine", plan.loop]
    (place / "spool").mkdir()
    (place / "truths").mkdir()
    async with AsyncExitStack() as stack:
        _, graph = await stack.enter_async_context(child(emulator, ""))
        stored = stack.enter_context(storage(kind, place))
        job = Job(graph=graph, storage=stored, spool=str(place / "spool"), seed=plan.seed)
        ask, _ = await stack.enter_async_context(child(daemon, json.dumps(asdict(job))))
        auditor = await stack.enter_async_context(
            open_auditor(job.settings(), place / "truths", plan.seed)
        )
        director = Director(plan, Tenant(graph["graph_url"]), ask, auditor, show)
        try:
            await director.run()
        finally:
            held, lines = verdict(director.weeks, director.broken)
            for text in lines:
                show(text)
        show("everything held" if held else "NOT everything held")
        return held


@contextmanager
def shower(output: Path | None) -> Iterator[Callable[[str], None]]:
    """Give a function that prints a line at once, to the terminal and to ``output``."""
    files: list[TextIO] = [sys.stdout]
    with output.open("w", encoding="utf-8") if output else tempfile.TemporaryFile("w") as copy:
        files.append(copy)

        def show(text: str) -> None:
            for file in files:
                print(text, file=file, flush=True)

        yield show


def main(arguments: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--weeks", type=int, default=0, help="so many weeks instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault-rate", type=float, default=0.02)
    parser.add_argument("--store", choices=("directory", "minio", "rclone"), default="directory")
    parser.add_argument("--mailboxes", type=int, default=8)
    parser.add_argument("--messages", type=int, default=150)
    parser.add_argument("--loop", choices=("program", "asyncio"), default="program")
    parser.add_argument("--directory", type=Path, help="where store and spool lie; kept")
    parser.add_argument("--output", type=Path, help="a file that gets the table too")
    told = parser.parse_args(arguments)
    plan = Plan(
        seed=told.seed,
        mailboxes=told.mailboxes,
        messages=told.messages,
        fault_rate=told.fault_rate,
        weeks=told.weeks,
        minutes=told.minutes,
        loop=told.loop,
    )
    with tempfile.TemporaryDirectory(prefix="atlas-soak-") as scratch, shower(told.output) as show:
        place = told.directory or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        show(f"soak --store {told.store} {plan}")
        for name, meaning in COLUMNS.items():
            show(f"  {name:<12} {meaning}")
        return 0 if anyio.run(soak, plan, told.store, place, show) else 1
