"""Stage 1: page through folders and hand the pages on, within the byte budget.

A folder is read by delta. When its token is refused it is enumerated anew; when delta itself does
not work for it (over-quota mailbox, a page that fails at size 1, links that repeat) it is listed
plainly; when a listing page fails too, its messages are fetched one by one, so that what is broken
costs itself only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

from atlas_async.catalog.snapshot import FolderCursor
from atlas_async.clock import Clock, iso_millis
from atlas_async.errors import (
    GraphError,
    GraphNotFound,
    GraphProtocolError,
    GraphThrottled,
    GraphTransient,
    MailboxOverQuota,
    NoMailbox,
    SyncStateGone,
)
from atlas_async.model.source import EnumerationMode, Folder, JsonObject, MessagePage
from atlas_async.pipeline.batch import PageBatch
from atlas_async.pipeline.budget import ByteBudget, Lease
from atlas_async.pipeline.page_lease import PAGE_LEASE, PARSED_FACTOR, Expectation, PageLease
from atlas_async.pipeline.ports import MailboxSource

RESTARTS: Final = 2
"""How often one run starts a folder's delta anew before it lists the folder plainly."""

Send = Callable[[PageBatch], Awaitable[None]]


class Producer:
    """Reads folders of one mailbox, several at once.

    Args:
        source: The mailbox.
        pages: Byte budget for pages.
        expectation: Learns how large pages are, over all mailboxes.
        page_size: Messages asked for per page.
        clock: For the age of links.
        notice: Tells a person what was done differently.
    """

    def __init__(
        self,
        source: MailboxSource,
        pages: ByteBudget,
        *,
        expectation: Expectation,
        page_size: int,
        clock: Clock,
        notice: Callable[[str], None],
    ) -> None:
        self._source = source
        self._pages = pages
        self._expectation = expectation
        self._page_size = page_size
        self._clock = clock
        self._notice = notice
        self._sequence = count(1)
        self._numbers: defaultdict[str, count[int]] = defaultdict(count)
        self._leases: set[Lease] = set()
        self.vanished: set[str] = set()
        self.linked_at: dict[str, float] = {}
        """When each folder's newest cursor was made, by the monotonic clock."""

    def release(self, lease: Lease | None) -> None:
        """Give back the bytes of a page that is settled."""
        if lease is not None:
            self._leases.discard(lease)
            self._pages.close_lease(lease)

    def release_all(self) -> None:
        """Give back the bytes of pages that nobody will settle any more."""
        for lease in list(self._leases):
            self.release(lease)

    def next_sequence(self) -> int:
        """Return the next number in the order in which things were fetched."""
        return next(self._sequence)

    async def produce(
        self, folder: Folder, cursor: FolderCursor, send: Send, *, full: bool, recorded: int
    ) -> None:
        """Send all pages of one folder's round.

        Args:
            folder: Which.
            cursor: Where it continues.
            send: Takes a page; waits while the next stage is busy.
            full: Start anew whatever the cursor says.
            recorded: Messages the state has in this folder, for the stale-delta safeguard.

        Raises:
            GraphError: The folder cannot be read at all, or (``GraphThrottled``, ``NoMailbox``)
                the mailbox cannot.
        """
        reading = _Reading(folder, cursor, send, full=full)
        while True:
            try:
                if reading.by_id:
                    await self._send_by_id(reading)
                else:
                    await self._send_round(reading)
            except GraphNotFound as error:
                if not self._drop_link(reading, error):
                    self.vanished.add(folder.id)
                    return
            except SyncStateGone:
                reading.restarts += 1
                if reading.restarts > RESTARTS:
                    self._list_plainly(reading, "its delta is refused again and again")
                else:
                    self._notice(f"{_name(folder)}: delta token expired; enumerating it anew")
                    reading.restart(EnumerationMode.DELTA)
            except MailboxOverQuota:
                self._list_plainly(reading, "the mailbox is over its quota")
            except GraphError as error:
                self._recover(reading, error)
            else:
                if not reading.looks_stale(recorded):
                    return
                self._notice(f"{_name(folder)}: its delta was empty but it holds mail; reading it")
                reading.restart(EnumerationMode.DELTA)

    def _list_plainly(self, reading: _Reading, why: str) -> None:
        if reading.mode is EnumerationMode.LISTING:
            msg = f"the folder can be read neither by delta nor by listing: {why}"
            raise GraphTransient(msg, where=_name(reading.folder))
        self._notice(f"{_name(reading.folder)}: listed plainly because {why}")
        reading.restart(EnumerationMode.LISTING)

    def _recover(self, reading: _Reading, error: GraphError) -> None:
        """Choose the next way to read the folder; raise what concerns the whole mailbox."""
        if isinstance(error, GraphThrottled):
            raise error
        doubtful = isinstance(error, NoMailbox | GraphProtocolError) or type(error) is GraphError
        if doubtful and self._drop_link(reading, error):
            return
        if isinstance(error, NoMailbox):
            raise error
        self._fall_back(reading, error)

    def _drop_link(self, reading: _Reading, error: GraphError) -> bool:
        """Start anew where the link of an earlier run may be what is wrong; tell whether it may."""
        if reading.link is None or reading.link != reading.stored_link:
            return False
        name = _name(reading.folder)
        self._notice(f"{name}: its stored link fails, so it is read anew: {error.message}")
        reading.stored_link = None
        reading.restart(EnumerationMode.DELTA)
        return True

    def _fall_back(self, reading: _Reading, error: GraphError) -> None:
        if reading.by_id:
            raise error
        if reading.mode is EnumerationMode.DELTA:
            self._list_plainly(reading, f"its delta fails: {error.message}")
            return
        self._notice(f"{_name(reading.folder)}: read message by message, listing fails too")
        reading.restart(EnumerationMode.LISTING)
        reading.by_id = True

    async def _send_round(self, reading: _Reading) -> None:
        """Send pages until the round ends."""
        while await self._send_page(reading):
            pass

    async def _send_page(self, reading: _Reading) -> bool:
        """Send one page; tell whether more follow. Nothing of it is kept while the next is read."""
        lease = await self._pages.open_lease(self._expected(reading))
        self._leases.add(lease)
        try:
            page = await self._source.message_page(
                reading.folder.id,
                mode=reading.mode,
                link=reading.link,
                page_size=self._page_size,
                lease=PageLease(lease),
            )
            lease.shrink_to(max(PAGE_LEASE, page.size_bytes * PARSED_FACTOR))
            self._expectation.learn(len(page.items), page.size_bytes)
            batch = self._batch(reading, page, lease)
            await reading.send(batch)
        except BaseException:
            self.release(lease)
            raise
        return batch.cursor.round_open

    def _expected(self, reading: _Reading) -> int:
        """Return the bytes to hold before the next page is asked for."""
        if not reading.full:
            return PAGE_LEASE  # how many changes a round since the last one brings is not known
        left = max(0, reading.folder.total_items - reading.items)
        return self._expectation.bytes_for(min(left, self._page_size))

    def _batch(self, reading: _Reading, page: MessagePage, lease: Lease) -> PageBatch:
        now = iso_millis(self._clock.now())
        self.linked_at[reading.folder.id] = self._clock.monotonic()
        if page.next_link is not None:
            cursor = FolderCursor(
                page.next_link, reading.mode, round_open=True, full=reading.full, made_at=now
            )
        elif reading.mode is EnumerationMode.LISTING:
            cursor = FolderCursor(None, reading.mode, made_at=now)
        else:
            # Without a delta link at the end the link the round began with still holds.
            link = page.delta_link or reading.round_began
            cursor = FolderCursor(link, made_at=now, settled_total=reading.folder.total_items)
        reading.items += len(page.items) + len(page.removed)
        reading.link = page.next_link
        return self._numbered(reading, page.items, page.removed, cursor, lease)

    async def _send_by_id(self, reading: _Reading) -> None:
        """Send stubs for which the next stage fetches the messages, one by one.

        Such an enumeration cannot be continued in the middle, so the cursor moves at its end.
        """
        made_at = iso_millis(self._clock.now())
        open_cursor = FolderCursor(None, EnumerationMode.LISTING, full=True, made_at=made_at)
        async for ids in self._source.message_ids(reading.folder.id):
            stubs: tuple[JsonObject, ...] = tuple({"id": object_id} for object_id in ids)
            await reading.send(self._numbered(reading, stubs, (), open_cursor, None))
        end = FolderCursor(None, EnumerationMode.LISTING, made_at=made_at)
        await reading.send(self._numbered(reading, (), (), end, None))

    def _numbered(
        self,
        reading: _Reading,
        items: tuple[JsonObject, ...],
        removed: tuple[str, ...],
        cursor: FolderCursor,
        lease: Lease | None,
    ) -> PageBatch:
        batch = PageBatch(
            folder=reading.folder,
            number=next(self._numbers[reading.folder.id]),
            sequence=self.next_sequence(),
            items=items,
            removed=removed,
            cursor=cursor,
            restart=reading.fresh,
            lease=lease,
        )
        reading.fresh = False
        return batch


