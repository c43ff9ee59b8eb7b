"""The work of an export: messages are read side by side and written in order, one after another.

Small messages are read, made into MIME and compressed in parallel; what does not fit into memory
is streamed into its place when its turn comes. At a checkpoint everything written so far is
durable, and a later process continues there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from atlas_async.clock import Clock
from atlas_async.errors import AtlasError, IntegrityError, discreet_traceback
from atlas_async.export.container import Container, Packed
from atlas_async.export.entries import ORIGINAL, Entry, Material, Shape
from atlas_async.export.forms import Written
from atlas_async.export.layout import Layout
from atlas_async.export.manifest import Manifest, entry_line
from atlas_async.export.pieces import Streamed
from atlas_async.export.reading import Gathered, Loss, MailReader, is_small
from atlas_async.export.report import ExportFailure, Tally
from atlas_async.export.streaming import StreamBroken, stream_entry
from atlas_async.model.events import Event, ExportProgress
from atlas_async.model.record import MessageRecord
from atlas_async.pipeline.stop import StopSignal

logger = logging.getLogger("atlas_async.export")

READ_AT_ONCE: Final = 16
"""Small messages that are being read or wait to be written: at most so many times half a MiB."""
TELL_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """How much may have to be done again after a process was killed."""

    entries: int = 1_000
    size_bytes: int = 64 << 20
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Source:
    """One mailbox's messages.

    Args:
        mailbox_id: Whose.
        snapshot_id: As of when.
        records: Gives the rows, in the same order every time.
        names: Gives the names of a folder by its id.
        reader: Reads messages.
        shape: Makes entries of them.
        layout: Has a path for every folder.
    """

    mailbox_id: str
    snapshot_id: str
    records: Callable[[], AsyncGenerator[MessageRecord, None]]
    names: Callable[[str], Sequence[str]]
    reader: MailReader
    shape: Shape
    layout: Layout

    def folder_key(self, record: MessageRecord) -> str:
        """Return what the counts of a message's folder go by."""
        return f"{self.mailbox_id}\0{record['folder_id']}"


