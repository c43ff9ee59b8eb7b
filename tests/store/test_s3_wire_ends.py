"""Time-outs, cancellation and closing: no place and no socket is left behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from atlas_async.errors import StoreMisconfigured
from atlas_async.store.s3_transport import AnswerLost
from atlas_async.store.s3_wire import IDLE_SECONDS, Address, Wire
from tests.fakes.canned_s3 import answer
from tests.fakes.raw_server import Peer, raw_server
from tests.store.wires import PATIENT, Network, ask, echo, places

MIB = 1 << 20


@pytest.mark.parametrize("asked", [0, 1])
async def test_a_server_that_falls_silent_is_given_up(network: Network, asked: int) -> None:
    """Silence before or within an answer is a time-out, not sent again, and ends the connection."""
    silent = asyncio.Event()

    async def fall_silent(peer: Peer) -> None:
        for _ in range(asked):
            await peer.request()
            await peer.send(answer())
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" if asked else b"")
        silent.set()
        await peer.gone()

    async def give_up(wire: Wire) -> None:
        with pytest.raises(TimeoutError):
            await ask(wire)

    async with network.serving(fall_silent) as (wire, server):
        for _ in range(asked):
            await ask(wire)
        async with anyio.create_task_group() as group:
            group.start_soon(give_up, wire)
            await silent.wait()
            now = asyncio.get_running_loop().time()
            wire.sweep(now + PATIENT.read - 1)
            assert places(wire) == (1, 0, 1)
            wire.sweep(now + PATIENT.read + 1)
        assert len(server.peers) == 1
        assert places(wire)[:2] == (0, 0)


async def test_a_large_request_has_a_bound_of_its_own(network: Network) -> None:
    """Until its answer begins the bound counts, not silence; then both do.

    The end comes by the wire's own timer.
    """
    begun, heard = asyncio.Event(), asyncio.Event()

    async def begin_to_answer(peer: Peer) -> None:
        await peer.request()
        heard.set()
        await begun.wait()
        await peer.send(b"H")
        await peer.gone()

    async def give_up(wire: Wire) -> None:
        with pytest.raises(TimeoutError):
            await ask(wire, body=bytes(MIB), seconds=1e6)

    async with network.serving(begin_to_answer, patience=replace(PATIENT, read=0.0)) as (wire, _):
        async with anyio.create_task_group() as group:
            group.start_soon(give_up, wire)
            await heard.wait()
            wire.sweep(asyncio.get_running_loop().time() + 1e5)
            assert places(wire) == (1, 0, 1)
            begun.set()
        assert places(wire)[:2] == (0, 0)


async def test_a_request_that_is_not_taken_is_given_up(network: Network) -> None:
    """Beyond its bound a request ends, though it is still leaving."""
    deaf = asyncio.Event()

    async def turn_deaf(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads
        deaf.set()
        await asyncio.Event().wait()

    async def give_up(wire: Wire) -> None:
        with pytest.raises(TimeoutError):
            await ask(wire, body=bytes(16 * MIB), seconds=100.0)

    async with network.serving(turn_deaf) as (wire, _), anyio.create_task_group() as group:
        group.start_soon(give_up, wire)
        await deaf.wait()
        now = asyncio.get_running_loop().time()
        wire.sweep(now + 50)
        assert places(wire) == (1, 0, 1)
        wire.sweep(now + 101)


async def test_idle_connections_are_dropped_in_time(network: Network) -> None:
    """Servers close unused connections after a while; ours go first."""
    closed = asyncio.Event()

    async def notice(peer: Peer) -> None:
        try:
            await echo(peer)
        finally:
            closed.set()

    async with network.serving(notice) as (wire, _):
        await ask(wire)
        now = asyncio.get_running_loop().time()
        wire.sweep(now + IDLE_SECONDS / 2)
        assert places(wire) == (0, 1, 1)
        wire.sweep(now + IDLE_SECONDS + 1)
        assert places(wire)[:2] == (0, 0)
        await closed.wait()
        assert (await ask(wire)).headers["peer"] == "2"
        wire._idle[-1].touched -= IDLE_SECONDS + 1  # the loop stood still, no sweep came
        assert (await ask(wire)).headers["peer"] == "3"


async def test_a_cancelled_exchange_closes_its_connection(network: Network) -> None:
    """Its late answer can reach nobody, and its place is free again."""
    heard = asyncio.Event()

    async def answer_late(peer: Peer) -> None:
        await peer.request()
        heard.set()
        if peer.number == 1:
            await peer.gone()
        await peer.send(answer(200, str(peer.number)))

    async with network.serving(answer_late, limit=1) as (wire, _):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, wire)
            await heard.wait()
            group.cancel_scope.cancel()
        assert places(wire)[:2] == (0, 0)
        assert (await ask(wire)).body == b"2"


async def test_cancelling_at_any_step_leaves_nothing_behind(network: Network) -> None:
    """Wherever it is cancelled - queued, connecting, sending, answered - the wire stays sound."""
    async with network.serving(echo, limit=2) as (wire, _):
        for steps in range(30):
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(ask, wire, str(number))
                for _ in range(steps):
                    await asyncio.sleep(0)
                group.cancel_scope.cancel()
            assert wire._busy == 0
            got = await ask(wire, "after")
            assert got.body == b"PUT /after HTTP/1.1\n"


async def test_a_turn_is_passed_on_when_its_taker_is_cancelled(network: Network) -> None:
    """A place that was handed to a request cancelled at that moment goes to the next one."""
    async with network.serving(echo, limit=1) as (wire, server):
        await ask(wire)
        connection = await wire._take()
        async with asyncio.TaskGroup() as group:
            taker = group.create_task(ask(wire, "never"))
            follower = group.create_task(ask(wire, "next"))
            await asyncio.sleep(0)
            wire._give(connection)
            taker.cancel()
        assert taker.cancelled()
        assert follower.result().body == b"PUT /next HTTP/1.1\n"
        assert places(wire) == (0, 1, 1)
        assert len(server.peers) == 1


async def test_closing_ends_busy_and_waiting_requests(network: Network) -> None:
    """``aclose`` closes what is idle, busy or waited for, and leaves no socket open."""
    heard = asyncio.Event()
    outcomes: list[str] = []

    async def keep_waiting(peer: Peer) -> None:
        await peer.request()
        heard.set()
        await peer.gone()

    async def use(wire: Wire) -> None:
        with pytest.raises((AnswerLost, StoreMisconfigured)) as caught:
            await ask(wire)
        outcomes.append(type(caught.value).__name__)

    async with network.serving(keep_waiting, limit=1) as (wire, server):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(use, wire)
            await heard.wait()
            await wire.aclose()
            assert (wire._idle, wire._all) == ([], set())
        await wire.aclose()
        assert sorted(outcomes) == ["AnswerLost", "StoreMisconfigured", "StoreMisconfigured"]
        assert len(server.peers) == 1
        with pytest.raises(StoreMisconfigured, match="closed"):
            await ask(wire)
        assert places(wire) == (0, 0, 0)


async def test_closing_while_connecting_lets_no_connection_through() -> None:
    """A connection that comes about after ``aclose`` is closed, not used."""
    closed = asyncio.Event()

    async def notice(peer: Peer) -> None:
        assert await peer.reader.read() == b""
        closed.set()

    async def use(wire: Wire) -> None:
        with pytest.raises(StoreMisconfigured, match="closed"):
            await ask(wire)

    async with raw_server(notice) as server:
        wire = Wire(Address("127.0.0.1", server.port, None, "e"), connections=1, patience=PATIENT)
        async with anyio.create_task_group() as group:
            group.start_soon(use, wire)
            await asyncio.sleep(0)
            await wire.aclose()
        assert places(wire) == (0, 0, 0)
        await closed.wait()


async def test_closing_does_not_wait_for_connections_to_come_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests behind one that is still connecting find the store closed at once."""
    told = asyncio.Event()

    async def never(*_: object, **__: object) -> list[object]:
        await asyncio.Event().wait()
        return []

    async def wait_behind(wire: Wire) -> None:
        with pytest.raises(StoreMisconfigured, match="closed"):
            await ask(wire)
        told.set()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    wire = Wire(Address("name", 1, None, "e"), connections=1, patience=PATIENT)
    async with anyio.create_task_group() as group:
        group.start_soon(ask, wire)
        group.start_soon(wait_behind, wire)
        await anyio.wait_all_tasks_blocked()
        await wire.aclose()
        await told.wait()
        group.cancel_scope.cancel()
    assert places(wire) == (0, 0, 0)