class _Reading:
    """How one folder is being read in this run."""

    def __init__(self, folder: Folder, cursor: FolderCursor, send: Send, *, full: bool) -> None:
        anew = full or cursor.link is None
        self.folder = folder
        self.send = send
        self.mode = EnumerationMode.DELTA if anew or not cursor.round_open else cursor.mode
        self.link = None if anew else cursor.link
        self.stored_link = self.link
        self.round_began = None if anew or cursor.round_open else cursor.link
        self.full = anew or cursor.full
        self.fresh = anew
        self.by_id = False
        self.restarts = 0
        self.items = 0
        self._checked_total = cursor.settled_total

    def restart(self, mode: EnumerationMode) -> None:
        """Enumerate from the start."""
        self.mode = mode
        self.link = None
        self.round_began = None
        self.full = True
        self.fresh = True
        self.items = 0

    def looks_stale(self, recorded: int) -> bool:
        """Tell whether an empty delta hides mail: nothing recorded, nothing came, mail is there.

        Graph counts items of every kind, so a folder that once proved to hold no messages is not
        suspected again while its count stays.
        """
        return (
            not self.full
            and not self.items
            and not recorded
            and self.folder.total_items > 0
            and self._checked_total != self.folder.total_items
        )


def _name(folder: Folder) -> str:
    return "/".join(folder.path) or folder.well_known_name or folder.name or folder.id
