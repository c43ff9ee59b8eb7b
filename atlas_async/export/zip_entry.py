"""The records of a zip file (APPNOTE 6.3.10), as bytes. Names are UTF-8, sizes 64 bits if needed.

Every entry has its Unix mode, and its time twice: in MS-DOS's form, which has no zone and is UTC
here, and as Unix time in the extra field 0x5455, which programs of today go by.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MOST_32: Final = 0xFFFFFFFF
MOST_16: Final = 0xFFFF
DEFLATED: Final = 8
STORED: Final = 0
_UTF8_NAME: Final = 1 << 11
_UNIX: Final = 3
_VERSION: Final = 20
_VERSION_64: Final = 45
_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END_64: Final = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR: Final = struct.Struct("<4sIQI")
_END: Final = struct.Struct("<4sHHHHIIH")
_EXTRA: Final = struct.Struct("<HH")
_TIME_EXTRA: Final = 0x5455
_SIZES_EXTRA: Final = 0x0001
_MODE_FILE: Final = 0o100600
_MODE_FOLDER: Final = 0o040700
_DOS_FOLDER: Final = 0x10
_FIRST_YEAR: Final = 1980
_LAST_YEAR: Final = 2107
LOCAL_BYTES: Final = _LOCAL.size
CENTRAL_BYTES: Final = _CENTRAL.size


@dataclass(slots=True)
class ZipEntry:
    """One entry. ``large`` reserves room for sizes of 64 bits before the sizes are known."""

    name: str
    modified: float | None
    offset: int
    large: bool = False
    crc: int = 0
    packed: int = 0
    size: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory, whose name ends with a slash."""
        return self.name.endswith("/")

    @property
    def method(self) -> int:
        """How it is compressed."""
        return STORED if self.is_folder else DEFLATED

    def local(self) -> bytes:
        """Return the header in front of the data."""
        name = self.name.encode("utf-8")
        extra = self._time_extra()
        packed, size = self.packed, self.size
        if self.large:
            extra = _EXTRA.pack(_SIZES_EXTRA, 16) + struct.pack("<QQ", size, packed) + extra
            packed = size = MOST_32
        head = _LOCAL.pack(
            b"PK\3\4",
            _VERSION_64 if self.large else _VERSION,
            _UTF8_NAME,
            self.method,
            *self._dos_time(),
            self.crc,
            packed,
            size,
            len(name),
            len(extra),
        )
        return head + name + extra

    def central(self) -> bytes:
        """Return the record in the directory at the end."""
        name = self.name.encode("utf-8")
        wide = [value for value in (self.size, self.packed, self.offset) if value >= MOST_32]
        extra = self._time_extra()
        if wide:
            sizes = struct.pack(f"<{len(wide)}Q", *wide)
            extra = _EXTRA.pack(_SIZES_EXTRA, len(sizes)) + sizes + extra
        mode = _MODE_FOLDER if self.is_folder else _MODE_FILE
        version = _VERSION_64 if wide or self.large else _VERSION
        head = _CENTRAL.pack(
            b"PK\1\2",
            _UNIX << 8 | version,
            version,
            _UTF8_NAME,
            self.method,
            *self._dos_time(),
            self.crc,
            min(self.packed, MOST_32),
            min(self.size, MOST_32),
            len(name),
            len(extra),
            0,
            0,
            0,
            mode << 16 | (_DOS_FOLDER if self.is_folder else 0),
            min(self.offset, MOST_32),
        )
        return head + name + extra

    def _dos_time(self) -> tuple[int, int]:
        moment = None if self.modified is None else datetime.fromtimestamp(self.modified, UTC)
        if moment is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            return 0, 1 << 5 | 1
        time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
        return time, (moment.year - _FIRST_YEAR) << 9 | moment.month << 5 | moment.day

    def _time_extra(self) -> bytes:
        if self.modified is None or not 0 <= self.modified < 1 << 31:
            return b""
        return _EXTRA.pack(_TIME_EXTRA, 5) + struct.pack("<Bi", 1, int(self.modified))


def read_central(head: bytes, rest: bytes) -> ZipEntry:
    """Return the entry of a directory record that ``ZipEntry.central`` made.

    Args:
        head: Its first ``CENTRAL_BYTES`` bytes.
        rest: The name and the extra fields after them.
    """
    values = _CENTRAL.unpack(head)
    crc, packed, size, name_length = values[7], values[8], values[9], values[10]
    offset = values[16]
    extra = rest[name_length:]
    if len(extra) >= _EXTRA.size and _EXTRA.unpack_from(extra)[0] == _SIZES_EXTRA:
        wide = list(struct.unpack_from(f"<{_EXTRA.unpack_from(extra)[1] // 8}Q", extra, 4))
        size = wide.pop(0) if size == MOST_32 else size
        packed = wide.pop(0) if packed == MOST_32 else packed
        offset = wide.pop(0) if offset == MOST_32 else offset
    name = rest[:name_length].decode("utf-8")
    return ZipEntry(name, None, offset, crc=crc, packed=packed, size=size)


def central_rest(head: bytes) -> int:
    """Return how many bytes follow the beginning of a directory record."""
    values = _CENTRAL.unpack(head)
    return int(values[10]) + int(values[11])


def local_length(head: bytes) -> int:
    """Return the length of a whole local header from its first ``LOCAL_BYTES`` bytes."""
    values = _LOCAL.unpack(head)
    return LOCAL_BYTES + int(values[9]) + int(values[10])


def ending(entries: int, start: int, size: int) -> bytes:
    """Return what ends the file, after a directory of ``size`` bytes that begins at ``start``."""
    tail = b""
    if entries >= MOST_16 or start >= MOST_32 or size >= MOST_32:
        versions = (_UNIX << 8 | _VERSION_64, _VERSION_64)
        tail = _END_64.pack(b"PK\6\6", 44, *versions, 0, 0, entries, entries, size, start)
        tail += _LOCATOR.pack(b"PK\6\7", 0, start + size, 1)
    few = min(entries, MOST_16)
    return tail + _END.pack(b"PK\5\6", 0, 0, few, few, min(size, MOST_32), min(start, MOST_32), 0)
