"""Places where no token and no secret may ever arrive, and what arrived there all the same."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.fakes.raw_server import Peer, raw_server


@dataclass
class Elsewhere:
    """A server of the attacker's on this machine, and every name that anybody looked up.

    ``heard`` holds the first bytes of each connection, ``names`` the names. Names that are not
    this machine's lead to the attacker's server, so that what follows them arrives there.
    """

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def assert_untouched(self) -> None:
        """Nothing came, and no other name than this machine's was asked for."""
        assert self.heard == []
        assert self.names == []


@asynccontextmanager
async def open_elsewhere(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Elsewhere]:
    """Listen for what must not come."""
    found = Elsewhere()

    async def listen(peer: Peer) -> None:
        found.heard.append(await peer.reader.read(1 << 16))
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    plain = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name not in {"127.0.0.1", "::1", "localhost"}:
            found.names.append(name)
            host, port = "127.0.0.1", found.port
        return plain(host, port, *args, **kwargs)

    async with raw_server(listen) as server:
        found.port = server.port
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        yield found
        await asyncio.sleep(0)  # what was sent is read before it is judged
