"""Prove that backups can be restored: bring a sample back and compare it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Final

from anyio import to_thread

from atlas_async.catalog.content import open_attachment, open_original, read_message
from atlas_async.catalog.reader import MailboxReader
from atlas_async.clock import iso_millis
from atlas_async.crypto.signing import Signer
from atlas_async.errors import (
    AtlasError,
    GraphNotFound,
    IntegrityError,
    SnapshotNotFound,
    UsageError,
)
from atlas_async.model.drill import (
    LARGEST_SEED,
    DrillFailure,
    DrillOptions,
    DrillReport,
    MailboxDrill,
)
from atlas_async.model.events import DrillProgress, Event, RestoreProgress
from atlas_async.model.record import MessageRecord
from atlas_async.model.restoring import (
    Comparing,
    Conflict,
    RestoreJob,
    RestoreOptions,
    RestoreReport,
    Step,
)
from atlas_async.model.source import JsonObject
from atlas_async.operations.listing import LOST_NEWEST, known_mailboxes, unknown_mailbox
from atlas_async.operations.restore import (
    OpenTarget,
    Restore,
    RestoreWish,
    restore_jobs,
    undo_restore,
)
from atlas_async.operations.selection import Selected, Selection, select
from atlas_async.operations.tenant import Tenant
from atlas_async.pipeline.stop import StopSignal
from atlas_async.restore.fingerprint import fingerprint_of_letter
from atlas_async.restore.letter import letter_of

FORMAT: Final = 1
ROOT: Final = "Restore drill"
"""What the names of folders begin with that drills make."""
_ROOTS: Final = re.compile(rf"{ROOT} \d{{4}}-\d\d-\d\d \d{{6}}")
SEED_BITS: Final = 48
LACKS_CONTENT: Final = "the backup lacks its content"


class Drill:
    """One drill over some mailboxes.

    Args:
        tenant: Where the backups are.
        open_target: Opens the tenant whose mailbox is used, where one is.
        target_tenant: The id of that tenant.
        emit: Takes events.
        stop: Ends it early, in order.
        version: Of the program, for the report.
    """

    def __init__(
        self,
        tenant: Tenant,
        open_target: OpenTarget,
        target_tenant: str,
        emit: Callable[[Event], None],
        stop: StopSignal,
        *,
        version: str,
    ) -> None:
        self._tenant = tenant
        self._open_target = open_target
        self._target_tenant = target_tenant
        self._emit = emit
        self._stop = stop
        self._version = version

    async def run(self, mailboxes: Sequence[str] | None, options: DrillOptions) -> DrillReport:
        """Drill the newest snapshots of the named mailboxes, or of all.

        Raises:
            UsageError: No mailbox is named, or the options cannot be.
            SnapshotNotFound: The bucket has no such mailbox.
            StoreError, KeyMaterialError: The bucket cannot be opened.
        """
        _check(mailboxes, options)
        await self._tenant.open_for_reading()
        known = await known_mailboxes(self._tenant)
        if not known:
            msg = "the bucket has no snapshots to bring back"
            hint = "run `atlas backup` first"
            raise SnapshotNotFound(msg, where=self._tenant.store.name, hint=hint)
        wanted = known if mailboxes is None else [name.strip().lower() for name in mailboxes]
        for mailbox_id in wanted:
            if mailbox_id not in known:
                raise await unknown_mailbox(self._tenant, mailbox_id)
        seed = secrets.randbits(SEED_BITS) if options.seed is None else options.seed
        report = DrillReport(iso_millis(self._tenant.clock.now()), seed, options)
        for mailbox_id in dict.fromkeys(wanted):
            if self._stop.requested:
                report.interrupted = True
                break
            box = MailboxDrill(mailbox_id)
            report.mailboxes.append(box)
            started = self._tenant.clock.monotonic()
            try:
                await self._mailbox(box, options, seed)
            except AtlasError as error:
                box.error, box.hint, box.error_code = str(error), error.hint, error.exit_code
            box.seconds = self._tenant.clock.monotonic() - started
        report.interrupted = report.interrupted or self._stop.requested
        if not options.dry_run:
            report.signed = Signer(self._tenant.sealer).sign(
                drill_document(report, self._tenant.settings.tenant_id, self._version)
            )
        return report

    async def _mailbox(self, box: MailboxDrill, options: DrillOptions, seed: int) -> None:
        selected = await select(self._tenant, Selection(mailbox=box.mailbox_id))
        box.snapshot_id = selected.snapshot.snapshot_id
        box.snapshot_made_at = selected.snapshot.created_at
        lost = await MailboxReader(selected.vault).lost_newest()
        if lost is not None:
            box.fail(DrillFailure("", f"snapshot {lost}", LOST_NEWEST, damaged=True))
        sample = await self._sample(selected, box, options.sample, seed)
        box.sampled = len(sample)
        if options.dry_run:
            return
        with _noted(box, "", "ledger"):
            box.not_stored = len(await selected.not_stored())
        whole: list[MessageRecord] = []
        self._tell(box)
        for record in sample:
            if self._stop.requested:
                return
            if await self._into_memory(selected, record, box):
                whole.append(record)
            self._tell(box)
        if options.scratch and sample:
            # What failed already would fail once more for the same reason.
            await self._into_mailbox(whole, box, options.scratch)

    async def _sample(
        self, selected: Selected, box: MailboxDrill, wanted: int, seed: int
    ) -> list[MessageRecord]:
        """Return messages chosen evenly, whatever their number (algorithm R)."""
        dice = Random(f"{seed} {box.mailbox_id}")  # noqa: S311 -- a choice, not a secret
        chosen: list[MessageRecord] = []
        async for record in selected.messages():
            box.messages += 1
            if not wanted or len(chosen) < wanted:
                chosen.append(record)
                continue
            place = dice.randrange(box.messages)
            if place < wanted:
                chosen[place] = record
        return chosen

    async def _into_memory(
        self, selected: Selected, record: MessageRecord, box: MailboxDrill
    ) -> bool:
        """Read, open and check all of a message, and make of it what a restore would send.

        Every part of it is tried, whatever became of the others. Tells whether all came back.
        """
        vault, object_id = selected.vault, record["object_id"]
        failed = box.failed
        with _noted(box, object_id, "message"):
            stored = await read_message(vault, record)
            letter = letter_of(stored.resource, mark="")
            await to_thread.run_sync(fingerprint_of_letter, letter.body)
            box.bytes += len(stored.plaintext)
        for number, attachment in enumerate(record.get("attachments", ()), 1):
            what = f"attachment {number}"
            if not attachment["checksum"]:
                box.fail(DrillFailure(object_id, what, LACKS_CONTENT, damaged=False))
                continue
            with _noted(box, object_id, what):
                async with open_attachment(vault, attachment) as content:
                    async for piece in content:
                        box.bytes += len(piece)
                box.attachments += 1
        if "original" in record:
            with _noted(box, object_id, "original"):
                async with open_original(vault, record) as content:
                    async for piece in content:
                        box.bytes += len(piece)
        box.tried += 1
        came_back = box.failed == failed
        box.restored += came_back
        return came_back

    async def _into_mailbox(
        self,
        sample: Sequence[MessageRecord],
        box: MailboxDrill,
        scratch: str,
    ) -> None:
        """Restore the sample, read it back, remove it; and what a drill left that was killed."""
        for job in await restore_jobs(self._tenant, box.mailbox_id):
            if self._is_left(job):
                await self._remove(job.job_id, job.target_id, box)
        if not sample:
            return
        await self._find_scratch(scratch)
        told = self._telling(box.mailbox_id, len(sample), "restored into the scratch mailbox")
        restore = Restore(self._tenant, self._target_tenant, told, self._stop, mailboxes=1)
        moment = iso_millis(self._tenant.clock.now())
        options = RestoreOptions(
            root=f"{ROOT} {moment[:10]} {moment[11:19].replace(':', '')}",
            conflict=Conflict.COPY,
            comparing=Comparing.CONTENTS,
            empty_folders=False,
        )
        selection = Selection(
            mailbox=box.mailbox_id,
            snapshot=box.snapshot_id,
            messages=tuple(record["object_id"] for record in sample),
        )
        reports = await restore.run(self._open_target, [RestoreWish(selection, scratch)], options)
        report = reports[0]
        try:
            self._take(report, box)
        finally:
            if report.job_id:
                await self._remove(report.job_id, report.target_id, box)

    def _is_left(self, job: RestoreJob) -> bool:
        """Tell whether a drill has made this and was killed; a user's own restore is left alone."""
        return (
            job.state in {"open", "done"}
            and job.conflict is Conflict.COPY
            and _ROOTS.fullmatch(job.root) is not None
            and job.target_tenant == self._target_tenant
        )

    def _take(self, report: RestoreReport, box: MailboxDrill) -> None:
        if report.error:
            box.error, box.hint, box.error_code = report.error, report.hint, report.error_code
        for failure in report.failures:
            box.fail(
                DrillFailure(failure.object_id, failure.kind, failure.reason, failure.integrity)
            )
        if report.comparison is not None:
            box.read_back = report.comparison.compared
            box.different = (
                report.comparison.different
                + report.comparison.missing
                + report.comparison.duplicates
            )
        created = report.total(Step.CREATE)
        if created and report.seconds:
            box.estimated_seconds = report.seconds / created * box.messages

    async def _remove(self, job_id: str, target_id: str, box: MailboxDrill) -> None:
        undone = await undo_restore(
            self._tenant,
            self._open_target,
            self._target_tenant,
            box.mailbox_id,
            job_id,
            emit=self._telling(box.mailbox_id, 0, "removed from the scratch mailbox"),
            stop=StopSignal(),
            dry_run=False,
        )
        if undone.exit_code:
            reason = undone.error or f"{undone.failed} messages"
            box.fail(
                DrillFailure(
                    "",
                    f"what a drill made in {target_id}",
                    f"is left: {reason}",
                    damaged=False,
                )
            )

    async def _find_scratch(self, address: str) -> None:
        """Make sure that there is somebody of this address.

        Raises:
            SnapshotNotFound: There is not.
            GraphError, AuthError: As they come.
        """
        async with self._open_target() as target:
            try:
                await target.principal(address)
            except GraphNotFound as error:
                raise SnapshotNotFound(str(error), hint=error.hint) from None

    def _telling(self, mailbox_id: str, expected: int, doing: str) -> Callable[[Event], None]:
        """Return what tells of a restore, or of its undoing, as a part of this drill."""

        def tell(event: Event) -> None:
            if isinstance(event, RestoreProgress):
                self._emit(
                    DrillProgress(
                        mailbox_id,
                        event.done,
                        event.expected or expected,
                        event.bytes_sent,
                        event.failed,
                        doing,
                    )
                )
            else:
                self._emit(event)

        self._emit(DrillProgress(mailbox_id, 0, expected, 0, 0, doing))
        return tell

    def _tell(self, box: MailboxDrill) -> None:
        self._emit(DrillProgress(box.mailbox_id, box.restored, box.sampled, box.bytes, box.failed))


