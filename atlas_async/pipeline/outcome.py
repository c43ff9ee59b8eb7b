"""From errors to a mailbox's outcome and exit code."""

from __future__ import annotations

from collections.abc import Iterator

from atlas_async.catalog.vault import Vault
from atlas_async.errors import (
    AtlasError,
    AuthError,
    GraphThrottled,
    IntegrityError,
    Interrupted,
    LockedError,
    NoMailbox,
    StoreError,
)
from atlas_async.model.report import MailboxResult, Outcome
from atlas_async.pipeline.batch import Tally

MISSING_EXIT_CODE = 3


def leaves(group: BaseExceptionGroup[AtlasError]) -> Iterator[AtlasError]:
    """Yield the errors of a group, however deeply task groups have nested it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


def worst(errors: list[AtlasError]) -> AtlasError | None:
    """Return what to report of errors that arrived together; a failing store ends everything.

    Raises:
        StoreError, IntegrityError, LockedError: Nothing can be committed.
    """
    for error in errors:
        if isinstance(error, StoreError | IntegrityError | LockedError):
            raise error
    order = sorted(errors, key=lambda error: not isinstance(error, AuthError))
    return order[0] if order else None


def outcome_of(
    error: AtlasError | None, snapshot_id: str | None, *, interrupted: bool, missing: bool
) -> tuple[Outcome, int]:
    """Return how a mailbox ended and the exit code that goes with it."""
    if error is not None:
        stopped = isinstance(error, GraphThrottled)
        return (Outcome.STOPPED if stopped else Outcome.FAILED), error.exit_code
    if interrupted:
        return Outcome.INTERRUPTED, Interrupted.exit_code
    if missing:
        return Outcome.PARTIAL, MISSING_EXIT_CODE
    return (Outcome.UNCHANGED if snapshot_id is None else Outcome.COMPLETE), 0


def failed_result(vault: Vault, tally: Tally, error: AtlasError) -> MailboxResult:
    """Return the result of a mailbox for which nothing could be committed."""
    return MailboxResult(
        mailbox_id=vault.mailbox_id,
        outcome=failure_of(error),
        stored=tally.stored,
        deduplicated=tally.deduplicated,
        bytes_uploaded=vault.bytes_uploaded,
        error=str(error),
        hint=error.hint,
        exit_code=error.exit_code,
    )


def failure_of(error: AtlasError) -> Outcome:
    """Return the outcome of a mailbox for which nothing could be committed."""
    if isinstance(error, NoMailbox):
        return Outcome.NO_MAILBOX
    return Outcome.LOCKED if isinstance(error, LockedError) else Outcome.FAILED
