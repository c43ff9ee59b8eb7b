"""Signed requests to one bucket in the plainest way: aiohttp, and Signature Version 4 in place."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

CONNECTIONS = 48
REGION = "us-east-1"
_UNSIGNED = "UNSIGNED-PAYLOAD"


class PlainBucket:
    """One bucket, addressed by path.

    Args:
        session: Sends requests.
        settings: ``ATLAS_*`` settings that lead to the server.
    """

    def __init__(self, session: aiohttp.ClientSession, settings: dict[str, str]) -> None:
        self.requests = 0
        self._session = session
        self._endpoint = settings["ATLAS_S3_ENDPOINT"]
        self._host = urlsplit(self._endpoint).netloc
        self._access_key = settings["ATLAS_S3_ACCESS_KEY"]
        self._bucket = f"/floor-{settings['ATLAS_TENANT_ID']}"
        self._day = time.strftime("%Y%m%d", time.gmtime())
        self._scope = f"{self._day}/{REGION}/s3/aws4_request"
        key = f"AWS4{settings['ATLAS_S3_SECRET_KEY']}".encode()
        for part in (self._day, REGION, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key

    async def create(self) -> None:
        """Make the bucket."""
        await self._send("PUT", self._bucket, {})

    async def put(self, key: str, body: bytes, md5: str, metadata: dict[str, str]) -> None:
        """Store an object; ``md5`` is in base64."""
        headers = {"content-md5": md5, **metadata}
        await self._send("PUT", f"{self._bucket}/{quote(key)}", headers, body)

    async def get(self, key: str) -> bytes:
        """Return an object."""
        return await self._send("GET", f"{self._bucket}/{quote(key)}", {})

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> bytes:
        self.requests += 1
        sent = self._sign(method, path, headers)
        url = URL(self._endpoint + path, encoded=True)
        async with self._session.request(method, url, headers=sent, data=body) as response:
            response.raise_for_status()
            return await response.read()

    def _sign(self, method: str, path: str, headers: dict[str, str]) -> dict[str, str]:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        signed = headers | {
            "host": self._host,
            "x-amz-content-sha256": _UNSIGNED,
            "x-amz-date": moment,
        }
        names = sorted(signed)
        lines = "".join([f"{name}:{signed[name]}\n" for name in names])
        listed = ";".join(names)
        request = f"{method}\n{path}\n\n{lines}\n{listed}\n{_UNSIGNED}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{self._scope}\n{digest}"
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        signed["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._access_key}/{self._scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return signed


@asynccontextmanager
async def open_bucket(settings: dict[str, str]) -> AsyncIterator[PlainBucket]:
    """Make a bucket of the floor's own at the server that ``ATLAS_*`` settings lead to."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        bucket = PlainBucket(session, settings)
        await bucket.create()
        yield bucket
