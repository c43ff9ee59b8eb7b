"""Kept connections: one request each, and the right answer to each request."""

from __future__ import annotations

import asyncio
from math import inf

import anyio
import anyio.lowlevel
import pytest

from atlas_async.store.s3_answer import AnswerTooLong
from atlas_async.store.s3_transport import AnswerLost
from tests.fakes.canned_s3 import answer
from tests.fakes.raw_server import Peer
from tests.store.wires import Network, ask, echo, places

MIB = 1 << 20


async def test_requests_share_kept_connections_and_get_their_own_answers(network: Network) -> None:
    """Many requests over few connections: every answer is that of its request."""
    async with network.serving(echo, limit=3) as (wire, server):

        async def use(number: int) -> None:
            body = b"%d" % number * (number * 97)
            got = await ask(wire, str(number), body=body)
            assert got.body == b"PUT /%d HTTP/1.1\n" % number + body

        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(use, number)
        assert len(server.peers) == 3
        assert places(wire) == (0, 3, 3)
        first = await ask(wire)
        assert (await ask(wire)).headers["peer"] == first.headers["peer"]
    assert places(wire) == (0, 0, 0)


async def test_a_body_of_a_mebibyte_arrives_whole_both_ways(network: Network) -> None:
    """Requests and answers larger than any buffer are neither cut nor mixed."""
    body = bytes(range(256)) * (MIB // 256)
    async with network.serving(echo) as (wire, _):
        for _ in range(3):
            assert (await ask(wire, body=body)).body == b"PUT /x HTTP/1.1\n" + body


async def test_waiting_requests_are_served_in_order(network: Network) -> None:
    """With one connection, requests are sent in the order in which they were made."""
    heard: list[bytes] = []

    async def listen(peer: Peer) -> None:
        while True:
            heard.append((await peer.request()).split(b" ")[1])
            await peer.send(answer())

    async with network.serving(listen, limit=1) as (wire, server):
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(ask, wire, str(number))
        assert heard == [b"/%d" % number for number in range(8)]
        assert len(server.peers) == 1


@pytest.mark.parametrize("resend", [True, False])
async def test_a_connection_closed_while_idle_costs_nothing(network: Network, resend: bool) -> None:
    """A close that has been noticed leads to a new connection, whatever the request is."""

    async def answer_once(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, str(peer.number)))

    async with network.serving(answer_once) as (wire, _):
        assert (await ask(wire, resend=resend)).body == b"1"
        assert wire._timer is not None
        wire._timer.cancel()  # it is the connection that tells, not the sweep
        while places(wire) != (0, 0, 0):
            await anyio.sleep(0.001)
        assert (await ask(wire, resend=resend)).body == b"2"


async def hang_up_on_the_second(peer: Peer) -> None:
    """Answer the first request of the first connection; end it at the second."""
    await peer.request()
    await peer.send(answer(200, str(peer.number)))
    if peer.number > 1:
        await peer.gone()
    await peer.request()


async def test_a_kept_connection_that_was_closed_is_replaced_once(network: Network) -> None:
    """The request goes out again over a new connection when it may."""
    async with network.serving(hang_up_on_the_second) as (wire, server):
        assert (await ask(wire)).body == b"1"
        assert (await ask(wire)).body == b"2"
        assert len(server.peers) == 2


async def test_what_may_not_be_sent_again_is_not(network: Network) -> None:
    """Without ``resend`` the same loss is told to the caller."""
    async with network.serving(hang_up_on_the_second) as (wire, server):
        assert (await ask(wire)).body == b"1"
        with pytest.raises(AnswerLost):
            await ask(wire, resend=False)
        assert len(server.peers) == 1
        assert places(wire)[:2] == (0, 0)


async def test_a_new_connection_that_hangs_up_is_not_tried_again(network: Network) -> None:
    """Only what was kept from earlier can be stale."""

    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async with network.serving(hang_up) as (wire, server):
        with pytest.raises(AnswerLost):
            await ask(wire)
        assert len(server.peers) == 1


