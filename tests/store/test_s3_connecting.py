"""How connections come about, and what is said where they do not."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import trustme

from atlas_async.errors import StoreMisconfigured, StoreTransient
from atlas_async.store.s3_wire import Address, Patience, Wire
from tests.fakes.canned_s3 import answer
from tests.fakes.raw_server import Peer, raw_server
from tests.fakes.s3_servers import free_port
from tests.store.wires import PATIENT, ask, echo, places


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, *ports: int, error: Exception | None = None
) -> None:
    """Let a name stand for these ports of the loopback, or for an error."""
    loop = asyncio.get_running_loop()
    ask_system = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **hints: int) -> list[object]:
        if host == "127.0.0.1":  # uvloop asks for addresses, too
            return [*await ask_system(host, port, **hints)]
        if error is not None:
            raise error
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, ("127.0.0.1", number)) for number in ports]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("host", "connect", "error"),
    [
        ("127.0.0.1", 30.0, None),
        ("unknown.example", 30.0, socket.gaierror(socket.EAI_NONAME, "Name not known")),
        ("x" * 64, 30.0, UnicodeError("label too long")),
        ("127.0.0.1", 0.0, None),
    ],
)
async def test_what_cannot_be_reached_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch, host: str, connect: float, error: Exception | None
) -> None:
    """A refused connection, an unknown name and a time-out are transient, with a hint."""
    port = free_port()
    resolve_to(monkeypatch, port, error=error)
    patience = Patience(connect=connect, read=30.0)
    wire = Wire(Address(host, port, None, "endpoint"), connections=1, patience=patience)
    for _ in range(2):  # the place is given back
        with pytest.raises(StoreTransient, match=r"cannot be reached: .") as caught:
            await ask(wire)
        assert "ATLAS_S3_ENDPOINT" in caught.value.hint
    assert places(wire) == (0, 0, 0)
    await wire.aclose()


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first address refuses, the next one serves."""
    async with raw_server(echo) as server:
        resolve_to(monkeypatch, free_port(), server.port)
        wire = Wire(Address("name", server.port, None, "e"), connections=1, patience=PATIENT)
        assert (await ask(wire)).status == 200
        await wire.aclose()


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_must_be_trusted_and_fit_the_name(
    authority: trustme.CA, trusted: bool
) -> None:
    """An unknown authority, and a certificate for another name, are refused with the setting."""
    certificate = authority.issue_cert("elsewhere.example" if trusted else "localhost")
    context = ssl.create_default_context()
    if trusted:
        authority.configure_trust(context)
    async with raw_server(echo, tls=certificate.configure_cert) as server:
        wire = Wire(
            Address("localhost", server.port, context, "e"), connections=1, patience=PATIENT
        )
        with pytest.raises(StoreMisconfigured, match="certificate") as caught:
            await ask(wire)
        assert "ATLAS_CA_FILE" in caught.value.hint
        assert places(wire) == (0, 0, 0)
        await wire.aclose()


async def test_tls_to_a_plain_server_says_so() -> None:
    """The wrong scheme is told as such."""

    async def plain(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(answer(400, "what?"))

    context = ssl.create_default_context()
    async with raw_server(plain) as server:
        wire = Wire(
            Address("localhost", server.port, context, "e"), connections=1, patience=PATIENT
        )
        with pytest.raises(StoreMisconfigured) as caught:
            await ask(wire)
        assert "http://" in caught.value.hint
        await wire.aclose()


async def test_the_name_is_sent_for_the_servers_choice(authority: trustme.CA) -> None:
    """Server Name Indication carries the endpoint's host."""
    names: list[str | None] = []

    def configure(context: ssl.SSLContext) -> None:
        authority.issue_cert("localhost").configure_cert(context)
        context.sni_callback = lambda _object, name, _context: names.append(name)

    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with raw_server(echo, tls=configure) as server:
        wire = Wire(
            Address("localhost", server.port, context, "e"), connections=1, patience=PATIENT
        )
        await ask(wire)
        await wire.aclose()
    assert names == ["localhost"]
