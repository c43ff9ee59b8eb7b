"""Every error a caller can meet, drawn once.

::

    AtlasError                      1   base: message, hint, where
    |- UsageError                   2   the call itself is wrong
    |  `- ConfigError               2   settings missing or malformed, all listed at once
    |- AuthError                   13   Entra ID refused the credential, or a permission is missing
    |  `- ConsentError             13   an application permission is not granted
    |- KeyMaterialError            12   passphrase or wrapped key cannot be used
    |- GraphError                   1   Microsoft Graph answered with an error
    |  |- GraphItemError            1   permanent for this item alone
    |  |  `- GraphTooLarge          1   more than a request, attachment or message may have
    |  |- GraphConflict             1   409, 412: it is there already, or was changed meanwhile
    |  |- GraphNotFound             1   404: the item or folder is gone
    |  |- NoMailbox                 1   the principal has no mailbox Graph can read
    |  |- SyncStateGone             1   delta token expired: enumerate that folder again
    |  |- MailboxOverQuota          1   delta refused: list plainly instead
    |  |- GraphThrottled           14   429 outlasted the retries
    |  |- GraphTransient            1   5xx, timeouts and connection loss outlasted the retries
    |  `- GraphProtocolError        1   not JSON, a link to another host, a repeated link
    |- StoreError                   1   the object store answered with an error
    |  |- BucketNotFound           10
    |  |- ObjectNotFound           10
    |  |- ObjectExists              1   a conditional write lost
    |  |- StoreAuthError           13   wrong keys or no permission
    |  |- StoreTransient            1   may pass when tried again
    |  |- StoreFull                 1   no space left
    |  `- StoreMisconfigured        1   region, TLS, clock, endpoint
    |- SnapshotNotFound            10   no such mailbox, snapshot or message in the bucket
    |- LockedError                 11   another run holds the mailbox
    |- StoppedEarly                14   time budget or throttling; resumable
    |- ImmutabilityError           15   Object Lock was asked for and cannot be enforced
    |- IntegrityError              16   what was read is not what was written
    |  |- ForeignObject            16   authentic, but not what its name says
    |  |- PartMissing              16   a snapshot names an object that is not there
    |  `- FormatError              16   authentic, but not a document this version can read
    |     `- NewerFormat           16   a later version of this program wrote it
    |- WorkerLost                   1   a worker process ended before its work did
    |- ReplicaRefused               1   the bucket is a replica; backing up into it needs a flag
    `- Interrupted                130

Each carries the exit code the command line ends with. ``hint`` says what to do next; ``where``
names tenant, mailbox, folder or key. Neither ever holds a secret.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import ClassVar


class AtlasError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What happened, for a person.
        hint: What to do next, or an empty string.
        where: The tenant, mailbox, folder, message or key concerned, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        """Return message and place on one line, without the hint."""
        return f"{self.message} ({self.where})" if self.where else self.message


class UsageError(AtlasError):
    """The call contradicts itself or names something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """Settings are missing or malformed.

    Args:
        problems: One sentence per setting, all of them, in a stable order.
    """

    def __init__(self, problems: list[str], *, hint: str = "") -> None:
        super().__init__("; ".join(problems), hint=hint)
        self.problems = problems


class AuthError(AtlasError):
    """Entra ID refused the credential, or Graph refused the token for good."""

    exit_code = 13


class ConsentError(AuthError):
    """An application permission is missing; the hint names it and where to grant it."""


class KeyMaterialError(AtlasError):
    """The wrapped key cannot be unwrapped: wrong passphrase, damaged or hostile blob."""

    exit_code = 12


