"""Verification tells damaged, missing and foreign apart, and looks at every object once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import anyio
import pytest

from atlas_async.catalog.layout import ledger_key, manifest_key, segment_key, snapshot_key
from atlas_async.catalog.snapshot import Snapshot
from atlas_async.errors import SnapshotNotFound, StoreTransient
from atlas_async.model.events import Event, VerifyProgress
from atlas_async.model.record import attachment_key, message_key
from atlas_async.model.report import NotStored
from atlas_async.operations.verification import LARGE_AT_ONCE, Finding, VerifyReport, verify
from atlas_async.store.base import ObjectReader, ObjectStore
from atlas_async.store.faulty import Failure, Fault, FaultyStore
from atlas_async.store.intercepted import InterceptedStore, Op, Request, enter_through
from atlas_async.store.memory import MemoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.commits import Letter, committed
from tests.fakes.tenants import open_tenant
from tests.fakes.vaults import (
    MAILBOX,
    OTHER_MAILBOX,
    existing_store,
    new_vault,
    plant,
    sha256_of,
)

T = TypeVar("T")

FILES = {"plan.pdf": b"plan" * 50, "photo.png": b"photo" * 50}
MISSING = NotStored("attachment", "m1", "F1", "Code", "not readable", permanent=True)


class Bench:
    """Two mailboxes of two and one snapshots, and the names of their objects."""

    def __init__(self, store: MemoryStore, first: Snapshot, second: Snapshot) -> None:
        self.store = store
        self.first = first
        self.second = second
        self.objects = store.bucket.objects

    async def verify(self, **which: str) -> VerifyReport:
        """Verify what ``which`` says, everything by default."""
        return await verify(open_tenant(self.store), _ignore, **which)

    def named(self, part: str) -> str:
        """Return the key of one object of the kind named."""
        segment = self.second.runs[1].segments[0].checksum
        return {
            "message": next(k for k in self.objects if k.startswith(f"data/{MAILBOX}/")),
            "attachment": attachment_key(MAILBOX, sha256_of(FILES["plan.pdf"])),
            "manifest": manifest_key(MAILBOX, "snap-1"),
            "descriptor": snapshot_key(MAILBOX, "snap-2"),
            "segment": segment_key(MAILBOX, segment),
        }[part]


def _ignore(event: Event) -> None:
    del event


@pytest.fixture
async def bench() -> Bench:
    """Commit two snapshots of one mailbox and one of another."""
    store = existing_store()
    vault = new_vault(store)
    letters: dict[str, Letter | None] = {f"m{n}": Letter(f"letter {n}") for n in range(6)}
    letters["rich"] = Letter("with files", FILES)
    first = await committed(vault, "snap-1", letters)
    changes: dict[str, Letter | None] = {"m0": None, "m1": Letter("changed"), "new": Letter("new")}
    second = await committed(
        vault, "snap-2", changes, base=first, created_at="2026-04-21T12:00:00.000Z"
    )
    other: dict[str, Letter | None] = {"o1": Letter("of the other", {"x.bin": b"other file"})}
    await committed(new_vault(store, OTHER_MAILBOX), "snap-3", other)
    return Bench(store, first, second)


def findings(report: VerifyReport) -> dict[str, list[Finding]]:
    """Return what was found, by kind of trouble, without the empty kinds."""
    found = {"damaged": report.damaged, "missing": report.missing, "foreign": report.foreign}
    return {kind: items for kind, items in found.items() if items}


async def test_an_intact_bucket_has_nothing_wrong(bench: Bench) -> None:
    """Every message and attachment object is counted once, and the exit code is 0."""
    report = await bench.verify()
    assert findings(report) == {}
    assert (report.exit_code, report.snapshots) == (0, 3)
    kinds = Counter(key.split("/")[0] for key in bench.objects)
    assert (report.messages, report.attachments) == (kinds["data"], kinds["attachments"])
    segments = sum("/segments/" in key for key in bench.objects)
    assert report.checked == report.ok == 3 + segments + kinds["data"] + kinds["attachments"]


@pytest.mark.parametrize("part", ["message", "attachment", "manifest", "descriptor", "segment"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
async def test_a_changed_object_is_damaged(bench: Bench, part: str, damage: str) -> None:
    """A flipped bit and a truncation are told as damage, with the object's key."""
    key = bench.named(part)
    body = bench.objects[key].body
    flipped = body[:-1] + bytes([body[-1] ^ 1])
    await plant(bench.store, key, {"flip": flipped, "cut": body[:-7], "empty": b""}[damage])
    report = await bench.verify()
    assert report.exit_code == 16
    assert [f.key for f in findings(report)["damaged"]] == [key]
    assert findings(report).keys() == {"damaged"}
    (finding,) = report.damaged
    assert (finding.mailbox_id, finding.kind) == (MAILBOX, _kind(part))
    assert report.checked == report.ok + 1


