"""What attacks measure with and meddle through: every request of Graph, every request of a store."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import Sealer
from atlas_async.emulator import Emulator
from atlas_async.emulator.calls import Call, Reply
from atlas_async.sdk import Atlas
from atlas_async.store.base import ObjectReader, StoredObject
from atlas_async.store.intercepted import InterceptedStore, Op, Request, enter_through
from atlas_async.store.memory import MemoryStore
from tests.fakes.rig import USER, Rig

T = TypeVar("T")

CONTENT = ("data", "attachments")
"""Where the content of messages and attachments lies: the first part of its keys."""


class Meter:
    """Notes each request of a store: what was asked, where, and how many bytes came back."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bytes_read = 0

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Note the request and answer it."""
        self.requests.append(request)
        found: Any = await call()
        if isinstance(found, StoredObject) or request.op is Op.OPEN:
            self.bytes_read += found.info.size
        return found  # type: ignore[no-any-return]  # what ``call`` gave, unchanged

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Note opening."""
        return enter_through(self, request, enter)

    def forget(self) -> None:
        """Start over."""
        self.requests.clear()
        self.bytes_read = 0

    @property
    def by_op(self) -> dict[str, int]:
        """How many requests of each kind there were."""
        return dict(Counter(request.op.value for request in self.requests))

    def puts(self, *kinds: str) -> list[str]:
        """Return the keys that were put below these first parts, in order; of all without any."""
        keys = [request.key for request in self.requests if request.op is Op.PUT]
        return [key for key in keys if not kinds or key.partition("/")[0] in kinds]


def metered(rig: Rig) -> Meter:
    """Note the requests of a rig's store from now on."""
    meter = Meter()
    rig.store = InterceptedStore(MemoryStore(rig.bucket), meter)
    return meter


def content_keys(rig: Rig) -> list[str]:
    """Return the keys of all stored content."""
    return [key for kind in CONTENT for key in rig.keys(f"{kind}/")]


class GraphWatch:
    """The requests that Graph has had.

    ``before`` is told of each with its number, the first being 1, before it is answered: it may
    change the mailbox, or end the run.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.before: Callable[[int, Call], None] = lambda _number, _call: None

    def to(self, *parts: str) -> list[str]:
        """Return the paths that hold all of these texts."""
        return [call.path for call in self.calls if all(part in call.path for part in parts)]


@contextmanager
def watching(emulator: Emulator) -> Iterator[GraphWatch]:
    """Watch, and meddle with, every request of Graph while the block lasts."""
    running = emulator._parts
    assert running is not None
    service = running.service
    serve = service.serving
    watch = GraphWatch()

    @asynccontextmanager
    async def serving(call: Call) -> AsyncIterator[Reply]:
        watch.calls.append(call)
        watch.before(len(watch.calls), call)
        async with serve(call) as reply:
            yield reply

    service.serving = serving  # type: ignore[method-assign]  # the seam that requests come through
    try:
        yield watch
    finally:
        del service.serving


@asynccontextmanager
async def steady(rig: Rig) -> AsyncIterator[None]:
    """Keep one engine open for all that a rig does: its key is derived once and not at each run."""
    async with rig.engine() as atlas:
        make = rig.vault
        sealers: list[Sealer] = []

        @asynccontextmanager
        async def engine() -> AsyncIterator[Atlas]:
            yield atlas

        def vault(mailbox: str = USER) -> Vault:
            if not sealers:
                sealers.append(make(mailbox).sealer)
            return Vault(rig.store, sealers[0], mailbox)

        rig.engine, rig.vault = engine, vault  # type: ignore[method-assign]  # for this rig alone
        try:
            yield
        finally:
            del rig.engine, rig.vault


def empty_bucket(rig: Rig) -> None:
    """Take everything but the key out of a rig's bucket: the next run is a first one."""
    objects = rig.bucket.objects
    for key in [key for key in objects if not key.startswith("_meta/")]:
        del objects[key]


@dataclass(slots=True)
class Figures:
    """What a long form prints: named figures in their order."""

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        """Add a figure; numbers are shown with separators."""
        self.rows.append((name, f"{value:,}" if isinstance(value, int) else str(value)))

    def __str__(self) -> str:
        width = max((len(name) for name, _ in self.rows), default=0)
        lines = [f"  {name:<{width}}  {value}" for name, value in self.rows]
        return "\n".join([self.title, *lines])


def say(text: str = "") -> None:
    """Write a line to standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_parts(parts: Mapping[str, Callable[[], Awaitable[Figures]]]) -> int:
    """Run the parts of a long form, print their figures, and return 0 when all of them held."""
    wrong = []
    for name, part in parts.items():
        try:
            figures = anyio.run(part)
        except AssertionError as error:
            wrong.append(name)
            say(f"WRONG, {name}: {error}\n")
        else:
            say(f"{figures}\n")
    say(f"did not hold: {', '.join(wrong)}" if wrong else "all of it held")
    return 1 if wrong else 0
