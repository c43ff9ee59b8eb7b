"""What the simulated costs rest on: list prices, a tenant's mail, and limits.

``docs/cost.md`` names the pages that the prices are from.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_async.config.settings import Limits
from benchmarks.cost_model import LogNormal, Packing, Requests

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

PRICES_READ = "2026-11-21"


@dataclass(frozen=True, slots=True)
class Provider:
    """List prices in US dollars, without free allowances and volume discounts.

    Attributes:
        name: Provider and storage class.
        put: A million PUTs.
        lists: A million pages of listings.
        get: A million GETs or HEADs.
        month: A gigabyte stored for a month.
        gigabyte: Bytes of the provider's gigabyte.
        retrieval: Reading a gigabyte.
        least: Bytes that a smaller object is billed as.
    """

    name: str
    put: float
    lists: float
    get: float
    month: float
    gigabyte: float = GIB
    retrieval: float = 0.0
    least: int = 0

    def requests(self, asked: Requests) -> float:
        """Return what requests cost."""
        reads = asked.get + asked.head
        return (asked.put * self.put + asked.lists * self.lists + reads * self.get) / 1e6

    def storing(self, billed: float) -> float:
        """Return what so many billed bytes cost in a month."""
        return billed / self.gigabyte * self.month


# Cold classes are priced as if every object were put straight there.
PROVIDERS = (
    Provider("S3 Standard", 5.0, 5.0, 0.4, 0.023),
    Provider("S3 Std-IA", 10.0, 5.0, 1.0, 0.0125, retrieval=0.01, least=128 * KIB),
    Provider("Glacier IR", 20.0, 5.0, 10.0, 0.004, retrieval=0.03, least=128 * KIB),
    Provider("B2", 0.0, 4.0, 0.4, 0.006, gigabyte=1e9),
    Provider("Wasabi", 0.0, 0.0, 0.0, 7.99 / 1024, least=4 * KIB),
    Provider("R2", 4.5, 4.5, 0.36, 0.015, gigabyte=1e9),
)

# Sizes of a message as stored (Graph's JSON, body included) and of an attachment.
MESSAGES = LogNormal(median=16 * KIB, sigma=1.0)
ATTACHMENTS = LogNormal(median=60 * KIB, sigma=1.6)
WITH_ATTACHMENTS = 0.25
"""Messages that have attachments, inline images included."""
ATTACHMENTS_EACH = 2.0
"""Attachments of a message that has some."""
REPEATED = 0.15
"""Attachments that the mailbox has already: forwarded files, logos."""

MAILBOX_MESSAGES = 10_000
FOLDERS = 20
MAILBOXES = 100_000
"""Mailboxes of the nights."""
CHANGED = 0.01
"""Mailboxes that have new messages in a night that is not quite quiet."""
NEW_MESSAGES = 20
"""New messages of each of these."""
DAILY = 40
"""New messages of every mailbox on a working day, sent ones included."""
WORKING_DAYS, OTHER_DAYS = 22, 8
"""Days of a month."""
TENANT = 1_000
"""Mailboxes of the tenant whose month is added up."""
SETTLING_NIGHTS = 60
"""Working days behind a mailbox whose average night is counted."""
LEAVING = 0.02
"""Messages that retention lets go of in a month."""
LIMITS = Limits()
REQUEST_SECONDS = 0.25
"""How long Graph takes for a request, on average."""
LISTING = 20
"""Graph's requests for a mailbox's folders when they are listed whole."""
INLINE = 3 * MIB
"""Attachments from this size on are asked for one by one (4 MiB of base64)."""

PACKING = Packing(pack=8 * MIB, alone=MIB, rewritten_at=0.5)
