"""Generated attachments: which ones a message carries follows from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from atlas_async.emulator.blobs import StoredBlob, SyntheticBlob
from atlas_async.emulator.dice import Dice
from atlas_async.emulator.mime import message_mime
from atlas_async.emulator.parts import Part, PartKind, graph_time
from atlas_async.emulator.text import Phrasebook
from atlas_async.emulator.vocabulary import FILE_NAMES

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_NESTING: Final = 3
_SHARED_BLOBS: Final = 16
_SMIME_BYTES: Final = 9_000


@dataclass(frozen=True, slots=True)
class EnclosureShape:
    """Shares and sizes that the corpus options fix for attachments."""

    share: float
    most: int
    median: float
    sigma: float
    top: int
    inline_share: float
    item_share: float
    reference_share: float
    duplicate_share: float
    smime_share: float
    huge: int
    huge_bytes: int

    def none(self) -> bool:
        """Whether no message carries anything."""
        return not (self.share or self.inline_share or self.smime_share or self.huge)


class Enclosures:
    """Generates the attachments of one mailbox's messages."""

    def __init__(self, seed: int, phrases: Phrasebook, shape: EnclosureShape) -> None:
        self._seed = seed ^ 0xE2C1
        self._phrases = phrases
        self._shape = shape

    def parts(self, key: int, moment: datetime, *, first: bool, index: int) -> tuple[Part, ...]:
        """Return the attachments of message ``key``.

        Args:
            key: The message's key.
            moment: When the message arrived.
            first: Whether the folder is the one whose first messages carry the huge files.
            index: The message's place in its folder, 0 being the newest.
        """
        shape = self._shape
        if shape.none():
            return ()
        dice = Dice(self._seed, key)
        if first and index < shape.huge:
            blob = SyntheticBlob(dice.word() >> 1, shape.huge_bytes, b"PK\x03\x04")
            return (Part(PartKind.FILE, "huge.zip", "application/zip", moment, blob),)
        if dice.chance(shape.smime_share):
            return (self._smime(dice, moment),)
        parts: list[Part] = []
        if dice.chance(shape.share):
            parts.extend(self._some(dice, moment) for _ in range(1 + dice.below(shape.most)))
        if dice.chance(shape.inline_share):
            parts.extend(self._image(dice, moment, key, at) for at in range(1 + dice.below(2)))
        return tuple(parts)

    def _some(self, dice: Dice, moment: datetime) -> Part:
        shape = self._shape
        kind = dice.fraction()
        if kind < shape.item_share:
            return self._nested(dice, moment, depth=1 + dice.below(_NESTING))
        if kind < shape.item_share + shape.reference_share:
            name = f"Shared {dice.below(1000)}.docx"
            url = (
                f"https://contoso.sharepoint.example/Shared%20Documents/{name.replace(' ', '%20')}"
            )
            return Part(PartKind.REFERENCE, name, None, moment, source_url=url)
        name, content_type = dice.pick(FILE_NAMES)
        seed = dice.word() >> 1
        if dice.chance(shape.duplicate_share):
            seed = Dice(self._seed, 0xD0B, dice.below(_SHARED_BLOBS)).word() >> 1
        size = Dice(seed).log_normal(shape.median, shape.sigma, top=shape.top)
        return Part(PartKind.FILE, name, content_type, moment, SyntheticBlob(seed, size))

    def _image(self, dice: Dice, moment: datetime, key: int, at: int) -> Part:
        size = max(64, int(self._shape.median) // 4)
        blob = SyntheticBlob(dice.word() >> 1, size, _PNG)
        name = f"image{at + 1:03d}.png"
        content_id = f"{name}@{key:016X}"
        return Part(
            PartKind.FILE, name, "image/png", moment, blob, inline=True, content_id=content_id
        )

    def _smime(self, dice: Dice, moment: datetime) -> Part:
        blob = SyntheticBlob(dice.word() >> 1, _SMIME_BYTES, b"0\x80\x06\t")
        return Part(PartKind.FILE, "smime.p7m", "application/pkcs7-mime", moment, blob)

    def _nested(self, dice: Dice, moment: datetime, *, depth: int) -> Part:
        inner = (self._nested(dice, moment, depth=depth - 1),) if depth > 1 else ()
        earlier = graph_time(moment - timedelta(days=depth))
        someone = {"emailAddress": {"name": "Forwarded Sender", "address": "fwd@partner.example"}}
        item: dict[str, Any] = {
            "@odata.type": "#microsoft.graph.message",
            "id": "",
            "createdDateTime": earlier,
            "lastModifiedDateTime": earlier,
            "receivedDateTime": earlier,
            "sentDateTime": earlier,
            "hasAttachments": bool(inner),
            "internetMessageId": f"<{dice.word():016x}@nested.partner.example>",
            "subject": f"Nested {depth}: {self._phrases.sentence(dice)[:60]}",
            "importance": "normal",
            "isRead": True,
            "isDraft": False,
            "body": {"contentType": "html", "content": self._phrases.html_body(dice, 1500)},
            "sender": someone,
            "from": someone,
            "toRecipients": [someone],
            "ccRecipients": [],
            "bccRecipients": [],
            "replyTo": [],
        }
        blob = StoredBlob(b"".join(message_mime(item, inner)))
        name = str(item["subject"])
        return Part(PartKind.ITEM, name, None, moment, blob, item=item, inner=inner)
