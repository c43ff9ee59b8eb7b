"""Objects of a bucket replaced, damaged, taken away and put back by somebody without the key.

I9: what is read back is checked before a byte is handed on. So whatever lies below a name, each
reader either gives what was written there or names the object with exit code 16; everything else
stays as it was; and the next backup loses nothing.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from atlas_async.catalog.layout import DEK_KEY, head_key, manifest_key, snapshot_key
from atlas_async.config.secret import Secret
from atlas_async.config.settings import DirectorySettings
from atlas_async.crypto.envelope import Sealer
from atlas_async.crypto.keyring import unwrap_dek, wrap_dek
from atlas_async.errors import IntegrityError, KeyMaterialError, SnapshotNotFound
from atlas_async.model.report import Outcome
from atlas_async.operations.listing import list_mailboxes, list_snapshots, open_snapshot
from atlas_async.operations.reading import read_message
from atlas_async.operations.verification import verify
from atlas_async.store.directory import DirectoryStore
from tests.fakes.clock import FakeClock
from tests.fakes.rig import PASSPHRASE, USER, open_rig
from tests.fakes.vaults import md5_of
from tests.torture.hostile_bucket import ANNA, BEN, HostileBucket, findings

KINDS = (
    *("message", "attachment", "original", "manifest"),
    *("descriptor", "segment", "ledger", "carry", "head"),
)
EVERY = 5
"""Of so many bodies one is what the next backup meets; readers meet them all."""
OTHER_TENANT = Sealer(b"another tenant's key, 32 bytes..")


@pytest.fixture
async def hostile() -> HostileBucket:
    """Fill a bucket of two mailboxes."""
    bucket = HostileBucket()
    await bucket.fill()
    return bucket


def bodies(bucket: HostileBucket, key: str) -> Iterator[tuple[str, bytes | None]]:
    """Yield everything that somebody may put below ``key``, with a name; None takes it away."""
    body = bucket.after[-1][key].body
    for kind in KINDS:
        for mailbox in (ANNA, BEN):
            others = [other for other in bucket.keys(kind, mailbox) if other != key]
            if others:
                yield f"a {kind} of {mailbox}", bucket.after[-1][others[0]].body
    for length in (0, 1, 11, 12, 27, 28, len(body) // 2, len(body) - 1):
        yield f"cut to {length}", body[:length]
    for place, name in ((0, "IV"), (12, "tag"), (28, "body"), (len(body) - 1, "end")):
        yield f"a bit of its {name}", body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    yield "grown", body + b"\0"
    yield "of another tenant", OTHER_TENANT.seal(bucket.sealer.open(body)).body
    yield "gone", None


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_lies_below_a_name(hostile: HostileBucket, kind: str) -> None:
    """Every reader gives what was written or names this object; the next backup loses nothing."""
    key = hostile.known.chain.get(kind, hostile.keys(kind)[-1])
    for number, (name, body) in enumerate(bodies(hostile, key)):
        hostile.reset()
        if body is None:
            del hostile.objects[key]
        else:
            hostile.put(key, body)
        if name == "gone" and kind == "manifest":
            continue  # a snapshot without its manifest does not exist: see below
        report = await hostile.examine(key)
        harmless = name == "gone" and kind == "head"
        assert bool(findings(report)) is not harmless, name
        assert report.exit_code == (3 if harmless else 16)
        if number % EVERY and body is not None:
            continue
        first, second = await hostile.goes_on(key)
        assert second.notices == (), name
        told = any(key in notice for notice in first.notices)
        assert told is (kind in hostile.known.chain or (kind == "head" and not harmless)), name


@pytest.mark.parametrize("kind", KINDS)
async def test_an_old_object_of_a_kind_is_no_better(hostile: HostileBucket, kind: str) -> None:
    """The same for what older snapshots are made of: the newest one is untouched."""
    key = hostile.keys(kind)[0]
    for name, body in bodies(hostile, key):
        if body is None:
            continue
        hostile.reset()
        hostile.put(key, body)
        assert findings(await hostile.examine(key)), name


async def test_what_is_right_is_not_complained_of(hostile: HostileBucket) -> None:
    """Nothing is found in a bucket that nobody touched, and its next backup says nothing."""
    report = await hostile.examine("nothing")
    assert (report.exit_code, findings(report)) == (3, [])
    for result in await hostile.goes_on("nothing"):
        assert (result.outcome, result.notices) == (Outcome.PARTIAL, ())


# -- replay: old objects are authentic --------------------------------------------------------


@pytest.mark.parametrize("moment", [0, 2], ids=["two days old", "a day old"])
async def test_an_old_head_does_not_hide_newer_snapshots(
    hostile: HostileBucket, moment: int
) -> None:
    """A head put back from before leads to no older snapshot than there is; nothing is lost."""
    newest = list(await list_snapshots(hostile.tenant(), ANNA))[-1].snapshot_id
    key = head_key(ANNA)
    hostile.put(key, hostile.after[moment][key].body)
    view = await open_snapshot(hostile.tenant(), None, ANNA)
    assert view.summary.snapshot_id == newest
    assert findings(await hostile.examine(key)) == []
    await hostile.goes_on(key)


async def test_a_head_of_the_newest_snapshot_costs_no_further_reading(
    hostile: HostileBucket,
) -> None:
    """Only descriptors that are newer than the head's snapshot are looked at."""
    for key in hostile.keys("descriptor")[:-1]:
        hostile.put(key, b"")
    view = await open_snapshot(hostile.tenant(), None, ANNA)
    assert view.summary.snapshot_id == hostile.keys("descriptor")[-1].rpartition("/")[2]


