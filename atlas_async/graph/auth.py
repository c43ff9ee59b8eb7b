"""Tokens for Microsoft Graph. The only module that knows msal, and it imports it when needed.

msal is synchronous and has no single flight: it is built and asked in a worker thread, by one task
at a time, and the others share the answer.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from atlas_async.config.secret import Secret
from atlas_async.errors import AtlasError, AuthError, GraphTransient
from atlas_async.graph.credential import client_credential
from atlas_async.graph.entra import explain, is_passing
from atlas_async.graph.persistence import Jitter, back_off

if TYPE_CHECKING:
    from msal import ConfidentialClientApplication

    from atlas_async.clock import Clock
    from atlas_async.config.settings import GraphSettings
    from atlas_async.graph.entra_session import EntraSession

EARLY_SECONDS: Final = 300.0
"""A token is replaced this long before it ends, as msal itself does."""
LONGEST_SECONDS: Final = 31 * 86_400.0
"""Entra's tokens last an hour, a day at most; a figure beyond this is none."""
GRACE_SECONDS: Final = 30.0
"""Pause before the next try to replace a token that is still good."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. ``generation`` counts the tokens of this source, from 1."""

    text: Secret
    generation: int
    replace_at: float
    ends_at: float


class TokenSource:
    """Hands out the tenant's token and replaces it in time.

    Args:
        settings: Credential, authority and trust store.
        scope: ``<graph origin>/.default``.
        clock: Time and sleep.
        retries: Further tries when Entra ID cannot be reached.
        jitter: Source of randomness for the pauses, from 0 to 1.
    """

    def __init__(
        self, settings: GraphSettings, scope: str, clock: Clock, *, retries: int, jitter: Jitter
    ) -> None:
        self._settings = settings
        self._scope = scope
        self._clock = clock
        self._retries = retries
        self._jitter = jitter
        self._lock = anyio.Lock()
        self._app: ConfidentialClientApplication | None = None
        self._session: EntraSession | None = None
        self._token: Token | None = None
        self._generation = 0
        self._failures = 0
        self._last_failure: AtlasError | None = None

    async def token(self) -> Token:
        """Return a token that is good for some minutes; concurrent callers share one request.

        Raises:
            AuthError: Entra ID refused the credential; the hint says what to do.
            GraphTransient: Entra ID cannot be reached, and the last token has ended.
        """
        token = self._token
        if token is not None and self._clock.monotonic() < token.replace_at:
            return token
        failures = self._failures
        async with self._lock:
            self._raise_shared(failures)
            token = self._token
            if token is not None and self._clock.monotonic() < token.replace_at:
                return token
            return await self._replace(token)

    async def renew(self, generation: int) -> None:
        """Replace a token that Graph refused; of concurrent callers the first one does it.

        Args:
            generation: That of the refused token; when a newer one is there nothing happens.

        Raises:
            AuthError: Entra ID refused the credential.
            GraphTransient: Entra ID cannot be reached.
        """
        failures = self._failures
        async with self._lock:
            if self._generation != generation:
                return
            self._raise_shared(failures)
            self._token = None
            if self._app is not None:
                await anyio.to_thread.run_sync(self._app.remove_tokens_for_client)
            await self._replace(None)

    def roles(self) -> tuple[str, ...]:
        """Return the application permissions the token carries, for hints only.

        Permissions granted by Exchange's RBAC for Applications do not show here.
        """
        return _roles(self._token.text.reveal()) if self._token else ()

    async def aclose(self) -> None:
        """Forget the token and close the connections to Entra ID."""
        self._token = None
        await self._forget_app()

    async def _replace(self, current: Token | None) -> Token:
        try:
            answer = await self._ask_persistently()
        except GraphTransient as error:
            now = self._clock.monotonic()
            if current is None or now >= current.ends_at:
                self._remember(error)
                raise
            self._token = Token(
                current.text, current.generation, now + GRACE_SECONDS, current.ends_at
            )
            return self._token
        except AuthError as error:
            self._remember(error)
            raise
        seconds, text = self._read(answer)
        now = self._clock.monotonic()
        self._generation += 1
        good = max(seconds - EARLY_SECONDS, seconds / 2)
        self._token = Token(text, self._generation, now + good, now + seconds)
        return self._token

    def _read(self, answer: dict[str, Any]) -> tuple[float, Secret]:
        """Return how long a token is good, in seconds, and the token.

        Raises:
            AuthError: They are none.
        """
        token = answer["access_token"]
        try:
            seconds = float(answer["expires_in"])
        except (TypeError, ValueError, KeyError, OverflowError):
            seconds = 0.0
        # A header holds visible ASCII only; anything else would never arrive as what it is.
        fits = (
            isinstance(token, str) and token.isascii() and token.isprintable() and " " not in token
        )
        if not fits or not token or not 0 < seconds < LONGEST_SECONDS:
            self._remember(error := self._senseless())
            raise error
        return seconds, Secret(token)

    def _senseless(self) -> AuthError:
        return AuthError(
            "Entra ID answered with something that is no token",
            hint="Something between here and Microsoft may answer in its place: check the "
            "authority's URL and the proxy.",
            where=self._where,
        )

    async def _ask_persistently(self) -> dict[str, Any]:
        tries = 0
        while True:
            try:
                answer = await anyio.to_thread.run_sync(self._ask)
            except GraphTransient:
                await self._forget_app()
                tries += 1
                if tries > self._retries:
                    raise
                await self._clock.sleep(back_off(tries, self._jitter))
                continue
            except AuthError:
                await self._forget_app()
                raise
            if "access_token" in answer:
                return answer
            # A new application object asks anew: msal replays a refusal for a minute, and would
            # hide that the secret has been put right.
            await self._forget_app()
            if not is_passing(answer) or tries >= self._retries:
                raise explain(answer, self._where)
            tries += 1
            await self._clock.sleep(back_off(tries, self._jitter))

    def _ask(self) -> dict[str, Any]:
        """Ask msal. Blocking; runs in a worker thread."""
        from msal.exceptions import MsalError  # noqa: PLC0415 - the same

        try:
            if self._app is None:
                self._app = self._build()
            answer: dict[str, Any] = self._app.acquire_token_for_client([self._scope])
        except (OSError, ValueError, MsalError, RuntimeError) as error:
            raise self._unreachable(error) from None
        except (AttributeError, TypeError, LookupError, ArithmeticError):
            # Of an answer with values of other types msal makes an error of its own code.
            raise self._senseless() from None
        return answer

    def _build(self) -> ConfidentialClientApplication:
        import msal  # noqa: PLC0415 - importing it takes a good part of a second
        from msal.authority import WELL_KNOWN_AUTHORITY_HOSTS  # noqa: PLC0415 - the same

        from atlas_async.graph.entra_session import open_session  # noqa: PLC0415 - the same

        settings = self._settings
        authority, self._session = open_session(settings.authority_url, settings.ca_file)
        known = self._host in WELL_KNOWN_AUTHORITY_HOSTS
        credential = client_credential(settings.credential)
        try:
            return msal.ConfidentialClientApplication(
                settings.client_id,
                client_credential=credential,
                authority=f"{authority}/{settings.tenant_id}",
                instance_discovery=None if known else False,
                http_client=self._session,
            )
        except ValueError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None  # msal takes a proxy's URL for the tenant's fault
            # msal's text would quote the authority's whole answer.
            raise AuthError(
                "Entra ID does not know this tenant, or the authority is not Entra ID",
                hint="Check the tenant id, and that the authority belongs to the tenant's cloud.",
                where=self._where,
            ) from None

    @property
    def _where(self) -> str:
        return f"tenant {self._settings.tenant_id}, client {self._settings.client_id}"

    @property
    def _host(self) -> str:
        return (urlsplit(self._settings.authority_url).hostname or "").lower()

    def _unreachable(self, error: Exception) -> AtlasError:
        import requests  # noqa: PLC0415 - loaded already

        from atlas_async.graph.entra_session import (  # noqa: PLC0415 - the same
            ForeignEndpointError,
            UnavailableError,
            why_unreachable,
        )

        host = self._host
        if isinstance(error, ForeignEndpointError):
            return AuthError(
                f"Entra ID's metadata name another host for tokens, {str(error)!r}; the credential "
                "was not sent there",
                hint="Check the authority's URL, and any proxy between here and Microsoft.",
                where=self._where,
            )
        if isinstance(error, UnavailableError):
            return GraphTransient(
                f"Entra ID gave no token: {host} answered with {error}",
                hint="Run again later. Something between here and Microsoft may answer in its "
                "place: check the proxy and the network's sign-in page.",
                where=self._where,
            )
        if isinstance(error, requests.exceptions.SSLError):
            return AuthError(
                f"The certificate of {host} is not trusted",
                hint="Set ATLAS_CA_FILE to the CA certificate of the proxy or private authority in "
                "between, or check that the authority's URL names a TLS endpoint.",
                where=self._where,
            )
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            return AuthError(
                f"Entra ID cannot be reached at {host}: the proxy's URL cannot be used",
                hint="Write http_proxy and https_proxy as http://HOST:PORT, or unset them.",
                where=self._where,
            )
        return GraphTransient(
            f"Entra ID cannot be reached at {host}: {why_unreachable(error)}",
            hint="Check the network, the name service and the proxy settings, then run again.",
            where=self._where,
        )

    async def _forget_app(self) -> None:
        session, self._session, self._app = self._session, None, None
        if session is not None:
            await anyio.to_thread.run_sync(session.close)

    def _remember(self, error: AtlasError) -> None:
        self._failures += 1
        self._last_failure = error

    def _raise_shared(self, failures: int) -> None:
        """Give those who waited for a failed request its answer instead of asking again."""
        last = self._last_failure
        if last is not None and self._failures != failures:
            raise type(last)(last.message, hint=last.hint, where=last.where)


def _roles(token: str) -> tuple[str, ...]:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError, binascii.Error):
        return ()
    roles = claims.get("roles") if isinstance(claims, dict) else None
    return tuple(str(role) for role in roles) if isinstance(roles, list) else ()
