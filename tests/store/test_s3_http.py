"""The two ways to an S3 server - the wire, and the HTTP client for streams - beside each other."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from atlas_async.clock import SystemClock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings
from atlas_async.errors import StoreAuthError, StoreError, StoreTransient
from atlas_async.store.s3 import S3Store
from atlas_async.store.s3_exchange import WIRE_BYTES
from tests.fakes.bodies import PatternBody, md5_of
from tests.fakes.canned_s3 import Asked, answer, canned_s3, refusal
from tests.fakes.clock import FakeClock
from tests.fakes.forward_proxy import ForwardProxy
from tests.fakes.raw_server import Peer, raw_server

BODY = b"sealed"
METADATA = {"X-Message-Id": "AAMk=/+", "x-text": "a  b"}
STORED = answer(200, BODY, ETag='"e"', X_Amz_Meta_K="v")


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
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(page), page)
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
