"""A share of all requests fails: to Graph, to the store, to Entra ID. Short tests and a long form.

A trial backs up a tenant while faults are in force, and says how that ended. Then the faults end,
and what must hold whatever happened is checked: nothing committed is lost, and the next run is
complete and exact. Waits cost nothing, because the engine's clock jumps. There is no deadline:
a watchdog ends a trial in which nothing happens any more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.abc
from tenacity import RetryCallState

from atlas_async.catalog.vault import Vault
from atlas_async.cli.exits import CODES, lone
from atlas_async.clock import SystemClock
from atlas_async.config.settings import DirectorySettings, Limits, S3Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.emulator import CorpusOptions, FaultRule
from atlas_async.errors import AtlasError, StoreError, StoreFull, StoreTransient
from atlas_async.graph.persistence import Persistence
from atlas_async.model.events import Event
from atlas_async.store import retrying
from atlas_async.store.base import ObjectStore
from atlas_async.store.directory import DirectoryStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.memory import MemoryStore
from atlas_async.store.opening import _wrapped, open_store
from tests.fakes import s3_servers
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, Rig, open_rig
from tests.torture.front import S3_TROUBLES, Front, Trouble, open_front

T = TypeVar("T")

serving: dict[str, S3Settings] = {}
"""S3 servers that run already, by name; one of its own is started for a trial otherwise."""
SHARES: Final = (0.05, 0.2, 0.4, 0.7, 1.0)
HARMLESS: Final = 0.2
"""Up to this share of failing requests a run is complete and exact."""
MIXED: Final = "mixed"
SILENT_SECONDS: Final = 60.0
"""Real seconds without a request or an event, and without time passing, that mean a hang."""
QUIET_SECONDS: Final = 3 * Limits().patience
"""Seconds of the engine's clock without a request or an event that mean a hang."""

GRAPH_FAULTS: Final[dict[str, dict[str, Any]]] = {
    "429-seconds": {"status": 429, "code": "ApplicationThrottled", "retry_after": "3"},
    "429-date": {"status": 429, "code": "ApplicationThrottled", "retry_after": "date"},
    "429-bare": {"status": 429, "code": "ApplicationThrottled"},
    "500": {"status": 500, "code": "ErrorInternalServerError"},
    "503-empty": {"status": 503},
    "504": {"status": 504, "code": "UnknownError"},
    "401": {"status": 401, "code": "InvalidAuthenticationToken"},
    "reset": {"action": "reset"},
    "reset-mid": {"action": "reset-mid"},
    "truncate": {"action": "truncate"},
    "garbage": {"action": "garbage"},
    "redirect": {"action": "redirect", "location": "https://sign-in.invalid/portal"},
    "stall": {"action": "stall", "delay": 0.02},
}
"""Every kind the emulator knows but ``control``, which changes the text it is put into."""


def _slow_down(seconds: float = 0.0) -> StoreError:
    return StoreTransient("the store could not answer: SlowDown", retry_after=seconds)


STORE_FAULTS: Final[dict[str, Callable[[float], Fault]]] = {
    "refused": lambda share: Fault(Failure.REFUSED, times=None, probability=share),
    "503": lambda share: Fault(Failure.REFUSED, times=None, probability=share, error=_slow_down),
    "503-retry-after": lambda share: Fault(
        Failure.REFUSED, times=None, probability=share, error=partial(_slow_down, 7.0)
    ),
    "lost": lambda share: Fault(Failure.ANSWER_LOST, times=None, probability=share),
    "cut": lambda share: Fault(Failure.PARTIAL, times=None, probability=share),
    "delayed": lambda share: Fault(Failure.DELAYED, times=None, probability=share, seconds=20.0),
}
"""What a store in memory or a directory is made to do."""

FULL: Final = "full"
"""A store without room: only writes fail, and none is tried again."""

_REFUSED: Final = (
    b'{"error": "invalid_client", "error_description": "AADSTS7000222: The provided client secret'
    b' keys for app are expired.", "error_codes": [7000222]}'
)
TOKEN_TROUBLES: Final[dict[str, Callable[[float], Trouble]]] = {
    "503": lambda share: Trouble("answer", share=share, reply=_entra(503, b"")),
    "429": lambda share: Trouble("answer", share=share, reply=_entra(429, b"{}")),
    "refused": lambda share: Trouble("answer", share=share, reply=_entra(401, _REFUSED)),
    "garbage": lambda share: Trouble("answer", share=share, reply=_entra(200, b"<html>no</html>")),
    "reset": lambda share: Trouble("reset", share=share),
    "cut": lambda share: Trouble("cut", share=share),
}
"""What Entra ID is made to do."""
TOKEN_PATH: Final = r"oauth2|openid-configuration|discovery"


