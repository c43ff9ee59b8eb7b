"""The two ways to an S3 server - the wire, and the HTTP client for streams - beside each other."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings
from atlas_async.errors import (
    ObjectTooLarge,
    StoreAuthError,
    StoreError,
    StoreMisconfigured,
    StoreTransient,
)
from atlas_async.store.base import UNKNOWN_SIZE, ObjectInfo
from atlas_async.store.s3 import S3Store
from atlas_async.store.s3_answer import Answer
from atlas_async.store.s3_connection import Connection
from atlas_async.store.s3_errors import MAX_ERROR_BYTES
from atlas_async.store.s3_exchange import WIRE_BYTES
from tests.fakes.bodies import PatternBody, md5_of
from tests.fakes.canned_s3 import Asked, answer, canned_s3, refusal
from tests.fakes.clock import FakeClock
from tests.fakes.forward_proxy import ForwardProxy
from tests.fakes.raw_server import Peer, raw_server
from tests.fakes.s3_servers import free_port

BODY = b"sealed"
METADATA = {"X-Message-Id": "AAMk=/+", "x-text": "a  b"}
STORED = answer(200, BODY, ETag='"e"', X_Amz_Meta_K="v")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def opened(settings: S3Settings) -> AsyncIterator[S3Store]:
    """Give a store whose clock stands still, closed afterwards."""
    store = S3Store(settings, "atlas-bucket", connections=2, clock=FakeClock())
    try:
        yield store
    finally:
        await store.aclose()


def used(store: S3Store) -> tuple[bool, bool]:
    """Return whether the wire, and whether the HTTP client, holds a connection."""
    http = store._http
    connector = http._session.connector if http._session else None
    return bool(http._wire and http._wire._all), bool(connector and connector._conns)


async def talk(settings: S3Settings) -> list[object]:
    """Ask for one of each request; return what came back."""
    async with opened(settings) as store:
        await store.put("a b/ü", BODY, md5=md5_of(BODY), metadata=METADATA)
        await store.put("empty", b"", md5=md5_of(b""))
        head, got = await store.head("a"), await store.get("a+b")
        with pytest.raises(StoreAuthError) as refused:
            await store.list_page("p/", delimiter="/")
        with pytest.raises(StoreError) as failed:
            await store.delete("a")
    return [head, got, str(refused.value), refused.value.hint, str(failed.value)]


def comparable(asked: Asked) -> tuple[str, str, dict[str, str], bytes]:
    """Return a request without what a proxy changes, and without an empty body's headers."""
    left_out = {"connection", "accept"} | (
        {"content-length", "content-type"} if not asked.body else set()
    )
    headers = {name: text for name, text in asked.headers.items() if name not in left_out}
    path = asked.target.partition("/atlas-bucket")[2]
    return asked.method, path, headers, asked.body


async def test_both_ways_ask_and_understand_the_same(proxy: ForwardProxy) -> None:
    """With and without a proxy the same requests go out, and the same results come back."""
    replies = (
        answer(),
        answer(),
        answer(
            200, b"", ETag='"h"', X_Amz_Meta_K="v", Last_Modified="Mon, 20 Apr 2026 11:29:59 GMT"
        ),
        STORED,
        refusal(403, "AccessDenied"),
        refusal(503, "SlowDown", Retry_After="3"),
    )
    async with canned_s3(*replies) as server:
        proxied = await talk(server.settings)
        assert len(proxy.forwarded) == len(replies)
        by_client = [comparable(asked) for asked in server.asked]
        server.asked.clear()
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("no_proxy", "localhost")
            direct = await talk(server.settings)
        assert len(proxy.forwarded) == len(replies)
    assert [comparable(asked) for asked in server.asked] == by_client
    assert direct == proxied


async def test_small_bodies_use_the_wire_and_others_do_not() -> None:
    """The wire takes bodies up to its bound; larger ones, spooled ones and streams pass it by."""
    cases: list[tuple[bytes | PatternBody, tuple[bool, bool]]] = [
        (bytes(WIRE_BYTES), (True, False)),
        (bytes(WIRE_BYTES + 1), (False, True)),
        (PatternBody(10), (False, True)),
    ]
    for body, expected in cases:
        async with canned_s3(answer()) as server, opened(server.settings) as store:
            await store.put("a", body, md5=bytes(16))
            assert used(store) == expected
            assert int(server.asked[0].headers["content-length"]) == len(server.asked[0].body)
    async with canned_s3(STORED) as server, opened(server.settings) as store:
        async with store.open("a") as reader:
            assert b"".join([piece async for piece in reader]) == BODY
        assert used(store) == (False, True)


@pytest.fixture(params=["direct", "proxied"])
def way(request: pytest.FixtureRequest) -> str:
    """Take the wire, and the HTTP client, in turn."""
    way = str(request.param)
    if way == "proxied":
        request.getfixturevalue("proxy")
    return way


