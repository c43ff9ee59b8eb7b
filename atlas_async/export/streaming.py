"""Writes an entry whose contents are too large for memory, as they are read."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from anyio import to_thread

from atlas_async.errors import IntegrityError
from atlas_async.export.container import Container
from atlas_async.export.entries import Entry
from atlas_async.export.forms import Written
from atlas_async.export.line_ends import AsItIs, Rewriter
from atlas_async.export.pieces import Carry, Streamed
from atlas_async.export.reading import Loss, MailReader
from atlas_async.export.transfer import Base64Stream, LineStream
from atlas_async.model.record import MessageRecord


class StreamBroken(Exception):
    """A content turned out damaged, or missing, while it was being written.

    Args:
        index: Which attachment, or ``entries.ORIGINAL``.
        loss: What became of it.
    """

    def __init__(self, index: int, loss: Loss) -> None:
        super().__init__()
        self.index = index
        self.loss = loss


async def stream_entry(
    container: Container, reader: MailReader, record: MessageRecord, entry: Entry
) -> Written | None:
    """Write an entry, and return where; None for one that is written once and is there.

    Only at a content's end it is known whether it is what was written. Whatever goes wrong, nothing
    of the entry stays.

    Raises:
        StreamBroken: A content cannot be had.
        StoreError, UsageError: The store failed, or the export cannot be written.
    """
    if await to_thread.run_sync(container.has, entry.target):
        return None
    rewriter = entry.rewriter()

    def write(data: bytes) -> None:
        container.write(rewriter.feed(data))

    def commit() -> Written:
        container.write(rewriter.finish())
        return container.commit()

    try:
        await to_thread.run_sync(container.begin, entry.target)
        for piece in entry.pieces:
            if isinstance(piece, bytes):
                await to_thread.run_sync(write, piece)
            else:
                await _stream_content(reader, record, piece, write)
        return await to_thread.run_sync(commit)
    except BaseException:  # cancelled too, an entry is whole or not there
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(container.rollback)
        raise


async def _stream_content(
    reader: MailReader, record: MessageRecord, piece: Streamed, write: Callable[[bytes], None]
) -> None:
    coder = _coder(piece.carry)

    def take(data: bytes) -> None:
        write(coder.feed(data))

    try:
        async with reader.open(record, piece.index) as content:
            async for data in content:
                await to_thread.run_sync(take, data)
    except IntegrityError as error:
        raise StreamBroken(piece.index, Loss.of(error)) from None
    await to_thread.run_sync(write, coder.finish())


def _coder(carry: Carry) -> Rewriter:
    """Return what makes of a content what stands in the message."""
    if carry is Carry.BASE64:
        return Base64Stream()
    return LineStream() if carry is Carry.LINES else AsItIs()
