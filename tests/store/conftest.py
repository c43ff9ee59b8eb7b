"""The stores under test, and the servers that some of them need."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import trustme

from atlas_async.config.settings import S3Settings
from tests.fakes import s3_servers
from tests.fakes.forward_proxy import ForwardProxy, forward_proxy
from tests.store.backends import Backend, DirectoryBackend, MemoryBackend, S3Backend
from tests.store.wires import Network

PROXIED = "rclone-proxied"
"""A server behind a proxy: everything goes through the HTTP client that streams use otherwise."""
LOW_LEVEL = {"test_s3_wire.py", "test_s3_wire_ends.py", "test_s3_connecting.py"}
"""Modules whose tests run on every event loop that the product may run on."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run what depends on the event loop's transports on uvloop too."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in LOW_LEVEL and sys.platform != "win32":
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    return loops


KINDS = [
    "memory",
    "directory",
    *(
        pytest.param(name, marks=[pytest.mark.real_server, pytest.mark.xdist_group(name)])
        for name in ("moto", "rclone", "minio", "versitygw")
    ),
    pytest.param(PROXIED, marks=[pytest.mark.real_server, pytest.mark.xdist_group("rclone")]),
]


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """Run moto for the session."""
    with s3_servers.moto(tmp_path_factory.mktemp("moto")) as settings:
        yield settings


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """Run ``rclone serve s3`` for the session."""
    with s3_servers.rclone(tmp_path_factory.mktemp("rclone")) as settings:
        yield settings


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """Run MinIO for the session, where there is one."""
    if s3_servers.minio_path() is None:
        pytest.skip("MinIO not found: not run")
    with s3_servers.minio(tmp_path_factory.mktemp("minio")) as settings:
        yield settings


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Settings]:
    """Run Versity S3 Gateway for the session, where there is one."""
    if s3_servers.versitygw_path() is None:
        pytest.skip("versitygw not found: not run")
    with s3_servers.versitygw(tmp_path_factory.mktemp("versitygw")) as settings:
        yield settings


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ForwardProxy]:
    """Run a proxy, and name it in the environment."""
    async with forward_proxy() as running:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{running.port}")
        monkeypatch.setenv("no_proxy", "")
        yield running


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Give each kind of store in turn."""
    kind = str(request.param)
    if kind == "memory":
        return MemoryBackend()
    if kind == "directory":
        return DirectoryBackend(request.getfixturevalue("tmp_path"))
    if kind == PROXIED:
        request.getfixturevalue("proxy")
        return S3Backend("rclone", request.getfixturevalue("rclone"))
    return S3Backend(kind, request.getfixturevalue(kind))


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Make a certificate authority for the session."""
    return trustme.CA()


@pytest.fixture(params=["http", "https"])
def network(request: pytest.FixtureRequest, authority: trustme.CA) -> Network:
    """Give http and https in turn."""
    return Network(authority if request.param == "https" else None)
