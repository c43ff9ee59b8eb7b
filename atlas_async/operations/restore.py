"""Bring mail back from snapshots into Microsoft 365, and take such a restore back."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from typing import Final, Protocol

import anyio

from atlas_async.catalog.layout import LeasePlace
from atlas_async.catalog.vault import Vault
from atlas_async.clock import iso_millis
from atlas_async.errors import (
    AtlasError,
    IntegrityError,
    SnapshotNotFound,
    UsageError,
    discreet_traceback,
)
from atlas_async.model.events import Event, MailboxNotice
from atlas_async.model.restoring import RestoreJob, RestoreOptions, RestoreReport, UndoReport
from atlas_async.model.source import JsonObject, Principal
from atlas_async.operations.last_places import LastPlaces
from atlas_async.operations.selection import Selected, Selection, select
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.announced import note_announced
from atlas_async.restore.job import list_jobs, read_job
from atlas_async.restore.journal import Journal, kept_journal
from atlas_async.restore.marks import JOB_DIGITS, job_id_of
from atlas_async.restore.ports import TargetMailbox
from atlas_async.restore.run import Around, MailboxRestore
from atlas_async.restore.undo import Undo

logger = logging.getLogger("atlas_async.restore")
SHORTEST_JOB: Final = 4
LATEST: Final = "latest"
_LISTED: Final = "`atlas restore --jobs -m ADDRESS` lists them"
_WHOLE_ID: Final = re.compile(rf"[0-9a-f]{{{JOB_DIGITS}}}")


class RestoreTarget(Protocol):
    """A tenant whose mailboxes are written to."""

    async def principal(self, address_or_id: str) -> Principal:
        """Return a user. Raises ``GraphError`` when there is none."""
        ...

    def writer(self, principal: Principal) -> TargetMailbox:
        """Return somebody's mailbox, for writing."""
        ...


OpenTarget = Callable[[], AbstractAsyncContextManager[RestoreTarget]]


@dataclass(frozen=True, slots=True)
class RestoreWish:
    """What to restore into which mailbox.

    ``to`` is the target's address or directory id; an empty string for the mailbox that the mail
    was in.
    """

    selection: Selection
    to: str = ""


