"""What a restore has done, durably: for continuing it, for comparing, and for taking it back.

Below ``catalog/{mailbox}/restores/{job}/`` there is the job itself and numbered parts with what was
done, each written once. What a killed restore did after its last part carries its mark in the
target, where the next run finds it. Folders carry none, so those that are absent are noted before
the first of them is made. One restore of a mailbox runs at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import anyio

from atlas_async.catalog.document import FORMAT
from atlas_async.catalog.layout import restores_prefix
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock, iso_millis
from atlas_async.errors import AtlasError, FormatError, SnapshotNotFound
from atlas_async.model.restoring import RestoreJob
from atlas_async.restore.job import document_of, job_key, read_job
from atlas_async.restore.marks import half_slot, slot_of_mark
from atlas_async.restore.progress import Announced, Made, Progress, Replaced
from atlas_async.store.base import list_all

FLUSH_SECONDS: Final = 5.0
FLUSH_ENTRIES: Final = 500
"""A part is written after so long, or with so many entries."""
FINISH_SECONDS: Final = 20.0
"""How long a restore that is cancelled may take to write what it has done."""
PART_KIND: Final = "restore-part"
PARTS_HELD: Final = 4
"""Parts in memory whose ids were asked for: rows come again in much the order they came in."""


def part_prefix(mailbox_id: str, job_id: str) -> str:
    """Return what the keys of a restore's parts start with."""
    return f"{restores_prefix(mailbox_id)}{job_id}/parts/"