async def test_a_clock_that_was_wrong_does_not_make_a_snapshot_newer() -> None:
    """Of ids, which come from the clock, none outvotes the head: moments of commits count."""
    bucket = HostileBucket()
    world = bucket.anna
    await world.clock.advance(10 * 365 * 86_400)
    world.mailbox.add(world.inbox)
    early = await world.back_up()
    world.clock = FakeClock()
    world.mailbox.add(world.inbox)
    late = await world.back_up()
    assert early.snapshot_id is not None
    assert late.snapshot_id is not None
    assert early.snapshot_id > late.snapshot_id
    view = await open_snapshot(bucket.tenant(), None, ANNA)
    assert view.summary.snapshot_id == late.snapshot_id


async def test_a_bucket_put_back_as_a_whole_is_not_noticed(hostile: HostileBucket) -> None:
    """What nobody can notice from within the bucket: all of it as it was. Nothing is lost by it.

    The next run has the older cursors, sees the same changes again, and is complete.
    """
    world = hostile.anna
    hostile.objects.clear()
    hostile.objects.update(hostile.after[0])
    assert (await verify(hostile.tenant(), lambda _: None)).exit_code == 3
    result = await world.back_up()
    assert (result.outcome, result.notices) == (Outcome.PARTIAL, ())
    assert await world.shown() == world.state()


async def test_a_manifest_that_is_taken_away_takes_one_snapshot(hostile: HostileBucket) -> None:
    """Deleting is not noticed either; the other snapshots stay exact and the run goes on."""
    key = hostile.keys("manifest")[1]
    gone = key.rpartition("/")[2].removesuffix(".json")
    del hostile.objects[key]
    rest = [item.snapshot_id for item in await list_snapshots(hostile.tenant(), ANNA)]
    assert rest == [i for i in hostile.known.summaries if i in rest]
    assert gone not in rest
    with pytest.raises(SnapshotNotFound):
        await open_snapshot(hostile.tenant(), gone, ANNA)
    assert (await verify(hostile.tenant(), lambda _: None)).exit_code == 3
    hostile.known.summaries.pop(gone)
    await hostile.goes_on(key)


async def test_an_old_manifest_below_another_snapshot(hostile: HostileBucket) -> None:
    """A manifest with its descriptor, put below a made-up id, makes no snapshot."""
    made_up = "019dfd00-0000-7000-8000-000000000000"
    old = hostile.keys("manifest")[0]
    hostile.put(manifest_key(ANNA, made_up), hostile.after[-1][old].body)
    hostile.put(snapshot_key(ANNA, made_up), hostile.after[-1][hostile.keys("descriptor")[0]].body)
    listed = {item.snapshot_id: item for item in await list_snapshots(hostile.tenant(), ANNA)}
    assert "replaced" in listed.pop(made_up).damage
    assert listed == {k: v for k, v in hostile.known.summaries.items() if v.mailbox_id == ANNA}
    view = await open_snapshot(hostile.tenant(), None, ANNA)
    assert view.summary.snapshot_id != made_up
    report = await verify(hostile.tenant(), lambda _: None)
    assert {f.key for f in findings(report)} == {manifest_key(ANNA, made_up)}
    await hostile.anna.back_up()


# -- names that nobody gave -------------------------------------------------------------------

