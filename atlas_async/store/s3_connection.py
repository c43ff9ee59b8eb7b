"""One kept connection to the S3 server: one request in flight, its answer, then the next.

A connection is idle, busy with one exchange, or spent; a spent one never comes back. These rules
keep an answer from being lost, doubled or given to the wrong request:

1. It turns from idle to busy only in ``exchange``, which writes the whole request before anything
   else can run; a second ``exchange`` cannot begin before the first has ended.
2. It turns from busy to idle only when the one answer is complete, nothing came after it, the
   whole request has left, and the server keeps the connection. Every other end makes it spent:
   cancellation, a time-out, an error, an answer that came before the request was out.
3. A byte that arrives while it is idle belongs to no request: the connection is spent at once.
4. The answer is handed to the future of the exchange that wrote the request, and to no other; the
   future is made by that exchange and forgotten with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeAlias, cast

from atlas_async.store.s3_answer import (
    FIRST_REFUSAL,
    Answer,
    AnswerReader,
    AnswerTooLong,
    BrokenAnswer,
    whole_answer,
)
from atlas_async.store.s3_transport import SLOW_BYTES, AnswerLost

Outcome: TypeAlias = Answer | Exception


class Connection(asyncio.Protocol):
    """An ``asyncio`` protocol; made by the pool, which is told when it ends.

    Args:
        on_lost: Called once with the connection when its transport is closed.
    """

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self.usable = False
        self.touched = 0.0
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[Outcome] | None = None
        self._reader: AnswerReader | None = None
        self._bodyless = False
        self._most: int | None = None
        self._answering = False
        self._bound = inf
        self._judged = 0.0
        self._came = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Become idle."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.usable = True
        self.touched = self._loop.time()

    @property
    def answering(self) -> bool:
        """Whether a byte of an answer has come since the last request."""
        return self._answering

    async def exchange(
        self,
        message: Sequence[bytes],
        *,
        bodyless: bool,
        most: int | None = None,
        seconds: float = inf,
    ) -> Answer:
        """Send a request and return its answer. To be called on an idle connection.

        Args:
            message: The request's bytes, in pieces of which none is empty; they are held until
                they have left.
            bodyless: The method is HEAD.
            most: Bytes of a success's body beyond which it is given up.
            seconds: The longest the whole exchange may take, apart from silence (``expire``).

        Raises:
            AnswerLost: The connection ended, or what came was no answer.
            AnswerTooLong: See ``most``.
            TimeoutError: See ``expire``.

        Cancelling it closes the connection.
        """
        if not self.usable:
            raise AnswerLost("the server closed the connection")
        waiter: asyncio.Future[Outcome] = self._loop.create_future()
        self._waiter = waiter
        self._reader, self._bodyless, self._answering = None, bodyless, False
        self._most = most
        self.touched = self._loop.time()
        self._bound = self.touched + seconds
        try:
            self._transport.writelines(message)
            outcome = await waiter
        except BaseException:
            self.abort()
            raise
        finally:
            self._waiter = None
        if isinstance(outcome, Exception):
            raise outcome
        self.touched = self._loop.time()
        return outcome

    def expire(self, now: float, *, silence: float, idle: float) -> None:
        """Give up what takes too long: an exchange (``TimeoutError``), or being kept for nothing.

        Args:
            now: The loop's time.
            silence: Most seconds without a byte of the answer, and those in which an answer that
                has begun must bring ``SLOW_BYTES``. Where the exchange has a bound, it counts from
                the first byte: until then the request may still be on its way, which over TLS no
                transport tells.
            idle: Most seconds between two exchanges.
        """
        if self._waiter is None:
            if now - self.touched > idle:
                self.abort()
            return
        leaving = self._bound != inf and not self._answering
        if now > self._bound or (now - self.touched > silence and not leaving):
            self._end(TimeoutError())
        elif self._reader is not None and now - self._judged > silence:
            if self._came < SLOW_BYTES:
                self._end(TimeoutError())
            self._judged, self._came = now, 0

    def abort(self) -> None:
        """Close at once, whatever is going on: what waits for an answer gets ``AnswerLost``."""
        self._end(AnswerLost("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Read a piece of the answer."""
        if self._waiter is None or self._waiter.done():
            self.abort()
            return
        if self._reader is None:
            self._answering = True
            answer = whole_answer(data, bodyless=self._bodyless)
            if answer is not None:
                self._finish(answer, reusable=True)
                return
            self._reader = AnswerReader(bodyless=self._bodyless, most=self._most)
            self._judged, self._came = self._loop.time(), 0
        self.touched = self._loop.time()
        self._came += len(data)
        reader = self._reader
        try:
            reader.feed(data)
        except BrokenAnswer as error:
            self._end(AnswerLost(str(error)))
            return
        except AnswerTooLong as error:
            self._end(error)
            return
        if reader.answer is not None:
            self._finish(reader.answer, reusable=reader.reusable)

    def eof_received(self) -> None:
        """Take the end of what the server sends for the end of the connection."""
        reader = self._reader
        if reader is not None and reader.end() and reader.answer is not None:
            self._finish(reader.answer, reusable=False)
        else:
            self._end(AnswerLost("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits, and the pool."""
        self._end(AnswerLost(str(exc) if exc else "the connection was closed"))
        self._on_lost(self)

    def _finish(self, answer: Answer, *, reusable: bool) -> None:
        # An answer that overtook its request: the rest of the request must not follow. Of large
        # requests over TLS the transport cannot tell, so their refusals end the connection too.
        overtook = self._transport.get_write_buffer_size() > 0
        if reusable and not overtook and (self._bound == inf or answer.status < FIRST_REFUSAL):
            self._settle(answer)
        else:
            self._end(answer)

    def _end(self, outcome: Outcome) -> None:
        """Be spent, and settle with ``outcome`` unless it is settled already."""
        if self.usable:
            self.usable = False
            self._transport.abort()
        self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(outcome)
