"""What is counted and priced: first backups, nights, reading back, storing, pruning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atlas_async.catalog.lease import BEAT_SECONDS
from atlas_async.pipeline.journal import CHECKPOINT_MESSAGES, CHECKPOINT_SECONDS
from atlas_async.pipeline.tree import RELIST_DAYS
from benchmarks.cost_assumptions import (
    ATTACHMENTS,
    ATTACHMENTS_EACH,
    CHANGED,
    DAILY,
    FOLDERS,
    INLINE,
    LEAVING,
    LIMITS,
    LISTING,
    MAILBOX_MESSAGES,
    MAILBOXES,
    MESSAGES,
    NEW_MESSAGES,
    OTHER_DAYS,
    PACKING,
    PROVIDERS,
    REPEATED,
    REQUEST_SECONDS,
    SETTLING_NIGHTS,
    TENANT,
    WITH_ATTACHMENTS,
    WORKING_DAYS,
)
from benchmarks.cost_model import QUIET, TENANT_FIRST, TENANT_NIGHT, Mailbox, Requests, Work, backup

Ask = Callable[[Mailbox, Work], Requests]


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table.

    Attributes:
        what: What happens.
        layout: ``objects`` or ``packs``.
        asked: Requests of the store.
        graph: Requests of Graph.
        hours: At Graph's limits.
        read: Bytes read from the store.
        months: Bytes billed for a month, by each provider.
    """

    what: str
    layout: str
    asked: Requests
    graph: float = 0.0
    hours: float = 0.0
    read: float = 0.0
    months: tuple[float, ...] = ()

    def dollars(self) -> list[float]:
        """Return the price with each provider."""
        billed = self.months or (0.0,) * len(PROVIDERS)
        return [
            p.requests(self.asked) + self.read / p.gigabyte * p.retrieval + p.storing(b)
            for p, b in zip(PROVIDERS, billed, strict=True)
        ]


