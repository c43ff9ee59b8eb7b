"""Signed HTTP requests to one S3 bucket: the data plane, made to cost little per request.

What is small and whole both ways, which is nearly everything, goes over ``s3_wire``. Streams and
whatever has to pass a proxy go through aiohttp. Both ways send the same requests, signed alike, and
raise the same errors.
"""

from __future__ import annotations

import ssl
from io import BytesIO
from math import inf
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
from anyio import to_thread
from yarl import URL

from atlas_async.clock import Clock
from atlas_async.config.settings import S3Settings
from atlas_async.errors import StoreError, StoreMisconfigured, StoreTransient
from atlas_async.store.s3_answer import FIRST_REFUSAL, Answer, AnswerTooLong, header_map
from atlas_async.store.s3_credentials import CredentialSource, credential_source
from atlas_async.store.s3_errors import MAX_ERROR_BYTES, Fault, parse_fault
from atlas_async.store.s3_exchange import (
    CONNECT_SECONDS,
    READ_SECONDS,
    WIRE_BYTES,
    Exchange,
)
from atlas_async.store.s3_headers import content_length
from atlas_async.store.s3_transport import (
    LATER,
    TRANSPORT_ERRORS,
    AnswerLost,
    PacedBody,
    UploadStream,
    lost,
)
from atlas_async.store.s3_wire import Address, Patience, Wire
from atlas_async.store.sigv4 import UNSIGNED_PAYLOAD, Signer, encode_path, timestamp

_AGENT = "atlas-async"
_BODY_TYPE = "application/octet-stream"
_HEAD_END = f"User-Agent: {_AGENT}\r\nAccept-Encoding: identity\r\n"


