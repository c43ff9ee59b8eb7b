"""The engine's side of the long run: a daemon that lives for years of simulated nights.

It is an asyncio application as a provider would write it: it embeds ``Atlas``, keeps one instance
open for as long as it lives, opens another one for each night, and does what it is told, one JSON
object at a time. It counts its own memory, descriptors, tasks and threads when it is asked to.
``python -m tests.torture.soak_engine`` is the same as a process that reads orders from its input. It
sets up its process as docs/sdk.md says (``run_program``); with ``asyncio`` it changes nothing, and
glibc keeps freed memory in an arena for each of many threads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.to_thread

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import (
    DirectorySettings,
    GraphSettings,
    Limits,
    S3Settings,
    Settings,
)
from atlas_async.errors import AtlasError, StoreTransient
from atlas_async.event_loop import run_program
from atlas_async.model.report import RunReport
from atlas_async.operations.verification import VerifyReport
from atlas_async.pipeline.stop import StopSignal
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import InterceptedStore, Op, Request, enter_through
from atlas_async.store.limited import LimitedStore
from atlas_async.store.opening import SPARE_CONNECTIONS
from atlas_async.store.retrying import RetryingStore, RetryPolicy

T = TypeVar("T")

SPEED: Final = 50.0
"""Simulated seconds in a second, so that pauses and checkpoints fit into a compressed night."""
DAY: Final = 86_400.0
STATM_RSS: Final = 1
PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
LIMITS: Final = replace(Limits(), mailboxes=4, page_size=25, byte_budget=32 << 20)
POOLS: Final = ("AnyIO worker thread", "asyncio_", "ThreadPoolExecutor")
"""Names of threads that a pool keeps ready and ends by itself; their number is bounded."""


class FastClock:
    """A clock that runs ``speed`` times as fast and can be set ahead, never back.

    Wall time and monotonic time go ahead together, and a sleep ends when its time has come.
    """

    def __init__(self) -> None:
        self._began = monotonic()
        self._start = datetime(2026, 1, 5, tzinfo=UTC)
        self._ahead = 0.0
        self.speed = SPEED

    def now(self) -> datetime:
        """Return the simulated wall time in UTC."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return simulated seconds since the clock was made."""
        return (monotonic() - self._began) * self.speed + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Sleep for so many simulated seconds."""
        await anyio.sleep(max(0.0, seconds) / self.speed)

    def run_at(self, speed: float) -> None:
        """Change the pace from now on."""
        self._ahead, self._began = self.monotonic(), monotonic()
        self.speed = speed

    def begin_day(self, day: int) -> None:
        """Set the clock ahead to the beginning of a day, unless it is past it."""
        self._ahead += max(0.0, day * DAY - self.monotonic())


class Tripwire:
    """Calls ``action`` when so many requests have reached the store since it was armed."""

    def __init__(self) -> None:
        self._left = 0
        self._action: Callable[[], None] | None = None

    def arm(self, requests: int, action: Callable[[], None]) -> None:
        """Call ``action`` at the request with this number."""
        self._left, self._action = requests, action

    def disarm(self) -> None:
        """Forget the action."""
        self._action = None

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Count the request."""
        if self._action is not None:
            self._left -= 1
            if self._left <= 0:
                action, self._action = self._action, None
                action()
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Count opening."""
        return enter_through(self, request, enter)


@dataclass(frozen=True)
class Job:
    """What the daemon works with; plain values, so that it fits on a command line."""

    graph: dict[str, str]
    storage: dict[str, str]
    spool: str
    seed: int = 1

    def settings(self) -> Settings:
        """Return the tenant's settings."""
        graph = self.graph
        return Settings(
            graph=GraphSettings(
                tenant_id=graph["tenant_id"],
                client_id=graph["client_id"],
                credential=Secret(graph["client_secret"]),
                authority_url=graph["authority_url"],
                graph_url=graph["graph_url"],
            ),
            storage=self._storage(),
            tenant_id=graph["tenant_id"],
            passphrase=Secret("soak passphrase"),
            limits=LIMITS,
            dek_version=0,  # its scrypt costs a quarter
            spool_directory=Path(self.spool),
        )

    def _storage(self) -> DirectorySettings | S3Settings:
        storage = self.storage
        if "path" in storage:
            return DirectorySettings(Path(storage["path"]))
        secret = Secret(storage["secret_key"])
        return S3Settings(storage["endpoint"], "us-east-1", storage["access_key"], secret)


def adapter(settings: Settings) -> ObjectStore:
    """Return the store itself; real time, as servers and file systems have it."""
    if isinstance(settings.storage, DirectorySettings):
        from atlas_async.store.directory import DirectoryStore

        return DirectoryStore(settings.storage, settings.bucket, clock=SystemClock())
    from atlas_async.store.s3 import S3Store

    connections = 2 * settings.limits.uploads + SPARE_CONNECTIONS
    return S3Store(settings.storage, settings.bucket, connections=connections, clock=SystemClock())


