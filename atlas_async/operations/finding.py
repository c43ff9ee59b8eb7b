"""Find messages in snapshots, and look after the index of words that makes it quick.

The index only rules messages out. Whatever is told as found was compared on the snapshot's row or
on the message itself, opened and checked, so nothing that is wrong with an index can make a result
wrong. A search takes no lease: it may run beside backups, and beside other searches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import anyio

from atlas_async.errors import AtlasError, IntegrityError, SnapshotNotFound, UsageError
from atlas_async.model.events import Event
from atlas_async.operations.found import FindReport, IndexMode, Match, Newest, Take, newest_first
from atlas_async.operations.listing import find_snapshot, known_mailboxes
from atlas_async.operations.mailbox_search import MailboxSearch, Work
from atlas_async.operations.selection import Selection, select
from atlas_async.operations.tenant import Tenant
from atlas_async.search.index import delete_index
from atlas_async.search.query import Conditions, Query
from atlas_async.side_by_side import until_first_error

MAILBOXES_AT_ONCE: Final = 4
"""Mailboxes searched side by side: a search of a small one is mostly waiting for the store."""


async def find(
    tenant: Tenant,
    emit: Callable[[Event], None],
    query: Query,
    *,
    mailboxes: Sequence[str] | None = None,
    selection: Selection | None = None,
    index: IndexMode = IndexMode.AUTO,
    take: Take | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> FindReport:
    """Find messages.

    Args:
        tenant: Where.
        emit: Takes events.
        query: What they must have.
        mailboxes: Addresses; None for all that have snapshots, or for the one whose snapshot
            ``selection`` names.
        selection: Which snapshots, folders and times; its mailbox is not looked at.
        index: What to do with the index of words.
        take: Handed each match as it is found, in no particular order, or with a limit in the
            end, newest first. Without it the report has them, newest first.
        stopped: Tells whether to end early, with what was found so far.

    Raises:
        UsageError: The query has nothing to look for, or no mailbox has such a folder.
        SnapshotNotFound: No such mailbox or snapshot.
        KeyMaterialError, StoreError: The bucket cannot be opened or read.
    """
    conditions = Conditions(query)
    await tenant.open_for_reading()
    chosen = selection or Selection()
    report = FindReport()
    newest = None if query.limit is None else Newest(query.limit)

    async def keep(match: Match) -> None:
        report.matches.append(match)

    sink = newest.take if newest is not None else take or keep
    turn = anyio.Lock()

    async def hand_on(match: Match) -> None:
        async with turn:
            await sink(match)

    work = Work(conditions, index, report, hand_on, newest, emit, stopped, tenant.clock)
    await _search(tenant, work, mailboxes, chosen)
    if newest is not None:
        for match in newest.in_order():
            await (take or keep)(match)
        report.found = len(newest.in_order())
    report.matches = newest_first(report.matches)
    return report


async def _search(
    tenant: Tenant, work: Work, named: Sequence[str] | None, selection: Selection
) -> None:
    """Search mailboxes, some at a time. One that is damaged is left out of the search, and told.

    What is told of them is in the order of their names, whichever was done first.
    """
    report = work.report
    refused: dict[str, AtlasError] = {}
    mailboxes = await _mailboxes(tenant, named, selection)
    parts = {mailbox_id: FindReport() for mailbox_id in mailboxes}

    async def one(mailbox_id: str) -> None:
        if work.stopped():
            return
        part = parts[mailbox_id]
        try:
            selected = await select(tenant, replace(selection, mailbox=mailbox_id))
            part.notices += [f"{mailbox_id}: {note}" for note in selected.notes]
            await MailboxSearch(replace(work, report=part), selected).run()
        except IntegrityError as error:
            part.leave_out(mailbox_id, "", error)
        except (UsageError, SnapshotNotFound) as error:
            # Of many mailboxes only some have such a folder, or a snapshot of such a time.
            if named is not None or selection.snapshot is not None:
                raise
            refused[mailbox_id] = error

    await until_first_error(one, mailboxes, at_once=MAILBOXES_AT_ONCE)
    if refused and len(refused) == len(mailboxes):
        raise refused[mailboxes[0]]
    for part in parts.values():
        report.add(part)
    report.interrupted = work.stopped()


async def _mailboxes(
    tenant: Tenant, named: Sequence[str] | None, selection: Selection
) -> list[str]:
    if named:
        return list(dict.fromkeys(name.strip().lower() for name in named))
    if selection.snapshot is not None and selection.snapshot.strip().lower() != "latest":
        return [(await find_snapshot(tenant, selection.snapshot))[0]]
    return await known_mailboxes(tenant)


async def update_index(
    tenant: Tenant,
    emit: Callable[[Event], None],
    *,
    mailboxes: Sequence[str] | None = None,
    selection: Selection | None = None,
    rebuild: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> FindReport:
    """Bring the index of words of mailboxes up to date, or make it anew, without searching.

    Raises: as ``find``; ``StoreError`` too when the index cannot be deleted to be made anew.
    """
    if rebuild:
        await drop_index(tenant, mailboxes=mailboxes)
    await tenant.open_for_reading()
    report = FindReport()

    async def nobody(_: Match) -> None:
        return

    work = Work(
        conditions=Conditions(Query()),
        mode=IndexMode.UPDATE,
        report=report,
        sink=nobody,
        newest=None,
        emit=emit,
        stopped=stopped,
        clock=tenant.clock,
        searching=False,
    )
    await _search(tenant, work, mailboxes, selection or Selection())
    return report


async def drop_index(
    tenant: Tenant, *, mailboxes: Sequence[str] | None = None
) -> dict[str, tuple[int, int]]:
    """Delete the index of words of mailboxes; return objects and bytes by mailbox.

    Raises:
        StoreError: The store failed, or refuses.
    """
    await tenant.open_for_reading()
    known = await tenant.mailbox_ids_of_objects()
    wanted = [name.strip().lower() for name in mailboxes] if mailboxes else known
    for mailbox_id in wanted:
        if mailbox_id not in known:
            msg = f"nothing is stored of {mailbox_id}"
            raise SnapshotNotFound(msg, where=tenant.store.name)
    return {name: await delete_index(tenant.vault(name)[0]) for name in dict.fromkeys(wanted)}
