"""Read one message back, checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from atlas_async.catalog import content
from atlas_async.catalog.reader import SnapshotView
from atlas_async.errors import IntegrityError, SnapshotNotFound, UsageError
from atlas_async.model.record import MessageRecord
from atlas_async.model.source import JsonObject
from atlas_async.operations.listing import open_snapshot
from atlas_async.operations.tenant import Tenant

SHOWN = 5


@dataclass(frozen=True, slots=True)
class MessageContent:
    """A message as of a snapshot.

    ``plaintext`` is what is stored; ``resource`` is it with the read state, flag, categories and
    folder that the snapshot records for it.
    """

    mailbox_id: str
    snapshot_id: str
    record: MessageRecord
    resource: JsonObject
    plaintext: bytes


async def read_message(
    tenant: Tenant, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
) -> MessageContent:
    """Return one message by its id, the checksum of its content, or the beginning of either.

    Without a snapshot the newest one of the mailbox is used; without both, all mailboxes' newest.

    Raises:
        SnapshotNotFound: No such message.
        UsageError: Several match.
        IntegrityError: The stored object is not what was written.
    """
    view, record = await find_message(tenant, object_id, snapshot=snapshot, mailbox=mailbox)
    return await _content(tenant, view, record)


async def find_message(
    tenant: Tenant, object_id: str, *, snapshot: str | None = None, mailbox: str | None = None
) -> tuple[SnapshotView, MessageRecord]:
    """Return the row of one message and the snapshot that has it, named as above.

    Raises:
        SnapshotNotFound: No such message.
        UsageError: Several match.
        IntegrityError: A snapshot is damaged, and no other has it.
    """
    await tenant.open_for_reading()
    damage: list[IntegrityError] = []
    views = await _views(tenant, snapshot, mailbox, damage)
    for view in views:
        with _noted(damage):
            record = await view.find(object_id)
            if record is not None:
                return view, record
    return await _only_match(views, object_id, damage)


async def _only_match(
    views: list[SnapshotView], object_id: str, damage: list[IntegrityError]
) -> tuple[SnapshotView, MessageRecord]:
    matches: list[tuple[SnapshotView, MessageRecord]] = []
    for view in views:
        with _noted(damage):
            matches += await _matching(view, object_id)
    if not matches and damage:
        raise damage[0]
    if not matches:
        msg = f"no message {object_id!r}"
        raise SnapshotNotFound(msg, hint="`atlas list -s SNAPSHOT --all` shows the ids")
    if len(matches) > 1:
        msg = f"{object_id!r} matches {len(matches)} messages"
        raise UsageError(msg, hint="give more of the id, or name the mailbox with -m")
    return matches[0]


async def _views(
    tenant: Tenant, snapshot: str | None, mailbox: str | None, damage: list[IntegrityError]
) -> list[SnapshotView]:
    if snapshot is not None or mailbox is not None:
        return [await open_snapshot(tenant, snapshot, mailbox)]
    views = []
    for mailbox_id in await tenant.mailbox_ids():
        with _noted(damage):
            views.append(await open_snapshot(tenant, None, mailbox_id))
    return views


@contextmanager
def _noted(damage: list[IntegrityError]) -> Iterator[None]:
    """Note that a mailbox cannot be read: the message may be another's."""
    try:
        yield
    except IntegrityError as error:
        damage.append(error)


async def _matching(view: SnapshotView, beginning: str) -> list[tuple[SnapshotView, MessageRecord]]:
    found = []
    async for record in view.messages():
        if record["object_id"].startswith(beginning) or record["checksum"].startswith(beginning):
            found.append((view, record))
            if len(found) > SHOWN:
                break
    return found


async def _content(tenant: Tenant, view: SnapshotView, record: MessageRecord) -> MessageContent:
    mailbox_id = view.summary.mailbox_id
    vault, _ = tenant.vault(mailbox_id)
    stored = await content.read_message(vault, record)
    return MessageContent(
        mailbox_id=mailbox_id,
        snapshot_id=view.summary.snapshot_id,
        record=record,
        resource=stored.resource,
        plaintext=stored.plaintext,
    )
