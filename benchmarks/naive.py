"""The naive way: what one would write first.

aiobotocore, a HEAD before each PUT, the standard library's JSON, 32 objects at a time. It reads the
same pages as the others and runs under the same event loop; only the way of working differs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.measured import Verbs, run
from benchmarks.plain_graph import Json, PlainGraph, open_graph

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

AT_ONCE = 32


class Naive:
    """Copies mailboxes into a bucket.

    Args:
        graph: Where mail comes from.
        client: The store.
        bucket: Where mail goes.
        mailboxes: Which.
        attachments: Whether to look for attachments.
    """

    def __init__(
        self,
        graph: PlainGraph,
        client: S3Client,
        bucket: str,
        mailboxes: Sequence[str],
        *,
        attachments: bool,
    ) -> None:
        self._graph = graph
        self._client = client
        self._bucket = bucket
        self._mailboxes = mailboxes
        self._look = attachments
        self._cipher = AESGCM(os.urandom(32))
        self._places = asyncio.Semaphore(AT_ONCE)
        self._stored: dict[str, str] = {}
        self._count = {"messages": 0, "attachments": 0, "bytes": 0, "store_requests": 0}

    async def backup(self) -> dict[str, Any]:
        """Store what is new since the last round and is not there yet."""
        return await self._counted(lambda: self._graph.read(self._mailboxes, self._take))

    async def verify(self) -> dict[str, Any]:
        """Get everything that was stored and check it."""

        async def check(key: str, checksum: str) -> None:
            async with self._places:
                got = await self._client.get_object(Bucket=self._bucket, Key=key)
                body = await got["Body"].read()
                self._count["store_requests"] += 1
                plain = self._cipher.decrypt(body[:12], body[12:], None)
                if hashlib.sha256(plain).hexdigest() != checksum:
                    raise ValueError(f"{key} is damaged")
                self._count["messages"] += 1

        return await self._counted(lambda: _together(check(*one) for one in self._stored.items()))

    async def _take(self, mailbox: str, user: str, messages: Sequence[Json]) -> None:
        async def store(message: Json) -> None:
            async with self._places:
                await self._store(mailbox, user, message)

        await _together(store(message) for message in messages)

    async def _store(self, mailbox: str, user: str, message: Json) -> None:
        if self._look:
            async for content in self._graph.attachments(user, message):
                await self._put(f"attachments/{mailbox}", content, {})
                self._count["attachments"] += 1
        await self._put(f"data/{mailbox}", json.dumps(message).encode(), message)
        self._count["messages"] += 1

    async def _put(self, place: str, plain: bytes, message: Json) -> None:
        checksum = hashlib.sha256(plain).hexdigest()
        key = f"{place}/{checksum}"
        self._stored[key] = checksum
        if await self._is_there(key):
            return
        nonce = os.urandom(12)
        sealed = nonce + self._cipher.encrypt(nonce, plain, None)
        md5 = b64encode(hashlib.md5(sealed, usedforsecurity=False).digest()).decode()
        metadata = {"plaintext-sha256": checksum}
        if message:
            metadata["message-id"] = message["id"]
        await self._client.put_object(
            Bucket=self._bucket, Key=key, Body=sealed, ContentMD5=md5, Metadata=metadata
        )
        self._count["store_requests"] += 1
        self._count["bytes"] += len(sealed)

    async def _is_there(self, key: str) -> bool:
        self._count["store_requests"] += 1
        try:
            await self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                return False
            raise
        return True

    async def _counted(self, work: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        self._count = dict.fromkeys(self._count, 0)
        self._graph.requests = 0
        await work()
        return self._count | {"graph_requests": self._graph.requests}


async def _together(work: Iterable[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


@asynccontextmanager
async def naive(job: dict[str, Any]) -> AsyncIterator[Verbs]:
    """Sign in and make the bucket."""
    settings = job["settings"]
    bucket = f"naive-{settings['ATLAS_TENANT_ID']}"
    opened = AioSession().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=settings["ATLAS_S3_ENDPOINT"],
        aws_access_key_id=settings["ATLAS_S3_ACCESS_KEY"],
        aws_secret_access_key=settings["ATLAS_S3_SECRET_KEY"],
        config=AioConfig(
            max_pool_connections=AT_ONCE,
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    async with open_graph(settings, json.loads) as graph, opened as client:
        await client.create_bucket(Bucket=bucket)
        it = Naive(graph, client, bucket, job["mailboxes"], attachments=job["attachments"])
        yield {"backup": it.backup, "verify": it.verify}


if __name__ == "__main__":
    run(naive)
