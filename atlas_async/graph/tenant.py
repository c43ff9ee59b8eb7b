"""One tenant of Microsoft 365: one token, one HTTP session, a lane for every mailbox."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from random import SystemRandom
from types import TracebackType
from typing import Self

import anyio

from atlas_async.clock import Clock
from atlas_async.config.settings import GraphSettings, Limits
from atlas_async.errors import ConfigError
from atlas_async.graph.auth import TokenSource
from atlas_async.graph.client import GraphClient
from atlas_async.graph.directory import Directory
from atlas_async.graph.lane import LaneBook, OnThrottle
from atlas_async.graph.links import GraphRoot, require_confidential
from atlas_async.graph.mailbox import GraphMailbox
from atlas_async.graph.persistence import Jitter
from atlas_async.graph.transport import open_session
from atlas_async.graph.writer import GraphWriter
from atlas_async.model.source import Principal

CLOSING_SECONDS = 5.0


class GraphTenant:
    """Reads a tenant. Use it as an async context manager; leaving it closes all connections.

    Args:
        settings: Authority, Graph root, credential, trust store.
        limits: What may be done at once, and how patiently.
        clock: Time and sleep.
        on_throttle: Told the mailbox (empty for the directory), the seconds and the scope of every
            wait that Graph asks for.
        jitter: Source of randomness for pauses, from 0 to 1; None for the system's.

    Raises:
        AuthError: Authority or Graph root are neither https nor plain http on the loopback.
    """

    def __init__(
        self,
        settings: GraphSettings,
        limits: Limits,
        *,
        clock: Clock,
        on_throttle: OnThrottle | None = None,
        jitter: Jitter | None = None,
    ) -> None:
        require_confidential(settings.authority_url, "authority")
        self._root = GraphRoot(settings.graph_url)
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._jitter = jitter
        self._lanes = LaneBook(limits, clock, on_throttle)
        self._tokens = TokenSource(
            settings,
            self._root.scope,
            clock,
            retries=limits.retries,
            jitter=jitter or SystemRandom().random,
        )

    async def __aenter__(self) -> Self:
        """Open the session; nothing is sent yet.

        Raises:
            ConfigError: The CA file cannot be used.
        """
        try:
            self._session = await open_session(self._settings, self._limits)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                [f"the CA file {self._settings.ca_file} cannot be used: {error.strerror}"],
                hint="Give a PEM file with the certificates of the authorities to trust.",
            ) from error
        self._client = GraphClient(
            self._session, self._tokens, self._root, self._limits, self._clock, self._jitter
        )
        self._directory = Directory(self._client, self._lanes.directory)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections, also when cancelled."""
        with anyio.move_on_after(CLOSING_SECONDS, shield=True):
            await self._session.close()
            await self._tokens.aclose()

    async def check(self) -> tuple[str, ...]:
        """Fetch a token and return the application permissions it carries.

        Permissions granted by Exchange's RBAC for Applications do not show.

        Raises:
            AuthError: Entra ID refused the credential; the hint says what to do.
            GraphTransient: Entra ID cannot be reached.
        """
        await self._tokens.token()
        return self._tokens.roles()

    def discover(self) -> AsyncIterator[Principal]:
        """Yield every user of the directory as a candidate; guests too, to be reported.

        Neither licences nor disabled accounts are a criterion. Whether there is a mailbox shows
        with its first request (``NoMailbox``).

        Raises:
            ConsentError: User.Read.All is missing.
            GraphError: See the subclasses.
        """
        return self._directory.users()

    async def principal(self, name: str) -> Principal:
        """Return the user with this object id, user principal name or mail address.

        Raises:
            UnknownUser: There is none.
            ConsentError: User.Read.All is missing.
            GraphError: See the other subclasses.
        """
        return await self._directory.find(name)

    def mailbox(self, principal: Principal) -> GraphMailbox:
        """Return the mailbox of ``principal``; opened twice, it still has one set of limits."""
        lane = self._lanes.mailbox(principal.user_id, principal.address)
        return GraphMailbox(self._client, lane, principal)

    def writer(self, principal: Principal) -> GraphWriter:
        """Return the mailbox of ``principal`` for writing; its limits are those of ``mailbox``."""
        lane = self._lanes.mailbox(principal.user_id, principal.address)
        return GraphWriter(self._client, lane, principal, self._clock)