def store_faults(rate: float) -> list[Fault]:
    """Return faults of every kind that together strike so large a share of the requests."""
    if not rate:
        return []
    each = {"times": None, "probability": rate / 5}
    return [
        Fault(Failure.REFUSED, **each),  # type: ignore[arg-type]
        Fault(Failure.REFUSED, **each, error=lambda: StoreTransient("slow down", retry_after=2.0)),  # type: ignore[arg-type]
        Fault(Failure.ANSWER_LOST, **each),  # type: ignore[arg-type]
        Fault(Failure.PARTIAL, Op.OPEN, **each, error=lambda: StoreTransient("cut")),  # type: ignore[arg-type]
        Fault(Failure.DELAYED, **each, seconds=2.0),  # type: ignore[arg-type]
    ]


@dataclass
class Bench:
    """One store with faults, and an ``Atlas`` over it."""

    atlas: Atlas
    wire: Tripwire
    faults: list[Fault]


@asynccontextmanager
async def open_bench(settings: Settings, clock: FastClock, seed: int) -> AsyncIterator[Bench]:
    """Open store and engine as ``store.opening`` does, with faults and a tripwire in between."""
    wire = Tripwire()
    faults: list[Fault] = []
    inner = FaultyStore(adapter(settings), faults, clock=clock, seed=seed)
    limits = settings.limits
    limited = LimitedStore(InterceptedStore(inner, wire), puts=limits.uploads, gets=limits.uploads)
    store = RetryingStore(limited, RetryPolicy(limits.retries, limits.patience), clock=clock)
    try:
        async with Atlas(settings, store=store, clock=clock) as atlas:
            yield Bench(atlas, wire, faults)
    finally:
        with anyio.move_on_after(10.0, shield=True):
            await store.aclose()