async def test_no_piece_of_a_request_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty body is told by its length alone: newer asyncio would send it for ever."""
    sent: list[Sequence[bytes]] = []
    exchange = Connection.exchange

    async def note(self: Connection, message: Sequence[bytes], **how: Any) -> Answer:
        sent.append(message)
        return await exchange(self, message, **how)

    monkeypatch.setattr(Connection, "exchange", note)
    async with canned_s3(answer()) as server, opened(server.settings) as store:
        for body in (b"", b"x"):
            await store.put("a", body, md5=md5_of(body))
    assert [[piece != b"" for piece in message] for message in sent] == [[True], [True, True]]
    assert [asked.headers["content-length"] for asked in server.asked] == ["0", "1"]


@asynccontextmanager
async def unending(reply: bytes) -> AsyncIterator[S3Store]:
    """Open a store that answers with ``reply`` and then neither goes on nor hangs up."""

    async def never_end(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply)
        await peer.gone()

    async with raw_server(never_end) as server:
        settings = S3Settings(f"http://127.0.0.1:{server.port}", "r", "a", Secret("s"))
        async with opened(settings) as store:
            yield store


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        CHUNKED + b"b\r\n01234567890\r\n",
        CHUNKED + b"5\r\n01234\r\n6\r\n567890\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n01234567890",
    ],
)
async def test_a_body_beyond_the_bound_is_not_waited_for(reply: bytes) -> None:
    """However its length is told, an object that is too large is given up before its end."""
    async with unending(reply) as store:
        with pytest.raises(ObjectTooLarge, match="10 bytes"):
            await store.get("a", most=10)


@pytest.mark.usefixtures("way")
async def test_a_refusal_without_end_is_not_waited_for() -> None:
    """Its beginning says what was refused, however long it goes on."""
    length = b"Content-Length: %d\r\n\r\n" % (2 * MAX_ERROR_BYTES)
    told = b"<Code>AccessDenied</Code>".ljust(MAX_ERROR_BYTES + 1)
    async with unending(b"HTTP/1.1 403 Forbidden\r\n" + length + told) as store:
        with pytest.raises(StoreAuthError, match="AccessDenied"):
            await store.get("a", most=10)


@pytest.mark.usefixtures("way")
async def test_an_object_in_chunks_is_read_with_its_length() -> None:
    """Without Content-Length the body's own length counts; a stream's size is not known."""
    chunked = CHUNKED + b"4\r\nseal\r\n2\r\ned\r\n0\r\n\r\n"
    async with canned_s3(chunked) as server, opened(server.settings) as store:
        for most in (None, len(BODY)):
            stored = await store.get("a", most=most)
            assert (stored.info.size, stored.body) == (len(BODY), BODY)
        async with store.open("a") as reader:
            assert reader.info.size == UNKNOWN_SIZE
            assert b"".join([piece async for piece in reader]) == BODY


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("field", [b"", b"Content-Length: %b\r\n" % (b"0" * 5000)])
async def test_a_head_without_a_length_says_what_is_wrong(field: bytes) -> None:
    """An unknown length is not taken for that of an empty, and so damaged, object."""
    reply = b"HTTP/1.1 200 OK\r\n" + field + b"\r\n"
    async with canned_s3(reply) as server, opened(server.settings) as store:
        with pytest.raises(StoreError, match="does not tell the object's length") as caught:
            await store.head("a")
    assert type(caught.value) is StoreError
    assert "Content-Length" in caught.value.hint


@pytest.mark.parametrize(
    "date",
    [
        "yesterday",
        "Mon, 99 Apr 2026 11:29:59 GMT",
        "Mon, 20 Apr 99999999999 11:29:59 GMT",
        "Mon, 20 Apr 2026 11:29:59",
    ],
)
async def test_a_date_that_is_none_is_left_out(date: str) -> None:
    """Neither an object's date nor a refusal's keeps the answer from being understood."""
    found = answer(200, b"", Last_Modified=date)
    replies = (found, found, found, refusal(403, "AccessDenied", Date=date))
    async with canned_s3(*replies) as server, opened(server.settings) as store:
        assert await store.head("a") == ObjectInfo("a", 0)
        assert (await store.get("a")).info == ObjectInfo("a", 0)
        async with store.open("a") as reader:
            assert reader.info == ObjectInfo("a", 0)
        with pytest.raises(StoreAuthError):
            await store.head("a")


async def test_a_proxy_may_be_written_without_its_scheme(
    proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``HOST:PORT`` is read as curl does."""
    monkeypatch.setenv("http_proxy", f"user:hush@127.0.0.1:{proxy.port}")
    async with canned_s3(STORED) as server, opened(server.settings) as store:
        assert (await store.get("a")).body == BODY
    assert len(proxy.forwarded) == 1


