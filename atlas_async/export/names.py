"""Names of files and directories that every system takes, made of what people call their mail.

Linux, macOS and Windows each forbid something else; what comes out of here is fit for all of them,
cannot leave its directory, and looks like what it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from datetime import datetime
from typing import Final

from atlas_async.export.words import well_formed

LONGEST_NAME: Final = 200
"""Bytes of a name in UTF-8; file systems take 255 bytes, some encrypted ones 143 characters."""
LONGEST_PATH: Final = 900
"""Bytes of a folder's path; systems take 1,024 (macOS) to 4,096 for the whole."""
_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
_UNSEEN: Final = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS: Final = frozenset({"\u200c", "\u200d"})
"""Format characters without which words of some scripts, and some emoji, are others."""
_RESERVED: Final = re.compile(
    r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\.|$)", re.IGNORECASE
)
_EDGES: Final = " ."


def safe_name(text: str, *, most: int = LONGEST_NAME, otherwise: str = "_") -> str:
    """Return a file name made of ``text``.

    Args:
        text: Anything.
        most: Bytes it may have in UTF-8.
        otherwise: The name of what leaves nothing.
    """
    composed = unicodedata.normalize("NFC", well_formed(text))
    shown = "".join(" " if char.isspace() else char for char in composed if _is_shown(char))
    name = re.sub(" +", " ", _FORBIDDEN.sub("_", shown)).lstrip(" ").rstrip(_EDGES)
    if _RESERVED.match(name):
        name = f"_{name}"
    return cut(name, most) or otherwise


def _is_shown(char: str) -> bool:
    category = unicodedata.category(char)
    if category == "Cf":
        return char in _JOINERS
    return char.isspace() or category not in _UNSEEN


def cut(name: str, most: int) -> str:
    """Return the beginning of ``name`` that has at most ``most`` bytes, cut between characters."""
    data = name.encode("utf-8")
    if len(data) > most:
        name = data[:most].decode("utf-8", "ignore")
        while name and unicodedata.combining(name[-1]):
            name = name[:-1]
    return name.rstrip(_EDGES)


def distinct_key(name: str) -> str:
    """Return what two names must not share on systems that do not tell cases or forms apart."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


def digest_of(identity: str, digits: int) -> str:
    """Return so many hex digits of the SHA-256 of an id."""
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


ID_DIGITS: Final = 10


def message_name(object_id: str, subject: str, moment: datetime | None, ending: str) -> str:
    """Return ``2026-04-20 112959 subject [0123456789]`` and the ending; the time is UTC."""
    when = moment.strftime("%Y-%m-%d %H%M%S") if moment else "0000-00-00 000000"
    tail = f" [{digest_of(object_id, ID_DIGITS)}]{ending}"
    room = LONGEST_NAME - len(when) - 1 - len(tail)
    return f"{when} {safe_name(subject, most=room, otherwise='(no subject)')}{tail}"


_UNPRINTED: Final = re.compile("[^ -~]+")


def modified_utf7(name: str) -> str:
    """Return a name as IMAP servers write it in Maildir (RFC 3501, section 5.1.3)."""
    return _UNPRINTED.sub(_shifted, name.replace("&", "&-"))


def _shifted(found: re.Match[str]) -> str:
    encoded = base64.b64encode(found[0].encode("utf-16-be")).decode("ascii")
    return f"&{encoded.rstrip('=').replace('/', ',')}-"
