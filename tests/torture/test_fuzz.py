"""Every parser of outside bytes, fed with what nobody should write.

Each gives a value or an error of ours that names the object or the source; never another exception,
and never out of bounds. Parsers of single documents have properties of their own beside their unit
tests; here what they let through is used as the program uses it: listed, read, verified, built on.
"""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from yarl import URL

from atlas_async.catalog import document, segment
from atlas_async.catalog.document import MAGIC, pack, unpack
from atlas_async.catalog.layout import (
    carry_key,
    head_key,
    ledger_key,
    manifest_key,
    segment_key,
    snapshot_key,
)
from atlas_async.catalog.segment import MAGIC as SEGMENT_MAGIC
from atlas_async.catalog.segment import Segment
from atlas_async.config.fields import FIELDS
from atlas_async.config.secret import Secret
from atlas_async.config.sources import inspect_settings
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.crypto.keyring import unwrap_dek
from atlas_async.crypto.spool import StreamOpener
from atlas_async.errors import (
    AtlasError,
    FormatError,
    KeyMaterialError,
    SnapshotNotFound,
    StoreError,
)
from atlas_async.graph.failures import Area, classify, read_refusal, retry_after_seconds
from atlas_async.graph.links import GraphRoot
from atlas_async.model.message import dump_json, load_json
from atlas_async.operations.listing import list_mailboxes, list_snapshots, open_snapshot
from atlas_async.operations.reading import read_message
from atlas_async.operations.verification import verify
from atlas_async.store.s3_answer import AnswerReader, AnswerTooLong, BrokenAnswer, whole_answer
from atlas_async.store.s3_errors import parse_fault, store_error
from atlas_async.store.s3_exchange import LISTING_BYTES
from atlas_async.store.s3_headers import content_length, http_date
from atlas_async.store.s3_listing import parse_listing
from tests.torture.hostile_bucket import ANNA, HostileBucket
from tests.torture.mutants import ODD, byte_mutants, error_of, some_mutants

COUNT = 36
"""Mutants of each document that are drawn."""
NOW = datetime(2026, 4, 20, 12, 0, tzinfo=UTC)


# -- documents of the catalog, and what is done with them -------------------------------------