class S3Http:
    """A keep-alive connection pool to one bucket.

    Args:
        settings: Endpoint, region, credentials and trust.
        bucket: The bucket's name.
        connections: Most connections at once.
        clock: Dates the signatures.
    """

    def __init__(
        self, settings: S3Settings, bucket: str, *, connections: int, clock: Clock
    ) -> None:
        self.endpoint = settings.endpoint or f"https://s3.{settings.region}.amazonaws.com"
        parts = urlsplit(self.endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise StoreMisconfigured(
                "the S3 endpoint is not a plain http or https address",
                hint="write ATLAS_S3_ENDPOINT like https://s3.example.com, without credentials",
                where=parts.hostname or "",
            )
        self.credentials: CredentialSource = credential_source(settings, clock)
        self.bucket = bucket
        self.settings = settings
        self._clock = clock
        self._connections = connections
        self._signer = Signer(settings.region)
        self._scheme = parts.scheme
        self._origin = f"{parts.scheme}://{parts.netloc}"
        root = URL(self._origin)
        self.host = root.host_port_subcomponent or ""
        self._hostname, self._port = root.raw_host or "", root.port or 0
        self._path = f"{encode_path(parts.path.rstrip('/'))}/{bucket}"
        self._session: aiohttp.ClientSession | None = None
        self._wire: Wire | None = None
        self._opening = anyio.Lock()
        self._closed = False
        self._second = ("", 0)

    async def call(self, request: Exchange) -> tuple[Answer, Fault | None]:
        """Send a request and read the answer whole. The fault is None for a success.

        Cancelling it closes the connection it used.

        Raises:
            StoreTransient: The connection failed or was lost, or no answer came in time.
            StoreMisconfigured: TLS or the endpoint's scheme do not fit.
            StoreError: A header cannot be sent.
            AnswerTooLong: See ``Exchange.most``; without one, what does not end is transient.
        """
        if self._session is None:
            await self._open()
        body = request.body
        try:
            if self._wire is None or isinstance(body, UploadStream) or request.size > WIRE_BYTES:
                answer = await self._call_by_session(request)
            else:
                answer = await self._call_by_wire(self._wire, request, body)
        except AnswerTooLong as error:
            if request.most is not None:
                raise
            msg = f"the store's answer to {request.method} does not end"
            raise StoreTransient(msg, hint=LATER, where=self.endpoint) from error
        if answer.status < FIRST_REFUSAL:
            return answer, None
        return answer, self._fault(answer)

    async def send(self, request: Exchange) -> aiohttp.ClientResponse:
        """Send a request and return the response, its body unread; the caller releases it.

        Raises as ``call`` does.
        """
        session = self._session or await self._open()
        target, headers = await self._sign(request)
        body = request.body
        if isinstance(body, UploadStream):
            headers["content-length"] = str(body.size)
        head_seconds = None if request.seconds else CONNECT_SECONDS + 2 * READ_SECONDS
        try:
            with anyio.fail_after(head_seconds):
                return await session.request(
                    request.method,
                    URL(f"{self._origin}{target}", encoded=True),
                    data=_payload(body),
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=request.seconds, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS
                    ),
                    middlewares=None if request.resend else (_send_once,),
                )
        except TRANSPORT_ERRORS as error:
            raise lost(error, self.endpoint, body) from error

    async def fault(self, response: aiohttp.ClientResponse) -> Fault:
        """Read a refusal that ``send`` returned. Raises ``StoreTransient``."""
        return self._fault(await self._read(response))

    async def _call_by_wire(self, wire: Wire, request: Exchange, body: bytes | None) -> Answer:
        target, headers = await self._sign(request)
        lines = "".join([f"{name}: {text}\r\n" for name, text in headers.items()])
        head = f"{request.method} {target} HTTP/1.1\r\n{lines}{_HEAD_END}"
        if body is None:
            message = [f"{head}\r\n".encode()]
        else:
            framed = f"{head}Content-Type: {_BODY_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
            # From Python 3.12 on asyncio never gets rid of an empty piece, and spins on it.
            message = [framed.encode(), body] if body else [framed.encode()]
        try:
            return await wire.exchange(
                message,
                bodyless=request.method == "HEAD",
                resend=request.resend,
                most=request.bound,
                seconds=request.seconds or inf,
            )
        except TRANSPORT_ERRORS as error:
            raise lost(error, self.endpoint) from error

    async def _call_by_session(self, request: Exchange) -> Answer:
        async with await self.send(request) as response:
            return await self._read(response, request.body, request.bound)

    async def _read(
        self,
        response: aiohttp.ClientResponse,
        body: bytes | UploadStream | None = None,
        most: int = 0,
    ) -> Answer:
        try:
            if response.status < FIRST_REFUSAL:
                received = await _whole(response, most)
            else:
                received = await _beginning(response, MAX_ERROR_BYTES)
        except TRANSPORT_ERRORS as error:
            raise lost(error, self.endpoint, body) from error
        return Answer(response.status, header_map(response.headers.items()), received)

    def _fault(self, answer: Answer) -> Fault:
        return parse_fault(answer.status, answer.headers, answer.body, self._clock.now())

    async def aclose(self) -> None:
        """Close the connections, busy ones too. Idempotent."""
        self._closed = True
        session, self._session = self._session, None
        wire, self._wire = self._wire, None
        try:
            if wire is not None:
                await wire.aclose()
        finally:
            if session is not None:
                await session.close()

    async def _sign(self, request: Exchange) -> tuple[str, dict[str, str]]:
        """Return the target and the headers, both as they are sent."""
        credentials = await self.credentials.current()
        path = f"{self._path}/{encode_path(request.key)}" if request.key else self._path
        headers = {
            "host": self.host,
            "x-amz-content-sha256": UNSIGNED_PAYLOAD,
            "x-amz-date": self._timestamp(),
            **request.headers,
        }
        if credentials.token is not None:
            headers["x-amz-security-token"] = credentials.token.reveal()
        headers["authorization"] = self._signer.authorization(
            credentials, request.method, path, request.query, headers
        )
        # A value with a line end would be read as further headers, or as another request.
        values = "".join(headers.values())
        if "\n" in values or "\r" in values or "\0" in values:
            raise StoreError(
                "a header of the request holds a line end or a NUL",
                hint="check the metadata, and the access key for stray characters",
                where=self.endpoint,
            )
        return f"{path}?{request.query}" if request.query else path, headers

    def _timestamp(self) -> str:
        moment = self._clock.now()
        second = int(moment.timestamp())
        if self._second[1] != second:
            self._second = (timestamp(moment), second)
        return self._second[0]

    async def _open(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                context, proxy = await to_thread.run_sync(self._surroundings)
                if self._closed:
                    raise StoreMisconfigured("the store is closed", where=self.endpoint)
                if proxy is None:
                    self._wire = Wire(
                        Address(self._hostname, self._port, context, self.endpoint),
                        connections=self._connections,
                        patience=Patience(CONNECT_SECONDS, READ_SECONDS),
                    )
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=self._connections, ssl=context if context is not None else True
                    ),
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
                    proxy=proxy,
                )
            return self._session

    def _surroundings(self) -> tuple[ssl.SSLContext | None, str | None]:
        """Return trust and proxy; reads files and asks the system."""
        proxy = None if proxy_bypass(self.host) else getproxies().get(self._scheme)
        if proxy is not None and "://" not in proxy:
            proxy = f"http://{proxy}"  # as curl reads it
        return (self._trust() if self._scheme == "https" else None), proxy

    def _trust(self) -> ssl.SSLContext:
        ca_file = self.settings.ca_file
        try:
            return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise StoreMisconfigured(
                f"the CA file cannot be used: {error}",
                hint="ATLAS_CA_FILE must name a PEM file with certificates",
                where=str(ca_file),
            ) from error


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself after a lost connection.

    A conditional write sent twice is refused the second time by what the first has written.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise AnswerLost(str(error)) from error


async def _whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read a success's body. Raises ``AnswerTooLong`` as soon as it is known to exceed ``most``."""
    if (content_length(response.headers) or 0) <= most:
        body = await _beginning(response, most + 1)
        if len(body) <= most:
            return body
    response.close()  # the rest is not waited for
    raise AnswerTooLong(most)


async def _beginning(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read a body, at most the first ``most`` bytes of it."""
    body = PacedBody(response, READ_SECONDS)
    pieces: list[bytes] = []
    while piece := await body.read(most):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def _payload(body: bytes | UploadStream | None) -> object:
    if isinstance(body, UploadStream):
        return body.chunks()
    # As one piece, aiohttp warns, so much would hold up the event loop.
    return BytesIO(body) if body is not None and len(body) > WIRE_BYTES else body
