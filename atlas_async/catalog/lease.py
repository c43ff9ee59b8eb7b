"""The lease of a mailbox: of several runs at once, one writes (I8).

A run reads without asking. Its first write takes the lease: an object below
``catalog/{mailbox}/lease/`` that is created only if absent. Leases are numbered; the head names the
last one whose run ended in order, so the next run knows which number is free without looking. A
lease in use is written anew every ``BEAT_SECONDS``; one that shows no beat for ``STALE_SECONDS`` of
the watcher's own time, or whose process is seen to have ended on this machine, is taken over under
the next number. Nobody's wall clock decides anything.

Whoever commits looks first whether its lease is still its own. A run that was suspended, taken over
and woken therefore stops before it commits. Between that look and the commit nothing can be
promised; what such a run could do then is described in ``docs/design.md``.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
from anyio import to_thread

from atlas_async.catalog.document import FORMAT, pack, unpack
from atlas_async.catalog.holder import Holder
from atlas_async.catalog.layout import LeasePlace, lease_key, lease_number, lease_prefix
from atlas_async.clock import Clock
from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import (
    FormatError,
    IntegrityError,
    LockedError,
    ObjectExists,
    ObjectNotFound,
    StoreError,
)
from atlas_async.store.base import ObjectStore

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 10.0
STALE_SECONDS: Final = 45.0
"""A lease without a beat for so long has nobody any more: four beats in a row are missing."""

POLL_SECONDS: Final = 1.0
LOOKED_AT: Final = 10
"""Keys per page of the listing: the newest lease is the first of them, and few are left over."""
RELEASE_SECONDS: Final = 10.0
"""How long a run that ends may take to give its lease back; then it is left to grow stale."""

_DOING: Final = {
    LeasePlace.BACKUP: "is backing this mailbox up",
    LeasePlace.RESTORE: "is restoring from this mailbox, or taking a restore back",
}
_HELD: Final = {
    LeasePlace.BACKUP: "another run holds this mailbox",
    LeasePlace.RESTORE: "a restore from this mailbox is under way",
}

Notice = Callable[[str], None]


class BaseMoved(LockedError):
    """Another run committed between this run's reading of the head and its first write."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A lease as it lies in the store; ``holder`` None when it has been given back."""

    number: int
    mark: bytes
    holder: Holder | None


