"""Upload sessions: a large attachment, range by range, to a URL that is its own permission.

Source: learn.microsoft.com/graph/outlook-large-attachments. Ranges go in order, each of at most
4 MB, without a token. The attachment comes into being with its last range.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from atlas_async.errors import (
    GraphError,
    GraphNotFound,
    GraphProtocolError,
    GraphTooLarge,
    IntegrityError,
    SyncStateGone,
)
from atlas_async.graph.client import Call, Content, GraphClient
from atlas_async.graph.lane import Lane
from atlas_async.graph.links import require_confidential
from atlas_async.model.source import JsonObject

RANGE_BYTES: Final = 12 * 320 * 1024
"""3.75 MiB: below the 4 MB that a range may have, and a multiple of 320 KiB, which other services
of Microsoft ask for."""
SESSIONS: Final = 3
"""Sessions begun for one attachment: one may expire, or be lost with a server."""
_REACHED: Final = frozenset({200, 201, 202, 204})
_OUT_OF_STEP: Final = frozenset({400, 409, 416})


class Pieces(Protocol):
    """Bytes of known length, once; an error at their end says that they are not right."""

    size: int

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        ...


OpenPieces = Callable[[], AbstractAsyncContextManager[Pieces]]


class SessionLostError(Exception):
    """The server knows the session no more, or is elsewhere in it than it should be."""


class Uploader:
    """Sends one attachment.

    Args:
        client: Sends the requests.
        lane: The mailbox's limits.
        where: Mailbox and message, for errors.
    """

    def __init__(self, client: GraphClient, lane: Lane, where: str) -> None:
        self._client = client
        self._lane = lane
        self._where = where
        self.bytes_sent = 0

    async def send(self, url: str, pieces: Pieces) -> bool:
        """Send everything; tell whether the server has said that the attachment is there.

        The last range is held back until the pieces have ended without an error, so content that
        is not right never becomes an attachment.

        Raises:
            SessionLostError: Begin again with another session.
            IntegrityError: The pieces are not right.
            GraphError: See the subclasses.
        """
        require_confidential(url, "upload URL")
        total = pieces.size
        start = 0
        waiting = bytearray()
        async for piece in pieces:
            waiting += piece
            while len(waiting) > RANGE_BYTES:
                await self._send_range(url, start, bytes(waiting[:RANGE_BYTES]), total)
                del waiting[:RANGE_BYTES]
                start += RANGE_BYTES
        if start + len(waiting) != total:
            raise IntegrityError(
                f"the content has {start + len(waiting)} bytes, {total} were stored",
                where=self._where,
            )
        return await self._send_range(url, start, bytes(waiting), total)

    async def _send_range(self, url: str, start: int, data: bytes, total: int) -> bool:
        """Send a range, or what the server lacks of it; tell whether it answered the last one."""
        end = start + len(data)
        offset = start
        while offset < end:
            answer = await self._put(url, offset, data[offset - start :], total)
            if answer is None:
                return False
            reached = _next_expected(answer)
            if reached is None or reached >= end:
                return True
            if reached <= offset:
                raise SessionLostError
            offset = reached
        return True

    async def _put(self, url: str, offset: int, data: bytes, total: int) -> JsonObject | None:
        """Send bytes; None when they were the last and nobody knows whether they arrived."""
        last = offset + len(data) == total
        unknown = False

        async def confirm() -> JsonObject | None:
            nonlocal unknown
            try:
                state = await self._state(url)
            except (GraphNotFound, SyncStateGone):
                if not last:
                    raise SessionLostError from None
                unknown = True
                return {}
            reached = _next_expected(state)
            return state if reached is not None and reached > offset else None

        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {offset}-{offset + len(data) - 1}/{total}",
        }
        call = Call(
            url,
            self._where,
            method="PUT",
            content=Content(data, headers),
            success=_REACHED,
            confirm=confirm,
            anonymous=True,
        )
        try:
            answer = await self._client.change(self._lane, call)
        except (GraphNotFound, SyncStateGone):
            if not last:
                raise SessionLostError from None
            # A session ends with its last range, which may have arrived: where a connection breaks
            # off, the layer below sends a PUT once more of its own accord.
            return None
        except GraphError as error:
            if isinstance(error, GraphTooLarge) or error.status not in _OUT_OF_STEP:
                raise
            found = await confirm()
            if found is None:
                raise SessionLostError from error
            answer = found
        self.bytes_sent += len(data)
        return None if unknown else answer

    async def _state(self, url: str) -> JsonObject:
        call = Call(url, self._where, anonymous=True)
        return (await self._client.fetch(self._lane, call)).document


def session_url(answer: JsonObject, where: str) -> str:
    """Return the URL of a session that was just opened."""
    url = answer.get("uploadUrl")
    if not isinstance(url, str) or not url:
        raise GraphProtocolError(
            "Microsoft Graph opened an upload session without a URL", where=where
        )
    return url


def _next_expected(state: JsonObject) -> int | None:
    """Return the first byte that the server lacks; None when it does not say, as after the last."""
    ranges = state.get("nextExpectedRanges") or state.get("NextExpectedRanges")
    if not isinstance(ranges, list) or not ranges:
        return None
    first = str(ranges[0]).partition("-")[0]
    return int(first) if first.isdecimal() else None
