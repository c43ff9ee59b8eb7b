"""A bucket of an S3-compatible server, addressed by path."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from atlas_async.clock import Clock
from atlas_async.config.settings import S3Settings
from atlas_async.errors import (
    BucketNotFound,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StoreAuthError,
    StoreError,
    StoreTransient,
)
from atlas_async.store.base import (
    CHUNK_BYTES,
    UNKNOWN_SIZE,
    ListPage,
    ObjectInfo,
    ObjectReader,
    SpooledBody,
    StoredObject,
    check_size,
)
from atlas_async.store.keys import check_bucket_name, check_key
from atlas_async.store.s3_answer import FIRST_REFUSAL, AnswerTooLong, header_map
from atlas_async.store.s3_control import S3Control
from atlas_async.store.s3_errors import Fault, store_error
from atlas_async.store.s3_exchange import READ_SECONDS, Exchange
from atlas_async.store.s3_headers import content_length, http_date
from atlas_async.store.s3_http import S3Http
from atlas_async.store.s3_listing import listing_query, parse_listing
from atlas_async.store.s3_transport import (
    LATER,
    TRANSPORT_ERRORS,
    PacedBody,
    UploadStream,
    lost,
)

PROBE_BYTES = 1 << 20
"""Largest body that is sent a second time to learn whether the store honours conditions."""
STREAM_BYTES = 5 << 30
"""The longest object there can be, written by one PUT. A body without a length may not end."""
_META = "x-amz-meta-"
_NOT_FOUND = 404
_TAKEN = 412
_NOT_IMPLEMENTED = 501


class S3Reader:
    """The body of a GET as it arrives."""

    def __init__(self, info: ObjectInfo, response: aiohttp.ClientResponse, endpoint: str) -> None:
        self.info = info
        self._body = PacedBody(response, READ_SECONDS)
        self._left = STREAM_BYTES
        self._endpoint = endpoint

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces in order. Raises ``StoreTransient`` when the connection is lost."""
        while chunk := await self._read():
            self._left -= len(chunk)
            if self._left < 0:
                msg = "the store's answer to GET does not end"
                raise StoreTransient(msg, hint=LATER, where=self._endpoint)
            yield chunk

    async def _read(self) -> bytes:
        try:
            return await self._body.read(CHUNK_BYTES)
        except TRANSPORT_ERRORS as error:
            raise lost(error, self._endpoint) from error