async def test_a_proxy_that_is_no_url_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a mistake in the settings, and not tried again."""
    monkeypatch.setenv("http_proxy", "http://user:hush@[::1")
    monkeypatch.setenv("no_proxy", "")
    settings = S3Settings(f"http://127.0.0.1:{free_port()}", "r", "a", Secret("s"))
    async with opened(settings) as store:
        with pytest.raises(StoreMisconfigured, match="proxy") as caught:
            await store.head("a")
    assert "http://HOST:PORT" in caught.value.hint
    assert "hush" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("text", ["a\r\nx-amz-acl: public-read", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("size", [1, WIRE_BYTES + 1])
async def test_a_header_that_would_be_two_is_refused(text: str, size: int) -> None:
    """A line end or NUL in a value never leaves this machine, on either way."""
    async with canned_s3(answer()) as server, opened(server.settings) as store:
        with pytest.raises(StoreError, match="line end"):
            await store.put("a", bytes(size), md5=bytes(16), metadata={"k": text})
        assert server.asked == []
        await store.put("a", bytes(size), md5=bytes(16), metadata={"k": "fine"})


async def test_a_credential_with_a_line_end_is_refused_without_showing_it() -> None:
    """A key file's stray line end is told as a mistake in the settings."""
    async with canned_s3(answer()) as server:
        settings = replace(server.settings, access_key="hush\r\n")
        async with opened(settings) as store:
            with pytest.raises(StoreError, match="line end") as caught:
                await store.head("a")
        assert server.asked == []
    assert "access key" in caught.value.hint
    assert "hush" not in f"{caught.value}{caught.value.hint}"


async def test_a_stale_connection_is_replaced_unless_the_put_is_conditional() -> None:
    """A plain PUT goes out again; a conditional one is told as lost, for it may have been done."""

    async def hang_up(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(404 if peer.number == 1 else 200))
        await peer.request()

    for if_absent, connections in ((False, 2), (True, 1)):
        async with raw_server(hang_up) as server:
            settings = S3Settings(f"http://127.0.0.1:{server.port}", "r", "a", Secret("s"))
            async with opened(settings) as store:
                if if_absent:
                    with pytest.raises(StoreTransient, match="lost"):
                        await store.put("a", BODY, md5=md5_of(BODY), if_absent=True)
                else:
                    assert await store.head("a") is None
                    await store.put("a", BODY, md5=md5_of(BODY))
            assert len(server.peers) == connections


async def test_what_is_no_http_is_transient() -> None:
    """An answer that is none is told as a lost connection, not taken for a success."""

    async def babble(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"220 mail.example ESMTP\r\n")
        await peer.gone()

    async with raw_server(babble) as server:
        settings = S3Settings(f"http://127.0.0.1:{server.port}", "r", "a", Secret("s"))
        async with opened(settings) as store:
            with pytest.raises(StoreTransient, match="does not speak HTTP"):
                await store.put("a", BODY, md5=md5_of(BODY))


async def test_a_listing_in_chunks_is_read() -> None:
    """AWS sends listings chunked."""
    page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    chunked = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(page), page)
    async with canned_s3(chunked) as server, opened(server.settings) as store:
        for _ in range(2):
            assert (await store.list_page("")).objects == ()


def ipv6_works() -> bool:
    """Return whether the loopback has an IPv6 address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6_works(), reason="no IPv6 here")
async def test_an_endpoint_may_be_an_ipv6_address() -> None:
    """The brackets are the address's; Host keeps them."""
    heads: list[str] = []

    async def note(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(answer(404))

    async with raw_server(note, host="::1") as server:
        settings = S3Settings(f"http://[::1]:{server.port}", "r", "a", Secret("s"))
        async with opened(settings) as store:
            assert await store.head("a") is None
    assert f"host: [::1]:{server.port}\r\n" in heads[0]


async def test_https_with_the_authority_of_the_settings(tmp_path: Path) -> None:
    """Over TLS the wire trusts ATLAS_CA_FILE, and puts and gets as over http."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = authority.issue_cert("localhost").configure_cert
    async with canned_s3(answer(), STORED, tls=tls) as server:
        settings = replace(server.settings, ca_file=tmp_path / "ca.pem")
        async with opened(settings) as store:
            await store.put("a", bytes(WIRE_BYTES), md5=bytes(16))
            assert (await store.get("a")).body == BODY
            assert used(store) == (True, False)
    assert len(server.asked[0].body) == WIRE_BYTES


async def test_closing_a_store_that_was_never_used_is_fine() -> None:
    """Nothing was opened, nothing is to be closed."""
    store = S3Store(S3Settings("http://host"), "bucket", connections=1, clock=SystemClock())
    await store.aclose()