def work_of(messages: int, *, changed: int = 0, seconds: float = 0.0) -> Work:
    """Return what a run stores for new and changed messages, settled within so many seconds."""
    fresh = round(messages * WITH_ATTACHMENTS * ATTACHMENTS_EACH * (1 - REPEATED))
    rows = messages + changed
    checkpoints: tuple[int, ...] = ()
    if seconds > CHECKPOINT_SECONDS:
        step = int(min(CHECKPOINT_MESSAGES, rows / seconds * CHECKPOINT_SECONDS))
        checkpoints = (step,) * ((rows - 1) // step)
    return Work(messages, fresh, changed, checkpoints, beats=int(seconds / BEAT_SECONDS))


def graph_requests(messages: int, *, first: bool) -> float:
    """Return what a run with so many new messages asks of Graph for one mailbox."""
    lists = messages * WITH_ATTACHMENTS
    large = lists * ATTACHMENTS_EACH * (1 - ATTACHMENTS.share_below(INLINE))
    # Where the list with content is too long, it is asked for again without, then each file.
    attachments = lists + 2 * large
    if not first:
        return FOLDERS + 1 + attachments
    return LISTING + FOLDERS + messages / LIMITS.page_size + attachments


def mailbox_seconds(requests: float) -> float:
    """Return how long a mailbox takes: places in flight, then the window of requests."""
    waiting = max(0.0, requests / LIMITS.window_requests - 1) * LIMITS.window_seconds
    return max(requests / LIMITS.requests_per_mailbox * REQUEST_SECONDS, waiting)


def hours(mailboxes: float, requests: float) -> float:
    """Return how long so many mailboxes take with so many requests each."""
    return mailboxes * mailbox_seconds(requests) / LIMITS.mailboxes / 3600


def small_bytes(work: Work) -> float:
    """Return the bytes of a run that go into packs."""
    return work.messages * MESSAGES.mean_below(PACKING.alone) + (
        work.attachments * ATTACHMENTS.mean_below(PACKING.alone)
    )


def large_objects(work: Work) -> float:
    """Return the objects of a run that are too large for a pack."""
    return work.messages * (1 - MESSAGES.share_below(PACKING.alone)) + (
        work.attachments * (1 - ATTACHMENTS.share_below(PACKING.alone))
    )


def packed(before: Mailbox, work: Work) -> Requests:
    """Return what a backup into packs asks."""
    return PACKING.backup(before, work, small_bytes(work), large_objects(work))


LAYOUTS: tuple[tuple[str, Ask], ...] = (("objects", backup), ("packs", packed))


def first_work() -> Work:
    """Return what the first backup of a mailbox stores."""
    seconds = mailbox_seconds(graph_requests(MAILBOX_MESSAGES, first=True))
    return work_of(MAILBOX_MESSAGES, seconds=seconds)


def settled(new: int) -> Mailbox:
    """Return a mailbox some months of working days after its first backup."""
    mailbox = Mailbox().after(first_work())
    for _ in range(SETTLING_NIGHTS):
        mailbox = mailbox.after(work_of(new, changed=new))
    return mailbox


def average_night(new: int, ask: Ask) -> Requests:
    """Return an average night of a mailbox: runs are merged in some nights and not in others.

    As many rows change (are read, moved, flagged) as are new.
    """
    mailbox, total = settled(new), Requests()
    for _ in range(SETTLING_NIGHTS):
        work = work_of(new, changed=new)
        total += ask(mailbox, work)
        mailbox = mailbox.after(work)
    return total.times(1 / SETTLING_NIGHTS)


def quiet_night(mailboxes: float) -> Requests:
    """Return a night without changes; once a week a head is rewritten with younger tokens.

    That takes a lease, and a look at whether the newest snapshot has its manifest.
    """
    renewal = Requests(put=2, get=2, head=1)
    return (QUIET + renewal.times(1 / RELIST_DAYS)).times(mailboxes) + TENANT_NIGHT


def cases() -> list[Case]:
    """Return the rows."""
    boxes = 1_000_000 // MAILBOX_MESSAGES
    work = first_work()
    return [
        *_first(work, boxes),
        *_nights(),
        *_reading(work, boxes),
        *_storing(work, boxes),
        *_pruning(work, boxes),
        *_month(work),
    ]


def _first(work: Work, boxes: int) -> list[Case]:
    what = "first backup of 1,000,000 messages"
    graph = graph_requests(MAILBOX_MESSAGES, first=True)
    return [
        Case(
            what,
            layout,
            ask(Mailbox(), work).times(boxes) + TENANT_FIRST,
            graph * boxes,
            hours(boxes, graph),
        )
        for layout, ask in LAYOUTS
    ]


def _nights() -> list[Case]:
    """A quiet night, one that is not quite, and one after a working day."""
    idle, some = graph_requests(0, first=False), CHANGED * MAILBOXES
    still = MAILBOXES - some
    rows = [
        Case(
            f"quiet night of {MAILBOXES:,} mailboxes",
            "either",
            quiet_night(MAILBOXES),
            idle * MAILBOXES,
            hours(MAILBOXES, idle),
        )
    ]
    graph = graph_requests(NEW_MESSAGES, first=False)
    for layout, ask in LAYOUTS:
        busy = average_night(NEW_MESSAGES, ask).times(some)
        rows.append(
            Case(
                f"same, {CHANGED:.0%} of them with {NEW_MESSAGES} new messages",
                layout,
                busy + quiet_night(still),
                graph * some + idle * still,
                hours(some, graph) + hours(still, idle),
            )
        )
    graph = graph_requests(DAILY, first=False)
    for layout, ask in LAYOUTS:
        rows.append(
            Case(
                f"working day: {DAILY} new messages in each of them",
                layout,
                average_night(DAILY, ask).times(MAILBOXES) + TENANT_NIGHT,
                graph * MAILBOXES,
                hours(MAILBOXES, graph),
            )
        )
    return rows


def _reading(work: Work, boxes: int) -> list[Case]:
    """Read everything back once: a whole restore, or ``atlas verify``."""
    read = bytes_stored(work) * boxes
    objects = (work.messages + work.attachments) * boxes
    packs = (PACKING.objects(small_bytes(work), work) + large_objects(work)) * boxes
    what = "reading 1,000,000 messages back"
    return [
        Case(what, "objects", Requests(get=objects), read=read),
        Case(what, "packs", Requests(get=packs), read=read),
    ]


def bytes_stored(work: Work) -> float:
    """Return the bytes that a mailbox's content occupies."""
    return work.messages * MESSAGES.mean + work.attachments * ATTACHMENTS.mean


def billed_alone(work: Work) -> tuple[float, ...]:
    """Return the bytes each provider bills when every message is an object."""
    return tuple(
        work.messages * MESSAGES.mean_billed(provider.least)
        + work.attachments * ATTACHMENTS.mean_billed(provider.least)
        for provider in PROVIDERS
    )


def billed_packed(work: Work, overhead: float) -> tuple[float, ...]:
    """Return the bytes each provider bills when packs hold so much per byte in use."""
    return (bytes_stored(work) + (overhead - 1) * small_bytes(work),) * len(PROVIDERS)


def _storing(work: Work, boxes: int) -> list[Case]:
    what = "a month's storage of 1,000,000 messages"
    kinds = (
        ("objects", billed_alone(work)),
        ("packs, nothing leaves", billed_packed(work, 1.0)),
        (f"packs, {LEAVING:.0%} leave a month", billed_packed(work, PACKING.overhead)),
    )
    return [
        Case(what, layout, Requests(), months=tuple(boxes * each for each in billed))
        for layout, billed in kinds
    ]


def _month(work: Work) -> list[Case]:
    """Add up a month of one tenant: its nights, and the storage of what the month began with."""
    still = quiet_night(TENANT).times(OTHER_DAYS)
    kinds = (
        ("objects", backup, billed_alone(work)),
        ("packs, nothing leaves", packed, billed_packed(work, 1.0)),
        (f"packs, {LEAVING:.0%} leave a month", packed, billed_packed(work, PACKING.overhead)),
    )
    return [
        Case(
            f"a month of {TENANT:,} mailboxes, with storage",
            layout,
            (average_night(DAILY, ask).times(TENANT) + TENANT_NIGHT).times(WORKING_DAYS) + still,
            months=tuple(TENANT * each for each in billed),
        )
        for layout, ask, billed in kinds
    ]


def _pruning(work: Work, boxes: int) -> list[Case]:
    """Let go, in a month, of what retention no longer wants."""
    packs = PACKING.objects(small_bytes(work), work) * boxes * PACKING.overhead
    rewritten = packs / PACKING.months_between_rewrites(LEAVING)
    asked = Requests(get=rewritten, put=rewritten * PACKING.rewritten_at)
    what = f"a month's pruning of 1,000,000 messages, {LEAVING:.0%} leave"
    read = rewritten * PACKING.pack * PACKING.rewritten_at
    return [
        Case(what, "objects", Requests()),
        Case(what, "packs", asked, read=read),
    ]
