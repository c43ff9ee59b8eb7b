"""Who does the mailboxes of a run: this process itself, or workers (``atlas_async.shards``)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from atlas_async.errors import (
    AtlasError,
    GraphNotFound,
    NoMailbox,
    UsageError,
    discreet_traceback,
)
from atlas_async.model.events import MailboxNotice
from atlas_async.model.report import MailboxResult, Outcome
from atlas_async.model.source import Principal
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.outcome import failure_of
from atlas_async.pipeline.ports import MailboxSource
from atlas_async.pipeline.run import MailboxBackup
from atlas_async.pipeline.surroundings import RunOptions, Surroundings

logger = logging.getLogger("atlas_async.backup")


class MailSource(Protocol):
    """A tenant's directory and mailboxes."""

    def discover(self) -> AsyncIterator[Principal]:
        """Yield everybody who may have a mailbox."""
        ...

    async def principal(self, address_or_id: str) -> Principal:
        """Return one of them. Raises ``GraphError`` when the directory has no such object."""
        ...

    def mailbox(self, principal: Principal) -> MailboxSource:
        """Return somebody's mailbox; whether there is one shows at the first request."""
        ...


OpenSource = Callable[[], AbstractAsyncContextManager[MailSource]]


class Hands(Protocol):
    """Backs up single mailboxes. May be asked for several at once."""

    async def back_up(self, principal: Principal) -> MailboxResult:
        """Back one mailbox up; what goes wrong is in the result (I4). May be cancelled."""
        ...


OpenHands = Callable[
    [Tenant, MailSource, Sequence[Principal], RunOptions, Surroundings],
    AbstractAsyncContextManager[Hands],
]
"""Called once the tenant is open for writing and the principals of the run are known."""


class OwnHands:
    """Does the mailboxes in this process.

    Args:
        tenant: Where to, opened.
        source: Where from.
        options: What to do in every mailbox.
        around: What the mailboxes share.
    """

    def __init__(
        self, tenant: Tenant, source: MailSource, options: RunOptions, around: Surroundings
    ) -> None:
        self._tenant = tenant
        self._source = source
        self._options = options
        self._around = around

    async def back_up(self, principal: Principal) -> MailboxResult:
        """Back one mailbox up; an error, or a defect of ours, costs this mailbox alone (I4)."""
        mailbox_id = principal.address

        def notice(text: str) -> None:
            self._around.emit(MailboxNotice(mailbox_id, text))

        try:
            async with self._tenant.writing(
                mailbox_id,
                wait=self._options.lock_wait,
                notice=notice,
                give_up=lambda: self._around.stop.requested,
            ) as (vault, counter):
                mailbox = self._source.mailbox(principal)
                result = await MailboxBackup(mailbox, vault, self._options, self._around).run()
        except AtlasError as error:
            return unreachable(mailbox_id, error)
        except Exception as error:  # noqa: BLE001 -- it costs this mailbox alone
            # Not as exception information: a handler of the embedding program would write out the
            # error's text, which may quote mail (I7).
            told = discreet_traceback(error)
            logger.error("internal error in mailbox %s\n%s", mailbox_id, told)  # noqa: TRY400
            return MailboxResult(
                mailbox_id=mailbox_id,
                outcome=Outcome.FAILED,
                error=f"internal error: {', '.join(sorted(set(_kinds(error))))}",
                hint="run again with --debug and report the traceback",
                exit_code=1,
            )
        return replace(result, store_requests=counter.requests)


def _kinds(error: BaseException) -> Iterator[str]:
    """Yield the names of an error's type, or of those that task groups have wrapped."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _kinds(inner)
    else:
        yield type(error).__name__


def unreachable(mailbox_id: str, error: AtlasError) -> MailboxResult:
    """Return the result of a mailbox that could not be begun, or whose end nobody saw."""
    absent = isinstance(error, GraphNotFound | NoMailbox)
    exit_code = 3 if absent or isinstance(error, UsageError) else error.exit_code
    return MailboxResult(
        mailbox_id=mailbox_id,
        outcome=Outcome.NO_MAILBOX if absent else failure_of(error),
        error=str(error),
        hint=error.hint,
        exit_code=exit_code,
    )


@asynccontextmanager
async def own_hands(
    tenant: Tenant,
    source: MailSource,
    principals: Sequence[Principal],  # noqa: ARG001 -- the shape of ``OpenHands``
    options: RunOptions,
    around: Surroundings,
) -> AsyncIterator[OwnHands]:
    """Give the hands of a run in one process."""
    yield OwnHands(tenant, source, options, around)