class GraphError(AtlasError):
    """Microsoft Graph answered with an error.

    Args:
        message: What happened.
        status: HTTP status, or 0 when no answer arrived.
        code: The innermost error code Graph gave, or an empty string.
        request_id: Graph's ``request-id`` header, for Microsoft support.
        hint: What to do next.
        where: Mailbox, folder or message concerned.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        request_id: str = "",
        hint: str = "",
        where: str = "",
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.status = status
        self.code = code
        self.request_id = request_id


class GraphItemError(GraphError):
    """This item cannot be read, now or later; its neighbours can."""


class GraphTooLarge(GraphItemError):
    """More bytes than Graph takes in a request, an attachment or a message."""


class GraphConflict(GraphError):
    """What was to be made is there already, or somebody changed it at the same moment."""


class GraphNotFound(GraphError):
    """The message, attachment or folder is gone (404 with an error code)."""


class UnknownUser(GraphNotFound):
    """The directory has no user of this name."""

    exit_code = 10


class NoMailbox(GraphError):
    """The principal has no mailbox that Graph can read: guest, unlicensed, on-premises."""


class SyncStateGone(GraphError):
    """The delta token is no longer honoured; that folder must be enumerated again."""


class MailboxOverQuota(GraphError):
    """The mailbox is over quota: delta is refused while plain listing works, and so are writes."""


class GraphThrottled(GraphError):
    """Graph kept answering 429 beyond the configured patience."""

    exit_code = 14


class GraphTransient(GraphError):
    """Server errors, timeouts or lost connections beyond the configured retries."""


class GraphProtocolError(GraphError):
    """The answer makes no sense: broken JSON, a repeated link, a link to another host."""


class StoreError(AtlasError):
    """The object store answered with an error."""


class BucketNotFound(StoreError):
    """The tenant's bucket (or directory) does not exist."""

    exit_code = 10


class ObjectTooLarge(StoreError):
    """An object is larger than what the caller is ready to hold in memory."""


class ObjectNotFound(StoreError):
    """No object has this key."""

    exit_code = 10


class ObjectExists(StoreError):
    """A write that required an absent key found one."""


class StoreAuthError(StoreError):
    """The store's credentials are wrong, or lack a permission that the hint names."""

    exit_code = 13


class StoreTransient(StoreError):
    """The store could not answer; the same request may succeed later.

    Args:
        message: What happened.
        retry_after: Seconds the store asked to be left alone, or 0.
        hint: What to do next.
        where: The key or bucket concerned.
    """

    def __init__(
        self, message: str, *, retry_after: float = 0.0, hint: str = "", where: str = ""
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.retry_after = retry_after


class StoreFull(StoreError):
    """No space is left on the device or in the quota."""


class StoreMisconfigured(StoreError):
    """Region, TLS, clock or endpoint of the store do not fit; the hint says which."""


class SnapshotNotFound(AtlasError):
    """The bucket holds no such mailbox, snapshot or message."""

    exit_code = 10


class LockedError(AtlasError):
    """Another run holds this mailbox."""

    exit_code = 11


class StoppedEarly(AtlasError):
    """The run ended before its work did and can be resumed."""

    exit_code = 14


class ImmutabilityError(AtlasError):
    """Object Lock was asked for and the store cannot enforce it."""

    exit_code = 15


class IntegrityError(AtlasError):
    """An object is not what was written: tag, hash, size or name disagree."""

    exit_code = 16


class ForeignObject(IntegrityError):
    """The object is authentic, but another one than its name says: it was put there."""


class PartMissing(IntegrityError):
    """A snapshot names an object that the bucket does not hold."""


class FormatError(IntegrityError):
    """The document is authentic but of a form or version this program does not know."""


class NewerFormat(FormatError):
    """A later version of this program wrote it; this one must neither read nor replace it."""


class WorkerLost(AtlasError):
    """A worker process ended before the mailboxes it was given were done."""


class ReplicaRefused(AtlasError):
    """The bucket is a replica: a backup into it would diverge from its source."""


class Interrupted(AtlasError):
    """The operator asked to stop; what was in flight is settled."""

    exit_code = 130


def discreet_traceback(error: BaseException) -> str:
    """Return a traceback without the texts of unknown errors, which may quote mail (I7).

    Ours and the system's have a text that is made of names; of all others the type must do.
    """
    import traceback  # noqa: PLC0415 -- needed when something is wrong already

    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        lines += [discreet_traceback(cause), "\n\nwhich led to\n\n"]
    lines += ["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)]
    text = f": {error}" if isinstance(error, AtlasError | OSError) else ""
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}{text}")
    if isinstance(error, BaseExceptionGroup):
        for number, inner in enumerate(error.exceptions, 1):
            lines.append(f"\n\nits part {number}:\n{discreet_traceback(inner)}")
    return "".join(lines)


class DiscreetFormatter(logging.Formatter):
    """Formats log records; see ``discreet_traceback``."""

    def formatException(  # noqa: N802 -- the standard library's
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        """Return the traceback of a record."""
        return "" if ei[1] is None else discreet_traceback(ei[1])