NAMES = (
    "manifests/UPPER@contoso.com/x.json",
    "manifests/\x1b[2Jx/x.json",
    "manifests//x.json",
    "manifests/../x.json",
    f"manifests/{'a' * 600}/x.json",
    f"manifests/{ANNA}/a/b.json",
    f"manifests/{ANNA}/.json",
    f"manifests/{ANNA}/\x07.json",
    f"manifests/{ANNA}/readme.txt",
    f"manifests/{ANNA}/ffffffff-ffff-7fff-8fff-ffffffffffff.json",
    f"manifests/{ANNA}/{'9' * 90}.json",
    f"manifests/{ANNA}/zzzz.json",
)


@pytest.mark.parametrize("key", NAMES, ids=ascii)
async def test_a_strange_key_breaks_nothing(hostile: HostileBucket, key: str) -> None:
    """An object of any name hides no mailbox and no snapshot; verify names it with 16."""
    hostile.put(key, b"junk")
    tenant = hostile.tenant()
    assert [m.mailbox_id for m in await list_mailboxes(tenant)] == [ANNA, BEN]
    for mailbox in (ANNA, BEN):
        listed = [item for item in await list_snapshots(tenant, mailbox) if not item.damage]
        assert listed == [s for s in hostile.known.summaries.values() if s.mailbox_id == mailbox]
        view = await open_snapshot(tenant, None, mailbox)
        assert view.summary == listed[-1]
    report = await verify(tenant, lambda _: None)
    assert report.exit_code == 16
    (found,) = findings(report)
    assert key.startswith(found.key)
    await hostile.goes_on(found.key)


async def test_a_message_is_found_beside_a_mailbox_that_cannot_be_read(
    hostile: HostileBucket,
) -> None:
    """Without naming a mailbox, damage in one of them keeps nobody from another's message."""
    message = next(iter(hostile.ben.mailbox.messages.values()))
    for key in hostile.keys("segment"):
        hostile.put(key, b"x" * 100)
    found = await read_message(hostile.tenant(), f"no{message['id']}"[2:], mailbox=BEN)
    assert (await read_message(hostile.tenant(), found.record["checksum"])) == found
    with pytest.raises(IntegrityError) as caught:
        await read_message(hostile.tenant(), "there is no such message")
    assert caught.value.where in hostile.keys("segment")


async def test_a_mailbox_without_a_snapshot_that_can_be_read(hostile: HostileBucket) -> None:
    """When all of a mailbox is damaged that is said: it is not "no such mailbox"."""
    for kind in ("descriptor", "head"):
        for key in hostile.keys(kind):
            hostile.put(key, b"")
    with pytest.raises(IntegrityError) as caught:
        await open_snapshot(hostile.tenant(), None, ANNA)
    assert hostile.keys("descriptor")[-1] in str(caught.value)
    await hostile.anna.back_up()
    assert await hostile.anna.shown() == hostile.anna.state()


# -- metadata are nobody's proof --------------------------------------------------------------


async def test_metadata_prove_nothing_and_cost_nothing(hostile: HostileBucket) -> None:
    """Swapped, foreign or missing metadata change nothing that is read, verified or stored."""
    keys = [*hostile.keys("message"), *hostile.keys("message", BEN)]
    odd: tuple[dict[str, str], ...] = (
        {},
        {"x-message-id": "\x1b]0;x\x07", "x-plaintext-sha256": "0" * 64},
        {"a": "b" * 2_000},
    )
    for metadata in odd:
        for key in keys:
            stored = hostile.after[-1][key]
            info = replace(stored.info, metadata=metadata)
            hostile.objects[key] = replace(stored, info=info)
        report = await hostile.examine("nothing")
        assert (report.exit_code, findings(report)) == (3, [])
        for result in await hostile.goes_on("nothing"):
            assert result.notices == ()
        hostile.reset()


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b"[" * 200_000, b'{"a":1e999}'])
async def test_damaged_metadata_files_cost_no_object(tmp_path: Path, text: bytes) -> None:
    """In a directory store metadata are files of their own; their damage costs no body."""
    store = DirectoryStore(DirectorySettings(tmp_path), "atlas-x", clock=FakeClock())
    await store.open_bucket(create=True)
    key = f"data/{ANNA}/{'a' * 64}"
    await store.put(key, b"body", md5=md5_of(b"body"), metadata={"x-message-id": "m"})
    (path,) = (tmp_path / "atlas-x" / ".atlas-meta").rglob("*.json")
    path.write_bytes(text)
    assert (await store.get(key)).body == b"body"
    info = await store.head(key)
    assert info is not None
    assert info.size == 4
    async with store.open(key) as reader:
        assert b"".join([piece async for piece in reader]) == b"body"
    await store.put(key, b"body", md5=md5_of(b"body"), metadata={"x-message-id": "m"})
    info = await store.head(key)
    assert info is not None
    assert info.metadata == {"x-message-id": "m"}


