"""An emulated tenant on a thread of its own that notes what it serves and acts at chosen requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar
from urllib.parse import unquote

import orjson
from anyio.from_thread import BlockingPortal, start_blocking_portal

from atlas_async.emulator import Corpus, CorpusOptions, Emulator
from atlas_async.emulator.calls import Call, Reply
from atlas_async.emulator.service import GraphService
from tests.torture.moments import Bodies, Moment, Print, Truths, moment_of_truth
from tests.torture.restless import Restless

T = TypeVar("T")

# Links of Graph name things in parentheses, requests of ours in segments of their own.
_MESSAGES: Final = re.compile(r"^/v1\.0/users(?:/|\(')([^/']+)(?:'\))?/(?:mailFolders.*/)?messages")
_PARTS: Final = re.compile(r"/messages(?:/|\(')([^/']+)(?:'\))?/(?:attachments|\$value)")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A whole message that was served. ``size`` is its bytes as JSON."""

    user: str
    object_id: str
    version: str
    size: int

    @property
    def name(self) -> tuple[str, str]:
        """Id and version."""
        return self.object_id, self.version


@dataclass(slots=True)
class Watch:
    """What is to happen, and what has happened, since a run began.

    ``arriving`` and ``answered`` hold what to do at the n-th request that comes in, and when the
    n-th answer is ready but not sent. ``attachments`` are messages, with bytes, of which attachments
    or the original were served.
    """

    arriving: dict[int, Callable[[], None]] = field(default_factory=dict)
    answered: dict[int, Callable[[], None]] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    attachments: list[tuple[str, int]] = field(default_factory=list)
    came: int = 0
    made: int = 0

    def comes(self) -> None:
        """Note a request."""
        self.came += 1
        self.arriving.pop(self.came, _nothing)()

    def goes(self, call: Call, reply: Reply) -> None:
        """Note an answer."""
        self._note(call, reply)
        self.made += 1
        self.answered.pop(self.made, _nothing)()

    def _note(self, call: Call, reply: Reply) -> None:
        path = unquote(call.path)
        of_messages = _MESSAGES.match(path)
        if reply.status != 200 or of_messages is None:
            return
        of_parts = _PARTS.search(path)
        if of_parts is not None:
            size = reply.length or len(reply.body)
            self.attachments.append((of_parts[1], size))
            return
        document = orjson.loads(reply.body)
        for item in document.get("value", [document]):
            if "body" in item:
                delivery = Delivery(
                    of_messages[1], item["id"], item["@odata.etag"], len(orjson.dumps(item))
                )
                self.deliveries.append(delivery)


def _nothing() -> None:
    """Do nothing."""


class _ObservedService(GraphService):
    """The service of an emulator, watched."""

    def __init__(self, inner: GraphService, owner: Tenant) -> None:
        super().__init__(inner._desk)
        self._owner = owner

    @asynccontextmanager
    async def serving(self, call: Call) -> AsyncIterator[Reply]:
        """Answer a call."""
        watch = self._owner.watch
        watch.comes()
        async with super().serving(call) as reply:
            watch.goes(call, reply)
            yield reply


class Tenant:
    """One emulated tenant, its history, and what it served. Methods may be called from outside.

    Args:
        portal: Leads to the emulator's thread.
        emulator: It.
        dice: Draws the changes.
        bodies: Learns which attachments have no bytes of their own.
    """

    def __init__(
        self, portal: BlockingPortal, emulator: Emulator, dice: Random, bodies: Bodies
    ) -> None:
        self._portal = portal
        self._bodies = bodies
        self.emulator = emulator
        self.watch = Watch()
        self.mailboxes = [
            f"user{number:04}@contoso.com" for number in range(emulator.corpus.options.mailboxes)
        ]
        self._truths = Truths(emulator.control)
        self._restless = Restless(emulator.control, self.mailboxes, dice)
        self.history: list[dict[str, Moment]] = []
        self.ever: dict[str, dict[str, set[Print]]] = {name: {} for name in self.mailboxes}
        self.do(self._remember)
        parts = emulator._running()
        parts.service = _ObservedService(parts.service, self)

    @property
    def changes(self) -> int:
        """How many changes were made so far."""
        return self._restless.changes

    @property
    def touched(self) -> set[str]:
        """Ids of messages changed since somebody cleared the set."""
        return self._restless.touched

    def settings(self) -> dict[str, str]:
        """Return the variables that lead to it."""
        tenant = self.emulator.tenant
        return {
            "ATLAS_TENANT_ID": str(tenant.id),
            "ATLAS_CLIENT_ID": tenant.client_id,
            "ATLAS_CLIENT_SECRET": tenant.client_secret,
            "ATLAS_AUTHORITY_URL": self.emulator.authority_url,
            "ATLAS_GRAPH_URL": self.emulator.graph_url,
        }

    def do(self, call: Callable[[], T]) -> T:
        """Run ``call`` on the emulator's thread."""
        return self._portal.call(call)

    def change(self, count: int) -> None:
        """Change mailboxes now."""
        self.do(lambda: self.change_here(count))

    def change_here(self, count: int) -> None:
        """Change mailboxes now; only on the emulator's thread."""
        self._restless.change(count)
        self._remember()

    def begin(self, watch: Watch) -> None:
        """Watch from now on, and begin a new window of history with this moment."""

        def begin() -> None:
            self.watch = watch
            self.history = self.history[-1:]

        self.do(begin)

    def window(self, mailbox: str) -> list[Moment]:
        """Return what a mailbox held at each moment since ``begin``."""
        return [moments[mailbox] for moments in self.history]

    def now(self, mailbox: str) -> Moment:
        """Return what a mailbox holds."""
        return self.history[-1][mailbox]

    def _remember(self) -> None:
        moments: dict[str, Moment] = {}
        for name in self.mailboxes:
            moment = moment_of_truth(self._truths.of(name), self._bodies)
            moments[name] = moment
            for object_id, seen in moment.messages.items():
                self.ever[name].setdefault(object_id, set()).add(seen)
        self.history.append(moments)


@contextmanager
def open_tenant(options: CorpusOptions, dice: Random, bodies: Bodies) -> Iterator[Tenant]:
    """Serve a tenant until the block ends."""
    with start_blocking_portal() as portal:
        emulator = Emulator(Corpus(options))
        with portal.wrap_async_context_manager(emulator):
            yield Tenant(portal, emulator, dice, bodies)
