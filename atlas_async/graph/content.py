"""The bytes of one answer as they arrive: of an attachment, or a message's MIME."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from atlas_async.errors import GraphTransient
from atlas_async.graph.decoding import decoded
from atlas_async.graph.lane import Lane
from atlas_async.graph.persistence import AttemptFailedError
from atlas_async.graph.transport import network_failures


class ContentBytes:
    """The content of one attachment or message, once.

    Args:
        response: The open answer.
        lane: Where the bytes are counted.
        where: Mailbox and message, for errors.
    """

    def __init__(self, response: aiohttp.ClientResponse, lane: Lane, where: str) -> None:
        self._response = response
        self._lane = lane
        self._where = where

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the content in order, in pieces of at most 1 MiB.

        Raises:
            GraphTransient: The connection broke, fell silent for a minute, trickled, ended early,
                or did not end.
        """
        received = 0
        pieces = decoded(self._response)
        while True:
            try:
                with network_failures(self._where):
                    piece = await anext(pieces, b"")
            except AttemptFailedError as failed:
                raise failed.failure.error from failed.__cause__
            if not piece:
                break
            received += len(piece)
            self._lane.count_bytes(len(piece))
            yield piece
        self._check_length(received)

    def _check_length(self, received: int) -> None:
        expected = self._response.content_length
        encoded = self._response.headers.get("Content-Encoding", "identity") != "identity"
        if expected is not None and not encoded and received != expected:
            raise GraphTransient(
                f"The content ended after {received} of {expected} bytes", where=self._where
            )
