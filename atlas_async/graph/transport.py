"""The HTTP session to Graph: trust, proxy, time-outs, bounded reading, and what can go wrong."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import anyio.to_thread

from atlas_async.config.settings import GraphSettings, Limits
from atlas_async.errors import GraphError, GraphProtocolError, GraphTransient
from atlas_async.graph.decoding import EndlessAnswerError, decoded
from atlas_async.graph.failures import Failure, Remedy
from atlas_async.graph.links import is_loopback
from atlas_async.graph.persistence import AttemptFailedError

MIB: Final = 1 << 20
CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 60.0
"""Longest silence within an answer. How slowly it may come is for ``decoding`` to say."""
HEAD_SECONDS: Final = CONNECT_SECONDS + 2 * READ_SECONDS
"""From asking to the end of an answer's header, which could trickle as well."""
GROW_BYTES: Final = 256 * 1024
"""Bytes of an answer after which more of the budget is asked for."""
SPARE_CONNECTIONS: Final = 8
ERROR_BYTES: Final = 64 * 1024
READ_BUFFER: Final = 256 * 1024


class Lease(Protocol):
    """A share of the byte budget that grows with what arrives."""

    def try_grow_to(self, size: int) -> bool:
        """Hold at least ``size`` bytes if that is possible at once; tell whether it was."""
        ...

    async def grow_to(self, size: int) -> None:
        """Hold at least ``size`` bytes; may wait."""
        ...


class BytesShortError(Exception):
    """An answer outgrew its lease; ``size`` bytes are to be had before asking again."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes are needed")
        self.size = size


class AnswerTooLongError(Exception):
    """An answer grew beyond the bytes the caller is ready to take."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine contributes, read once and off the event loop."""

    tls: ssl.SSLContext
    proxy: str | None
    user_agent: str


async def open_session(settings: GraphSettings, limits: Limits) -> aiohttp.ClientSession:
    """Open the one session of a tenant; the caller closes it.

    Raises:
        OSError: The CA file cannot be read.
        ssl.SSLError: The CA file holds no certificate.
    """
    found = await anyio.to_thread.run_sync(_look_around, settings)
    connections = limits.mailboxes * limits.requests_per_mailbox + SPARE_CONNECTIONS
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=found.tls, keepalive_timeout=60.0),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
        ),
        headers={"User-Agent": found.user_agent},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=found.proxy,
        read_bufsize=READ_BUFFER,
    )


def _look_around(settings: GraphSettings) -> Surroundings:
    tls = ssl.create_default_context(cafile=settings.ca_file)
    parts = urlsplit(settings.graph_url)
    host = parts.hostname or ""
    direct = is_loopback(host) or bool(urllib.request.proxy_bypass(host))
    # Asked once: aiohttp's own way looks for proxies and a .netrc on every single request.
    proxy = None if direct else urllib.request.getproxies().get(parts.scheme)
    if proxy is not None and "://" not in proxy:
        proxy = f"http://{proxy}"  # as curl reads it
    try:
        release = version("atlas-async")
    except PackageNotFoundError:
        release = "0"
    return Surroundings(tls, proxy, f"ISV|atlas_async|atlas_async/{release}")


@contextmanager
def network_failures(where: str) -> Iterator[None]:
    """Turn what the network does into ``AttemptFailedError``, judged like an answer.

    Args:
        where: Mailbox, folder or message concerned.
    """
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        untrusted = GraphError(
            f"No trusted TLS connection to Microsoft Graph: {_told(error)}",
            hint="Set ATLAS_CA_FILE to the CA certificate of the proxy or private authority in "
            "between, and check that the URL names a TLS endpoint.",
            where=where,
        )
        raise AttemptFailedError(Failure(untrusted)) from error
    except (TimeoutError, aiohttp.ClientPayloadError) as error:
        # Too slow, or cut short: less may come through.
        raise AttemptFailedError(_passing(error, where, heavy=True)) from error
    except aiohttp.InvalidURL as error:
        broken = GraphProtocolError("Microsoft Graph answered with a malformed link", where=where)
        raise AttemptFailedError(Failure(broken)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise AttemptFailedError(_passing(error, where, heavy=False)) from error


def _passing(error: Exception, where: str, *, heavy: bool) -> Failure:
    transient = GraphTransient(
        f"The connection to Microsoft Graph failed: {_told(error)}",
        hint="Check the network, the name service and the proxy; run again, what is stored stays "
        "stored.",
        where=where,
    )
    return Failure(transient, Remedy.BACK_OFF, heavy=heavy)


def _told(error: Exception) -> str:
    """Return in a few words what the network did; no URL is quoted."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "the other side does not speak TLS"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return "the proxy cannot be reached, or refuses"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientPayloadError):
        endless = isinstance(error, EndlessAnswerError)
        return "the answer did not end" if endless else "the answer was cut short"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    text = error.strerror if isinstance(error, OSError) else None
    return text.lower() if text else type(error).__name__


async def read_body(
    response: aiohttp.ClientResponse, lease: Lease | None = None, limit: int | None = None
) -> bytearray:
    """Read the decoded body of an answer, growing the lease as it comes.

    Args:
        response: The answer.
        lease: Told how much is held.
        limit: Bytes after which the rest is abandoned.

    Raises:
        AnswerTooLongError: There is more than ``limit``.
        BytesShortError: The lease cannot grow now; nobody may wait for it here, where a place in
            flight is held.
    """
    body = bytearray()
    held = 0
    async for piece in decoded(response):
        body += piece
        if limit is not None and len(body) > limit:
            raise AnswerTooLongError(f"more than {limit} bytes")
        if lease is not None and len(body) - held >= GROW_BYTES:
            held = len(body)
            if not lease.try_grow_to(held):
                raise BytesShortError(2 * held)
    if lease is not None and not lease.try_grow_to(len(body)):
        raise BytesShortError(len(body))
    return body


async def read_error_body(response: aiohttp.ClientResponse) -> bytes:
    """Read the beginning of an error answer, which is all that is ever needed of it."""
    body = bytearray()
    async for piece in decoded(response):
        body += piece
        if len(body) >= ERROR_BYTES:
            break
    return bytes(body)
