"""The one place where a tenant's mail source is put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from atlas_async.clock import Clock
from atlas_async.config.settings import GraphSettings, Limits
from atlas_async.graph.tenant import GraphTenant
from atlas_async.model.events import Event, MailboxThrottled


@asynccontextmanager
async def open_graph(
    settings: GraphSettings, limits: Limits, *, clock: Clock, emit: Callable[[Event], None]
) -> AsyncIterator[GraphTenant]:
    """Give a tenant's directory and mailboxes; closed on leaving. Nothing is asked yet.

    Args:
        settings: Where Entra ID and Graph are, and the credential.
        limits: What may be done at once, and how patiently.
        clock: Time and sleep.
        emit: Told of every wait that Graph asks for.

    Raises:
        AuthError: Authority or Graph root are neither https nor plain http on the loopback.
        ConfigError: The CA file cannot be used.
    """

    def throttled(mailbox: str, seconds: float, scope: str) -> None:
        emit(MailboxThrottled(mailbox, seconds, scope))

    async with GraphTenant(settings, limits, clock=clock, on_throttle=throttled) as tenant:
        yield tenant
