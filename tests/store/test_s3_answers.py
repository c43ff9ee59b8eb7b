"""What the S3 store makes of answers, lost answers and no answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from atlas_async.clock import Clock, SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings
from atlas_async.errors import (
    BucketNotFound,
    ObjectExists,
    StoreAuthError,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreTransient,
)
from atlas_async.store.s3 import S3Store
from tests.fakes.bodies import PatternBody, md5_of
from tests.fakes.canned_s3 import HANG_UP, answer, canned_s3, refusal
from tests.fakes.clock import FakeClock
from tests.fakes.s3_servers import free_port

EMPTY_LIST = answer(200, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
TAKEN = refusal(412, "PreconditionFailed")
MIB = 1 << 20


@asynccontextmanager
async def opened(settings: S3Settings, clock: Clock | None = None) -> AsyncIterator[S3Store]:
    """Give a store that is closed afterwards."""
    store = S3Store(settings, "atlas-bucket", connections=4, clock=clock or SystemClock())
    try:
        yield store
    finally:
        await store.aclose()


async def put(store: S3Store, *, if_absent: bool = False) -> None:
    """Put a small body."""
    await store.put("a", b"body", md5=md5_of(b"body"), if_absent=if_absent)


def knows_conditions(store: S3Store) -> bool | None:
    """Return what the store has learnt; a call, since an attribute would be narrowed by mypy."""
    return store.conditional_writes


REFUSALS = [
    (403, "InvalidAccessKeyId", StoreAuthError, "ATLAS_S3_ACCESS_KEY"),
    (403, "SignatureDoesNotMatch", StoreAuthError, "ATLAS_S3_SECRET_KEY"),
    (400, "ExpiredToken", StoreAuthError, "renew"),
    (403, "AccessDenied", StoreAuthError, "grant s3:PutObject on bucket atlas-bucket"),
    (404, "NoSuchBucket", BucketNotFound, "creates the bucket"),
    (301, "PermanentRedirect", StoreMisconfigured, "ATLAS_S3_REGION"),
    (400, "InvalidBucketName", StoreMisconfigured, "tenant id"),
    (507, "", StoreFull, "free space"),
    (507, "XMinioStorageFull", StoreFull, "free space"),
    (403, "QuotaExceeded", StoreFull, "free space"),
    (400, "BadDigest", StoreTransient, ""),
    (409, "ConditionalRequestConflict", StoreTransient, ""),
    (503, "SlowDown", StoreTransient, ""),
    (500, "InternalError", StoreTransient, ""),
    (429, "", StoreTransient, ""),
    (400, "RequestTimeout", StoreTransient, ""),
    (400, "EntityTooLarge", StoreError, ""),
    (418, "", StoreError, ""),
]


@pytest.mark.parametrize(("status", "code", "kind", "hint"), REFUSALS)
async def test_refusals_become_typed_errors_with_hints(
    status: int, code: str, kind: type[StoreError], hint: str
) -> None:
    """Each S3 error code is the error a caller can act upon, and says what to do."""
    reply = refusal(status, code) if code else answer(status)
    async with canned_s3(reply) as server, opened(server.settings) as store:
        with pytest.raises(StoreError) as caught:
            await put(store)
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert "secret" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    "reply",
    [
        refusal(400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>"),
        answer(301, x_amz_bucket_region="eu-west-3"),
        refusal(400, "IllegalLocationConstraintException", "<Region>eu-west-3</Region>"),
    ],
)
async def test_a_wrong_region_names_the_right_one(reply: bytes) -> None:
    """The hint names the region the server told."""
    async with canned_s3(reply) as server, opened(server.settings) as store:
        with pytest.raises(StoreMisconfigured) as caught:
            await put(store)
    assert "ATLAS_S3_REGION=eu-west-3" in caught.value.hint


async def test_a_wrong_clock_is_measured() -> None:
    """A skew beyond what S3 accepts is told in seconds, even where HEAD has no body."""
    clock = FakeClock()
    date = format_datetime(clock.now() + timedelta(seconds=3600), usegmt=True)
    replies = (refusal(403, "RequestTimeTooSkewed", Date=date), answer(403, Date=date))
    async with canned_s3(*replies) as server, opened(server.settings, clock) as store:
        with pytest.raises(StoreMisconfigured, match="3600 seconds behind"):
            await put(store)
        with pytest.raises(StoreMisconfigured, match="3600 seconds behind"):
            await store.head("a")


async def test_retry_after_is_passed_on() -> None:
    """The wait that the server asks for travels with the error."""
    reply = refusal(503, "SlowDown", Retry_After="17")
    async with canned_s3(reply) as server, opened(server.settings) as store:
        with pytest.raises(StoreTransient) as caught:
            await put(store)
    assert caught.value.retry_after == 17.0


async def test_a_refused_head_says_that_listing_may_be_missing() -> None:
    """Without s3:ListBucket S3 answers 403 for absent keys: the hint says so."""
    async with canned_s3(answer(403)) as server, opened(server.settings) as store:
        with pytest.raises(StoreAuthError) as caught:
            await store.head("a")
    assert "s3:ListBucket" in caught.value.hint


async def test_a_lost_answer_to_a_conditional_put_is_not_sent_again() -> None:
    """The HTTP client does not repeat a conditional put by itself: the caller must know."""
    async with canned_s3(answer(404), HANG_UP) as server, opened(server.settings) as store:
        with pytest.raises(StoreTransient):
            await put(store, if_absent=True)
    assert [asked.method for asked in server.asked] == ["HEAD", "PUT"]
    assert server.asked[1].headers["if-none-match"] == "*"


async def test_a_lost_answer_is_transient() -> None:
    """A server that hangs up without an answer can be asked again."""
    async with canned_s3(HANG_UP) as server, opened(server.settings) as store:
        with pytest.raises(StoreTransient):
            await put(store)


async def test_a_truncated_body_is_transient() -> None:
    """A body that ends before its announced length raises, read whole or streamed."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: x\r\nConnection: close\r\n\r\nhalf"

    async def hang_up_after(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(cut)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up_after, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = S3Settings(f"http://127.0.0.1:{port}", "us-east-1", "access", Secret("secret"))
    async with server, opened(settings) as store:
        with pytest.raises(StoreTransient):
            await store.get("a")
        async with store.open("a") as reader:
            pieces = aiter(reader)
            assert await anext(pieces) == b"half"
            with pytest.raises(StoreTransient):
                await anext(pieces)


async def read_and_fail(store: S3Store) -> None:
    """Open an object and fail at something else."""
    async with store.open("a") as reader:
        raise OSError("disk full of " + reader.info.key)


async def test_a_callers_own_error_passes_through_an_open_reader() -> None:
    """An ``OSError`` raised by whoever reads is not taken for the network's."""
    async with canned_s3(answer(200, b"body")) as server, opened(server.settings) as store:
        with pytest.raises(OSError, match="disk"):
            await read_and_fail(store)


async def test_a_server_that_honours_conditions_is_believed_after_one_proof() -> None:
    """The first conditional put is proved by a second one; later ones need neither."""
    replies = (answer(404), answer(), TAKEN, answer(), TAKEN)
    async with canned_s3(*replies) as server, opened(server.settings) as store:
        assert knows_conditions(store) is None
        await put(store, if_absent=True)
        assert knows_conditions(store) is True
        await put(store, if_absent=True)
        with pytest.raises(ObjectExists):
            await put(store, if_absent=True)
    assert [asked.method for asked in server.asked] == ["HEAD", "PUT", "PUT", "PUT", "PUT"]


async def test_a_server_that_ignores_conditions_never_overwrites() -> None:
    """Where the proof fails, later conditional puts look first."""
    there = answer(200, b"")
    replies = (answer(404), answer(), answer(), there, answer(404), answer())
    async with canned_s3(*replies) as server, opened(server.settings) as store:
        await put(store, if_absent=True)
        assert knows_conditions(store) is False
        with pytest.raises(ObjectExists):
            await put(store, if_absent=True)
        await put(store, if_absent=True)
    assert [asked.method for asked in server.asked] == ["HEAD", "PUT", "PUT", "HEAD", "HEAD", "PUT"]
    assert "if-none-match" not in server.asked[-1].headers


async def test_a_server_without_conditions_says_so() -> None:
    """501 NotImplemented means the same, and the object is put plainly."""
    replies = (answer(404), refusal(501, "NotImplemented"), answer())
    async with canned_s3(*replies) as server, opened(server.settings) as store:
        await put(store, if_absent=True)
        assert knows_conditions(store) is False


async def test_a_rival_between_look_and_put_wins() -> None:
    """A refusal of the very first conditional put is a proof too."""
    async with canned_s3(answer(404), TAKEN) as server, opened(server.settings) as store:
        with pytest.raises(ObjectExists):
            await put(store, if_absent=True)
        assert knows_conditions(store) is True


async def test_a_spooled_put_is_sent_with_its_length() -> None:
    """A spooled body goes out with Content-Length, MD5 and signed metadata, not chunked."""
    async with canned_s3(answer()) as server, opened(server.settings) as store:
        body = PatternBody(2 * MIB + 5)
        await store.put("a b", body, md5=body.md5(), metadata={"X-Message-Id": "id"})
    asked = server.asked[0]
    assert asked.target == "/atlas-bucket/a%20b"
    assert asked.headers["content-length"] == str(body.size)
    assert "transfer-encoding" not in asked.headers
    assert asked.headers["x-amz-meta-x-message-id"] == "id"
    assert (
        "content-md5;host;x-amz-content-sha256;x-amz-date;x-amz-meta-x-message-id"
        in (asked.headers["authorization"])
    )


async def test_an_early_refusal_of_a_large_put_is_an_error() -> None:
    """A server that answers before it has read the body ends the put."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal(403, "AccessDenied", Connection="close"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = S3Settings(f"http://127.0.0.1:{port}", "us-east-1", "access", Secret("secret"))
    body = PatternBody(16 * MIB)
    async with server, opened(settings) as store:
        with pytest.raises((StoreAuthError, StoreTransient)):
            await store.put("a", body, md5=body.md5())


async def test_an_unreachable_endpoint_is_transient_with_a_hint() -> None:
    """A refused connection names the setting to check."""
    settings = S3Settings(f"http://127.0.0.1:{free_port()}", "r", "access", Secret("secret"))
    async with opened(settings) as store:
        with pytest.raises(StoreTransient) as caught:
            await store.head("a")
    assert "ATLAS_S3_ENDPOINT" in caught.value.hint


async def test_https_to_a_plain_server_says_so() -> None:
    """The wrong scheme is a misconfiguration, with the scheme to write."""

    async def answer_anything(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(400, "what?"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer_anything, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = S3Settings(f"https://127.0.0.1:{port}", "us-east-1", "access", Secret("secret"))
    async with server, opened(settings) as store:
        with pytest.raises(StoreMisconfigured) as caught:
            await store.head("a")
    assert "http://" in caught.value.hint


async def test_http_to_a_tls_server_says_so() -> None:
    """The text with which TLS servers answer plain requests is recognised."""
    reply = answer(400, "Client sent an HTTP request to an HTTPS server.\n")
    async with canned_s3(reply) as server, opened(server.settings) as store:
        with pytest.raises(StoreMisconfigured) as caught:
            await put(store)
    assert "https://" in caught.value.hint


async def test_an_unknown_certificate_asks_for_the_ca_file(tmp_path: Path) -> None:
    """An untrusted certificate names ATLAS_CA_FILE; with the CA given the store works."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("localhost")
    async with canned_s3(EMPTY_LIST, tls=certificate.configure_cert) as server:
        async with opened(server.settings) as store:
            with pytest.raises(StoreMisconfigured) as caught:
                await store.open_bucket(create=False)
        assert "ATLAS_CA_FILE" in caught.value.hint
        trusting = replace(server.settings, ca_file=tmp_path / "ca.pem")
        async with opened(trusting) as store:
            await store.open_bucket(create=False)
        (tmp_path / "bad.pem").write_text("no certificate")
        async with opened(replace(trusting, ca_file=tmp_path / "bad.pem")) as store:
            with pytest.raises(StoreMisconfigured, match="CA file"):
                await store.open_bucket(create=False)


@pytest.mark.parametrize(
    "endpoint", ["localhost:9000", "ftp://host", "http://user:pw@host", "http://"]
)
def test_an_endpoint_that_cannot_be_is_refused(endpoint: str) -> None:
    """An endpoint without scheme or with credentials is refused, without showing them."""
    with pytest.raises(StoreMisconfigured) as caught:
        S3Store(S3Settings(endpoint), "bucket", connections=1, clock=SystemClock())
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("bucket", ["Upper", "a", "../etc", "a..b", "x" * 64, "under_score"])
def test_a_bucket_name_that_cannot_be_is_refused(bucket: str) -> None:
    """A name S3 does not allow is refused before anything is sent."""
    with pytest.raises(StoreMisconfigured):
        S3Store(S3Settings("http://host"), bucket, connections=1, clock=SystemClock())


def test_without_endpoint_the_store_is_aws() -> None:
    """No endpoint means AWS in the region, by path."""
    store = S3Store(S3Settings(None, "eu-west-3"), "bucket", connections=1, clock=SystemClock())
    assert store.name == "s3://s3.eu-west-3.amazonaws.com/bucket"


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``http_proxy`` is honoured, ``no_proxy`` too."""
    async with canned_s3(EMPTY_LIST) as proxy:
        monkeypatch.setenv("http_proxy", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        settings = replace(proxy.settings, endpoint="http://s3.example.test")
        async with opened(settings) as store:
            await store.open_bucket(create=False)
        assert proxy.asked[0].target.startswith("http://s3.example.test/atlas-bucket?")
        monkeypatch.setenv("no_proxy", "localhost")
        async with opened(proxy.settings) as store:
            await store.open_bucket(create=False)
        assert proxy.asked[1].target.startswith("/atlas-bucket?")


async def test_a_closed_store_is_unusable() -> None:
    """After ``aclose`` no connection is opened."""
    async with canned_s3(EMPTY_LIST) as server:
        async with opened(server.settings) as store:
            pass
        with pytest.raises(StoreError, match="closed"):
            await store.head("a")
    assert server.asked == []