def _check(mailboxes: Sequence[str] | None, options: DrillOptions) -> None:
    """Refuse what would try nothing, and so pass."""
    if mailboxes is not None and not mailboxes:
        raise UsageError("no mailbox is named", hint="None means all")
    if options.sample < 0:
        raise UsageError("a sample has at least 1 message", hint="0 means all")
    if options.seed is not None and not 0 <= options.seed <= LARGEST_SEED:
        raise UsageError(f"a seed is a number from 0 to {LARGEST_SEED}")


@contextmanager
def _noted(box: MailboxDrill, object_id: str, what: str) -> Iterator[None]:
    """Note a part of a message that is damaged, and go on."""
    try:
        yield
    except IntegrityError as error:
        box.fail(DrillFailure(object_id, what, str(error), damaged=True))


def drill_document(report: DrillReport, tenant_id: str, version: str) -> JsonObject:
    """Return what a drill's report says, unsigned. Numbers are whole ones, for the signature."""
    return {
        "kind": "atlas_async restore drill",
        "format": FORMAT,
        "tenant_id": tenant_id,
        "made_at": report.made_at,
        "program": f"atlas_async {version}",
        "into": report.options.scratch or "memory",
        "sample": report.options.sample,
        "seed": report.seed,
        "interrupted": report.interrupted,
        "exit_code": report.exit_code,
        "passed": report.exit_code == 0,
        "mailboxes": [_mailbox_document(box) for box in report.mailboxes],
    }


def _mailbox_document(box: MailboxDrill) -> JsonObject:
    return {
        "mailbox_id": box.mailbox_id,
        "snapshot_id": box.snapshot_id,
        "snapshot_made_at": box.snapshot_made_at,
        "messages": box.messages,
        "not_stored": box.not_stored,
        "sampled": box.sampled,
        "tried": box.tried,
        "restored": box.restored,
        "attachments": box.attachments,
        "bytes": box.bytes,
        "read_back": box.read_back,
        "different": box.different,
        "milliseconds": round(box.seconds * 1_000),
        "estimated_seconds": round(box.estimated_seconds),
        "failed": box.failed,
        "damaged": box.damaged,
        "failures": [
            {
                "object_id": item.object_id,
                "what": item.what,
                "reason": item.reason,
                "damaged": item.damaged,
            }
            for item in box.failures
        ],
        "error": box.error,
        "exit_code": box.exit_code,
    }
