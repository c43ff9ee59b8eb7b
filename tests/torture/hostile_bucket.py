"""A bucket of two mailboxes that somebody without the key tampers with, and what is known of it.

Whoever may write into a bucket can put authentic objects elsewhere, damage them, take them away and
put old ones back; AES-GCM alone notices only damage. ``examine`` does everything that reads and
compares it with what the bucket showed before.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atlas_async.catalog.layout import carry_key, ledger_key, segment_key
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings, Settings
from atlas_async.crypto.envelope import Sealer
from atlas_async.errors import AtlasError, GraphTransient
from atlas_async.model.report import MailboxResult
from atlas_async.operations.listing import list_mailboxes, list_snapshots, open_snapshot
from atlas_async.operations.originals import open_original
from atlas_async.operations.reading import read_message
from atlas_async.operations.tenant import Tenant
from atlas_async.operations.verification import Finding, VerifyReport, verify
from atlas_async.store.base import StoredObject
from atlas_async.store.memory import MemoryBucket
from tests.fakes.world import ScriptedMailbox, World

ANNA = "anna@contoso.com"
BEN = "ben@contoso.com"
DEK = bytes(32)
"""The key that ``World`` seals with."""

Objects = dict[str, StoredObject]


@dataclass
class Known:
    """What a bucket showed before anybody touched it.

    ``rows`` and ``lost`` are of each snapshot, ``contents`` is the plaintext of each message as a
    snapshot has it and ``originals`` its MIME, ``summaries`` is what a list says of a snapshot. ``chain`` holds by kind what
    the next run of the first mailbox goes on from.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    contents: dict[tuple[str, str], bytes] = field(default_factory=dict)
    originals: dict[tuple[str, str], bytes] = field(default_factory=dict)
    summaries: dict[str, Any] = field(default_factory=dict)
    segments: set[str] = field(default_factory=set)
    chain: dict[str, str] = field(default_factory=dict)


