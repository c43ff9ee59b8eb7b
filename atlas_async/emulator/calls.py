"""A request and an answer, free of the web framework, so that a batch can be served in process."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

JSON_TYPE: Final = (
    "application/json;odata.metadata=minimal;odata.streaming=true;"
    "IEEE754Compatible=false;charset=utf-8"
)


class Refusal(Exception):
    """An answer in the shape of a Graph error.

    Args:
        status: HTTP status.
        code: Graph's error code.
        message: Graph's message.
        headers: Further response headers.
        inner: Code of an inner error, when the service has one.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        inner: str = "",
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.inner = inner


@dataclass(slots=True)
class Call:
    """One request. ``path`` is as sent, without the query; ``read_body`` may be awaited once.

    ``roles`` are the application permissions of the caller's token.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    read_body: Callable[[], Awaitable[bytes]]
    app_id: str = ""
    roles: frozenset[str] = frozenset()
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    raw_query: str = ""
    batched: bool = False

    def preferences(self) -> dict[str, str]:
        """Return the ``Prefer`` header as lower-cased names and unquoted values."""
        found: dict[str, str] = {}
        for item in self.headers.get("Prefer", "").replace(";", ",").split(","):
            name, _, value = item.strip().partition("=")
            if name:
                found[name.strip().lower()] = value.strip().strip('"')
        return found

    @property
    def immutable(self) -> bool:
        """Whether the caller asked for immutable ids."""
        return self.preferences().get("idtype", "").lower() == "immutableid"

    async def keep_body(self) -> bytes:
        """Return the body, and keep it for whoever reads it next."""
        raw = await self.read_body()

        async def read_again() -> bytes:
            return raw

        self.read_body = read_again
        return raw

    async def json(self) -> Any:
        """Return the body as JSON. Raises ``Refusal`` (400) when it is none."""
        raw = await self.read_body()
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Refusal(
                400, "BadRequest", "Unable to read JSON request payload.", inner="RequestBody"
            ) from error

    async def json_object(self) -> dict[str, Any]:
        """Return the body as a JSON object. Raises ``Refusal`` (400) when it is none."""
        value = await self.json()
        if not isinstance(value, dict):
            raise Refusal(400, "BadRequest", "Empty Payload. JSON content expected.")
        return value


@dataclass(slots=True)
class Reply:
    """One answer: either ``body``, or ``stream`` with ``length`` when it is known.

    ``packed`` remembers the gzipped body of an answer that is served again. ``spoil`` names what
    the server shall break while sending: ``reset``, ``reset-mid``, ``truncate``, ``garbage``,
    ``control``, ``silence`` or nothing.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Iterator[bytes] | None = None
    length: int | None = None
    packed: bytes | None = None
    spoil: str = ""

    @classmethod
    def json(
        cls, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Return an answer with a JSON body."""
        return cls(
            status=status,
            headers={"Content-Type": JSON_TYPE, **(headers or {})},
            body=_written(value),
        )


def _written(value: Any) -> bytes:
    """Return JSON; lone surrogates, which real names hold, as the escapes that Graph writes."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode("ascii")


def error_body(refusal: Refusal, *, date: str, request_id: str, client_id: str) -> dict[str, Any]:
    """Return Graph's error object. ``date`` is ISO 8601 without a zone, in UTC."""
    inner: dict[str, Any] = {
        "date": date,
        "request-id": request_id,
        "client-request-id": client_id,
    }
    if refusal.inner:
        inner = {"code": refusal.inner, **inner}
    return {"error": {"code": refusal.code, "message": refusal.message, "innerError": inner}}
