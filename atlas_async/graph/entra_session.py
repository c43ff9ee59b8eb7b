"""Talk to Entra ID over HTTP for msal: trust, time-outs, and plain http on the loopback.

Imported only once a token is needed, because it brings requests along.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
from msal.authority import WELL_KNOWN_AUTHORITY_HOSTS
from requests.adapters import HTTPAdapter
from urllib3.exceptions import (
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from atlas_async.graph.links import require_confidential

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

HTTPS_PORT: Final = 443
CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 120.0
"""The longest an answer may take from its header to its end."""
MOST_BYTES: Final = 1 << 20
"""Metadata and tokens are some thousand bytes."""
PIECE_BYTES: Final = 64 << 10
PASSING_STATUSES: Final = frozenset({408, 429})


class UnavailableError(requests.exceptions.RequestException):
    """An answer that says nothing about the credential; the text says in a few words what came."""


class ForeignEndpointError(requests.exceptions.RequestException):
    """A credential would have gone to another host than the authority's; the text names it."""


class BoundedAdapter(HTTPAdapter):
    """Reads answers whole, within bounds: a time-out of requests limits silence, not a trickle.

    What is no answer of Entra ID's, or one that may pass, is told from a refusal here: msal takes
    some of these for an unknown tenant.
    """

    def send(self, request: PreparedRequest, **options: Any) -> Response:  # type: ignore[override]  # options are handed on as they are
        """Send and read.

        Raises:
            requests.ConnectionError: The answer is cut short, or much too long.
            requests.Timeout: It does not come, or does not come to its end in time.
            UnavailableError: It is no answer to build on.
        """
        response = super().send(request, **{**options, "stream": True})
        try:
            # Only then does the body count as read.
            response._content = _whole(response)  # noqa: SLF001 - requests has no setter
        finally:
            response.close()
        _check(response)
        return response


def _check(response: Response) -> None:
    status = response.status_code
    if status in PASSING_STATUSES or status >= 500:  # noqa: PLR2004 - the server's errors
        raise UnavailableError(f"HTTP {status}")
    if 300 <= status < 400:  # noqa: PLR2004 - the redirects
        raise UnavailableError("a redirect")
    if response.ok:
        try:
            json.loads(response.content)
        except ValueError:
            raise UnavailableError("something that is not JSON") from None


def _whole(response: Response) -> bytes:
    ends = monotonic() + ANSWER_SECONDS
    body = bytearray()
    try:
        while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > MOST_BYTES:
                raise requests.exceptions.ConnectionError("the answer does not end")
            if monotonic() > ends:
                raise requests.exceptions.ReadTimeout("the answer trickles")
    except ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from error
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from error
    return bytes(body)


class LoopbackAdapter(BoundedAdapter):
    """Sends requests for one https origin to the same origin over plain http.

    msal insists on https authorities. An authority on the loopback may speak plain http; the
    answers are turned round as well, because they name endpoints.
    """

    def __init__(self, https_origin: str) -> None:
        super().__init__()
        self._https_origin = https_origin
        self._http_origin = "http" + https_origin.removeprefix("https")

    def send(self, request: PreparedRequest, **options: Any) -> Response:  # type: ignore[override]  # options are handed on as they are
        """Send over plain http and answer as though it had been https."""
        request.url = (request.url or "").replace(self._https_origin, self._http_origin, 1)
        response = super().send(request, **options)
        plain, secure = self._http_origin.encode(), self._https_origin.encode()
        response._content = response.content.replace(plain, secure)  # noqa: SLF001 - the same
        return response


class EntraSession(requests.Session):
    """What msal sends its requests with: one retry of connecting, time-outs, one trust store.

    Args:
        ca_file: PEM file that replaces the system's trust store, or None.
        loopback: The https form of a plain-http authority on the loopback, or None.
        authority: The https form of the authority.
    """

    def __init__(self, ca_file: Path | None, loopback: str | None, authority: str) -> None:
        super().__init__()
        self._own = _origin(authority)
        self._ca_file = str(ca_file) if ca_file else None
        self.mount("https://", BoundedAdapter())
        if loopback:
            self.trust_env = False
            self.mount(loopback, LoopbackAdapter(loopback))

    def request(self, method: str, url: str, **options: Any) -> Response:  # type: ignore[override]  # options are handed on as they are
        """Send one request, never following a redirect with a credential.

        What is posted holds the credential. msal posts to whatever endpoint the authority's
        metadata name, which may have been answered by somebody else.

        Raises:
            ForeignEndpointError: A credential would go to another host.
        """
        if method.upper() != "GET" and not self._may_have_credentials(_origin(url)):
            raise ForeignEndpointError(_named(url))
        options.setdefault("timeout", (CONNECT_SECONDS, READ_SECONDS))
        options["allow_redirects"] = False
        if self._ca_file:
            # Said per request: an environment variable would outrank the session's own setting.
            options["verify"] = self._ca_file
        return super().request(method, url, **options)

    def _may_have_credentials(self, origin: Origin | None) -> bool:
        """Tell whether it is the authority, or Microsoft's by another of its names."""
        microsoft = all(
            place is not None and place[1] in WELL_KNOWN_AUTHORITY_HOSTS and place[2] == HTTPS_PORT
            for place in (origin, self._own)
        )
        return origin is not None and (origin == self._own or microsoft)


Origin = tuple[str, str, int]
"""Scheme, host, port."""


def _origin(url: str) -> Origin | None:
    """Return where a URL leads over https; None where it does not, or names a user."""
    try:
        parts = urlsplit(url)
        port = parts.port or HTTPS_PORT
    except ValueError:
        return None
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or "\\" in url:
        return None
    return parts.scheme, parts.hostname.lower(), port


def _named(url: str) -> str:
    """Return the host that a URL names, for a message."""
    try:
        return urlsplit(url).hostname or "none"
    except ValueError:
        return "none"


def open_session(authority_url: str, ca_file: Path | None) -> tuple[str, EntraSession]:
    """Return the https form of an authority and a session that reaches it.

    Raises:
        AuthError: The authority is neither https nor plain http on the loopback.
    """
    parts = require_confidential(authority_url, "authority")
    secure = f"https://{parts.netloc}{parts.path.rstrip('/')}"
    loopback = f"https://{parts.netloc}" if parts.scheme == "http" else None
    return secure, EntraSession(ca_file, loopback, secure)


def why_unreachable(error: Exception) -> str:
    """Return in a few words what kept a request from being answered; no URL is quoted."""
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached, or refuses"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, NameResolutionError):
        return "its name cannot be resolved"
    if isinstance(reason, NewConnectionError):
        cause = reason.__cause__
        text = cause.strerror if isinstance(cause, OSError) else None
        return (text or "no connection").lower()
    if isinstance(error, requests.exceptions.ConnectionError):
        return "the connection was lost"
    return type(error).__name__
