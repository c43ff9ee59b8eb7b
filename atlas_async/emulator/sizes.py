"""What a message weighs, and what its mailbox takes."""

from __future__ import annotations

from typing import Any

from atlas_async.emulator.behaviour import Behaviour
from atlas_async.emulator.calls import Refusal
from atlas_async.emulator.mailbox import Mailbox
from atlas_async.emulator.parts import Part


def check_room(mailbox: Mailbox) -> None:
    """Raise ``Refusal`` (403) when the mailbox is over its quota."""
    if mailbox.over_quota:
        raise Refusal(403, "ErrorQuotaExceeded", "Cannot save changes made to an item to store.")


def check_weight(behaviour: Behaviour, weight: int) -> None:
    """Raise ``Refusal`` (400) when a message of ``weight`` bytes is more than the tenant takes."""
    if 0 < behaviour.message_limit < weight:
        raise Refusal(
            400,
            "ErrorMessageSizeExceeded",
            "The message exceeds the maximum supported size., Cannot save changes made to an item "
            "to store.",
        )


def weight_of(base: dict[str, Any], parts: tuple[Part, ...]) -> int:
    """Return the bytes of a new message: its body and all that is attached."""
    body = str((base.get("body") or {}).get("content") or "")
    return len(body.encode("utf-8", "surrogatepass")) + sum(part.size for part in parts)


def weight_in(mailbox: Mailbox, key: int) -> int:
    """Return the bytes attached to a message."""
    return sum(part.size for _, part in mailbox.parts(key))
