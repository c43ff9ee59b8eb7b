"""What can go wrong below HTTP on the way to an S3 server, and bodies that stream there."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import aiohttp
import anyio

from atlas_async.clock import Pace
from atlas_async.errors import StoreError, StoreMisconfigured, StoreTransient
from atlas_async.store.base import SpooledBody

TRANSPORT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
"""What the HTTP client raises where the network, TLS or the server's HTTP fail."""


LATER = (
    "check the store and the network to it, then run again: what is stored stays stored, and "
    "the next run continues"
)
"""What to do about a store that fails in passing."""
SLOW_BYTES = 64 << 10
"""An answer that brings less than this while a silence would be given up is given up as well."""


class AnswerLost(aiohttp.ClientError):
    """The connection ended before the answer; whether the request took effect is unknown."""


class UploadStream:
    """A spooled body on its way, which remembers why reading it failed.

    The HTTP client reads the body in a task of its own and would report any error there as a lost
    connection.
    """

    def __init__(self, body: SpooledBody) -> None:
        self.size = body.size
        self.failure: Exception | None = None
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, noting an error on its way through."""
        try:
            async for chunk in self._body.chunks():
                yield chunk
        except Exception as error:
            self.failure = error
            raise


class PacedBody:
    """The body of an answer that comes through aiohttp, which bounds silence and no trickle."""

    def __init__(self, response: aiohttp.ClientResponse, seconds: float) -> None:
        self._content = response.content
        self._pace = Pace(seconds, SLOW_BYTES)

    async def read(self, most: int) -> bytes:
        """Return the next bytes, none at the end. Raises ``TRANSPORT_ERRORS``."""
        began = anyio.current_time()
        piece = await self._content.read(most)
        if piece:
            self._pace.came(len(piece), anyio.current_time() - began)
        return piece


def lost(error: Exception, endpoint: str, body: object = None) -> Exception:
    """Return what to raise for one of ``TRANSPORT_ERRORS``: an error of the body's own as itself.

    Not a context manager: it stands on the path of every request, which pays nothing for this.
    """
    if isinstance(body, UploadStream) and body.failure is not None:
        return body.failure
    return _translate(error, endpoint)


def connect_error(error: Exception, where: str) -> StoreError:
    """Return what to raise where no connection came about.

    Args:
        error: What the resolver, the socket or TLS raised; ``TimeoutError`` for a time-out.
        where: The endpoint.
    """
    if isinstance(error, ssl.CertificateError):
        return StoreMisconfigured(
            f"the store's TLS certificate is not trusted: {error}",
            hint="set ATLAS_CA_FILE to the CA that signed it, and check the endpoint's host name",
            where=where,
        )
    if isinstance(error, ssl.SSLError):
        plain = error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
        return StoreMisconfigured(
            f"TLS with the store failed: {error}",
            hint="the server speaks plain HTTP: write ATLAS_S3_ENDPOINT with http://"
            if plain
            else "check ATLAS_S3_ENDPOINT and ATLAS_CA_FILE",
            where=where,
        )
    return StoreTransient(
        f"the store cannot be reached: {str(error) or 'no answer in time'}",
        hint="check ATLAS_S3_ENDPOINT, and that the server runs and can be reached from here",
        where=where,
    )


def _translate(error: Exception, where: str) -> StoreError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return connect_error(error.certificate_error, where)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return connect_error(error.os_error, where)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return connect_error(error, where)
    if isinstance(error, aiohttp.InvalidURL):  # it is not quoted: it may hold a password
        return StoreMisconfigured(
            "the proxy's URL cannot be used",
            hint="write http_proxy and https_proxy as http://HOST:PORT, or unset them",
            where=where,
        )
    if isinstance(error, TimeoutError):
        return StoreTransient("the store did not answer in time", hint=LATER, where=where)
    if isinstance(error, aiohttp.ClientResponseError):
        # Its own text quotes the URL, which may be the proxy's, with a password.
        text = (
            f"HTTP {error.status} {error.message.splitlines()[0] if error.message else ''}".strip()
        )
    else:
        text = str(error) or type(error).__name__
    return StoreTransient(f"the connection to the store was lost: {text}", hint=LATER, where=where)
