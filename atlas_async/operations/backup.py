"""Back up mailboxes of one tenant, several at once, each at its own risk (I4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import anyio

from atlas_async.catalog.layout import REPLICA_MARKER_KEY, check_mailbox_id
from atlas_async.errors import (
    AtlasError,
    ConsentError,
    GraphError,
    Interrupted,
    ReplicaRefused,
)
from atlas_async.model.events import Event, MailboxFinished, RunStarted
from atlas_async.model.report import MailboxResult, Outcome, RunReport
from atlas_async.model.source import Principal
from atlas_async.operations.hands import Hands, MailSource, OpenHands, OpenSource, unreachable
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.budget import Budgets
from atlas_async.pipeline.stop import StopSignal
from atlas_async.pipeline.surroundings import RunOptions, Surroundings

LOOKUPS_AT_ONCE: Final = 4
"""Names asked of the directory at once."""


class Backup:
    """One run over a tenant.

    Args:
        tenant: Where to.
        options: What to do in every mailbox.
        stop: Ends the run early and in order.
        emit: Takes events.
    """

    def __init__(
        self, tenant: Tenant, options: RunOptions, stop: StopSignal, emit: Callable[[Event], None]
    ) -> None:
        self._tenant = tenant
        self._options = options
        self._around = Surroundings(
            budgets=Budgets.of(tenant.settings.limits.byte_budget),
            clock=tenant.clock,
            stop=stop,
            emit=emit,
        )
        self._results: list[MailboxResult] = []

    async def run(
        self,
        open_source: OpenSource,
        open_hands: OpenHands,
        mailboxes: Sequence[str] | None,
        *,
        allow_replica: bool = False,
    ) -> RunReport:
        """Back up the named mailboxes, or all that the directory knows.

        Args:
            open_source: Where from.
            open_hands: Who does the mailboxes.
            mailboxes: Addresses or directory ids; None for all.
            allow_replica: Back up into a bucket that is marked as a replica.

        Raises:
            KeyMaterialError, StoreError, ReplicaRefused: Before anything is written.
            AuthError: Entra ID refuses the credential, or listing users is not permitted.
            UsageError: A name cannot be a mailbox address.
        """
        began = self._tenant.clock.monotonic()
        if await self._tenant.find_bucket() and not allow_replica:
            await self._refuse_replica()
        await self._tenant.open_existing()
        async with open_source() as source:
            principals = await self._principals(source, mailboxes)
            # Only now: a mistyped tenant must not leave a bucket and a key behind.
            await self._tenant.open_for_writing()
            self._around.emit(RunStarted(len(principals) + len(self._results)))
            named = mailboxes is not None
            async with open_hands(
                self._tenant, source, principals, self._options, self._around
            ) as hands:
                await self._hand_out(hands, principals, named=named)
        return RunReport(
            tenant_id=self._tenant.settings.tenant_id,
            mailboxes=tuple(sorted(self._results, key=lambda result: result.mailbox_id)),
            seconds=self._tenant.clock.monotonic() - began,
            interrupted=self._around.stop.requested,
        )

    async def _refuse_replica(self) -> None:
        if await self._tenant.store.head(REPLICA_MARKER_KEY) is not None:
            msg = "this bucket is a replica of another one"
            hint = "back up into the source bucket, or pass --allow-replica to detach this copy"
            raise ReplicaRefused(msg, hint=hint, where=self._tenant.store.name)

    async def _principals(
        self, source: MailSource, mailboxes: Sequence[str] | None
    ) -> list[Principal]:
        """Return whom to visit; names that the directory does not know become results."""
        if mailboxes is None:
            # A directory that changes while it is paged may show somebody twice.
            everybody = [principal async for principal in source.discover()]
            by_id = {principal.user_id: principal for principal in everybody}
            return list({principal.address: principal for principal in by_id.values()}.values())
        names = list(dict.fromkeys(address.strip().lower() for address in mailboxes))
        for name in names:
            check_mailbox_id(name)
        answers = await _look_up(source, names)
        found: dict[str, Principal] = {}
        for name in names:
            match answers[name]:
                case ConsentError():
                    # Without User.Read.All, Graph still takes a mailbox's address as its key.
                    found[name] = Principal(user_id=name, address=name)
                case GraphError() as error:
                    self._finish(unreachable(name, error))
                case Principal() as principal:
                    # What the caller calls the mailbox is what it is stored as.
                    found[principal.user_id] = replace(principal, address=name)
        return list(found.values())

    async def _hand_out(
        self, hands: Hands, principals: Sequence[Principal], *, named: bool
    ) -> None:
        """Do one mailbox after the other, so many at once; a stop request leaves out the rest."""
        limiter = anyio.CapacityLimiter(self._tenant.settings.limits.mailboxes)

        async def one(principal: Principal) -> None:
            try:
                result = await hands.back_up(principal)
            finally:
                limiter.release_on_behalf_of(principal)
            if result.outcome is Outcome.NO_MAILBOX:
                result = replace(result, exit_code=3 if named else 0)
            self._finish(result)

        async with anyio.create_task_group() as group:
            for principal in principals:
                await limiter.acquire_on_behalf_of(principal)
                if self._around.stop.requested:
                    limiter.release_on_behalf_of(principal)
                    self._finish(_not_begun(principal.address))
                else:
                    group.start_soon(one, principal)

    def _finish(self, result: MailboxResult) -> None:
        self._results.append(result)
        self._around.emit(MailboxFinished(result))


def _not_begun(mailbox_id: str) -> MailboxResult:
    """Return the result of a mailbox that a stop request kept from being begun."""
    return MailboxResult(
        mailbox_id=mailbox_id,
        outcome=Outcome.INTERRUPTED,
        error="not begun: the run was asked to stop",
        exit_code=Interrupted.exit_code,
    )


async def _look_up(
    source: MailSource, names: Sequence[str]
) -> dict[str, Principal | GraphError | ConsentError]:
    """Ask the directory for names, a few at once; return what each came to.

    Raises:
        AuthError: Entra ID refuses the credential.
    """
    answers: dict[str, Principal | GraphError | ConsentError] = {}
    failures: list[AtlasError] = []
    waiting = iter(names)

    async def work(scope: anyio.CancelScope) -> None:
        for name in waiting:
            try:
                answers[name] = await source.principal(name)
            except (GraphError, ConsentError) as error:
                answers[name] = error
            except AtlasError as error:
                failures.append(error)
                scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(min(len(names), LOOKUPS_AT_ONCE)):
            group.start_soon(work, group.cancel_scope)
    if failures:
        raise failures[0]
    return answers
