"""The emulated tenant of a test: a real server on a thread of its own, changed by the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from atlas_async.clock import SystemClock
from atlas_async.emulator import Corpus, CorpusOptions, Emulator, FaultRule
from tests.fakes.rig import SMALL, USER

T = TypeVar("T")

LITTLE = replace(SMALL, messages=12, folders=3)
"""Twelve messages: enough for every kind, quick to read."""
PATIENCE = 60.0
"""Seconds after which a request that a test waits for is not coming any more."""


class Turnstile(SystemClock):
    """The emulator's clock: a request that is told to stall waits until the test lets it go on."""

    def __init__(self) -> None:
        self.arrived = Event()
        self.opened = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait for the test, however long that takes."""
        self.arrived.set()
        await self.opened.wait()

    def close(self) -> None:
        """Stop the next request that stalls."""
        self.arrived.clear()
        self.opened = anyio.Event()


class Office:
    """Entra ID and Microsoft Graph of one tenant. Every method may be called from the test.

    Args:
        portal: Leads to the thread of the server.
        emulator: The server.
        turnstile: Its clock.
    """

    def __init__(self, portal: BlockingPortal, emulator: Emulator, turnstile: Turnstile) -> None:
        self.emulator = emulator
        self._portal = portal
        self._turnstile = turnstile

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
        """Run ``call`` on the server's thread."""
        return self._portal.call(call)

    def mutate(self, **change: Any) -> dict[str, Any]:
        """Change the user's mailbox."""
        return self.do(lambda: self.emulator.control.mutate(USER, change))

    def fault(self, **rule: Any) -> None:
        """Put a fault rule in force."""
        self.do(lambda: self.emulator.control.add_fault(FaultRule(**rule)))

    def heal(self) -> None:
        """Drop all fault rules and let stalled requests go on."""
        self.do(self.emulator.control.clear_faults)
        self.do(self._turnstile.opened.set)

    def stall(self, path: str, *, after: int = 0) -> None:
        """Make requests to ``path`` wait at the turnstile, from the one after ``after``."""
        self.do(self._turnstile.close)
        self.fault(action="stall", path=path, after=after, count=-1, delay=1.0)

    def wait_for_stalled(self) -> None:
        """Return once a request waits at the turnstile."""
        assert self._turnstile.arrived.wait(PATIENCE)

    def requests(self) -> int:
        """Return how many requests Graph has had."""
        return self.do(lambda: self.emulator.log.requests)

    def tokens(self) -> list[str]:
        """Return the access tokens that are good now."""
        parts = self.emulator._parts
        assert parts is not None
        desk = parts.entra._desk
        return self.do(lambda: list(desk._grants))

    def message_ids(self) -> set[str]:
        """Return the ids of the messages that a backup of the user holds now."""
        truth = self.do(lambda: self.emulator.control.mailbox_truth(USER, content=False))
        folders = {f["id"] for f in truth["folders"] if f["belowRoot"] and not f["search"]}
        return {m["immutableId"] for m in truth["messages"] if m["folderId"] in folders}


@contextmanager
def open_office(options: CorpusOptions = LITTLE, *, tls: bool = False) -> Iterator[Office]:
    """Serve a tenant until the block ends."""
    with start_blocking_portal() as portal:
        turnstile = portal.call(Turnstile)
        emulator = Emulator(Corpus(options), clock=turnstile, tls=tls)
        with portal.wrap_async_context_manager(emulator):
            yield Office(portal, emulator, turnstile)
