"""Bringing an index up to date: the messages that it lacks are opened, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from atlas_async.catalog.content import read_message
from atlas_async.catalog.vault import Vault
from atlas_async.clock import Clock
from atlas_async.errors import AtlasError, IntegrityError
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import JsonObject
from atlas_async.search.draft import Draft
from atlas_async.search.index import SearchIndex
from atlas_async.search.mail import Fields

READERS: Final = 16
"""Messages read at once."""
LARGE_BYTES: Final = 1 << 20
"""Larger messages are read one at a time: parsed, each takes several times its size."""
MOST_BYTES: Final = 16 << 20
"""Larger messages are not indexed; every search that could mean them opens them."""
SAVE_SECONDS: Final = 60.0
"""At least so often what was indexed is saved, so that an end of any kind loses no more."""


def slot_of_content(record: MessageRecord) -> int:
    """Return the number by which an index knows a message's content."""
    return int(record["checksum"][:16], 16)


def terms_in(resource: JsonObject) -> frozenset[str] | None:
    """Return what an index holds of a message; None when it is too much."""
    return Fields.of(resource).terms()


class Indexing:
    """Adds to an index what it lacks.

    Args:
        vault: The mailbox's objects.
        index: What to add to.
        clock: Tells when to save.
        tell: Told how many messages were indexed so far.
        stopped: Tells whether to end early; what was indexed is saved then.
    """

    def __init__(
        self,
        vault: Vault,
        index: SearchIndex,
        *,
        clock: Clock,
        tell: Callable[[int], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._vault = vault
        self._index = index
        self._clock = clock
        self._tell = tell
        self._stopped = stopped
        self._draft = Draft()
        self._saved_at = clock.monotonic()
        self._adding = anyio.Lock()
        self._large = anyio.Lock()
        self._errors: list[AtlasError] = []
        self.indexed = 0

    async def run(self, records: AsyncIterator[MessageRecord]) -> None:
        """Index what is not indexed yet. Messages that cannot be read are left out.

        Raises:
            IntegrityError: The snapshot itself is damaged.
            StoreError: The store failed, or refuses to take the index.
        """
        send, receive = anyio.create_memory_object_stream[MessageRecord](READERS)
        async with anyio.create_task_group() as group:
            for _ in range(READERS):
                group.start_soon(self._read_all, receive.clone(), group.cancel_scope)
            receive.close()
            async with send:
                try:
                    async for record in records:
                        if self._stopped():
                            break
                        if slot_of_content(record) not in self._index:
                            await send.send(record)
                except AtlasError as error:
                    # Caught here, or it would leave in a group with the cancelled readers.
                    self._errors.append(error)
                    group.cancel_scope.cancel()
        if self._errors:
            raise self._errors[0]
        if len(self._draft):
            await self._save()

    async def _read_all(
        self, receive: MemoryObjectReceiveStream[MessageRecord], scope: anyio.CancelScope
    ) -> None:
        async with receive:
            async for record in receive:
                try:
                    await self._take(record)
                except IntegrityError:
                    continue  # the search itself meets it again, and says so
                except AtlasError as error:
                    self._errors.append(error)
                    scope.cancel()

    async def _take(self, record: MessageRecord) -> None:
        terms: frozenset[str] | None = None
        if record["size_bytes"] > LARGE_BYTES:
            if record["size_bytes"] <= MOST_BYTES:
                async with self._large:
                    terms = await self._terms(record)
        else:
            terms = await self._terms(record)
        async with self._adding:
            self._draft.add(slot_of_content(record), record["size_bytes"], terms)
            self.indexed += 1
            self._tell(self.indexed)
            overdue = self._clock.monotonic() - self._saved_at >= SAVE_SECONDS
            if self._draft.full or overdue:
                await self._save()

    async def _terms(self, record: MessageRecord) -> frozenset[str] | None:
        stored = await read_message(self._vault, record)
        return await to_thread.run_sync(terms_in, stored.resource)

    async def _save(self) -> None:
        draft, self._draft = self._draft, Draft()
        await self._index.add(draft)
        self._saved_at = self._clock.monotonic()
