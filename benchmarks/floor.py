"""The floor: what no engine can avoid, in the plainest loop.

The pages, orjson, SHA-256 of each message's JSON, AES-256-GCM, MD5, and one signed PUT each with 48
in flight. Attachments are listed, hashed, sealed and put. No state, no deduplication, no further
tries, no bound on memory. ``verify`` gets all that was stored, opens it and compares SHA-256.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.measured import Verbs, run
from benchmarks.plain_graph import Json, PlainGraph, open_graph
from benchmarks.plain_s3 import PlainBucket, open_bucket

IN_FLIGHT = 48
WAITING = 400
"""Messages that may wait for a PUT: four pages."""

Task = tuple[str, str, Json]
"""Mailbox, user id, message."""


class Floor:
    """Copies mailboxes into a bucket.

    Args:
        graph: Where mail comes from.
        bucket: Where it goes.
        mailboxes: Which.
        attachments: Whether to look for attachments.
    """

    def __init__(
        self, graph: PlainGraph, bucket: PlainBucket, mailboxes: Sequence[str], *, attachments: bool
    ) -> None:
        self._graph = graph
        self._bucket = bucket
        self._mailboxes = mailboxes
        self._look = attachments
        self._cipher = AESGCM(os.urandom(32))
        self._stored: dict[str, str] = {}
        self._count = {"messages": 0, "attachments": 0, "bytes": 0}

    async def read(self) -> dict[str, Any]:
        """Read every page and store nothing."""

        async def take(_mailbox: str, user: str, messages: Sequence[Json]) -> None:
            self._count["messages"] += len(messages)
            for message in messages if self._look else ():
                async for _ in self._graph.attachments(user, message):
                    self._count["attachments"] += 1

        return await self._counted(lambda: self._graph.read(self._mailboxes, take))

    async def backup(self) -> dict[str, Any]:
        """Store what is new since the last round."""
        return await self._counted(self._copy)

    async def verify(self) -> dict[str, Any]:
        """Get everything that was stored and check it."""
        left = iter(list(self._stored.items()))

        async def check() -> None:
            for key, checksum in left:
                body = await self._bucket.get(key)
                plain = self._cipher.decrypt(body[:12], body[12:], None)
                if hashlib.sha256(plain).hexdigest() != checksum:
                    raise ValueError(f"{key} is damaged")
                self._count["messages"] += 1

        return await self._counted(lambda: _at_once(check))

    async def _copy(self) -> None:
        waiting: asyncio.Queue[Task | None] = asyncio.Queue(WAITING)

        async def take(mailbox: str, user: str, messages: Sequence[Json]) -> None:
            for message in messages:
                await waiting.put((mailbox, user, message))

        async def produce() -> None:
            await self._graph.read(self._mailboxes, take)
            for _ in range(IN_FLIGHT):
                await waiting.put(None)

        async def consume() -> None:
            while task := await waiting.get():
                await self._store(*task)

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            for _ in range(IN_FLIGHT):
                group.create_task(consume())

    async def _store(self, mailbox: str, user: str, message: Json) -> None:
        if self._look:
            async for content in self._graph.attachments(user, message):
                await self._put(f"attachments/{mailbox}", content, {})
                self._count["attachments"] += 1
        await self._put(f"data/{mailbox}", orjson.dumps(message), message)
        self._count["messages"] += 1

    async def _put(self, place: str, plain: bytes, message: Json) -> None:
        checksum = hashlib.sha256(plain).hexdigest()
        nonce = os.urandom(12)
        sealed = nonce + self._cipher.encrypt(nonce, plain, None)
        md5 = b64encode(hashlib.md5(sealed, usedforsecurity=False).digest()).decode()
        metadata = {"x-amz-meta-plaintext-sha256": checksum}
        if message:
            metadata["x-amz-meta-message-id"] = message["id"]
        key = f"{place}/{checksum}"
        await self._bucket.put(key, sealed, md5, metadata)
        self._stored[key] = checksum
        self._count["bytes"] += len(sealed)

    async def _counted(self, work: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        self._count = dict.fromkeys(self._count, 0)
        self._graph.requests = self._bucket.requests = 0
        await work()
        return self._count | {
            "graph_requests": self._graph.requests,
            "store_requests": self._bucket.requests,
        }


async def _at_once(work: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())  # type: ignore[arg-type]  # a coroutine, as written above


@asynccontextmanager
async def floor(job: dict[str, Any]) -> AsyncIterator[Verbs]:
    """Sign in and make the bucket."""
    settings = job["settings"]
    async with open_graph(settings, orjson.loads) as graph, open_bucket(settings) as bucket:
        it = Floor(graph, bucket, job["mailboxes"], attachments=job["attachments"])
        yield {"read": it.read, "backup": it.backup, "verify": it.verify}


if __name__ == "__main__":
    run(floor)
