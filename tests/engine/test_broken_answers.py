"""Answers whose compression is broken are a fault of the network, tried again like any other."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from atlas_async.errors import GraphTransient
from atlas_async.graph.persistence import AttemptFailedError
from atlas_async.graph.transport import network_failures, read_body

HEADERS = {"Content-Encoding": "gzip", "Content-Type": "application/json"}


async def test_broken_gzip_is_a_passing_failure() -> None:
    """A body that does not decompress leaves the adapter as a typed error."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b\x08\x00garbagegarbage", headers=HEADERS)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as session:
            with pytest.raises(AttemptFailedError) as caught, network_failures("a message"):
                async with session.get(f"http://127.0.0.1:{port}/") as response:
                    await read_body(response)
    finally:
        await runner.cleanup()
    assert isinstance(caught.value.failure.error, GraphTransient)
    assert caught.value.failure.error.where == "a message"