def _entra(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _on_tokens(trouble: Trouble) -> Trouble:
    # A refusal is about the credential: the tenant's metadata asks for none.
    trouble.path = "oauth2" if trouble.reply.endswith(_REFUSED) else TOKEN_PATH
    return trouble


class BriskClock(FakeClock):
    """Never waits, and tells the true wall time, by which requests to S3 are signed."""

    def __init__(self) -> None:
        super().__init__(autojump=True)

    def now(self) -> datetime:
        """Return the machine's time."""
        return datetime.now(UTC)


class Hang(AssertionError):
    """Nothing happens any more, and nothing has ended."""


@dataclass(frozen=True)
class Case:
    """What fails.

    Args:
        area: ``graph``, ``mail`` (Graph but its directory), ``store``, ``token`` or ``everywhere``.
        kind: One of the area's, or ``mixed``.
        share: Of all requests there, from 0 to 1.
        seed: Of the chances.
    """

    area: str
    kind: str
    share: float
    seed: int


@dataclass
class Result:
    """How one trial went."""

    case: Case
    requests: int = 0
    fired: int = 0
    retries: int = 0
    outcome: str = ""
    exit_code: int = -1
    exact: bool = False
    virtual: float = 0.0
    seconds: float = 0.0
    said: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass
class Field(Rig):
    """A rig whose parts can be made to fail. ``heal`` ends all faults."""

    plain: ObjectStore = field(default_factory=MemoryStore)
    faults: list[Fault] = field(default_factory=list)
    entra: Front | None = None
    s3: Front | None = None
    happened: int = 0
    _sealer: Sealer | None = None

    def vault(self, mailbox: str = "") -> Vault:
        """Return a vault over the bucket; only after ``learn_key``."""
        assert self._sealer is not None
        return Vault(self.store, self._sealer, mailbox)

    async def learn_key(self) -> None:
        """Open the bucket's key as the program does."""
        async with self.engine() as atlas:
            await atlas.list_mailboxes()
            assert atlas._tenant is not None
            self._sealer = atlas._tenant.sealer

    def strike(self, case: Case) -> None:
        """Put the case's faults in force."""
        everywhere = case.area == "everywhere"
        if everywhere or case.area in {"graph", "mail"}:
            path = "/mailFolders|/messages|\\$batch" if case.area == "mail" else ""
            for name, share in _spread(GRAPH_FAULTS, case):
                rule = {"path": path, "count": -1, "probability": share, "seed": case.seed}
                self.emulator.control.add_fault(FaultRule(**{**GRAPH_FAULTS[name], **rule}))
        if everywhere or case.area == "store":
            if self.s3 is not None:
                self.s3.troubles += [S3_TROUBLES[n](p) for n, p in _spread(S3_TROUBLES, case)]
            elif case.kind == FULL:
                full = partial(StoreFull, "no space is left", hint="free space")
                self.faults.append(Fault(Failure.REFUSED, None, "", times=None, error=full))
            else:
                self.faults += [STORE_FAULTS[n](p) for n, p in _spread(STORE_FAULTS, case)]
        if self.entra is not None and (everywhere or case.area == "token"):
            for name, share in _spread(TOKEN_TROUBLES, case):
                if everywhere and name == "refused":
                    continue  # a refused credential is no passing fault
                self.entra.troubles.append(_on_tokens(TOKEN_TROUBLES[name](share)))

    def fired(self) -> int:
        """Return how many requests were made to fail."""
        rules = sum(int(rule["fired"]) for rule in self.emulator.control.faults())
        fronts = sum(front.fired for front in (self.entra, self.s3) if front is not None)
        return rules + fronts + sum(fault.hits for fault in self.faults)

    def heal(self) -> None:
        """End all faults."""
        self.emulator.control.clear_faults()
        self.faults.clear()
        for front in (self.entra, self.s3):
            if front is not None:
                front.troubles.clear()
                front.fired = 0

    def requests(self) -> int:
        """Return how many requests Graph, Entra ID and an S3 server have seen."""
        fronts = sum(front.requests for front in (self.entra, self.s3) if front is not None)
        return self.emulator.log.requests + fronts

    def _heard(self, _event: Event) -> None:
        self.happened += 1

    async def run(self) -> tuple[int, str, str]:
        """Back everybody up; return the exit code, the outcomes, and what a person is told."""
        try:
            async with self.engine() as atlas:
                atlas._listeners.append(self._heard)
                report = await self.watched(atlas.backup)
        except Exception as group:
            error = lone(group)
            if not isinstance(error, AtlasError):
                raise
            said = f"error: {error}\nhint: {error.hint}"
            return error.exit_code, type(error).__name__, said
        lines = [f"{m.mailbox_id}: {m.error}\nhint: {m.hint}" for m in report.mailboxes if m.error]
        outcomes = sorted({m.outcome.value for m in report.mailboxes})
        return report.exit_code, "+".join(outcomes), "\n".join(lines)

    async def watched(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work`` as long as something happens. Raises ``Hang``."""
        results: list[T] = []

        async def both(group: anyio.abc.TaskGroup) -> None:
            results.append(await work())
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch)
                group.start_soon(both, group)
        except BaseExceptionGroup as errors:
            raise lone(errors) from errors
        return results[0]

    async def _watch(self) -> None:
        last, since, quiet = self._signs(), time.monotonic(), self.clock.monotonic()
        while True:
            await anyio.sleep(0.5)
            now = self._signs()
            if now != last:
                last, since, quiet = now, time.monotonic(), self.clock.monotonic()
            waited = self.clock.monotonic() - quiet
            if time.monotonic() - since > SILENT_SECONDS or waited > QUIET_SECONDS:
                raise Hang(f"nothing has happened for {waited:.0f} s of the engine's clock")

    def _signs(self) -> tuple[int, ...]:
        return self.requests(), self.happened, sum(fault._seen for fault in self.faults)

    async def newest_ids(self) -> dict[str, str]:
        """Return the newest snapshot of each mailbox that has one."""
        async with self.engine() as atlas:
            found = {}
            for summary in await atlas.list_mailboxes():
                listed = await atlas.list_snapshots(summary.mailbox_id)
                found[summary.mailbox_id] = listed[-1].snapshot_id
            return found

    async def check_intact(self, snapshots: dict[str, str]) -> list[str]:
        """Return what is wrong with snapshots that were committed earlier."""
        problems = []
        async with self.engine() as atlas:
            for mailbox, snapshot in snapshots.items():
                found = await atlas.verify(snapshot=snapshot, mailbox=mailbox)
                if found.exit_code != 0:
                    problems.append(f"snapshot {snapshot} of {mailbox}: {found}")
        return problems

    async def check_exact(self) -> list[str]:
        """Return which mailboxes' newest snapshots do not show what the mailbox holds."""
        problems = []
        await self.learn_key()
        newest = await self.newest_ids()
        for number in range(self.emulator.corpus.options.mailboxes):
            mailbox = f"user{number:04}@contoso.com"
            if mailbox not in newest:
                problems.append(f"{mailbox} has no snapshot")
                continue
            try:
                view = await self.view(newest[mailbox], mailbox)
                await self.assert_exact(view, self.truth(mailbox))
            except AssertionError as error:
                problems.append(f"{mailbox}: {str(error)[:300] or 'is not exact'}")
        return problems

    def change_everything(self, seed: int) -> None:
        """Create, change, move and delete mail in every mailbox."""
        dice = Random(seed)
        for number in range(self.emulator.corpus.options.mailboxes):
            mailbox = f"user{number:04}@contoso.com"
            change = partial(self.emulator.control.mutate, mailbox)
            inbox = [m["immutableId"] for m in self.messages_in("inbox", mailbox)]
            for item in range(6):
                large = {"name": f"{item}.bin", "size": dice.choice([900, 30_000]), "seed": item}
                attachments = [large] if item % 2 else []
                change({"op": "create", "folder": "inbox", "subject": f"{seed}-{item}",
                        "attachments": attachments})  # fmt: skip
            for message in dice.sample(inbox, min(2, len(inbox))):
                change({"op": "update", "message": message, "patch": {"subject": f"new {seed}"}})
            change({"op": "bulk-move", "folder": "inbox", "to": "archive", "count": 2})
            change({"op": "bulk-delete", "folder": "sentitems", "count": 1})


def _spread(kinds: Any, case: Case) -> Iterator[tuple[str, float]]:
    """Yield each kind with its chance, so that a share of all requests meets one of them.

    The first that strikes counts, so later ones have a higher chance at what is left.
    """
    if case.kind != MIXED:
        yield case.kind, case.share
        return
    names = [name for name in kinds if name not in {"stall", "delayed"} or case.share < 1]
    each = case.share / len(names)
    for number, name in enumerate(names):
        yield name, min(1.0, each / (1 - number * each))


@asynccontextmanager
async def open_field(
    options: CorpusOptions,
    *,
    seed: int,
    limits: Limits | None = None,
    store: str = "memory",
    entra: bool = False,
) -> AsyncIterator[Field]:
    """Open a tenant and a bucket that can be made to fail.

    Args:
        options: The tenant.
        seed: Of the faults' chances.
        limits: The program's own by default.
        store: ``memory``, ``directory``, ``rclone`` or ``minio``.
        entra: Put a front server before Entra ID and Graph.
    """
    real = store in {"rclone", "minio"}
    clock = BriskClock() if real else FakeClock(autojump=True)
    limits = limits or Limits()
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(open_rig(options, limits=limits, clock=clock))
        bucket = rig.settings.bucket
        faults: list[Fault] = []
        plain: ObjectStore = rig.store
        s3 = None
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-")))
        if store == "directory":
            plain = DirectoryStore(DirectorySettings(place), bucket, clock=SystemClock())
            stack.push_async_callback(plain.aclose)
        if real:
            settings = serving.get(store)
            if settings is None:
                serve = {"rclone": s3_servers.rclone, "minio": s3_servers.minio}[store]
                settings = await anyio.to_thread.run_sync(stack.enter_context, serve(place))
            port = urlsplit(settings.endpoint or "").port
            assert port is not None
            s3 = await stack.enter_async_context(open_front(port, seed=seed))
            before = replace(settings, endpoint=f"http://127.0.0.1:{s3.port}")
            opening = partial(open_store, limits=limits, clock=clock)
            plain = await stack.enter_async_context(opening(settings, bucket))
            faulty: ObjectStore = await stack.enter_async_context(opening(before, bucket))
        else:
            inner = FaultyStore(plain, faults, clock=clock, seed=seed)
            faulty = _wrapped(inner, limits, clock)
        front = None
        if entra:
            front = await stack.enter_async_context(before_graph(rig, seed=seed))
        values = {item.name: getattr(rig, item.name) for item in fields(rig)}
        yield Field(
            **(values | {"store": faulty, "settings": rig.settings}),
            plain=plain,
            faults=faults,
            entra=front,
            s3=s3,
        )


@asynccontextmanager
async def before_graph(rig: Rig, *, seed: int = 0) -> AsyncIterator[Front]:
    """Put a front server before the rig's Entra ID and Graph, and lead the settings to it."""
    port = urlsplit(rig.emulator.url).port
    assert port is not None
    async with open_front(port, seed=seed) as front:
        url = f"http://127.0.0.1:{front.port}"
        parts = rig.emulator._parts
        assert parts is not None
        parts.world.origin = parts.entra.origin = url
        assert rig.settings.graph is not None
        graph = replace(rig.settings.graph, authority_url=url, graph_url=url)
        rig.settings = replace(rig.settings, graph=graph)
        yield front


@contextmanager
def counted_retries() -> Iterator[Callable[[], int]]:
    """Count the further tries that the engine decides on, of Graph's requests and the store's."""
    count = [0]
    decide, pause = Persistence.decide, retrying.Retrier._pause

    def decided(self: Persistence, *arguments: Any, **named: Any) -> float | None:
        seconds = decide(self, *arguments, **named)
        count[0] += seconds is not None
        return seconds

    def paused(self: retrying.Retrier, state: RetryCallState) -> float:
        count[0] += 1
        return pause(self, state)

    Persistence.decide, retrying.Retrier._pause = decided, paused  # type: ignore[method-assign]
    try:
        yield lambda: count[0]
    finally:
        Persistence.decide, retrying.Retrier._pause = decide, pause  # type: ignore[method-assign]


async def trial(
    case: Case,
    options: CorpusOptions = SMALL,
    *,
    store: str = "memory",
    limits: Limits | None = None,
) -> Result:
    """Run one trial. What did not hold is in the result's ``problems``.

    Up to ``HARMLESS`` both the first backup and the next one run under faults, and both must be
    complete and exact. Beyond, a first backup in good health goes before.
    """
    result = Result(case)
    began = time.monotonic()
    entra = case.area in {"token", "everywhere"}
    async with open_field(options, seed=case.seed, store=store, entra=entra, limits=limits) as rig:
        with counted_retries() as retries:
            kept: dict[str, str] = {}
            code, outcome, said = -1, "", ""
            rounds = 2 if case.share <= HARMLESS else 1
            if rounds == 1:
                code, outcome, said = await rig.run()
                assert code == 0, (outcome, said)
                kept = await rig.newest_ids()
                rig.change_everything(case.seed)
            virtual, asked = rig.clock.monotonic(), rig.requests()
            for number in range(rounds):
                rig.strike(case)
                code, outcome, said = await rig.run()
                result.fired += rig.fired()
                rig.heal()
                result.exit_code, result.outcome, result.said = code, outcome, said
                if code == 0:
                    result.problems += await rig.check_exact()
                    kept = await rig.newest_ids()
                if rounds > 1 and code != 0:
                    result.problems.append(f"run {number + 1} ended with {code}: {said}")
                if number + 1 < rounds:
                    rig.change_everything(case.seed)
            result.exact = code == 0 and not result.problems
            result.requests = rig.requests() - asked
            result.retries = retries()
            result.virtual = rig.clock.monotonic() - virtual
            if code not in CODES:
                result.problems.append(f"{code} is no documented exit code")
            result.problems += await rig.check_intact(kept)
            healed, outcome, said = await rig.run()
            if healed != 0:
                result.problems.append(f"the healthy run ended with {healed}: {outcome} {said}")
            result.problems += await rig.check_exact()
            result.problems += await rig.check_intact(await rig.newest_ids())
    result.seconds = time.monotonic() - began
    return result


HEADINGS: Final = (
    "share", "area", "kind", "seed", "requests", "fired", "retries", "outcome", "exit", "exact",
    "engine s", "seconds",
)  # fmt: skip


def row(result: Result) -> str:
    """Return a line of the table."""
    case = result.case
    cells = (
        f"{case.share:.2f}", case.area, case.kind, str(case.seed), str(result.requests),
        str(result.fired), str(result.retries), result.outcome, str(result.exit_code),
        "yes" if result.exact else "no", f"{result.virtual:.0f}", f"{result.seconds:.1f}",
    )  # fmt: skip
    return _line(cells)


def _line(cells: Sequence[str]) -> str:
    widths = (5, 10, 15, 4, 8, 6, 7, 26, 4, 5, 8, 7)
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def ladder(seeds: Sequence[int], shares: Sequence[float], *, store: str) -> Iterator[Case]:
    """Yield the long form's cases: everything mixed up the ladder, each kind at the top."""
    for share in shares:
        for seed in seeds:
            yield Case("everywhere", MIXED, share, seed)
    if 1.0 in shares:
        kinds = S3_TROUBLES if store in {"rclone", "minio"} else [*STORE_FAULTS, FULL]
        for area, names in (
            ("graph", GRAPH_FAULTS),
            ("mail", GRAPH_FAULTS),
            ("store", kinds),
            ("token", TOKEN_TROUBLES),
        ):
            for name in names:
                yield Case(area, name, 1.0, seeds[0])


def main(arguments: list[str]) -> int:
    """Run the ladder and print its table; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture faults", description=__doc__)
    parser.add_argument("--share", type=float, help="this share only, instead of the ladder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2, help="how many, from --seed on")
    parser.add_argument("--mailboxes", type=int, default=2)
    parser.add_argument("--messages", type=int, default=60)
    parser.add_argument(
        "--store", choices=("memory", "directory", "rclone", "minio"), default="directory"
    )
    chosen = parser.parse_args(arguments)
    options = replace(SMALL, mailboxes=chosen.mailboxes, messages=chosen.messages)
    seeds = range(chosen.seed, chosen.seed + chosen.seeds)
    shares = SHARES if chosen.share is None else (chosen.share,)
    say(
        f"faults: store {chosen.store}, {chosen.mailboxes} mailboxes of {chosen.messages} messages,"
        f" seeds {seeds.start} to {seeds.stop - 1}"
    )
    say(_line(HEADINGS))
    wrong = 0
    for case in ladder(seeds, shares, store=chosen.store):
        result = anyio.run(partial(trial, case, options, store=chosen.store))
        say(row(result))
        for problem in result.problems:
            wrong += 1
            say(f"    WRONG: {problem}")
        if result.exit_code and case.kind != MIXED:
            for line in dict.fromkeys(result.said.splitlines()):
                say(f"    {line}")
    say(f"{wrong} checks failed" if wrong else "all checks held")
    return 1 if wrong else 0
