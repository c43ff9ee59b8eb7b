"""What each kind of value may be. Pure: text in, value out, ``Malformed`` where it does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BUCKET_TENANT: Final = re.compile(r"[a-z0-9]+([.-]?[a-z0-9]+|-+[a-z0-9]+)*")
LONGEST_TENANT: Final = 63 - len("atlas-")
"""S3 bucket names have at most 63 characters, and ours start with ``atlas-``."""
SHARED_AUTHORITIES: Final = frozenset({"common", "organizations", "consumers"})
UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
SWITCHES: Final = {"true": True, "1": True, "false": False, "0": False}
SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
SHOWN_OF_PATH: Final = 1_000
"""Characters of a path that an error shows: all of any that somebody really has."""
SMALLEST_BUDGET: Final = 16 * 2**20


class Malformed(Exception):
    """A value is not what the setting expects; the text adds what is wrong, or is empty."""


def switch(text: str) -> bool:
    """Return whether something is on."""
    word = text.strip().lower()
    if word not in SWITCHES:
        raise Malformed("")
    return SWITCHES[word]


def is_text(text: str) -> bool:
    """Tell whether ``text`` has a UTF-8 form: the environment's bytes, and JSON's, need not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def tenant_id(text: str, *, microsoft: bool) -> str:
    """Return a tenant id that can be part of a bucket name.

    Args:
        text: The id as given.
        microsoft: Whether it is about to be sent to Microsoft, which knows only GUIDs and domains.
    """
    if text != text.lower() and BUCKET_TENANT.fullmatch(text.lower()):
        raise Malformed(f"write it in lower case ({text.lower()}), as it names the bucket")
    if not BUCKET_TENANT.fullmatch(text) or ".-" in text or "-." in text:
        raise Malformed("it names the bucket, so only a-z, 0-9, hyphen and dot may be in it")
    if len(text) > LONGEST_TENANT:
        raise Malformed(f"it names the bucket, so it has at most {LONGEST_TENANT} characters")
    if text in SHARED_AUTHORITIES:
        raise Malformed("an application's own access needs one particular tenant")
    if microsoft and not GUID.fullmatch(text) and "." not in text:
        raise Malformed("it is neither a GUID nor a domain")
    return text


def client_id(text: str, *, microsoft: bool) -> str:
    """Return an application id; Microsoft's are GUIDs."""
    if (microsoft and not GUID.fullmatch(text.lower())) or not text.isprintable():
        raise Malformed("")
    return text


def web_url(text: str) -> str:
    """Return an http or https URL without a trailing slash, credentials, query or fragment."""
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0
    except ValueError as error:
        raise Malformed("it is not a URL") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Malformed("it starts with neither http:// nor https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise Malformed("credentials do not belong into it")
    if parts.query or parts.fragment or not port_fits or not text.isprintable() or " " in text:
        raise Malformed("only scheme, host, port and path may be in it")
    return text.rstrip("/")


def directory_url(text: str) -> Path:
    """Return the directory that a ``file:///`` URL names."""
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise Malformed("it is not a URL") from error
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or parts.query:
        raise Malformed("")
    if not path.is_absolute() or path == Path("/"):
        raise Malformed("the path must be absolute, with three slashes after file:")
    if _kind(path) is False:
        raise Malformed(f"{path} is not a directory")
    return path


def _kind(path: Path) -> bool | None:
    """Tell whether something is a directory; None where there is nothing.

    Raises:
        Malformed: That cannot be found out, or nothing can have such a name.
    """
    try:
        return path.is_dir() if path.exists() else None
    except OSError as error:
        raise Malformed(
            f"{str(path)[:SHOWN_OF_PATH]} cannot be looked at: {error.strerror}"
        ) from error
    except ValueError as error:
        raise Malformed("nothing can have such a name") from error


def whole_number(text: str, low: int, high: int) -> int:
    """Return a whole number within ``low`` and ``high``, both included."""
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or not low <= int(text) <= high:
        raise Malformed("")
    return int(text)


def byte_size(text: str) -> int:
    """Return a size in bytes; KB, MB, GB count in thousands, KiB, MiB, GiB in 1,024s."""
    match = re.fullmatch(r"([0-9]{1,15})\s*([a-zA-Z]*)", text.strip())
    unit = UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or int(match[1]) * unit < SMALLEST_BUDGET:
        raise Malformed("")
    return int(match[1]) * unit


def duration(text: str) -> float:
    """Return a time in seconds; ``s``, ``m``, ``h`` and ``d`` stand for their multiples."""
    match = re.fullmatch(r"([0-9]{1,6})\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise Malformed("")
    return float(int(match[1]) * SECONDS[match[2]])


def region(text: str) -> str:
    """Return an S3 region's name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise Malformed("")
    return text


def rooted(text: str, base: Path, home: Path) -> Path:
    """Return a path with ``~/`` and relative paths resolved."""
    if "\0" in text:
        raise Malformed("a path has no null character")
    if text == "~" or text.startswith("~/"):
        return home / text[2:]
    return base / text


def file_path(text: str, base: Path, home: Path) -> Path:
    """Return the path of a file that can be read."""
    path = rooted(text, base, home)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise Malformed(f"{str(path)[:SHOWN_OF_PATH]} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Malformed("nothing can have such a name") from error


def directory_path(text: str, base: Path, home: Path) -> Path:
    """Return the path of a directory that exists."""
    path = rooted(text, base, home)
    if not _kind(path):
        raise Malformed(f"{str(path)[:SHOWN_OF_PATH]} is not a directory")
    return path
