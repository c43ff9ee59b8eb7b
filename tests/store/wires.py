"""Wires to servers whose every byte is the test's, over http and https."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trustme

from atlas_async.store.s3_answer import Answer
from atlas_async.store.s3_wire import Address, Patience, Wire
from tests.fakes.canned_s3 import answer
from tests.fakes.raw_server import Peer, RawServer, Script, raw_server

PATIENT = Patience(connect=30.0, read=30.0)


class Network:
    """Makes servers, and wires to them, over one of http and https."""

    def __init__(self, authority: trustme.CA | None) -> None:
        self._authority = authority

    @asynccontextmanager
    async def serving(
        self, script: Script, *, limit: int = 4, patience: Patience = PATIENT
    ) -> AsyncIterator[tuple[Wire, RawServer]]:
        """Give a wire to a server that plays ``script`` to every connection."""
        tls: Callable[[ssl.SSLContext], None] | None = None
        context = None
        if self._authority is not None:
            tls = self._authority.issue_cert("localhost").configure_cert
            context = ssl.create_default_context()
            self._authority.configure_trust(context)
        async with raw_server(script, tls=tls) as server:
            address = Address("localhost", server.port, context, "the endpoint")
            wire = Wire(address, connections=limit, patience=patience)
            try:
                yield wire, server
            finally:
                await wire.aclose()


async def ask(
    wire: Wire,
    text: str = "x",
    *,
    body: bytes = b"",
    resend: bool = True,
    most: int | None = None,
    seconds: float = 30.0,
) -> Answer:
    """Put ``body`` under the name ``text``."""
    head = f"PUT /{text} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return await wire.exchange(
        [head.encode(), body] if body else [head.encode()],
        bodyless=False,
        resend=resend,
        most=most,
        seconds=seconds,
    )


async def echo(peer: Peer) -> None:
    """Answer each request with its own first line and body."""
    while True:
        await peer.send(answer(200, await peer.request(), Peer=str(peer.number)))


def places(wire: Wire) -> tuple[int, int, int]:
    """Return the places taken, the connections idle, and all that can be used."""
    usable = sum(connection.usable for connection in wire._all)
    return wire._busy, len(wire._idle), usable