class HostileBucket:
    """Two mailboxes in one bucket: snapshots, ledger, carry, attachments, originals. Reset at will."""

    def __init__(self) -> None:
        self.anna = World(ScriptedMailbox(ANNA))
        self.ben = World(ScriptedMailbox(BEN))
        self.ben.bucket, self.ben.store = self.anna.bucket, self.anna.store
        self.sealer = Sealer(DEK)
        self.known = Known()
        self.after: list[Objects] = []
        self.refused: list[AtlasError] = []

    @property
    def objects(self) -> Objects:
        """The bucket as it is now."""
        return self.anna.bucket.objects

    @property
    def bucket(self) -> MemoryBucket:
        """The bucket itself."""
        return self.anna.bucket

    async def fill(self) -> None:
        """Make three snapshots of one mailbox and one of the other; ``after`` keeps each state."""
        for world, count in ((self.anna, 4), (self.ben, 3)):
            for _ in range(count):
                world.mailbox.add(world.inbox, body={"content": f"for {world.mailbox.mailbox_id}"})
            self._attach(world)
            await self._commit(world)
        mailbox = self.anna.mailbox
        mailbox.add(self.anna.inbox, subject="of the second day")
        mailbox.update(next(iter(mailbox.messages)), isRead=True)
        await self._commit(self.anna)
        # A removal that nobody could verify is carried over to the next run.
        mailbox.delete(list(mailbox.messages)[1])
        mailbox.add(self.anna.inbox, subject="of the third day")
        mailbox.hook = _no_lookups
        await self._commit(self.anna)
        del mailbox.hook
        self.known = await self._look()

    def _attach(self, world: World) -> None:
        name = world.mailbox.mailbox_id
        message = world.mailbox.add(world.inbox, hasAttachments=True, subject=f"files of {name}")
        file = "#microsoft.graph.fileAttachment"
        world.mailbox.attachments[message] = [
            {"id": "A1", "@odata.type": file, "name": "a", "contentBytes": _base64(name, "first")},
            {"id": "A2", "@odata.type": file, "name": "b", "contentBytes": _base64(name, "other")},
            # Its content must be streamed, which the mailbox refuses: an entry of the ledger.
            {"id": "A3", "@odata.type": file, "name": f"lost of {name}"},
        ]

    async def _commit(self, world: World) -> None:
        result = await world.back_up(mime=True)
        assert result.snapshot_id, result
        self.after.append(dict(self.objects))

    def reset(self) -> None:
        """Put every object back."""
        self.objects.clear()
        self.objects.update(self.after[-1])

    def put(self, key: str, body: bytes) -> None:
        """Put ``body`` below ``key``, as somebody with access to the bucket can."""
        self.objects[key] = _stored(key, body, next(iter(self.after[-1].values())))

    def keys(self, kind: str, mailbox: str = ANNA) -> list[str]:
        """Return the keys of a mailbox's objects of one kind, in a fixed order."""
        shared = {"message": "data", "attachment": "attachments", "manifest": "manifests"}
        if kind in shared:
            prefix = f"{shared[kind]}/{mailbox}/"
        elif kind == "head":
            prefix = f"catalog/{mailbox}/head"
        else:
            folder = {"descriptor": "snapshots", "carry": "carries"}.get(kind, f"{kind}s")
            prefix = f"catalog/{mailbox}/{folder}/"
        every = sorted(key for key in self.after[-1] if key.startswith(prefix))
        return [key for key in every if kind != "segment" or key in self.known.segments]

    def tenant(self) -> Tenant:
        """Return the tenant, opened."""
        settings = Settings(None, DirectorySettings(Path("unused")), "tenant", Secret("unused"))
        return Tenant(settings, self.anna.store, self.anna.clock, self.sealer)

    async def _look(self) -> Known:
        known = Known()
        tenant = self.tenant()
        for mailbox in (ANNA, BEN):
            for summary in await list_snapshots(tenant, mailbox):
                known.summaries[summary.snapshot_id] = summary
                view = await open_snapshot(tenant, summary.snapshot_id, mailbox)
                assert view.snapshot is not None
                if mailbox == ANNA:
                    known.chain = _chain(view.snapshot)
                for run in view.snapshot.runs:
                    known.segments |= {segment_key(mailbox, ref.checksum) for ref in run.segments}
                rows = {row["object_id"]: dict(row) async for row in view.messages()}
                known.rows[summary.snapshot_id] = rows
                known.lost[summary.snapshot_id] = await view.not_stored()
                for object_id in rows:
                    found = await read_message(
                        tenant, object_id, snapshot=summary.snapshot_id, mailbox=mailbox
                    )
                    name = summary.snapshot_id, object_id
                    known.contents[name] = found.plaintext
                    known.originals[name] = await _original(tenant, mailbox, *name)
        return known

    # -- after somebody has tampered ----------------------------------------------------------

    async def examine(self, touched: str) -> VerifyReport:
        """Read everything: it is as it was, or the object that was touched is named with 16.

        Returns what ``verify`` found, which names no other object either.
        """
        tenant = self.tenant()
        known = self.known
        for mailbox in (ANNA, BEN):
            for summary in await list_snapshots(tenant, mailbox):
                if summary.damage:
                    assert touched in summary.damage, summary
                else:
                    assert summary == known.summaries[summary.snapshot_id]
        assert [m.mailbox_id for m in await list_mailboxes(tenant)] == [ANNA, BEN]
        for snapshot_id, summary in known.summaries.items():
            mailbox = summary.mailbox_id
            view = await self._try(touched, open_snapshot(tenant, snapshot_id, mailbox))
            if view is None:
                continue
            rows = await self._try(touched, _rows(view))
            assert rows is None or rows == known.rows[snapshot_id]
            lost = await self._try(touched, view.not_stored())
            assert lost is None or lost == known.lost[snapshot_id]
            for object_id in known.rows[snapshot_id]:
                found = await self._try(
                    touched, read_message(tenant, object_id, snapshot=snapshot_id, mailbox=mailbox)
                )
                assert found is None or found.plaintext == known.contents[snapshot_id, object_id]
                mime = await self._try(touched, _original(tenant, mailbox, snapshot_id, object_id))
                assert mime is None or mime == known.originals[snapshot_id, object_id]
        report = await verify(tenant, lambda _: None)
        assert {finding.key for finding in findings(report)} <= {touched}
        return report

    async def _try(self, touched: str, call: Awaitable[Any]) -> Any:
        """Return what a call gives, or None when it fails by naming the object touched."""
        try:
            return await call
        except AtlasError as error:
            self.refused.append(error)
        refusal = self.refused[-1]
        assert refusal.exit_code == 16, refusal
        assert touched in str(refusal), refusal
        return None

    async def goes_on(self, touched: str) -> list[MailboxResult]:
        """Back both mailboxes up again after a change: nothing is lost, nothing else is harmed."""
        results = []
        for world in (self.anna, self.ben):
            marked = dict(world.mailbox.messages)
            world.mailbox.add(world.inbox, subject="of the day after")
            results.append(await world.back_up())
            assert results[-1].snapshot_id is not None, results[-1]
            assert await world.shown() == world.state()
            self._forget(world, marked)
        report = await self.examine_old(touched)
        assert {finding.key for finding in findings(report)} <= {touched}
        return results

    async def examine_old(self, touched: str) -> VerifyReport:
        """Look at the snapshots from before again; they are as they were."""
        tenant = self.tenant()
        for snapshot_id, summary in self.known.summaries.items():
            view = await self._try(touched, open_snapshot(tenant, snapshot_id, summary.mailbox_id))
            rows = None if view is None else await self._try(touched, _rows(view))
            assert rows is None or rows == self.known.rows[snapshot_id]
        return await verify(tenant, lambda _: None)

    def _forget(self, world: World, before: dict[str, Any]) -> None:
        """Take a message out of the mailbox again as though it had never come."""
        for message_id in set(world.mailbox.messages) - set(before):
            del world.mailbox.messages[message_id]
            for folder in world.mailbox.folders.values():
                folder.log = [event for event in folder.log if event[1] != message_id]


def _chain(snapshot: Snapshot) -> dict[str, str]:
    assert snapshot.ledger is not None
    return {
        "segment": segment_key(ANNA, snapshot.runs[0].segments[0].checksum),
        "ledger": ledger_key(ANNA, snapshot.ledger.checksum),
        "carry": carry_key(ANNA, snapshot.carry),
    }


def _base64(mailbox: str, text: str) -> str:
    return b64encode(f"{text} file of {mailbox}".encode()).decode()


async def _rows(view: Any) -> dict[str, dict[str, Any]]:
    return {row["object_id"]: dict(row) async for row in view.messages()}


async def _original(tenant: Tenant, mailbox: str, snapshot_id: str, object_id: str) -> bytes:
    which = {"snapshot": snapshot_id, "mailbox": mailbox}
    async with open_original(tenant, object_id, **which) as opened:
        return b"".join([piece async for piece in opened])


async def _no_lookups(kind: str, _object_id: str) -> None:
    if kind in {"locate", "ids", "message"}:
        raise GraphTransient("no answer")


def findings(report: VerifyReport) -> list[Finding]:
    """Return everything that a verification found wrong."""
    return [*report.damaged, *report.missing, *report.foreign]


def _stored(key: str, body: bytes, like: StoredObject) -> StoredObject:
    return replace(like, info=replace(like.info, key=key, size=len(body)), body=body)