class Lease:
    """One run's lease of one mailbox, not taken yet.

    Args:
        store: The tenant's bucket.
        sealer: Holds the tenant's DEK.
        mailbox_id: Whose.
        clock: Measures the watching and sleeps in it.
        wait: Seconds to wait for another run that is alive; 0 leaves as soon as it shows a beat.
        notice: Told, once, that somebody else holds the mailbox.
        give_up: Tells whether to stop waiting at once.
        place: What it is the lease of: writing the mailbox's backups, or restoring from it.

    ``held`` is true from the first write on. ``before`` is the number that the head names.
    """

    def __init__(
        self,
        store: ObjectStore,
        sealer: Sealer,
        mailbox_id: str,
        *,
        clock: Clock,
        wait: float = 0.0,
        notice: Notice = lambda _: None,
        give_up: Callable[[], bool] = lambda: False,
        place: LeasePlace = LeasePlace.BACKUP,
    ) -> None:
        self._place = place
        self._store = store
        self._sealer = sealer
        self._mailbox_id = mailbox_id
        self._clock = clock
        self._wait = wait
        self._notice = notice
        self._give_up = give_up
        self._taking = anyio.Lock()
        self._checking = anyio.Lock()
        self._took = anyio.Event()
        self._refused: LockedError | None = None
        self._holder: Holder | None = None
        self._older: list[int] = []
        self._beats = 0
        self._seen_at = 0.0
        self._forced = False
        self._confirm: Callable[[], Awaitable[bool]] = _not_begun
        self.held = False
        self.number = 0
        self.before: int | None = None
        self.finished = False

    def begin(self, before: int | None, confirm: Callable[[], Awaitable[bool]]) -> None:
        """Note what the run starts from.

        Args:
            before: The number of the last lease, as the head names it; None when it does not.
            confirm: Tells whether the state that was read is still the newest.
        """
        self.before = before
        self._confirm = confirm
        self._refused = None

    async def take(self) -> None:
        """Take the lease unless it is held; called before every write.

        May be called by several tasks at once. Cancelling it may leave a lease that ``give_back``
        removes.

        Raises:
            LockedError: Another run holds the mailbox (``BaseMoved``: held it meanwhile).
            StoreError: The store failed.
            RuntimeError: ``begin`` was not called.
        """
        async with self._taking:
            if self.held:
                return
            if self._refused is not None:
                raise self._refused
            if self._confirm is _not_begun:
                # A number that was not asked of the head may be taken beside one that was.
                raise RuntimeError("a lease is begun from the mailbox's head before it is taken")
            try:
                await self._acquire()
                if not await self._confirm():
                    await self.give_back()
                    raise BaseMoved(
                        "another run has committed since this one began",
                        where=self._mailbox_id,
                        hint="run again",
                    )
            except LockedError as error:
                self._refused = error
                raise
            self.held = True
            self._took.set()

    async def check(self) -> None:
        """Make sure that the lease is still this run's; called before every commit.

        Raises:
            LockedError: It is not.
            StoreError: The store failed.
        """
        await self.take()
        if not await self._is_held_still():
            raise self._lose()

    async def _is_held_still(self) -> bool:
        """Tell whether the lease is this run's; False when it was given back meanwhile.

        Raises:
            LockedError: It is not.
            StoreError: The store failed.
        """
        async with self._checking:
            if not self.held:
                return False
            try:
                found = await self._read(self.number)
            except ObjectNotFound:
                found = None
            if self._holder is None:
                return False  # given back while it was read
            is_ours = found is not None and found.holder == self._holder
            if not is_ours or (self._is_silent() and not await self._renew()):
                raise self._lose()
            return True

    def _is_silent(self) -> bool:
        """Tell whether others may soon, or do already, take this run for dead."""
        # Others must have seen nothing for ``STALE_SECONDS``; a beat that is under way may last
        # as long as one more.
        return anyio.current_time() - self._seen_at >= STALE_SECONDS - 2 * BEAT_SECONDS

    async def _renew(self) -> bool:
        """Take the next number; return False when somebody has it, or has had it.

        After a silence it proves nothing that the lease reads as this run's: a beat that was long
        under way may have been written over the mark of whoever took it over.
        """
        found = await self._newest()
        if found is None or found.holder != self._holder:
            return False
        if not await self._claim(found.number + 1):
            self.number = found.number
            return False
        self._older.append(found.number)
        return True

    def _lose(self) -> LockedError:
        self._refused = LockedError(
            "this run's lease is gone: another run has taken the mailbox over, or somebody has"
            " deleted from the bucket, while this run was under way",
            where=self._mailbox_id,
            hint="nothing was committed over it; run again",
        )
        self.held, self._holder = False, None
        return self._refused

    async def keep(self) -> None:
        """Write the lease anew again and again once it is taken, until cancelled.

        Raises:
            LockedError: It is not this run's any more.
        """
        await self._took.wait()
        while True:
            # The loop's own time: a test's clock would be driven by this alone.
            await anyio.sleep(BEAT_SECONDS)
            if not self.held:
                continue  # it was given back, or is being asked for again
            try:
                await self._beat()
            except (StoreError, TimeoutError) as error:
                # The next one may pass. If none does, the next look at the lease renews it.
                told = str(error) or "no answer in time"
                logger.warning("a beat of the lease of %s failed: %s", self._mailbox_id, told)

    async def _beat(self) -> None:
        """Show that the run lives.

        Raises:
            LockedError: Somebody has taken the lease over.
            StoreError: The store failed.
            TimeoutError: The beat took too long: written late it would be worse than none.
        """
        # Not ``check``, which would take a lease again that was given back a moment ago.
        if not await self._is_held_still():
            return
        async with self._checking:
            if not self.held:
                return
            began = anyio.current_time()
            self._beats += 1
            with anyio.fail_after(BEAT_SECONDS):
                await self._write(self.number, self._holder)
            # Whoever took the lease over between the look and the beat has the next number.
            if (
                await self._store.head(lease_key(self._mailbox_id, self.number + 1, self._place))
                is not None
            ):
                raise self._lose()
            self._seen_at = began

    async def give_back(self) -> None:
        """Let go of the lease, if it was taken; best effort, as it may also grow stale.

        The newest goes first, so that a crash in the middle never leaves a gap below a lease.

        Raises:
            StoreError: The store failed.
        """
        if self._holder is None or not await self._is_ours():
            return
        numbers = [self.number, *reversed(self._older)]
        self._holder, self._older, self.held = None, [], False
        if self._forced:
            # Who lost the lease may not know it yet: the number says so for as long as it is there.
            await self._write(numbers.pop(0), None)
        for number in numbers:
            if not await self._delete(number):
                # No permission to delete: say that it is free, unless the head says so already.
                if not self.finished:
                    await self._write(numbers[0], None)
                return

    async def _is_ours(self) -> bool:
        """Tell whether the lease is this run's; a run that has just committed need not look."""
        if self.finished:
            return True
        try:
            return (await self._read(self.number)).holder == self._holder
        except ObjectNotFound:
            return False

    async def _acquire(self) -> None:
        """Create a lease under the lowest number that is free and above all others."""
        self._holder = await to_thread.run_sync(Holder.this_process)
        if self.before is not None and await self._claim(self.before + 1):
            return
        watch = _Watch(self._clock, self._wait)
        while True:
            found = await self._newest()
            if found is None:
                if await self._claim((self.before or 0) + 1):
                    return
            elif found.holder is None or await self._is_over(found, watch):
                if await self._claim(found.number + 1):
                    self._older.append(found.number)
                    if found.holder is not None:
                        self._forced = watch.stale
                        await self._write(found.number, None)
                    return
                continue
            await self._clock.sleep(POLL_SECONDS)

    async def _is_over(self, found: _Found, watch: _Watch) -> bool:
        """Tell whether the lease's run is gone. Raises ``LockedError`` when it is not, for good."""
        holder = found.holder
        if holder is None or await to_thread.run_sync(holder.has_ended):
            return True
        if watch.look(found):
            self._notice(f"{holder} {_DOING[self._place]}; watching whether it is alive")
        if watch.stale:
            return True
        if watch.over or self._give_up():
            raise LockedError(
                f"{_HELD[self._place]}: {holder}",
                where=self._mailbox_id,
                hint="let it end, or wait for it with --lock-wait; one that died is taken over",
            )
        return False

    async def _claim(self, number: int) -> bool:
        """Create the lease of this number; return False when somebody else's is there."""
        self.number = number
        began = anyio.current_time()
        try:
            await self._write(number, self._holder, if_absent=True)
        except ObjectExists:
            return False
        self._seen_at = began
        if not self._store.conditional_writes:
            # Of two that wrote at the same moment the later stands; both look before they commit.
            try:
                found = await self._read(number)
            except ObjectNotFound:
                return False
            return found.holder == self._holder
        return True

    async def _newest(self) -> _Found | None:
        """Return the lease of the highest number, or None when there is none."""
        token: str | None = None
        while True:
            page = await self._store.list_page(
                lease_prefix(self._mailbox_id, self._place), token=token, limit=LOOKED_AT
            )
            # Whatever else lies there is nobody's lease, and must not hide one.
            for number in filter(None, (lease_number(info.key) for info in page.objects)):
                try:
                    return await self._read(number)
                except ObjectNotFound:
                    return None
            token = page.token
            if token is None:
                return None

    async def _read(self, number: int) -> _Found:
        """Read a lease. One that cannot be opened has an unknown holder, whom only time judges.

        Raises ``ObjectNotFound``.
        """
        key = lease_key(self._mailbox_id, number, self._place)
        body = (await self._store.get(key)).body
        mark = hashlib.sha256(body).digest()
        try:
            document = unpack(self._sealer.open(body, where=key), kind="lease", where=key)
            if document.get("mailbox_id") != self._mailbox_id or document.get("number") != number:
                raise FormatError("this lease belongs elsewhere", where=key)
            value = document.get("holder")
            return _Found(number, mark, None if value is None else Holder.from_json(value))
        except (IntegrityError, ValueError):
            return _Found(number, mark, Holder("", "unknown", 0, "", ""))

    async def _write(self, number: int, holder: Holder | None, *, if_absent: bool = False) -> None:
        plaintext = pack(
            {
                "format": FORMAT,
                "kind": "lease",
                "mailbox_id": self._mailbox_id,
                "number": number,
                "holder": holder.to_json() if holder else None,
                "beats": self._beats,
            }
        )
        sealed = self._sealer.seal(plaintext)
        key = lease_key(self._mailbox_id, number, self._place)
        await self._store.put(key, sealed.body, md5=sealed.md5, if_absent=if_absent)

    async def _delete(self, number: int) -> bool:
        """Delete a lease of ours; return False where that is not permitted."""
        try:
            await self._store.delete(lease_key(self._mailbox_id, number, self._place))
        except StoreError as error:
            logger.info("the lease of %s stays behind: %s", self._mailbox_id, error)
            return False
        return True