class Restore:
    """Restores mailboxes, several at once.

    Args:
        tenant: Where the backups are.
        target_tenant: Id of the tenant that is restored to.
        emit: Takes events.
        stop: Ends the restores early, in order.
        mailboxes: How many at once.
    """

    def __init__(
        self,
        tenant: Tenant,
        target_tenant: str,
        emit: Callable[[Event], None],
        stop: StopSignal,
        *,
        mailboxes: int,
    ) -> None:
        self._tenant = tenant
        self._target_tenant = target_tenant
        self._emit = emit
        self._stop = stop
        self._mailboxes = mailboxes

    async def run(
        self, open_target: OpenTarget, wishes: Sequence[RestoreWish], options: RestoreOptions
    ) -> list[RestoreReport]:
        """Restore every wish; what goes wrong with one is in its report.

        Raises:
            SnapshotNotFound, UsageError, IntegrityError: A selection means nothing, or what it
                means cannot be read. Nothing was written anywhere then.
            AuthError: Entra ID refuses the credential.
            StoreError, KeyMaterialError: The bucket cannot be opened.
        """
        chosen = [(wish, await select(self._tenant, wish.selection)) for wish in wishes]
        reports = [
            RestoreReport(selected.mailbox_id, wish.to or selected.mailbox_id)
            for wish, selected in chosen
        ]
        limiter = anyio.CapacityLimiter(self._mailboxes)
        # Two restores from one mailbox wait for each other: they have one lease.
        turns = {selected.mailbox_id: anyio.Lock() for _, selected in chosen}

        async def work(number: int) -> None:
            wish, selected = chosen[number]
            async with turns[selected.mailbox_id], limiter:
                await self._one(target, wish, selected, options, reports[number])

        async with open_target() as target, anyio.create_task_group() as group:
            for number in range(len(chosen)):
                group.start_soon(work, number)
        return reports

    async def _one(
        self,
        target: RestoreTarget,
        wish: RestoreWish,
        selected: Selected,
        options: RestoreOptions,
        report: RestoreReport,
    ) -> None:
        started = self._tenant.clock.monotonic()
        try:
            await self._restore(target, wish, selected, options, report)
        except AtlasError as error:
            report.error, report.hint = str(error), error.hint
            report.error_code = error.exit_code
        except Exception as error:  # noqa: BLE001 -- it costs this mailbox alone
            # Not as exception information: its text may quote mail (I7).
            told = discreet_traceback(error)
            logger.error("internal error restoring %s\n%s", report.mailbox_id, told)  # noqa: TRY400
            report.error = f"internal error: {type(error).__name__}"
            report.hint = "run again with --debug and report the traceback"
            report.error_code = 1
        report.seconds = self._tenant.clock.monotonic() - started

    async def _restore(
        self,
        target: RestoreTarget,
        wish: RestoreWish,
        selected: Selected,
        options: RestoreOptions,
        report: RestoreReport,
    ) -> None:
        principal = await target.principal(report.target_id)
        mailbox = target.writer(principal)
        report.target_id = principal.address
        report.snapshots = tuple(item.snapshot_id for item in selected.snapshots)
        report.notes = selected.notes
        named = wish.selection.messages
        # What was not stored has no content to be named by: it is not among what is named.
        report.not_stored = 0 if named else len(await selected.not_stored())
        report.options = options = rooted(options, selected)
        report.root = options.root
        around = Around(self._tenant.clock, self._emit, self._stop, len(named) if named else None)
        job = self._job(principal, wish, selected, options)
        report.job_id = job.job_id

        several = len(selected.views) > 1 and selected.exact
        chosen = LastPlaces(selected) if several else selected

        def run_of(journal: Journal) -> MailboxRestore:
            return MailboxRestore(
                chosen,
                mailbox,
                options,
                journal=journal,
                job_id=job.job_id,
                around=around,
                report=report,
            )

        if options.dry_run:
            told = Journal(selected.vault, job, self._tenant.clock)
            await told.load()
            await run_of(told).run()
            return
        async with _restoring(self._tenant, selected.mailbox_id, self._emit, self._stop) as vault:
            journal = Journal(vault, job, self._tenant.clock)
            async with kept_journal(journal):
                restore = run_of(journal)
                await restore.run()
                await restore.compare()
                await journal.finish("open" if report.interrupted else "done")

    def _job(
        self,
        principal: Principal,
        wish: RestoreWish,
        selected: Selected,
        options: RestoreOptions,
    ) -> RestoreJob:
        """Return the restore that this is: the same wish on the same snapshots is the same one."""
        named: JsonObject = {
            "mailbox": selected.mailbox_id,
            "snapshots": [item.snapshot_id for item in selected.snapshots],
            "target_tenant": self._target_tenant,
            "target_user": principal.user_id,
            "conflict": options.conflict.value,
            "root": options.root,
        }
        if options.in_place:
            # Below a root, parts of a snapshot belong together; in place, each is taken back alone.
            named |= {"root": "", "selection": _described(wish.selection)}
        job_id = job_id_of(named)
        return RestoreJob(
            job_id=job_id,
            mailbox_id=selected.mailbox_id,
            target_tenant=self._target_tenant,
            target_id=principal.address,
            target_user=principal.user_id,
            snapshots=tuple(item.snapshot_id for item in selected.snapshots),
            root="" if options.in_place else options.root,
            in_place=options.in_place,
            conflict=options.conflict,
            begun_at=iso_millis(self._tenant.clock.now()),
            state="open",
            changed_at=iso_millis(self._tenant.clock.now()),
        )


def rooted(options: RestoreOptions, selected: Selected) -> RestoreOptions:
    """Return the options with a name for the folder that everything goes below.

    It names the snapshot, not the moment, so that restoring once more goes on in the same folder.
    """
    if options.in_place:
        return replace(options, root="")
    if options.root:
        return options
    first, last = selected.snapshots[0].created_at, selected.snapshots[-1].created_at
    name = f"Restore-{last[:10]}-{last[11:19].replace(':', '')}"
    if len(selected.snapshots) > 1:
        name = f"Restore-{first[:10]}-to-{last[:10]}"
    return replace(options, root=name)


def _described(selection: Selection) -> JsonObject:
    """Return what tells two selections from one snapshot apart."""
    ids = "\n".join(sorted(selection.messages)).encode("utf-8", "surrogatepass")
    moments = (selection.received_from, selection.received_before)
    return {
        "folders": sorted(selection.folders),
        "subtree": selection.subtree,
        "received": [moment and iso_millis(moment.astimezone(UTC)) for moment in moments],
        "messages": hashlib.sha256(ids).hexdigest(),
    }


@asynccontextmanager
async def _restoring(
    tenant: Tenant, mailbox_id: str, emit: Callable[[Event], None], stop: StopSignal
) -> AsyncIterator[Vault]:
    """Give a mailbox's vault for one restore at a time.

    Raises:
        LockedError: Another restore from this mailbox is under way.
    """
    async with tenant.writing(
        mailbox_id,
        wait=tenant.settings.limits.lock_wait,
        notice=lambda text: emit(MailboxNotice(mailbox_id, text)),
        give_up=lambda: stop.requested,
        place=LeasePlace.RESTORE,
    ) as (vault, _):
        yield vault


async def restore_jobs(tenant: Tenant, mailbox: str) -> list[RestoreJob]:
    """Return the restores of a mailbox, oldest first; those that cannot be read are last.

    Raises:
        StoreError, KeyMaterialError: The bucket cannot be opened.
    """
    await tenant.open_for_reading()
    return await list_jobs(tenant.vault(mailbox.strip().lower())[0])