async def test_a_connection_lost_within_the_answer_is_not_tried_again(network: Network) -> None:
    """Once a byte of the answer was there, the request has been read: its loss is told."""

    async def stop_within(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await peer.request()
        await peer.send(b"H")

    async with network.serving(stop_within) as (wire, server):
        await ask(wire)
        with pytest.raises(AnswerLost):
            await ask(wire)
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (answer(200, b"a", Connection="close"), b"a"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (answer(200, b"a") + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", b"a"),
        (answer(200, b"a") + b"\r\n", b"a"),
        (answer(503, b"e" * (100 << 10)), b"e" * (64 << 10)),
    ],
)
async def test_answers_that_end_their_connection(
    network: Network, reply: bytes, body: bytes
) -> None:
    """The answer stands, and the next request gets another connection and its own answer."""

    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply if peer.number == 1 else answer(200, b"own"))
        if b"to the end" not in reply:
            await peer.gone()

    async with network.serving(once) as (wire, server):
        assert (await ask(wire)).body == body
        assert places(wire)[:2] == (0, 0)
        assert (await ask(wire)).body == b"own"
        assert len(server.peers) == 2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n01234567890",
    ],
)
async def test_a_body_beyond_the_bound_is_given_up(network: Network, reply: bytes) -> None:
    """It is not waited for, its connection is dropped, and the next request has its own answer."""

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply if peer.number == 1 else answer(200, b"0123456789"))
        await peer.gone()

    async with network.serving(endless) as (wire, server):
        with pytest.raises(AnswerTooLong, match="10 bytes"):
            await ask(wire, most=10)
        assert places(wire)[:2] == (0, 0)
        assert (await ask(wire, most=10)).body == b"0123456789"
        assert len(server.peers) == 2


async def test_a_long_refusal_is_a_refusal(network: Network) -> None:
    """The bound is on what a success holds; why something failed is read all the same."""

    async def refuse(peer: Peer) -> None:
        await peer.request()
        for piece in (answer(404, b"NoSuchKey"), b""):
            for byte in piece:
                await peer.send(bytes([byte]))
        await peer.gone()

    async with network.serving(refuse) as (wire, _):
        got = await ask(wire, most=3)
        assert (got.status, got.body) == (404, b"NoSuchKey")


async def test_bytes_on_an_idle_connection_end_it(network: Network) -> None:
    """An answer nobody asked for is never given to the next request."""
    more = asyncio.Event()

    async def babble(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(200, str(peer.number)))
        if peer.number == 1:
            await more.wait()
            await peer.send(answer(200, b"nobody's"))
        await peer.gone()

    async with network.serving(babble) as (wire, _):
        assert (await ask(wire)).body == b"1"
        more.set()
        while places(wire) != (0, 0, 0):
            await anyio.sleep(0.001)
        assert (await ask(wire)).body == b"2"


@pytest.mark.parametrize("size", [0, 1])
async def test_answers_in_pieces_and_interim_answers(network: Network, size: int) -> None:
    """1xx are passed over and pieces put together, on a connection that stays."""
    whole = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + answer(200, b"b" * size, ETag="e")

    async def dribble(peer: Peer) -> None:
        while True:
            await peer.request()
            for byte in whole:
                await peer.send(bytes([byte]))
                await anyio.lowlevel.checkpoint()

    async with network.serving(dribble) as (wire, server):
        for _ in range(2):
            got = await ask(wire)
            assert (got.status, got.headers["etag"], got.body) == (200, "e", b"b" * size)
        assert len(server.peers) == 1


async def test_an_early_refusal_is_taken_and_its_connection_dropped(network: Network) -> None:
    """An answer that comes while the body is on its way is the answer; nothing is sent after it."""

    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(503, b"slow down"))
        await peer.gone()

    async with network.serving(refuse) as (wire, server):
        for expected in (1, 2):
            got = await ask(wire, body=bytes(MIB))
            assert (got.status, got.body) == (503, b"slow down")
            assert places(wire)[:2] == (0, 0)
            assert len(server.peers) == expected


async def test_an_answer_that_overtakes_its_request_ends_the_connection() -> None:
    """While a part of the request is still here, the connection is not fit for another one."""

    async def approve(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(200, b"early"))
        await peer.gone()

    async with Network(None).serving(approve) as (wire, _):
        assert (await ask(wire, body=bytes(16 * MIB), seconds=inf)).body == b"early"
        assert places(wire)[:2] == (0, 0)


async def test_a_connection_that_has_ended_takes_no_request(network: Network) -> None:
    """A request given to it is told as lost at once, instead of waiting for ever."""
    async with network.serving(echo) as (wire, _):
        await ask(wire)
        connection = wire._idle[-1]
        connection.abort()
        while wire._all:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(AnswerLost):
            await connection.exchange([b"x"], bodyless=False)