@dataclass
class Daemon:
    """The application. Use as an async context manager and ``ask`` it.

    ``leak`` is filled by no one but a test that shows that the measurement notices.
    """

    job: Job
    clock: FastClock = field(default_factory=FastClock)
    leak: Callable[[], None] = field(default=lambda: None)

    async def __aenter__(self) -> Self:
        """Open the instance that stays open."""
        self._settings = self.job.settings()
        self._random = Random(self.job.seed)
        self._stack = AsyncExitStack()
        self._kept = await self._stack.enter_async_context(
            open_bench(self._settings, self.clock, self.job.seed)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self._stack.aclose()

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what ``order`` says; see the methods named after its ``verb``."""
        verbs: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "night": self._night,
            "spread": self._spread,
            "list": self._list,
            "read": self._read,
            "verify": self._verify,
            "measure": self._measure,
        }
        self.clock.begin_day(int(order.get("day", 0)))
        rate = float(order.get("rate", 0))
        self._kept.faults[:] = store_faults(rate)
        # Waits are what is shortened. Without faults there are none, and what a run asks for again
        # because it took long must not depend on how busy this machine is.
        self.clock.run_at(SPEED if rate else 1.0)
        try:
            return await verbs[order["verb"]](order)
        except AtlasError as error:
            return {"error": f"{type(error).__name__}: {error}"}
        finally:
            self._kept.faults.clear()

    async def _night(self, order: dict[str, Any]) -> dict[str, Any]:
        """Back up ``kept`` by the instance that stays open, ``fresh`` by one opened for it.

        ``end`` is how: ``full``, ``stop`` or ``cancel`` at the store's request number ``at``.
        """
        self.leak()
        began, wall = cpu_seconds(), monotonic()
        results: dict[str, Any] = {}
        errors: list[str] = []

        async def run(bench: Bench, mailboxes: list[str]) -> None:
            try:
                report = await self._back_up(bench, mailboxes, order)
            except AtlasError as error:
                errors.append(f"{type(error).__name__}: {error}")
            else:
                results.update(told(report) if report is not None else {})

        async def fresh() -> None:
            seed = self._random.randrange(1 << 30)
            async with open_bench(self._settings, self.clock, seed) as bench:
                bench.faults[:] = self._kept.faults
                await run(bench, order["fresh"])

        async with anyio.create_task_group() as group:
            group.start_soon(run, self._kept, order["kept"])
            group.start_soon(fresh)
        return {
            "mailboxes": results,
            "errors": errors,
            "cpu": cpu_seconds() - began,
            "seconds": monotonic() - wall,
        }

    async def _back_up(
        self, bench: Bench, mailboxes: list[str], order: dict[str, Any]
    ) -> RunReport | None:
        """Return the report, or None when the run was cancelled."""
        report: RunReport | None = None
        stop = StopSignal()
        with anyio.CancelScope() as scope:
            if order["end"] != "full":
                action = stop.request if order["end"] == "stop" else scope.cancel
                bench.wire.arm(int(order["at"]), action)
            async with bench.atlas.events() as events, anyio.create_task_group() as group:
                group.start_soon(follow, events)
                report = await bench.atlas.backup(mailboxes, stop=stop)
                group.cancel_scope.cancel()
        bench.wire.disarm()
        return report

    async def _spread(self, order: dict[str, Any]) -> dict[str, Any]:
        """Back up over two processes. Workers have a clock and a store of their own."""
        async with Atlas(self._settings) as atlas:
            report = await atlas.backup(order["mailboxes"], processes=2)
        return {"mailboxes": told(report), "errors": []}

    @asynccontextmanager
    async def _bench(self, order: dict[str, Any]) -> AsyncIterator[Bench]:
        if order.get("kept"):
            yield self._kept
            return
        async with open_bench(self._settings, self.clock, 0) as bench:
            bench.faults[:] = self._kept.faults
            yield bench

    async def _list(self, order: dict[str, Any]) -> dict[str, Any]:
        async with self._bench(order) as bench:
            found = await bench.atlas.list_snapshots(order["mailbox"])
            boxes = await bench.atlas.list_mailboxes()
        return {"snapshots": len(found), "mailboxes": len(boxes)}

    async def _read(self, order: dict[str, Any]) -> dict[str, Any]:
        async with self._bench(order) as bench:
            view = await bench.atlas.open_snapshot(mailbox=order["mailbox"])
            records = [record async for record in view.messages()]
            record = self._random.choice(records)
            content = await bench.atlas.read_message(
                record["object_id"],
                mailbox=order["mailbox"],
                snapshot=view.summary.snapshot_id,
            )
        return {"subject": content.resource.get("subject")}

    async def _verify(self, order: dict[str, Any]) -> dict[str, Any]:
        """Verify a mailbox's newest snapshot, or ``whole``: the mailbox with all of them."""
        async with self._bench(order) as bench:
            atlas, mailbox = bench.atlas, order["mailbox"]
            if order.get("whole"):
                return verified(await atlas.verify(mailbox=mailbox))
            view = await atlas.open_snapshot(mailbox=mailbox)
            snapshot = view.summary.snapshot_id
            return verified(await atlas.verify(snapshot=snapshot, mailbox=mailbox))

    async def _measure(self, order: dict[str, Any]) -> dict[str, Any]:
        return await measure(Path(self.job.spool))


async def follow(events: AsyncIterator[Any]) -> None:
    """Listen to events, as a daemon that shows progress does."""
    async for _ in events:
        pass


def told(report: RunReport) -> dict[str, Any]:
    """Return of each mailbox what the director judges by."""
    return {
        result.mailbox_id: {
            "outcome": result.outcome.value,
            "snapshot": result.snapshot_id,
            "graph": result.graph_requests,
            "store": result.store_requests,
            "folders": result.folders,
            "failed": result.failed,
            "error": result.error,
            "notices": list(result.notices),
            "not_stored": [
                {
                    "kind": item.kind,
                    "code": item.code,
                    "reason": item.reason,
                    "attempts": item.attempts,
                    "first_run": item.first_run,
                }
                for item in result.not_stored
            ],
        }
        for result in report.mailboxes
    }


def verified(report: VerifyReport) -> dict[str, Any]:
    """Return how a verification ended."""
    bad = [*report.damaged, *report.missing, *report.foreign]
    return {"bad": [f"{f.kind} {f.key}: {f.detail}" for f in bad], "checked": report.checked}


def cpu_seconds() -> float:
    """Return user and system seconds of this process, threads included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(spool: Path) -> dict[str, Any]:
    """Return what this process holds now, garbage collected."""
    for _ in range(20):  # what closing left to the loop's next turns
        await anyio.sleep(0.005)
    gc.collect()
    objects = gc.get_objects()
    own = sum(1 for item in objects if _is_ours(item))
    count = len(objects)
    del objects
    threads = threading.enumerate()
    pooled = sum(1 for thread in threads if thread.name.startswith(POOLS))
    statm = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return {
        "rss_kib": int(statm[STATM_RSS]) * PAGE_KIB,
        "objects": count,
        "own": own,
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,
        "tasks": len(asyncio.all_tasks()),
        "threads": len(threads) - pooled,
        "pooled": pooled,
        "children": len(child_processes()),
        "temporary": sum(1 for _ in spool.iterdir()),
        "cpu": cpu_seconds(),
    }


def _is_ours(item: object) -> bool:
    module = str(type(item).__module__)
    return module.startswith("atlas_async.") and not module.startswith("atlas_async.emulator")


def child_processes() -> list[str]:
    """Return the ids of this process's children, those not waited for included."""
    tasks = Path("/proc/self/task")
    return [
        child
        for task in tasks.iterdir()
        for child in (task / "children").read_text(encoding="ascii").split()
    ]


async def serve() -> None:
    """Answer orders from standard input until it ends, one line each."""
    job = Job(**json.loads(await anyio.to_thread.run_sync(sys.stdin.readline)))
    async with Daemon(job) as daemon:
        answer({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer(await daemon.ask(json.loads(line)))


def answer(values: dict[str, Any]) -> None:
    """Write one line to whoever gave the order."""
    print(json.dumps(values), flush=True)  # noqa: T201 - this is how they talk


if __name__ == "__main__":
    if sys.argv[1:] == ["asyncio"]:
        anyio.run(serve)
    else:
        run_program(serve)