@pytest.mark.parametrize("part", ["message", "attachment", "descriptor", "segment"])
async def test_an_absent_object_is_missing(bench: Bench, part: str) -> None:
    """What a snapshot names and nobody has is told as missing."""
    key = bench.named(part)
    await bench.store.delete(key)
    report = await bench.verify()
    assert report.exit_code == 16
    assert findings(report).keys() == {"missing"}
    assert [(f.key, f.kind) for f in report.missing] == [(key, _kind(part))]


def _kind(part: str) -> str:
    return "snapshot" if part in {"manifest", "descriptor"} else part


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("message", "another message"),
        ("message", "an attachment"),
        ("attachment", "another attachment"),
        ("attachment", "a segment"),
        ("descriptor", "another descriptor"),
        ("descriptor", "a descriptor of another mailbox"),
        ("descriptor", "a manifest"),
        ("manifest", "another manifest"),
        ("manifest", "a manifest of another mailbox"),
        ("segment", "another segment"),
        ("segment", "a segment of another mailbox"),
    ],
)
async def test_an_object_in_anothers_place_is_foreign(bench: Bench, part: str, source: str) -> None:
    """Any authentic object of the tenant is found out when it lies below another name."""
    key = bench.named(part)
    await plant(bench.store, key, bench.objects[_source(bench, source)].body)
    report = await bench.verify()
    assert report.exit_code == 16
    assert findings(report).keys() == {"foreign"}
    assert [(f.key, f.kind) for f in report.foreign] == [(key, _kind(part))]


def _source(bench: Bench, source: str) -> str:
    segments = [k for k in bench.objects if k.startswith(f"catalog/{MAILBOX}/segments/")]
    return {
        "another message": [k for k in bench.objects if k.startswith(f"data/{MAILBOX}/")][1],
        "an attachment": bench.named("attachment"),
        "another attachment": attachment_key(MAILBOX, sha256_of(FILES["photo.png"])),
        "a segment": bench.named("segment"),
        "another segment": next(k for k in segments if k != bench.named("segment")),
        "a segment of another mailbox": next(
            k for k in bench.objects if k.startswith(f"catalog/{OTHER_MAILBOX}/segments/")
        ),
        "another descriptor": snapshot_key(MAILBOX, "snap-1"),
        "a descriptor of another mailbox": snapshot_key(OTHER_MAILBOX, "snap-3"),
        "a manifest": manifest_key(MAILBOX, "snap-2"),
        "another manifest": manifest_key(MAILBOX, "snap-2"),
        "a manifest of another mailbox": manifest_key(OTHER_MAILBOX, "snap-3"),
    }[source]


async def test_troubles_of_every_kind_are_told_apart(bench: Bench) -> None:
    """One damaged, one missing and one foreign object are three findings."""
    messages = [k for k in bench.objects if k.startswith(f"data/{MAILBOX}/")]
    await plant(bench.store, messages[0], bench.objects[messages[0]].body[:-1])
    await bench.store.delete(messages[1])
    await plant(bench.store, messages[2], bench.objects[messages[3]].body)
    report = await bench.verify()
    assert [f.key for f in report.damaged] == [messages[0]]
    assert [f.key for f in report.missing] == [messages[1]]
    assert [f.key for f in report.foreign] == [messages[2]]
    assert report.checked == report.ok + 3


async def test_a_damaged_descriptor_does_not_hide_damage_in_messages(bench: Bench) -> None:
    """What a readable manifest names is checked although its descriptor cannot be read."""
    for name in ("snap-1", "snap-2"):
        await plant(bench.store, snapshot_key(MAILBOX, name), b"x" * 60)
    key = bench.named("message")
    await bench.store.delete(key)
    report = await bench.verify(mailbox=MAILBOX)
    assert {f.key for f in report.damaged} == {
        snapshot_key(MAILBOX, name) for name in ("snap-1", "snap-2")
    }
    assert [f.key for f in report.missing] == [key]


async def test_one_snapshot_or_one_mailbox_is_verified_alone(bench: Bench) -> None:
    """Trouble elsewhere is not looked for."""
    gone = message_key(MAILBOX, sha256_of(b'{"id":"new","subject":"new","isRead":false}'))
    assert gone in bench.objects
    await bench.store.delete(gone)
    assert (await bench.verify(snapshot="snap-1")).exit_code == 0
    assert (await bench.verify(mailbox=OTHER_MAILBOX)).exit_code == 0
    assert (await bench.verify(mailbox=f" {MAILBOX.upper()} ")).exit_code == 16
    report = await bench.verify(snapshot="snap-2")
    assert [(f.key, f.snapshot_id) for f in report.missing] == [(gone, "snap-2")]


async def test_what_was_never_stored_is_told_without_an_error() -> None:
    """All that is there is intact but something is missing by the ledger: exit code 3."""
    store = existing_store()
    await committed(new_vault(store), "snap-1", {"m1": Letter("one")}, ledger=[MISSING])
    report = await verify(open_tenant(store), _ignore)
    assert (report.exit_code, findings(report)) == (3, {})
    assert [(e.object_id, e.code) for e in report.not_stored] == [("m1", "Code")]


