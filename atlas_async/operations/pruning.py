"""Remove what no snapshot names: the remains of runs that were killed, given up or overtaken.

Nothing that a snapshot or an open checkpoint names is ever touched, and nothing at all in a mailbox
of which a snapshot cannot be read whole. The mailbox's lease keeps runs out meanwhile. Programs
that know no leases must not run meanwhile: the age protects what they have stored and not named
yet, but not an older orphan that they find and name without storing it again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from atlas_async.catalog.head import hold_mailbox
from atlas_async.catalog.layout import (
    ATTACHMENTS_PREFIX,
    CATALOG_PREFIX,
    DATA_PREFIX,
    lease_key,
    restores_prefix,
)
from atlas_async.catalog.references import References
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock
from atlas_async.errors import AtlasError, IntegrityError, ObjectNotFound, StoreAuthError
from atlas_async.model.events import Event, PruneProgress
from atlas_async.operations.listing import unknown_mailbox
from atlas_async.operations.tenant import Tenant
from atlas_async.store.base import ObjectInfo, list_all

DAY_SECONDS: Final = 86_400.0
DELETES_AT_ONCE: Final = 32
REMOVALS_PER_LOOK: Final = 500
"""Before each so many removals the lease is looked at."""

PROGRESS_EVERY: Final = 1_000
SHOWN: Final = 1_000
"""Keys that a report lists; all are counted."""


@dataclass(slots=True)
class PrunedMailbox:
    """What was found in one mailbox. Sizes are bytes.

    ``unreferenced`` counts what no snapshot names, ``young`` those of it that are too young to be
    removed, ``kept`` those that the store refused to delete. ``removed`` and ``keys``, which lists
    the first of them, are what a dry run would remove. ``error`` says why nothing, or no more, was.
    """

    mailbox_id: str
    objects: int = 0
    unreferenced: int = 0
    unreferenced_bytes: int = 0
    young: int = 0
    removed: int = 0
    removed_bytes: int = 0
    kept: int = 0
    keys: list[str] = field(default_factory=list)
    error: str = ""
    hint: str = ""
    exit_code: int = 0

    @property
    def looked_at(self) -> bool:
        """Whether the counts say anything: False when an error came before the first object."""
        return self.objects > 0 or not self.error


@dataclass(slots=True)
class PruneReport:
    """What a pruning did."""

    dry_run: bool
    mailboxes: list[PrunedMailbox] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """A lone error's own code, 3 when some mailboxes or objects were left, else 0."""
        codes = {box.exit_code for box in self.mailboxes if box.exit_code}
        if len(codes) == 1 and all(box.exit_code for box in self.mailboxes):
            return codes.pop()
        left = any(box.kept for box in self.mailboxes)
        return 3 if codes or left else 0


async def prune(
    tenant: Tenant,
    emit: Callable[[Event], None],
    *,
    mailboxes: Sequence[str] | None = None,
    older_than: float = DAY_SECONDS,
    dry_run: bool = False,
    lock_wait: float = 0.0,
) -> PruneReport:
    """Remove objects that no snapshot names.

    Args:
        tenant: Where.
        emit: Takes events.
        mailboxes: Addresses; None for all that have any object.
        older_than: Seconds since an object was stored, by the store's own clock.
        dry_run: Count and list, remove nothing.
        lock_wait: Seconds to wait for a run that holds a mailbox.

    Raises:
        SnapshotNotFound: The bucket has no such mailbox.
        StoreError, KeyMaterialError: The bucket cannot be opened.
    """
    await tenant.open_for_reading()
    report = PruneReport(dry_run)
    known = await tenant.mailbox_ids_of_objects()
    wanted = known if mailboxes is None else [name.strip().lower() for name in mailboxes]
    for mailbox_id in dict.fromkeys(wanted):
        if mailbox_id not in known:
            raise await unknown_mailbox(tenant, mailbox_id)
    for mailbox_id in dict.fromkeys(wanted):
        box = PrunedMailbox(mailbox_id)
        report.mailboxes.append(box)
        try:
            async with tenant.writing(mailbox_id, wait=lock_wait) as (vault, _):
                await _Pruning(
                    vault,
                    box,
                    emit,
                    dry_run=dry_run,
                    older_than=older_than,
                    clock=tenant.clock,
                ).run()
        except AtlasError as error:
            _explain(box, error)
    return report


