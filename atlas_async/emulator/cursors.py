"""Opaque tokens: paging and delta state that travels with the client, tamper-evident."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Final

import orjson

_MAC: Final = 12


class BadCursor(Exception):
    """The token was not made by this server."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a delta round stands.

    ``phase`` is ``g`` (generated messages), ``a`` (arrivals), ``c`` (changes) or ``e`` (the end,
    with empty pages); ``at`` is the position in it. ``since`` is the sequence number that the
    round reports changes after, ``until`` the one it ends at. ``ready`` marks a delta token.
    """

    mailbox: int
    folder: int
    immutable: bool
    generation: int
    since: int
    until: int
    phase: str
    at: int = 0
    served: int = 0
    top: int = 0
    blanks: int = 0
    previous: int = -1
    select: tuple[str, ...] | None = None
    expand: str = ""
    change_type: str = ""
    after: str = ""
    text_body: bool = False
    ready: bool = False

    def moved(self, phase: str, at: int) -> Cursor:
        """Return the cursor at another place of the same round."""
        return replace(self, phase=phase, at=at)


class CursorSeal:
    """Writes cursors as tokens and reads them back.

    Args:
        secret: Known to the server alone; tokens survive a restart with the same secret.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def token(self, cursor: Cursor) -> str:
        """Return the opaque text; equal cursors give equal text."""
        plain = orjson.dumps(asdict(cursor))
        mac = hashlib.blake2b(plain, key=self._secret, digest_size=_MAC).digest()
        return base64.urlsafe_b64encode(mac + plain).decode("ascii").rstrip("=")

    def cursor(self, token: str) -> Cursor:
        """Return what the token says. Raises ``BadCursor``."""
        padded = token + "=" * (-len(token) % 4)
        try:
            raw = base64.urlsafe_b64decode(padded.encode("ascii"))
        except (binascii.Error, ValueError) as error:
            raise BadCursor(token) from error
        mac, plain = raw[:_MAC], raw[_MAC:]
        if hashlib.blake2b(plain, key=self._secret, digest_size=_MAC).digest() != mac:
            raise BadCursor(token)
        fields = orjson.loads(plain)
        if fields["select"] is not None:
            fields["select"] = tuple(fields["select"])
        return Cursor(**fields)
