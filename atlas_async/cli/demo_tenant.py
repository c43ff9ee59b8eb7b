"""The demo's tenant: three emulated mailboxes with nested folders, odd subjects, large files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from anyio import to_thread

from atlas_async.config.secret import Secret
from atlas_async.config.settings import GraphSettings
from atlas_async.emulator import Corpus, CorpusOptions, Emulator

OPTIONS: Final = CorpusOptions(
    seed=2026,
    mailboxes=2,
    shared=1,
    rooms=0,
    guests=0,
    unlicensed=0,
    folders=9,
    depth=4,
    messages=80,
    languages=("en", "ar", "zh", "ru"),
    odd_share=0.4,
    attachment_share=0.3,
    inline_share=0.3,
    item_share=0.2,
    huge_attachments=1,
    # Above what Graph sends within a listing, so that it must be streamed.
    huge_bytes=8_000_000,
)

LOST: Final = 8
"""Messages that are deleted and restored."""


class DemoTenant:
    """A running emulator that can be backed up and changed."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        people = [person for person in emulator.corpus.people if person.kind.has_mailbox]
        self._mailboxes = [person.upn for person in people]
        self.graph = GraphSettings(
            tenant_id=str(emulator.tenant.id),
            client_id=emulator.tenant.client_id,
            credential=Secret(emulator.tenant.client_secret),
            authority_url=emulator.authority_url,
            graph_url=emulator.graph_url,
            ca_file=emulator.ca_file,
        )

    @property
    def description(self) -> str:
        """What is in it, in a few words."""
        return (
            f"{len(self._mailboxes)} mailboxes with {OPTIONS.messages} messages each: nested "
            "folders, large and inline attachments, emoji and right-to-left subjects"
        )

    def change_mail(self) -> list[str]:
        """Change some mail and return a sentence for each change."""
        first, second = self._mailboxes[:2]
        done = []
        for mailbox, sentence, change in _changes(first, second):
            self._emulator.control.mutate(mailbox, change)
            done.append(f"{mailbox}: {sentence}")
        return done

    def lose_mail(self) -> tuple[str, str]:
        """Delete mail for good; return whose, and a sentence."""
        mailbox = self._mailboxes[0]
        change = {"op": "bulk-delete", "folder": "inbox", "count": LOST, "hard": True}
        self._emulator.control.mutate(mailbox, change)
        return mailbox, f"{mailbox}: {LOST} messages of the inbox are gone for good"


def _changes(first: str, second: str) -> list[tuple[str, str, dict[str, Any]]]:
    arrived = {
        "op": "create",
        "folder": "inbox",
        "subject": "🚀 خطة المشروع 2026",
        "body": "<p>The plan is attached.</p>",
        "attachments": [{"name": "plan.pdf", "size": 300_000, "contentType": "application/pdf"}],
    }
    return [
        (first, "a message with an attachment arrived", arrived),
        (
            first,
            "three messages were marked as read",
            {"op": "bulk-read", "folder": "inbox", "count": 3, "isRead": True},
        ),
        (
            first,
            "two messages moved to the archive",
            {"op": "bulk-move", "folder": "inbox", "skip": 4, "count": 2, "to": "archive"},
        ),
        (
            second,
            "a folder was made below the inbox",
            {"op": "folder-create", "parent": "inbox", "name": "Später lesen"},
        ),
        (
            second,
            "two messages were deleted",
            {"op": "bulk-delete", "folder": "inbox", "count": 2},
        ),
    ]


@asynccontextmanager
async def open_tenant() -> AsyncIterator[DemoTenant]:
    """Run the emulator while the context is open."""
    corpus = await to_thread.run_sync(Corpus, OPTIONS)
    async with Emulator(corpus, tls=True) as emulator:
        yield DemoTenant(emulator)