@pytest.mark.parametrize("trouble", ["damaged", "missing", "foreign"])
async def test_trouble_with_a_ledger_is_told(trouble: str) -> None:
    """A ledger is one of the objects a snapshot names."""
    store = existing_store()
    letters: dict[str, Letter | None] = {"m1": Letter("one")}
    snapshot = await committed(new_vault(store), "snap-1", letters, ledger=[MISSING])
    assert snapshot.ledger is not None
    key = ledger_key(MAILBOX, snapshot.ledger.checksum)
    if trouble == "missing":
        await store.delete(key)
    elif trouble == "damaged":
        await plant(store, key, b"x" * 90)
    else:
        await plant(store, key, store.bucket.objects[snapshot_key(MAILBOX, "snap-1")].body)
    report = await verify(open_tenant(store), _ignore)
    assert findings(report).keys() == {trouble}
    assert [f.key for f in findings(report)[trouble]] == [key]
    assert report.exit_code == 16


class Watch:
    """Notes which keys are read."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Note the request and let it pass."""
        if request.op in {Op.GET, Op.OPEN}:
            self.read[request.key] += 1
        return await call()

    def stream(
        self, request: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AbstractAsyncContextManager[ObjectReader]:
        """Note opening."""
        return enter_through(self, request, enter)


async def test_every_object_is_read_once_however_many_snapshots_name_it(bench: Bench) -> None:
    """A hundred snapshots of one mailbox cost its objects' size once."""
    vault = new_vault(bench.store)
    newest = bench.second
    for number in range(5):
        moment = f"2026-05-{number + 1:02d}T12:00:00.000Z"
        letters: dict[str, Letter | None] = {"m2": Letter(f"again {number}")}
        newest = await committed(
            vault, f"snap-more-{number}", letters, base=newest, created_at=moment
        )
    watch = Watch()
    store: ObjectStore = InterceptedStore(bench.store, watch, owned=False)
    report = await verify(open_tenant(store), _ignore)
    assert report.exit_code == 0
    content = {k: n for k, n in watch.read.items() if not k.startswith(("manifests/", "catalog/"))}
    assert set(content.values()) == {1}
    assert len(content) == report.messages + report.attachments
    segments = {k: n for k, n in watch.read.items() if "/segments/" in k}
    assert set(segments.values()) == {1}


async def test_nothing_to_verify_is_an_error(bench: Bench) -> None:
    """A mailbox or snapshot that is not there ends with exit code 10, not with success."""
    for which in ({"mailbox": "nobody@contoso.com"}, {"snapshot": "unknown"}):
        with pytest.raises(SnapshotNotFound) as caught:
            await bench.verify(**which)
        assert caught.value.exit_code == 10


async def test_a_failing_store_is_no_finding(bench: Bench) -> None:
    """When objects cannot be read at all the verification fails as a whole, typed."""
    fault = Fault(Failure.REFUSED, Op.GET, "^data/", times=None)
    store = FaultyStore(bench.store, [fault], clock=FakeClock())
    with pytest.raises(StoreTransient):
        await verify(open_tenant(store), _ignore)


async def test_progress_ends_with_all_objects_checked(bench: Bench) -> None:
    """The last event of each mailbox says how many objects were looked at."""
    events: list[Event] = []
    await verify(open_tenant(bench.store), events.append)
    progress = [e for e in events if isinstance(e, VerifyProgress)]
    assert [e.mailbox_id for e in progress] == [MAILBOX, OTHER_MAILBOX]
    assert {(e.damaged, e.missing) for e in progress} == {(0, 0)}
    assert all(e.checked <= e.total for e in progress)


class Counting:
    """Counts how many objects are being streamed."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0

    async def run(self, request: Request, call: Callable[[], Awaitable[T]]) -> T:
        """Make the request."""
        return await call()

    @asynccontextmanager
    async def stream(
        self, _: Request, enter: Callable[[], AbstractAsyncContextManager[ObjectReader]]
    ) -> AsyncIterator[ObjectReader]:
        """Open the reader, and give others time to do the same."""
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await anyio.sleep(0.01)
            async with enter() as reader:
                yield reader
        finally:
            self.open -= 1


async def test_few_large_objects_are_checked_at_once() -> None:
    """However many there are: each is streamed through some MiB."""
    store = existing_store()
    files = {f"{number}.bin": bytes([number]) * 300_000 for number in range(24)}
    await committed(new_vault(store), "snap-1", {"m1": Letter("large", files)})
    counting = Counting()
    report = await verify(open_tenant(InterceptedStore(store, counting)), _ignore)
    assert report.attachments == 24
    assert report.exit_code == 0
    assert 1 < counting.most <= LARGE_AT_ONCE
