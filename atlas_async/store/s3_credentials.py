"""Where the S3 store's credentials come from: the settings, or AWS's default chain."""

from __future__ import annotations

from typing import Protocol

import anyio

from atlas_async.clock import Clock
from atlas_async.config.secret import Secret
from atlas_async.config.settings import S3Settings
from atlas_async.errors import StoreAuthError
from atlas_async.store.own_loop import run_on_own_loop
from atlas_async.store.sigv4 import Credentials

RECHECK_SECONDS = 60.0
"""How long the chain's answer is used. The chain itself renews 10 to 15 minutes before expiry."""


class CredentialSource(Protocol):
    """Gives the credentials of the moment."""

    async def current(self) -> Credentials:
        """Return credentials good for the next request. Raises ``StoreAuthError``."""
        ...


class StaticCredentials:
    """The access key and secret of the settings."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def current(self) -> Credentials:
        """Return them."""
        return self._credentials


class ChainCredentials:
    """AWS's default chain: environment, shared files, SSO, web identity, container, instance.

    Looking there reads files and may call metadata services, so it runs on a loop of its own
    (see ``own_loop``).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = anyio.Lock()
        self._known: Credentials | None = None
        self._good_until = 0.0
        self._session: object | None = None

    async def current(self) -> Credentials:
        """Return the chain's credentials, asked for again once a minute.

        Raises:
            StoreAuthError: The chain has none, or they cannot be renewed.
        """
        if self._known is not None and self._clock.monotonic() < self._good_until:
            return self._known
        async with self._lock:
            if self._known is None or self._clock.monotonic() >= self._good_until:
                self._use(await run_on_own_loop(self._ask))
            return self._known or self._use(None)

    def _use(self, found: Credentials | None) -> Credentials:
        if found is None:
            raise StoreAuthError(
                "no credentials for the S3 store",
                hint="set ATLAS_S3_ACCESS_KEY and ATLAS_S3_SECRET_KEY, or give this machine an "
                "AWS profile or role",
            )
        # The same value keeps its identity, and with it the derived signing key.
        if found != self._known:
            self._known = found
        self._good_until = self._clock.monotonic() + RECHECK_SECONDS
        return found

    async def _ask(self) -> Credentials | None:
        from aiobotocore.session import AioSession  # noqa: PLC0415 - half a second of start-up
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - the same

        session = self._session if isinstance(self._session, AioSession) else AioSession()
        self._session = session
        try:
            chain = await session.get_credentials()
            frozen = None if chain is None else await chain.get_frozen_credentials()
        except BotoCoreError as error:
            raise StoreAuthError(
                f"AWS credentials cannot be obtained: {error}",
                hint="check the AWS profile or role of this machine",
            ) from error
        if frozen is None or not frozen.access_key:
            return None
        token = Secret(frozen.token) if frozen.token else None
        return Credentials(frozen.access_key, Secret(frozen.secret_key), token)


def credential_source(settings: S3Settings, clock: Clock) -> CredentialSource:
    """Return the source that ``settings`` ask for."""
    if settings.access_key and settings.secret_key:
        return StaticCredentials(Credentials(settings.access_key, settings.secret_key))
    return ChainCredentials(clock)
