"""What the long run's bucket must be: every snapshot exact, every object accounted for."""

from __future__ import annotations

import gzip
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from atlas_async.catalog.head import read_head
from atlas_async.catalog.layout import (
    DEK_KEY,
    carry_key,
    head_key,
    ledger_key,
    manifest_key,
    segment_key,
    snapshot_key,
)
from atlas_async.catalog.reader import MailboxReader
from atlas_async.catalog.segment import SegmentRef
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.catalog.state import load_segment
from atlas_async.catalog.vault import Vault
from atlas_async.config.settings import Settings
from atlas_async.model.record import MessageRecord, attachment_key, is_gone, message_key
from atlas_async.operations.tenant import Tenant as Opened
from atlas_async.sdk import Atlas
from atlas_async.store.base import list_all
from tests.fakes.rig import Rig
from tests.torture.soak_engine import adapter

REMEMBERED: Final = 200
"""Days of the past that can be compared again; which ones is drawn evenly from all."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A snapshot and where the truth of its moment lies."""

    mailbox: str
    snapshot: str
    truth: Path


@dataclass
class Stock:
    """What lies in the bucket."""

    objects: int = 0
    orphans: int = 0
    snapshots: int = 0
    bytes_stored: int = 0


@dataclass
class Auditor:
    """Reads the bucket without faults, beside the engine, by an engine of its own.

    Args:
        atlas: That engine.
        archive: Where truths are kept.
        random: Draws the samples.
    """

    atlas: Atlas
    archive: Path
    random: Random
    past: list[Remembered] = field(default_factory=list)
    checked: int = 0
    _seen: int = 0
    _named: set[str] = field(default_factory=lambda: {DEK_KEY})
    _known: set[str] = field(default_factory=set)

    def vault(self, mailbox: str) -> Vault:
        """Return a vault over the bucket; what ``Rig.assert_exact`` asks for."""
        return self._opened.vault(mailbox)[0]

    _assert_content = Rig._assert_content

    @property
    def _opened(self) -> Opened:
        return self.atlas._opened

    async def check(self, mailbox: str, snapshot: str, truth: dict[str, Any]) -> str:
        """Return how a snapshot differs from the truth, an empty string when it is exact."""
        await self._opened.open_for_reading()
        self.checked += 1
        try:
            view = await self.atlas.open_snapshot(snapshot, mailbox)
            await Rig.assert_exact(cast("Rig", self), view, truth)
        except AssertionError as error:
            return f"{mailbox} {snapshot}: not what the mailbox held: {_place(error)}"
        except Exception as error:  # noqa: BLE001 - whatever it is, the comparison failed
            return f"{mailbox} {snapshot}: {type(error).__name__} {error}"
        return ""

    def remember(self, mailbox: str, snapshot: str, truth: dict[str, Any]) -> None:
        """Keep a truth for later, or not: so many are kept, evenly drawn from all (reservoir)."""
        self._seen += 1
        if len(self.past) < REMEMBERED:
            place = len(self.past)
        elif (place := self.random.randrange(self._seen)) >= REMEMBERED:
            return
        path = self.archive / f"{place}.json.gz"
        path.write_bytes(gzip.compress(json.dumps(truth).encode(), 1))
        self.past[place : place + 1] = [Remembered(mailbox, snapshot, path)]

    async def check_past(self, count: int) -> list[str]:
        """Compare so many remembered days again and return what differs."""
        found = []
        for item in self.random.sample(self.past, min(count, len(self.past))):
            truth = json.loads(gzip.decompress(item.truth.read_bytes()))
            found.append(await self.check(item.mailbox, item.snapshot, truth))
        return [text for text in found if text]

    async def take_stock(self) -> Stock:
        """Count the objects, and those that no snapshot and no head names (orphans)."""
        await self._opened.open_for_reading()
        stock = Stock()
        for mailbox in await self._opened.mailbox_ids():
            stock.snapshots += await self._read_mailbox(mailbox)
        heads: set[str] = set()
        for mailbox in await self._opened.mailbox_ids():
            heads |= await self._named_by_head(mailbox)
        async for info in list_all(self._opened.store, ""):
            stock.objects += 1
            stock.bytes_stored += info.size
            stock.orphans += info.key not in self._named and info.key not in heads
        return stock

    async def _read_mailbox(self, mailbox: str) -> int:
        """Note what the new snapshots of a mailbox name; return how many snapshots it has."""
        reader = MailboxReader(self.vault(mailbox))
        ids = await reader.snapshot_ids()
        for snapshot_id in ids:
            if snapshot_id in self._known:
                continue
            descriptor = await reader.descriptor(snapshot_id)
            assert descriptor is not None, snapshot_id
            self._named |= {manifest_key(mailbox, snapshot_id), snapshot_key(mailbox, snapshot_id)}
            self._named |= await self._named_by(mailbox, descriptor)
            self._known.add(snapshot_id)
        return len(ids)

    async def _named_by_head(self, mailbox: str) -> set[str]:
        named = {head_key(mailbox)}
        head = await read_head(self.vault(mailbox))
        for part in (head.snapshot, head.checkpoint) if head is not None else ():
            if part is not None:
                named |= await self._named_by(mailbox, part)
        return named

    async def _named_by(self, mailbox: str, snapshot: Snapshot) -> set[str]:
        """Return what a descriptor names, leaving out segments that were read before."""
        named = set()
        if snapshot.ledger is not None:
            named.add(ledger_key(mailbox, snapshot.ledger.checksum))
        if snapshot.carry:
            named.add(carry_key(mailbox, snapshot.carry))
        for run in snapshot.runs:
            for ref in run.segments:
                key = segment_key(mailbox, ref.checksum)
                if key not in self._named:
                    named |= {key, *await self._named_by_rows(mailbox, ref)}
        return named

    async def _named_by_rows(self, mailbox: str, ref: SegmentRef) -> set[str]:
        named = set()
        for row in (await load_segment(self.vault(mailbox), ref)).rows():
            if is_gone(row):
                continue
            record = cast("MessageRecord", row)
            named.add(message_key(mailbox, record["checksum"]))
            for attachment in record.get("attachments", ()):
                named.add(attachment_key(mailbox, attachment["checksum"]))
        return named


def _place(error: AssertionError) -> str:
    """Return which line of the comparison did not hold, and what its variables were."""
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = traceback.extract_tb(trace)[-1]
    values = trace.tb_frame.f_locals.items()
    shown = {name: repr(value)[:600] for name, value in values if name not in _LONG}
    return f"{frame.line} where {shown}"


_LONG: Final = frozenset({"self", "vault", "resource", "body", "truth", "view", "records"})


@asynccontextmanager
async def open_auditor(settings: Settings, archive: Path, seed: int) -> AsyncIterator[Auditor]:
    """Open an auditor over a store without faults."""
    store = adapter(settings)
    try:
        async with Atlas(settings, store=store) as atlas:
            yield Auditor(atlas, archive, Random(seed))
    finally:
        await store.aclose()
