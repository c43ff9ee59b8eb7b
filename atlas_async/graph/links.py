"""Build Graph URLs, and judge the links that Graph hands back.

A token is sent to one origin only, the configured one. Links are opaque apart from their origin.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, quote, urlsplit

from atlas_async.config.settings import CLOUD_URLS
from atlas_async.errors import AuthError, GraphProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

OFFICIAL_HOSTS: Final = frozenset(urlsplit(graph).hostname for _, graph in CLOUD_URLS.values())
"""Hosts of Microsoft Graph and its national clouds."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_VERSION: Final = re.compile(r"/(v1\.0|beta)$")
_ALLOWED: Final = re.compile(r"[\x21-\x7e]+")
_SAFE_IN_QUERY: Final = "$,/()'=:@"


def is_loopback(host: str | None) -> bool:
    """Tell whether ``host`` can only be this machine."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unicode(text: str) -> bool:
    """Tell whether ``text`` is without lone surrogates, which JSON can hold and a URL cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_confidential(url: str, purpose: str) -> SplitResult:
    """Return the parts of ``url`` when a secret may be sent there.

    Raises:
        AuthError: The URL is not https, and is not plain http to this machine.
    """
    parts = urlsplit(url)
    if parts.hostname and parts.scheme == "https":
        return parts
    if parts.scheme == "http" and is_loopback(parts.hostname):
        return parts
    raise AuthError(
        f"The {purpose} must be an https URL",
        hint="Plain http is accepted only for 127.0.0.1, ::1 and localhost.",
        where=f"{parts.scheme}://{parts.hostname or ''}",
    )


class GraphRoot:
    """The configured root of Microsoft Graph, with or without ``/v1.0``.

    Args:
        url: Root URL; plain http only on the loopback.

    Raises:
        AuthError: A token would travel in the clear.
    """

    def __init__(self, url: str) -> None:
        parts = require_confidential(url, "Graph URL")
        self._scheme = parts.scheme
        self._host = (parts.hostname or "").lower()
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        path = parts.path.rstrip("/")
        version = _VERSION.search(path)
        self._version = version.group(0) if version else "/v1.0"
        self._prefix = path.removesuffix(version.group(0)) if version else path
        self.origin = f"{self._scheme}://{parts.netloc}"

    @property
    def scope(self) -> str:
        """The scope that covers every application permission granted for this root."""
        return f"{self.origin}/.default"

    def url(self, *segments: str, query: Mapping[str, str] | None = None) -> str:
        """Return the URL of a resource; every segment and value is percent-encoded.

        Raises:
            GraphProtocolError: A segment is empty or would walk up the path.
        """
        return self.absolute(self.path(*segments, query=query))

    def absolute(self, path: str) -> str:
        """Return the URL of a path below the version."""
        return f"{self.origin}{self._prefix}{self._version}{path}"

    @staticmethod
    def path(*segments: str, query: Mapping[str, str] | None = None) -> str:
        """Return what follows the version in the URL of a resource, as a batch names it.

        Raises:
            GraphProtocolError: A segment is empty, would walk up the path or is no Unicode text.
        """
        for segment in segments:
            if segment in {"", ".", ".."} or not is_unicode(segment):
                raise GraphProtocolError(
                    f"{ascii(segment)[:80]} is not an identifier of Microsoft Graph",
                    code="InvalidId",
                )
        path = "".join(f"/{quote(segment, safe='$')}" for segment in segments)
        if not query:
            return path
        pairs = (f"{name}={quote(value, safe=_SAFE_IN_QUERY)}" for name, value in query.items())
        return f"{path}?{'&'.join(pairs)}"

    def adopt(self, link: str) -> str:
        """Return ``link`` as it may be requested with a token.

        A link of the configured origin is returned as it is. One that names an official Graph
        root, or the loopback when the configured root is there too, is moved to the configured
        origin: a bucket outlives the proxy or the port it was written through.

        Raises:
            GraphProtocolError: The link leads elsewhere or is malformed.
        """
        parts = self._split(link)
        if self._is_own(parts):
            return link
        host = (parts.hostname or "").lower()
        official = parts.scheme == "https" and host in OFFICIAL_HOSTS and parts.port in {None, 443}
        if official or (is_loopback(self._host) and is_loopback(host)):
            query = f"?{parts.query}" if parts.query else ""
            return f"{self.origin}{self._prefix}{parts.path}{query}"
        raise GraphProtocolError(
            f"A link of Microsoft Graph leads to another host, {host!r}; it was not followed",
            hint="Check the configured Graph URL, and any proxy between here and Microsoft.",
        )

    def _split(self, link: str) -> SplitResult:
        try:
            parts = urlsplit(link)
            valid = _port(parts) > 0
        except ValueError:
            parts, valid = SplitResult("", "", "", "", ""), False
        valid = valid and _ALLOWED.fullmatch(link) is not None and "\\" not in link
        # An id that went missing leaves a double slash; such a link addresses something else.
        if not valid or "@" in parts.netloc or not parts.hostname or "//" in parts.path:
            raise GraphProtocolError("A link of Microsoft Graph is malformed")
        return parts

    def _is_own(self, parts: SplitResult) -> bool:
        own = (self._scheme, self._host, self._port)
        return (parts.scheme, (parts.hostname or "").lower(), _port(parts)) == own


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