class Bench:
    """A bucket whose newest snapshot is rebuilt around one mutated part."""

    def __init__(self, bucket: HostileBucket) -> None:
        self.bucket = bucket
        self.newest = list(bucket.known.summaries.values())[-1].snapshot_id
        mine = [s for s in bucket.known.summaries.values() if s.mailbox_id == ANNA]
        self.newest = mine[-1].snapshot_id
        self.descriptor = self._document(snapshot_key(ANNA, self.newest), "snapshot")
        self.head = self._document(head_key(ANNA), "head")

    def _plain(self, key: str) -> bytes:
        return self.bucket.sealer.open(self.bucket.after[-1][key].body)

    def _document(self, key: str, kind: str) -> dict[str, Any]:
        return unpack(self._plain(key), kind=kind, where=key)

    def seal(self, key: str, plaintext: bytes) -> None:
        """Put a sealed object, which only somebody with the key can."""
        self.bucket.put(key, self.bucket.sealer.seal(plaintext).body)

    def descend(self, **changes: Any) -> None:
        """Have the newest descriptor, and the head's copy of it, name other parts."""
        changed = {**copy.deepcopy(self.descriptor), **changes}
        self.seal(snapshot_key(ANNA, self.newest), pack(changed))
        self.seal(head_key(ANNA), pack({**self.head, "snapshot": changed}))

    # Each puts a mutant of one kind of document where the program meets it.

    def put_descriptor(self, mutant: Any) -> None:
        """Put a descriptor; without a head it is what a run goes on from."""
        self.seal(snapshot_key(ANNA, self.newest), pack(mutant))
        del self.bucket.objects[head_key(ANNA)]

    def put_head(self, mutant: Any) -> None:
        """Put a head."""
        self.seal(head_key(ANNA), pack(mutant))

    def put_manifest(self, mutant: Any) -> None:
        """Put a manifest."""
        self.seal(manifest_key(ANNA, self.newest), dump_json(mutant))

    def put_atlas_manifest(self, mutant: Any) -> None:
        """Put a manifest as Atlas writes them: without a descriptor."""
        self.put_manifest(mutant)
        del self.bucket.objects[snapshot_key(ANNA, self.newest)]
        del self.bucket.objects[head_key(ANNA)]

    def put_ledger(self, mutant: Any) -> None:
        """Put a ledger and name it."""
        self.descend(ledger=[self._named(ledger_key, pack(mutant)), 1])

    def put_carry(self, mutant: Any) -> None:
        """Put a carry and name it."""
        self.descend(carry=self._named(carry_key, pack(mutant)))

    def put_rows(self, mutant: Any) -> None:
        """Put a segment of these rows and name it."""
        rows = mutant if isinstance(mutant, list) else [mutant]
        block = zlib.compress(b"\n".join(map(dump_json, rows)))
        index = self._index()
        index["blocks"] = [[index["blocks"][0][0], 0, len(block), len(rows)]]
        self.put_segment(index, block)

    def put_index(self, mutant: Any) -> None:
        """Put a segment with this index and name it."""
        _, blocks = self._segment()
        self.put_segment(mutant, blocks)

    def put_segment(self, index: Any, blocks: bytes) -> None:
        """Put a segment and name it."""
        head = zlib.compress(dump_json(index))
        plain = SEGMENT_MAGIC + struct.pack(">I", len(head)) + head + blocks
        runs = copy.deepcopy(self.descriptor["runs"])
        runs[-1][0][0] = self._named(segment_key, plain)
        self.descend(runs=runs)

    def _named(self, key_of: Callable[[str, str], str], plaintext: bytes) -> str:
        checksum = sha256_hex(plaintext)
        self.seal(key_of(ANNA, checksum), plaintext)
        return checksum

    def _segment(self) -> tuple[dict[str, Any], bytes]:
        plain = self._plain(segment_key(ANNA, self.descriptor["runs"][-1][0][0]))
        (length,) = struct.unpack_from(">I", plain, 4)
        return json.loads(zlib.decompress(plain[8 : 8 + length])), plain[8 + length :]

    def _index(self) -> dict[str, Any]:
        return self._segment()[0]

    def sample(self, kind: str) -> Any:
        """Return the valid document of a kind."""
        ledger, carry = self.descriptor["ledger"][0], self.descriptor["carry"]
        manifest = load_json(self._plain(manifest_key(ANNA, self.newest)))
        assert isinstance(manifest, dict)
        checkpoint = {**self.descriptor, "parent": self.newest}
        return {
            "descriptor": self.descriptor,
            "head": {**self.head, "checkpoint": checkpoint},
            "manifest": manifest,
            "atlas_manifest": {k: v for k, v in manifest.items() if k != "atlas_async"},
            "ledger": self._document(ledger_key(ANNA, ledger), "ledger"),
            "carry": self._document(carry_key(ANNA, carry), "carry"),
            "index": self._index(),
            "rows": [json.loads(line) for line in zlib.decompress(self._segment()[1]).split(b"\n")],
        }[kind]


