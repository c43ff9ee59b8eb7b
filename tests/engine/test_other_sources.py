"""Runs over a directory that is not Graph's: who is visited, and what a refusal leaves behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.errors import AuthError, ConsentError, GraphNotFound, ReplicaRefused
from atlas_async.model.report import Outcome
from atlas_async.model.source import Principal
from atlas_async.sdk import Atlas
from atlas_async.store.memory import MemoryStore
from tests.fakes.mailbox import FakeMailbox
from tests.fakes.vaults import existing_store, plant

SETTINGS = Settings(None, DirectorySettings(Path("unused")), "tenant", Secret("p"), dek_version=0)


@dataclass
class Directory:
    """A directory that shows what it is given; every mailbox holds one message."""

    shown: tuple[Principal, ...]

    async def discover(self) -> AsyncIterator[Principal]:
        for principal in self.shown:
            yield principal

    async def principal(self, address_or_id: str) -> Principal:
        return next(p for p in self.shown if address_or_id in {p.address, p.user_id})

    def mailbox(self, principal: Principal) -> FakeMailbox:
        mailbox = FakeMailbox(principal.address)
        mailbox.add(mailbox.add_folder("Inbox"))
        return mailbox

    def engine(self, store: MemoryStore) -> Atlas:
        """Return an engine that reads this directory."""

        @asynccontextmanager
        async def source() -> AsyncIterator[Directory]:
            yield self

        return Atlas(SETTINGS, store=store, source=source)


ANNA = Principal(user_id="u1", address="anna@contoso.com")
BEN = Principal(user_id="u2", address="ben@contoso.com")


async def test_user_that_the_directory_shows_twice_is_visited_once() -> None:
    """Somebody on two pages of a directory that changed meanwhile is one mailbox, and no error."""
    store = MemoryStore()
    async with Directory((ANNA, ANNA, BEN, ANNA)).engine(store) as atlas:
        report = await atlas.backup()
    assert report.exit_code == 0
    assert [(r.mailbox_id, r.outcome) for r in report.mailboxes] == [
        (ANNA.address, Outcome.COMPLETE),
        (BEN.address, Outcome.COMPLETE),
    ]
    manifests = [key for key in store.bucket.objects if key.startswith("manifests/")]
    assert len(manifests) == 2


async def test_refused_replica_is_left_as_it_is() -> None:
    """A bucket that is refused as a replica gets no key."""
    store = existing_store()
    await plant(store, "_meta/replica.marker", b"copy")
    before = dict(store.bucket.objects)
    async with Directory((ANNA,)).engine(store) as atlas:
        with pytest.raises(ReplicaRefused, match="replica"):
            await atlas.backup()
    assert store.bucket.objects == before


class SlowDirectory(Directory):
    """One that answers when all it can be asked at once have asked; some names it refuses."""

    def __init__(self, shown: tuple[Principal, ...]) -> None:
        super().__init__(shown)
        self.asked: list[str] = []
        self.asking = 0
        self.most = 0

    async def principal(self, address_or_id: str) -> Principal:
        self.asked.append(address_or_id)
        self.asking += 1
        self.most = max(self.most, self.asking)
        await anyio.wait_all_tasks_blocked()
        self.asking -= 1
        if address_or_id.startswith("gone"):
            raise GraphNotFound("no such user", where=address_or_id)
        if address_or_id.startswith("secret"):
            raise AuthError("the credential has expired")
        if address_or_id.startswith("hidden"):
            raise ConsentError("User.Read.All is missing")
        return await super().principal(address_or_id)


async def test_names_are_looked_up_a_few_at_once_each_at_its_own_risk() -> None:
    """Every name has its outcome, in order, and at most four requests are on their way."""
    users = tuple(Principal(f"u{n}", f"user{n}@contoso.com") for n in range(6))
    directory = SlowDirectory(users)
    names = [user.address for user in users[:4]]
    names += ["gone@contoso.com", "hidden@contoso.com", *(user.address for user in users[4:])]
    async with directory.engine(MemoryStore()) as atlas:
        report = await atlas.backup([*names, names[0].upper()])
    assert directory.asked == names
    assert directory.most == 4
    outcomes = {result.mailbox_id: result.outcome for result in report.mailboxes}
    assert outcomes.pop("gone@contoso.com") is Outcome.NO_MAILBOX
    assert set(outcomes) == {name for name in names if not name.startswith("gone")}
    assert set(outcomes.values()) == {Outcome.COMPLETE}


async def test_a_refused_credential_ends_the_look_up() -> None:
    """It is raised as what it is, and nothing is written."""
    store = existing_store()
    directory = SlowDirectory((ANNA, BEN))
    async with directory.engine(store) as atlas:
        with pytest.raises(AuthError, match="expired"):
            await atlas.backup([ANNA.address, "secret@contoso.com", BEN.address])
    assert store.bucket.objects == {}