class S3Store:
    """``ObjectStore`` over one bucket.

    Requests are tried once (a stale connection apart); wrap the store to have them tried again.

    ``if_absent`` relies on ``If-None-Match: *``. Some servers ignore it, and would overwrite. So
    the first such put of a store object looks first whether the key is taken and, when it has
    succeeded, is sent a second time: a server that honours the condition must now refuse it.
    Where it does not, later puts look first and write then, which two writers can both do:
    ``conditional_writes`` says so.

    Args:
        settings: Endpoint, region, credentials and trust.
        bucket: The bucket's name.
        connections: Most connections at once.
        clock: Dates the signatures.
    """

    def __init__(
        self, settings: S3Settings, bucket: str, *, connections: int, clock: Clock
    ) -> None:
        check_bucket_name(bucket)
        self._http = S3Http(settings, bucket, connections=connections, clock=clock)
        self._control = S3Control(settings, bucket)
        self._bucket = bucket
        self.name = f"s3://{self._http.host}/{bucket}"
        self.conditional_writes: bool | None = None

    async def open_bucket(self, *, create: bool) -> None:
        """Check that the bucket can be listed; with ``create``, make it when it is absent."""
        try:
            await self.list_page("", limit=1)
        except BucketNotFound:
            if not create:
                raise
            await self._create_bucket()

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's description with its metadata, or None.

        Raises ``StoreError`` for an answer without the object's length.
        """
        check_key(key)
        answer, fault = await self._http.call(Exchange("HEAD", key))
        if fault is None:
            return _info(key, answer.headers, self._length(key, answer.headers))
        if fault.status == _NOT_FOUND and fault.code in {"", "NoSuchKey"}:
            return None
        raise self._error(fault, "s3:GetObject", key)

    async def get(self, key: str, *, most: int | None = None) -> StoredObject:
        """Return the whole object. Raises ``ObjectNotFound``, ``ObjectTooLarge``."""
        check_key(key)
        try:
            answer, fault = await self._http.call(Exchange("GET", key, most=most))
        except AnswerTooLong as error:
            raise ObjectTooLarge(str(error), where=f"{self.name}/{key}") from None
        if fault is not None:
            raise self._error(fault, "s3:GetObject", key)
        check_size(len(answer.body), most, f"{self.name}/{key}")
        return StoredObject(_info(key, answer.headers, len(answer.body)), answer.body)

    def open(self, key: str) -> AbstractAsyncContextManager[ObjectReader]:
        """Open the object for streaming. Entering raises ``ObjectNotFound``."""
        return self._open(key)

    async def put(
        self,
        key: str,
        body: bytes | SpooledBody,
        *,
        md5: bytes,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store the object. Raises ``ObjectExists``, ``StoreFull``, ``StoreTransient``."""
        check_key(key)
        headers = {"content-md5": b64encode(md5).decode()}
        if metadata:
            headers |= {f"{_META}{name.lower()}": text for name, text in metadata.items()}
        if if_absent:
            await self._put_if_absent(key, body, headers)
        else:
            await self._put(key, body, headers)

    async def list_page(
        self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = 1000
    ) -> ListPage:
        """Return one page of keys in order."""
        query = listing_query(prefix, delimiter, token, limit)
        answer, fault = await self._http.call(Exchange("GET", query=query))
        if fault is not None:
            raise self._error(fault, "s3:ListBucket", "")
        return parse_listing(answer.body, self.name)

    async def delete(self, key: str) -> None:
        """Delete the object; an absent key is fine."""
        check_key(key)
        _, fault = await self._http.call(Exchange("DELETE", key))
        if fault is None:
            return
        error = self._error(fault, "s3:DeleteObject", key)
        if not isinstance(error, ObjectNotFound):
            raise error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def _open(self, key: str) -> AsyncIterator[ObjectReader]:
        check_key(key)
        async with await self._http.send(Exchange("GET", key)) as response:
            if response.status >= FIRST_REFUSAL:
                fault = await self._http.fault(response)
                raise self._error(fault, "s3:GetObject", key)
            headers = header_map(response.headers.items())
            size = content_length(headers)
            # A chunked answer tells none, and can be read all the same.
            info = _info(key, headers, UNKNOWN_SIZE if size is None else size)
            yield S3Reader(info, response, self._http.endpoint)

    async def _create_bucket(self) -> None:
        try:
            await self._control.create_bucket(await self._http.credentials.current())
        except StoreAuthError as refused:
            # To the loser of a race some servers say that the name is somebody else's.
            try:
                await self.list_page("", limit=1)
            except StoreError:
                raise refused from None

    async def _put(self, key: str, body: bytes | SpooledBody, headers: Mapping[str, str]) -> None:
        fault = await self._try_put(key, body, headers)
        if fault is not None:
            raise self._error(fault, "s3:PutObject", key)

    async def _try_put(
        self, key: str, body: bytes | SpooledBody, headers: Mapping[str, str]
    ) -> Fault | None:
        data = body if isinstance(body, bytes) else UploadStream(body)
        resend = "if-none-match" not in headers
        request = Exchange("PUT", key, headers=headers, body=data, resend=resend)
        return (await self._http.call(request))[1]

    async def _put_if_absent(
        self, key: str, body: bytes | SpooledBody, headers: Mapping[str, str]
    ) -> None:
        if not self.conditional_writes and await self.head(key) is not None:
            raise ObjectExists("the key is taken", where=f"{self.name}/{key}")
        if self.conditional_writes is False:
            await self._put(key, body, headers)
            return
        conditional = {**headers, "if-none-match": "*"}
        fault = await self._try_put(key, body, conditional)
        if fault is None:
            await self._probe(key, body, conditional)
        elif fault.status == _NOT_IMPLEMENTED:
            self.conditional_writes = False
            await self._put(key, body, headers)
        else:
            self.conditional_writes = self.conditional_writes or fault.status == _TAKEN or None
            raise self._error(fault, "s3:PutObject", key)

    async def _probe(
        self, key: str, body: bytes | SpooledBody, conditional: Mapping[str, str]
    ) -> None:
        """Put again what was just put under a condition: a store that knows it must refuse."""
        size = len(body) if isinstance(body, bytes) else body.size
        if self.conditional_writes is not None or size > PROBE_BYTES:
            return
        fault = await self._try_put(key, body, conditional)
        if fault is not None and fault.status != _TAKEN:
            raise self._error(fault, "s3:PutObject", key)
        self.conditional_writes = fault is not None

    def _length(self, key: str, headers: Mapping[str, str]) -> int:
        """Return the length that an answer to HEAD tells; its caller has no body to measure."""
        size = content_length(headers)
        if size is None:
            raise StoreError(
                "the store's answer to HEAD does not tell the object's length",
                hint="a proxy or server on the way leaves out Content-Length: make it pass that on,"
                " or go round it (no_proxy, ATLAS_S3_ENDPOINT)",
                where=f"{self.name}/{key}",
            )
        return size

    def _error(self, fault: Fault, action: str, key: str) -> StoreError:
        where = f"{self.name}/{key}" if key else self.name
        return store_error(fault, action, self._bucket, where)


def _info(key: str, headers: Mapping[str, str], size: int) -> ObjectInfo:
    metadata = {
        name[len(_META) :]: text for name, text in headers.items() if name.startswith(_META)
    }
    return ObjectInfo(
        key,
        size,
        headers.get("etag", "").strip('"'),
        http_date(headers.get("last-modified", "")),
        metadata,
    )