async def undo_restore(
    tenant: Tenant,
    open_target: OpenTarget,
    target_tenant: str,
    mailbox: str,
    job_id: str,
    *,
    emit: Callable[[Event], None],
    stop: StopSignal,
    dry_run: bool,
) -> UndoReport:
    """Take a restore back.

    Args:
        tenant: Where its journal is.
        open_target: Opens the tenant that it restored to.
        target_tenant: The id of that tenant.
        mailbox: The mailbox that it restored from.
        job_id: Its id, the beginning of it, or ``latest``.
        emit: Takes events.
        stop: Ends it early, in order; running again continues.
        dry_run: Say what would be removed.

    Raises:
        SnapshotNotFound: There is no such restore.
        UsageError: The beginning fits several, it was taken back already, or it restored to another
            tenant.
        IntegrityError: It cannot be read; or, of ``latest``, one that may be the latest.
        LockedError: A restore from this mailbox is under way.
        StoreError, KeyMaterialError, AuthError: As they come.
    """
    job = await _job_named(tenant, mailbox, job_id)
    if job.state == "undone":
        raise UsageError(
            f"the restore {_told(job)}, was taken back already",
            where=job.mailbox_id,
            hint="an older one is named by its id: `atlas restore --jobs -m ADDRESS` lists them",
        )
    if job.target_tenant and job.target_tenant.lower() != target_tenant.lower():
        raise UsageError(
            f"the restore {job.job_id} went to the tenant {job.target_tenant}, not {target_tenant}",
            where=job.mailbox_id,
            hint="name that tenant's settings with --target-config FILE, as for the restore",
        )
    if job_id.strip().lower() == LATEST:
        emit(MailboxNotice(job.mailbox_id, f"the latest restore is {_told(job)}"))
    report = UndoReport(
        job.job_id,
        job.mailbox_id,
        job.target_id,
        dry_run=dry_run,
        begun_at=job.begun_at,
        root=job.root,
        in_place=job.in_place,
    )
    async with (
        _restoring(tenant, job.mailbox_id, emit, stop) as vault,
        open_target() as target,
    ):
        writer = target.writer(await target.principal(job.target_user))
        if not dry_run:
            await vault.before_commit()  # takes the lease: what was done until now is read then
        journal = Journal(vault, job, tenant.clock)
        await journal.load()
        report.created = journal.progress.created
        undo = Undo(vault, writer, journal, emit=emit, stop=stop, report=report)
        try:
            if not dry_run:
                await note_announced(writer, journal)
            await undo.run()
        except AtlasError as error:
            report.error, report.hint = str(error), error.hint
            report.error_code = error.exit_code
    return report


async def _job_named(tenant: Tenant, mailbox: str, name: str) -> RestoreJob:
    await tenant.open_for_reading()
    vault = tenant.vault(mailbox.strip().lower())[0]
    wanted = name.strip().lower()
    if wanted == LATEST:
        return _latest(await list_jobs(vault), mailbox)
    if _WHOLE_ID.fullmatch(wanted):
        return await read_job(vault, wanted)
    if len(wanted) < SHORTEST_JOB:
        raise UsageError(f"a restore is named by at least {SHORTEST_JOB} characters of its id")
    found = [job for job in await list_jobs(vault) if job.job_id.startswith(wanted)]
    if not found:
        raise SnapshotNotFound(f"no restore {wanted!r}", where=mailbox, hint=_LISTED)
    if len(found) > 1:
        raise UsageError(f"{wanted!r} is the beginning of {len(found)} restores")
    (job,) = found
    return await read_job(vault, job.job_id) if job.problem else job


def _latest(jobs: Sequence[RestoreJob], mailbox: str) -> RestoreJob:
    """Return the restore that was run, or taken back, last.

    One that was taken back counts, so that asking twice never takes back an older one.
    """
    if not jobs:
        raise SnapshotNotFound("nothing was restored yet", where=mailbox, hint=_LISTED)
    for job in jobs:
        if job.problem:
            raise IntegrityError(
                f"which restore is the latest is not known, as {job.job_id} cannot be read: "
                f"{job.problem}",
                hint="name the one to take back by its id; `atlas restore --jobs` lists them",
            )
    # What is taken back takes its time: of one moment, another one was run after that.
    return max(jobs, key=lambda job: (job.changed_at, job.state != "undone", job.begun_at))


def _told(job: RestoreJob) -> str:
    """Return which restore it is, for somebody who knows what he restored but not its id."""
    where = "in place" if job.in_place else f"below {job.root!r}"
    told = f"{job.job_id}, begun {job.begun_at}, to {job.target_id}, {where}"
    if job.state == "undone":
        return told
    made = f"{job.created} messages" if job.created != 1 else "1 message"
    if job.state == "open":
        made = f"which failed or was stopped, {made} recorded"
    elif not job.created:
        made = "which created nothing"
    return f"{told}, {made}"