def _explain(box: PrunedMailbox, error: AtlasError) -> None:
    box.error, box.hint, box.exit_code = str(error), error.hint, error.exit_code
    if isinstance(error, IntegrityError | ObjectNotFound):
        box.error = f"nothing was removed, as a snapshot cannot be read whole: {error}"
        box.hint = "`atlas verify` lists what is wrong; restore it from a copy first"
        box.exit_code = IntegrityError.exit_code


class _Pruning:
    """One mailbox, whose lease is taken unless nothing is to be removed."""

    def __init__(
        self,
        vault: Vault,
        box: PrunedMailbox,
        emit: Callable[[Event], None],
        *,
        dry_run: bool,
        older_than: float,
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._box = box
        self._emit = emit
        self._dry_run = dry_run
        self._older_than = older_than
        self._clock = clock
        self._begun = 0
        self._looking = anyio.Lock()

    async def run(self) -> None:
        now = self._clock.now() if self._dry_run else await self._lock()
        references = References(self._vault)
        await references.collect()
        send, receive = anyio.create_memory_object_stream[ObjectInfo](DELETES_AT_ONCE)
        errors: list[AtlasError] = []
        async with anyio.create_task_group() as group:
            for _ in range(DELETES_AT_ONCE):
                group.start_soon(self._remove_all, receive.clone(), errors, group.cancel_scope)
            receive.close()
            async with send:
                async for info in self._unreferenced(references):
                    if self._is_young(info, now):
                        self._box.young += 1
                    else:
                        await send.send(info)
        self._tell()
        if errors:
            raise errors[0]

    async def _lock(self) -> datetime:
        """Take the lease; return its moment by the store's clock, which dates objects too."""
        lease = self._vault.lease
        if lease is None:
            return self._clock.now()
        await hold_mailbox(self._vault)
        info = await self._vault.store.head(lease_key(self._vault.mailbox_id, lease.number))
        return info.last_modified if info and info.last_modified else self._clock.now()

    async def _unreferenced(self, references: References) -> AsyncIterator[ObjectInfo]:
        mailbox_id = self._vault.mailbox_id
        restores = restores_prefix(mailbox_id)
        for prefix in (DATA_PREFIX, ATTACHMENTS_PREFIX, CATALOG_PREFIX):
            async for info in list_all(self._vault.store, f"{prefix}{mailbox_id}/"):
                self._box.objects += 1
                if self._box.objects % PROGRESS_EVERY == 0:
                    self._tell()
                if info.key.startswith(restores):
                    continue  # what was restored is needed to go on with it and to take it back
                if info.key not in references and not self._is_own(info.key):
                    self._box.unreferenced += 1
                    self._box.unreferenced_bytes += info.size
                    yield info

    def _is_own(self, key: str) -> bool:
        """Tell whether it is the lease of this pruning, whose number may grow meanwhile."""
        lease = self._vault.lease
        if lease is None or not lease.held:
            return False
        return key == lease_key(self._vault.mailbox_id, lease.number)

    def _is_young(self, info: ObjectInfo, now: datetime) -> bool:
        """Tell whether somebody may still be about to name it; one without a date may be."""
        if self._older_than <= 0:
            return False
        age = None if info.last_modified is None else now - info.last_modified
        return age is None or age.total_seconds() < self._older_than

    async def _remove_all(
        self,
        receive: MemoryObjectReceiveStream[ObjectInfo],
        errors: list[AtlasError],
        scope: anyio.CancelScope,
    ) -> None:
        async with receive:
            async for info in receive:
                try:
                    await self._remove(info)
                except AtlasError as error:
                    errors.append(error)
                    scope.cancel()

    async def _remove(self, info: ObjectInfo) -> None:
        box = self._box
        if not self._dry_run:
            await self._before_removal()
            try:
                await self._vault.store.delete(info.key)
            except StoreAuthError:
                box.kept += 1  # under Object Lock, or not ours to delete
                return
        box.removed += 1
        box.removed_bytes += info.size
        if len(box.keys) < SHOWN:
            box.keys.append(info.key)

    async def _before_removal(self) -> None:
        """Look at the lease where it is time to; nobody removes anything more meanwhile.

        Counted are removals that begin: what others have finished may pass any number unseen.
        """
        async with self._looking:
            if self._begun % REMOVALS_PER_LOOK == 0:
                await self._vault.before_commit()
            self._begun += 1

    def _tell(self) -> None:
        box = self._box
        self._emit(
            PruneProgress(
                box.mailbox_id,
                objects=box.objects,
                unreferenced=box.unreferenced,
                removed=0 if self._dry_run else box.removed,
            )
        )
