"""What an unfinished run must remember beside its rows, so that its successor loses nothing.

``removed``: ids that a delta said left a folder and that are not verified yet. ``seen``: slots of
the ids met in full enumerations that have not ended, which tell what is gone once they have.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from anyio import to_thread

from atlas_async.catalog.document import FORMAT, pack, unpack
from atlas_async.catalog.fields import texts
from atlas_async.catalog.layout import carry_key
from atlas_async.catalog.slots import SlotSet
from atlas_async.catalog.vault import Vault
from atlas_async.crypto.envelope import sha256_hex
from atlas_async.errors import FormatError


@dataclass(slots=True)
class Carry:
    """Folder id -> ids removed but not verified; folder id -> slots seen in an open full round."""

    removed: dict[str, set[str]] = field(default_factory=dict)
    seen: dict[str, SlotSet] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to remember."""
        return not self.seen and not any(self.removed.values())

    def copy(self) -> Carry:
        """Return an independent copy."""
        return Carry(
            {folder: set(ids) for folder, ids in self.removed.items()},
            {folder: slots.copy() for folder, slots in self.seen.items()},
        )


async def write_carry(vault: Vault, carry: Carry) -> str:
    """Store what must be remembered and return its name; nothing is stored when it is empty."""
    if carry.empty:
        return ""
    removed = {folder: sorted(ids) for folder, ids in carry.removed.items() if ids}
    seen = {folder: slots.copy() for folder, slots in carry.seen.items()}
    plaintext = await to_thread.run_sync(_pack, vault.mailbox_id, removed, seen)
    checksum = sha256_hex(plaintext)
    await vault.put_raw(carry_key(vault.mailbox_id, checksum), plaintext)
    return checksum


def _pack(mailbox_id: str, removed: dict[str, list[str]], seen: dict[str, SlotSet]) -> bytes:
    encoded = {
        folder: base64.b64encode(slots.to_bytes()).decode() for folder, slots in seen.items()
    }
    return pack(
        {
            "format": FORMAT,
            "kind": "carry",
            "mailbox_id": mailbox_id,
            "removed": removed,
            "seen": encoded,
        }
    )


async def read_carry(vault: Vault, checksum: str) -> Carry:
    """Return what an unfinished run left to remember.

    Raises:
        ObjectNotFound, IntegrityError: It is missing or damaged.
    """
    if not checksum:
        return Carry()
    key = carry_key(vault.mailbox_id, checksum)
    document = unpack(await vault.read_content(key, checksum), kind="carry", where=key)
    try:
        removed = {folder: set(texts(ids)) for folder, ids in document["removed"].items()}
        seen = {folder: _slots(text) for folder, text in document["seen"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = f"carry document cannot be parsed: {error}"
        raise FormatError(msg, where=key) from None
    return Carry(removed, seen)


def _slots(text: str) -> SlotSet:
    return SlotSet.from_bytes(base64.b64decode(text, validate=True))
