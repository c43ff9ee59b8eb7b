"""Microsoft's own SDK for Python, signed in to an emulator over TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import httpx
import msal
import pytest
import pytest_asyncio
from azure.core.credentials import AccessToken

from atlas_async.emulator import Corpus, CorpusOptions, Emulator

ADDRESS = "user0000@contoso.com"


class MsalCredential:
    """Gives the SDK tokens that msal got from the emulator."""

    def __init__(self, emulator: Emulator) -> None:
        self._app = msal.ConfidentialClientApplication(
            emulator.tenant.client_id,
            authority=f"{emulator.authority_url}/{emulator.tenant.id}",
            client_credential=emulator.tenant.client_secret,
            instance_discovery=False,
            verify=str(emulator.ca_file),
        )
        self._scope = f"{emulator.graph_url}/.default"

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return a token for the emulator, whatever cloud the SDK asks for."""
        answer = await anyio.to_thread.run_sync(self._app.acquire_token_for_client, [self._scope])
        return AccessToken(answer["access_token"], answer["expires_in"] + 1_700_000_000)

    async def close(self) -> None:
        """Close msal's connections."""
        await anyio.to_thread.run_sync(self._app.http_client.close)


@dataclass(frozen=True, slots=True)
class Judge:
    """The SDK's client and the emulator that it talks to."""

    client: Any
    adapter: Any
    http: httpx.AsyncClient
    emulator: Emulator

    @property
    def user(self) -> Any:
        """The request builder of the first mailbox."""
        return self.client.users.by_user_id(ADDRESS)


@pytest.fixture(scope="module")
def no_foreign_bundles() -> Iterator[None]:
    """The environment's CA bundle would win over the one that msal is given."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def judge(no_foreign_bundles: None) -> AsyncIterator[Judge]:
    """An emulator over TLS and the SDK signed in to it; imports take seconds, so once."""
    from kiota_authentication_azure.azure_identity_authentication_provider import (
        AzureIdentityAuthenticationProvider,
    )
    from msgraph.graph_request_adapter import GraphRequestAdapter
    from msgraph.graph_service_client import GraphServiceClient
    from msgraph_core import GraphClientFactory  # type: ignore[import-untyped]  # has no types

    corpus = Corpus(
        CorpusOptions(
            mailboxes=2,
            messages=80,
            body_median=1_000,
            attachment_share=0.6,
            attachment_median=1_000,
            attachment_top=20_000,
            item_share=0.3,
            reference_share=0.3,
        )
    )
    async with Emulator(corpus, tls=True) as emulator:
        trust = ssl.create_default_context(cafile=emulator.ca_file)
        transport = httpx.AsyncHTTPTransport(verify=trust)
        http = httpx.AsyncClient(transport=transport)
        scopes = [f"{emulator.graph_url}/.default"]
        credential: Any = await anyio.to_thread.run_sync(MsalCredential, emulator)
        adapter = GraphRequestAdapter(
            AzureIdentityAuthenticationProvider(credential, scopes=scopes, allowed_hosts=[]),
            GraphClientFactory.create_with_default_middleware(client=http),
        )
        adapter.base_url = f"{emulator.graph_url}/v1.0"
        yield Judge(GraphServiceClient(request_adapter=adapter), adapter, http, emulator)
        await http.aclose()
        # The SDK wraps the transport and does not close what it wrapped.
        await transport.aclose()
        await credential.close()


def options(query: Any, headers: dict[str, str] | None = None) -> Any:
    """Return the configuration of a request of the SDK."""
    from kiota_abstractions.base_request_configuration import RequestConfiguration

    configuration = RequestConfiguration(query_parameters=query)
    for name, value in (headers or {}).items():
        configuration.headers.add(name, value)
    return configuration
