"""What the tests of known cases share: small tenants, meddling in the middle, a watched bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from atlas_async.clock import SystemClock
from atlas_async.config.settings import Limits
from atlas_async.emulator import CorpusOptions, FaultRule
from atlas_async.model.record import MessageRecord
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.intercepted import InterceptedStore, Request
from atlas_async.store.memory import MemoryBucket, MemoryStore
from tests.badday.console import Console
from tests.badday.office import LITTLE, open_office
from tests.fakes.clock import FakeClock
from tests.fakes.rig import SMALL, USER, Rig, open_rig
from tests.restore.scene import Scene

T = TypeVar("T")

DAY = 86_400.0
PLAIN = replace(
    SMALL,
    messages=30,
    attachment_share=0.0,
    inline_share=0.0,
    smime_share=0.0,
    recoverable_messages=0,
)
"""Messages and folders of every kind, without attachments."""
BRIEF = replace(Limits(), retries=2, patience=60.0)
"""Limits under which a hopeless request is given up soon."""

Tell = Callable[[Request], None]


class Interlude(SystemClock):
    """The emulator's clock: a request that a rule stalls lets the test act before its answer.

    ``acts`` are called one by one, each by one stalled request; that one does not wait then.
    """

    def __init__(self) -> None:
        self.acts: list[Callable[[], object]] = []

    async def sleep(self, seconds: float) -> None:
        """Let the test act, or sleep where it has nothing to do."""
        if self.acts:
            self.acts.pop(0)()
        else:
            await anyio.sleep(seconds)


class Case(Rig):
    """A rig whose time jumps and whose emulator can be meddled with in the middle of a run."""

    interlude: Interlude
    jumps: FakeClock

    def meddle(self, path: str, act: Callable[[], object], *, after: int = 0) -> None:
        """Call ``act`` when a request to ``path`` has arrived, before it is looked at."""
        self.interlude.acts.append(act)
        self.fault(action="stall", path=path, delay=1.0, after=after)

    def fault(self, **rule: Any) -> None:
        """Put a fault rule in force."""
        self.emulator.control.add_fault(FaultRule(**rule))

    def heal(self) -> None:
        """Drop all fault rules."""
        self.emulator.control.clear_faults()

    def switch(self, **values: Any) -> None:
        """Change switches of the emulated service."""
        self.emulator.control.configure(**values)

    def asked(self, part: str = "") -> list[str]:
        """Return the paths of Graph requests that hold ``part``, in the order they came."""
        return [served.path for served in self.emulator.log if part in served.path]

    def next_day(self) -> None:
        """Let a day pass for the engine, and forget the requests so far."""
        self.jumps.jump(DAY)
        self.emulator.control.clear_log()

    async def exact(self, snapshot: str | None = None, *, mailbox: str = USER) -> None:
        """Assert that a snapshot, the newest by default, is the mailbox as it is now."""
        await self.assert_exact(await self.view(snapshot, mailbox), self.truth(mailbox))

    async def records(self, snapshot: str | None = None) -> dict[str, MessageRecord]:
        """Return the messages of a snapshot by id."""
        return {r["object_id"]: r async for r in (await self.view(snapshot)).messages()}

    def content(self) -> list[str]:
        """Return the keys of all stored messages and attachments."""
        return self.keys("data/") + self.keys("attachments/")


@asynccontextmanager
async def open_case(
    options: CorpusOptions = PLAIN,
    *,
    limits: Limits | None = None,
    wrap: Callable[[ObjectStore], ObjectStore] | None = None,
) -> AsyncIterator[Case]:
    """Start an emulator and return a case over it and a memory store.

    ``wrap`` puts something around the store.
    """
    interlude, jumps = Interlude(), FakeClock(autojump=True)
    async with open_rig(options, limits=limits, clock=jumps, service_clock=interlude) as rig:
        store = MemoryStore(rig.bucket)
        case = Case(
            emulator=rig.emulator,
            settings=rig.settings,
            bucket=rig.bucket,
            store=wrap(store) if wrap else store,
            clock=jumps,
        )
        case.interlude, case.jumps = interlude, jumps
        yield case


async def on_stage(case: Case, **options: Any) -> Scene:
    """Back the user up, and return what restores of this snapshot are judged by."""
    result = await case.back_up_user(**options)
    assert result.exit_code == 0, result
    return Scene(case, case.truth())


class _Telling:
    """Tells of every request before it is made."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        self._tell(request)
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        self._tell(request)
        return enter()


def telling(store: ObjectStore, tell: Tell) -> ObjectStore:
    """Return ``store`` with a word before every request; ``tell`` may raise instead."""
    return InterceptedStore(store, _Telling(tell))


def damage(bucket: MemoryBucket, key: str) -> None:
    """Flip a bit in the middle of an object."""
    stored = bucket.objects[key]
    body = bytearray(stored.body)
    body[len(body) // 2] ^= 1
    bucket.objects[key] = replace(stored, body=bytes(body))


def shorten(bucket: MemoryBucket, key: str) -> None:
    """Cut an object in half."""
    stored = bucket.objects[key]
    body = stored.body[: len(stored.body) // 2]
    bucket.objects[key] = replace(stored, info=replace(stored.info, size=len(body)), body=body)


@contextmanager
def open_console(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
    options: CorpusOptions = LITTLE,
) -> Iterator[Console]:
    """Serve a tenant and return an operator's console for it, with its store below ``place``."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place)
    with open_office(options) as office:
        yield Console(office, place / "store", monkeypatch, capture)
