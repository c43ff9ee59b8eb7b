"""Mailboxes of handwritten messages, committed straight through the catalog, and searches of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from atlas_async.catalog.head import Head, write_head
from atlas_async.catalog.manifest import write_manifest
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import Run, write_run
from atlas_async.catalog.vault import Vault
from atlas_async.model.events import Event
from atlas_async.model.message import message_plaintext, message_record
from atlas_async.model.record import MessageRecord, Row, Tombstone, message_key
from atlas_async.model.source import Folder
from atlas_async.operations.finding import find
from atlas_async.operations.found import FindReport
from atlas_async.search.query import Query
from atlas_async.store.base import ObjectStore
from tests.fakes.commits import stored_attachment
from tests.fakes.tenants import open_tenant

FOLDERS = (
    Folder("F1", "root", "Inbox", ("Inbox",), "inbox"),
    Folder("F2", "F1", "Projects", ("Inbox", "Projects")),
    Folder("F3", "root", "Sent", ("Sent",), "sentitems"),
)


@dataclass(frozen=True)
class Post:
    """A message."""

    subject: str = ""
    body: str = ""
    html: bool = False
    sender: tuple[str, str] = ("Ann Miller", "ann@contoso.com")
    to: tuple[tuple[str, str], ...] = (("Bob Berg", "bob@fabrikam.example"),)
    reply_to: tuple[tuple[str, str], ...] = ()
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    inline: bool = False
    received: str = "2026-04-20T11:29:59Z"
    folder: str = "F1"

    def resource(self, object_id: str) -> dict[str, Any]:
        """Return it as Graph gives it."""
        return {
            "id": object_id,
            "subject": self.subject,
            "body": {"contentType": "html" if self.html else "text", "content": self.body},
            "from": person(*self.sender),
            "toRecipients": [person(*one) for one in self.to],
            "replyTo": [person(*one) for one in self.reply_to],
            "receivedDateTime": self.received,
            "isRead": False,
        }


def person(name: str, address: str) -> dict[str, Any]:
    """Return a name with an address as Graph gives them."""
    return {"emailAddress": {"name": name, "address": address}}


async def stored(vault: Vault, object_id: str, post: Post) -> MessageRecord:
    """Store a message and return its record."""
    plaintext = message_plaintext(post.resource(object_id))
    record = message_record(post.resource(object_id), post.folder, plaintext)
    await vault.put_plaintext(message_key(vault.mailbox_id, plaintext.checksum), plaintext.data)
    if post.attachments:
        record["attachments"] = [
            {**await stored_attachment(vault, name, content), "is_inline": post.inline}
            for name, content in post.attachments.items()
        ]
    return record


async def committed(
    vault: Vault,
    snapshot_id: str,
    posts: Mapping[str, Post | None],
    *,
    base: Snapshot | None = None,
    created_at: str = "2026-04-20T12:00:00.000Z",
    folders: tuple[Folder, ...] = FOLDERS,
) -> Snapshot:
    """Commit a snapshot of the posts over ``base``; None removes a message."""
    rows: list[Row] = [
        Tombstone(object_id=i, gone=True) if post is None else await stored(vault, i, post)
        for i, post in posts.items()
    ]
    runs: tuple[Run, ...] = (*(base.runs if base else ()), await write_run(vault, rows))
    start = base or Snapshot("", vault.mailbox_id, "", "", complete=False)
    snapshot = replace(
        start,
        snapshot_id=snapshot_id,
        created_at=created_at,
        started_at=created_at,
        complete=True,
        parent=base.snapshot_id if base else None,
        messages=sum(post is not None for post in posts.values()),
        folders=folders,
        root_id="root",
        runs=runs,
    )

    async def own_rows() -> AsyncIterator[list[Row]]:
        yield rows

    await write_manifest(vault, snapshot, own_rows, len(rows), spool_directory=None)
    await write_head(vault, Head(snapshot))
    return snapshot


async def search(
    store: ObjectStore, query: Query, *, events: list[Event] | None = None, **options: Any
) -> FindReport:
    """Search a bucket under the fixed key."""
    seen = [] if events is None else events
    return await find(open_tenant(store), seen.append, query, **options)


def ids(report: FindReport) -> set[str]:
    """Return the ids of what was found, asserting that nothing was found twice."""
    found = [match.record["object_id"] for match in report.matches]
    assert len(found) == len(set(found)) == report.found
    return set(found)