KINDS = (
    "descriptor", "head", "manifest", "atlas_manifest", "ledger", "carry", "index", "rows",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_document_may_say(kind: str) -> None:
    """A document of any content is listed, read, verified and built on, or refused by name."""
    bucket = HostileBucket()
    await bucket.fill()
    bench = Bench(bucket)
    mailbox = bucket.anna.mailbox
    put = getattr(bench, f"put_{kind}")
    for name, mutant in some_mutants(bench.sample(kind), COUNT, seed=KINDS.index(kind)):
        if name.partition(" = ")[0].endswith(".link"):
            continue  # what a link says is for the mailbox to judge, and this one is a fake
        bucket.reset()
        put(mutant)
        kept = dict(mailbox.messages)
        for error in [error async for error in _use(bucket)]:
            absent = isinstance(error, SnapshotNotFound)  # of a document that lists fewer
            assert error is None or absent or ANNA in f"{error}", (name, error)
        result = await bucket.anna.back_up()
        assert "internal" not in result.error, name
        assert mailbox.messages == kept


async def _use(bucket: HostileBucket) -> Any:
    tenant = bucket.tenant()
    yield await error_of(list_mailboxes(tenant))
    yield await error_of(list_snapshots(tenant, ANNA))
    yield await error_of(_walk(bucket))
    yield await error_of(verify(tenant, lambda _: None))
    message = next(iter(bucket.anna.mailbox.messages))
    yield await error_of(read_message(tenant, message, mailbox=ANNA))


async def _walk(bucket: HostileBucket) -> None:
    view = await open_snapshot(bucket.tenant(), None, ANNA)
    assert view.folders is not None
    _ = [row async for row in view.messages()]
    await view.not_stored()


def _as_document(plain: bytes) -> None:
    unpack(MAGIC + plain, kind="head", where="the key")


def _as_segment(plain: bytes) -> None:
    whole = SEGMENT_MAGIC + struct.pack(">I", len(plain)) + plain
    Segment(whole, mailbox_id=ANNA, where="the key")


@pytest.mark.parametrize("read", [_as_document, _as_segment])
def test_a_bomb_is_given_up(read: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents and segments are inflated to a bound and no further."""
    for module in (document, segment):
        monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    bomb = zlib.compress(b" " * (1 << 20) + b"{}", 1)
    assert len(bomb) < 1 << 14
    with pytest.raises(FormatError, match="the key"):
        read(bomb)


# -- bytes ------------------------------------------------------------------------------------


async def test_damaged_bytes_of_every_object() -> None:
    """Any damage to the plaintext of an object that somebody with the key sealed again."""
    bucket = HostileBucket()
    await bucket.fill()
    bench = Bench(bucket)
    for kind in ("manifest", "descriptor", "head", "segment", "ledger", "carry"):
        key = bucket.known.chain.get(kind, bucket.keys(kind)[-1])
        plain = bucket.sealer.open(bucket.after[-1][key].body)
        for mutant in byte_mutants(plain, 10, seed=len(kind)):
            bucket.reset()
            bench.seal(key, mutant)
            for error in [error async for error in _use(bucket)]:
                absent = isinstance(error, SnapshotNotFound)
                assert error is None or absent or ANNA in f"{error}", error
            await bucket.anna.back_up()


@given(st.binary(max_size=80), st.lists(st.integers(1, 40), max_size=6))
def test_sealed_bytes(data: bytes, cuts: list[int]) -> None:
    """Random bytes open neither whole nor in pieces, and both say so with the key."""
    sealer = HostileBucket().sealer
    with pytest.raises(AtlasError, match="the key"):
        sealer.open(data, where="the key")
    opener = StreamOpener(sealer, where="the key")
    start = 0
    for cut in [*cuts, len(data)]:
        opener.update(data[start : start + cut])
        start += cut
    with pytest.raises(AtlasError, match="the key"):
        opener.finish()


@hypothesis_settings(max_examples=60)
@given(st.binary(max_size=200).filter(lambda blob: len(blob) != 60))
def test_wrapped_keys(blob: bytes) -> None:
    """A blob of any bytes is refused by name, without a derivation unless it has the form."""
    with pytest.raises(KeyMaterialError, match=r"dek\.enc"):
        unwrap_dek(blob, Secret("x"), "tenant")


# -- answers of S3 servers --------------------------------------------------------------------

LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix></Prefix>
<EncodingType>url</EncodingType><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys>
<IsTruncated>true</IsTruncated><NextContinuationToken>abc</NextContinuationToken>
<Contents><Key>data/a%40b/1</Key><LastModified>2026-04-20T12:00:00.000Z</LastModified>
<ETag>&quot;e&quot;</ETag><Size>12</Size></Contents>
<CommonPrefixes><Prefix>data/</Prefix></CommonPrefixes></ListBucketResult>"""
ERROR = b"""<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>The key &lt;x&gt;</Message>
<Region>eu-1</Region><Endpoint>e</Endpoint><BucketName>b</BucketName></Error>"""
ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "e"\r\nx-amz-meta-a: b\r\n'
    b"Date: Mon, 20 Apr 2026 12:00:00 GMT\r\nConnection: keep-alive\r\n\r\nhello"
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("seed", range(4))
def test_listings(seed: int) -> None:
    """A damaged listing is a page or an error with the bucket's name."""
    for body in byte_mutants(LISTING, 250, seed):
        _judge_listing(body)


BILLION = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><ListBucketResult><Name>&b;</Name></ListBucketResult>"""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"{}",
        BILLION,
        BILLION.decode().encode("utf-16"),
        BILLION.decode().encode("utf-16-le"),
        BILLION.decode().replace("?>", ' encoding="utf-7"?>').encode("utf-7"),
        LISTING.replace(b"UTF-8", b"no-such"),
        LISTING.replace(b"UTF-8", b"utf-16"),
        LISTING.replace(b"UTF-8", b"rot13"),
        LISTING.replace(b"UTF-8", b"base64"),
        LISTING.replace(b">12<", b">" + b"9" * 9_000 + b"<"),
        LISTING.replace(b">12<", "١٢".encode().join((b">", b"<"))),
        LISTING.replace(b"2026-04-20T12", b"9999-99-99T99"),
        LISTING.replace(b"abc", b""),
        LISTING.replace(b"data/a%40b/1", b"%ff%00%ed%a0%80"),
        b"<a>" * 30_000 + b"</a>" * 30_000,
        b"<ListBucketResult>" + b"<Contents>" * 30_000,
        b" " * (LISTING_BYTES + 1),
        b'<ListBucketResult xmlns:x="&#0;"/>',
    ],
    ids=range(20),
)
def test_listings_of_another_kind(body: bytes) -> None:
    """Other encodings, entities, depth, digits and sizes: a page or an error with the bucket."""
    _judge_listing(body)


def _judge_listing(body: bytes) -> None:
    try:
        page = parse_listing(body, "s3://bucket")
    except StoreError as error:
        refused: StoreError | None = error
    else:
        refused = None
        assert all(isinstance(info.size, int) for info in page.objects)
        assert "aaaaaaaaaa" not in "".join(info.key for info in page.objects)
    assert refused is None or refused.where == "s3://bucket"


@pytest.mark.parametrize("seed", range(2))
def test_errors_of_s3(seed: int) -> None:
    """A damaged error answer is an error of ours with the key."""
    dice = Random(seed)
    for body in byte_mutants(ERROR, 300, seed):
        status = dice.choice((300, 301, 400, 403, 404, 412, 500, 503, 999))
        headers = {
            name: str(dice.choice(ODD))
            for name in ("retry-after", "date", "x-amz-bucket-region", "x-minio-error-code")
        }
        error = store_error(
            parse_fault(status, headers, body, NOW), "s3:GetObject", "bucket", "the key"
        )
        assert isinstance(error, StoreError)
        assert error.where == "the key"


@pytest.mark.parametrize("sample", [ANSWER, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("bodyless", [False, True])
def test_answers_of_s3(sample: bytes, *, bodyless: bool) -> None:
    """A damaged answer is an answer, none yet, or broken; both readers agree on what is whole."""
    for number, data in enumerate(byte_mutants(sample, 400, seed=5)):
        whole = whole_answer(data, bodyless=bodyless)
        cut = number % (len(data) + 1)
        reader = AnswerReader(bodyless=bodyless, most=100)
        broken = False
        try:
            for piece in (data[:cut], data[cut:]):
                if piece and reader.answer is None:
                    reader.feed(piece)
            reader.end()
        except (BrokenAnswer, AnswerTooLong):
            broken = True
        if whole is not None and len(whole.body) <= 100:
            assert not broken, data
            assert reader.answer == whole, data


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ .{0,30}"))
def test_dates_and_lengths(text: str) -> None:
    """Header fields of any text are a value or nothing."""
    moment = http_date(text)
    assert moment is None or moment.tzinfo is not None
    length = content_length({"content-length": text})
    assert length is None or length >= 0
    for headers in ({"retry-after": text}, {"retry-after": "Mon, 20 Apr 2026", "date": text}):
        seconds = retry_after_seconds(headers, NOW)
        assert seconds is None or 0 <= seconds < 10**9


@pytest.mark.parametrize(
    "text",
    [
        "9" * 5_000, "1e9", "inf", "nan", "-5", "١٢", "²", "1.2.3", "0x10",
        "Fri, 01 Jan 2021 00:00:00 +99999999999999999999", "Fri, 01 Jan 0001 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 99 Xyz 2026 99:99:99 GMT",
    ],
)  # fmt: skip
def test_waits_as_nobody_should_ask_for_them(text: str) -> None:
    """A wait is finite, or none at all."""
    for headers in ({"retry-after": text}, {"retry-after": "5", "date": text}):
        seconds = retry_after_seconds(headers, NOW)
        assert seconds is None or 0 <= seconds < 10**9
        fault = parse_fault(503, headers, b"", NOW)
        assert 0 <= fault.retry_after < 10**9
        assert isinstance(store_error(fault, "s3:PutObject", "b", "k"), StoreError)


# -- answers of Graph -------------------------------------------------------------------------

REFUSAL: dict[str, Any] = {
    "error": {
        "code": "ErrorAccessDenied",
        "message": "Access is denied.",
        "innerError": {"code": "x", "date": "d", "request-id": "r", "innerError": {"code": "y"}},
    }
}


def test_refusals_of_graph() -> None:
    """An error answer of any form and status is judged: one error of ours, one remedy."""
    bodies = [json.dumps(m).encode() for _, m in some_mutants(REFUSAL, 200, seed=1)]
    bodies += list(byte_mutants(json.dumps(REFUSAL).encode(), 200, seed=2))
    deep: Any = {}
    for _ in range(900):
        deep = {"innerError": deep, "code": "x"}
    bodies += [json.dumps({"error": deep}).encode(), b"[" * 60_000, b"\xff\xfe", b"9" * 9_000]
    for number, body in enumerate(bodies):
        status = (300, 400, 401, 403, 404, 405, 410, 429, 500, 507, 599, 999)[number % 12]
        headers = {"retry-after": str(ODD[number % len(ODD)]), "www-authenticate": "claims=\x00"}
        for area in Area:
            refusal = read_refusal(status, headers, body, area=area, where="the folder")
            failure = classify(refusal, headers, empty=not body, now=NOW)
            assert isinstance(failure.error, AtlasError)
            assert "the folder" in str(failure.error)


LINKS = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"https?:[\\/]{0,3}[a-z.@:\\/%#?0-9\[\]-]{1,40}", fullmatch=True),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                ["https://", "http://", "graph.test", "evil.test", "@", ":", "443", "/", "\\",
                 "?", "#", "%2f", "%40", ".", "[", "]", "::1", "\t", "\n", " ", "\u3002", ";", "//"]
            ),
            max_size=9,
        ),
    ),
)  # fmt: skip


@hypothesis_settings(max_examples=250)
@given(LINKS, st.sampled_from(["https://graph.test", "https://graph.test:8443/root/v1.0"]))
def test_links_lead_where_the_http_client_would_go(link: str, own: str) -> None:
    """Two libraries split URLs: what one has judged, the other, which connects, leads nowhere else.

    The token goes along with the request, so they must agree on the host.
    """
    root = GraphRoot(own)
    try:
        adopted = root.adopt(link)
    except AtlasError:
        return
    target = URL(adopted, encoded=True)
    wanted = URL(own)
    assert (target.scheme, target.raw_host, target.port) == ("https", "graph.test", wanted.port)
    assert (target.user, target.password) == (None, None)


# -- settings ---------------------------------------------------------------------------------


def inspect(place: Path, environ: dict[str, str], config: str | bytes | None = None) -> Any:
    """Read settings; commands are replaced by nothing."""
    if config is not None:
        path = place / "atlas.config.json"
        path.write_bytes(config if isinstance(config, bytes) else config.encode("utf-8", "replace"))
    return inspect_settings(cwd=place, home=place, environ=environ, flags={}, need_graph=True)


CONFIG = {
    "tenant_id": "11111111-2222-3333-4444-555555555555",
    "client_id": "11111111-2222-3333-4444-555555555555",
    "client_secret": "secret",
    "storage_url": "file:///tmp",
    "encryption_passphrase": "pass",
    "concurrency": 4,
    "byte_budget": "256MiB",
}
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=40),
    st.sampled_from(
        [
            "file:///" + "a" * 5_000, "file://[", "file:///\x00", "file:///a%00b", "file:///root/x/y",
            "http://[", "http://a:99999999", "https://\ud800", "9" * 6_000, "~", "~root", "\x00",
            "\ud800", "\udcff", "/proc/self/mem", "/dev/full", "s3", "S3://", "file:/x", "'", '"',
        ]
    ),
)  # fmt: skip


@hypothesis_settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from([f.variable for f in FIELDS if not f.variable.endswith("_COMMAND")]),
        VALUES,
        max_size=6,
    )
)
def test_variables_of_any_text(values: dict[str, str]) -> None:
    """Every value is a setting or a problem that names its variable, and all are told at once."""
    place = Path("/nonexistent")
    seen = inspect(place, values)
    assert seen.settings is not None or seen.problems
    for problem in seen.problems:
        assert "ATLAS_" in problem
        assert len(problem) < 10_000
    if seen.settings is not None:
        seen.settings.passphrase.reveal().encode()


@pytest.mark.parametrize("seed", range(2))
def test_configuration_files(seed: int, tmp_path: Path) -> None:
    """A damaged file is read, or is a problem that names it."""
    texts: list[bytes] = list(byte_mutants(json.dumps(CONFIG).encode(), 60, seed))
    texts += [json.dumps(mutant).encode() for _, mutant in some_mutants(CONFIG, 80, seed)]
    for text in texts:
        seen = inspect(tmp_path, {}, text)
        assert seen.settings is not None or seen.problems


@pytest.mark.parametrize(
    "text",
    [
        '{"concurrency": ' + "9" * 5_000 + "}",
        "[" * 100_000,
        '{"a":' * 50_000,
        '{"concurrency": 1e999}',
        '{"concurrency": NaN}',
        "{" + ",".join(f'"k{n}": 1' for n in range(60_000)) + "}",
        "{" + ",".join('"same": 1' for _ in range(60_000)) + "}",
        '{"tenant_id": "\\ud800"}',
        b"\xff\xfe{\x00}\x00",
        b"\x00" * 100,
        b" " * (9 << 20),
    ],
    ids=range(11),
)
def test_configuration_files_of_another_kind(text: str | bytes, tmp_path: Path) -> None:
    """Depth, digits, encodings, thousands of names, and sizes: told, in bounded time."""
    seen = inspect(tmp_path, {}, text)
    assert seen.settings is None
    assert any(str(tmp_path) in problem for problem in seen.problems)
    assert sum(map(len, seen.problems)) < 100_000


def test_dotenv_files(tmp_path: Path) -> None:
    """A damaged ``.env`` is read, or is a problem; nothing else happens."""
    sample = (
        b"ATLAS_TENANT_ID=\"x\"\nexport ATLAS_CLIENT_ID='y'\n# c\nATLAS_PAGE_SIZE=5\\n # z\nX\n"
    )
    for text in [*byte_mutants(sample, 150, seed=9), b"A" * (9 << 20), b"\xff" * 9]:
        (tmp_path / ".env").write_bytes(text)
        seen = inspect(tmp_path, {})
        assert seen.settings is not None or seen.problems


def test_a_file_that_never_ends() -> None:
    """A configuration file without an end is given up."""
    seen = inspect_settings(
        cwd=Path("/"),
        home=Path("/"),
        environ={},
        flags={},
        need_graph=False,
        config_file=Path("/dev/zero"),
    )
    assert seen.settings is None
    assert "/dev/zero" in seen.problems[0]


def test_the_samples_are_valid(tmp_path: Path) -> None:
    """What is damaged above would be read if it were whole."""
    assert inspect(tmp_path, {}, json.dumps(CONFIG)).problems == ()
    assert len(parse_listing(LISTING, "b").objects) == 1
    assert parse_fault(404, {}, ERROR, NOW).code == "NoSuchKey"
    for sample in (ANSWER, CHUNKED):
        reader = AnswerReader(bodyless=False)
        reader.feed(sample)
        assert reader.answer is not None
        assert reader.answer.body == b"hello"
