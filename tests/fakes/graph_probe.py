"""A bare client for the emulator: signs in once, sends what the test says, follows links."""

from __future__ import annotations

import io
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from atlas_async.emulator import Emulator


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers, raw bytes."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The JSON body."""
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        """The error code of a Graph error."""
        return str(self.body["error"]["code"])


@dataclass(slots=True)
class GraphProbe:
    """Talks to an emulator with a valid token; use as an async context manager."""

    emulator: Emulator
    prefer: str = 'IdType="ImmutableId"'
    token: str = ""
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        tls: ssl.SSLContext | bool = True
        if self.emulator.url.startswith("https"):
            tls = ssl.create_default_context(cafile=self.emulator.ca_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0), raise_for_status=False
        )
        self.token = (await self.sign_in()).body["access_token"]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def sign_in(self, tenant: str | None = None, **form: str) -> Answer:
        """Ask for a token; ``form`` overrides single fields."""
        own = self.emulator.tenant
        values = {
            "client_id": own.client_id,
            "client_secret": own.client_secret,
            "scope": f"{self.emulator.graph_url}/.default",
            "grant_type": "client_credentials",
            **form,
        }
        url = f"{self.emulator.authority_url}/{tenant or own.id}/oauth2/v2.0/token"
        return await self.raw("POST", url, data=values)

    async def raw(self, method: str, url: str, **options: Any) -> Answer:
        """Send a request exactly as told."""
        assert self._session is not None
        data = options.get("data")
        if isinstance(data, bytes):
            # aiohttp warns about large bodies given as bytes.
            options["data"] = io.BytesIO(data)
        async with self._session.request(method, url, allow_redirects=False, **options) as answer:
            raw = await answer.read()
            return Answer(answer.status, dict(answer.headers), raw)

    async def send(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        prefer: str | None = None,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Answer:
        """Send an authorised Graph request; ``path`` is below the version, or a whole link."""
        url = path if path.startswith("http") else f"{self.emulator.graph_url}/v1.0/{path}"
        sent = {"Authorization": f"Bearer {self.token}"}
        wanted = self.prefer if prefer is None else prefer
        if wanted:
            sent["Prefer"] = wanted
        if json is not None:
            sent["Content-Type"] = "application/json"
            data = orjson.dumps(json)
        return await self.raw(method, url, data=data, headers=sent | (headers or {}))

    async def get(self, path: str, *, prefer: str | None = None) -> Answer:
        """Send an authorised GET."""
        return await self.send("GET", path, prefer=prefer)

    async def round(self, path: str, *, prefer: str | None = None) -> tuple[list[Any], str]:
        """Follow next links to the end; return all items and the delta link ('' if none)."""
        items: list[Any] = []
        while True:
            answer = await self.get(path, prefer=prefer)
            assert answer.status == 200, answer.raw
            body = answer.body
            items += body["value"]
            if "@odata.nextLink" not in body:
                return items, body.get("@odata.deltaLink", "")
            path = body["@odata.nextLink"]
