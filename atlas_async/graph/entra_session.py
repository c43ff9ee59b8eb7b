"""Talk to Entra ID over HTTP for msal: trust, time-outs, and plain http on the loopback.

Imported only once a token is needed, because it brings requests along.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NameResolutionError, NewConnectionError

from atlas_async.graph.links import require_confidential

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 60.0


class LoopbackAdapter(HTTPAdapter):
    """Sends requests for one https origin to the same origin over plain http.

    msal insists on https authorities. An authority on the loopback may speak plain http; the
    answers are turned round as well, because they name endpoints.
    """

    def __init__(self, https_origin: str) -> None:
        super().__init__(max_retries=0)
        self._https_origin = https_origin
        self._http_origin = "http" + https_origin.removeprefix("https")

    def send(self, request: PreparedRequest, **options: Any) -> Response:  # type: ignore[override]  # options are handed on as they are
        """Send over plain http and answer as though it had been https."""
        request.url = (request.url or "").replace(self._https_origin, self._http_origin, 1)
        response = super().send(request, **options)
        plain, secure = self._http_origin.encode(), self._https_origin.encode()
        # Endpoints are rewritten in the body, which only then counts as read.
        response._content = response.content.replace(plain, secure)  # noqa: SLF001 - requests has no setter
        return response


class EntraSession(requests.Session):
    """What msal sends its requests with: one retry of connecting, time-outs, one trust store.

    Args:
        ca_file: PEM file that replaces the system's trust store, or None.
        loopback: The https form of a plain-http authority on the loopback, or None.
    """

    def __init__(self, ca_file: Path | None, loopback: str | None) -> None:
        super().__init__()
        self._ca_file = str(ca_file) if ca_file else None
        if loopback:
            self.trust_env = False
            self.mount(loopback, LoopbackAdapter(loopback))

    def request(self, method: str, url: str, **options: Any) -> Response:  # type: ignore[override]  # options are handed on as they are
        """Send one request, never following a redirect with a credential."""
        options.setdefault("timeout", (CONNECT_SECONDS, READ_SECONDS))
        options["allow_redirects"] = False
        if self._ca_file:
            # Said per request: an environment variable would outrank the session's own setting.
            options["verify"] = self._ca_file
        return super().request(method, url, **options)


def open_session(authority_url: str, ca_file: Path | None) -> tuple[str, EntraSession]:
    """Return the https form of an authority and a session that reaches it.

    Raises:
        AuthError: The authority is neither https nor plain http on the loopback.
    """
    parts = require_confidential(authority_url, "authority")
    secure = f"https://{parts.netloc}{parts.path.rstrip('/')}"
    loopback = f"https://{parts.netloc}" if parts.scheme == "http" else None
    return secure, EntraSession(ca_file, loopback)


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
