"""Graph's two id formats, computed from numbers so that no table of a million ids is needed.

A default id changes whenever its message moves; an immutable id names the message for its
lifetime in the mailbox. Both are case-sensitive and may hold ``=``, ``-`` and ``_``.
"""

from __future__ import annotations

import base64
import binascii
import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import Final

_ALTERNATIVE: Final = b"_-"
_MESSAGE: Final = struct.Struct("<QQII2x")
_ATTACHMENT: Final = struct.Struct("<QQIII1x")
_FOLDER: Final = struct.Struct("<QI2x")
_DEFAULT_MARK: Final = b"\x00\x03\x24"
_IMMUTABLE_MARK: Final = b"\x00\x09\x00"
_FOLDER_MARK: Final = b"\x01\x03\x24"


class MalformedId(Exception):
    """The text is no id of this mailbox."""


@dataclass(frozen=True, slots=True)
class MessageRef:
    """What a message id says. ``moves`` counts relocations; it is ignored when immutable."""

    key: int
    folder: int
    moves: int
    immutable: bool


class IdBook:
    """Writes and reads the ids of one mailbox.

    Args:
        mailbox: A UUID that only this mailbox has.
    """

    def __init__(self, mailbox: uuid.UUID) -> None:
        text = str(mailbox).encode()
        self._salt = zlib.crc32(text)
        self._default = _encode(_DEFAULT_MARK + text)
        self._immutable = _encode(_IMMUTABLE_MARK + text)
        self._folder = _encode(_FOLDER_MARK + text)

    def folder(self, number: int) -> str:
        """Return the id of folder ``number``; folders have the same id in both formats."""
        return self._folder + _encode(_FOLDER.pack(number, self._check(number, 0, 0)))

    def message(self, key: int, folder: int, moves: int, *, immutable: bool) -> str:
        """Return the id of a message in one of the formats."""
        if immutable:
            tail = _MESSAGE.pack(0, key, 0, self._check(0, key, 1))
            return self._immutable + _encode(tail)
        tail = _MESSAGE.pack(folder, key, moves, self._check(folder, key, moves + 2))
        return self._default + _encode(tail)

    def attachment(self, ref: MessageRef, number: int) -> str:
        """Return the id of attachment ``number`` of a message, in the message id's format."""
        folder, moves = (0, 0) if ref.immutable else (ref.folder, ref.moves)
        check = self._check(folder + number, ref.key, moves)
        start = self._immutable if ref.immutable else self._default
        return start + _encode(_ATTACHMENT.pack(folder, ref.key, moves, number, check))

    def read_folder(self, text: str) -> int:
        """Return the folder's number. Raises ``MalformedId``."""
        number, check = _FOLDER.unpack(self._tail(text, self._folder, _FOLDER.size))
        if check != self._check(number, 0, 0):
            raise MalformedId(text)
        return int(number)

    def read_message(self, text: str) -> MessageRef:
        """Return what a message id says. Raises ``MalformedId``."""
        immutable = text.startswith(self._immutable)
        start = self._immutable if immutable else self._default
        folder, key, moves, check = _MESSAGE.unpack(self._tail(text, start, _MESSAGE.size))
        if check != self._check(folder, key, 1 if immutable else moves + 2):
            raise MalformedId(text)
        return MessageRef(key=key, folder=folder, moves=moves, immutable=immutable)

    def read_attachment(self, text: str) -> tuple[int, int]:
        """Return (message key, attachment number). Raises ``MalformedId``."""
        immutable = text.startswith(self._immutable)
        start = self._immutable if immutable else self._default
        tail = self._tail(text, start, _ATTACHMENT.size)
        folder, key, moves, number, check = _ATTACHMENT.unpack(tail)
        if check != self._check(folder + number, key, moves):
            raise MalformedId(text)
        return key, number

    def _check(self, a: int, b: int, c: int) -> int:
        return zlib.crc32(struct.pack("<QQI", a, b, c), self._salt)

    @staticmethod
    def _tail(text: str, start: str, size: int) -> bytes:
        if not text.startswith(start):
            raise MalformedId(text)
        try:
            tail = base64.b64decode(text[len(start) :], altchars=_ALTERNATIVE, validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedId(text) from error
        if len(tail) != size:
            raise MalformedId(text)
        return tail


def _encode(data: bytes) -> str:
    return base64.b64encode(data, altchars=_ALTERNATIVE).decode("ascii")