class Journal:
    """The journal of one restore, open for writing.

    Args:
        vault: The mailbox that is restored from.
        job: The restore.
        clock: Time.
    """

    def __init__(self, vault: Vault, job: RestoreJob, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock
        self._entries: list[list[Any]] = []
        self._number = 0
        self._ids: OrderedDict[int, dict[int, str]] = OrderedDict()
        self._looking = anyio.Lock()
        self._flushing = anyio.Lock()
        self._full = anyio.Event()
        self.job = job
        self.progress = Progress()

    async def open(self) -> None:
        """Read what earlier runs of this restore did, and note that it is under way.

        Raises:
            IntegrityError: A part is damaged.
            LockedError: Another restore from this mailbox is under way.
            StoreError: The store failed, or refuses to be written to.
        """
        # The lease first: whoever held it until now may have written more.
        await self._vault.before_commit()
        await self.load()
        await self._write_job("open")

    async def load(self) -> None:
        """Read what earlier runs of this restore did.

        Raises:
            IntegrityError: A part is damaged.
            StoreError: The store failed.
        """
        try:
            before = await read_job(self._vault, self.job.job_id)
        except SnapshotNotFound:
            return
        self.job = replace(self.job, begun_at=before.begun_at)
        async for number, entries in read_parts(self._vault, self.job.job_id):
            self._number = number
            try:
                for place, entry in enumerate(entries):
                    self.progress.take(entry, number, place)
            except (TypeError, ValueError, IndexError, AttributeError) as error:
                msg = f"this part of a restore cannot be read: {type(error).__name__}"
                raise FormatError(
                    msg, where=_part_key(self._vault, self.job.job_id, number)
                ) from None

    def made(self, made: Made) -> None:
        """Note a message that was created."""
        self.progress.note(made)
        self._add(
            [
                "message",
                made.mark,
                made.target_id,
                made.folder_id,
                made.fingerprint,
                made.enclosed,
                made.complete,
            ]
        )

    async def announce(self, announced: Announced) -> None:
        """Note, durably, what is about to be created from MIME."""
        self.progress.announce(announced)
        told = announced
        self._add(["announced", told.mark, told.folder_id, told.message_id, list(told.before)])
        await self.flush()

    async def intend(self, paths: Iterable[tuple[str, ...]]) -> None:
        """Note, durably, folders that are absent and will be made: their names from the root."""
        fresh = [path for path in paths if path not in self.progress.absent]
        if not fresh:
            return
        self.progress.absent.update(fresh)
        self._add(["absent", [list(path) for path in fresh]])
        await self.flush()

    def made_folder(self, folder_id: str, path: tuple[str, ...]) -> None:
        """Note a folder that was created."""
        self.progress.folders[folder_id] = path
        self._add(["folder", folder_id, list(path)])

    def replaced(self, target_id: str, folder_id: str, *, mark: str) -> None:
        """Note a message that is moved away, for the one with ``mark``; written before it is."""
        self.progress.replaced[target_id] = Replaced(folder_id, mark)
        self._add(["replaced", target_id, folder_id, mark])

    def settle(self) -> None:
        """Note that a run ended in order: what was made until now is not compared again."""
        if self.progress.due:
            self.progress.settle()
            self._add(["settled"])

    async def target_id_of(self, mark: str) -> str:
        """Return the id of what was made with a mark; an empty string when nothing was.

        Raises:
            IntegrityError: The part that names it is damaged.
            StoreError: The store failed.
        """
        slot = slot_of_mark(mark)
        async with self._looking:
            found = await self._look_up(slot)
            if found and half_slot(found) == self.progress.half_slot_of(slot):
                return found
            await self.flush()
            return await self._look_up(slot)

    async def _look_up(self, slot: int) -> str:
        """Return the id that the newest part written names; an empty string where none does."""
        number = self.progress.part_of(slot)
        if number is None:
            return ""
        ids = self._ids.get(number)
        if ids is None:
            ids = self._ids[number] = await self._read_ids(number)
            while len(self._ids) > PARTS_HELD:
                self._ids.popitem(last=False)
        return ids.get(slot, "")

    async def _read_ids(self, number: int) -> dict[int, str]:
        entries = await _read_part(self._vault, self.job.job_id, number)
        return {
            slot_of_mark(values[0]): str(values[1])
            for kind, *values in entries
            if kind == "message"
        }

    async def keep(self) -> None:
        """Write parts as entries come; for ever."""
        while True:
            with anyio.move_on_after(FLUSH_SECONDS):
                await self._full.wait()
            await self.flush()

    async def flush(self) -> None:
        """Write what is not written yet."""
        async with self._flushing:
            if not self._entries:
                return
            entries, self._entries = self._entries, []
            full, self._full = self._full, anyio.Event()
            full.set()  # whoever waits for it waits for the new one from now on
            number = self._number + 1
            key = _part_key(self._vault, self.job.job_id, number)
            document = {
                "format": FORMAT,
                "kind": PART_KIND,
                "mailbox_id": self._vault.mailbox_id,
                "job_id": self.job.job_id,
                "entries": entries,
            }
            try:
                await self._vault.put_document(key, document)
            except BaseException:  # cancelled or failed, the entries are for the next part
                self._entries = entries + self._entries
                raise
            self._number = number
            for kind, *values in entries:
                if kind == "message":
                    self.progress.locate(values[0], number)

    async def finish(self, state: str) -> None:
        """Write everything, and the state of the restore."""
        await self.flush()
        await self._write_job(state)

    async def take_back(self) -> None:
        """Note that everything was taken back."""
        self._add(["undone"])
        self.progress.take(["undone"])
        await self.finish("undone")

    def _add(self, entry: list[Any]) -> None:
        self._entries.append(entry)
        if len(self._entries) >= FLUSH_ENTRIES:
            self._full.set()

    async def _write_job(self, state: str) -> None:
        self.job = replace(
            self.job,
            state=state,
            changed_at=iso_millis(self._clock.now()),
            created=self.progress.created,
        )
        await self._vault.put_document(
            job_key(self._vault.mailbox_id, self.job.job_id), document_of(self.job)
        )


@asynccontextmanager
async def kept_journal(journal: Journal) -> AsyncIterator[Journal]:
    """Open a journal, write it while the body runs, and once more when it ends, however it ends.

    A part that cannot be written cancels the body.

    Raises:
        IntegrityError, LockedError, StoreError: As ``Journal.open``, and what a write met.
    """
    await journal.open()
    failures: list[Exception] = []

    async def keep(scope: anyio.CancelScope) -> None:
        try:
            await journal.keep()
        except AtlasError as error:
            failures.append(error)
            scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(keep, group.cancel_scope)
        try:
            yield journal
        except Exception as error:  # noqa: BLE001 -- raised below, without the group around it
            failures.append(error)
        finally:
            group.cancel_scope.cancel()
            with anyio.move_on_after(FINISH_SECONDS, shield=True):
                await _flush_once_more(journal, failures)
    if failures:
        raise failures[0]


async def _flush_once_more(journal: Journal, failures: list[Exception]) -> None:
    try:
        await journal.flush()
    except AtlasError as error:
        failures.append(error)


async def read_parts(vault: Vault, job_id: str) -> AsyncIterator[tuple[int, list[list[Any]]]]:
    """Yield number and entries of a restore's parts, in order.

    Raises:
        FormatError: One belongs to another restore, or is no part.
        IntegrityError: One is damaged.
    """
    prefix = part_prefix(vault.mailbox_id, job_id)
    async for info in list_all(vault.store, prefix):
        try:
            number = int(info.key[len(prefix) :], 16)
        except ValueError:
            continue
        if info.key == _part_key(vault, job_id, number):
            yield number, await _read_part(vault, job_id, number)


async def _read_part(vault: Vault, job_id: str, number: int) -> list[list[Any]]:
    key = _part_key(vault, job_id, number)
    document = await vault.read_document(key, kind=PART_KIND)
    entries = document.get("entries")
    if document.get("job_id") != job_id or not isinstance(entries, list):
        raise FormatError("this is no part of the restore that it lies below", where=key)
    return entries


def _part_key(vault: Vault, job_id: str, number: int) -> str:
    return f"{part_prefix(vault.mailbox_id, job_id)}{number:08x}"