# -- the wrapped key --------------------------------------------------------------------------

V1 = struct.Struct(">BBHIBB32s")


def hostile_keys(good: bytes, tenant: str) -> Iterator[tuple[str, bytes]]:
    """Yield what may stand in the place of a v0 key, with a name."""
    other = wrap_dek(b"d" * 32, PASSPHRASE, f"other-{tenant}", version=0)
    yield "another tenant's", other
    for length in (0, 1, 11, 12, 27, 28, 30, 59):
        yield f"cut to {length}", good[:length]
    yield "a bit", bytes([good[0] ^ 1]) + good[1:]
    yield "grown", good + b"\0"
    yield "much too long", bytes(1 << 20)
    for n, r, p in (
        (1 << 31, 8, 1), (1 << 20, 255, 1), (1 << 16, 8, 255), (0, 8, 1), (3, 8, 1),
        (1 << 13, 8, 1), (1 << 16, 0, 1), (1 << 16, 8, 0), ((1 << 16) + 1, 8, 1), (1 << 20, 9, 1),
    ):  # fmt: skip
        yield f"scrypt {n} {r} {p}", V1.pack(1, 1, 38, n, r, p, bytes(32)) + bytes(60)


async def test_a_wrapped_key_that_is_not_ours() -> None:
    """List, read, verify and backup end with 12 and write nothing, whatever lies in its place."""
    async with open_rig() as rig:
        first = await rig.back_up_user()
        objects = dict(rig.bucket.objects)
        good = objects[DEK_KEY]
        for name, blob in hostile_keys(good.body, rig.settings.tenant_id):
            rig.bucket.objects[DEK_KEY] = replace(good, body=blob)
            before = dict(rig.bucket.objects)
            async with rig.engine() as atlas:
                for call in (
                    atlas.list_mailboxes,
                    lambda atlas=atlas: atlas.open_snapshot(first.snapshot_id),
                    lambda atlas=atlas: atlas.read_message("x"),
                    atlas.verify,
                    lambda atlas=atlas: atlas.backup([USER]),
                ):
                    with pytest.raises(KeyMaterialError) as caught:
                        await call()
                    assert caught.value.exit_code == 12, name
                    assert "_meta/dek.enc" in f"{caught.value} {caught.value.hint}", name
            assert rig.bucket.objects == before, name
        rig.bucket.objects[DEK_KEY] = good
        assert (await rig.back_up_user()).outcome is Outcome.UNCHANGED


def test_hostile_parameters_cost_neither_memory_nor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key is derived with parameters that are refused, nor from a blob of no known form."""
    derived: list[object] = []
    blobs = list(hostile_keys(os.urandom(60), "tenant"))
    monkeypatch.setattr("hashlib.scrypt", lambda *args, **kwargs: derived.append(kwargs))
    for name, blob in blobs:
        if not name.startswith("scrypt") and len(blob) == 60:
            continue
        with pytest.raises(KeyMaterialError):
            unwrap_dek(blob, Secret("x"), "tenant")
    assert derived == []


# -- the same through the program -------------------------------------------------------------


@pytest.mark.parametrize("part", ["catalog/{}/head", "manifests/{}/*.json", "data/{}/*"])
async def test_through_the_engine(part: str) -> None:
    """With a real engine over the emulator: 16 and the key, and nothing lost by the next backup."""
    async with open_rig() as rig:
        await rig.back_up_user()
        rig.mutate(op="create", folder="inbox", subject="day two")
        await rig.back_up_user()
        prefix, _, _ = part.format(USER).partition("*")
        key = rig.keys(prefix)[0]
        other = next(k for k in rig.keys(f"catalog/{USER}/segments/"))
        good = rig.bucket.objects[key]
        rig.bucket.objects[key] = replace(good, body=rig.bucket.objects[other].body)
        async with rig.engine() as atlas:
            report = await atlas.verify()
        assert report.exit_code == 16
        assert [f.key for f in findings(report)] == [key]
        assert json.dumps(findings(report)[0].detail)
        rig.mutate(op="create", folder="inbox", subject="day three")
        result = await rig.back_up_user()
        assert result.outcome is Outcome.COMPLETE
        await rig.assert_exact(await rig.view(), rig.truth(), content=not key.startswith("data/"))
        rig.bucket.objects[key] = good if key.startswith("data/") else rig.bucket.objects[key]
        if key.startswith("data/"):
            await rig.assert_exact(await rig.view(), rig.truth())