async def _not_begun() -> bool:
    """Stand for the confirmation until a run has told how to confirm."""
    return False


class _Watch:
    """Whether somebody else's lease beats, by the watcher's own clock.

    Args:
        clock: Measures.
        wait: Seconds to wait for a run that is alive.
    """

    def __init__(self, clock: Clock, wait: float) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._wait = wait
        self._last: tuple[int, bytes] | None = None
        self._since = self._began
        self._beaten = False

    def look(self, found: _Found) -> bool:
        """Note what is there now; return whether it is the first look."""
        first = self._last is None
        current = (found.number, found.mark)
        if current != self._last:
            self._beaten = not first
            self._last = current
            self._since = self._clock.monotonic()
        return first

    @property
    def stale(self) -> bool:
        """Tell whether it has not changed for too long."""
        return self._clock.monotonic() - self._since >= STALE_SECONDS

    @property
    def over(self) -> bool:
        """Tell whether it is alive and has been waited for long enough."""
        return self._beaten and self._clock.monotonic() - self._began >= self._wait


@asynccontextmanager
async def kept(lease: Lease) -> AsyncIterator[None]:
    """Keep a lease while the body runs, and give it back at its end, however that comes.

    A lease that is lost cancels the body.

    Raises:
        LockedError: The lease was lost.
    """
    lost: list[LockedError] = []
    failures: list[Exception] = []

    async def keep(scope: anyio.CancelScope) -> None:
        try:
            await lease.keep()
        except LockedError as error:
            lost.append(error)
            scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(keep, group.cancel_scope)
            try:
                yield
            except Exception as error:  # noqa: BLE001 -- raised below, without the group around it
                failures.append(error)
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(RELEASE_SECONDS, shield=True):
            await _let_go(lease)
    if failures or lost:
        raise [*failures, *lost][0]


async def _let_go(lease: Lease) -> None:
    try:
        await lease.give_back()
    except StoreError as error:
        logger.info("a lease could not be given back, it will grow stale: %s", error)
