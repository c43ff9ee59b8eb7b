"""One request to the S3 server, and how long it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlas_async.store.s3_transport import UploadStream

CONNECT_SECONDS = 20.0
"""Patience for DNS, TCP and TLS together."""
READ_SECONDS = 60.0
"""Patience between two pieces of an answer, and for the answer after the body was sent."""
SLOWEST_BYTES_PER_SECOND = 16 << 10
"""An upload slower than this is given up and tried again."""
WIRE_BYTES = 1 << 20
"""The largest body that is sent in one piece."""
LISTING_BYTES = 16 << 20
"""The longest listing: far above 1,000 keys of 1,024 bytes, each percent-encoded, about 4 MiB."""
_WHOLE_BYTES = 1 << 30
"""The longest object that is read whole by somebody who does not say how long it may be."""
_WORD_BYTES = 64 << 10
"""The longest answer to a request that asks for nothing."""
_SMALL_BYTES = 64 << 10
"""A body that the socket's buffers take at once, so that only the answer is waited for."""


@dataclass(slots=True)
class Exchange:
    """One request. ``query`` is canonical; ``body`` is bytes or a stream of known length.

    ``resend`` allows it to be sent again when a kept connection turns out dead. ``most`` bounds the
    bytes of the body of a success.
    """

    method: str
    key: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | UploadStream | None = None
    resend: bool = True
    most: int | None = None

    @property
    def bound(self) -> int:
        """Bytes after which the body of a success is given up: an answer may never end."""
        if self.most is not None:
            return self.most
        if self.method != "GET":
            return _WORD_BYTES
        return _WHOLE_BYTES if self.key else LISTING_BYTES

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        if isinstance(self.body, UploadStream):
            return self.body.size
        return len(self.body) if self.body is not None else 0

    @property
    def seconds(self) -> float | None:
        """The longest the whole of it may take; None where only silence is limited."""
        if self.size <= _SMALL_BYTES:
            return None
        return CONNECT_SECONDS + READ_SECONDS + self.size / SLOWEST_BYTES_PER_SECOND
