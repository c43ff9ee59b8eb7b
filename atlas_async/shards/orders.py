"""What the parent of a run and its workers tell each other: frozen values, one way each."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_async.config.settings import Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.model.events import Event
from atlas_async.model.report import MailboxResult
from atlas_async.model.source import Principal
from atlas_async.pipeline.surroundings import RunOptions


@dataclass(frozen=True, slots=True)
class Job:
    """The first order: everything a worker has to know.

    ``settings`` hold this worker's share of the limits and no passphrase: ``sealer`` is the key,
    opened, which spares each worker the derivation (0.2 s of CPU, 64 MiB) and a secret.
    ``workers`` is how many there are. ``log_level`` is the parent's, for this program's records.
    """

    settings: Settings
    sealer: Sealer
    options: RunOptions
    workers: int
    log_level: int


@dataclass(frozen=True, slots=True)
class Take:
    """Back this mailbox up. ``ticket`` comes back with the result."""

    ticket: int
    principal: Principal


@dataclass(frozen=True, slots=True)
class Settle:
    """The run was asked to stop: settle what is in flight and commit."""


Order = Job | Take | Settle
"""What a parent sends. The end of the stream means: end at once, whatever is in flight."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker reached the store and takes mailboxes."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The worker cannot work; the texts are those of the error."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Logged:
    """A log record, formatted, with the traceback if it had one."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A mailbox reached its outcome."""

    ticket: int
    result: MailboxResult


News = Ready | Refused | Logged | Done | Event


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker sends: all its news since the last time, in order."""

    news: tuple[News, ...]