@dataclass(slots=True)
class _Slot:
    """A message on its way. ``packed`` is None where it must be streamed."""

    source: Source
    record: MessageRecord
    gathered: Gathered | None = None
    packed: list[tuple[Packed, bool]] | None = None
    error: AtlasError | None = None
    ready: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where an export goes.

    Args:
        container: Takes the entries.
        manifest: Gets a line for each message.
        tally: Counts; those of an earlier process included.
        save: Makes all of it durable, given the number of rows that are done. Blocking.
    """

    container: Container
    manifest: Manifest
    tally: Tally
    save: Callable[[int], None]


class ExportRun:
    """Writes messages into an outlet.

    Args:
        outlet: Where to.
        emit: Takes events.
        stop: Asks to end in order.
        clock: Time.
        checkpoints: How often everything is made durable.
        expected: Messages there are, as far as is known.
    """

    def __init__(
        self,
        outlet: Outlet,
        *,
        emit: Callable[[Event], None],
        stop: StopSignal,
        clock: Clock,
        checkpoints: Checkpoints,
        expected: int,
    ) -> None:
        self._container = outlet.container
        self._manifest = outlet.manifest
        self._tally = outlet.tally
        self._save = outlet.save
        self._emit = emit
        self._stop = stop
        self._clock = clock
        self._every = checkpoints
        self._expected = expected
        self._rows = 0
        self._marked = (0, 0, 0.0)
        self._told = 0

    async def run(self, sources: Sequence[Source], done: int) -> bool:
        """Write everything but the first ``done`` rows; return whether that was all.

        Raises:
            StoreError: The store failed, or no space is left for the export.
            UsageError: The export cannot be written.
        """
        self._rows = done
        self._note_mark()
        skip = done
        for source in sources:
            skip = await self._mailbox(source, skip)
            if self._stop.requested:
                break
        await to_thread.run_sync(self._save, self._rows)
        return not self._stop.requested

    async def _mailbox(self, source: Source, skip: int) -> int:
        """Write one mailbox's messages after the first ``skip``; return what is left to skip."""
        errors: list[AtlasError] = []
        async with anyio.create_task_group() as group:
            try:
                skip = await self._feed(source, skip, group)
            except AtlasError as error:
                errors.append(error)
                group.cancel_scope.cancel()
        if errors:
            await self._save_what_is_whole()
            raise errors[0]
        return skip

    async def _save_what_is_whole(self) -> None:
        """Keep what was written before an error, where that is still possible."""
        # The error that led here is the one to tell; otherwise the last checkpoint stays.
        with suppress(AtlasError):
            await to_thread.run_sync(self._save_whole)

    def _save_whole(self) -> None:
        self._container.rollback()
        self._save(self._rows)

    async def _feed(self, source: Source, skip: int, group: TaskGroup) -> int:
        window: deque[_Slot] = deque()
        try:
            async with aclosing(source.records()) as records:
                async for record in records:
                    if skip:
                        skip -= 1
                        continue
                    slot = _Slot(source, record)
                    if is_small(record):
                        group.start_soon(self._prepare, slot)
                    else:
                        slot.ready.set()
                    window.append(slot)
                    while len(window) >= READ_AT_ONCE:
                        await self._write_some(window)
                    if self._stop.requested:
                        break
        except IntegrityError as error:
            await self._drain(window)
            self._fail(source, "", "snapshot", source.snapshot_id, Loss.of(error))
            return skip
        await self._drain(window)
        self._tell(source, always=True)
        return skip

    async def _drain(self, window: deque[_Slot]) -> None:
        while window:
            await self._write_some(window)

    async def _prepare(self, slot: _Slot) -> None:
        """Read a message and make it ready to be written."""
        try:
            reader = slot.source.reader
            slot.gathered = await reader.gather(slot.record, whole=True, known={})
            if slot.gathered.material is not None:
                slot.packed = await to_thread.run_sync(
                    self._pack, slot.source, slot.gathered.material
                )
        except AtlasError as error:
            slot.error = error
        except Exception as error:  # noqa: BLE001 -- it costs this message alone
            slot.gathered = _unmade(slot.record, error)
        finally:
            slot.ready.set()

    def _pack(self, source: Source, material: Material) -> list[tuple[Packed, bool]] | None:
        """Return a message's entries packed, or None where one has contents to be streamed."""
        packed = []
        for entry in self._entries(source, material):
            rewriter = entry.rewriter()
            data: list[bytes] = []
            for piece in entry.pieces:
                if isinstance(piece, Streamed):
                    return None
                data.append(rewriter.feed(piece))
            data.append(rewriter.finish())
            packed.append((self._container.pack(entry.target, b"".join(data)), entry.is_message))
        return packed

    def _entries(self, source: Source, material: Material) -> list[Entry]:
        folder_id = material.record["folder_id"]
        names = source.names(folder_id)
        folder = source.layout.path(folder_id)
        if folder is None:
            folder = source.layout.stray(names)
        return source.shape.entries(material, folder, names)

    async def _write_some(self, window: deque[_Slot]) -> None:
        """Write the first message of the window, and what is ready behind it."""
        first = window[0]
        await first.ready.wait()
        batch: list[_Slot] = []
        while window and window[0].ready.is_set() and _is_whole(window[0]):
            batch.append(window.popleft())
        if batch:
            await to_thread.run_sync(self._write_batch, batch)
        else:
            window.popleft()
            if first.error is not None:
                raise first.error
            await self._write_streamed(first)
            self._rows += 1
        self._tell(first.source)
        await self._maybe_save()

    def _write_batch(self, batch: Sequence[_Slot]) -> None:
        for slot in batch:
            written: Written | None = None
            for packed, is_message in slot.packed or ():
                if not self._container.has(packed.target):
                    done = self._container.put(packed)
                    written = done if is_message else written
            self._note(slot, written)
            self._rows += 1

    async def _write_streamed(self, slot: _Slot) -> None:
        written = await self._streamed(slot)
        await to_thread.run_sync(self._note, slot, written)

    async def _streamed(self, slot: _Slot) -> Written | None:
        """Write a message with contents too large for memory; None where it cannot be had.

        Only at a content's end it is known whether it is what was written. One that is not takes
        the whole entry back, and the message is written again without it.
        """
        known: dict[int, Loss] = {}
        while True:
            slot.gathered = await slot.source.reader.gather(slot.record, whole=False, known=known)
            material = slot.gathered.material
            if material is None:
                return None
            try:
                entries = await to_thread.run_sync(self._entries, slot.source, material)
            except Exception as error:  # noqa: BLE001 -- it costs this message alone
                slot.gathered = _unmade(slot.record, error)
                return None
            try:
                return await self._stream_all(slot, entries)
            except StreamBroken as broken:
                known = {**slot.gathered.losses, broken.index: broken.loss}

    async def _stream_all(self, slot: _Slot, entries: Sequence[Entry]) -> Written | None:
        written: Written | None = None
        for entry in entries:
            done = await stream_entry(self._container, slot.source.reader, slot.record, entry)
            written = done if entry.is_message else written
        return written

    def _note(self, slot: _Slot, written: Written | None) -> None:
        """Count a message, note what it lacks, and give it its line in the manifest."""
        gathered = slot.gathered or Gathered()
        source, record, material = slot.source, slot.record, gathered.material
        lost = {i: e.lost for i, e in enumerate(material.enclosures) if e.lost} if material else {}
        error = ""
        if gathered.own is not None:
            error = gathered.own.reason
            self._fail(source, record["object_id"], "message", record["subject"], gathered.own)
        for index, loss in gathered.losses.items():
            kind = "original" if index == ORIGINAL else "attachment"
            name = record["subject"] if index == ORIGINAL else record["attachments"][index]["name"]
            error = error or (f"original: {loss.reason}" if index == ORIGINAL else "")
            self._fail(source, record["object_id"], kind, name, loss)
        if written is not None and material is not None:
            self._tally.count(source.folder_key(record), written.size)
            self._tally.attachments += len(material.enclosures) - len(lost)
            self._tally.originals += material.has_original
        self._manifest.add(
            entry_line(
                record,
                written,
                mailbox_id=source.mailbox_id,
                snapshot_id=source.snapshot_id,
                folder=source.names(record["folder_id"]),
                resource=material.resource if material else {},
                lost=lost,
                original=bool(material and material.has_original),
                error=error,
            )
        )

    def _fail(self, source: Source, object_id: str, kind: str, name: str, loss: Loss) -> None:
        self._tally.fail(
            ExportFailure(source.mailbox_id, object_id, kind, name, loss.reason, loss.is_missing)
        )

    def _tell(self, source: Source, *, always: bool = False) -> None:
        if not always and self._rows - self._told < TELL_EVERY:
            return
        self._told = self._rows
        self._emit(
            ExportProgress(
                source.mailbox_id,
                done=self._rows,
                expected=self._expected,
                bytes=self._tally.size_bytes,
                failed=self._tally.failed_count,
            )
        )

    async def _maybe_save(self) -> None:
        rows, size, moment = self._marked
        if (
            self._rows - rows >= self._every.entries
            or self._tally.size_bytes - size >= self._every.size_bytes
            or self._clock.monotonic() - moment >= self._every.seconds
        ):
            await to_thread.run_sync(self._save, self._rows)
            self._note_mark()

    def _note_mark(self) -> None:
        self._marked = (self._rows, self._tally.size_bytes, self._clock.monotonic())


def _unmade(record: MessageRecord, error: Exception) -> Gathered:
    """Return what is noted of a message that a defect of ours keeps from being written (I4)."""
    # Not as exception information: the error's text may quote mail (I7).
    told = discreet_traceback(error)
    logger.error("internal error with message %s\n%s", record["object_id"], told)
    reason = f"it could not be made into a file: internal error ({type(error).__name__})"
    return Gathered(own=Loss(reason, is_missing=False))


def _is_whole(slot: _Slot) -> bool:
    """Tell whether a message can be written in one go, or not at all."""
    if slot.error is not None or slot.gathered is None:
        return False
    return slot.packed is not None or slot.gathered.material is None
