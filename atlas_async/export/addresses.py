"""Senders and recipients as RFC 5322 has them, whatever Exchange keeps in their place.

What is no mail address (a legacy name of Exchange, a bare word, a local part that ASCII cannot
hold) becomes an empty group named by it, as RFC 6854 and RFC 6857 have it: it is shown, and no
program takes it for an address to write to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from atlas_async.export.words import listed, one_line, phrase

_DOT_ATOM: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
)
_DOMAIN: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:.]+\]"
)
_QUOTABLE: Final = re.compile(r"[ -+\-.\/0-9=?A-Z\[\]^-~]+")
"""A local part that is quoted holds nothing that some program takes for another address."""
_LONGEST: Final = 320
"""RFC 3696: 64 characters, an at sign, 255 characters."""


def address_tokens(recipients: object, *, room: int = 0) -> list[str]:
    """Return the tokens of an address list, of Graph's ``recipient`` or list of them.

    Args:
        recipients: As a message resource has them; anything else in it is passed over.
        room: Characters that the first line has already.
    """
    groups = []
    for name, address in people(recipients):
        groups.append(_mailbox(name, address, room=room))
        room = 0
    return listed(groups)


def people(recipients: object) -> Iterator[tuple[str, str]]:
    """Yield name and address of everybody in a ``recipient`` or a list of them."""
    every = recipients if isinstance(recipients, list) else [recipients]
    for holder in every:
        inner = holder.get("emailAddress") if isinstance(holder, dict) else None
        if not isinstance(inner, dict):
            continue
        name, address = _line(inner.get("name")), _line(inner.get("address"))
        if name or address:
            yield name, address


def _line(value: object) -> str:
    return one_line(value) if isinstance(value, str) else ""


def _mailbox(name: str, address: str, *, room: int) -> list[str]:
    spec = addr_spec(address)
    if spec is None:
        shown = name if not address or address == name else f"{name} <{address}>".strip()
        return [*phrase(shown, room=room), ":;"]
    if not name or name == address:
        return [spec]
    return [*phrase(name, room=room), f"<{spec}>"]


def addr_spec(address: str) -> str | None:
    """Return an address in ASCII, or None where it is none or has no such form."""
    local, at, domain = address.rpartition("@")
    if not (at and local and domain) or len(address) > _LONGEST:
        return None
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    if not _DOMAIN.fullmatch(domain):
        return None
    if _DOT_ATOM.fullmatch(local):
        return f"{local}@{domain}"
    if not _QUOTABLE.fullmatch(local):
        return None
    bare = local.strip('"')
    return f'"{bare}"@{domain}' if bare.strip() and '"' not in bare else None
